"""The log shows its checkpoints to witnesses, and gets their cosignatures. C2SP's tlog-witness, from the log's side.

A witness wants to hear which tree it cosigned last, and a proof that the new one continues it. The log needs to remember neither:
`Witness.ask` begins with what it believes, or with nothing, and a witness that saw more says how much (`WitnessBehind`). What to do
then is `next_old`:

- the witness saw less than this checkpoint has, and another size than it was asked with: ask again with a proof from there;
- it saw exactly as much as it was asked with: then it is the root that it does not agree with, and one of the two was forked;
- it saw more than this checkpoint has: another process of this gateway was there meanwhile, or the log was set back to an old
  state. Whoever knows how large the log is now can tell, so this is handed on.

A witness is a stranger: what it sends is bounded in bytes and, once its name was looked up, in time; nothing of it is followed or
believed but a line that `verify_cosignature` accepts. Over https its certificate is verified, though nothing
depends on it: checkpoints are public, and cosignatures are signatures. Private authorities: `SSL_CERT_FILE`, as OpenSSL reads it.
"""

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from blindgate_protocol.checkpoints import Checkpoint, proof_lines, verify_cosignature
from blindgate_protocol.errors import ForkedLogError, LogError, MalformedError
from blindgate_protocol.notes import Note, SignatureLine, VerifierKey, parse_note

MAX_ANSWER_BYTES: Final = 1 << 16
MOST_ROUNDS: Final = 4
"""How often one checkpoint is shown: once with what is believed, once with what the witness said, and for races."""
_SIZE_TYPE: Final = "text/x.tlog.size"
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,15})\n")
_SHOWN: Final = 200

Prove = Callable[[int, int], Sequence[bytes]]
"""Gives the consistency proof from a tree of the first size to one of the second; empty where either is empty or both are one."""


class WitnessBehind(LogError):  # noqa: N818  (it is an answer more than an error)
    """The witness cosigned another size last than it was asked with.

    Attributes:
        size: the size that it cosigned last.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class Witness:
    """A witness as the log knows it. Not for several threads at once.

    Attributes:
        keys: one, or two of one name: a witness may cosign by both algorithms, each in a line of its own.
        size: the size that it cosigned last, as far as is known here; 0 before it was asked.
    """

    def __init__(self, url: str, *keys: VerifierKey) -> None:
        """`url` is what `/add-checkpoint` is appended to. Raises `MalformedError`."""
        _split(url)
        self.url = url
        self.keys = keys
        self.size = 0

    def ask(self, note: Note, prove: Prove, *, seconds: float) -> tuple[SignatureLine, ...]:
        """The witness's cosignatures of this checkpoint of the log's, one by each key, in `seconds` altogether.

        Raises `ForkedLogError` where the witness saw another tree, `WitnessBehind` where it saw a larger one than this, `LogError`
        where there is no cosignature for another reason: try again with the next checkpoint.
        """
        until = time.monotonic() + seconds
        size = Checkpoint.parse(note.text).size
        old = min(self.size, size)
        for _ in range(MOST_ROUNDS):
            proof = prove(old, size)
            left = until - time.monotonic()
            try:
                lines = cosign_at(self.url, self.keys, old=old, proof=proof, note=note, seconds=left)
            except WitnessBehind as told:
                self.size = told.size
                old = next_old(told, asked=old, size=size)
            else:
                self.size = size
                return lines
        message = f"the witness {self.keys[0].name} named another size each of {MOST_ROUNDS} times"
        raise LogError(message)


def next_old(told: WitnessBehind, *, asked: int, size: int) -> int:
    """The old size to ask with next, where a witness that was shown a checkpoint of `size` from `asked` on said what it saw.

    Raises `ForkedLogError` or `told` itself, as the module's head says.
    """
    if told.size > size:
        raise told
    if told.size == asked < size:
        message = f"a witness refused to go on from {asked} entries, and said that it cosigned as many last"
        raise LogError(message)
    if told.size == asked:
        message = f"a witness saw another tree of {size} entries of this log: one of the two was forked"
        raise ForkedLogError(message)
    return told.size


def cosign_at(  # noqa: PLR0913  (what a request is made of)
    url: str, keys: Sequence[VerifierKey], *, old: int, proof: Sequence[bytes], note: Note, seconds: float
) -> tuple[SignatureLine, ...]:
    """One request to the witness at `url`: `note` is a checkpoint with the log's signature, `proof` leads to it from `old`.

    Gives the witness's lines, each verified under one of `keys`, in their order: all of them, or none counts. Raises
    `WitnessBehind` where it cosigned another size last, `ForkedLogError` where it does not find that the proof leads from the
    tree that it saw, `MalformedError` for a bad `url`, and otherwise `LogError`.
    """
    name = keys[0].name
    body = f"old {old}\n{proof_lines(proof)}\n{note}".encode()
    until = time.monotonic() + seconds
    try:
        status, kind, data = _post(_split(url), body, until)
    except (OSError, http.client.HTTPException) as error:
        why = "no answer in time" if time.monotonic() >= until else _shown(str(error)) or type(error).__name__
        message = f"the witness {name} at {url} cannot be asked: {why}"
        raise LogError(message) from error
    if status == HTTPStatus.OK:
        return _verified(note, data, keys)
    told = _SIZE.fullmatch(data)
    if status == HTTPStatus.CONFLICT and kind == _SIZE_TYPE and told is not None:
        message = f"the witness {name} cosigned {int(told[1])} entries last, and was asked from {old} on"
        raise WitnessBehind(message, int(told[1]))
    message = f"the witness {name} did not cosign: {status} {_shown(data[:_SHOWN].decode(errors='replace'))}"
    raise (ForkedLogError if status == HTTPStatus.UNPROCESSABLE_ENTITY else LogError)(message)


def _verified(note: Note, data: bytes, keys: Sequence[VerifierKey]) -> tuple[SignatureLine, ...]:
    """The lines of `keys` among the lines that a witness sent. Lines of other keys are left alone."""
    name = keys[0].name
    try:
        found = parse_note(f"{note.text}\n".encode() + data)
    except MalformedError as error:
        message = f"the witness {name} answered with no signature lines: {error}"
        raise LogError(message) from error
    lines = []
    for key in keys:
        line = found.line_of(key) if found.text == note.text else None
        if line is None:
            which = "the key that is known" if len(keys) == 1 else f"its key of kind {key.kind.name}"
            message = f"the witness {name} answered without a cosignature under {which}"
            raise LogError(message)
        verify_cosignature(Checkpoint.parse(note.text), line, key)
        lines.append(line)
    return tuple(lines)


def _post(url: SplitResult, body: bytes, until: float) -> tuple[int, str, bytes]:
    """Send a submission; gives status, content type and body. Raises `OSError` or `HTTPException`."""
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    raw = _connected(url, until)
    # A witness that sends a byte now and then keeps within each wait of the socket's: this ends it all the same.
    timer = threading.Timer(_left(until), _cut, [raw])
    timer.daemon = True
    timer.start()
    try:
        if url.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(raw.dup(), server_hostname=url.hostname)
        else:
            connection.sock = raw.dup()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", "Host": url.netloc}
        connection.request("POST", f"{url.path.rstrip('/')}/add-checkpoint", body, headers)
        answer = connection.getresponse()
        data = answer.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            message = f"an answer of more than {MAX_ANSWER_BYTES} bytes"
            raise OSError(message)
        return answer.status, answer.getheader("Content-Type", "").partition(";")[0].strip().lower(), data
    finally:
        timer.cancel()
        connection.close()
        raw.close()


def _connected(url: SplitResult, until: float) -> socket.socket:
    """A connection to the first address that takes one, however many there are. Raises `OSError`."""
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    failure = OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(until))
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        message = "no answer in time"
        raise TimeoutError(message)
    return left


def _shown(text: str) -> str:
    """The beginning of what a stranger said, on one line that no terminal obeys."""
    return "".join(one if one.isprintable() else " " for one in text[:_SHOWN]).strip()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _split(url: str) -> SplitResult:
    try:
        found = urlsplit(url)
        good = found.scheme in {"http", "https"} and (found.port is None or found.port > 0) and url.isascii()
        good = good and url.isprintable() and bool((found.hostname or "").encode("idna"))
    except ValueError:
        good = False
    if not good or found.query or found.fragment or found.username is not None or " " in url:
        message = f"a witness's address is http(s)://<host>[:<port>][/<path>], got {url!r}"
        raise MalformedError(message)
    return found

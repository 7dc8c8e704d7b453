"""The gateway's log asks witnesses: real ones, and strangers that answer in their place."""

import contextlib
import datetime as dt
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_gateway.log.witnesses import Witness, WitnessBehind, cosign_at, next_old
from blindgate_protocol.checkpoints import Checkpoint, cosign, verify_cosignature
from blindgate_protocol.errors import ForkedLogError, LogError, MalformedError
from blindgate_protocol.notes import KeyKind, VerifierKey
from growing_log import GrowingLog
from witness_process import WitnessProcess

PRIVATE = Ed25519PrivateKey.generate()
KEY = VerifierKey("witness.example/w1", KeyKind.COSIGNATURE, PRIVATE.public_key().public_bytes_raw())


def test_a_gateway_that_remembers_nothing_is_cosigned_at_once(witness: WitnessProcess, log: GrowingLog) -> None:
    """It was restarted, or it is another one of the same database: the witness says where it stands."""
    for size in (10, 11, 300, 300):
        (line,) = Witness(witness.url, witness.key).ask(log.grow(size).note(), log.prove, seconds=10)
        assert verify_cosignature(Checkpoint.parse(log.note().text), line, witness.key) > 0


def test_one_that_remembers_asks_once(witness: WitnessProcess, log: GrowingLog) -> None:
    """With the proof from the size that was cosigned last."""
    asked: list[tuple[int, int]] = []

    def prove(first: int, second: int) -> Any:
        asked.append((first, second))
        return log.prove(first, second)

    known = Witness(witness.url, witness.key)
    for size in (10, 15, 40):
        known.ask(log.grow(size).note(), prove, seconds=10)
    assert asked == [(0, 10), (10, 15), (15, 40)]


def test_a_log_that_was_set_back_to_an_old_database_is_noticed(witness: WitnessProcess, log: GrowingLog) -> None:
    """At first since the witness saw more; and when it has grown as far again, since it grew otherwise."""
    Witness(witness.url, witness.key).ask(log.grow(50).note(), log.prove, seconds=10)
    restored = GrowingLog(log.origin, log.private).grow(40)
    known = Witness(witness.url, witness.key)
    with pytest.raises(WitnessBehind) as told:
        known.ask(restored.note(), restored.prove, seconds=10)
    assert told.value.size == 50
    restored.grow(50, word="other")
    with pytest.raises(ForkedLogError, match="another tree of 50 entries"):
        known.ask(restored.note(), restored.prove, seconds=10)
    restored.grow(60)
    with pytest.raises(ForkedLogError, match="did not cosign: 422"):
        known.ask(restored.note(), restored.prove, seconds=10)
    assert len(witness.run("forks").split(f"of {log.origin} at")) == 1 + 2


@pytest.mark.parametrize(
    ("told", "asked", "size", "outcome"),
    [
        (7, 0, 10, 7),
        (10, 7, 10, 10),
        (0, 7, 10, 0),
        (11, 7, 10, WitnessBehind),
        (10, 10, 10, ForkedLogError),
        (7, 7, 10, LogError),
    ],
)
def test_what_to_ask_next(told: int, asked: int, size: int, outcome: Any) -> None:
    """Every answer that a witness can give to a checkpoint of a size."""
    answer = WitnessBehind("said", told)
    if isinstance(outcome, int):
        assert next_old(answer, asked=asked, size=size) == outcome
    else:
        with pytest.raises(outcome) as refused:
            next_old(answer, asked=asked, size=size)
        assert type(refused.value) is outcome


def test_a_witness_that_nobody_can_reach_is_named(log: GrowingLog) -> None:
    """Nobody listens there."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(LogError, match=r"witness\.example/w1 at http.*cannot be asked"):
            cosign_at(url, [KEY], old=0, proof=(), note=log.note(), seconds=5)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://w", "http://", "https://a@w", "http://w?x", "http://w:0", "http://w:x", "http://w/a b", "http://ü"],
)
def test_an_address_that_is_none_is_refused_when_it_is_set(url: str) -> None:
    """Not when the first checkpoint is due."""
    with pytest.raises(MalformedError, match="a witness's address is"):
        Witness(url, KEY)


# Strangers

LOG = GrowingLog().grow(10)


@contextlib.contextmanager
def _answering(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and then does `send`, on one connection after another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(1 << 16)
                        send(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/prefix"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer(status: str, body: bytes, kind: str = "text/plain") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _cosigned(size: int, *, name: str = KEY.name, key: Ed25519PrivateKey = PRIVATE) -> bytes:
    return str(cosign(Checkpoint.parse(LOG.note(size).text), key, name=name, seconds=1)).encode()


_LINE = "— witness.example/w1 "
_BAD: dict[str, bytes] = {
    "of another tree": _answer("200 OK", _cosigned(9)),
    "by another key": _answer("200 OK", _cosigned(10, key=Ed25519PrivateKey.generate())),
    "under another name": _answer("200 OK", _cosigned(10, name="w2")),
    "twice": _answer("200 OK", _cosigned(10) * 2),
    "below another text": _answer("200 OK", b"\xe2\x80\x94 x AAAAAAAA\n\n" + _cosigned(10)),
    "no line": _answer("200 OK", b""),
    "no base64": _answer("200 OK", f"{_LINE}!!!!\n".encode()),
    "too short": _answer("200 OK", f"{_LINE}AAAAAAAAAAA=\n".encode()),
    "not UTF-8": _answer("200 OK", b"\xff\xfe\n"),
    "cut": _answer("200 OK", _cosigned(10))[:-9],
    "too long": _answer("200 OK", _cosigned(10) * 1000),
    "chunks without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + bytes(1024),
    "no HTTP": b"hello\r\n\r\n",
    "elsewhere": _answer("302 Found\r\nLocation: http://127.0.0.1/", b""),
    "a size of another type": _answer("409 Conflict", b"7\n"),
    "no size": _answer("409 Conflict", b"-7\n", "text/x.tlog.size"),
    "a huge size": _answer("409 Conflict", b"9" * 5000 + b"\n", "text/x.tlog.size"),
    "a failure with an escape": _answer("500 No", b"\x1b[2J"),
}


@pytest.mark.parametrize("made", _BAD.values(), ids=_BAD.keys())
def test_what_a_stranger_sends_is_no_cosignature(made: bytes) -> None:
    """One error that says so, without anything that a terminal would obey; never a line."""
    with (
        _answering(lambda connection: connection.sendall(made)) as url,
        pytest.raises(LogError, match=KEY.name) as refused,
    ):
        cosign_at(url, [KEY], old=0, proof=(), note=LOG.note(), seconds=5)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("told", [b"7\n", b"3\n"])
def test_a_witness_that_names_sizes_for_ever_is_left(told: bytes) -> None:
    """It names another size than it was asked with each time, or the one that it was asked with."""
    answers = 0

    def send(connection: socket.socket) -> None:
        nonlocal answers
        answers += 1
        connection.sendall(_answer("409 Conflict", told if answers % 2 else b"5\n", "text/x.tlog.size"))

    with _answering(send) as url, pytest.raises(LogError, match="another size each"):
        Witness(url, KEY).ask(LOG.note(), LOG.prove, seconds=10)
    assert answers == 4


def test_a_witness_that_sends_a_byte_now_and_then_is_cut_off() -> None:
    """Each byte comes in time; all of them together do not."""

    def send(connection: socket.socket) -> None:
        for byte in _answer("200 OK", _cosigned(10)):
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    begun = time.monotonic()
    with _answering(send) as url, pytest.raises(LogError, match="no answer in time"):
        cosign_at(url, [KEY], old=0, proof=(), note=LOG.note(), seconds=1)
    assert time.monotonic() - begun < 10  # all of them take longer


def test_a_witness_that_takes_nothing_is_cut_off() -> None:
    """The connection stands in the queue of a socket that nobody accepts from."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begun = time.monotonic()
        with pytest.raises(LogError, match="no answer in time"):
            cosign_at(
                f"http://127.0.0.1:{listener.getsockname()[1]}", [KEY], old=0, proof=(), note=LOG.note(), seconds=0.5
            )
        assert time.monotonic() - begun < 15


def test_over_https_the_certificate_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody vouches for is refused; with its authority in SSL_CERT_FILE the same is asked."""
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(_answer("200 OK", _cosigned(10)))

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            url = f"https://localhost:{server.server_port}"
            with pytest.raises(LogError, match="certificate verify failed"):
                cosign_at(url, [KEY], old=0, proof=(), note=LOG.note(), seconds=5)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert cosign_at(url, [KEY], old=0, proof=(), note=LOG.note(), seconds=5)[0].name == KEY.name
        finally:
            server.shutdown()
            thread.join()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file

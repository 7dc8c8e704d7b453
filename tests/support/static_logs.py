"""Logs as files, as a gateway leaves them, and an HTTP server that gives them out."""

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, cosign, sign_checkpoint
from blindgate_protocol.events import Action, Event, entry_of
from blindgate_protocol.logged import Logged
from blindgate_protocol.merkle import leaf_hash, root_of
from blindgate_protocol.notes import KeyKind, Note, VerifierKey
from blindgate_protocol.tiles import WIDTH, Tile, bundles_of, pack_entries, tiles_of

ORIGIN = "gateway.example/log"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
SOME_DAY = 1_790_000_000_000


WITNESSES = {
    "w1.example": Ed25519PrivateKey.from_private_bytes(b"\x11" * 32),
    "w2.example": Ed25519PrivateKey.from_private_bytes(b"\x12" * 32),
}


def random_entries(size: int, seed: int = 0) -> list[bytes]:
    """So many entries that look like commitments."""
    drawn = random.Random(seed)
    return [b"\x01" + drawn.randbytes(32) for _ in range(size)]


def verifier(private: Ed25519PrivateKey, name: str = ORIGIN, kind: KeyKind = KeyKind.ED25519) -> VerifierKey:
    """The public half of a log's or a witness's key."""
    return VerifierKey(name, kind, private.public_key().public_bytes_raw())


def log_files(
    entries: Sequence[bytes],
    *,
    private: Ed25519PrivateKey = LOG_KEY,
    origin: str = ORIGIN,
    witnesses: Mapping[str, Ed25519PrivateKey] | None = None,
) -> tuple[dict[str, bytes], Checkpoint]:
    """A log of these entries: its files by their names, its key among them; and what it signed."""
    levels = [[leaf_hash(entry) for entry in entries]]
    while len(levels[-1]) >= WIDTH:
        below = levels[-1]
        whole = range(0, len(below) - WIDTH + 1, WIDTH)
        levels.append([root_of(below[first : first + WIDTH]) for first in whole])
    files = {}
    for tile in tiles_of(len(entries)):
        first = tile.number * WIDTH
        files[tile.path] = b"".join(levels[tile.level or 0][first : first + tile.width])
    for bundle in bundles_of(len(entries)):
        first = bundle.number * WIDTH
        files[bundle.path] = pack_entries(entries[first : first + bundle.width])
    checkpoint = Checkpoint(origin, len(entries), _root(levels))
    files["checkpoint"] = sign(checkpoint, private, witnesses)
    files["key"] = f"{verifier(private, origin)}\n".encode()
    return files, checkpoint


def write_log(folder: Path, entries: Sequence[bytes], **how: Any) -> Checkpoint:
    """Write `log_files` into `folder`."""
    files, checkpoint = log_files(entries, **how)
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return checkpoint


def sign(
    checkpoint: Checkpoint,
    private: Ed25519PrivateKey = LOG_KEY,
    witnesses: Mapping[str, Ed25519PrivateKey] | None = None,
) -> bytes:
    """A checkpoint as a note, cosigned by these witnesses, by the name in their keys."""
    note = sign_checkpoint(checkpoint, private)
    lines = [cosign(checkpoint, key, name=name, seconds=SOME_DAY // 1000) for name, key in (witnesses or {}).items()]
    return str(Note(note.text, (*note.lines, *lines))).encode()


def put(folder: Path, tile: Tile, data: bytes) -> None:
    """Write one tile or bundle."""
    file = folder / tile.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def event(number: int, **members: Any) -> Event:
    """An event of no consequence, but for the members that are given."""
    usual = {
        "time": SOME_DAY + number,
        "action": Action.JOB_SUBMITTED,
        "actor": "tenant-" + "0" * 32,
        "role": "tenant",
        "object": f"job:{number:032x}",
        "software": "0.1.0",
    }
    return Event(**{**usual, **members})


def logged(events: Sequence[Event]) -> tuple[list[bytes], list[Logged]]:
    """The entries of a log of these events, and the events as they are shown."""
    shown = [
        Logged(index=index, event=one.to_bytes().decode(), salt=index.to_bytes(32, "big"))
        for index, one in enumerate(events)
    ]
    entries = [entry_of(one.to_bytes(), index.to_bytes(32, "big")) for index, one in enumerate(events)]
    return entries, shown


def write_events(folder: Path, shown: Sequence[Logged]) -> None:
    """Lay events beside a log, as an export does."""
    (folder / "events").mkdir(exist_ok=True)
    (folder / "events" / "000.jsonl").write_text("".join(f"{one.model_dump_json()}\n" for one in shown))


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(handler: Any) -> Iterator[str]:
    """Serve a folder, or what a handler answers, on a port of this machine; gives the address."""
    made = partial(_Quiet, directory=str(handler)) if isinstance(handler, Path) else handler
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    server.daemon_threads = True
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def findings(output: str) -> list[tuple[int | None, str]]:
    """Index and rule of everything that `audit verify --json` found."""
    return [(one["index"], one["rule"]) for one in json.loads(output)["findings"]]


def _root(levels: Sequence[Sequence[bytes]]) -> bytes:
    top: list[bytes] = []
    for hashes in levels:
        left = [*hashes[len(hashes) // WIDTH * WIDTH :], *top]
        top = [root_of(left)] if left else []
    return top[0] if top else root_of([])

"""What sealing costs: streams sealed and opened, and a content key wrapped and unwrapped.

Megabytes a second of a processor (10^6 bytes of data), against the 200 that were asked for; beside it the cipher alone, so that one
sees what chunks, padding and copying take. A key's way is told in milliseconds, against the 30 that a sealed answer may take longer
to its first token.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from bench.rows import Row, row
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blindgate_protocol.chunks import Opener, RequestStream, Sealer
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.padding import Padding
from blindgate_protocol.sealing import open_seal, seal_key
from sealed_jobs import CONTENT_KEY, HYBRID, ORDER, T, binding, evidence, offered, terms

RUNS: Final = 7
BYTES: Final = 64 << 20
PIECE: Final = 1 << 16
ASKED: Final = 200.0
ASKED_MS: Final = 30.0
BUCKETS: Final = Padding(rule="buckets", buckets=(256, 4096, 1 << 16))


def rows() -> list[Row]:
    piece, count = bytes(range(256)) * (PIECE // 256), BYTES // PIECE
    made = []
    for name, padding in (("not padded", Padding()), ("in buckets", BUCKETS)):
        stream = RequestStream(job=ORDER.document.job, padding=padding)
        sealing = [_rate(partial(_seal, stream, piece, count)) for _ in range(RUNS)]
        sealed = list(_sealed(stream, piece, count))
        opening = [_rate(partial(_open, stream, sealed)) for _ in range(RUNS)]
        made += [
            row(f"sealing: 64 KiB chunks sealed, {name}", sealing, ASKED, target=1, unit="MB/s", more_is_better=True),
            row(f"sealing: 64 KiB chunks opened, {name}", opening, ASKED, target=1, unit="MB/s", more_is_better=True),
        ]
    cipher = [_rate(partial(_encrypt, piece, count)) for _ in range(RUNS)]
    made.append(
        row("sealing: the cipher alone", cipher, made[0]["ours"], target=None, unit="MB/s", more_is_better=True)
    )
    keys = [_wrap() for _ in range(RUNS)]
    made.append(row("sealing: a content key wrapped and unwrapped by X-Wing", keys, ASKED_MS, target=1, unit="ms"))
    return made


def _rate(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return BYTES / 1e6 / (time.process_time() - begun)


def _seal(stream: RequestStream, piece: bytes, count: int) -> None:
    for _ in _sealed(stream, piece, count):
        pass


def _sealed(stream: RequestStream, piece: bytes, count: int) -> Iterator[bytes]:
    sealer = Sealer(CONTENT_KEY, stream)
    for _ in range(count):
        yield sealer.seal(piece)
    yield sealer.finish()


def _open(stream: RequestStream, sealed: list[bytes]) -> None:
    opener = Opener(CONTENT_KEY, stream)
    got = sum(len(data) for each in sealed for data in opener.feed(each))
    opener.finish()
    assert got == BYTES


def _encrypt(piece: bytes, count: int) -> None:
    cipher = AESGCM(CONTENT_KEY.secret())
    for place in range(count):
        cipher.encrypt(place.to_bytes(12, "big"), piece, None)


def _wrap() -> float:
    """Milliseconds of a processor, with every check that a node makes."""
    offer, shown = offered(HYBRID).document, {evidence(HYBRID.key_set).digest: binding(HYBRID.key_set)}
    content_key = ContentKey.generate()
    begun = time.process_time()
    seal = seal_key(content_key, terms(), [offer], now=T)
    opened = open_seal(seal, HYBRID, order=ORDER, shown=shown, now=T)
    spent = time.process_time() - begun
    assert opened.content_key.secret() == content_key.secret()
    return 1000 * spent

"""Campaigns of hostile bytes against a half: what any of them throws, what may come of it, and a process of its own for each.

Native code that dies takes its process along, so a `campaign` is a program of its own (`run`), which tells what became of each
blob: the half's named error, or a finite answer where the bytes are a well-formed ciphertext of something else.

All families' blobs begin with a header of 44 bytes: magic and version (8), rows (4), digest (32). So what must be refused is the
same for all (`Side.malformed`), and so is what nobody without the key can tell from a good blob (`Side.well_formed`). What a family
adds, and which of it may be answered, stands in its own test.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

HEADER = 44
SEED = 64
ANSWER = "finite answer"
WELL_FORMED = frozenset({"payload flipped", "payload random", "payload zero", "payload swapped"})
"""What `Side.well_formed` yields: as good as any blob, so it may be answered. The order's digest binds an honest client's blob."""

Named: TypeAlias = Iterator[tuple[str, bytes]]
Outcomes: TypeAlias = Counter[tuple[str, str]]
"""How often a mutation ended so: (mutation, the error's name or `ANSWER`)."""


class Side(NamedTuple):
    """Something that takes bytes: a well-formed blob for it, blobs that belong elsewhere, what it does, and its named error."""

    blob: bytes
    strangers: dict[str, bytes]
    take: Callable[[bytes], NDArray[Any]]
    error: type[Exception]

    def flipped(self, rng: np.random.Generator, low: int, high: int) -> bytes:
        """The blob with one bit of its bytes `low` to `high` changed."""
        at, bit = int(rng.integers(low, high)), int(rng.integers(8))
        return self.blob[:at] + bytes([self.blob[at] ^ 1 << bit]) + self.blob[at + 1 :]

    def malformed(self, rng: np.random.Generator) -> Named:
        """What no half may take: another length, another header, bytes of no one's or of someone else's."""
        blob, size = self.blob, len(self.blob)
        yield "truncated", blob[: int(rng.integers(size))]
        yield "truncated by a byte", blob[:-1]
        yield "oversized", blob + rng.bytes(int(rng.integers(1, 10**5)))
        yield "self-appended", blob + blob
        yield "body appended", blob + blob[HEADER:]
        yield "empty", b""
        yield "header alone", blob[:HEADER]
        yield "header flipped", self.flipped(rng, 0, 8)
        yield "digest flipped", self.flipped(rng, 12, HEADER)
        yield "random", rng.bytes(size)
        yield "shifted by a byte", blob[:HEADER] + blob[HEADER + 1 :]
        yield "SEAL's own format", blob[:HEADER] + bytes.fromhex("5ea1100403020000") + rng.bytes(size - HEADER)
        for name, stranger in self.strangers.items():
            yield f"stranger {name}", stranger
            if len(stranger) != size:
                yield f"header over {name}", blob[:HEADER] + stranger[HEADER:]
            if stranger[:HEADER] != blob[:HEADER]:
                yield f"header {name}", stranger[:HEADER] + blob[HEADER:]

    def well_formed(self, rng: np.random.Generator, *, flips: int, start: int = HEADER) -> Named:
        """What is as well-formed as any: the names of `WELL_FORMED`. `start`: where what is zeroed and swapped begins."""
        blob, size = self.blob, len(self.blob)
        for _ in range(flips):
            yield "payload flipped", self.flipped(rng, HEADER, size)
        yield "payload random", blob[:HEADER] + rng.bytes(size - HEADER)
        yield "payload zero", blob[:start] + bytes(size - start)
        half = (size - start) // 2 // 8 * 8
        yield "payload swapped", blob[:start] + blob[start + half :] + blob[start : start + half]


def campaign(side: Side, rounds: Iterable[Named]) -> None:
    """Tell `run` what became of every mutation in `rounds`; an honest blob before and after them is answered."""

    def outcome(data: bytes) -> str:
        try:
            answer = side.take(data)
        except side.error as error:
            return type(error).__name__
        return ANSWER if np.isfinite(answer).all() else "an answer that is not finite"

    assert outcome(side.blob) == ANSWER
    outcomes = [(name, outcome(data)) for mutations in rounds for name, data in mutations]
    assert outcome(side.blob) == ANSWER
    json.dump(outcomes, sys.stdout)


def run(test: str, *arguments: object) -> Outcomes:
    """Run the file `test` as a program, which is one `campaign`, in a process of its own; `arguments` are its command line."""
    path = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, test, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Counter(map(tuple, json.loads(done.stdout)))


def require_named(outcomes: Outcomes, error: type[Exception], may_be_answered: Iterable[str], *, least: int) -> None:
    """Every one of at least `least` blobs ended in `error`, or in an answer where that is allowed; and both happened."""
    assert outcomes.total() >= least
    assert {what for _, what in outcomes} == {error.__name__, ANSWER}
    assert {name for name, what in outcomes if what == ANSWER} <= set(may_be_answered)

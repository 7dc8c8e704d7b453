"""What an auditor waits for: a million entries verified from their tiles, and one entry's inclusion proof made from them.

- *verify*: `blindgate audit verify`'s walk over a folder: every bundle read and hashed, every hash of every tile compared, the
  root, and the root of the first half again, as for somebody who had seen the log with half as many. One thread; 60 s were asked.
- *proof*: the way from an entry drawn at random to the root, made from tiles that were read for it alone; 5 ms were asked.
- *body*: an event, as a gateway shows it, held against its entry: its form, each byte of it, and the commitment; 70 µs were asked,
  half of what it cost with the canonical form made by a general library.
- *memory*: the most that a process has for that walk, against the same over a hundredth of the entries.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.rows import Row, row

from blindgate_audit.bodies import Bodies
from blindgate_audit.findings import Findings
from blindgate_audit.sources import Folder, fetched
from blindgate_audit.verification import verify_checkpoint, verify_tree
from blindgate_protocol.checkpoints import Checkpoint, LogTrust
from blindgate_protocol.events import ENTRY_VERSION, Action, Event, entry_of
from blindgate_protocol.logged import Logged
from blindgate_protocol.merkle import inclusion_proof
from blindgate_protocol.notes import VerifierKey
from blindgate_protocol.tiles import WIDTH, subtrees_of
from static_logs import log_files, write_log

ENTRIES: Final = 1_000_000
RUNS: Final = 3
PROOFS: Final = 300
ASKED_SECONDS: Final = 60.0
ASKED_MS: Final = 5.0
ASKED_US: Final = 70.0
BODIES: Final = 10_240


def rows() -> list[Row]:
    drawn = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large", Path(folder) / "small"
        entries = [ENTRY_VERSION + drawn.randbytes(32) for _ in range(ENTRIES)]
        half = log_files(entries[: ENTRIES // 2])[1]
        write_log(large, entries)
        write_log(small, entries[: ENTRIES // 100])
        del entries
        seconds = [_verify(Folder(large), half) for _ in range(RUNS)]
        proofs = [_prove(Folder(large), drawn.randrange(ENTRIES)) for _ in range(PROOFS)]
        bodies = [_hold() for _ in range(RUNS)]
        memory, less = (_memory(one) for one in (large, small))
    return [
        row("log: 1,000,000 entries verified from tiles", seconds, ASKED_SECONDS, target=1, unit="s"),
        row("log: inclusion proof from tiles, of 1,000,000", proofs, ASKED_MS, target=1, unit="ms"),
        row("log: an event's body held against its entry", bodies, ASKED_US, target=1, unit="µs"),
        row("log: memory of that walk, against 10,000 entries", memory, less, target=0.9, unit="MB"),
    ]


def _verify(source: Folder, seen: Checkpoint | None) -> float:
    begun = time.perf_counter()
    findings = Findings()
    opened = verify_checkpoint(source.checkpoint(), LogTrust(VerifierKey.parse(source.key())), seen, findings)
    assert opened is not None
    walked = verify_tree(lambda tiles: fetched(source, tiles), opened.checkpoint, seen, findings)
    assert walked.by_entries
    assert walked.continues is not False
    assert not findings.count
    return time.perf_counter() - begun


def _prove(source: Folder, index: int) -> float:
    begun = time.perf_counter()
    inclusion_proof(index, ENTRIES, subtrees_of(ENTRIES, source.read))
    return 1000 * (time.perf_counter() - begun)


def _hold() -> float:
    """Microseconds of a processor, an event."""
    salt = bytes(32)
    event = Event(
        time=1_750_000_000_000,
        action=Action.KEY_ACTIVATED,
        actor=f"tenant-{'0f' * 16}",
        role="tenant",
        tenant=f"tenant-{'0f' * 16}",
        object=f"key:sha256:{'ab' * 32}",
        digest=f"sha256:{'cd' * 32}",
        request="0123456789abcdef",
        before="registered",
        after="active",
        details={"client": f"ed25519:{'A' * 43}", "sequence": "2", "previous": f"sha256:{'ef' * 32}"},
        software="blindgate-gateway 0.1.0",
    ).to_bytes()
    entry, findings = entry_of(event, salt), Findings()
    shown = [Logged(index=index, event=event.decode(), salt=salt) for index in range(BODIES)]
    begun = time.process_time()
    bodies = Bodies(iter(shown), findings)
    for first in range(0, BODIES, WIDTH):
        bodies(first, [entry] * WIDTH)
    bodies.finish()
    spent = time.process_time() - begun
    assert bodies.held == BODIES
    assert not findings.count
    return spent / BODIES * 1e6


def _memory(folder: Path) -> float:
    """What a process of its own takes for it at most, in MB."""
    command = [sys.executable, "-m", "bench.log", str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # `bench` found the tests' support by itself
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return float(json.loads(ran.stdout))


def _main(arguments: Sequence[str]) -> None:
    _verify(Folder(Path(arguments[0])), None)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(
        next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    )  # getrusage has the parent's, too


if __name__ == "__main__":
    _main(sys.argv[1:])

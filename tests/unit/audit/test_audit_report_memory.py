"""A report of a long log keeps as much as one of a short log."""

import subprocess
import sys
from itertools import repeat
from pathlib import Path

import pytest

from blindgate_protocol.events import Action
from campaigns import of
from exports import KEY, TENANT, Export, told

FEW, MANY = 5_000, of(200_000, slice_of=40_000)
MOST_MORE_BYTES = 16 << 20
"""The rows alone would be twice as much, and ten times in `make nightly`."""

# Of the process as it is since it began: what `getrusage` says is no less than its parent's.
_PEAK = """
import re
from pathlib import Path

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
"""

_REPORTED = f"""{_PEAK}
import sys
from blindgate_audit.commands import app
app(args=sys.argv[1:], standalone_mode=False)
print(peak(), file=sys.stderr)
"""

_WRITTEN = (
    _PEAK
    + """
import sys
from blindgate_audit.formats.reports import Format, write_report
from blindgate_audit.report import Proof, Row
from blindgate_protocol.events import Event

event, place = Event.from_bytes(sys.argv[1].encode()), Path(sys.argv[2])
for count in (3_000, 30_000):
    for form in Format:
        rows = (Row(at, Proof.IN_LOG, event.model_copy(update={"time": event.time + at})) for at in range(count))
        write_report(rows, form, place, origin="gateway.example/log")
    print(peak())
"""
)


def _peak(script: str, *arguments: object) -> list[int]:
    """What a process of its own prints last: the most memory that it had, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return [int(line) for line in (done.stdout or done.stderr).splitlines() if line.isdigit()]


@pytest.mark.slow
def test_a_long_log_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """From an export, every event of it proven."""
    peaks: list[int] = []
    place = tmp_path / "rows.json"
    event = told(Action.KEY_SENT, f"key:{KEY}", 0, details={"job": "0" * 32})
    for count in (FEW, MANY):
        folder = Export(repeat(event, count)).write(tmp_path / str(count))
        command = (
            "tenant",
            TENANT,
            "--folder",
            folder,
            "--format",
            "csv",
            "-o",
            place,
            "--remember",
            tmp_path / "memory",
        )
        peaks += _peak(_REPORTED, *command)
    short, long = peaks
    assert long - short < MOST_MORE_BYTES
    assert place.read_bytes().count(b",in log,") == MANY


@pytest.mark.slow
def test_no_format_keeps_the_rows(tmp_path: Path) -> None:
    """Ten times as many rows, in each."""
    event = told(Action.KEY_SENT, f"key:{KEY}", 0, details={"job": "0" * 32}).to_bytes().decode()
    short, long = _peak(_WRITTEN, event, tmp_path / "rows")
    assert long - short < MOST_MORE_BYTES

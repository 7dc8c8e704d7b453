"""A report of a long log keeps as much as one of a short log."""

import subprocess
import sys
from pathlib import Path

import pytest

from blindgate_protocol.events import Action
from exports import KEY, TENANT, Export, told

FEW, MANY = 10_000, 200_000
MOST_MORE_BYTES = 24 << 20
"""The rows alone would be ten times as much."""

_MEASURED = """
import resource, sys
from blindgate_audit.commands import app
app(args=sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_long_log_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """In every format that streams, from an export whose every event is proven. The peak, of a process of its own."""
    peaks: dict[tuple[str, int], int] = {}
    for count in (FEW, MANY):
        events = (told(Action.KEY_SENT, f"key:{KEY}", at, details={"job": f"{at:032x}"}) for at in range(count))
        folder = Export(events).write(tmp_path / str(count))
        for form in ("json", "csv", "ocsf", "parquet", "table"):
            place = tmp_path / f"{count}.{form}"
            command = (
                "tenant",
                TENANT,
                "--folder",
                folder,
                "--format",
                form,
                "-o",
                place,
                "--remember",
                tmp_path / "memory",
            )
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, *command], check=True, capture_output=True, text=True
            )
            assert f"{count} events of the tenant" in done.stderr
            peaks[form, count] = int(done.stderr.splitlines()[-1])
    grown = {form: peaks[form, MANY] - peaks[form, FEW] for form, count in peaks if count == FEW}
    assert max(grown.values()) < MOST_MORE_BYTES, grown
    lines = (tmp_path / f"{MANY}.csv").read_bytes()
    assert lines.count(b",in log,") == MANY

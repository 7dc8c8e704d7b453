"""The broker under schedules that a seed decides: gateways, nodes and clients, and all that may befall them (`simulation`).

A failure names its seed and how to see it again. `make test` runs a slice of the schedules, `make nightly` all 100,000.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import simulation
from campaigns import of
from simulation.campaign import Report, how_to_replay, run
from simulation.planted import PLANTED
from simulation.world import Simulator

SCHEDULES = of(100_000, slice_of=150)
QUICK = 150
"""Planted faults that so many schedules find are looked for in `make test`; the others in `make nightly`."""
OFTEN = (
    "job succeeded",
    "job failed",
    "job dead",
    "job cancelled",
    "job sent again",
    "attempt lost",
    "attempt released",
    "fault power lost",
    "fault process dies after commit",
    "fault connection lost after commit",
    "fault time leaps",
    "lost from the database",
    "swept blobs",
    "swept strays",
)
SELDOM = (
    "job expired",
    "key destroyed",
    "key suspended",
    "lost from the store",
    "attempt expired",
    "answer 409 still-running",
)


@pytest.fixture(scope="module")
def report() -> Report:
    """What came of the schedules of all seeds from 0 on."""
    return run(range(SCHEDULES), processes=of(len(os.sched_getaffinity(0)), slice_of=1))


def test_no_schedule_breaks_a_promise(report: Report) -> None:
    """Whatever dies, hangs, is lost or lies about the time: nothing acknowledged is lost, and nothing is done twice."""
    told = [f"{how_to_replay(failed.seed)}: {'; '.join(failed.violations)}" for failed in report.failed]
    assert not told, "\n".join(told)
    print(f"{report.schedules} schedules, {report.rate:.0f} a second", dict(sorted(report.tally.items())))


def test_what_may_happen_does_happen(report: Report) -> None:
    """A simulation that never reaches the dead letter would prove nothing about it."""
    wanted = OFTEN + of(1, slice_of=0) * SELDOM
    assert not [what for what in wanted if not report.tally[what]], report.tally


def test_a_seed_is_one_schedule() -> None:
    """The same twice here, and in another process that hashes otherwise."""
    simulator, seeds = Simulator(), (3, 8)
    digests = [simulator.run(seed, logged=True).digest for seed in seeds]
    assert len(set(digests)) == len(seeds)
    assert [Simulator().run(seed, logged=True).digest for seed in seeds] == digests
    program = f"from simulation.world import Simulator\nfor s in {seeds}: print(Simulator().run(s, logged=True).digest)"
    folder = Path(simulation.__file__).parent.parent
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(folder)}
    other = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=folder
    )
    assert other.stdout.split() == digests


@pytest.mark.parametrize("name", [name for name in PLANTED if PLANTED[name].within <= of(1 << 20, slice_of=QUICK)])
def test_a_planted_fault_is_found(name: str) -> None:
    """Each is a condition that somebody might leave out of a statement one day."""
    planted, simulator = PLANTED[name], Simulator()
    with planted.plant():
        for seed in range(planted.within):
            violations = simulator.run(seed).violations
            if violations:
                assert re.search(planted.found, "\n".join(violations)), violations
                return
    pytest.fail(f"no schedule noticed {name}")

"""Many schedules at once: on every processor, with how far it is, what went wrong, and how often each thing happened.

Each process runs its share of the seeds, a few at a time, so that the first violation is heard of at once.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from typing import Final

from simulation.faults import Tally
from simulation.world import Outcome, Simulator

SHARE: Final = 50
"""How many schedules are asked of a process at once."""


@dataclass
class Report:
    """What a campaign has found so far."""

    schedules: int = 0
    steps: int = 0
    tally: Tally = field(default_factory=Tally)
    failed: list[Outcome] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Schedules a second, all processors together."""
        return self.schedules / max(time.monotonic() - self.began, 1e-9)


def how_to_replay(seed: int) -> str:
    """What to type to see a schedule again."""
    return f"make simulate SEED={seed}"


def run(seeds: Sequence[int], *, processes: int | None = None, told: Callable[[Report], None] | None = None) -> Report:
    """Run a schedule for each of `seeds`; `told` hears how far it is. Ends early when several have failed."""
    report = Report()
    count = processes or len(os.sched_getaffinity(0))
    shares = [tuple(seeds[start : start + SHARE]) for start in range(0, len(seeds), SHARE)]
    for schedules, steps, tally, failed in _results(shares, count):
        report.schedules += schedules
        report.steps += steps
        report.tally.update(tally)
        report.failed.extend(failed)
        if told is not None:
            told(report)
        if len(report.failed) >= _ENOUGH:
            break
    report.failed.sort(key=lambda outcome: outcome.seed)
    return report


_ENOUGH: Final = 5
_Result = tuple[int, int, Tally, list[Outcome]]


def _results(shares: Sequence[tuple[int, ...]], count: int) -> Iterator[_Result]:
    if count == 1 or len(shares) == 1:
        yield from map(_run_share, shares)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_run_share, share) for share in shares]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@cache
def _simulator() -> Simulator:
    return Simulator()


def _run_share(seeds: tuple[int, ...]) -> _Result:
    simulator = _simulator()
    simulator.tally, simulator.steps = Tally(), 0
    failed = [outcome for seed in seeds if (outcome := simulator.run(seed)).violations]
    return len(seeds), simulator.steps, simulator.tally, failed

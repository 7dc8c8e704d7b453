"""What a measurement is: one row, the same members for all.

`ratio` is how many times better ours is than the peer, whichever way the unit points; `target` is the least ratio that was asked
for. Where there is no library to compare with, the peer is the figure that was asked for, and the target is 1.
"""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from blindgate_models.native.kernel import SETTING, kernel


class Row(TypedDict):
    """One result.

    Attributes:
        ours: the median of our runs, in `unit`.
        peer: the median of the peer's, or the figure that was asked for.
        ratio: how many times better ours is.
        target: the least ratio that was asked for; none where nothing was.
        runs: how many runs the medians are of.
        machine: where.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    target: float | None
    unit: str
    runs: int
    machine: str


def row(  # noqa: PLR0913  (a row's members)
    name: str,
    ours: Sequence[float] | float,
    peer: Sequence[float] | float,
    *,
    target: float | None,
    unit: str,
    more_is_better: bool = False,
    runs: int | None = None,
) -> Row:
    """Make a row: of each run's figure, or of a median and how many `runs` it is of."""
    mine = ours if isinstance(ours, float) else statistics.median(ours)
    theirs = peer if isinstance(peer, float) else statistics.median(peer)
    return Row(
        name=name,
        ours=float(f"{mine:.4g}"),
        peer=float(f"{theirs:.4g}"),
        ratio=float(f"{(mine / theirs if more_is_better else theirs / mine):.4g}"),
        target=target,
        unit=unit,
        runs=runs if isinstance(ours, float) and runs is not None else len(ours) if not isinstance(ours, float) else 1,
        machine=machine(),
    )


def machine() -> str:
    """The processor's name, where the kernel tells it, and how many."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{names[0]} x {len(names)}" if names else platform.machine()
    return f"{processor}, Python {platform.python_version()}"


def arithmetics() -> Iterator[str]:
    """Who computes secret products while a caller goes on: Blindgate's kernel in C, where there is one, then SEAL."""
    given = os.environ.pop(SETTING, None)
    try:
        if kernel() is not None:
            yield "kernel"
        os.environ[SETTING] = "sealapi"
        yield "SEAL"
    finally:
        os.environ.pop(SETTING)
        if given is not None:
            os.environ[SETTING] = given

"""The command line of the simulation.

python -m simulation --seed 7            what happened in schedule 7, line by line
python -m simulation                     1,000 schedules that nobody ran before
python -m simulation --schedules 100000 --first 0
"""

import random
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from simulation.campaign import Report, how_to_replay, run
from simulation.faults import Tally
from simulation.world import Outcome, Simulator

_ANY = 1 << 40
_console = Console(highlight=False, soft_wrap=True)


def main(
    seed: Annotated[int | None, typer.Option(help="Show the schedule of this seed.")] = None,
    schedules: Annotated[int, typer.Option(min=1, help="How many schedules to run where no seed is given.")] = 1000,
    first: Annotated[int | None, typer.Option(help="The first seed; drawn where it is not given.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="On how many processors; all, if not given.")] = None,
) -> None:
    """Run the broker under schedules that seeds decide. The exit code is 1 when something is as it must never be."""
    if seed is not None:
        raise typer.Exit(_replay(seed))
    start = random.SystemRandom().randrange(_ANY) if first is None else first
    raise typer.Exit(_campaign(range(start, start + schedules), processes))


def _replay(seed: int) -> int:
    outcome = Simulator().run(seed, logged=True)
    for line in outcome.log:
        _console.print(line, style="red" if "  !! " in line else None, markup=False)
    _console.print(f"{outcome.steps} steps; the log's digest is {outcome.digest[:16]}")
    _tell(outcome)
    return int(bool(outcome.violations))


def _campaign(seeds: range, processes: int | None) -> int:
    columns = (TextColumn("schedules"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f}/s"))
    with Progress(*columns, TimeRemainingColumn(), console=_console) as progress:
        task = progress.add_task("", total=len(seeds), rate=0.0)
        report = run(
            seeds,
            processes=processes,
            told=lambda report: progress.update(task, completed=report.schedules, rate=report.rate),
        )
    _console.print(coverage(report.tally))
    for outcome in report.failed:
        _tell(outcome)
    _console.print(_summary(seeds, report))
    return int(bool(report.failed))


def _summary(seeds: range, report: Report) -> str:
    seconds = time.monotonic() - report.began
    return (
        f"seeds from {seeds.start}: {report.schedules} schedules, {report.steps} steps in {seconds:.0f} s"
        f" ({report.rate:.0f} schedules a second), {len(report.failed)} failed"
    )


def coverage(tally: Tally) -> Table:
    """How often each thing happened."""
    table = Table("what", "times", title="What happened", box=None)
    for what, times in sorted(tally.items()):
        table.add_row(what, f"{times:,}")
    return table


def _tell(outcome: Outcome) -> None:
    for violation in outcome.violations:
        _console.print(f"seed {outcome.seed}: {violation}\n  again: {how_to_replay(outcome.seed)}", markup=False)


if __name__ == "__main__":
    typer.run(main)

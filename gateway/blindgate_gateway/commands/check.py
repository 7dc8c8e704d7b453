"""`blindgate gateway check`: one line for each check, and what to do where something is wrong.

The exit code is 1 when something is lost, altered or unusable; warnings leave it 0.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from blindgate_gateway.check import Finding, Progress, State, examine
from blindgate_gateway.check.repairs import repair as repair_database
from blindgate_gateway.commands.options import ConfigOption, DataOption, JsonOption, opened, refusals
from blindgate_gateway.commands.printing import print_json, printable
from blindgate_gateway.settings import load_settings

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAULT: "bold red"}


def check(
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and digest every blob, and verify every order and receipt.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="First set right what can be: counts, and which jobs are held back.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that this gateway is well, and that nothing was lost or altered. It may be running."""
    console = Console(soft_wrap=True, highlight=False)
    with refusals():
        settings = load_settings(config, data=data)
        repaired = []
        if repair:
            with opened(settings) as database:
                repaired = repair_database(database)
        findings = []
        with _progress() as progress:
            for finding in examine(settings, read_data=read_data, progress=progress):
                findings.append(finding)
                if not as_json:
                    _print(console, finding)
    is_well = all(finding.state is not State.FAULT for finding in findings)
    if as_json:
        print_json({"well": is_well, "repaired": repaired, "checks": [asdict(finding) for finding in findings]})
    else:
        for done in repaired:
            console.print(f"repaired: {done}", markup=False)
        bad = sum(finding.state is State.FAULT for finding in findings)
        console.print("this gateway is well" if is_well else f"{bad} of {len(findings)} checks found a fault")
    if not is_well:
        raise typer.Exit(1)


def _print(console: Console, finding: Finding) -> None:
    console.print(f"[{_STYLES[finding.state]}]{finding.state.value:<8}[/]{finding.check:<17}", end="")
    console.print(printable(finding.detail), markup=False)
    for example in finding.examples:
        console.print(f"{'':25}· {printable(example)}", markup=False)
    if finding.remedy is not None:
        console.print(f"{'':25}→ {finding.remedy}", markup=False)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show

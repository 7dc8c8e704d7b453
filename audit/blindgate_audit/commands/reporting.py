"""What `audit key` and `audit tenant` share: where they read, whom they believe, and what they say below the rows.

The rows go to standard output or a file. What is said in words goes below a table, and to standard error beside any other format:
a script reads rows alone.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from blindgate_audit.answers import FolderAnswers, GatewayAnswers
from blindgate_audit.chains import Chains
from blindgate_audit.commands.trusting import Cosignatures, LogKey, PolicyFile, SecondKey, Witnesses, named_by
from blindgate_audit.formats.reports import Format, require_place, write_report
from blindgate_audit.gateway import Gateway
from blindgate_audit.heads import Voucher, open_head
from blindgate_audit.progress import working
from blindgate_audit.remembered import Memory
from blindgate_audit.report import Answers, Question, Row, Tally, prove
from blindgate_audit.sources import Address, Folder
from blindgate_audit.tree import ProvenTree
from blindgate_protocol.errors import InputError, LogError

_STEP = 64
_OTHERWISE = (
    "Or read an auditor's export of the log, with --folder. A tenant follows its own keys with `blindgate keys show` and "
    "`blindgate keys monitor`"
)

Url: TypeAlias = Annotated[str, typer.Option("--url", envvar="BLINDGATE_URL", help="The gateway's address.")]
ApiKey: TypeAlias = Annotated[
    str, typer.Option("--api-key", envvar="BLINDGATE_API_KEY", help="An auditor's API key.", show_envvar=True)
]
FolderPath: TypeAlias = Annotated[
    Path | None, typer.Option("--folder", help="A folder that `blindgate audit export` wrote, in place of a gateway.")
]
Remember: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--remember", metavar="FOLDER", help="Where `audit verify` keeps what it saw. By default in your data folder."
    ),
]
Ca: TypeAlias = Annotated[str | None, typer.Option("--ca", help="A file of CA certificates to trust.")]
As: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--format",
        help="table for people; json is JSON Lines, an object a line; csv; ocsf is OCSF 1.5 in JSON Lines; parquet.",
    ),
]
Output: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the rows to this file. It is there once it is whole.")
]


@dataclass(frozen=True)
class Reading:
    """A log that is open to be reported on."""

    answers: Answers
    tree: ProvenTree
    voucher: Voucher

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.tree.checkpoint.origin


@dataclass(frozen=True)
class Place:
    """What a report is written as, and where."""

    form: Format
    output: Path | None

    def say(self, text: str) -> None:
        """Say something below the rows."""
        typer.echo(text, err=self.form is not Format.TABLE or self.output is not None)


Open: TypeAlias = Callable[[], Any]
"""What a command is given: a context manager for the `Reading` that the options name."""


def reports(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `reading` and `place`, the options that say from where and to where."""
    opens, places = inspect.signature(_open).parameters, inspect.signature(_place).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        place = _place(**{name: given.pop(name) for name in places})
        command(reading=partial(_open, **{name: given.pop(name) for name in opens}), place=place, **given)

    own = (one for name, one in inspect.signature(command).parameters.items() if name not in {"reading", "place"})
    parameters = [one.replace(kind=one.KEYWORD_ONLY) for one in (*own, *places.values(), *opens.values())]
    # Typer reads a command's options from both.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def report(reading: Reading, question: Question, place: Place, *, what: str, chains: Chains) -> Tally:
    """Write the rows that answer `question`, and say what the log says to them. `what` names it."""
    tally = Tally()
    rows = _followed(prove(reading.answers, reading.tree, question, tally=tally), chains)
    size = reading.tree.checkpoint.size
    with _watched(rows, size, place) as watched:
        write_report(watched, place.form, place.output, origin=reading.origin, about=question.object)
    if tally.rows:
        place.say(
            f"\n{tally.rows} events of {what}: entries {tally.first} to {tally.last} of the {size} of {reading.origin}."
        )
    else:
        place.say(f"No events of {what} among the {size} entries of {reading.origin}.")
    if not tally.faults:
        place.say("Each body that is shown is the one that the log committed to, under the checkpoint's root.")
    if tally.unknown:
        place.say(
            f"{tally.unknown} of them are of actions that this version has no name for: they are shown by their own, and nothing "
            "was concluded from them. A newer version may know more."
        )
    if tally.erased:
        place.say(f"{tally.erased} bodies were erased, as later events of the log say: what they said cannot be shown.")
    if tally.later is not None:
        place.say(
            f"From entry {tally.later} on events came after this checkpoint. They are not shown; ask again in some seconds."
        )
    if reading.voucher is Voucher.ITSELF:
        place.say(
            "The log's key came from the log itself, so it vouches for itself: --key, or --policy, names one from elsewhere."
        )
    if not reading.answers.whole:
        place.say(
            "The gateway chose these events. Whether it left some out is shown by `blindgate audit verify`, or from an export."
        )
    return tally


def conclude(place: Place, tally: Tally, chains: Chains) -> None:
    """Say each gap. Raises `LogError`, with what is wrong in a line, where something is."""
    for gap in chains.gaps:
        place.say(f"GAP: {gap.text} ({gap.key})")
    if chains.count > len(chains.gaps):
        place.say(f"… and {chains.count - len(chains.gaps)} more.")
    wrong: list[str] = []
    index: int | None = None
    if tally.first_fault is not None:
        index = tally.first_fault.index
        wrong.append(
            f"{tally.faults} bodies are altered or missing, the first at entry {index} ({tally.first_fault.proof.value})"
        )
    if tally.absent is not None:
        index = tally.absent if index is None else index
        wrong.append(f"the export lacks entries, the first of them {tally.absent}")
    if chains.count:
        first = chains.gaps[0]
        index = first.index if index is None else index
        wrong.append(f"{chains.count} gaps, the first at entry {first.index}: {first.text} ({first.key})")
    if wrong:
        raise LogError("; ".join(wrong), index=index)


def _place(form: As = Format.TABLE, output: Output = None) -> Place:
    require_place(form, output)
    return Place(form, output)


@contextmanager
def _open(
    url: Url = "",
    api_key: ApiKey = "",
    folder: FolderPath = None,
    policy: PolicyFile = None,
    key: LogKey = None,
    second_key: SecondKey = None,
    witness: Witnesses = None,
    cosignatures: Cosignatures = None,
    remember: Remember = None,
    ca: Ca = None,
) -> Iterator[Reading]:
    with ExitStack() as stack:
        answers: Answers
        if folder is not None:
            export = Folder(folder)
            source: Folder | Address = export
            answers = FolderAnswers(export)
        elif url and api_key:
            source = Address(url, ca=ca)
            stack.callback(source.close)
            gateway = stack.enter_context(Gateway(source.gateway, api_key, ca=ca, otherwise=_OTHERWISE))
            gateway.require_auditor()
            answers = GatewayAnswers(gateway)
        else:
            message = (
                "give --url and an auditor's --api-key, or set BLINDGATE_URL and BLINDGATE_API_KEY; or give --folder, "
                "an export"
            )
            raise InputError(message)
        named = named_by(
            source,
            policy=policy,
            key=key,
            second_key=second_key,
            witness=witness or (),
            cosignatures=cosignatures,
        )
        head = open_head(source, Memory(remember), named)
        yield Reading(answers, ProvenTree(head.checkpoint, source.read), head.voucher)


def _followed(rows: Iterable[Row], chains: Chains) -> Iterator[Row]:
    for row in rows:
        chains.follow(row)
        yield row


@contextmanager
def _watched(rows: Iterator[Row], size: int, place: Place) -> Iterator[Iterator[Row]]:
    """Show how far the rows are in the log, unless they go to a terminal themselves."""
    if place.output is None and sys.stdout.isatty():
        yield rows
        return
    with working("entries", total=size) as done:

        def moving() -> Iterator[Row]:
            for row in rows:
                if row.index % _STEP == 0:
                    done(row.index)
                yield row

        yield moving()

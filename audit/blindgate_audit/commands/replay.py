"""`blindgate audit replay`: one job, told again from its bundle, without a network."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from blindgate_audit.ciphertexts import find_files, folder_beside
from blindgate_audit.recomputation import (
    DEFAULT_MEMORY,
    DEFAULT_SECONDS,
    NOTHING_TO_COMPARE,
    Recomputation,
    recompute,
)
from blindgate_audit.replay import Replay, Signer, Verdict
from blindgate_audit.replay import replay as replay_bundle
from blindgate_audit.roots import Roots
from blindgate_audit.statements import Statement, statements
from blindgate_audit.unproven import COMPUTATION, Unproven
from blindgate_protocol.bundle import MAX_BUNDLE_BYTES, Bundle, read_bundle
from blindgate_protocol.errors import MalformedError

_SAYS: Final = {
    Verdict.HOLDS: "every signature holds, under keys that you named",
    Verdict.UNVOUCHED: "the signatures hold, under keys that nobody vouched for",
    Verdict.REFUSED: "refused",
}
_SECTIONS: Final = {
    "what": "What was run",
    "where": "Where, and by whom",
    "when": "When (each by its signer's clock)",
    "key": "Under which key",
    "code": "On which code",
    "log": "Where it is logged",
}
_ROOTS: Final = "Whom you trust"
_AGAIN: Final = "Evaluating again"


def replay(
    bundle: Annotated[Path, typer.Argument(help="A job's bundle: the file that the client kept.", show_default=False)],
    policy: Annotated[
        Path | None,
        typer.Option(
            help="A client's policy file: its publishers, operators, logs with their second keys, witnesses and "
            "rules.cosignatures are whom you trust.",
            rich_help_panel=_ROOTS,
        ),
    ] = None,
    publisher: Annotated[
        list[str] | None,
        typer.Option(help="A publisher's key, KEY or NAME=KEY; once for each.", rich_help_panel=_ROOTS),
    ] = None,
    operator: Annotated[
        list[str] | None, typer.Option(help="An operator's key, likewise.", rich_help_panel=_ROOTS)
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            help="A log's verifier key, name+id+key: the job must be in one that you name.", rich_help_panel=_ROOTS
        ),
    ] = None,
    second_key: Annotated[
        list[str] | None,
        typer.Option(
            help="The second key, by ML-DSA-44, of a log that you name: its signature must be there as well.",
            rich_help_panel=_ROOTS,
        ),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(help="A witness's verifier key, KEY or NAME=KEY; once for each.", rich_help_panel=_ROOTS),
    ] = None,
    cosignatures: Annotated[
        int | None, typer.Option(min=0, help="How many of the witnesses must have cosigned.", rich_help_panel=_ROOTS)
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(help="A data owner's signing key; without it, whoever signed the order.", rich_help_panel=_ROOTS),
    ] = None,
    recompute_: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Evaluate the job again and compare the results' digests.", rich_help_panel=_AGAIN
        ),
    ] = False,
    ciphertexts: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the files lie that are not named below, by digest; the folder 'ciphertexts' beside the bundle by default.",
            rich_help_panel=_AGAIN,
        ),
    ] = None,
    input_: Annotated[
        Path | None, typer.Option("--input", help="The input's ciphertext.", rich_help_panel=_AGAIN)
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(help="The model's package, its server part, or a folder with either.", rich_help_panel=_AGAIN),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The evaluation key, where the model needs one.", rich_help_panel=_AGAIN)
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(help="The result's ciphertext, to be held against the receipt.", rich_help_panel=_AGAIN),
    ] = None,
    memory: Annotated[
        int, typer.Option(min=64, help="MiB that the evaluation may use.", rich_help_panel=_AGAIN)
    ] = DEFAULT_MEMORY >> 20,
    seconds: Annotated[
        int, typer.Option(min=1, help="How long the evaluation may take.", rich_help_panel=_AGAIN)
    ] = DEFAULT_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Tell one job again from its bundle: what was run, where, by whom, when, under which key, on which code, logged where.

    Nothing is asked of anybody: no network. Each statement names whose signature it rests on, and what is NOT proven is listed.

    Exit status 0 only when every signature holds under keys that you named (and, with --recompute, the results are equal); 1 when
    something is refused, nobody vouched for a key, or the results could not be found equal.
    """
    if not recompute_ and (ciphertexts, input_, package, key, result) != (None,) * 5:
        message = "files are read with --recompute only"
        raise typer.BadParameter(message)
    roots = (Roots() if policy is None else Roots.load(policy)).joined(
        publishers=publisher or (),
        operators=operator or (),
        clients=client or (),
        logs=log or (),
        second_keys=second_key or (),
        witnesses=witness or (),
        cosignatures=cosignatures,
    )
    replayed = replay_bundle(_read(bundle), roots)
    again = None
    if recompute_ and replayed.verdict is Verdict.REFUSED:
        again = NOTHING_TO_COMPARE
    elif recompute_:
        folder = ciphertexts or folder_beside(bundle)
        files = find_files(folder, replayed.bundle, given=input_, package=package, key=key, result=result)
        if not as_json:
            typer.echo("Evaluating again …", err=True)
        again = recompute(replayed, files, memory=memory << 20, seconds=seconds)
    open_ends = [one for one in replayed.not_proven if not (one.code == COMPUTATION and _equal(again))]
    typer.echo(
        json.dumps(_document(replayed, open_ends, again), indent=2) if as_json else _page(replayed, open_ends, again)
    )
    if replayed.verdict is not Verdict.HOLDS or not (again is None or _equal(again)):
        raise typer.Exit(1)


def _equal(again: Recomputation | None) -> bool:
    return again is not None and again.outcome == "equal"


def _document(replayed: Replay, open_ends: list[Unproven], again: Recomputation | None) -> dict[str, Any]:
    return {
        "verdict": replayed.verdict.value,
        "says": _says(replayed),
        "refusals": [asdict(refusal) for refusal in replayed.refusals],
        "signers": [asdict(signer) for signer in replayed.signers],
        "statements": [asdict(statement) for statement in statements(replayed)],
        "not_proven": [asdict(one) for one in open_ends],
        "recomputed": None
        if again is None
        else asdict(again) | {"output": None if again.output is None else again.output.model_dump()},
    }


def _says(replayed: Replay) -> str:
    text = f"job {replayed.bundle.order.document.job}: {_SAYS[replayed.verdict]}"
    if replayed.verdict is Verdict.UNVOUCHED:
        return f"{text} ({', '.join(signer.role for signer in _strangers(replayed))}). Name them with --policy, or one by one."
    return f"{text}."


def _strangers(replayed: Replay) -> list[Signer]:
    return [
        signer for signer in replayed.signers if not signer.vouched and signer.role in {"publisher", "operator", "log"}
    ]


def _page(replayed: Replay, open_ends: list[Unproven], again: Recomputation | None) -> str:
    """Everything for people: the verdict first, what is not proven last."""
    lines = [_says(replayed), *(f"  {one.document}: {one.text} [{one.code}]" for one in replayed.refusals)]
    for section, said in groupby(sorted(statements(replayed), key=_section), key=_section):
        lines += ["", list(_SECTIONS.values())[section], *_aligned(said)]
    lines += ["", "Whose signatures these are"]
    width = max(len(signer.role) for signer in replayed.signers)
    lines += [f"  {signer.role:<{width}}  {_signer(signer)}" for signer in replayed.signers]
    if again is not None:
        lines += ["", "Evaluated again", f"  {again.text}."]
    lines += ["", "NOT proven", *_listed(open_ends)]
    return "\n".join(_plain(line) for line in lines)


def _read(file: Path) -> Bundle:
    with file.open("rb") as opened:
        data = opened.read(MAX_BUNDLE_BYTES + 1)
    try:
        return read_bundle(data)
    except MalformedError as error:
        message = f"{file}: {error}. A client keeps one for each job, in HOME/bundles"
        raise MalformedError(message) from error


def _section(statement: Statement) -> int:
    return list(_SECTIONS).index(statement.section)


def _aligned(said: Iterator[Statement]) -> Iterator[str]:
    rows = [(one.name.replace("_", " "), _readable(one), one) for one in said]
    names, values = max(len(name) for name, _, _ in rows), max(len(value) for _, value, _ in rows)
    for name, value, one in rows:
        refused = "" if one.holds else "  REFUSED"
        yield f"  {name:<{names}}  {value:<{min(values, 72)}}  [{', '.join(one.rests_on)}]{refused}"


def _listed(open_ends: list[Unproven]) -> Iterator[str]:
    width = max(len(one.code) for one in open_ends)
    for one in open_ends:
        yield f"  {one.code:<{width}}  {one.text}"


def _readable(statement: Statement) -> str:
    if statement.time:
        return datetime.fromtimestamp(statement.value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    return f"{statement.value:,}" if isinstance(statement.value, int) else str(statement.value)


def _signer(signer: Signer) -> str:
    key = signer.key or "whoever holds a key that the bundle does not show"
    if signer.name is not None and signer.name != key:
        key = f"{signer.name} ({key})"
    if signer.role == "node":
        return f"{key}, vouched for by its operator" if signer.vouched else f"{key}, whose operator nobody vouched for"
    return key if signer.vouched else f"{key}, vouched for by nobody here"


def _plain(text: str) -> str:
    """Text as it is: nothing that a stranger wrote steers the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)

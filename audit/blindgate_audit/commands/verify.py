"""`blindgate audit verify`: one log, from its checkpoint down to its events, and what holds of it in plain words."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from blindgate_audit.bodies import Bodies
from blindgate_audit.commands.trusting import Cosignatures, LogKey, PolicyFile, SecondKey, Witnesses, named_by
from blindgate_audit.findings import Findings
from blindgate_audit.gateway import Gateway
from blindgate_audit.held import NOT_HELD, names
from blindgate_audit.progress import working
from blindgate_audit.records import Records
from blindgate_audit.remembered import Memory, Remembered
from blindgate_audit.rows import TABLES
from blindgate_audit.sources import Address, Folder, fetched, open_source
from blindgate_audit.submissions import Submissions
from blindgate_audit.verification import Observer, Walked, verify_checkpoint, verify_tree
from blindgate_protocol.checkpoints import LogTrust, OpenedCheckpoint
from blindgate_protocol.errors import NotFoundError
from blindgate_protocol.events import Event
from blindgate_protocol.logged import Logged, PseudonymPage
from blindgate_protocol.notes import VerifierKey
from blindgate_protocol.oversight import JobRecords, NodeRecords, StatementRecords, TableRows

_LATEST_SECONDS: Final = 15.0
"""For how long events are waited for of records that came after the checkpoint: a gateway gives them a place within seconds."""

_STEPS: Final = {
    "checkpoint": ("key", "checkpoint"),
    "witnesses": ("cosignatures",),
    "history": ("rollback", "fork"),
    "tree": ("missing", "entry-form", "entry-hash", "subtree-hash", "root", "version"),
    "events": ("gap", "commitment", "event-form", "erasure", "submission", "action"),
    "records": ("record", "row"),
}
"""What is checked, in this order, and the rules of each (`findings`)."""

_ITSELF: Final = (
    ": the log vouches for itself. Whoever can write here could have written another log. Ask its owner for the key, on another "
    "way, and give it with --key"
)


@dataclass
class _Audit:
    """One log's audit as it goes.

    Attributes:
        told: of each step that was taken, what there is to say.
        skipped: of each other, why not.
        itself: whether nobody but the log itself says what its key is.
        strict: whether an action that this version has no name for is a finding.
        unknown: how many events there are of such, by action.
        hidden: the tables that the gateway does not show; `None` where no rows were asked for.
    """

    source: Folder | Address
    memory: Memory
    strict: bool = False
    unknown: dict[str, int] = field(default_factory=dict)
    hidden: tuple[str, ...] | None = None
    findings: Findings = field(default_factory=Findings)
    told: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    itself: bool = False


def verify(
    log: Annotated[
        str, typer.Argument(metavar="URL|FOLDER", help="The gateway's address, its log's, or a log's folder.")
    ],
    policy: PolicyFile = None,
    key: LogKey = None,
    second_key: SecondKey = None,
    witness: Witnesses = None,
    cosignatures: Cosignatures = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            envvar="BLINDGATE_API_KEY",
            help="An auditor's API key: every event is held against its entry, and the records against the events.",
        ),
    ] = None,
    remember: Annotated[
        Path | None,
        typer.Option(
            "--remember", metavar="FOLDER", help="Where is kept what was seen of logs. By default in your data folder."
        ),
    ] = None,
    ca: Annotated[str | None, typer.Option("--ca", help="A file of CA certificates to trust.")] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail where the log tells of actions that this version has no name for. Without it they are only counted.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Verify a whole log: signatures, every entry, every tile, and that it continues what was seen of it before.

    Exit status 0 says that everything holds that was checked. Otherwise each line says which rule is broken, and at which index.
    """
    audit = _Audit(open_source(log, ca=ca), Memory(remember), strict=strict)
    try:
        named = named_by(
            audit.source,
            policy=policy,
            key=key,
            second_key=second_key,
            witness=witness or (),
            cosignatures=cosignatures,
        )
        trusted, remembered = _trusted(audit, named.log, "that you gave" if policy is None else "that the policy names")
        trust = named.trust(trusted, audit.source)
        opened = _head(audit, trust, remembered)
        if opened is not None:
            _body(audit, opened, remembered, api_key=api_key, ca=ca)
        if opened is not None and not audit.findings.count:
            audit.memory.remember(
                trusted, str(opened.note), place=_place(audit.source), now=time.time_ns() // 1_000_000
            )
    finally:
        audit.source.close()
    _print(audit, trusted, opened, as_json=as_json)
    if audit.findings.count:
        raise typer.Exit(1)


def _trusted(audit: _Audit, given: VerifierKey | None, whose: str) -> tuple[VerifierKey, Remembered | None]:
    """The key that the log is held against, and what is remembered of the log. `whose` says where a given one came from."""
    key = VerifierKey.parse(audit.source.key()) if given is None else given
    before = audit.memory.log_at(_place(audit.source))
    if given is None and before is not None and before != key.name:
        file = audit.memory.file(before)
        message = f"here was the log {before!r} before, and now there is {key.name!r}: another log; see {file}"
        audit.findings.add("key", message)
    remembered = audit.memory.recall(key.name)
    if remembered is not None and remembered.key != key:
        message = (
            f"the log's key is {key}, and was {remembered.key} when the log was seen on {_when(remembered.seen)}. If you know "
            f"from its owner that it has a new one, remove {audit.memory.file(key.name)} and give the new one with --key"
        )
        audit.findings.add("key", message)
        key = remembered.key if given is None else key
    if given is not None:
        audit.told["checkpoint"] = f"signed by the key {whose}"
    elif remembered is not None:
        audit.told["checkpoint"] = f"signed by the key that was remembered on {_when(remembered.seen)}"
    else:
        audit.told["checkpoint"] = "signed by the key that lies beside the log"
        audit.itself = True
    return key, remembered


def _head(audit: _Audit, trust: LogTrust, remembered: Remembered | None) -> OpenedCheckpoint | None:
    """The first three steps: the checkpoint, its witnesses, and that it does not go back."""
    before = None if remembered is None else remembered.checkpoint
    opened = verify_checkpoint(audit.source.checkpoint(), trust, before, audit.findings)
    if opened is None:
        return None
    if trust.second is not None:
        audit.told["checkpoint"] += ", and by its second key"
    audit.told["checkpoint"] = f"{opened.checkpoint.size:,} entries, {audit.told['checkpoint']}"
    if audit.itself:
        audit.told["checkpoint"] += _ITSELF
    if trust.witnesses or trust.cosignatures:
        by = ", ".join(f"{name} on {_when(1000 * at)}" for name, at in sorted(opened.cosigned.items()))
        audit.told["witnesses"] = f"{len(opened.cosigned)} cosigned, {trust.cosignatures} wanted" + (
            f": {by}" if by else ""
        )
    else:
        audit.skipped["witnesses"] = "no witness was named (--witness)"
    return opened


def _body(
    audit: _Audit, opened: OpenedCheckpoint, remembered: Remembered | None, *, api_key: str | None, ca: str | None
) -> None:
    """All that asks for the whole log."""
    source, findings = audit.source, audit.findings
    if isinstance(source, Address) and api_key is not None:
        without = f"BLINDGATE_API_KEY= blindgate audit verify {source.name}"
        otherwise = f"Without a key the log is verified, without its events: {without}"
        with (
            Gateway(source.gateway, api_key, ca=ca, otherwise=otherwise) as gateway,
            closing(Records(findings)) as records,
            closing(Submissions(findings)) as submissions,
        ):
            bodies = Bodies(gateway.events(), findings, tell=(records.tell, submissions.tell))
            _walk(audit, opened, remembered, bodies)
            _finish_events(audit, bodies, submissions)
            _hold_records(audit, gateway, bodies, records)
        return
    events = source.events() if isinstance(source, Folder) else None
    if events is None:
        _walk(audit, opened, remembered, None)
    else:
        with closing(Submissions(findings)) as submissions:
            bodies = Bodies(events, findings, tell=(submissions.tell,))
            _walk(audit, opened, remembered, bodies)
            _finish_events(audit, bodies, submissions)
    audit.skipped["events"] = (
        "an auditor's API key shows them (--api-key)" if isinstance(source, Address) else "none here"
    )
    audit.skipped["records"] = "the gateway has them (its address, with an auditor's --api-key)"


def _walk(audit: _Audit, opened: OpenedCheckpoint, remembered: Remembered | None, bodies: Bodies | None) -> None:
    checkpoint = opened.checkpoint
    with working("entries", total=checkpoint.size) as done:
        observers: Sequence[Observer] = (lambda first, entries: done(first + len(entries)),)
        walked = verify_tree(
            lambda tiles: fetched(audit.source, tiles),
            checkpoint,
            None if remembered is None else remembered.checkpoint,
            audit.findings,
            observers=observers if bodies is None else (bodies, *observers),
            **({"versions": audit.source.versions} if isinstance(audit.source, Folder) else {}),
        )
    audit.told["tree"] = _tree(walked, checkpoint.size)
    if isinstance(audit.source, Folder) and (strays := audit.source.strays(checkpoint.size)):
        audit.told["tree"] += f"; {strays} files beyond them are no part of it"
    if remembered is None:
        audit.skipped["history"] = "this log was never seen before"
    else:
        audit.told["history"] = (
            f"begins with the {remembered.checkpoint.size:,} entries seen on {_when(remembered.seen)}"
        )


def _finish_events(audit: _Audit, bodies: Bodies, submissions: Submissions) -> None:
    bodies.finish()
    submissions.finish(erased=bodies.erased)
    told = f"{bodies.held:,} are the ones that were logged; {bodies.erased:,} were erased, as others tell"
    if submissions.stated:
        told += f"; when {submissions.stated:,} orders came is said with their results as it was logged then"
    if bodies.unknown:
        named = ", ".join(f"{action} (from entry {index} on)" for action, index in bodies.first_unknown.items())
        unknown = f"{bodies.unknown.total():,} are of actions that this version has no name for"
        told += f"; {unknown}, and nothing was concluded from them: {named}"
    audit.told["events"] = told
    audit.unknown = dict(bodies.unknown)
    for action, index in bodies.first_unknown.items() if audit.strict else ():
        times = bodies.unknown[action]
        message = f"entry {index} is the first of {times:,} of an action that this version has no name for: {action}"
        audit.findings.add("action", message, index=index)


def _tree(walked: Walked, size: int) -> str:
    match walked.by_entries, walked.by_tiles:
        case True, True:
            return f"all {size:,} entries and the tiles above them lead to the signed root"
        case True, False:
            return "the entries lead to the signed root: it is the tiles that are wrong"
        case False, True:
            return "the tiles lead to the signed root: it is the entries that are wrong"
        case _:
            return "neither the entries nor the tiles lead to the signed root"


def _hold_records(audit: _Audit, gateway: Gateway, bodies: Bodies, records: Records) -> None:
    """The records against the events, those of the last seconds too: they are on record before they have a place in the log."""
    records.begin()
    with working("records", total=None) as done:
        _read_rows(gateway, records, done)
        audit.hidden = records.rows.hidden
        for statements in gateway.pages("/v1/audit/keys", StatementRecords):
            for statement in statements.statements:
                records.statement(statement)
            done(records.statements)
        for nodes in gateway.pages("/v1/audit/nodes", NodeRecords):
            for node in nodes.nodes:
                records.node(node)
        for jobs in gateway.pages("/v1/audit/jobs", JobRecords):
            for job in jobs.records:
                records.job(job)
            done(records.statements + records.receipts)
        names = gateway.pages("/v1/audit/pseudonyms", PseudonymPage)
        records.names({one.pseudonym: one.name for page in names for one in page.pseudonyms})
        last = _tell(bodies.rest(), records, bodies.last)
        until = time.monotonic() + _LATEST_SECONDS
        while records.unlogged(erased=bodies.erased) and time.monotonic() < until:
            time.sleep(1)
            last = _tell(gateway.events(None if last < 0 else last), records, last)
    hidden = records.finish(erased=bodies.erased)
    told = f"{records.statements:,} statements about keys, {records.receipts:,} receipts and {records.nodes:,} nodes"
    told += " have their events"
    if records.rows.count:
        told += f"; {records.rows.count:,} rows of tables say the same"
    audit.told["records"] = told + (f", but {hidden:,}: theirs must be among the erased ones" if hidden else "")


def _read_rows(gateway: Gateway, records: Records, done: Callable[[int], None]) -> None:
    """The rows of tables, of those that the gateway shows: one of before shows fewer, or none."""
    for table in TABLES:
        try:
            for page in gateway.pages(f"/v1/audit/rows/{table}", TableRows):
                for row in page.rows:
                    records.rows.row(table, row)
                done(records.rows.count)
        except NotFoundError:
            continue
        records.rows.are_shown(table)


def _tell(events: Iterator[Logged], records: Records, last: int) -> int:
    """Tell `records` of events that no checkpoint covers yet. Gives the last one's index."""
    for logged in events:
        last = logged.index
        if logged.event is not None:
            records.tell(last, Event.from_bytes(logged.event.encode()))
    return last


def _place(source: Folder | Address) -> str:
    return os.path.realpath(source.path) if isinstance(source, Folder) else source.gateway


def _print(audit: _Audit, key: VerifierKey, opened: OpenedCheckpoint | None, *, as_json: bool) -> None:
    findings = audit.findings
    if as_json:
        result = {
            "log": key.name,
            "key": str(key),
            "size": None if opened is None else opened.checkpoint.size,
            "root": None if opened is None else opened.checkpoint.root.hex(),
            "holds": not findings.count,
            "steps": [{"step": step, "verdict": verdict, "text": text} for step, verdict, text in _steps(audit)],
            "unknown_actions": audit.unknown,
            "not_held": None if audit.hidden is None else [asdict(one) for one in NOT_HELD],
            "not_shown": audit.hidden,
            "findings": [asdict(one) for one in findings],
            "more_findings": findings.rest,
        }
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    lines = [f"The log {key.name} in {audit.source.name}", ""]
    lines += [f"  {step:<10}  {verdict:<11}  {text}" for step, verdict, text in _steps(audit)]
    if audit.hidden is not None:
        lines += ["", f"Not held, of the gateway's tables (docs/audit.md says why): {', '.join(names())}"]
        lines += [f"Not shown by this gateway, and not held: {', '.join(audit.hidden)}"] if audit.hidden else []
    lines += [
        "",
        *(f"  {'' if one.index is None else f'entry {one.index}: '}{one.rule}: {one.message}" for one in findings),
    ]
    if findings.rest:
        lines.append(f"  and {findings.rest:,} more")
    wrong = "1 finding" if findings.count == 1 else f"{findings.count:,} findings"
    verdict = f"{wrong}: this log does not hold." if findings.count else "Everything that was checked holds."
    sys.stdout.write("".join(f"{_plain(line)}\n" for line in [*lines, *([""] if findings.count else []), verdict]))


def _steps(audit: _Audit) -> Iterator[tuple[str, str, str]]:
    """Each step, what came of it, and what there is to say."""
    for step, rules in _STEPS.items():
        broken = sum(audit.findings.of[rule] for rule in rules)
        if broken:
            told = audit.told.get(step, "") if step == "tree" else ""
            yield step, "FAILS", f"{broken:,} finding{'s' if broken > 1 else ''}" + (f"; {told}" if told else "")
        elif step in audit.told:
            yield step, "holds", audit.told[step]
        else:
            yield step, "not checked", audit.skipped.get(step, "the steps before it do not hold")


def _when(millis: int) -> str:
    try:
        return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):  # a witness may sign any time
        return f"{millis} ms since 1970"


def _plain(text: str) -> str:
    """Text that does nothing to a terminal: the log's own words are a stranger's."""
    return "".join(character if character.isprintable() else "�" for character in text)

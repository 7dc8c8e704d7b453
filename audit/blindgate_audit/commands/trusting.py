"""Whom to believe about a log: the options that `audit verify`, `audit key` and `audit tenant` have in common.

A policy file is a client's. It names the log, with its second key where it has one, and witnesses; what stands there is demanded,
so an auditor asks for no less than the client did. Options name the same one by one, and witnesses beside the policy's.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from blindgate_audit.heads import Named
from blindgate_audit.roots import Roots
from blindgate_audit.sources import Address, Folder
from blindgate_protocol.checkpoints import LogTrust
from blindgate_protocol.errors import MalformedError, PolicyError
from blindgate_protocol.notes import VerifierKey, parse_note

PolicyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="A client's policy file: its log with the second key, its witnesses and rules.cosignatures are whom you trust.",
    ),
]
LogKey: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="NAME+ID+KEY",
        help="The log's verifier key, from somebody you trust. Without it: the key that `audit verify` remembered, or, the first "
        "time, the one that lies beside the log.",
    ),
]
SecondKey: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--second-key",
        metavar="NAME+ID+KEY",
        help="The log's second key, by ML-DSA-44: its signature must be there as well.",
    ),
]
Witnesses: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--witness",
        metavar="NAME=VKEY",
        help="A witness that you trust: your name for it, its verifier key; may be repeated.",
    ),
]
Cosignatures: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--cosignatures",
        min=0,
        help="How many of the witnesses must have cosigned. By default all, or what the policy says.",
    ),
]


def named_by(
    source: Folder | Address,
    *,
    policy: Path | None,
    key: str | None,
    second_key: str | None,
    witness: Iterable[str],
    cosignatures: int | None,
) -> Named:
    """What the options name. Raises `PolicyError`, and `typer.BadParameter` for an option that is mistyped."""
    if policy is not None and key is not None:
        message = "--policy names the log's key: give it or --key"
        raise typer.BadParameter(message)
    witnesses: dict[str, VerifierKey] = {}
    for text in witness:
        name, separator, line = text.partition("=")
        if not name or not separator or name in witnesses:
            message = f"--witness {text}: expected NAME=VKEY, each name once"
            raise typer.BadParameter(message)
        witnesses[name] = _key(line, f"--witness {name}")
    second = None if second_key is None else _key(second_key, "--second-key")
    if policy is None:
        wanted = len(witnesses) if cosignatures is None else cosignatures
        return Named(None if key is None else _key(key, "--key"), second, witnesses, wanted)
    trust = _of_policy(source, policy)
    wanted = trust.cosignatures if cosignatures is None else cosignatures
    return Named(trust.log, second or trust.second, {**trust.witnesses, **witnesses}, wanted)


def _of_policy(source: Folder | Address, policy: Path) -> LogTrust:
    """What a policy's log asks for: the log that signed what is here, or the only one. Raises `PolicyError`."""
    trusts = Roots.load(policy).trusts()
    if len(trusts) == 1:
        return next(iter(trusts.values()))
    note = parse_note(source.checkpoint())
    lines = {(line.name, line.id) for line in note.lines}
    found = next((trust for trust in trusts.values() if (trust.log.name, trust.log.id) in lines), None)
    if found is None:
        names = ", ".join(f"{name} ({trust.log})" for name, trust in trusts.items()) or "none"
        message = f"policy {policy}: {source.name} is signed by no log that it names; it names: {names}"
        raise PolicyError(message)
    return found


def _key(text: str, option: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except MalformedError as error:
        message = f"{option}: {error}"
        raise typer.BadParameter(message) from error

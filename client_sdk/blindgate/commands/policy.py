"""`blindgate policy show|explain|trust|distrust|revoke`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from blindgate.commands.explain import explain
from blindgate.commands.options import Home, Json, PolicyPath
from blindgate.output import note, readable, show, when
from blindgate.places import policy_file
from blindgate.policy import LogKey, Policy, SecondKey, WitnessKey
from blindgate_protocol.errors import InputError, PolicyError
from blindgate_protocol.revocations import Revocation, Revocations
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import KeyId, Name, Value

app = typer.Typer(help="What this client allows, and whom it trusts.", no_args_is_help=True)
app.command("explain")(explain)

Kind = Annotated[
    Literal["publisher", "operator", "log", "second-key", "witness"],
    typer.Argument(
        help="Whose models, whose nodes, in which log results must stand, by which second key that log must sign, or who "
        "vouches for logs."
    ),
]
_KEYS: Final[dict[str, TypeAdapter[Any]]] = {
    "publisher": TypeAdapter(KeyId),
    "operator": TypeAdapter(KeyId),
    "log": TypeAdapter(LogKey),
    "second-key": TypeAdapter(SecondKey),
    "witness": TypeAdapter(WitnessKey),
}
_LOG_KINDS: Final = frozenset({"log", "second-key", "witness"})
_SHOWN: Final = 160
"""Of a key that is longer, people see the beginning: one of ML-DSA-44 has 1,800 characters."""

_REVOKED: Final = TypeAdapter(Revocations)
NameArgument = Annotated[str, typer.Argument(help="Your name for them.")]


@app.command("show")
def show_(policy: PolicyPath = None, home: Home = None, as_json: Json = False) -> None:
    """Show whom this client trusts, which keys it believes no longer, what each class of data may use, and the file that says so.

    With --json, a class is an entry with `may` = `class`, and a model of whose data the policy says something is one with `model`;
    what the file says of it stands under `rules`.
    """
    loaded = Policy.load(policy_file(policy, home))
    rows = [
        {"may": may, "name": name, "key": key}
        for may, roots in (
            ("publish models", loaded.publishers),
            ("run jobs", loaded.operators),
            ("log results", loaded.logs),
            ("sign that log as well", loaded.second_keys),
            ("vouch for logs", loaded.witnesses),
        )
        for name, key in roots.items()
    ]
    if loaded.revoked:
        named = {row["key"] for row in rows}
        rows += [{"may": "nothing", "name": "", "key": key} for key in loaded.revoked if key not in named]
        rows = [row | _revoked(loaded.revoked.get(row["key"]), as_json=as_json) for row in rows]
    if not as_json:
        note(f"policy {loaded.path}; lanes: {', '.join(loaded.rules.lanes)}; {_log_rules(loaded)}")
        rows = [row | {"key": _shortened(row["key"])} for row in rows]
        _note_classes(loaded)
    else:
        rows += _classes(loaded)
    show(rows, as_json=as_json, empty="It trusts nobody. See: blindgate policy trust --help")


@app.command()
def trust(
    kind: Kind,
    name: NameArgument,
    key: Annotated[
        str,
        typer.Argument(
            help="Their key, as they gave it to you outside of the gateway: ed25519:…, or NAME+ID+KEY of a log or witness."
        ),
    ],
    policy: PolicyPath = None,
    home: Home = None,
) -> None:
    """Trust a publisher's models, an operator's nodes, a gateway's log, its second key or a witness from now on.

    From the first log on, results are refused that do not stand in one of the logs that you trust. From a log's second key on (by
    ML-DSA-44, under the name that you gave the log), they are refused if that did not sign the log, too.
    """
    try:
        _KEYS[kind].validate_python(key)
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        form = "name+id+key, as C2SP writes it" if kind in _LOG_KINDS else "ed25519: and 43 characters"
        message = f"not a name and a key ({form}): {first_error(error)}"
        raise PolicyError(message) from error
    loaded = Policy.load(policy_file(policy, home))
    roots = _roots(loaded, kind)
    if roots.get(name, key) != key:
        message = f"{kind} {name!r} is already another key, {_shortened(roots[name])}; use another name, or distrust that one first"
        raise PolicyError(message)
    roots[name] = key
    loaded.save()
    note(f"{loaded.path} now trusts {kind} {name!r} ({_shortened(key)})")
    _note_log_rules(loaded, kind)


@app.command()
def distrust(kind: Kind, name: NameArgument, policy: PolicyPath = None, home: Home = None) -> None:
    """Trust them no longer: they are strangers then, and what they signed before does not verify any more.

    Where a key was stolen or somebody's service ended, `revoke` the key instead: what came before stays verifiable.
    """
    loaded = Policy.load(policy_file(policy, home))
    roots = _roots(loaded, kind)
    if roots.pop(name, None) is None:
        message = f"the policy names no {kind} {name!r}"
        raise PolicyError(message)
    if kind == "log":
        loaded.second_keys.pop(name, None)
    loaded.save()
    note(f"{loaded.path} no longer trusts {kind} {name!r}")
    _note_log_rules(loaded, kind)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="A publisher's, an operator's, a node's or a client's signing key.")],
    at: Annotated[
        str | None,
        typer.Option("--at", help="From when on: 2026-11-20T10:00:00Z, or with another zone. Without it, from now on."),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, in a sentence that is kept in the file.")] = None,
    policy: PolicyPath = None,
    home: Home = None,
) -> None:
    """Believe a signing key no longer, from a time on: no new job uses it, and no result is taken that it signed since.

    What it signed before stays verifiable, as long as the policy names it (do not distrust it). Only a log's time shows what came
    before: without one, a node's own clock is asked. Revoked again, a key's time can only become an earlier one.
    """
    value = {"at": _moment(at)} | ({} if reason is None else {"reason": reason})
    try:
        revocation = _REVOKED.validate_python({key: value})[key]
    except ValidationError as error:
        message = f"not a signing key (ed25519: and 43 characters), a time and a reason: {first_error(error)}"
        raise PolicyError(message) from error
    loaded = Policy.load(policy_file(policy, home))
    known = loaded.revoked.get(key)
    if known is not None and known.at < revocation.at:
        message = f"{key} is revoked from {when(known.at)} on already; to take that back is a decision to be made in {loaded.path}"
        raise PolicyError(message)
    loaded.revoked[key] = revocation
    loaded.save()
    note(
        f"{loaded.path} believes {key} no longer, from {when(revocation.at)} on; what it signed before stays verifiable"
    )


def _moment(at: str | None) -> datetime:
    message = f"--at: got {at!r}, expected a time with its zone, such as 2026-11-20T10:00:00Z"
    try:
        found = datetime.now(UTC) if at is None else datetime.fromisoformat(at)
    except ValueError as error:
        raise InputError(message) from error
    if found.tzinfo is None:
        raise InputError(message)
    return found


def _revoked(found: Revocation | None, *, as_json: bool) -> dict[str, Any]:
    if found is None:
        return {"revoked_from": None, "reason": None}
    return {"revoked_from": found.at if as_json else when(found.at), "reason": found.reason}


def _roots(policy: Policy, kind: str) -> dict[str, str]:
    by_kind = {
        "publisher": policy.publishers,
        "operator": policy.operators,
        "log": policy.logs,
        "second-key": policy.second_keys,
    }
    return by_kind.get(kind, policy.witnesses)


def _classes(policy: Policy) -> list[dict[str, Any]]:
    said: list[tuple[str, Mapping[str, Value]]] = [("class", policy.classes), ("model", policy.models)]
    return [
        {"may": may, "name": name, "key": None, "rules": of.model_dump(mode="json")}
        for may, section in said
        for name, of in section.items()
    ]


def _note_classes(policy: Policy) -> None:
    for row in _classes(policy):
        rules = "; ".join(f"{key} {_listed(value)}" for key, value in row["rules"].items() if value not in ({}, None))
        note(f"{row['may']} {row['name']}: {rules or 'no rules beside the rest of the policy'}")
    if policy.rules.data_class is not None:
        note(f"class of requests of which nothing is said: {policy.rules.data_class}")


def _listed(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {_listed(item)}" for key, item in value.items() if item != [])
        case list():
            return ", ".join(map(str, value))
        case _:
            return readable(value)


def _shortened(key: str) -> str:
    return key if len(key) <= _SHOWN else f"{key[:_SHOWN]}…"


def _note_log_rules(policy: Policy, kind: str) -> None:
    if kind in _LOG_KINDS:
        note(f"{_log_rules(policy)} (rules.cosignatures and rules.log_within in that file)")


def _log_rules(policy: Policy) -> str:
    if not policy.logs:
        return "results need not stand in a log"
    wanted, seconds = policy.rules.cosignatures, policy.rules.log_within
    return (
        f"results must stand in a log within {seconds:g} s, cosigned by {wanted} of {len(policy.witnesses)} witnesses"
    )

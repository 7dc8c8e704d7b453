"""`blindgate policy show|trust|distrust`."""

from typing import Annotated, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from blindgate.commands.options import Home, Json, PolicyPath
from blindgate.output import note, show
from blindgate.places import policy_file
from blindgate.policy import Policy
from blindgate_protocol.errors import PolicyError
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import KeyId, Name

app = typer.Typer(help="What this client allows, and whom it trusts.", no_args_is_help=True)

Kind = Annotated[Literal["publisher", "operator"], typer.Argument(help="Whose models, or whose nodes.")]
NameArgument = Annotated[str, typer.Argument(help="Your name for them.")]


@app.command("show")
def show_(policy: PolicyPath = None, home: Home = None, as_json: Json = False) -> None:
    """Show whom this client trusts, and the file where it says so."""
    loaded = Policy.load(policy_file(policy, home))
    rows = [{"may": "publish models", "name": name, "key": key} for name, key in loaded.publishers.items()]
    rows += [{"may": "run jobs", "name": name, "key": key} for name, key in loaded.operators.items()]
    if not as_json:
        note(f"policy {loaded.path}; lanes: {', '.join(loaded.rules.lanes)}")
    show(rows, as_json=as_json, empty="It trusts nobody. See: blindgate policy trust --help")


@app.command()
def trust(
    kind: Kind,
    name: NameArgument,
    key: Annotated[str, typer.Argument(help="Their key, ed25519:…, as they gave it to you outside of the gateway.")],
    policy: PolicyPath = None,
    home: Home = None,
) -> None:
    """Trust a publisher's models or an operator's nodes from now on."""
    try:
        TypeAdapter(KeyId).validate_python(key)
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        message = f"not a name and a key (ed25519: and 43 characters): {first_error(error)}"
        raise PolicyError(message) from error
    loaded = Policy.load(policy_file(policy, home))
    roots = loaded.publishers if kind == "publisher" else loaded.operators
    if roots.get(name, key) != key:
        message = f"{kind} {name!r} is already another key, {roots[name]}; use another name, or distrust that one first"
        raise PolicyError(message)
    roots[name] = key
    loaded.save()
    note(f"{loaded.path} now trusts {kind} {name!r} ({key})")


@app.command()
def distrust(kind: Kind, name: NameArgument, policy: PolicyPath = None, home: Home = None) -> None:
    """Trust them no longer."""
    loaded = Policy.load(policy_file(policy, home))
    roots = loaded.publishers if kind == "publisher" else loaded.operators
    if roots.pop(name, None) is None:
        message = f"the policy names no {kind} {name!r}"
        raise PolicyError(message)
    loaded.save()
    note(f"{loaded.path} no longer trusts {kind} {name!r}")

"""`blindgate operator …`: what the person who answers for nodes does, on a machine that is none of them.

An operator is an Ed25519 key. Clients name its id in their policies and gateways in their settings; it signs the keys of the
operator's nodes, each for a time.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from blindgate_node.commands import AsJson, explained, print_json
from blindgate_node.signer import load_key, load_or_create_key
from blindgate_protocol.errors import KeyStoreError, MalformedError
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.signing import first_error

operator_app = typer.Typer(
    name="operator", help="Answer for nodes: keep an operator's key and certify nodes with it.", no_args_is_help=True
)

_DAY = 86_400_000

KeyFile = Annotated[
    Path,
    typer.Option("--key", envvar="BLINDGATE_OPERATOR_KEY", help="The operator's key file."),
]
_DEFAULT_KEY = Path(typer.get_app_dir("blindgate")) / "operator.key"


@operator_app.command()
def key(*, key_file: KeyFile = _DEFAULT_KEY, as_json: AsJson = False) -> None:
    """Show the operator's key id; the key is made when there is none. Clients and gateways name the id."""
    with explained():
        found = load_or_create_key(key_file)
    if as_json:
        print_json({"operator": found.id, "file": str(key_file)})
    else:
        typer.echo(found.id)


@operator_app.command()
def certify(  # noqa: PLR0913
    node_key: Annotated[str, typer.Argument(help="The node's key id, as `blindgate node key` shows it.")],
    *,
    name: Annotated[str, typer.Option(help="The node's name: small letters, digits, dots and dashes.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the certificate.")] = Path(
        "certificate.json"
    ),
    days: Annotated[int, typer.Option(min=1, max=3650, help="For how long.")] = 90,
    key_file: KeyFile = _DEFAULT_KEY,
    as_json: AsJson = False,
) -> None:
    """Sign a node's key: from then on, receipts of that node are the operator's word."""
    with explained():
        operator = load_key(key_file)
        if operator is None:
            message = f"there is no operator's key at {key_file}: run `blindgate operator key --key {key_file}` first"
            raise KeyStoreError(message)
        now = time.time_ns() // 1_000_000
        try:
            certificate = NodeCertificate(
                node=node_key, name=name, operator=operator.id, issued=now, expires=now + days * _DAY
            )
        except ValidationError as error:
            raise MalformedError(first_error(error)) from error
        output.write_bytes(operator.sign(certificate).envelope.to_bytes())
    if as_json:
        print_json(
            {
                "node": node_key,
                "name": name,
                "operator": operator.id,
                "expires": certificate.expires,
                "file": str(output),
            }
        )
    else:
        typer.echo(f"{output}: node {name} is certified for {days} days. Copy it to the node.")

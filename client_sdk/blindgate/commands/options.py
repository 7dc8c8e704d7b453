"""The options that the SDK's commands share, and the client that they make."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from blindgate.client import Client
from blindgate_protocol.errors import GatewayError

Url: TypeAlias = Annotated[str, typer.Option("--url", envvar="BLINDGATE_URL", help="The gateway's address.")]
ApiKey: TypeAlias = Annotated[
    str, typer.Option("--api-key", envvar="BLINDGATE_API_KEY", help="Your tenant's API key.", show_envvar=True)
]
PolicyPath: TypeAlias = Annotated[
    Path | None, typer.Option("--policy", envvar="BLINDGATE_POLICY", help="Your policy file: whom you trust.")
]
Home: TypeAlias = Annotated[
    Path | None, typer.Option("--home", envvar="BLINDGATE_HOME", help="Where keys and bundles rest.")
]
Ca: TypeAlias = Annotated[str | None, typer.Option("--ca", help="A file of CA certificates to trust.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def connect(url: str, api_key: str, policy: Path | None, home: Path | None, ca: str | None = None) -> Client:
    """A client as the options say."""
    if not url or not api_key:
        message = "give --url and --api-key, or set BLINDGATE_URL and BLINDGATE_API_KEY"
        raise GatewayError(message)
    return Client(url, api_key, policy=policy, home=home, ca=ca)

"""The options that the SDK's commands share, and the client that they make."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from blindgate.output import note
from blindgate_models.validity import LONGEST_VALIDITY_DAYS
from blindgate_protocol.errors import CorpusError, GatewayError

if TYPE_CHECKING:
    from blindgate.client import Client
    from blindgate.model import Model


def path(text: str) -> Path:
    """A path that somebody typed. An empty one, as of a variable that is not set, would be the folder that this runs in."""
    from blindgate_rag.paths import path_of  # noqa: PLC0415  (help must not wait)

    try:
        return path_of(text, "the path")
    except CorpusError as error:
        raise typer.BadParameter(str(error)) from None


Url: TypeAlias = Annotated[str, typer.Option("--url", envvar="BLINDGATE_URL", help="The gateway's address.")]
ApiKey: TypeAlias = Annotated[
    str, typer.Option("--api-key", envvar="BLINDGATE_API_KEY", help="Your tenant's API key.", show_envvar=True)
]
PolicyPath: TypeAlias = Annotated[
    Path | None,
    typer.Option("--policy", envvar="BLINDGATE_POLICY", help="Your policy file: whom you trust.", parser=path),
]
Home: TypeAlias = Annotated[
    Path | None, typer.Option("--home", envvar="BLINDGATE_HOME", help="Where keys and bundles rest.", parser=path)
]
Ca: TypeAlias = Annotated[str | None, typer.Option("--ca", help="A file of CA certificates to trust.")]
Passphrase: TypeAlias = Annotated[
    str | None, typer.Option("--passphrase", envvar="BLINDGATE_PASSPHRASE", help="What the key store is sealed with.")
]
KeepCiphertexts: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-ciphertexts",
        help="Keep what is sent and what comes back beside the jobs' bundles, in bundles/ciphertexts, so that an auditor can "
        "evaluate them again.",
    ),
]
DataClass: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--data-class",
        metavar="NAME",
        help="What kind of data this is, by your policy's name for it: beside what the policy and the model say of the columns.",
    ),
]
ValidityDays: TypeAlias = Annotated[
    int, typer.Option("--days", min=1, max=LONGEST_VALIDITY_DAYS, help="How long what is signed is valid.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


Connect: TypeAlias = "Callable[[], Client]"
"""What a command that asks a gateway is given: a client as the options say, once it wants one."""


def asks_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `connect`, the options that say to whom and as whom."""
    shared = inspect.signature(_connect).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        command(connect=partial(_connect, **options), **given)

    own = (parameter for name, parameter in inspect.signature(command).parameters.items() if name != "connect")
    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*own, *shared.values())]
    # Typer reads a command's options from both.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def note_ciphertexts(client: "Client", model: "Model") -> None:
    """Tell where the ciphertexts were kept, and what they are not good for."""
    kept = client.bundles.ciphertexts
    if kept is None:
        return
    note(f"ciphertexts kept in {kept.folder}" + (f", but for {kept.lost} files, see above" if kept.lost else ""))
    document = model.manifest.document
    if document.determinism != "bit-exact":
        note(
            f"the manifest of {document.name} calls its determinism {document.determinism!r}: evaluated again, an honest result "
            "may differ, so the ciphertexts show what was computed on, and not that it was computed"
        )


def _connect(
    url: Url = "", api_key: ApiKey = "", policy: PolicyPath = None, home: Home = None, ca: Ca = None
) -> "Client":
    if not url or not api_key:
        message = "give --url and --api-key, or set BLINDGATE_URL and BLINDGATE_API_KEY"
        raise GatewayError(message)
    from blindgate.client import Client  # noqa: PLC0415  (a command that asks no gateway does not wait for it)

    return Client(url, api_key, policy=policy, home=home, ca=ca)

"""`blindgate models package`, and how such a package is published: models that compute in the clear, on nodes that are checked."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ConfigDict, ValidationError

from blindgate.client import Client
from blindgate.commands.options import Home, Json, Passphrase, ValidityDays, path
from blindgate.commands.publisher import key_store, publisher_key
from blindgate.model_makers import MAX_KEY_FILE_BYTES, MAX_ROOTS_BYTES, describe, made_by_certificate, made_by_key
from blindgate.output import note, show_one
from blindgate.uploads import upload
from blindgate_models.model_signatures import MadeBy
from blindgate_models.model_statements import SIGNATURE, Statement
from blindgate_models.plain_packages import (
    DEFAULT_INPUT_BYTES,
    DEFAULT_RESULT_BYTES,
    Table,
    open_plain_package,
    publish_plain,
    read_file,
)
from blindgate_models.validity import DAY, DEFAULT_VALIDITY_DAYS
from blindgate_protocol.errors import InputError
from blindgate_protocol.makers import MAX_SIGNATURE_BYTES
from blindgate_protocol.manifest import Api, Column, Output
from blindgate_protocol.messages import ModelOffer
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Millis, Value
from blindgate_protocol.weights import Kind


class _Schema(Value):
    model_config = ConfigDict(title="schema")

    columns: tuple[Column, ...]
    output: Output


def package(
    files: Annotated[
        Path,
        typer.Argument(help="The folder of the model's files: safetensors, JSON, text.", exists=True, file_okay=False),
    ],
    *,
    name: Annotated[str, typer.Option(help="What users will call the model.")],
    kind: Annotated[
        Kind,
        typer.Option(
            help="What opens the files: causal-lm and sentence-transformers as their libraries wrote them; torch-table, with an "
            "architecture.json; upstream, a server of OpenAI's API that runs beside the node."
        ),
    ],
    api: Annotated[
        Api | None,
        typer.Option(help="What may be asked; by default what the kind is for. An upstream has chat or embeddings."),
    ] = None,
    served_as: Annotated[str | None, typer.Option(help="upstream: by which name its server knows the model.")] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            help="torch-table: a JSON file with the columns that it reads and what its scores mean, as a manifest has them.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder to write; NAME.bgweights by default.", parser=path),
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Above every one that was published under this name.")] = 1,
    summary: Annotated[str, typer.Option(help="A sentence for the people who will use it.")] = "",
    data_class: Annotated[
        str | None, typer.Option(help="What kind of data its requests are, by a name that policies use, such as phi.")
    ] = None,
    rows_per_tenant: Annotated[
        int | None, typer.Option(min=1, help="How many requests, or rows, a tenant may ask for in all.")
    ] = None,
    days: ValidityDays = DEFAULT_VALIDITY_DAYS,
    request_bytes: Annotated[int, typer.Option(min=1, help="The largest request, sealed.")] = DEFAULT_INPUT_BYTES,
    answer_bytes: Annotated[int, typer.Option(min=1, help="The largest answer, sealed.")] = DEFAULT_RESULT_BYTES,
    signature: Annotated[
        Path | None,
        typer.Option(
            help="Who made the model signed its folder by OpenSSF Model Signing: that file, model.sig. It must be over exactly "
            "these files; git's files are left out of the package where the signature leaves them out, and so is the signature.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    signer_key: Annotated[
        Path | None, typer.Option(help="The maker's public key, in PEM.", exists=True, dir_okay=False)
    ] = None,
    signer_root: Annotated[
        Path | None,
        typer.Option(
            help="Or the root certificate, in PEM, that you believe to vouch for the maker.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    signer_subject: Annotated[
        str | None,
        typer.Option(
            help="Whom the maker's certificate must name, such as 'CN=Vendor,O=Vendor Inc'. A root may vouch for many."
        ),
    ] = None,
    home: Home = None,
    passphrase: Passphrase = None,
    as_json: Json = False,
) -> None:
    """Sign a model that computes in the clear: each of its files by digest, in one package.

    With --signature, only if who made the model signed exactly these files: the manifest then names the maker, and nodes verify the
    signature again.

    Nodes run it only inside a trusted execution environment that clients check themselves. No pickle is taken, and no code.
    Give the package's folder to the nodes' operators, and publish it: blindgate models publish FOLDER.
    """
    table = None if schema is None else _read_schema(schema)
    now = int(time.time() * 1000)
    maker = _maker(files, signature, signer_key, signer_root, signer_subject, now)
    target = Path(f"{name}.bgweights") if output is None else output
    try:
        signed = publish_plain(
            files,
            target,
            publisher_key(key_store(home, passphrase)),
            name=name,
            version=version,
            kind=kind,
            api=api,
            issued=now,
            expires=now + days * DAY,
            summary=summary,
            served_as=served_as,
            table=table,
            rows_per_tenant=rows_per_tenant,
            data_class=data_class,
            input_bytes=request_bytes,
            result_bytes=answer_bytes,
            made_by=None if maker is None else maker[0],
        )
    except ValidationError as error:
        raise InputError(first_error(error)) from error
    document = signed.document
    shown: dict[str, Any] = {
        "package": str(target),
        "name": document.name,
        "version": document.version,
        "asked_by": document.api,
        "digest": signed.digest,
        "publisher": signed.signer,
    }
    if maker is not None:
        made_by, statement = maker
        shown["made_by"] = describe(made_by.maker)
        shown["left_out"] = ", ".join(statement.unsigned(files, made_by.data)) or "nothing"
        if beyond := sorted(set(statement.ignored) - set(statement.unsigned(files, made_by.data))):
            shown["not_signed"] = ", ".join(beyond)
    show_one(shown, as_json=as_json)


def publish(connect: Callable[[], Client], folder: Path) -> None:
    """Publish a package's manifest and list."""
    opened = open_plain_package(folder)
    with connect() as client:
        upload(client.transport, opened.weights)
        client.transport.post("/v1/models", ModelOffer(manifest=opened.manifest.envelope), ModelOffer)
    document = opened.manifest.document
    note(f"published {document.name} version {document.version}, signed by {opened.manifest.signer}")


def _maker(
    files: Path, signature: Path | None, key: Path | None, root: Path | None, subject: str | None, now: Millis
) -> tuple[MadeBy, Statement] | None:
    if signature is None:
        if key is not None or root is not None or subject is not None:
            message = "--signer-key, --signer-root and --signer-subject go with --signature"
            raise InputError(message)
        if (files / SIGNATURE).exists():
            message = (
                f"{files / SIGNATURE}: who made this model signed its folder: give --signature with it, and --signer-key or "
                "--signer-root, so that the signature is verified; or take it out of the folder"
            )
            raise InputError(message)
        return None
    data = read_file(signature, MAX_SIGNATURE_BYTES)
    if root is not None and key is None:
        return made_by_certificate(read_file(root, MAX_ROOTS_BYTES), data, now=now, subject=subject)
    if key is None or root is not None or subject is not None:
        message = "--signature goes with --signer-key, or with --signer-root and, if you like, --signer-subject"
        raise InputError(message)
    return made_by_key(read_file(key, MAX_KEY_FILE_BYTES), data)


def _read_schema(file: Path) -> Table:
    try:
        schema = _Schema.model_validate_json(json.dumps(json.loads(file.read_bytes())))
    except ValidationError as error:
        message = f"{file}: {first_error(error)}"
        raise InputError(message) from error
    except ValueError as error:
        message = f"{file}: not JSON: {error}"
        raise InputError(message) from error
    return Table(schema.columns, schema.output)

"""Packages of models that compute in the clear: a folder with the publisher's signed manifest, the list of files, and the files.

    manifest.json   the signed manifest, of lane `tee`
    weights.json    its server part: the list (`blindgate_protocol.weights`)
    files/          the model's own files

`publish_plain` is the publisher's act: it lists and hashes the files, names, dates and signs. The gateway gets the first two; a
node's operator gets all three, and his node checks each file before it is loaded.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blindgate_models.validity import DAY, DEFAULT_VALIDITY_DAYS
from blindgate_models.weights import list_folder
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import InputError, PackageDigestError, PackageError
from blindgate_protocol.manifest import Api, Column, Disclosure, Limits, Manifest, Output, Privacy
from blindgate_protocol.signing import MAX_ENVELOPE_BYTES, Envelope, Signed, SigningKey, open_signed
from blindgate_protocol.values import BlobRef
from blindgate_protocol.weights import APIS, Kind, Weights

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.json"
FILES: Final = "files"

DEFAULT_INPUT_BYTES: Final = 8 << 20
DEFAULT_RESULT_BYTES: Final = 64 << 20
DEFAULT_ROWS: Final = 65_536

_TO_CLIENT: Final = ("the answers", "nothing of the weights but what answers tell of them")
_TO_NODE: Final = ("requests and answers, inside of the environment that the client has checked", "the weights")


@dataclass(frozen=True)
class Table:
    """What a model of tables reads, and what its scores mean."""

    columns: tuple[Column, ...]
    output: Output


@dataclass(frozen=True)
class PlainPackage:
    """A package whose signature was verified. Its files were not looked at."""

    manifest: Signed[Manifest]
    weights: bytes


def publish_plain(  # noqa: PLR0913  (what a publisher decides)
    files: Path,
    package: Path,
    publisher: SigningKey,
    *,
    name: str,
    version: int,
    kind: Kind,
    issued: int,
    api: Api | None = None,
    summary: str = "",
    served_as: str | None = None,
    table: Table | None = None,
    expires: int | None = None,
    rows_per_tenant: int | None = None,
    data_class: str | None = None,
    input_bytes: int = DEFAULT_INPUT_BYTES,
    result_bytes: int = DEFAULT_RESULT_BYTES,
) -> Signed[Manifest]:
    """Sign the model whose files lie in the folder `files` and write its package to the folder `package`, which must not be there.

    Args:
        files: the model's files; they are linked into the package where the disk allows it, and copied where not.
        package: where the package is written.
        publisher: the key that signs.
        name: what users call it.
        version: above every one that was published under this name.
        kind: what opens the files.
        issued: from when it is valid, in milliseconds since 1970.
        api: what may be asked; by default the one that the kind has.
        summary: a sentence for people.
        served_as: by which name a server knows the model, of kind `upstream`.
        table: of kind `torch-table`.
        expires: until when; a year after `issued` by default.
        rows_per_tenant: how many rows (requests, of chats) one tenant may ask for in all; as many as it likes by default.
        data_class: what kind of data its requests are, by the name that policies use.
        input_bytes: the largest request, sealed.
        result_bytes: the largest answer, sealed.

    Raises `PackageError` for files that no node would take, `InputError` for what does not fit together.
    """
    apis = APIS[kind]
    if api is None:
        api = apis[0]
    if api not in apis:
        message = f"api: a model of kind {kind} is asked by {' or '.join(apis)}, not by {api}"
        raise InputError(message)
    if (table is not None) != (api == "table"):
        message = "a schema of columns and output goes with a model of tables, and with no other"
        raise InputError(message)
    listed = Weights(kind=kind, served_as=served_as, resources=list_folder(files)).to_bytes()
    manifest = Manifest(
        name=name,
        version=version,
        summary=summary,
        family=kind,
        lane="tee",
        api=api,
        issued=issued,
        expires=issued + DEFAULT_VALIDITY_DAYS * DAY if expires is None else expires,
        columns=() if table is None else table.columns,
        output=None if table is None else table.output,
        server=BlobRef(digest=digest(listed), size=len(listed)),
        evaluation_key=False,
        determinism="varies",
        limits=Limits(
            rows_per_job=1 if table is None else DEFAULT_ROWS,
            input_bytes=input_bytes,
            result_bytes=result_bytes,
            evaluation_key_bytes=0,
        ),
        privacy=Privacy(mode="model_public", rows_per_tenant=rows_per_tenant),
        discloses=Disclosure(to_client=_TO_CLIENT, to_node=_TO_NODE),
        data_class=data_class,
    )
    signed = publisher.sign(manifest)
    _write(package, files, {MANIFEST: signed.envelope.to_bytes(), WEIGHTS: listed})
    return signed


def open_plain_package(package: Path) -> PlainPackage:
    """Read a package's manifest and list, and check that they belong together. The files are the node's to check.

    Raises `PackageError`, `EnvelopeError`, `SignatureError` or `PackageDigestError`.
    """
    manifest = open_signed(Envelope.from_bytes(read_file(package / MANIFEST, MAX_ENVELOPE_BYTES)), Manifest)
    document = manifest.document
    if document.lane != "tee":
        message = f"{package}: model {document.name!r} runs in lane {document.lane!r}: its package is one file"
        raise PackageError(message)
    return PlainPackage(manifest, read_list(package, document))


def read_list(package: Path, manifest: Manifest) -> bytes:
    """The list that a manifest names. Raises `PackageError` or `PackageDigestError`."""
    listed = read_file(package / WEIGHTS, manifest.server.size)
    if (len(listed), digest(listed)) != (manifest.server.size, manifest.server.digest):
        message = f"{WEIGHTS}: not the list that the manifest of model {manifest.name!r} names"
        raise PackageDigestError(message)
    return listed


def read_file(file: Path, most: int) -> bytes:
    """A file of a package, of at most so many bytes. Raises `PackageError`."""
    try:
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        message = f"{file.name}: {error.strerror}"
        raise PackageError(message) from error
    if len(data) > most:
        message = f"{file.name}: more than the {most} bytes that it may have"
        raise PackageError(message)
    return data


def _write(package: Path, files: Path, documents: dict[str, bytes]) -> None:
    temporary = package.with_name(f".{package.name}.{os.getpid()}")
    try:
        if package.exists():
            message = f"{package} is there already: name another folder, or remove it"
            raise InputError(message)
        shutil.copytree(files, temporary / FILES, copy_function=_link)
        for name, data in documents.items():
            (temporary / name).write_bytes(data)
        temporary.replace(package)
    except OSError as error:
        message = f"{package} cannot be written: {error.strerror}"
        raise PackageError(message) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
    return target

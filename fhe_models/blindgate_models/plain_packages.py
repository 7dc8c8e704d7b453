"""Packages of models that compute in the clear: a folder with the publisher's signed manifest, the list of files, and the files.

    manifest.json   the signed manifest, of lane `tee`
    weights.json    its server part: the list (`blindgate_protocol.weights`)
    files/          the model's own files
    model.sig       where their maker signed them before: that signature (`blindgate_models.model_signatures`)

`publish_plain` is the publisher's act: it lists and hashes the files, holds them against their maker's signature, names, dates and
signs. The gateway gets the first two; a node's operator gets all, and his node checks each file before it is loaded.
"""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blindgate_models.model_signatures import MadeBy
from blindgate_models.model_statements import SIGNATURE
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
    """A package whose signatures were verified. Its files were not looked at."""

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
    made_by: MadeBy | None = None,
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
        made_by: who signed the files before, and that signature. It must be over exactly these files, but for what
            `Statement.unsigned` finds at the folder's top: that is left out of the package.

    Raises `PackageError` for files that no node would take, or that are not the ones their maker signed (`PackageDigestError`,
    `SignatureError`), and `InputError` for what does not fit together.
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
    signed_before = None if made_by is None else made_by.statement()
    left_out = () if made_by is None or signed_before is None else signed_before.unsigned(files, made_by.data)
    resources = list_folder(files, but=left_out)
    if signed_before is not None:
        signed_before.check(resources)
    listed = Weights(kind=kind, served_as=served_as, resources=resources).to_bytes()
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
        maker=None if made_by is None else made_by.maker,
    )
    signed = publisher.sign(manifest)
    documents = {MANIFEST: signed.envelope.to_bytes(), WEIGHTS: listed}
    if made_by is not None:
        documents[SIGNATURE] = made_by.data
    _write(package, files, documents, left_out)
    return signed


def open_plain_package(package: Path) -> PlainPackage:
    """Read a package's manifest and list, and check that they belong together. The files are the node's to check.

    Where the manifest names who made the files, the maker's signature must be there, and over the same list.

    Raises `PackageError`, `EnvelopeError`, `SignatureError` or `PackageDigestError`.
    """
    manifest = open_signed(Envelope.from_bytes(read_file(package / MANIFEST, MAX_ENVELOPE_BYTES)), Manifest)
    document = manifest.document
    if document.lane != "tee":
        message = f"{package}: model {document.name!r} runs in lane {document.lane!r}: its package is one file"
        raise PackageError(message)
    listed = read_list(package, document)
    check_maker(package, document, Weights.from_bytes(listed))
    return PlainPackage(manifest, listed)


def read_list(package: Path, manifest: Manifest) -> bytes:
    """The list that a manifest names. Raises `PackageError` or `PackageDigestError`."""
    listed = read_file(package / WEIGHTS, manifest.server.size)
    if (len(listed), digest(listed)) != (manifest.server.size, manifest.server.digest):
        message = f"{WEIGHTS}: not the list that the manifest of model {manifest.name!r} names"
        raise PackageDigestError(message)
    return listed


def check_maker(package: Path, manifest: Manifest, weights: Weights) -> None:
    """Hold the list against the signature of the files' maker, where the manifest names one.

    It must verify under the key that the manifest names, and be over exactly the listed files. Raises `PackageError`,
    `PackageDigestError` or `SignatureError`.
    """
    if manifest.maker is not None:
        signature = read_file(package / SIGNATURE, manifest.maker.signature.size)
        MadeBy(manifest.maker, signature).statement().check(weights.resources)


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


def _write(package: Path, files: Path, documents: dict[str, bytes], left_out: Collection[str]) -> None:
    temporary = package.with_name(f".{package.name}.{os.getpid()}")
    try:
        if package.exists():
            message = f"{package} is there already: name another folder, or remove it"
            raise InputError(message)
        shutil.copytree(
            files,
            temporary / FILES,
            copy_function=_link,
            ignore=lambda folder, _: left_out if Path(folder) == files else (),
        )
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

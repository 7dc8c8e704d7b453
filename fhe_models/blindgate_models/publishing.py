"""From a compiled model to a signed package, and back again with everything checked.

`publish` is the publisher's act: it names, dates and signs. `open_package` is what a client or node does with a package that came
as a file; it establishes:

1. the file is a well-formed package (`package.read_package`);
2. its manifest's signature verifies;
3. both parts are the ones that the manifest names, by size and digest.

Whether the publisher is to be trusted, and whether the manifest has expired, is `blindgate_protocol.manifest.check_manifest`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from blindgate_models.clients import client_half
from blindgate_models.compilers.compiled import CompiledModel, coarse
from blindgate_models.package import PackageFiles, read_package, serialise_part, write_package
from blindgate_models.validity import DAY, DEFAULT_VALIDITY_DAYS
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.errors import PackageDigestError
from blindgate_protocol.manifest import Accuracy, Column, Disclosure, Limits, Manifest, Output
from blindgate_protocol.signing import Signed, SigningKey, open_signed
from blindgate_protocol.values import BlobRef

DEFAULT_DECIMALS = 4
MOST_DECIMALS = 12


@dataclass(frozen=True)
class Package:
    """A model package whose signature and digests were verified."""

    manifest: Signed[Manifest]
    client: bytes
    server: bytes


def publish(  # noqa: PLR0913  (what a publisher decides)
    compiled: CompiledModel,
    publisher: SigningKey,
    *,
    name: str,
    version: int,
    summary: str,
    issued: int,
    expires: int | None = None,
    decimals: int | None = None,
    accuracy: Accuracy | None = None,
    rows_per_tenant: int | None = None,
) -> bytes:
    """Sign `compiled` as version `version` of model `name`. Gives the package's bytes.

    Args:
        compiled: the model.
        publisher: the key that signs.
        name: what users call it.
        version: above every one that was published under this name.
        summary: a sentence for people.
        issued: from when it is valid, in milliseconds since 1970.
        expires: until when; a year after `issued` by default.
        decimals: how many decimals of a number leave the SDK; by default those that cover the noise, but not over 4 or, of a
            regression that is exact to more, over those: millionths keep the digits that tell them apart.
        accuracy: how well it does; by default what the compiler found on the calibration rows.
        rows_per_tenant: how many rows one tenant may ask for in all; as many as it likes by default.

    Raises:
        ValueError: so many decimals that the noise of the ciphertexts would show.
    """
    half = client_half(compiled.family).from_part(compiled.client)
    finest = finest_decimals(half.error_bound * compiled.steepness)
    if decimals is not None and decimals > finest:
        message = (
            f"decimals: got {decimals}, expected at most {finest}: beyond, a number shows the noise of its encryption"
        )
        raise ValueError(message)
    client, server = serialise_part(compiled.client), serialise_part(compiled.server)
    report = compiled.report
    stated = on_calibration(compiled) if accuracy is None else accuracy
    if compiled.privacy.mode == "model_private":
        stated = stated.model_copy(update={"max_error": coarse(stated.max_error)})
    manifest = Manifest(
        name=name,
        version=version,
        summary=summary,
        family=compiled.family,
        lane="fhe",
        issued=issued,
        expires=issued + DEFAULT_VALIDITY_DAYS * DAY if expires is None else expires,
        columns=columns_of(compiled),
        output=output_of(
            compiled, half.outputs, min(_default_decimals(compiled), finest) if decimals is None else decimals
        ),
        client=BlobRef(digest=digest(client), size=len(client)),
        server=BlobRef(digest=digest(server), size=len(server)),
        key_parameters=digest(canonical(half.key_parameters)),
        evaluation_key=report["evaluation_key_bytes"] > 0,
        encryption=compiled.encryption,
        determinism=compiled.determinism,
        limits=Limits(
            rows_per_job=half.rows_per_job,
            input_bytes=half.input_bytes(half.rows_per_job),
            result_bytes=half.result_bytes(half.rows_per_job),
            evaluation_key_bytes=report["evaluation_key_bytes"],
        ),
        privacy=compiled.privacy.model_copy(update={"rows_per_tenant": rows_per_tenant}),
        discloses=Disclosure(
            to_client=tuple(compiled.discloses["to_client"]), to_node=tuple(compiled.discloses["to_node"])
        ),
        accuracy=stated,
    )
    envelope = publisher.sign(manifest).envelope.to_bytes()
    return write_package(PackageFiles(envelope, client, server))


def columns_of(compiled: CompiledModel) -> tuple[Column, ...]:
    """The columns as the manifest gives them."""
    return tuple(Column(**column) for column in compiled.columns)


def output_of(compiled: CompiledModel, scores: int, decimals: int) -> Output:
    """What becomes of so many `scores`, as the manifest gives it."""
    labels = tuple(compiled.labels or ())
    return Output(task=compiled.task, labels=labels, scores=scores, link=compiled.link, decimals=decimals)


def on_calibration(compiled: CompiledModel, plain: float | None = None) -> Accuracy:
    """What the compiler found on the calibration rows; `plain`: the plaintext model's accuracy on rows that it had not seen."""
    report = compiled.report
    return Accuracy(
        rows=report["rows"], plain=plain, agreement=report["agreement_plain"], max_error=report["max_error"]
    )


def _default_decimals(compiled: CompiledModel) -> int:
    """Four, or as many as a regression is exact to where those are more."""
    error = compiled.encryption.error_bound * compiled.steepness
    if compiled.task != "regression" or error == 0:
        return DEFAULT_DECIMALS
    return max(DEFAULT_DECIMALS, math.ceil(-math.log10(error)))


def finest_decimals(error_bound: float) -> int:
    """The most decimals with which rounding covers an error: a step is no smaller than the error in both directions."""
    if error_bound == 0:
        return MOST_DECIMALS
    return max(-MOST_DECIMALS, min(MOST_DECIMALS, math.floor(-math.log10(2 * error_bound))))


def open_package(source: Path | bytes) -> Package:
    """Read a package and check it (steps 1 to 3 above).

    Raises `PackageError`, `EnvelopeError`, `SignatureError` or `PackageDigestError`.
    """
    files = read_package(source)  # 1
    manifest = open_signed(files.manifest_envelope, Manifest)  # 2
    for part, data, named in (  # 3
        ("client", files.client, manifest.document.encrypted().client),
        ("server", files.server, manifest.document.server),
    ):
        if (len(data), digest(data)) != (named.size, named.digest):
            message = f"the {part} part of model {manifest.document.name!r} is not the one that its manifest names"
            raise PackageDigestError(message)
    return Package(manifest, files.client, files.server)

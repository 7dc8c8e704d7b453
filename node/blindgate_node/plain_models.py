"""The plaintext models of this node: checked against what their publishers signed, and loaded, before anybody is told of them.

The operator names a folder (`models`). Each folder in it is one package (`blindgate_models.plain_packages`). At start, of each:

1. the manifest is signed by a publisher that this node trusts, is in time, and of lane `tee`;
2. `weights.json` has the size and digest that it names, and is of the manifest's family; where the manifest names who made the
   files, `model.sig` is that maker's signature, and over exactly the listed files;
3. each file has the digest that the list names, and what is loaded is a copy of exactly those bytes (`blindgate_models.weights`).

A model that fails is named in the error, and the node does not start: an operator who asked for it should not find out from his
clients. Evidence is shown for the models that are here and no other (`offers`), so when a client gets it, the weights are loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blindgate_models.plain_packages import FILES, MANIFEST, WEIGHTS, check_maker, read_file, read_list
from blindgate_models.weights import opened_weights
from blindgate_node.backends.choice import open_backend
from blindgate_node.backends.interface import Backend
from blindgate_node.backends.upstream import Upstream
from blindgate_node.packages import Packages
from blindgate_node.settings import Settings
from blindgate_protocol.errors import BackendError, BlindgateError, PackageError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import MAX_ENVELOPE_BYTES, Envelope, Signed
from blindgate_protocol.values import Millis
from blindgate_protocol.weights import APIS, Weights

Log = Callable[..., None]


@dataclass(frozen=True)
class PlainModel:
    """A model that is loaded.

    Attributes:
        expire: lets go of what it kept between requests and has not needed for a while.
    """

    manifest: Signed[Manifest]
    backend: Backend
    expire: Callable[[], None] = lambda: None


def load_models(settings: Settings, packages: Packages, now: Millis, log: Log) -> Mapping[str, PlainModel]:
    """Load every model of the settings' folder. Gives them by their manifests' digests; none where no folder is named.

    Raises `PackageError`, `PackageDigestError`, `ManifestError`, `SignatureError`, `UntrustedSignerError` or `BackendError`, which
    names the folder.
    """
    loaded: dict[str, PlainModel] = {}
    for folder in _folders(settings):
        try:
            model = _load(folder, settings, packages, now)
        except BlindgateError as error:
            message = f"{folder}: {error}"
            raise type(error)(message) from error
        document = model.manifest.document
        log("model.loaded", model=document.name, version=document.version, manifest=model.manifest.digest)
        loaded[model.manifest.digest] = model
    return loaded


def _folders(settings: Settings) -> list[Path]:
    if settings.models is None:
        return []
    try:
        return sorted(entry for entry in settings.models.iterdir() if entry.is_dir())
    except OSError as error:
        message = f"the folder of models {settings.models} cannot be read: {error.strerror}"
        raise PackageError(message) from error


def _load(folder: Path, settings: Settings, packages: Packages, now: Millis) -> PlainModel:
    # 1.
    manifest = packages.open_manifest(Envelope.from_bytes(read_file(folder / MANIFEST, MAX_ENVELOPE_BYTES)), now)
    document = manifest.document
    if document.lane != "tee" or document.api is None:
        message = f"{MANIFEST}: model {document.name!r} runs in lane {document.lane!r}; here are those of lane 'tee'"
        raise PackageError(message)
    # 2.
    weights = Weights.from_bytes(read_list(folder, document))
    if weights.kind != document.family or document.api not in APIS[weights.kind]:
        message = (
            f"{WEIGHTS}: kind {weights.kind!r} of a model of family {document.family!r} that is asked by {document.api}"
        )
        raise PackageError(message)
    check_maker(folder, document, weights)
    # 3.
    if document.api == "corpus":
        return _corpus_model(manifest, folder, weights, settings)
    if weights.served_as is None:
        return PlainModel(
            manifest, open_backend(weights.kind, folder / FILES, weights.resources, device=settings.device)
        )
    if weights.resources:  # the server's own files, where the publisher lists them
        with opened_weights(folder / FILES, weights.resources):
            pass
    if settings.upstream is None:
        message = f"model {document.name!r} is served by another server: set BLINDGATE_NODE_UPSTREAM to its address"
        raise BackendError(message)
    key = None if settings.upstream_key is None else settings.upstream_key.get_secret_value()
    return PlainModel(manifest, Upstream(settings.upstream, weights.served_as, key=key))


def _corpus_model(manifest: Signed[Manifest], folder: Path, weights: Weights, settings: Settings) -> PlainModel:
    # Here, not above: a node that searches no corpus needs none of retrieval's libraries.
    from blindgate_node.backends.corpora import open_corpora  # noqa: PLC0415

    corpora = open_corpora(
        folder / FILES,
        weights,
        name=manifest.document.name,
        device=settings.device,
        most_bytes=settings.corpus_bytes,
        seconds=settings.corpus_seconds,
    )
    return PlainModel(manifest, corpora, corpora.expire)

"""The folder of plaintext models that a node is started with: it loads all of them, as they were signed, or does not start."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blindgate_models.plain_packages import FILES, MANIFEST, WEIGHTS, Table, publish_plain
from blindgate_node.packages import Packages
from blindgate_node.plain_models import PlainModel, load_models
from blindgate_node.settings import Settings
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import (
    BackendError,
    BlindgateError,
    EnvelopeError,
    ExpiredManifestError,
    PackageDigestError,
    PackageError,
    SignatureError,
    UntrustedSignerError,
)
from blindgate_protocol.manifest import Column, Manifest, Output
from blindgate_protocol.signing import MAX_ENVELOPE_BYTES, Envelope, SigningKey, open_signed
from blindgate_protocol.values import BlobRef
from blindgate_protocol.weights import Weights
from brokerage import make_manifest, now_ms

PUBLISHER, STRANGER = SigningKey.generate(), SigningKey.generate()
DAY = 86_400_000
TABLE = Table(
    (Column(name="age", minimum=0.0, maximum=120.0),), Output(task="regression", scores=1, link="identity", decimals=3)
)


def package(folder: Path, publisher: SigningKey = PUBLISHER, **changes: Any) -> Path:
    """A package of a model that a server serves, or of what `changes` say."""
    files = folder.parent.parent / f"{folder.name}.files"
    files.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(exist_ok=True)
    (files / "config.json").write_text('{"a": 1}')
    given: dict[str, Any] = {"kind": "upstream", "api": "chat", "served_as": "m", "name": folder.name, "version": 1}
    publish_plain(files, folder, publisher, **({"issued": now_ms() - 1000} | given | changes))
    return folder


def load(models: Path | None, **changes: Any) -> tuple[dict[str, PlainModel], list[dict[str, Any]]]:
    """What a node loads, and what it logs of it."""
    data = Path("/nonexistent") if models is None else models.parent
    settings = Settings(
        data=data, publishers=(PUBLISHER.id,), models=models, **({"upstream": "http://127.0.0.1:9"} | changes)
    )
    packages = Packages(data / "parts", publishers=settings.publishers, most_bytes=1 << 20) if models else None
    said: list[dict[str, Any]] = []
    loaded = load_models(settings, packages, now_ms(), lambda event, **told: said.append({"event": event} | told))  # type: ignore[arg-type]
    return dict(loaded), said


def test_each_folder_is_a_model_and_is_told_of(tmp_path: Path) -> None:
    """By its manifest's digest; files beside the folders are nobody's."""
    models = tmp_path / "models"
    for name in ("one", "two"):
        package(models / name)
    (models / "notes.txt").write_text("mine")
    loaded, said = load(models)
    assert [model.manifest.document.name for model in loaded.values()] == ["one", "two"]
    assert [line["manifest"] for line in said] == list(loaded)
    assert {model.manifest.document.family for model in loaded.values()} == {"upstream"}


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    """One that is named and not there is an error."""
    assert load(None) == ({}, [])
    with pytest.raises(PackageError, match="cannot be read"):
        load(tmp_path / "models")


def resign(folder: Path, signer: SigningKey = PUBLISHER, **changes: Any) -> None:
    """Another manifest in the place of a package's own."""
    manifest = open_signed(Envelope.from_bytes((folder / MANIFEST).read_bytes()), Manifest).document
    changed = Manifest(**({name: getattr(manifest, name) for name in Manifest.model_fields} | changes))
    (folder / MANIFEST).write_bytes(signer.sign(changed).envelope.to_bytes())


def another_list(folder: Path, **changes: Any) -> None:
    """Another list, which the publisher signs."""
    weights = Weights.from_bytes((folder / WEIGHTS).read_bytes())
    listed = Weights(**({name: getattr(weights, name) for name in Weights.model_fields} | changes)).to_bytes()
    (folder / WEIGHTS).write_bytes(listed)
    resign(folder, server=BlobRef(digest=digest(listed), size=len(listed)))


def change_a_file(folder: Path) -> None:
    """A byte of it; the package's file may be a link to the publisher's."""
    file = folder / FILES / "config.json"
    file.unlink()
    file.write_text('{"a": 2}')


def link_a_file(folder: Path) -> None:
    """The right bytes, somewhere else."""
    file = folder / FILES / "config.json"
    elsewhere = folder.parent.parent / "elsewhere.json"
    elsewhere.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(elsewhere)


def put_bytes(name: str, data: bytes) -> Callable[[Path], object]:
    """These bytes in the place of a document."""
    return lambda folder: (folder / name).write_bytes(data)


def cut_manifest(folder: Path) -> None:
    """Another payload under the publisher's signature."""
    envelope = json.loads((folder / MANIFEST).read_bytes())
    other = json.loads(STRANGER.sign(make_manifest()).envelope.to_bytes())
    (folder / MANIFEST).write_text(json.dumps(envelope | {"payload": other["payload"]}))


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        pytest.param(lambda f: resign(f, STRANGER), UntrustedSignerError, id="another publisher's manifest"),
        pytest.param(cut_manifest, SignatureError, id="another manifest under the signature"),
        pytest.param(put_bytes(MANIFEST, b"{}"), EnvelopeError, id="no manifest"),
        pytest.param(put_bytes(MANIFEST, b" " * (MAX_ENVELOPE_BYTES + 1)), PackageError, id="a manifest without end"),
        pytest.param(lambda f: (f / MANIFEST).unlink(), PackageError, id="a manifest that is missing"),
        pytest.param(
            lambda f: resign(f, issued=now_ms() - 2 * DAY, expires=now_ms() - DAY),
            ExpiredManifestError,
            id="a manifest that has expired",
        ),
        pytest.param(
            lambda f: (f / MANIFEST).write_bytes(PUBLISHER.sign(make_manifest()).envelope.to_bytes()),
            PackageError,
            id="a manifest of lane fhe",
        ),
        pytest.param(put_bytes(WEIGHTS, b"{}"), PackageDigestError, id="another list"),
        pytest.param(lambda f: (f / WEIGHTS).unlink(), PackageError, id="a list that is missing"),
        pytest.param(lambda f: resign(f, family="causal-lm"), PackageError, id="a family that the list has not"),
        pytest.param(
            lambda f: another_list(f, kind="sentence-transformers", served_as=None),
            PackageError,
            id="a kind that the manifest has not",
        ),
        pytest.param(lambda f: another_list(f, served_as="other"), None, id="(a list that was signed is good)"),
        pytest.param(change_a_file, PackageDigestError, id="a file that was changed"),
        pytest.param(link_a_file, PackageError, id="a file that is a link"),
        pytest.param(lambda f: (f / FILES / "config.json").unlink(), PackageError, id="a file that is missing"),
    ],
)
def test_a_package_that_was_tampered_with_ends_the_start(
    tmp_path: Path, spoil: Callable[[Path], object], refusal: type[BlindgateError] | None
) -> None:
    """The error names the folder."""
    folder = package(tmp_path / "models" / "one")
    spoil(folder)
    if refusal is None:
        assert load(folder.parent)[0]
        return
    with pytest.raises(refusal, match="models/one: "):
        load(folder.parent)


def test_a_model_that_is_asked_otherwise_than_its_kind_can_be_is_refused(tmp_path: Path) -> None:
    """A table's weights under a manifest that is asked for chats."""
    folder = package(tmp_path / "models" / "one", kind="torch-table", api=None, served_as=None, table=TABLE)
    resign(folder, api="chat", columns=(), output=None)
    with pytest.raises(PackageError, match="asked by chat"):
        load(folder.parent)


def test_a_served_model_wants_its_server(tmp_path: Path) -> None:
    """On loopback: its address is what the operator sets."""
    folder = package(tmp_path / "models" / "one")
    with pytest.raises(BackendError, match="BLINDGATE_NODE_UPSTREAM"):
        load(folder.parent, upstream=None)
    with pytest.raises(BackendError, match="expected http://127"):
        load(folder.parent, upstream="http://192.0.2.1:80")

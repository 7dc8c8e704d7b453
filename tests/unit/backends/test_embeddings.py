"""Embeddings by real MiniLM weights: the library's own vectors, from a folder that was checked, with no network."""

import base64
import importlib
import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_models.weights import list_folder
from blindgate_node.backends.choice import open_backend
from blindgate_node.backends.embeddings import SentenceEmbeddings
from blindgate_node.backends.requests import EmbeddingRequest, read_embedding
from blindgate_protocol.errors import InputError, PackageError
from plaintext_models import minilm

TEXTS = ("The patient was given antibiotics.", "She received a course of penicillin.", "The bond's yield fell in May.")


@pytest.fixture(scope="module")
def model() -> SentenceEmbeddings:
    """MiniLM, opened as a node opens it."""
    folder = minilm()
    opened = open_backend("sentence-transformers", folder, list_folder(folder), device="cpu")
    assert isinstance(opened, SentenceEmbeddings)
    return opened


def vectors(answer: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The numbers of an answer."""
    return np.array([entry["embedding"] for entry in answer["data"]], dtype=np.float32)


def test_texts_of_one_meaning_are_closer_than_of_two(model: SentenceEmbeddings, no_sockets: list[str]) -> None:
    """And the vectors are those that sentence-transformers gives when it is called directly."""
    answer = model.embed(EmbeddingRequest(model="minilm", input=TEXTS))
    numbers = vectors(answer)
    likeness = numbers @ numbers.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2
    assert answer["usage"]["prompt_tokens"] > 3 * 5
    library = importlib.import_module("sentence_transformers")
    direct = library.SentenceTransformer(str(minilm()), device="cpu", local_files_only=True)
    np.testing.assert_allclose(numbers, direct.encode(list(TEXTS)), atol=1e-6)
    assert not no_sockets


def test_base64_is_the_same_numbers(model: SentenceEmbeddings) -> None:
    """The openai package asks for base64 unless it is told otherwise."""
    plain = model.embed(read_embedding(json.dumps({"model": "minilm", "input": TEXTS[0]}).encode()))
    body = json.dumps({"model": "minilm", "input": [TEXTS[0]], "encoding_format": "base64"})
    coded = model.embed(read_embedding(body.encode()))
    decoded = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, vectors(plain)[0])


def test_a_text_that_the_model_would_cut_is_refused(model: SentenceEmbeddings) -> None:
    """Two long texts that begin alike would have one vector."""
    with pytest.raises(InputError, match=r"input 1: has .* tokens; this model.s maximum context length is"):
        model.embed(EmbeddingRequest(model="minilm", input=("short", "word " * 1000)))


def test_a_text_is_not_counted_while_another_request_is_encoded(
    model: SentenceEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokeniser cuts meanwhile: a text that is too long would be counted as one that is not, and be cut without a word."""
    encode = model._model.encode
    long = EmbeddingRequest(model="minilm", input="word " * 1000)
    counted: list[bool] = []
    with ThreadPoolExecutor(1) as pool:

        def meanwhile(*given: Any, **options: Any) -> Any:
            asked.append(pool.submit(model.embed, long))
            counted.append(bool(wait(asked, timeout=0.2).done))
            return encode(*given, **options)

        asked: list[Future[dict[str, Any]]] = []
        monkeypatch.setattr(model._model, "encode", meanwhile)
        model.embed(EmbeddingRequest(model="minilm", input="short"))
        with pytest.raises(InputError, match="input 0: has 1002 tokens"):
            asked[0].result()
    assert counted == [False]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param({"input": []}, "input", id="none"),
        pytest.param({"input": ["a", ""]}, "not empty", id="empty text"),
        pytest.param({"input": [[1, 2]]}, "input", id="token numbers"),
        pytest.param({"input": "a", "dimensions": 5}, "dimensions", id="what is not done"),
        pytest.param({"input": "secret", "encoding_format": "hex"}, "encoding_format", id="format"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_by_its_field(body: dict[str, Any], says: str) -> None:
    """The error does not repeat the text."""
    with pytest.raises(InputError, match=says) as refused:
        read_embedding(json.dumps({"model": "m"} | body).encode())
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        pytest.param([{"path": "", "type": "os.system"}], "module 0 is none of", id="another package"),
        pytest.param([{"path": "", "type": "sentence_transformers.models.Dense"}], "module 0", id="reads a pickle"),
        pytest.param([{"path": "", "type": "sentence_transformersx.Pooling"}], "module 0", id="like the name"),
        pytest.param(
            [{"path": "../x", "type": "sentence_transformers.models.Pooling"}], "outside the folder", id="outside"
        ),
        pytest.param({}, "expected the list", id="no list"),
    ],
)
def test_modules_that_the_library_would_import_are_a_closed_list(tmp_path: Path, modules: Any, says: str) -> None:
    """Refused before the library sees them."""
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(PackageError, match=says):
        SentenceEmbeddings(tmp_path, device="cpu")


def test_weights_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    """An adapter names the model that it belongs to, by a path or a name on a hub."""
    folder = tmp_path / "model"
    shutil.copytree(minilm(), folder, ignore=shutil.ignore_patterns("model.safetensors"))
    with pytest.raises(PackageError, match="expected weights as"):
        SentenceEmbeddings(folder, device="cpu")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(PackageError, match=r"adapter_config\.json"):
        SentenceEmbeddings(folder, device="cpu")

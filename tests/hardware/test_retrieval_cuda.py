"""Retrieval on an NVIDIA GPU: the CPU's vectors and the CPU's answers.

`make hardware` runs these. Without CUDA, or without faiss-gpu, they are skipped, and say so.
"""

import importlib
import importlib.util
import json

import faiss
import numpy as np
import pytest

from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from plaintext_models import minilm

TEXTS = [f"the patient of bed {number} has a cough" + " and no fever" * (number % 40) for number in range(512)]


def test_embeddings_are_the_cpus() -> None:
    """`auto` takes CUDA where it is there, and the vectors are the same up to rounding."""
    if importlib.util.find_spec("torch") is None or not importlib.import_module("torch").cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    there, here = (Embedder.open(minilm(), device=device) for device in ("auto", "cpu"))
    assert there.device == "cuda"
    np.testing.assert_allclose(there.embed(TEXTS), here.embed(TEXTS), atol=2e-3)


def test_answers_are_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ids, whatever was added and removed in between; a filter is the CPU's."""
    if faiss.get_num_gpus() < 1:
        pytest.skip("faiss finds no GPU here (faiss-gpu in faiss-cpu's place brings it)")
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(5000, 384)).astype(np.float32)
    index = DenseIndex(384)
    index.add(np.arange(4000) * 3, vectors[:4000])

    def answers() -> str:
        found = index.search(vectors[::100], 10)[1], index.search(vectors[:5], 3, allowed=np.arange(0, 999, 9))[1]
        return json.dumps([ids.tolist() for ids in found])

    on_card = [answers()]
    index.add(np.arange(4000, 5000) * 3, vectors[4000:])
    index.remove(np.arange(0, 300, 3))
    on_card.append(answers())
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    on_cpu = answers()
    assert on_card[1] == on_cpu
    assert on_card[0] != on_cpu

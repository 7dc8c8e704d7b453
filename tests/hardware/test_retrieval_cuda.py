"""Retrieval on an NVIDIA GPU: the CPU's vectors and the CPU's answers.

`make hardware` runs these. Without CUDA, or without faiss-gpu, they are skipped, and say so.
"""

import importlib
import importlib.util
import json

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_rag import card
from blindgate_rag.card import CardProcess
from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from plaintext_models import minilm

TEXTS = [f"the patient of bed {number} has a cough" + " and no fever" * (number % 40) for number in range(512)]


def test_embeddings_are_the_cpus() -> None:
    """`auto` takes CUDA where it is there, and the vectors are the same up to rounding."""
    if not _cuda():
        pytest.skip("torch finds no CUDA device here")
    there, here = (Embedder.open(minilm(), device=device) for device in ("auto", "cpu"))
    assert there.device == "cuda"
    np.testing.assert_allclose(there.embed(TEXTS), here.embed(TEXTS), atol=2e-3)


def test_answers_are_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and scores to the last bit, among copies and near-copies too, whatever was added and removed in between."""
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("faiss-gpu is not installed (extra rag-gpu, in rag's place)")
    if not card.ready(120.0):
        (pytest.fail if _cuda() else pytest.skip)("faiss finds no GPU here that it can use")
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(5000, 384)).astype(np.float32)
    vectors[::2] = vectors[0] + draw.choice([0, 1e-7, 1e-4, 1e-2], (2500, 1)).astype(np.float32) * vectors[::2]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = DenseIndex(384)
    index.add(np.arange(4000) * 3, vectors[:4000])
    asked: list[bool] = []
    nearest = CardProcess.nearest

    def counted(self: CardProcess, number: int, flat: object, queries: NDArray[np.float32], k: int) -> object:
        found = nearest(self, number, flat, queries, k)
        asked.append(found is not None)
        return found

    def answers() -> str:
        searches = [index.search(vectors[::100], 10), index.search(vectors[:5], 700)]
        searches.append(index.search(vectors[:5], 3, allowed=np.arange(0, 999, 9)))
        return json.dumps([[scores.tobytes().hex(), ids.tolist()] for scores, ids in searches])

    monkeypatch.setattr(CardProcess, "nearest", counted)
    monkeypatch.setattr(
        card.Card, "give_up", lambda _: pytest.fail("the card failed, or was further off than it may be")
    )
    on_card = [answers()]
    index.add(np.arange(4000, 5000) * 3, vectors[4000:])
    index.remove(np.arange(0, 300, 3))
    on_card.append(answers())
    assert asked
    assert all(asked)
    print(f"\nthe card answered each of {len(asked)} questions to it")
    monkeypatch.setattr(card.Card, "nearest", lambda *_: None)
    index = DenseIndex.from_bytes(index.to_bytes(), 384)
    assert on_card[1] == answers()
    assert on_card[0] != on_card[1]
    assert card.ready(0), "it is still there"


def _cuda() -> bool:
    return importlib.util.find_spec("torch") is not None and bool(importlib.import_module("torch").cuda.is_available())

"""Retrieval on an NVIDIA GPU: the CPU's vectors and the CPU's answers, and how much sooner.

`make hardware` runs these. Without CUDA, or without faiss-gpu, they are skipped, and say so.
"""

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_rag import Corpus, card
from blindgate_rag.beir import read_collection
from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from card_stand_ins import Floats, questions_of
from plaintext_models import minilm
from tatqa import write_tatqa

TEXTS = [f"the patient of bed {number} has a cough" + " and no fever" * (number % 40) for number in range(512)]
WIDTH = 384


def _cuda() -> bool:
    return importlib.util.find_spec("torch") is not None and bool(importlib.import_module("torch").cuda.is_available())


@pytest.fixture
def asked() -> Iterator[list[bool]]:
    """Whether the card answered each question that its process was asked."""
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("faiss-gpu is not installed (extra rag-gpu, in rag's place)")
    card.restart()
    if not card.ready(200.0):
        (pytest.fail if _cuda() else pytest.skip)("faiss finds no GPU here that it can use")
    with questions_of(card.CardProcess) as answered:
        yield answered
    card.restart()


def by_the_cpu(search: Callable[[], Any]) -> Any:
    """What is found without the card."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(card.Card, "nearest", lambda *_: None)
        return search()


def of_unit_length(rows: NDArray[np.float64]) -> Floats:
    """Each divided by its length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def index_of(vectors: Floats) -> DenseIndex:
    """Under ids that are not the places."""
    index = DenseIndex(WIDTH)
    index.add(np.arange(len(vectors)) * 3, vectors)
    return index


def found(index: DenseIndex, queries: Floats, k: int) -> tuple[bytes, list[list[int]]]:
    """Scores to the last bit, and ids."""
    scores, ids = index.search(queries, k)
    return scores.tobytes(), ids.tolist()


def test_embeddings_are_the_cpus() -> None:
    """`auto` takes CUDA where it is there, and the vectors are the same up to rounding."""
    if not _cuda():
        pytest.skip("torch finds no CUDA device here")
    there, here = (Embedder.open(minilm(), device=device) for device in ("auto", "cpu"))
    assert there.device == "cuda"
    np.testing.assert_allclose(there.embed(TEXTS), here.embed(TEXTS), atol=2e-3)


@pytest.mark.parametrize("k", [1, 10, 100, 700])
def test_answers_are_the_cpus(asked: list[bool], k: int) -> None:
    """Ids and scores to the last bit, among copies and near-copies too, whatever was added and removed in between."""
    draw = np.random.default_rng(k)
    centres = draw.normal(size=(50, WIDTH))
    apart = draw.choice([0, 1e-7, 1e-5, 1e-4], (20_000, 1))
    vectors = of_unit_length(centres[draw.integers(0, 50, 20_000)] + apart * draw.normal(size=(20_000, WIDTH)))
    queries = of_unit_length(centres + 0.3 * draw.normal(size=centres.shape))
    index = index_of(vectors[:-1000])
    for change in (
        lambda: index.add(np.arange(1000) * 3 + 1, vectors[-1000:]),
        lambda: index.remove(np.arange(0, 900, 3)),
    ):
        assert found(index, queries, k) == by_the_cpu(lambda: found(index, queries, k))
        change()
    assert found(index, queries, k) == by_the_cpu(lambda: found(index, queries, k))
    assert asked[0]
    print(f"\nnear-copies, {k} of each: the card answered {sum(asked)} of {len(asked)} questions to it")


def test_a_corpus_finds_what_it_finds_without_a_card(asked: list[bool], tmp_path: Path) -> None:
    """Real paragraphs, and the questions about them."""
    collection = read_collection(write_tatqa(tmp_path / "tatqa"))
    (tmp_path / "documents").mkdir()
    for number, text in enumerate(collection.documents.values()):
        (tmp_path / "documents" / f"{number}.txt").write_text(text)
    minilm()
    corpus = Corpus.open(tmp_path / "corpus.bgc", passphrase="a passphrase")
    corpus.add(tmp_path / "documents")
    questions = list(collection.questions.values())[:300]

    def hits() -> list[list[tuple[str, float]]]:
        return [[(hit.text, hit.score) for hit in corpus.search(question, k=8)] for question in questions]

    assert hits() == by_the_cpu(hits)
    assert asked
    assert all(asked)


def test_how_much_sooner(asked: list[bool]) -> None:
    """The same, of one question and of many; nobody waits for a card that is slower than the CPU without being told here."""
    draw = np.random.default_rng(5)
    for count in (1000, 20_000, 50_000):
        vectors = of_unit_length(draw.normal(size=(count, WIDTH)))
        index = index_of(vectors)
        for several in (1, 10, 100, 1000):
            queries = of_unit_length(
                vectors[draw.integers(0, count, several)] + 0.05 * draw.normal(size=(several, WIDTH))
            )
            search = partial(found, index, queries, 10)
            first = _milliseconds(search)
            assert search() == by_the_cpu(search)
            medians = partial(_median, search)
            on_card, on_cpu = medians(), by_the_cpu(medians)
            print(
                f"\n{several} over {count}: {on_card:.2f} ms by the card (first {first:.1f}), {on_cpu:.2f} by the CPU"
            )
    assert all(asked)


def test_a_card_that_another_program_fills_ends_nothing(asked: list[bool]) -> None:
    """A model beside it may take all: no room is no error, whatever faiss makes of it."""
    if not _cuda():
        pytest.skip("torch finds no CUDA device here")
    cuda = importlib.import_module("torch")
    vectors = of_unit_length(np.random.default_rng(6).normal(size=(50_000, WIDTH)))
    index = index_of(vectors)
    for left in (400 << 20, 60 << 20, 4 << 20):
        card.restart()
        cuda.cuda.empty_cache()
        held = cuda.empty(max(1, cuda.cuda.mem_get_info()[0] - left), dtype=cuda.uint8, device="cuda")
        ready = card.ready(200.0)
        assert found(index, vectors[:3], 10) == by_the_cpu(lambda: found(index, vectors[:3], 10))
        print(f"\n{left >> 20} MiB left: {'ready' if ready else 'not ready'}, answered {asked}")
        del held


def _median(call: Callable[[], object]) -> float:
    return statistics.median(_milliseconds(call) for _ in range(9))


def _milliseconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3

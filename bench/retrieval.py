"""Retrieval on this machine: questions over 20,000 passages, embedding, adding passages, and what an index takes.

One thread. The passages are made of drawn words and the index's vectors are drawn, since neither changes the time; questions are
embedded by MiniLM, as they are for a user.

- *question*: from its text to ten passages: embedded, searched by vectors and by words, fused. 40 ms was asked for.
- *embedding*: passages a second, against sentence-transformers' own `encode` of the same texts in the order in which they come.
- *add*: 1,000 passages embedded and put into an index that has 20,000, against the embedding alone.
- *words*: the index of words, made from the texts, against bm25s' own tokeniser and index.
- *in cells*: a question's vector over 60,000, against a comparison with every one.
- *bytes*: an index as it is written, against its numbers alone.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import bm25s
import numpy as np
from bench.rows import Row, row

from blindgate_rag.dense import DenseIndex, Vectors
from blindgate_rag.embedding import Embedder
from blindgate_rag.fusion import reciprocal_rank_fusion
from blindgate_rag.lexical import LexicalIndex

COUNT: Final = 20_000
MANY: Final = 60_000
QUESTION_MS: Final = 40.0
WORDS: Final = 120
QUESTIONS: Final = 31
DEPTH: Final = 100
ADDED: Final = 1000
EMBEDDED: Final = 128


def rows() -> list[Row]:
    """Every measurement."""
    import torch  # noqa: PLC0415  (the one place outside of a model's own that asks for one thread)

    torch.set_num_threads(1)
    draw = np.random.default_rng(5)
    embedder = Embedder.default()
    texts = _texts(draw, COUNT)
    vectors = _vectors(draw, MANY, embedder.dimension)
    index = DenseIndex(embedder.dimension)
    index.add(np.arange(COUNT, dtype=np.int64), vectors[:COUNT])
    words = LexicalIndex.of(np.arange(COUNT, dtype=np.int64), texts)

    def asked(question: str) -> object:
        _, near = index.search(embedder.embed_questions([question]), DEPTH)
        shared = [one for one, _ in words.search(question, DEPTH)]
        return reciprocal_rank_fusion([shared, near[0].tolist()])[:10]

    questions = [" ".join(text.split()[:12]) for text in texts[:QUESTIONS]]
    asked(questions[0])
    return [
        row(
            f"question over {COUNT} passages, embedded, against the 40 ms asked for",
            [_ms(partial(asked, one)) for one in questions],
            QUESTION_MS,
            target=1.0,
            unit="ms CPU",
        ),
        _embedding(embedder, texts),
        _adding(embedder, index, texts),
        _words(texts),
        _cells(vectors, embedder.dimension),
        row(
            f"bytes of {COUNT} vectors, against their numbers",
            float(len(index.to_bytes())),
            float(len(index) * embedder.dimension * 4),
            target=None,
            unit="bytes",
        ),
    ]


def _embedding(embedder: Embedder, texts: list[str]) -> Row:
    given = [" ".join(text.split()[: 10 + number % 50]) for number, text in enumerate(texts[:EMBEDDED])]
    model: Any = embedder._model
    ours = _ms(lambda: embedder.embed(given))
    peer = _ms(lambda: model.encode(given, batch_size=32, show_progress_bar=False))
    return row(
        "embedding, against sentence-transformers' encode",
        1e3 * EMBEDDED / ours,
        1e3 * EMBEDDED / peer,
        target=None,
        unit="passages/s CPU",
        more_is_better=True,
    )


def _adding(embedder: Embedder, index: DenseIndex, texts: list[str]) -> Row:
    given = [" ".join(text.split()[:60]) for text in texts[:ADDED]]
    embedded: list[Vectors] = []
    alone = _ms(lambda: embedded.append(embedder.embed(given)))
    new = np.arange(COUNT, COUNT + ADDED, dtype=np.int64)
    ours = alone + _ms(lambda: index.add(new, embedded[0]))
    index.remove(new)
    return row(f"add {ADDED} passages of 60 words, against embedding alone", ours, alone, target=None, unit="ms CPU")


def _words(texts: list[str]) -> Row:
    def theirs() -> None:
        ranker = bm25s.BM25(method="lucene", backend="numpy")
        ranker.index(bm25s.tokenize(texts, stopwords=None, show_progress=False), show_progress=False)

    ids = np.arange(len(texts), dtype=np.int64)
    return row(
        f"index of the words of {COUNT} passages of {WORDS} words, against bm25s",
        _ms(lambda: LexicalIndex.of(ids, texts)),
        _ms(theirs),
        target=None,
        unit="ms CPU",
    )


def _cells(vectors: Vectors, dimension: int) -> Row:
    flat, cells = DenseIndex(dimension, flat_most=MANY), DenseIndex(dimension)
    for index in (flat, cells):
        index.add(np.arange(MANY, dtype=np.int64), vectors)
    queries = vectors[:QUESTIONS] + np.float32(0.01)
    found, expected = (index.search(queries, 10)[1] for index in (cells, flat))
    kept = np.mean([len(np.intersect1d(ours, theirs)) / 10 for ours, theirs in zip(found, expected, strict=True)])
    ours, peer = ([_ms(partial(index.search, one[None], 10)) for one in queries] for index in (cells, flat))
    return row(
        f"nearest of {MANY} in {cells.probes} of {cells.cells} cells (recall {kept:.2f}), against comparing all",
        ours,
        peer,
        target=None,
        unit="ms CPU",
    )


def _texts(draw: np.random.Generator, count: int) -> list[str]:
    """Passages of drawn words, few of them frequent, as in any language."""
    numbers = np.minimum(draw.zipf(1.3, size=(count, WORDS)), 50_000)
    return [" ".join(f"w{number}" for number in passage) for passage in numbers]


def _vectors(draw: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Of unit length, in clusters."""
    centres = draw.normal(size=(500, dimension)).astype(np.float32)
    drawn = centres[draw.integers(0, 500, count)] + draw.normal(size=(count, dimension), scale=0.7).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


def _ms(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1e3

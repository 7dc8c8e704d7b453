"""How well retrieval finds what people judged relevant, on this machine and under encryption, for a collection in BEIR's layout.

The rankers of `blindgate_rag.rankers` are asked, and beside them an index that would lie elsewhere: the passages' vectors in eight
bits, compiled as `blindgate models compile` compiles an index, asked by a client half and answered by a server half. Both are
here, so no gateway is, and no socket is opened. Each question is encrypted, evaluated, decrypted and ranked as it is in a job;
what the job has beside that, from the upload to the receipt, is not measured.

- `encrypted`: replies hide the index beyond its scores (`model_private`);
- `encrypted-public`: they do not, for an index that the asker may know (`model_public`).

Scores are exact, so that both give the ranking of `int8`, documents of equal scores included.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from blindgate_models.compilers.search import search_parts
from blindgate_models.product.spec import Privacy
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import MAX_ENTRIES, MAX_NUMBERS, quantised_entries
from blindgate_protocol.errors import InputError
from blindgate_rag.beir import read_collection
from blindgate_rag.chunking import Chunker
from blindgate_rag.embedding import Embedder
from blindgate_rag.evaluation import Evaluation, Score, evaluate
from blindgate_rag.passages import Document, Page
from blindgate_rag.progress import Advance
from blindgate_rag.rankers import LocalRankers

ENCRYPTED: Final[Mapping[str, Privacy]] = {"encrypted": "model_private", "encrypted-public": "model_public"}
RANKERS: Final = ("bm25", "dense", "int8", "fused", "blended", *ENCRYPTED)
"""In the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class RetrievalEvaluation:
    """What was measured, and with what.

    Attributes:
        passages: that the documents became; more than those where some are longer than the embedder reads.
        question_milliseconds: what embedding a question took, the mean of all, which were embedded together. No ranker's
            milliseconds hold it.
    """

    evaluation: Evaluation
    passages: int
    embedder: str
    embedder_digest: str
    dimension: int
    question_milliseconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.evaluation.to_dict()
        rankers = found.pop("rankers")
        return found | {
            "passages": self.passages,
            "embedder": {
                "name": self.embedder,
                "digest": self.embedder_digest,
                "dimension": self.dimension,
                "question_milliseconds": self.question_milliseconds,
            },
            "rankers": rankers,
        }


def evaluate_folder(
    folder: Path,
    rankers: Sequence[str] = RANKERS,
    *,
    split: str = "test",
    embedder: Embedder | None = None,
    progress: Advance | None = None,
) -> RetrievalEvaluation:
    """Ask rankers all questions of a collection.

    Args:
        folder: the collection, see `blindgate_rag.beir`.
        rankers: which of `RANKERS`.
        split: whose judgements, `qrels/SPLIT.tsv`.
        embedder: MiniLM by default; it is opened only after the collection was read.
        progress: told what is done, and how much of how much.

    Raises `InputError` naming file and line, or a ranker that is none; `BackendError` where the embedder is not installed.
    """
    if unknown := [name for name in rankers if name not in RANKERS]:
        message = f"rankers: {unknown[0]!r} is none of {', '.join(RANKERS)}"
        raise InputError(message)
    if not rankers:
        message = f"rankers: expected at least one of {', '.join(RANKERS)}"
        raise InputError(message)
    collection = read_collection(folder, split=split)
    model = Embedder.default() if embedder is None else embedder
    chunker = Chunker(model.tokens, model.limit)
    local = LocalRankers(collection.documents, model, lambda text: _cut(chunker, text), progress=progress)
    begun = time.perf_counter()
    local.embed_questions(list(collection.questions.values()), progress=progress)
    seconds = time.perf_counter() - begun
    scores: list[Score] = []
    for name in rankers:  # one after the other: an encoded index is large, and is let go before the next is made
        if name not in ENCRYPTED:
            scores += evaluate(collection, {name: local.all[name]}, progress=progress).scores
            continue
        remote = EncryptedRanker(local, ENCRYPTED[name])
        (score,) = evaluate(collection, {name: remote}, progress=progress).scores
        scores.append(replace(score, **remote.cost._asdict()))
    return RetrievalEvaluation(
        Evaluation(
            collection.name,
            len(collection.documents),
            len(collection.questions),
            tuple(scores),
            unanswerable=collection.unanswerable,
            not_in_corpus=collection.not_in_corpus,
        ),
        passages=len(local.vectors),
        embedder=model.name,
        embedder_digest=model.digest,
        dimension=model.dimension,
        question_milliseconds=seconds * 1e3 / len(collection.questions),
    )


class Cost(NamedTuple):
    """What a question costs, see `Score`."""

    bytes_up: int
    bytes_down: int
    node_seconds: float


class _Index(NamedTuple):
    asker: SearchClient
    node: SearchServer
    secret: bytes


class EncryptedRanker:
    """A `Ranker` that asks an index under encryption.

    Args:
        local: whose passages, questions and names are meant.
        privacy: whether replies hide the index beyond its scores.
        most: entries of one index; as many as the family holds by default. More passages than that are several indexes, in one
            scale, and each is asked every question.
    """

    def __init__(self, local: LocalRankers, privacy: Privacy, *, most: int | None = None) -> None:
        self._local = local
        entries, scale = quantised_entries(local.vectors.astype(np.float64))
        width = entries.shape[1]
        rows = max(1, min(MAX_ENTRIES, MAX_NUMBERS // width)) if most is None else most
        self._indexes = []
        for begin in range(0, len(entries), rows):
            client, server = search_parts(entries[begin : begin + rows], scale=scale, privacy=privacy)
            asker = SearchClient.from_part(client.model_dump())
            self._indexes.append(_Index(asker, SearchServer.from_part(server.model_dump()), asker.make_keys().secret))
        self._costs: list[Cost] = []

    def __call__(self, question: str) -> list[str]:
        """Encrypt, evaluate, decrypt, rank."""
        query = self._local.vector_of(question)[None].astype(np.float64)
        scores, up, down, node_seconds = [], 0, 0, 0.0
        for asker, node, secret in self._indexes:
            sent = asker.encrypt(secret, query)
            begun = time.process_time()
            reply = node.evaluate(None, sent)
            node_seconds += time.process_time() - begun
            scores.append(asker.decrypt(secret, reply, 1)[0])
            up, down = up + len(sent), down + len(reply)
        self._costs.append(Cost(up, down, node_seconds))
        return self._local.ranked(np.concatenate(scores))

    @property
    def cost(self) -> Cost:
        """The largest blobs, though all have one length, and the median of the node's time, of the questions asked so far."""
        ups, downs, seconds = zip(*self._costs, strict=True)
        return Cost(max(ups), max(downs), statistics.median(seconds))


def _cut(chunker: Chunker, text: str) -> list[str]:
    document = Document(source="", digest="", media="txt", pages=(Page(text),))
    return [passage.text for passage in chunker.passages(document)]

"""How well rankers find what people judged relevant.

Measures, each the mean over the questions that have judgements, as BEIR takes it (one without a relevant document counts 0):

- **nDCG@10** as trec_eval's `ndcg_cut`: a document's gain is its grade, divided by log2(place + 1); over the best order there is;
- **recall@10, recall@100**: which part of the relevant documents stands among the first;
- **MRR@10**: 1 / the place of the first relevant one, 0 where it is behind the tenth.

Where questions are documents themselves, as in ArguAna and Quora, a question finds itself. So the document that has the question's
id is left out of its ranking, as BEIR does; here it stays where it was judged, since ids may be mere numbers in both files.

A ranker is whatever turns a question into document ids, best first: those of this machine come from `LocalRankers`; one that asks
an index elsewhere fits the same `Ranker`. Questions are asked one by one, as they come to a user, and each is timed.
"""

import io
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Final

from blindgate_protocol.errors import BackendError, InputError
from blindgate_rag.beir import Collection
from blindgate_rag.progress import Advance

Ranker = Callable[[str], list[str]]
"""A question to the ids of documents, best first, `RANKED` of them or fewer."""

DEPTH: Final = 100
"""How many places are looked at."""
RANKED: Final = DEPTH + 1
"""How many a ranker gives: one of them may be the question itself."""
MEASURES: Final[Mapping[str, str]] = {
    "ndcg_at_10": "nDCG@10",
    "recall_at_10": "recall@10",
    "recall_at_100": "recall@100",
    "mrr_at_10": "MRR@10",
}
PLOTS: Final[Mapping[str, Mapping[str, None]]] = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}
"""What a plot may be, and what is left out of each, so that one evaluation has one plot."""

_FIRST: Final = 10


@dataclass(frozen=True, slots=True)
class Score:
    """What one ranker reached, measures from 0 to 1, and what a question took.

    Attributes:
        milliseconds: the median question's.
        bytes_up: of an encrypted question; `None` where nothing is encrypted, and so the others.
        bytes_down: of the reply to it.
        node_seconds: CPU time of whoever has the index, the median question's.
    """

    ranker: str
    ndcg_at_10: float
    recall_at_10: float
    recall_at_100: float
    mrr_at_10: float
    milliseconds: float
    bytes_up: int | None = None
    bytes_down: int | None = None
    node_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of several rankers on one collection.

    Attributes:
        unanswerable: questions without a relevant document, which count 0.
        not_in_corpus: judgements of relevant documents that the corpus does not have.
    """

    collection: str
    documents: int
    questions: int
    scores: tuple[Score, ...]
    unanswerable: int = 0
    not_in_corpus: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "collection": self.collection,
            "documents": self.documents,
            "questions": self.questions,
            "unanswerable": self.unanswerable,
            "not_in_corpus": self.not_in_corpus,
            "rankers": [asdict(score) for score in self.scores],
        }

    def plot(self, form: str = "svg") -> bytes:
        """A picture with a group of bars a measure, in one of `PLOTS`. Raises `BackendError` where matplotlib is not installed."""
        figure = plotting().Figure(figsize=(8, 4), layout="constrained")  # no window, no global state
        axes = figure.subplots()
        wide = 0.8 / len(self.scores)
        for position, score in enumerate(self.scores):
            places = [place + wide * (position - (len(self.scores) - 1) / 2) for place in range(len(MEASURES))]
            axes.bar(places, [getattr(score, name) for name in MEASURES], width=wide, label=score.ranker)
        axes.set_xticks(range(len(MEASURES)), list(MEASURES.values()))
        axes.set_ylim(0, 1)
        axes.set_title(f"{self.collection}: {self.documents} documents, {self.questions} questions", parse_math=False)
        axes.legend()
        written = io.BytesIO()
        figure.savefig(written, format=form, dpi=150, metadata=PLOTS[form])
        return written.getvalue()


def plotting() -> Any:
    """What draws a plot: ask for it in front of long work. Raises `BackendError` where matplotlib is not installed."""
    try:
        return import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        message = "a plot needs matplotlib: pip install matplotlib"
        raise BackendError(message) from error


def evaluate(collection: Collection, rankers: Mapping[str, Ranker], *, progress: Advance | None = None) -> Evaluation:
    """Ask each ranker all questions, and measure its answers.

    Args:
        collection: the questions, and what is relevant to them.
        rankers: by name.
        progress: told the name of the ranker, and how many of how many questions it has answered.

    Raises `InputError` for a ranker that names a document twice.
    """
    if not rankers:
        message = "rankers: expected at least one"
        raise InputError(message)
    questions = list(collection.questions.items())
    judged = [collection.judgements[one] for one, _ in questions]
    scores = []
    for name, ranker in rankers.items():
        rankings, taken = [], []
        for position, (own, text) in enumerate(questions, 1):
            begun = time.perf_counter()
            found = ranker(text)
            taken.append((time.perf_counter() - begun) * 1e3)
            rankings.append([one for one in found if one != own or one in collection.judgements[own]][:DEPTH])
            if progress is not None:
                progress(name, position, len(questions))
        scores.append(score_of(name, rankings, judged, milliseconds=statistics.median(taken)))
    return Evaluation(
        collection.name,
        len(collection.documents),
        len(questions),
        tuple(scores),
        unanswerable=collection.unanswerable,
        not_in_corpus=collection.not_in_corpus,
    )


def score_of(
    name: str, rankings: Sequence[Sequence[str]], judged: Sequence[Mapping[str, int]], *, milliseconds: float = 0.0
) -> Score:
    """The means over all questions.

    Args:
        name: the ranker's.
        rankings: a question each, ids, best first.
        judged: the grades by id, of the same questions.
        milliseconds: the median question's.

    Raises `InputError`.
    """
    if len(rankings) != len(judged):
        message = f"{name}: {len(rankings)} rankings for {len(judged)} questions"
        raise InputError(message)
    for position, ranking in enumerate(rankings):
        if len(set(ranking)) != len(ranking):
            message = f"{name}: question {position}: a document stands twice in the ranking"
            raise InputError(message)
    pairs = list(zip(rankings, judged, strict=True))
    return Score(
        ranker=name,
        ndcg_at_10=_mean([ndcg(ranking, grades, _FIRST) for ranking, grades in pairs]),
        recall_at_10=_mean([recall(ranking, grades, _FIRST) for ranking, grades in pairs]),
        recall_at_100=_mean([recall(ranking, grades, DEPTH) for ranking, grades in pairs]),
        mrr_at_10=_mean([reciprocal_rank(ranking, grades, _FIRST) for ranking, grades in pairs]),
        milliseconds=milliseconds,
    )


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], first: int) -> float:
    """The nDCG of the `first` places; a grade below 0 gains nothing."""
    best = _gain(sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:first])
    return _gain([max(grades.get(one, 0), 0) for one in ranking[:first]]) / best if best else 0.0


def recall(ranking: Sequence[str], grades: Mapping[str, int], first: int) -> float:
    """Which part of the relevant documents stands in the `first` places."""
    relevant = {one for one, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:first])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Mapping[str, int], first: int) -> float:
    """1 / the place of the first relevant document, 0 where none stands in the `first` places."""
    return next((1 / place for place, one in enumerate(ranking[:first], 1) if grades.get(one, 0) > 0), 0.0)


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, 1))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""Searching a corpus in memory: ranked by meaning, by words, or by both, inside of what is allowed; and what of it is given.

A corpus on this machine, one that lies elsewhere and is searched here, and one that is open inside of a node that proved what it
is all come to this: the same state gives the same hits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol import corpus_search
from blindgate_protocol.corpus_search import MOST_FOUND
from blindgate_protocol.errors import InputError
from blindgate_rag.blending import Ids, Scored, blended
from blindgate_rag.embedding import Embedder
from blindgate_rag.fusion import distinct, reciprocal_rank_fusion, within_budget
from blindgate_rag.hits import Hit
from blindgate_rag.passages import is_encodable
from blindgate_rag.records import DocumentRecord, PassageRecord, Where, check_where
from blindgate_rag.state import State

Ranking = corpus_search.Ranking
"""By what passages are ranked: `fused`, places by meaning and by words together (`fusion`); `blended`, scores by both together
(`blending`); `dense`, meaning; `bm25`, words."""

RANKINGS: Final[tuple[Ranking, ...]] = get_args(Ranking)
FOUND: Final = 8
"""How many passages are given where nobody says how many."""
_DEPTH: Final = 100
"""How far down each ranking is read before they are put together."""


def check_question(query: str, k: int, where: Where | None, ranking: str | None) -> None:
    """Refuse what no corpus can be asked. Raises `InputError`."""
    check_query(query)
    if not 1 <= k <= MOST_FOUND:
        message = f"k is {k}: 1 to {MOST_FOUND} passages may be asked for"
        raise InputError(message)
    if where is not None:
        check_where(where)
    if ranking is not None:
        checked_ranking(ranking)


def check_query(query: str) -> None:
    """Refuse what is no question. Raises `InputError`."""
    if not query.strip():
        message = "the question is empty"
        raise InputError(message)
    if not is_encodable(query):
        message = "the question is no text: it is not UTF-8"
        raise InputError(message)


def ranking_of(state: State) -> Ranking:
    """By what a corpus ranks passages unless a search says otherwise."""
    return checked_ranking(state.records.setting("ranking") or "fused")


def search_state(  # noqa: PLR0913  (what a search is asked with)
    state: State,
    query: str,
    k: int,
    *,
    embedder: Callable[[], Embedder],
    where: Where | None = None,
    ranking: Ranking | None = None,
    tokens: int | None = None,
) -> tuple[Hit, ...]:
    """The `k` passages that fit a question best. See `Corpus.search`; `embedder` is asked for where it takes one.

    Raises `InputError` for what cannot be asked.
    """
    check_question(query, k, where, ranking)
    allowed = None
    if where is not None:
        found = state.records.documents(where)
        allowed = np.array(state.records.passages_of(one.id for one in found), dtype=np.int64)
    ranked = _ranked(state, query, k, ranking or ranking_of(state), embedder, allowed=allowed)
    return tuple(hits_of(state, ranked, k, tokens))


def hits_of(state: State, ranked: Sequence[tuple[int, float]], k: int, tokens: int | None) -> Iterator[Hit]:
    """The first `k` of a ranking that say different things, as hits."""
    passages = state.records.passages(one for one, _ in ranked)
    documents = {one.id: one for one in state.records.documents()}
    scores = dict(ranked)
    texts = {one: passage.text for one, passage in passages.items()}
    best: Sequence[int] = distinct([one for one, _ in ranked if one in texts], texts, state.vectors(passages))[:k]
    for one in best if tokens is None else within_budget(best, lambda one: passages[one].tokens, tokens):
        yield hit_of(passages[one], documents[passages[one].document], scores[one])


def hit_of(passage: PassageRecord, document: DocumentRecord, score: float) -> Hit:
    """A passage that was found, and its document."""
    return Hit(
        text=passage.text,
        source=document.source,
        page=passage.page,
        score=score,
        metadata=document.metadata,
        passage=passage.id,
        tokens=passage.tokens,
    )


def checked_ranking(ranking: str) -> Ranking:
    """A ranking by its name. Raises `InputError`."""
    for known in RANKINGS:
        if ranking == known:
            return known
    message = f"ranking {ranking!r}: expected one of {', '.join(RANKINGS)}"
    raise InputError(message)


def _ranked(  # noqa: PLR0913
    state: State,
    query: str,
    k: int,
    ranking: Ranking,
    embedder: Callable[[], Embedder],
    *,
    allowed: NDArray[np.int64] | None,
) -> Scored:
    depth = max(_DEPTH, 2 * k)
    rankings: list[Scored] = []
    if ranking != "bm25" and state.dense is not None:
        vector = state.require(embedder()).embed_questions([query])
        if ranking == "blended":
            return _blended(state, query, vector, k, allowed=allowed)[:depth]
        rankings.append(state.nearest(vector, depth, allowed=allowed))
    if ranking != "dense":
        rankings.append(state.words().search(query, depth, allowed=allowed))
    if len(rankings) == 1:
        return rankings[0]
    return reciprocal_rank_fusion([[one for one, _ in each] for each in rankings])


def _blended(
    state: State, query: str, vector: NDArray[np.float32], k: int, *, allowed: NDArray[np.int64] | None
) -> Scored:
    unit = state.unit_of(vector)

    def by_cosine(most: int, among: Ids | None) -> Scored:
        found = state.nearest(vector, most, allowed=allowed if among is None else among)
        return [(one, score / unit) for one, score in found]

    def by_words(most: int, among: Ids | None) -> Scored:
        return state.words().search(query, most, allowed=allowed if among is None else among)

    # twice as many as are wanted: some may say the same. So far down, one reading is enough for most questions
    return blended(by_cosine, by_words, 2 * k, depth=max(_DEPTH, 8 * k))

"""Searching a corpus in memory: ranked by meaning, by words, or by both, inside of what is allowed; and what of it is given.

A corpus on this machine, one that lies elsewhere and is searched here, and one that is open inside of a node that proved what it
is all come to this: the same state gives the same hits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol import corpus_search
from blindgate_protocol.corpus_search import MOST_FOUND
from blindgate_protocol.errors import InputError
from blindgate_rag.blending import Ids, Scored, blended
from blindgate_rag.cleaning import cleaned
from blindgate_rag.embedding import Embedder
from blindgate_rag.fusion import distinct, reciprocal_rank_fusion, within_budget
from blindgate_rag.hits import Hit
from blindgate_rag.passages import is_text
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
_DEEPER: Final = 4
"""How many times as far, where so many said the same that too few are left."""


class _Reach(NamedTuple):
    """How far rankings are read: so many places of each; where scores are put together, so many of the best stand right."""

    wanted: int
    depth: int


def check_question(query: str, k: int, where: Where | None, ranking: str | None, tokens: int | None) -> None:
    """Refuse what no corpus can be asked. Raises `InputError`."""
    check_query(query)
    check_count(k)
    check_tokens(tokens)
    if where is not None:
        check_where(where)
    if ranking is not None:
        checked_ranking(ranking)


def check_query(query: str) -> None:
    """Refuse what is no question. Raises `InputError`."""
    if not isinstance(query, str) or not is_text(query):
        message = f"the question is no text: {query!a:.100}"
        raise InputError(message)
    if not query.strip():
        message = "the question is empty"
        raise InputError(message)


def check_count(k: int, most: int = MOST_FOUND, why: str = "", *, name: str = "k") -> None:
    """Refuse what is no number of passages, 1 to `most`, as `why` says. Raises `InputError`."""
    if not isinstance(k, int | np.integer) or not 1 <= k <= most:
        message = f"{name} is {k!a:.100}: 1 to {most} passages may be asked for{why}"
        raise InputError(message)


def check_tokens(tokens: int | None) -> None:
    """Refuse what is no bound on how much text is given. Raises `InputError`."""
    if tokens is not None and (not isinstance(tokens, int | np.integer) or tokens < 1):
        message = f"tokens is {tokens!a:.100}: expected a whole number from 1, or None"
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
    check_question(query, k, where, ranking, tokens)
    query = cleaned(query)
    allowed = None if where is None else np.array(state.records.passages_where(where), dtype=np.int64)
    present = state.records.count()[1] if allowed is None else len(allowed)
    reach = _Reach(2 * k, max(_DEPTH, 2 * k))  # twice as many as are asked for: some may say the same
    while True:
        ranked = _ranked(state, query, reach, ranking or ranking_of(state), embedder, allowed=allowed)
        best = _distinct(state, ranked, k)
        if len(best) == k or len(ranked) < reach.depth or reach.depth >= present:
            return tuple(hits_of(state, best, tokens))
        reach = _Reach(_DEEPER * reach.wanted, _DEEPER * reach.depth)


def hits_of(state: State, best: Sequence[tuple[int, float]], tokens: int | None) -> Iterator[Hit]:
    """Passages with their scores as hits, as many as have no more than so many tokens together."""
    passages = state.records.passages(one for one, _ in best)
    documents = state.records.documents_of(one.document for one in passages.values())
    scores = {one: score for one, score in best if one in passages}
    for one in scores if tokens is None else within_budget(list(scores), lambda one: passages[one].tokens, tokens):
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
    message = f"ranking {ranking!a:.100}: expected one of {', '.join(RANKINGS)}"
    raise InputError(message)


def _distinct(state: State, ranked: Scored, k: int) -> Scored:
    """The first `k` of a ranking that say different things."""
    texts = {one: passage.text for one, passage in state.records.passages(one for one, _ in ranked).items()}
    kept = distinct([one for one, _ in ranked if one in texts], texts, state.vectors(texts), most=k)
    scores = dict(ranked)
    return [(one, scores[one]) for one in kept]


def _ranked(  # noqa: PLR0913
    state: State,
    query: str,
    reach: _Reach,
    ranking: Ranking,
    embedder: Callable[[], Embedder],
    *,
    allowed: NDArray[np.int64] | None,
) -> Scored:
    rankings: list[Scored] = []
    if ranking != "bm25" and state.dense is not None:
        vector = state.require(embedder()).embed_questions([query])
        if ranking == "blended":
            return _blended(state, query, vector, reach, allowed=allowed)
        rankings.append(state.nearest(vector, reach.depth, allowed=allowed))
    if ranking != "dense":
        rankings.append(state.words().search(query, reach.depth, allowed=allowed))
    if len(rankings) == 1:
        return rankings[0]
    return reciprocal_rank_fusion([[one for one, _ in each] for each in rankings])


def _blended(
    state: State, query: str, vector: NDArray[np.float32], reach: _Reach, *, allowed: NDArray[np.int64] | None
) -> Scored:
    unit = state.unit_of(vector)

    def by_cosine(most: int, among: Ids | None) -> Scored:
        found = state.nearest(vector, most, allowed=allowed if among is None else among)
        return [(one, score / unit) for one, score in found]

    def by_words(most: int, among: Ids | None) -> Scored:
        return state.words().search(query, most, allowed=allowed if among is None else among)

    # so far down, one reading is enough for most questions
    return blended(by_cosine, by_words, reach.wanted, depth=max(reach.depth, 4 * reach.wanted))[: reach.depth]

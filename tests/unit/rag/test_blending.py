"""One score from vectors and words: the formula, and that no passage is ranked by what was not looked at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindgate_rag.blending import Ids, Ranked, Scored, blended, convex_combination

PARTS = st.integers(0, 8)
PASSAGES = st.lists(st.tuples(PARTS, PARTS), min_size=1, max_size=40)
"""Cosines in quarters from -1, and scores of words, so that many are equal."""


def ranker(scores: dict[int, float]) -> Ranked:
    """One that has these scores."""

    def ranked(most: int, among: Ids | None) -> Scored:
        there = scores if among is None else {one: scores[one] for one in among if one in scores}
        return sorted(((int(one), score) for one, score in there.items()), key=lambda pair: (-pair[1], pair[0]))[:most]

    return ranked


def plainly(cosines: dict[int, float], words: dict[int, float]) -> Scored:
    """Every passage by the formula, one after the other."""
    nearest, most = max(cosines.values()) + 1, max(words.values(), default=0)
    scores = {
        one: 0.8 * ((cosine + 1) / nearest if nearest else 0) + (1 - 0.8) * (words.get(one, 0) / most if most else 0)
        for one, cosine in cosines.items()
    }
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def test_each_part_is_measured_by_the_best_that_a_question_finds() -> None:
    """By hand: from -1 for cosines, from 0 for words; a vector counts for four fifths unless it is said otherwise."""
    scores = convex_combination(np.array([0.6, 0.2, -1.0]), np.array([0.0, 3.0, 6.0]))
    assert scores == pytest.approx([0.8, 0.8 * 1.2 / 1.6 + 0.1, 0.2])
    assert convex_combination(np.array([0.6, 0.2]), np.array([2.0, 4.0]), weight=0) == pytest.approx([0.5, 1])
    assert convex_combination(np.array([-1.0, -1.0]), np.array([0.0, 0.0])) == pytest.approx([0, 0])


@given(PASSAGES, st.integers(1, 12), st.integers(1, 12))
def test_what_comes_first_is_first_among_all_however_deep_the_lists_are(
    passages: list[tuple[int, int]], wanted: int, depth: int
) -> None:
    """Scores and order are those of every passage scored; of equal ones the lower id first."""
    cosines = {one: near / 4 - 1 for one, (near, _) in enumerate(passages)}
    words = {one: float(shared) for one, (_, shared) in enumerate(passages) if shared}
    found = blended(ranker(cosines), ranker(words), wanted, depth=depth)
    expected = plainly(cosines, words)[:wanted]
    assert [one for one, _ in found[:wanted]] == [one for one, _ in expected]
    assert [score for _, score in found[:wanted]] == pytest.approx([score for _, score in expected])


def test_a_passage_that_is_good_by_both_and_best_by_neither_is_found() -> None:
    """It stands in neither list as far as they are read at first."""
    cosines = {one: 0.9 if one < 5 else 0.0 for one in range(20)} | {10: 0.8}
    words = dict.fromkeys(range(15, 20), 9.0) | {10: 8.0}
    assert blended(ranker(cosines), ranker(words), 1, depth=2)[0][0] == 10


def test_a_question_without_known_words_is_ranked_by_vectors_and_nothing_by_nothing() -> None:
    """As `dense` would."""
    cosines = {1: 0.1, 2: 0.5, 3: 0.3}
    assert [one for one, _ in blended(ranker(cosines), ranker({}), 3, depth=10)] == [2, 3, 1]
    assert blended(ranker({}), ranker({}), 3, depth=10) == []

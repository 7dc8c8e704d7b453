"""From several rankings to the few passages that are given out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindgate_protocol.errors import InputError
from blindgate_rag.fusion import distinct, reciprocal_rank_fusion, within_budget


def test_what_both_rankings_have_comes_first() -> None:
    """The sums are the formula's, by hand."""
    fused = reciprocal_rank_fusion([[1, 2, 3], [3, 4]])
    assert [one for one, _ in fused] == [3, 1, 2, 4]
    assert dict(fused) == pytest.approx({3: 1 / 63 + 1 / 61, 1: 1 / 61, 2: 1 / 62, 4: 1 / 62})


def test_weights_decide_between_rankings() -> None:
    """A weight of nothing leaves a ranking's own passages behind all others."""
    assert [one for one, _ in reciprocal_rank_fusion([[1, 2], [2, 1]], weights=[1, 3])] == [2, 1]
    assert [one for one, _ in reciprocal_rank_fusion([[1], [2]], weights=[0, 1])] == [2, 1]


@given(st.lists(st.integers(0, 50), unique=True))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    """Fused with nothing, or with itself."""
    assert [one for one, _ in reciprocal_rank_fusion([ranking])] == ranking
    assert [one for one, _ in reciprocal_rank_fusion([ranking, ranking])] == ranking


def test_what_cannot_be_fused_is_refused() -> None:
    """The rule is named."""
    with pytest.raises(InputError, match="stands twice"):
        reciprocal_rank_fusion([[1, 1]])
    with pytest.raises(InputError, match="weights"):
        reciprocal_rank_fusion([[1], [2]], weights=[1])
    with pytest.raises(InputError, match="weights"):
        reciprocal_rank_fusion([[1]], weights=[float("nan")])
    with pytest.raises(InputError, match="constant"):
        reciprocal_rank_fusion([[1]], constant=-1)


def test_of_passages_that_say_the_same_the_best_ranked_stays() -> None:
    """The same text up to case and spaces, or nearly the same vector."""
    texts = {1: "Take twice  a day.", 2: "take twice a DAY. ", 3: "Take it twice a day", 4: "Never take it."}
    turned = np.array([np.cos(0.1), np.sin(0.1)], dtype=np.float32)
    vectors = {1: np.array([1, 0], np.float32), 3: turned, 4: np.array([0, 1], np.float32)}
    assert distinct([2, 1, 3, 4], texts) == [2, 3, 4]
    assert distinct([1, 3, 4], texts, vectors) == [1, 4]
    assert distinct([3, 1, 4], texts, vectors) == [3, 4]
    assert distinct([1, 3, 4], texts, vectors, cosine=0.999) == [1, 3, 4]


def test_a_budget_takes_from_the_top_and_stops() -> None:
    """More budget gives the same and more."""
    tokens = {1: 5, 2: 10, 3: 1}
    taken = [within_budget([1, 2, 3], tokens.__getitem__, budget) for budget in (4, 5, 14, 15, 16)]
    assert taken == [[], [1], [1], [1, 2], [1, 2, 3]]

"""A GPU proposes and does not decide: whatever it rounds, the answers are the ones that the CPU gives, bit for bit.

The cards here are stand-ins, on the CPU, which round as GPUs do or do worse; `tests/hardware` asks a real one.
"""

from collections.abc import Callable

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blindgate_rag.card import MOST
from blindgate_rag.dense import DenseIndex

WIDTH = 48

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Search = Callable[[Floats, Floats, int], tuple[Floats, Places]]


def best(scores: Floats, k: int) -> tuple[Floats, Places]:
    """The `k` highest; of equal ones the last first, as nobody promised otherwise."""
    places = scores.shape[1] - 1 - np.argsort(-scores[:, ::-1], axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, places, axis=1), places


def tf32(numbers: Floats) -> Floats:
    """As tensor cores read them: ten bits behind the first."""
    bits = numbers.view(np.uint32) + np.uint32(1 << 12)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def short_numbers(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """TF32."""
    return best(tf32(queries) @ tf32(vectors).T, k)


def other_order(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """Float32, summed from the last to the first."""
    return best(np.add.accumulate((queries[:, None] * vectors[None])[:, :, ::-1], axis=2)[:, :, -1], k)


def far_off(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """Scores to two digits, such as a card with half as many bits would give."""
    return best(np.round(queries @ vectors.T, 2), k)


def no_room(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """What faiss raises beside a model that fills the card."""
    message = "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory: cudaMalloc error out of memory"
    raise RuntimeError(message)


class CardStandIn:
    """Takes the place of faiss-gpu's functions, which faiss-cpu has none of."""

    def __init__(self, patched: pytest.MonkeyPatch, search: Search) -> None:
        self._search = search
        self.asked = 0
        patched.setattr(faiss, "get_num_gpus", lambda: 1)
        patched.setattr(faiss, "StandardGpuResources", object, raising=False)
        patched.setattr(faiss, "index_cpu_to_gpu", self._copied, raising=False)

    def _copied(self, resources: object, device: int, flat: faiss.IndexFlatIP) -> "CardStandIn":
        assert (type(resources), device, type(faiss.downcast_index(flat))) == (object, 0, faiss.IndexFlatIP)
        self._vectors = faiss.downcast_index(flat).reconstruct_n(0, flat.ntotal)
        return self

    def search(self, queries: Floats, k: int) -> tuple[Floats, Places]:
        """As an index on a GPU, which gives no more than this."""
        assert k <= MOST
        self.asked += 1
        return self._search(queries, self._vectors, k)


def near_each_other(seed: int, count: int = 600) -> tuple[Floats, Floats]:
    """Vectors of unit length of which many have nearly the same score for a question, and some exactly; and questions."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(12, WIDTH))
    points = centres[draw.integers(0, 12, count)] + draw.choice([0, 1e-7, 1e-4, 1e-2], (count, 1)) * draw.normal(
        size=(count, WIDTH)
    )
    queries = centres + 0.3 * draw.normal(size=centres.shape)
    return of_unit_length(points), of_unit_length(queries)


def of_unit_length(rows: NDArray[np.float64]) -> Floats:
    """Each divided by its length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def index_of(vectors: Floats) -> DenseIndex:
    """Ids that tell nothing of the places."""
    index = DenseIndex(WIDTH)
    index.add(np.random.default_rng(len(vectors)).permutation(5 * len(vectors))[: len(vectors)], vectors)
    return index


def answers(index: DenseIndex, queries: Floats, k: int) -> tuple[bytes, list[list[int]]]:
    """Scores to the last bit, and ids."""
    scores, ids = index.search(queries, k)
    return scores.tobytes(), ids.tolist()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 700), card=st.sampled_from([short_numbers, other_order]))
def test_a_cards_rounding_changes_no_answer(seed: int, k: int, card: Search) -> None:
    """Among copies, near-copies and others."""
    vectors, queries = near_each_other(seed)
    index = index_of(vectors)
    expected = answers(index, queries, k)
    with pytest.MonkeyPatch.context() as patched:
        stand_in = CardStandIn(patched, card)
        assert answers(index_of(vectors), queries, k) == expected
        assert answers(DenseIndex.from_bytes(index.to_bytes(), WIDTH), queries, k) == expected
        assert stand_in.asked


def test_more_than_a_card_gives_is_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last places too."""
    vectors, queries = near_each_other(2, count=MOST + 200)
    expected = answers(index_of(vectors), queries, MOST + 100)
    stand_in = CardStandIn(monkeypatch, short_numbers)
    assert answers(index_of(vectors), queries, MOST + 100) == expected
    assert not stand_in.asked


def test_a_cards_own_order_is_another_one() -> None:
    """So there is something to be put right above."""
    vectors, queries = near_each_other(3)
    expected = index_of(vectors).search(queries, 10)[0]
    assert all((card(queries, vectors, 10)[0] != expected).any() for card in (short_numbers, other_order))
    ours, exact = short_numbers(queries, vectors, 10)[1], best(queries @ vectors.T, 10)[1]
    assert (np.sort(ours, axis=1) != np.sort(exact, axis=1)).any()


@pytest.mark.parametrize("card", [far_off, no_room])
def test_a_card_that_cannot_be_used_is_asked_once(card: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU answers, then and afterwards; a corpus that has changed tries anew."""
    vectors, queries = near_each_other(4)
    expected = answers(index_of(vectors), queries, 10)
    stand_in = CardStandIn(monkeypatch, card)
    index = index_of(vectors)
    assert [answers(index, queries, 10) for _ in range(3)] == [expected] * 3
    assert stand_in.asked == 1
    index.add(np.array([10**6]), queries[:1])
    assert index.search(queries[:1], 1)[1].tolist() == [[10**6]]
    assert stand_in.asked > 1


def test_a_card_forgets_what_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy is made anew when the index has changed; a filter is the CPU's."""
    vectors, queries = near_each_other(5)
    stand_in = CardStandIn(monkeypatch, short_numbers)
    index = DenseIndex(WIDTH)
    index.add(np.arange(600), vectors)
    found = index.search(queries[:1], 3)[1][0]
    index.remove(found)
    assert not set(found) & set(index.search(queries[:1], 600)[1][0].tolist())
    asked = stand_in.asked
    allowed = np.arange(0, 600, 7)
    assert set(index.search(queries[:1], 600, allowed=allowed)[1][0].tolist()) == {-1, *allowed} - set(found)
    assert stand_in.asked == asked


def test_a_question_gets_the_same_alone_and_beside_others() -> None:
    """To the last bit of a score; faiss sums many questions' scores in another way than one's."""
    vectors, queries = near_each_other(6)
    index, many = index_of(vectors), np.repeat(queries, 4, axis=0)
    scores, ids = index.search(many, 10)
    for row, query in enumerate(many):
        alone = index.search(query[None], 10)
        assert (alone[0].tobytes(), alone[1].tolist()) == (scores[row].tobytes(), [ids[row].tolist()])

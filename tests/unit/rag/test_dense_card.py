"""A GPU proposes and does not decide: whatever it rounds, the answers are the ones that the CPU gives, bit for bit.

The cards here are stand-ins, on the CPU, which round as GPUs do or do worse; `tests/hardware` asks a real one.
"""

import logging
import os
import resource
import signal
import threading
import time

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blindgate_rag import card as cards
from blindgate_rag.card import MOST
from blindgate_rag.dense import DenseIndex
from card_stand_ins import (
    Floats,
    Search,
    before_the_first,
    behind_the_last,
    best,
    card_in_place,
    ends_later,
    far_off,
    hangs,
    never_ready,
    no_card,
    no_room,
    other_cards,
    other_order,
    short_numbers,
    small,
)

WIDTH = 48


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


def without_card(index: DenseIndex, queries: Floats, k: int) -> tuple[bytes, list[list[int]]]:
    """The CPU's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cards.Card, "nearest", lambda *_: None)
        return answers(index, queries, k)


@pytest.mark.parametrize("card", [short_numbers, other_order])
def test_a_cards_rounding_changes_no_answer(card: Search) -> None:
    """Among copies, near-copies and others."""

    @settings(max_examples=15)
    @given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 700))
    def the_same(seed: int, k: int) -> None:
        vectors, queries = near_each_other(seed)
        index = index_of(vectors)
        expected = without_card(index, queries, k)
        asked = len(answered)
        assert answers(index_of(vectors), queries, k) == expected
        assert answers(DenseIndex.from_bytes(index.to_bytes(), WIDTH), queries, k) == expected
        assert all(answered[asked:])
        assert len(answered) > asked

    with card_in_place(card) as answered:
        the_same()


def test_more_than_a_card_gives_is_the_cpus() -> None:
    """The last places too."""
    vectors, queries = near_each_other(2, count=MOST + 200)
    expected = answers(index_of(vectors), queries, MOST + 100)
    with card_in_place(short_numbers) as answered:
        assert answers(index_of(vectors), queries, MOST + 100) == expected
    assert not any(answered)


def test_a_cards_own_order_is_another_one() -> None:
    """So there is something to be put right above."""
    vectors, queries = near_each_other(3)
    expected = index_of(vectors).search(queries, 10)[0]
    assert all((card(queries, vectors, 10)[0] != expected).any() for card in (short_numbers, other_order))
    ours, exact = short_numbers(queries, vectors, 10)[1], best(queries @ vectors.T, 10)[1]
    assert (np.sort(ours, axis=1) != np.sort(exact, axis=1)).any()


@pytest.mark.parametrize("card", [far_off, no_room, behind_the_last, before_the_first])
def test_a_card_that_cannot_be_used_is_asked_once(card: Search) -> None:
    """The CPU answers, then and afterwards; a corpus that has changed tries anew."""
    vectors, queries = near_each_other(4)
    expected = answers(index_of(vectors), queries, 10)
    with card_in_place(card) as answered:
        index = index_of(vectors)
        assert answers(index, queries, 10) == expected
        assert answered == [card is far_off]
        assert [answers(index, queries, 10) for _ in range(2)] == [expected] * 2
        assert len(answered) == 1
        index.add(np.array([10**6]), queries[:1])
        assert index.search(queries[:1], 1)[1].tolist() == [[10**6]]
    assert any(answered[1:]) == (card is far_off)


def test_a_card_that_ends_its_process_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It does so at most of CUDA's errors. Whoever searches gets the CPU's answers, and its user the reason, once."""
    vectors, queries = near_each_other(5)
    index = index_of(vectors)
    expected = answers(index, queries, 10)
    with caplog.at_level(logging.WARNING), card_in_place(ends_later) as answered:
        assert [answers(index, queries, 10) for _ in range(3)] == [expected] * 3
        assert not any(answered)
        assert not cards.ready(60.0)
    assert [record.getMessage().count("CUDA error 209") for record in caplog.records] == [1]


@pytest.mark.parametrize(("card", "said"), [(other_cards, 1), (no_card, 0)])
def test_a_card_that_faiss_cannot_use_never_gets_ready(
    card: Search, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a GPU that this faiss was not built for. Where there is none, there is nothing to be told of."""
    vectors, queries = near_each_other(5)
    index = index_of(vectors)
    expected = answers(index, queries, 10)
    with caplog.at_level(logging.WARNING), card_in_place(card, ready=False) as answered:
        assert not cards.ready(60.0)
        assert answers(index, queries, 10) == expected
        assert not any(answered)
    assert len(caplog.records) == said


def test_a_card_that_hangs_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is killed."""
    vectors, queries = near_each_other(5)
    index = index_of(vectors)
    expected = answers(index, queries, 10)
    monkeypatch.setattr(cards, "ANSWER_SECONDS", 0.5)
    others = psutil.Process().children()
    with card_in_place(hangs) as answered:
        assert answers(index, queries, 10) == expected
        assert answers(index, queries, 10) == expected
        assert not any(answered)
        assert set(psutil.Process().children()) <= set(others)


def test_an_interrupted_answer_is_not_the_next_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it is read."""
    vectors, queries = near_each_other(7)
    index = index_of(vectors)
    expected = answers(index, queries[6:], 10)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with card_in_place(short_numbers) as answered:
        assert answers(index, queries[6:], 10) == expected
        asked = len(answered)
        with monkeypatch.context() as interrupted:
            interrupted.setattr(cards, "_require_done", interrupt)
            with pytest.raises(KeyboardInterrupt):
                index.search(queries[:6], 10)
        assert cards.ready(60.0)
        assert answers(index, queries[6:], 10) == expected
        assert answered[asked] is False
        assert all(answered[asked + 1 :])


def test_who_asks_once_starts_no_card_and_who_goes_on_does_not_wait_for_it() -> None:
    """A command's only question is answered before a card is ready."""
    vectors = of_unit_length(np.random.default_rng(8).normal(size=(600, WIDTH)))  # nothing near: a search asks once
    queries = vectors[:1]
    index = index_of(vectors)
    expected = answers(index, queries, 10)
    others = psutil.Process().children()
    with card_in_place(short_numbers, ready=False) as answered:
        assert answers(index, queries, 10) == expected
        assert set(psutil.Process().children()) <= set(others)
        begun = time.monotonic()
        while not any(answered) and time.monotonic() < begun + 60:
            assert answers(index, queries, 10) == expected
        assert any(answered)
        assert answered.count(False) > 1


def test_several_threads_ask_one_card() -> None:
    """Whoever finds it busy is answered by the CPU."""
    vectors, queries = near_each_other(9)
    index = index_of(vectors)
    expected = answers(index, queries, 10)
    wrong: list[int] = []

    def ask() -> None:
        wrong.extend(1 for _ in range(40) if answers(index, queries, 10) != expected)

    with card_in_place(short_numbers) as answered:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert any(answered)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_asks_a_card_of_its_own() -> None:
    """Two that share one would read each other's answers; and the fork's end is not the end of its parent's card."""
    vectors, queries = near_each_other(10)
    index = index_of(vectors)
    with card_in_place(short_numbers) as answered:
        expected = answers(index, queries, 10)
        others = set(psutil.Process().children())
        if (child := os.fork()) == 0:
            signal.alarm(60)
            started = cards.ready(60.0) and len(psutil.Process().children()) == 1
            cards.restart()
            os._exit(not started)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert set(psutil.Process().children()) == others
        assert answers(index, queries, 10) == expected
        assert all(answered)


def test_what_is_not_searched_any_more_takes_no_room() -> None:
    """An index that changed, and one that is gone."""
    vectors, queries = near_each_other(11)
    with card_in_place(small) as answered:
        index = index_of(vectors)
        for number in range(5):
            index.search(queries, 10)
            index.add(np.array([10**6 + number]), queries[:1])
            index_of(vectors).search(queries, 10)
    assert all(answered)


def test_a_cards_process_knows_no_passphrase_and_leaves_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may crash with a corpus's vectors in its memory."""
    monkeypatch.setenv("BLINDGATE_CORPUS_PASSPHRASE", "open sesame")
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    others = set(psutil.Process().children())
    with card_in_place(short_numbers):
        (process,) = set(psutil.Process().children()) - others
        assert process.rlimit(psutil.RLIMIT_CORE)[0] == 0
        assert "sesame" not in str(process.environ())
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_a_card_that_never_gets_ready_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process is killed, and its user told."""
    vectors, queries = near_each_other(12)
    index = index_of(vectors)
    expected = answers(index, queries, 10)
    monkeypatch.setattr(cards, "START_SECONDS", 0.5)
    others = psutil.Process().children()
    with caplog.at_level(logging.WARNING), card_in_place(never_ready, ready=False):
        assert not cards.ready(0.6)
        assert answers(index, queries, 10) == expected
        assert set(psutil.Process().children()) <= set(others)
    assert ["TimeoutError" in record.getMessage() for record in caplog.records] == [True]


def test_a_card_forgets_what_was_removed() -> None:
    """Its copy is made anew when the index has changed; a filter is the CPU's."""
    vectors, queries = near_each_other(5)
    index = DenseIndex(WIDTH)
    index.add(np.arange(600), vectors)
    with card_in_place(short_numbers) as answered:
        found = index.search(queries[:1], 3)[1][0]
        index.remove(found)
        assert not set(found) & set(index.search(queries[:1], 600)[1][0].tolist())
        asked = len(answered)
        allowed = np.arange(0, 600, 7)
        assert set(index.search(queries[:1], 600, allowed=allowed)[1][0].tolist()) == {-1, *allowed} - set(found)
        assert len(answered) == asked
    assert all(answered)


def test_a_question_gets_the_same_alone_and_beside_others() -> None:
    """To the last bit of a score; faiss sums many questions' scores in another way than one's."""
    vectors, queries = near_each_other(6)
    index, many = index_of(vectors), np.repeat(queries, 4, axis=0)
    scores, ids = index.search(many, 10)
    for row, query in enumerate(many):
        alone = index.search(query[None], 10)
        assert (alone[0].tobytes(), alone[1].tolist()) == (scores[row].tobytes(), [ids[row].tolist()])

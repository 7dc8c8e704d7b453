"""The words that a corpus keeps: the same answers as an index made anew, nothing of what was removed, and no bytes believed."""

import io
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import bm25s
import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError
from blindgate_rag import word_counts
from blindgate_rag.lexical import LexicalIndex
from blindgate_rag.passages import Document, Passage
from blindgate_rag.records import DocumentRecord, PassageRecord, Records
from blindgate_rag.state import State
from blindgate_rag.word_counts import WordCounts
from blindgate_rag.words import RULE, words_of

_FIELDS = ("rule", "ids", "starts", "rows", "counts", "words")


def drawn(count: int, seed: int = 1) -> list[str]:
    """Texts of drawn words, few of them frequent, as in any language; some have none."""
    draw = np.random.default_rng(seed)
    return [" ".join(f"w{number}" for number in draw.zipf(1.4, size=draw.integers(0, 40))) for _ in range(count)]


def numbered(count: int, begin: int = 0) -> NDArray[np.int64]:
    """Ids."""
    return np.arange(begin, begin + count, dtype=np.int64)


def answers(counts: WordCounts) -> list[list[tuple[int, float]]]:
    """What an index over them finds, scores to the bit."""
    index = LexicalIndex.over(counts)
    return [index.search(question, 50) for question in ("w1 w2", "w3 w9 w27", "w2 w1000 nothing", "cough")]


def test_weights_are_those_of_bm25s_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of texts that it indexed itself; here they are counted a few at a time."""
    monkeypatch.setattr(word_counts, "_AT_ONCE", 7)
    texts = drawn(300)
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    words = [[vocabulary[word] for word in words_of(text)] for text in texts]
    theirs: Any = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numpy")
    theirs.index((words, dict(vocabulary)), create_empty_token=False, show_progress=False)
    ours = LexicalIndex.of(numbered(300), texts)._ranker
    assert ours.vocab_dict == vocabulary
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(ours.scores[name], theirs.scores[name])


@pytest.mark.parametrize(
    "text", ["a_b 2.5mg, 1,571.7 I10; x1y2z3 3.4.5 .5 5.", "Ünder_score 12\u00bd \u0663\u0664 x\u0301", ""]
)
def test_plain_letters_are_cut_as_all_others_are(text: str) -> None:
    """A text without accents takes a shorter way to the same words."""
    assert words_of(text) == words_of(text + " \u00e4")[: len(words_of(text))]


def test_passages_that_come_and_go_leave_what_counting_anew_would_give() -> None:
    """Whatever came first; and a passage is counted again where another has its id."""
    texts = drawn(60)
    counts = WordCounts.of(numbered(40), texts[:40])
    ids = np.array([*range(10, 30), *range(40, 60)], dtype=np.int64)
    now = [texts[one] for one in ids]
    now[0] = "cough and w1"
    changed = counts.brought_to(ids, now, removed=[10])
    assert answers(changed) == answers(WordCounts.of(ids, now))
    assert answers(changed)[-1]
    nothing = changed.brought_to(numbered(0), [], removed=())
    assert (len(nothing), nothing.vocabulary) == (0, {})


def test_another_text_under_the_same_id_is_counted() -> None:
    """As where two machines gave one id, and the other's passage comes in place of ours."""
    state = State(0, Records(), None)
    passages = [Passage("cough and w1", "mine", 1, 0)]
    document = Document("mine", "sha256:" + "0" * 64, "txt", ())
    (one,) = state.records.add(document, passages, tokens=[3], origin="mine", metadata={})
    assert [found for found, _ in state.words().search("cough", 5)] == [one]
    state.records.remove("mine")
    theirs = DocumentRecord(7, "theirs", "theirs", document.digest, "txt", {}, 0)
    state.records.restore(theirs, [PassageRecord(one, 7, 0, 1, 1, "warfarin")])
    state._touch()
    assert state.words().search("cough", 5) == []
    assert [found for found, _ in state.words().search("warfarin", 5)] == [one]


def test_what_comes_back_from_bytes_gives_the_same_answers() -> None:
    """Also an index of nothing."""
    counts = WordCounts.of(numbered(50), drawn(50))
    again = WordCounts.from_bytes(counts.to_bytes())
    assert again is not None
    assert answers(again) == answers(counts)
    empty = WordCounts.from_bytes(WordCounts.of(numbered(0), []).to_bytes())
    assert empty is not None
    assert len(empty) == 0


def test_a_word_that_is_gone_is_in_no_byte() -> None:
    """Not as a word, and not as an empty place: nothing tells that there were others."""
    texts = ["cough", "warfarin and cough", "visits"]
    counts = WordCounts.of(numbered(3), texts)
    assert b"warfarin" in counts.to_bytes()
    left = counts.brought_to(np.array([0, 2]), [texts[0], texts[2]], removed=[1])
    assert left.to_bytes() == WordCounts.of(np.array([0, 2]), [texts[0], texts[2]]).to_bytes()


def test_words_found_by_another_rule_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release that cuts words otherwise counts anew, and so does another release of Unicode."""
    data = WordCounts.of(numbered(3), ["a", "b", "c"]).to_bytes()
    monkeypatch.setattr(word_counts, "RULE", b"blindgate words v9")
    assert WordCounts.from_bytes(data) is None


def spoilt(**changes: Callable[[NDArray[Any]], NDArray[Any]]) -> bytes:
    """The counts of three passages, with some arrays replaced."""
    data = WordCounts.of(numbered(3), ["a b", "b c", "c"]).to_bytes()
    read, written = io.BytesIO(data), io.BytesIO()
    for name in _FIELDS:
        array = np.load(read, allow_pickle=False)
        np.save(written, changes[name](array) if name in changes else array, allow_pickle=True)
    return written.getvalue()


def changed(place: int, value: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """An array with one number replaced."""

    def change(given: NDArray[Any]) -> NDArray[Any]:
        made = given.copy()
        made[place] = value
        return made

    return change


def wrapping(starts: NDArray[Any]) -> NDArray[Any]:
    """Numbers whose differences are above 0 only because 64 bits are not enough for them."""
    made = starts.copy()
    made[1:3] = np.iinfo(np.int64).max, np.iinfo(np.int64).min + 9
    return made


_HUGE = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(117)
    + b"\n"
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the rule: no array"),
        (b"\x80\x04K\x01.", "the rule: no array"),
        (spoilt()[:-1], "words: was cut"),
        (spoilt() + b"x", "more follows"),
        (spoilt(ids=lambda one: one.astype(object)), "ids: no array of int64 in one row"),
        (spoilt(ids=lambda one: one.astype(">i8")), "ids: no array of int64 in one row"),
        (spoilt(ids=lambda one: one[:, None]), "ids: no array of int64 in one row"),
        (spoilt().replace(b"(3,), }", b"(3,), (", 1), "no array of"),
        (spoilt().replace(b"'<i8'", b"'<i8\\", 1), "ids: no array of"),
        (spoilt(ids=changed(0, 1)), "ids: one is there twice"),
        (spoilt(ids=changed(0, -1)), "ids: one is there twice or below 0"),
        (spoilt(starts=changed(0, 1)), "starts: not those"),
        (spoilt(starts=changed(1, 3)), "starts: not those"),
        (spoilt(starts=changed(3, 99)), "starts: not those"),
        (spoilt(starts=wrapping), "starts: not those"),
        (spoilt(starts=lambda one: one[:0]), "starts: not those"),
        (spoilt(rows=changed(4, 3)), "rows: not those"),
        (spoilt(rows=changed(0, -1)), "rows: not those"),
        (spoilt(rows=changed(1, 1)), "rows: not those"),
        (spoilt(counts=changed(0, 0)), "counts: not one a row"),
        (spoilt(counts=lambda one: one[:-1]), "counts: not one a row"),
        (spoilt(words=changed(0, ord("b"))), "words: one is there twice"),
        (spoilt(words=changed(0, 255)), "words: not UTF-8"),
        (spoilt(ids=lambda one: one[:2]), "rows: not those"),
    ],
)
def test_bytes_that_contradict_themselves_are_refused(data: bytes, says: str) -> None:
    """Before anything is looked up in them, and without pickle."""
    with pytest.raises(CorpusError, match=says):
        WordCounts.from_bytes(data)


def test_no_memory_is_taken_for_what_is_not_there() -> None:
    """A header may say anything."""
    rule = io.BytesIO()
    np.save(rule, np.frombuffer(RULE, dtype=np.uint8))
    with pytest.raises(CorpusError, match="ids: was cut"):
        WordCounts.from_bytes(rule.getvalue() + _HUGE)

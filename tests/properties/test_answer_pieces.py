"""An answer in pieces: wherever it is divided, what is given out is what the whole would become, and little is held back."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from blindgate.citations import LONGEST, Citing
from blindgate_rag.redaction import Redactor
from blindgate_rag.redaction.placeholders import LONGEST as LONGEST_PLACEHOLDER

COUNT = 2
VALUES = ("4111 1111 1111 1111", "anna@example.com")
ATOMS = (
    *("[", "]", " [", "【", "】", "\\[", "\\", "_", " ", "\n", ",", ";", ", ", "   ", "#", "\u00e9", "tea", "x"),
    *("0", "1", "2", "9", "12", "2024", "[1]", " [9]", "[1, 9]", " [2;1]", "[1,   2]", "[7 , 8]", "[1, 2"),
    *(
        "[CARD_1]",
        "[CARD_2]",
        "card_1",
        "\\[CARD\\_1\\]",
        "[Email 1]",
        "[ card #1 ]",
        "[CA",
        "RD_",
        "CARD",
        "[CA[9]RD_1]",
    ),
    *(
        "`",
        "``",
        "```",
        '": ',
        "[1-2]",
        "[1 and 2]",
        "[1, p. 4]",
        "【9】",
        "\u20202",
        "\\[1\\]",
        "[2019]",
        "passage ",
        "range ",
        "95% CI",
        "[1, 45]",
        "[0, 1]",
        "[1,200]",
        "https://e/?",
    ),
)
texts = st.lists(st.sampled_from(ATOMS), max_size=14).map("".join)


def redactor() -> Redactor:
    """One that knows two values."""
    made = Redactor()
    made.redact(" ".join(VALUES))
    return made


def whole(text: str, known: Redactor) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """What an answer becomes, read at once: the text, what it cites, and what it cites in vain."""
    citing = Citing(COUNT)
    text = citing.feed(text) + citing.close()
    return known.restore(text), citing.cited, citing.unresolved


@settings(max_examples=300)
@example("See [1, 9] [9] for [CARD_1], [Email 1] [", [])
@example("[" + ", ".join(["9"] * 33) + "]" + "[" + ", ".join(["1"] * 34) + "]", list(range(1, 200)))
@given(texts, st.lists(st.integers(0, 60), max_size=10))
def test_an_answer_in_pieces_is_the_whole_answer(text: str, cuts: list[int]) -> None:
    """Divided at random and into single characters: text, citations, and what is told of those of nothing."""
    known = redactor()
    expected = whole(text, known)
    places = sorted(min(cut, len(text)) for cut in cuts)
    divided = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    for pieces in (divided, list(text)):
        citing, restorer = Citing(COUNT), known.restorer()
        parts = [restorer.feed(citing.feed(piece)) for piece in pieces]
        parts += [restorer.feed(citing.close()), restorer.close()]
        assert ("".join(parts), citing.cited, citing.unresolved) == expected


@settings(max_examples=100)
@given(texts)
def test_what_is_shown_stays_and_is_never_far_behind(text: str) -> None:
    """After each character: a beginning of what it will be, and at most a citation and a placeholder short of what came."""
    known = redactor()
    final, citing, restorer, shown = whole(text, known)[0], Citing(COUNT), known.restorer(), ""
    for end, character in enumerate(text, 1):
        shown += restorer.feed(citing.feed(character))
        assert final.startswith(shown)
        so_far = whole(text[:end], known)[0]
        assert len(so_far) - len(shown) <= LONGEST + LONGEST_PLACEHOLDER + max(map(len, VALUES))


def test_words_and_brackets_of_another_kind_are_not_held_back() -> None:
    """Only an end that could go on as a citation waits, and no longer than it could."""
    citing = Citing(COUNT)
    assert citing.feed("Drink tea") == "Drink tea"
    assert citing.feed(" [") == ""
    assert citing.feed("sic] and ") == " [sic] and"
    assert citing.feed("[1,") == ""
    assert citing.feed(" 2, 3") == ""
    assert citing.feed(", four]") == " [1, 2, 3, four]"
    assert citing.feed("[" + "1, " * 40 + "1") == "[" + "1, " * 40 + "1"
    assert citing.feed("[1 tablet") == "[1 tablet"
    assert (citing.close(), citing.cited) == ("", ())

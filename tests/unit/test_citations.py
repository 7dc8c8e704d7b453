"""Citations as models write them: what they name, what becomes of the text, and what in brackets is none."""

import pytest

from blindgate.citations import LONGEST, Citing, without_citations


def read(text: str, count: int = 3) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Of an answer: its text, what it cites, and what it cites in vain."""
    citing = Citing(count)
    return citing.feed(text) + citing.close(), citing.cited, citing.unresolved


@pytest.mark.parametrize(
    ("written", "shown", "cited", "unresolved"),
    [
        ("[2]", " [2]", (2,), ()),
        ("[1,3]", " [1, 3]", (1, 3), ()),
        ("[1; 2]", " [1, 2]", (1, 2), ()),
        ("[1][2]", " [1][2]", (1, 2), ()),
        ("[1-3]", " [1, 2, 3]", (1, 2, 3), ()),
        ("[1\u20132]", " [1, 2]", (1, 2), ()),
        ("[1 and 3]", " [1, 3]", (1, 3), ()),
        ("[1, 2 and 9]", " [1, 2]", (1, 2), (9,)),
        ("[Passage 2]", " [2]", (2,), ()),
        ("[passages 1 and 2]", " [1, 2]", (1, 2), ()),
        ("[source: 9]", "", (), (9,)),
        ("[#2]", " [2]", (2,), ()),
        ("[^1]", " [1]", (1,), ()),
        ("\\[1\\]", " [1]", (1,), ()),
        ("[1, p. 4]", " [1]", (1,), ()),
        ("[9, pp. 4-6]", "", (), (9,)),
        ("[ 2 ]", " [2]", (2,), ()),
        ("\uff3b2\uff3d", " [2]", (2,), ()),
        ("【1】", " [1]", (1,), ()),
        ("【1†source】", " [1]", (1,), ()),
        ("【9†L3-L5】", "", (), (9,)),
        ("【99】", "", (), (99,)),
        ("[0]", "", (), (0,)),
        ("[99]", "", (), (99,)),
        ("[1](https://e.example)", " [1](https://e.example)", (1,), ()),
        ("**[1]**", " **[1]**", (1,), ()),
    ],
)
def test_a_citation_is_read_as_models_write_it(
    written: str, shown: str, cited: tuple[int, ...], unresolved: tuple[int, ...]
) -> None:
    """At once and character by character."""
    text, expected = f"Tea {written}.", (f"Tea{shown}.", cited, unresolved)
    assert read(text) == expected
    citing = Citing(3)
    assert ("".join(map(citing.feed, text)) + citing.close(), citing.cited, citing.unresolved) == expected


@pytest.mark.parametrize(
    "text",
    [
        "in [2019] and [2019, 2020]",
        "aged [18-65], pain [0-10], [3-1]",
        "[-1], [sic], [1.5], [1:2], [a1], (1), [1 tablet], [1, two]",
        "```\nv[0] = w[12]\n``` and so on",
        '{"doses": [500, 250], "n": [9],"m":[0]}',
        "[" + ", ".join(["1"] * 60) + "]",
    ],
)
def test_what_is_in_brackets_and_is_no_citation_stays(text: str) -> None:
    """Years, intervals, a block of code, a list of JSON's; and more numbers than anybody cites."""
    assert read(text) == (text, (), ())
    citing = Citing(3)
    assert "".join(map(citing.feed, text)) + citing.close() == text
    assert without_citations(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a fall of 20 mmHg (95% CI [2, 45]), and the CI: [0, 1]",
        "a range of [1, 9]; within [2,8]; **IQR** [3, 40]",
        "median 12 [3, 31] days, 12% [2, 45]",
        "doses were [12, 45], [12; 45] and [100, 250, 500]",
        "p in [0, 1], a bill of [1,200]",
    ],
)
def test_no_figure_is_lost(text: str) -> None:
    """Intervals and lists of whole numbers, some of which are passages'; nothing is cited by them."""
    assert read(text) == (text, (), ())
    citing = Citing(3)
    assert "".join(map(citing.feed, text)) + citing.close() == text


@pytest.mark.parametrize(
    ("text", "shown", "cited", "unresolved"),
    [
        ("the range [1, 3].", "the range [1, 3].", (1, 3), ()),
        ("Given tea [1, 9].", "Given tea [1].", (1,), (9,)),
        ("Given tea [sources 8, 9].", "Given tea.", (), (8, 9)),
        ("Given tea 【8, 9】.", "Given tea.", (), (8, 9)),
        ("Given tea [8, 9, p. 4].", "Given tea.", (), (8, 9)),
        ("the interval [9]", "the interval", (), (9,)),
        ("the interval [3, 1, 9]", "the interval [3, 1]", (3, 1), (9,)),
        ("Given oranges [1, 9].", "Given oranges [1].", (1,), (9,)),
    ],
)
def test_what_can_only_be_a_citation_is_one(
    text: str, shown: str, cited: tuple[int, ...], unresolved: tuple[int, ...]
) -> None:
    """Where every number is a passage's, a word or a sign says so, or there is one number, or more than an interval has."""
    assert read(text) == (shown, cited, unresolved)
    citing = Citing(3)
    assert "".join(map(citing.feed, text)) + citing.close() == shown


def test_passages_that_code_or_json_names_count_and_nothing_is_changed() -> None:
    """An answer in JSON stays JSON."""
    assert read('{"answer": "Tea [9].", "sources": [1,  3]}') == (
        '{"answer": "Tea.", "sources": [1,  3]}',
        (1, 3),
        (9,),
    )
    assert read("```json\nsee [2]\n``` [9]") == ("```json\nsee [2]\n```", (2,), (9,))


def test_an_earlier_answer_goes_without_its_citations() -> None:
    """They name passages of then."""
    assert without_citations("Tea [1], honey [2, 3]; not [99].") == "Tea, honey; not."
    assert without_citations("a fall of 20 (CI [2, 45]), p in [0, 1]") == "a fall of 20 (CI [2, 45]), p in [0, 1]"
    assert without_citations("219099999[1]and 31926819 [9]so") == "219099999 and 31926819 so"


@pytest.mark.parametrize("unit", ["[", "[1", "[1,", "[1†", "`", "[passage ", "[1 and ", "\\[1", "[1, p. ", "【"])
def test_an_answer_made_to_be_slow_is_not_and_no_more_than_a_citation_is_held_back(unit: str) -> None:
    """In one piece, and in single characters."""
    text = (unit * 50_000)[:50_000]
    assert read(text)[0] == text
    citing, shown = Citing(3), 0
    for end, character in enumerate(text[:2_000], 1):
        shown += len(citing.feed(character))
        assert end - shown <= LONGEST

"""What a corpus knows of its documents."""

import pytest

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CorpusError, InputError
from blindgate_rag.passages import Document, Page, Passage
from blindgate_rag.records import Metadata, Records

CARD = "4111 1111 1111 1111"


def put(
    records: Records, source: str, *texts: str, origin: str | None = None, **metadata: str | float | bool
) -> list[int]:
    """Put a document in, each text a passage."""
    document = Document(source, digest("".join(texts).encode()), "txt", tuple(Page(text) for text in texts))
    passages = [Passage(text, source, None, position) for position, text in enumerate(texts)]
    lengths = [len(text.split()) for text in texts]
    return records.add(document, passages, tokens=lengths, origin=origin or f"/{source}", metadata=metadata)


def test_ids_are_given_once() -> None:
    """So a citation of a passage that is gone names no other one."""
    records = Records()
    assert put(records, "a", "one", "two") == [1, 2]
    assert records.remove("/a") == [1, 2]
    assert put(records, "b", "three") == [3]
    again = Records(records.to_bytes())
    assert put(again, "c", "four") == [4]


def test_what_is_removed_is_in_no_byte_of_what_is_written() -> None:
    """Deleting really deletes."""
    records = Records()
    put(records, "a", f"card {CARD}", *(f"line {number}" for number in range(500)))
    put(records, "b", "kept")
    assert CARD.encode() in records.to_bytes()
    records.remove("/a")
    assert CARD.encode() not in records.to_bytes()
    assert Records(records.to_bytes()).count() == (1, 1)


def test_a_document_takes_the_place_of_the_one_of_its_origin() -> None:
    """And two of one name from two places are two."""
    records = Records()
    put(records, "report.txt", "of ward 3", origin="/ward3/report.txt")
    put(records, "report.txt", "of ward 4", origin="/ward4/report.txt")
    put(records, "report.txt", "of ward 3, again", origin="/ward3/report.txt")
    assert sorted(one.source for one in records.documents()) == ["/ward4/report.txt", "report.txt"]
    assert sorted(records.texts()[1]) == ["of ward 3, again", "of ward 4"]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({}, "abc"),
        ({"ward": "3B"}, "ab"),
        ({"ward": ["3B", "4A"]}, "abc"),
        ({"ward": "3B", "year": 2020}, "a"),
        ({"year": 2020.0}, "a"),
        ({"year": "2020"}, ""),
        ({"closed": True}, "b"),
        ({"closed": 1}, ""),
        ({"ward": []}, ""),
        ({"ward": "3B", "closed": False}, ""),
    ],
)
def test_documents_are_found_by_what_is_known_of_them(where: dict[str, object], found: str) -> None:
    """Each name has this value, or one of these; a number is no text, and true is not one."""
    records = Records()
    put(records, "a", "x", ward="3B", year=2020)
    put(records, "b", "y", ward="3B", closed=True)
    put(records, "c", "z", ward="4A")
    assert "".join(one.source for one in records.documents(where)) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"": "x"}, "a name of metadata"),
        ({1: "x"}, "a name of metadata"),
        ({"list": [1]}, "'list' is a list"),
        ({"none": None}, "'none' is a NoneType"),
        ({"big": "x" * 20_000}, "at most 16384"),
        ({"nan": float("nan")}, "'nan' is nan: expected a finite number"),
        ({"ward": "3\udcff"}, r"'ward' is '3\\udcff', which is no text: it is not UTF-8"),
        ({"\udcff": 1}, r"'\\udcff' is 1, which is no text"),
    ],
    ids=["empty name", "number", "list", "none", "big", "nan", "no text", "a name that is none"],
)
def test_metadata_that_cannot_be_kept_is_refused_by_name(metadata: Metadata, says: str) -> None:
    """And nothing of the document is in."""
    records = Records()
    document = Document("a", digest(b""), "txt", (Page("x"),))
    with pytest.raises(InputError, match=says):
        records.add(document, [Passage("x", "a", None, 0)], tokens=[1], origin="/a", metadata=metadata)
    assert records.count() == (0, 0)


def test_what_another_release_wrote_is_refused() -> None:
    """With both numbers; and so is what is no database."""
    records = Records()
    records.set("format", "7")
    with pytest.raises(CorpusError, match="written in format 7, and this release reads 1"):
        Records(records.to_bytes())
    with pytest.raises(CorpusError, match="cannot be read"):
        Records(b"not a database" * 100)

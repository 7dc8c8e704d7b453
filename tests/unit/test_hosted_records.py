"""Passages as records of one size: written by their owner, read back by whoever fetched one, and by nobody's else's."""

import zlib
from typing import Any

import pytest

from blindgate import hosted_records
from blindgate.hosted_records import _deflated, opened, record_digest, written
from blindgate_protocol.errors import InputError
from blindgate_rag.hits import Hit


def passage(text: str = "Aspirin.", **changes: Any) -> Hit:
    """A passage as a corpus has it."""
    given: dict[str, Any] = {"source": "dose.txt", "page": 3, "metadata": {"ward": "3B"}, "passage": 7, "tokens": 2}
    return Hit(text=text, score=0.0, **(given | changes))


def test_what_is_read_is_what_was_written_and_of_one_size() -> None:
    """Any text, no page, metadata of every type: byte for byte, with the score that it was found with."""
    metadata: dict[str, Any] = {"text": "ä", "yes": True, "whole": 2**53, "broken": 0.1, "one": 1, "one.": 1.0}
    passages = [passage(), passage("\0\n頭痛 🩺 " * 40, page=None), passage("", metadata=metadata, source="ö/ä.txt")]
    records = written(passages)
    assert len({len(one) for one in records}) == 1
    for given, record in zip(passages, records, strict=True):
        found = opened(record, record_digest(record), 0.25)
        assert found is not None
        assert (found.text, found.source, found.page, found.passage) == (given.text, given.source, given.page, 7)
        assert (found.tokens, found.score) == (2, 0.25)
        assert {name: (type(value), value) for name, value in found.metadata.items()} == {
            name: (type(value), value) for name, value in given.metadata.items()
        }


def test_no_digest_confirms_a_guess() -> None:
    """The same passage twice has two records."""
    one, other = written([passage(), passage()])
    assert record_digest(one) != record_digest(other)


@pytest.mark.parametrize("place", [0, 17, 40, -1], ids=["salt", "length", "text", "filling"])
def test_a_record_that_is_another_is_nobodys(place: int) -> None:
    """One bit, anywhere; zeros, which a fetch of nothing gives."""
    (record,) = written([passage()])
    altered = bytearray(record)
    altered[place] ^= 1
    assert opened(bytes(altered), record_digest(record), 0.0) is None
    assert opened(bytes(len(record)), record_digest(record), 0.0) is None


def bomb() -> bytes:
    """A passage in every way but its length."""
    small = zlib.decompress(_deflated(passage("a dose")), wbits=-15)
    return zlib.compress(small.replace(b"a dose", b"x" * (1 << 20)), wbits=-15)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(bomb(), id="a bomb"),
        pytest.param(zlib.compress(b'{"text": "a"}', wbits=-15), id="half a passage"),
        pytest.param(b"\xff" * 30, id="nothing deflated"),
        pytest.param(zlib.compress(b"{}", wbits=-15)[:-1], id="cut"),
    ],
)
def test_an_owner_who_writes_no_passage_has_none(body: bytes) -> None:
    """Whose digest is right, and whose record is not: no error that a node could have brought about, either."""
    record = hosted_records._record(body, 8192)
    assert opened(record, record_digest(record), 0.0) is None


def test_a_passage_that_is_too_long_is_named() -> None:
    """With what makes it long: its document's metadata lies in each of its records."""
    noise = "".join(chr(0x4E00 + (place * 7919) % 20000) for place in range(9000))
    with pytest.raises(InputError, match=r"passage 7 of long.txt: takes \d+ bytes with its document's metadata"):
        written([passage(), passage(source="long.txt", metadata={"note": noise})])
    with pytest.raises(InputError, match=r"passage 7 of long.txt: takes \d+ bytes .* expected less than 1048576"):
        written(
            [passage("a" * (1 << 20), source="long.txt")]
        )  # it deflates to little, and would be read back by nobody


def test_too_many_passages_are_refused_with_what_the_longest_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are filled up to the longest, so that is the one to shorten."""
    monkeypatch.setattr(hosted_records, "MAX_BYTES", 200)
    with pytest.raises(
        InputError, match=r"2 passages, each filled up to the \d+ bytes of the longest, which is passage 7"
    ):
        written([passage(), passage("long " + "".join(map(str, range(100))))])

"""How a corpus is cut into shards, and what is refused as one."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CorpusError
from blindgate_rag.records import DocumentRecord, MetadataValue, PassageRecord
from blindgate_rag.sync.shards import Filed, cut, from_bytes, place_of, shard_of, to_bytes

CORPUS = "0" * 32
DIMENSION = 8


def _filed(number: int, *, passages: int = 3, metadata: dict[str, MetadataValue] | None = None) -> Filed:
    origin = f"/reports/{number}.txt"
    record = DocumentRecord(number, origin, f"reports/{number}", digest(origin.encode()), "txt", metadata or {}, 1000)
    first = 10 * number
    rows = [
        PassageRecord(first + at, number, at, at or None, 7, f"passage {at} of {number} 😷") for at in range(passages)
    ]
    vectors = np.random.default_rng(number).integers(-127, 128, size=(passages, DIMENSION)).astype(np.int8)
    return Filed(record, rows, vectors)


def test_a_shard_gives_back_what_was_put_into_it() -> None:
    """Every field, and a number of metadata stays what it was."""
    metadata: dict[str, MetadataValue] = {"ward": "3B", "year": 2026, "dose": 1.0, "huge": 1 << 70, "true": True}
    documents = [_filed(1, metadata=metadata), _filed(2, passages=1)]
    found = from_bytes("s", to_bytes(documents), corpus=CORPUS, dimension=DIMENSION)
    for put, got in zip(documents, found, strict=True):
        assert got.document == put.document
        assert {name: type(value) for name, value in got.document.metadata.items()} == {
            name: type(value) for name, value in put.document.metadata.items()
        }
        assert list(got.passages) == list(put.passages)
        np.testing.assert_array_equal(got.vectors, put.vectors)
        assert got.says_the_same(put)


@pytest.mark.parametrize("change", [{"page": 9}, {"text": "passage 1 of 1, read as cp1252"}], ids=["page", "text"])
def test_one_file_that_two_machines_read_otherwise_does_not_say_the_same(change: dict[str, Any]) -> None:
    """In another encoding, or by another release: of the two the later one counts. Ids are each machine's own."""
    mine = _filed(1)
    theirs = Filed(replace(mine.document, id=7), [replace(one, id=one.id + 90) for one in mine.passages], mine.vectors)
    assert mine.says_the_same(theirs)
    passages = [mine.passages[0], replace(mine.passages[1], **change), mine.passages[2]]
    assert not mine.says_the_same(Filed(mine.document, passages, mine.vectors))


def test_shards_follow_from_the_documents_alone_and_one_document_changes_one() -> None:
    """Whatever the order in which they came; none is larger than it may be, and every document is found."""
    documents = [_filed(number) for number in range(1, 200)]
    most = 4000
    shards = cut(CORPUS, documents, most=most)
    assert {name: to_bytes(one) for name, one in cut(CORPUS, documents[::-1], most=most).items()} == {
        name: to_bytes(one) for name, one in shards.items()
    }
    assert len(shards) > 20
    assert all(sum(each.size for each in one) <= most for one in shards.values())
    assert sum(map(len, shards.values())) == len(documents)
    for one in documents:
        name = shard_of(shards, CORPUS, one.document.origin)
        assert name is not None
        assert one in shards[name]
    more = cut(CORPUS, [*documents, _filed(500)], most=most)
    changed = {name for name in shards if name not in more or to_bytes(more[name]) != to_bytes(shards[name])}
    assert changed == {shard_of(shards, CORPUS, "/reports/500.txt")}


def test_the_same_document_lies_elsewhere_in_another_corpus() -> None:
    """Or the names of shards would tell whoever keeps two corpora that both have it."""
    places = {place_of(corpus, "/reports/1.txt") for corpus in (CORPUS, "1" * 32, "2" * 32)}
    assert len(places) == 3


def test_a_document_that_is_larger_than_a_shard_has_one_of_its_own() -> None:
    """And others beside it have theirs."""
    shards = cut(CORPUS, [_filed(1, passages=100), _filed(2), _filed(3)], most=3000)
    assert sorted(len(one) for one in shards.values()) in ([1, 2], [1, 1, 1])
    assert sum(1 for one in shards.values() if sum(each.size for each in one) > 3000) == 1


def test_documents_of_one_place_share_a_shard_however_large_they_are() -> None:
    """Whoever names files may look for two whose places are the same: they cannot be cut apart, and the corpus goes on."""
    (shard,) = cut(CORPUS, [_filed(1), _filed(1)], most=1).values()
    assert len(shard) == 2


def _with(**changes: object) -> bytes:
    data = to_bytes([_filed(1)])
    end = 4 + int.from_bytes(data[:4])
    shard = json.loads(data[4:end])
    for path, value in changes.items():
        place = shard
        *way, last = path.split("__")
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    text = json.dumps(shard).encode()
    return len(text).to_bytes(4) + text + data[end:]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "what this release reads", id="empty"),
        pytest.param(b"\xff\xff\xff\xff{}", "what this release reads", id="a length beyond the end"),
        pytest.param(to_bytes([_filed(1)])[:-1], "bytes for 3 vectors", id="cut"),
        pytest.param(to_bytes([_filed(1)]) + b"\0", "bytes for 3 vectors", id="longer"),
        pytest.param(to_bytes([_filed(1)])[:-1] + b"\x80", "below -127", id="minus 128"),
        pytest.param(_with(format=2), "format", id="another format"),
        pytest.param(_with(dimension=4), "vectors of 4 numbers", id="another dimension"),
        pytest.param(_with(documents=[]), "documents", id="no documents"),
        pytest.param(_with(surprise=1), "surprise", id="an unknown field"),
        pytest.param(_with(documents__0__id=0), "id", id="an id below 1"),
        pytest.param(_with(documents__0__id="1"), "id", id="an id that is a text"),
        pytest.param(_with(documents__0__digest="sha256:x"), "digest", id="no digest"),
        pytest.param(_with(documents__0__metadata={"a": None}), "metadata", id="no metadata"),
        pytest.param(_with(documents__0__passages=[]), "passages", id="no passages"),
        pytest.param(_with(documents__0__passages__0__tokens=-9), "tokens", id="room that a passage would give"),
    ],
)
def test_bytes_that_are_no_shard_are_refused_by_rule(data: bytes, said: str) -> None:
    """With the shard's name: another client may have written them, whoever has the key."""
    with pytest.raises(CorpusError, match=f"shard s: .*{said}"):
        from_bytes("s", data, corpus=CORPUS, dimension=DIMENSION)


def test_a_document_in_another_ones_shard_is_refused() -> None:
    """Or two shards could hold one document."""
    other = "1" if place_of(CORPUS, "/reports/1.txt").startswith("0") else "0"
    with pytest.raises(CorpusError, match="reports/1 belongs into another"):
        from_bytes(f"s{other}", to_bytes([_filed(1)]), corpus=CORPUS, dimension=DIMENSION)

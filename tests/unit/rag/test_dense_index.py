"""The nearest vectors: exact and in order, filtered inside the search, really removed, and read back only if they are ours."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError, InputError
from blindgate_rag.dense import DenseIndex

WIDTH = 32
COUNT = 4000
IDS = np.arange(COUNT, dtype=np.int64) * 7

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def data() -> tuple[Floats, Floats]:
    """Vectors of unit length in 200 clusters, and questions near the clusters."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(200, WIDTH))

    def near(count: int, spread: float) -> Floats:
        points = centres[draw.integers(0, 200, count)] + spread * draw.normal(size=(count, WIDTH))
        return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32)

    return near(COUNT, 0.5), near(100, 0.6)


def index_of(vectors: Floats, *, flat_most: int) -> DenseIndex:
    """The vectors, under the first of `IDS`."""
    index = DenseIndex(WIDTH, flat_most=flat_most)
    index.add(IDS[: len(vectors)], vectors)
    return index


@pytest.fixture(params=["flat", "cells"])
def index(request: pytest.FixtureRequest, data: tuple[Floats, Floats]) -> DenseIndex:
    """All vectors, each compared, or in cells."""
    made = index_of(data[0], flat_most=10_000 if request.param == "flat" else 1000)
    assert (made.cells > 0) == (request.param == "cells")
    return made


def exact(vectors: Floats, queries: Floats, k: int, ids: NDArray[np.int64] = IDS) -> NDArray[np.int64]:
    """What numpy finds."""
    found: NDArray[np.int64] = ids[np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]]
    return found


def recall(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """Which part of the expected ids was found."""
    return float(
        np.mean([len(np.intersect1d(ours, theirs)) / len(theirs) for ours, theirs in zip(found, expected, strict=True)])
    )


def test_every_vector_is_compared_in_a_small_index(data: tuple[Floats, Floats]) -> None:
    """The same ten as numpy, with their inner products."""
    vectors, queries = data
    scores, ids = index_of(vectors, flat_most=COUNT).search(queries, 10)
    np.testing.assert_array_equal(ids, exact(vectors, queries, 10))
    np.testing.assert_allclose(scores, -np.sort(-(queries @ vectors.T), axis=1)[:, :10], atol=1e-5)


def test_a_large_index_finds_nearly_all_of_it_in_a_few_cells(data: tuple[Floats, Floats]) -> None:
    """At least .95 of the ten nearest, from at least 8 cells and by no means all."""
    vectors, queries = data
    index = index_of(vectors, flat_most=1000)
    assert 8 <= index.probes < index.cells / 2
    assert recall(index.search(queries, 10)[1], exact(vectors, queries, 10)) >= 0.95


def test_a_filter_holds_inside_the_search(index: DenseIndex, data: tuple[Floats, Floats]) -> None:
    """Half of the index, a tenth of it, and four vectors that are nobody's nearest: ten, ten, and all four, are found."""
    vectors, queries = data
    half = index.search(queries, 10, allowed=IDS[::2])[1]
    assert (half % 14 == 0).all()
    assert recall(half, exact(vectors[::2], queries, 10, IDS[::2])) >= 0.95
    tenth = index.search(queries, 10, allowed=IDS[::10])[1]
    assert recall(tenth, exact(vectors[::10], queries, 10, IDS[::10])) >= 0.95
    few = IDS[[1, 100, 2000, 3999]]
    scores, ids = index.search(queries, 10, allowed=few)
    assert all(set(row[:4]) == set(few) for row in ids)
    assert (ids[:, 4:] == -1).all()
    assert (scores[:, 4:] == -np.inf).all()
    for none in (np.empty(0, dtype=np.int64), np.array([3], dtype=np.int64)):
        assert (index.search(queries, 2, allowed=none)[1] == -1).all()


def test_ids_far_apart_are_filtered_too(data: tuple[Floats, Floats]) -> None:
    """A bit an id would take a terabyte."""
    index = DenseIndex(WIDTH)
    index.add(np.array([1, 1 << 43], dtype=np.int64), data[0][:2])
    assert index.search(data[1][:1], 1, allowed=np.array([1 << 43], dtype=np.int64))[1].tolist() == [[1 << 43]]


def test_what_was_removed_is_neither_found_nor_written(index: DenseIndex, data: tuple[Floats, Floats]) -> None:
    """Its numbers are no longer in the bytes; an id that was never there is no error."""
    vectors, _ = data
    assert vectors[5].tobytes() in index.to_bytes()
    assert index.remove(np.array([35, 42, 1], dtype=np.int64)) == 2
    assert len(index) == COUNT - 2
    assert not {35, 42} & set(index.search(vectors[5:7], 10)[1].ravel().tolist())
    assert vectors[5].tobytes() not in index.to_bytes()
    index.add(np.array([35], dtype=np.int64), vectors[5:6])
    assert index.search(vectors[5:6], 1)[1].tolist() == [[35]]


def test_cells_come_and_go_with_the_index(data: tuple[Floats, Floats]) -> None:
    """Made above the limit, made again when it has grown by half, given up at half of the limit; nothing is lost."""
    vectors, queries = data
    index = DenseIndex(WIDTH, flat_most=1000)
    index.add(IDS[:1000], vectors[:1000])
    assert index.cells == 0
    index.add(IDS[1000:1100], vectors[1000:1100])
    few = index.cells
    index.add(IDS[1100:1500], vectors[1100:1500])
    assert index.cells == few > 0
    index.add(IDS[1500:], vectors[1500:])
    assert index.cells > few
    assert sorted(index.ids) == list(IDS)
    index.remove(IDS[500:])
    assert index.cells == 0
    np.testing.assert_array_equal(index.search(queries, 5)[1], exact(vectors[:500], queries, 5))


def test_equal_scores_are_in_the_order_of_their_ids(data: tuple[Floats, Floats]) -> None:
    """Also where the last place is between equals."""
    index = DenseIndex(WIDTH)
    index.add(np.arange(99, -1, -1, dtype=np.int64), np.repeat(data[0][:1], 100, axis=0))
    assert index.search(data[0][:1], 7)[1].tolist() == [list(range(7))]


def test_an_index_comes_back_as_it_was(index: DenseIndex, data: tuple[Floats, Floats]) -> None:
    """The same answers, and it can go on growing."""
    back = DenseIndex.from_bytes(index.to_bytes(), WIDTH, flat_most=1000 if index.cells else 10_000)
    assert (back.cells, back.probes, len(back)) == (index.cells, index.probes, COUNT)
    np.testing.assert_array_equal(back.search(data[1], 10)[1], index.search(data[1], 10)[1])
    back.add(np.array([1], dtype=np.int64), data[1][:1])
    assert back.search(data[1][:1], 1)[1].tolist() == [[1]]
    assert back.remove(np.array([1], dtype=np.int64)) == 1


def other_bytes(what: str) -> bytes:
    """Bytes that are nearly an index."""
    made = faiss.IndexIDMap2(faiss.IndexFlatL2(WIDTH) if what == "distances" else faiss.IndexFlatIP(WIDTH))
    rows = np.ones((2, WIDTH), dtype=np.float32)
    if what == "nan":
        rows[1, 3] = np.nan
    made.add_with_ids(rows, np.array([4, 4] if what == "twice" else [4, -5] if what == "negative" else [4, 5]))
    data = bytes(faiss.serialize_index(made))
    return {"cut": data[:-3], "header": data[:9], "empty": b"", "pickle": b"\x80\x04N.", "graph": b"IHNf" + data}.get(
        what, data
    )


@pytest.mark.parametrize(
    "what", ["cut", "header", "empty", "pickle", "graph", "distances", "nan", "twice", "negative", "width"]
)
def test_bytes_that_are_no_such_index_are_refused(what: str) -> None:
    """Whatever faiss itself would make of them."""
    with pytest.raises(CorpusError, match=r"^index: "):
        DenseIndex.from_bytes(other_bytes(what), 2 * WIDTH if what == "width" else WIDTH)


def test_a_new_id_is_added_without_a_look_at_all_others(
    index: DenseIndex, data: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document more in a large corpus costs its own vectors; one that is there is found out, also in what was read again."""
    back = DenseIndex.from_bytes(index.to_bytes(), WIDTH, flat_most=1000 if index.cells else 10_000)
    for made in (index, back):
        with pytest.raises(InputError, match="in the index already"):
            made.add(IDS[-1:], data[0][:1])
        with monkeypatch.context() as patched:
            patched.setattr(DenseIndex, "ids", property(lambda _: pytest.fail("all others were looked at")))
            made.add(IDS[-1:] + 1, data[0][:1])
        with pytest.raises(InputError, match="in the index already"):
            made.add(IDS[-1:] + 1, data[0][:1])


def test_numbers_that_cannot_be_compared_are_refused(data: tuple[Floats, Floats]) -> None:
    """The rule is named, and the index stays as it was."""
    index = index_of(data[0][:10], flat_most=100)
    spoilt = data[0][:2].copy()
    spoilt[1, 0] = np.inf
    new = np.array([1, 2], dtype=np.int64)
    for ids, vectors, rule in (
        (new, spoilt, "row 1 has a number that is not finite"),
        (new, data[0][:2, :5], r"expected \(n, 32\)"),
        (new, data[0][:3], "got 2 for 3 vectors"),
        (np.array([1, 1]), data[0][:2], "twice"),
        (np.array([7, 1]), data[0][:2], "in the index already"),
        (np.array([-1, 1]), data[0][:2], "from 0"),
    ):
        with pytest.raises(InputError, match=rule):
            index.add(ids, vectors)
    with pytest.raises(InputError, match="not finite"):
        index.search(spoilt, 3)
    with pytest.raises(InputError, match="at least 1"):
        index.search(data[1], 0)
    assert len(index) == 10


def test_an_empty_index_finds_nothing(data: tuple[Floats, Floats]) -> None:
    """And says so in the same form."""
    scores, ids = DenseIndex(WIDTH).search(data[1][:1], 3)
    assert ids.tolist() == [[-1, -1, -1]]
    assert scores.shape == (1, 3)

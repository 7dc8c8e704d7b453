"""The nearest vectors, by faiss.

Up to `FLAT_MOST` vectors every one is compared. Beyond that they lie in cells around centroids (IVF), and a question is compared
with those of the nearest cells. How many cells is found when the cells are made: the fewest, and at least `LEAST_PROBES`, with
which questions near the index's own vectors find `RECALL` of what a comparison with all finds. Cells are made again when the
index has grown by half.

- **Scores** are inner products. Vectors of unit length come from `embedding`, so here they are cosines.
- **Order.** Best first; of equal scores the lower id first, so that the same index always gives the same answer. Where every vector
  is compared, faiss only proposes: how it sums, and so the last bits of a score, depends on the processor, on how many questions
  are asked at once, and on a GPU. A few vectors more than are wanted are taken from it, their scores are summed here, and more are
  taken until nothing that was not proposed can be among the wanted.
- **Filters** hold inside the search: what is not allowed is not compared. In an index of cells a filter that lets little through
  looks into more cells, so that a narrow filter does not come back empty.
- **Removing** takes a vector out of the index's memory, and so out of what is written; nothing is marked.
- **Bytes** are faiss's own format, no pickle. `from_bytes` is for bytes that something else authenticates (`vault`): faiss parses
  them. What it made of them is checked nevertheless.

With faiss-gpu and a GPU, the card proposes where all vectors are searched without a filter (`card`), and the answers are the same.
Cells and filters stay on the CPU.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError, InputError
from blindgate_rag import card

FLAT_MOST: Final = 50_000
LEAST_PROBES: Final = 8
RECALL: Final = 0.97
"""Of the ten nearest, where cells are made; what was promised is .95."""

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

_NONE: Final = -1
_POINTS_PER_CENTROID: Final = 39  # with fewer, faiss warns that cells are poorly placed
_MOST_POINTS_PER_CENTROID: Final = 64
_SAMPLE: Final = 100
_NEAREST: Final = 10
_SPREAD: Final = 0.7  # how far from its vector a sampled question lies: a question is seldom nearer to its passage
_GROWN: Final = 1.5
_MORE: Final = 8  # proposed than wanted: enough for all but many vectors that are nearly the same
_UNIT: Final = 2.0**-24  # what rounding to float32 takes or adds, of a number
_FLAT_BYTES: Final = b"IxM2"
_CELL_BYTES: Final = b"IwFl"


class DenseIndex:
    """Vectors of `dimension` numbers, each under an id of its own, a whole number from 0."""

    def __init__(self, dimension: int, *, flat_most: int = FLAT_MOST) -> None:
        """An empty index.

        Args:
            dimension: how many numbers a vector has.
            flat_most: up to how many vectors every one is compared.
        """
        self._dimension = dimension
        self._flat_most = flat_most
        self._index: Any = _flat(dimension)
        self._last = _NONE  # no id in the index is above it
        self._longest = 0.0  # no vector in the index is longer
        self._card: card.Card | None = None

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def cells(self) -> int:
        """How many cells the vectors lie in; 0 where every one is compared."""
        return int(self._index.nlist) if self._in_cells else 0

    @property
    def probes(self) -> int:
        """How many cells a search without a filter looks into; 0 where every vector is compared."""
        return int(self._index.nprobe) if self._in_cells else 0

    @property
    def ids(self) -> Ids:
        """The ids, in no order, `(n,)`."""
        if self._in_cells:
            return self.contents()[0]
        return np.asarray(faiss.vector_to_array(self._index.id_map), dtype=np.int64)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors.

        Args:
            ids: `(n,)`, from 0, none of them in the index.
            vectors: `(n, dimension)`, finite.

        Raises `InputError` naming the rule; then nothing was added.
        """
        ids, vectors = _checked_ids(ids), self._checked(vectors, "vectors")
        if len(ids) != len(vectors):
            message = f"ids: got {len(ids)} for {len(vectors)} vectors, expected one each"
            raise InputError(message)
        # to look for an id in a large index takes longer than to add its vector, and most ids are new ones
        known = len(ids) > 0 and ids.min() <= self._last and np.isin(ids, self.ids).any()
        if known or len(np.unique(ids)) != len(ids):
            message = "ids: one is there twice, or in the index already; remove it first"
            raise InputError(message)
        self._card = None
        self._index.add_with_ids(vectors, ids)
        self._last = max(self._last, int(ids.max(initial=_NONE)))
        self._longest = max(self._longest, _lengths(vectors).max(initial=0))
        self._arrange()

    def remove(self, ids: Ids) -> int:
        """Take vectors out; returns how many were there. An id that is not in the index is no error."""
        ids = _checked_ids(ids)
        if not len(ids):
            return 0
        self._card = None
        removed = int(self._index.remove_ids(faiss.IDSelectorBatch(ids)))
        if removed:
            self._arrange()
        return removed

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """The `k` nearest of each query.

        Args:
            queries: `(n, dimension)`, finite.
            k: how many, from 1.
            allowed: the ids that may be found; all by default.

        Returns scores and ids, `(n, k)` each; where there are fewer, the id is -1 and the score minus infinity.

        Raises `InputError` naming the rule.
        """
        queries = self._checked(queries, "queries")
        if k < 1:
            message = f"k: got {k}, expected at least 1"
            raise InputError(message)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), _NONE, dtype=np.int64)
        if allowed is not None:
            allowed = np.unique(_checked_ids(allowed))
        present = len(self) if allowed is None else min(len(self), len(allowed))
        if present and len(queries):
            found_scores, found = self._ranked(queries, min(k, present), allowed, present)
            scores[:, : found.shape[1]], ids[:, : found.shape[1]] = found_scores, found
        return scores, ids

    def vectors(self, ids: Iterable[int]) -> dict[int, Vectors]:
        """The vectors of these ids, `(dimension,)` each; none where they lie in cells, in which one is found by its place only."""
        return {} if self._in_cells else {one: self._index.reconstruct(one) for one in ids}

    def contents(self) -> tuple[Ids, Vectors]:
        """Every id and its vector, `(n,)` and `(n, dimension)`, in one order, which is none in particular."""
        if not self._in_cells:
            vectors = faiss.vector_to_array(faiss.downcast_index(self._index.index).codes).view(np.float32)
            return self.ids, vectors.reshape(-1, self._dimension)
        lists = self._index.invlists
        ids, numbers = [np.empty(0, dtype=np.int64)], [np.empty((0, self._dimension), dtype=np.float32)]
        for cell in range(self.cells):
            if size := lists.list_size(cell):
                ids.append(faiss.rev_swig_ptr(lists.get_ids(cell), size).copy())
                codes = faiss.rev_swig_ptr(lists.get_codes(cell), size * lists.code_size)
                numbers.append(codes.copy().view(np.float32).reshape(size, self._dimension))
        return np.concatenate(ids), np.concatenate(numbers)

    def to_bytes(self) -> bytes:
        """The index, for `from_bytes`."""
        return bytes(faiss.serialize_index(self._index))

    @classmethod
    def from_bytes(cls, data: bytes, dimension: int, *, flat_most: int = FLAT_MOST) -> Self:
        """Read what `to_bytes` wrote, from bytes that were authenticated.

        Raises `CorpusError` for what is no such index, or one of vectors of another dimension.
        """
        if data[:4] not in (_FLAT_BYTES, _CELL_BYTES):
            message = f"index: begins with {data[:4]!r}, expected an index that Blindgate wrote"
            raise CorpusError(message)
        try:
            index: Any = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except (RuntimeError, MemoryError) as error:
            message = "index: faiss cannot read it; it is not what was written, or was written by a later faiss"
            raise CorpusError(message) from error
        made = cls(dimension, flat_most=flat_most)
        made._index = index
        made._check(len(data))
        return made

    @property
    def _in_cells(self) -> bool:
        return isinstance(self._index, faiss.IndexIVFFlat)

    def _ranked(self, queries: Vectors, k: int, allowed: Ids | None, present: int) -> tuple[Vectors, Ids]:
        """Search until the last of the k is better than whatever was not looked at: equal scores are in the ids' order then."""
        wide, probes = min(k + _MORE, present), self._probes(allowed)
        while True:
            scores, ids, beyond = self._candidates(queries, wide, allowed, probes)
            order = np.lexsort((ids, -scores), axis=1)[:, :k]
            best_scores, best = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
            if (best == _NONE).any() and probes < self.cells:
                probes = self.cells  # the cells had too few
            elif wide < present and (best_scores[:, -1] <= beyond).any():
                wide = min(wide * 2, present)
            else:
                return best_scores, best

    def _probes(self, allowed: Ids | None) -> int:
        if not self._in_cells or allowed is None:
            return self.probes
        return min(self.cells, -(-self.probes * len(self) // max(1, len(allowed))))

    def _candidates(
        self, queries: Vectors, k: int, allowed: Ids | None, probes: int
    ) -> tuple[Vectors, Ids, NDArray[np.float64]]:
        """Scores and ids, `(n, k)` each, and what no other vector's score is above, `(n,)`."""
        lengths = _lengths(queries) * self._longest
        if allowed is None and not self._in_cells:
            self._card = self._card or card.Card(self._index.index)
            if (found := self._card.nearest(queries, k)) is not None:
                proposed, ids = found[0], self.ids[found[1]]
                scores = self._scores(queries, ids)
                if (abs(scores - proposed) <= card.OFF * lengths[:, None]).all():
                    return scores, ids, proposed[:, -1] + card.OFF * lengths
                self._card.give_up()
        proposed, ids = self._found(queries, k, allowed, probes)
        if self._in_cells:
            return proposed, ids, proposed[:, -1].astype(np.float64)
        # a sum of float32 in any order (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), and the rounding of ours
        off = (self._dimension + 1) * _UNIT * lengths
        return self._scores(queries, ids), ids, proposed[:, -1] + off

    def _found(self, queries: Vectors, k: int, allowed: Ids | None, probes: int) -> tuple[Vectors, Ids]:
        selector = None if allowed is None else _selector(allowed)
        if self._in_cells:
            parameters: Any = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        else:
            parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        with _threads_for(len(queries)):
            scores, ids = self._index.search(queries, k, params=parameters)
        scores[ids == _NONE] = -np.inf
        return scores, ids

    def _scores(self, queries: Vectors, ids: Ids) -> Vectors:
        """Inner products with the vectors of `ids`, `(n, k)`: each summed by itself, in double precision, so always the same."""
        scores = np.full(ids.shape, -np.inf, dtype=np.float32)
        for row, query in enumerate(queries):
            there = ids[row] != _NONE
            scores[row, there] = (self._index.reconstruct_batch(ids[row, there]) * query.astype(np.float64)).sum(axis=1)
        return scores

    def _arrange(self) -> None:
        """Choose between comparing all and cells, and make the cells again where the index has outgrown them."""
        count = len(self)
        if count <= self._flat_most:
            if self._in_cells and count <= self._flat_most // 2:  # not at every vector around the limit
                self._rebuild(cells=0)
        elif not self._in_cells or count > _GROWN * _size_for(self.cells):
            self._rebuild(cells=_cells_for(count))

    def _rebuild(self, cells: int) -> None:
        ids, vectors = self.contents()
        order = np.argsort(ids)
        ids, vectors = ids[order], np.ascontiguousarray(vectors[order])
        flat = _flat(self._dimension)
        flat.add_with_ids(vectors, ids)
        if not cells:
            self._index = flat
            return
        made = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(self._dimension), self._dimension, cells, faiss.METRIC_INNER_PRODUCT
        )
        made.cp.max_points_per_centroid = _MOST_POINTS_PER_CENTROID
        made.train(vectors)
        made.add_with_ids(vectors, ids)
        made.nprobe = _enough_probes(made, flat, vectors)
        self._index = made

    def _checked(self, vectors: Vectors, what: str) -> Vectors:
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:  # noqa: PLR2004  (rows and columns)
            message = f"{what}: got shape {vectors.shape}, expected (n, {self._dimension})"
            raise InputError(message)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            message = f"{what}: row {row} has a number that is not finite"
            raise InputError(message, row=row)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _check(self, size: int) -> None:
        """What faiss made of the bytes is one of our two indexes, and no larger than they are."""
        index = self._index
        inner = (
            index if self._in_cells else faiss.downcast_index(index.index) if type(index) is faiss.IndexIDMap2 else None
        )
        kind = type(inner)
        if kind not in (faiss.IndexIVFFlat, faiss.IndexFlatIP):
            message = f"index: is {type(index).__name__} over {kind.__name__}, expected flat or in cells"
            raise CorpusError(message)
        if index.d != self._dimension or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            message = f"index: of dimension {index.d} and metric {index.metric_type}, expected {self._dimension} and inner products"
            raise CorpusError(message)
        if self._in_cells and type(faiss.downcast_InvertedLists(index.invlists)) is not faiss.ArrayInvertedLists:
            message = "index: its cells lie in another file; expected them in these bytes"
            raise CorpusError(message)
        if len(self) * (self._dimension * 4 + 8) > size:
            message = f"index: {size} bytes for {len(self)} vectors of {self._dimension} numbers: too few"
            raise CorpusError(message)
        ids, vectors = self.contents()
        if (
            len(ids) != len(self)
            or len(np.unique(ids)) != len(ids)
            or (ids < 0).any()
            or not np.isfinite(vectors).all()
        ):
            message = "index: an id is there twice or below 0, or a number is not finite"
            raise CorpusError(message)
        self._last = int(ids.max(initial=_NONE))
        self._longest = float(_lengths(vectors).max(initial=0))


@contextmanager
def _threads_for(queries: int) -> Iterator[None]:
    """A single question is answered by one thread: several wait for each other longer than it takes."""
    several = faiss.omp_get_max_threads()
    if queries > 1 or several == 1:
        yield
        return
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(several)


def _lengths(vectors: Vectors) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)))


def _flat(dimension: int) -> Any:
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))


def _cells_for(count: int) -> int:
    return max(1, min(round(4 * math.sqrt(count)), count // _POINTS_PER_CENTROID))


def _size_for(cells: int) -> int:
    """How many vectors there were when so many cells were made: `_cells_for`, backwards."""
    return max((cells // 4) ** 2, cells * _POINTS_PER_CENTROID)


def _enough_probes(index: Any, flat: Any, vectors: Vectors) -> int:
    """The fewest probes, doubled from `LEAST_PROBES`, that find `RECALL` of what `flat` finds, for questions near the vectors."""
    draw = np.random.default_rng(0)  # the same index, the same cells
    near = vectors[draw.choice(len(vectors), size=min(_SAMPLE, len(vectors)), replace=False)]
    noise = draw.normal(size=near.shape)
    lengths = np.linalg.norm(near, axis=1, keepdims=True) / np.maximum(
        np.linalg.norm(noise, axis=1, keepdims=True), 1e-12
    )
    queries = np.ascontiguousarray(near + _SPREAD * lengths * noise, dtype=np.float32)
    expected = flat.search(queries, _NEAREST)[1]
    cells = int(index.nlist)
    probes = min(LEAST_PROBES, cells)
    while probes < cells:
        found = index.search(queries, _NEAREST, params=faiss.SearchParametersIVF(nprobe=probes))[1]
        hits = sum(len(np.intersect1d(ours, theirs)) for ours, theirs in zip(found, expected, strict=True))
        if hits >= RECALL * expected.size:
            break
        probes = min(2 * probes, cells)
    return probes


def _checked_ids(ids: Ids) -> Ids:
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or (ids < 0).any():
        message = f"ids: got shape {ids.shape} of {ids.dtype}, expected whole numbers from 0 in one row"
        raise InputError(message)
    return np.ascontiguousarray(ids, dtype=np.int64)


def _selector(allowed: Ids) -> Any:
    """A bit for each id where ids are dense, and a set where they are not."""
    most = int(allowed[-1]) + 1
    if most > 512 * len(allowed):
        return faiss.IDSelectorBatch(allowed)
    bits = np.zeros(most, dtype=bool)
    bits[allowed] = True
    return faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))

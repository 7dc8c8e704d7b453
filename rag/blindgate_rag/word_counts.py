"""Which words stand in which passages, and how often: what an index of words is made of, and what is kept of it.

Finding the words is what takes time (`words`); weighing them takes little, and the weight of each depends on all passages. So
the counts are kept with the corpus, sealed as it is, and a passage that comes or goes changes its own words and no others. A word
that stands in no passage any more is in nothing that is written.

*Bytes* are arrays in numpy's own format, one after the other, without pickle, and each is held to what the others say before
anything is made of it. They begin with the rule by which words were found: counts by another rule are made anew (`from_bytes`).
"""

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError, InputError
from blindgate_rag.words import RULE, words_of

Numbers = NDArray[np.int64]
Narrow = NDArray[np.int32]

_AT_ONCE: Final = 2048  # texts whose words are in memory together
_NPY: Final[Any] = np.lib.format  # numpy gives it no types
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_MOST_ARRAY_HEADER: Final = 256
_ARRAY_HEADER: Final = re.compile(rb"\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([0-9]{1,18}),\), \} *\n")


class WordCounts:
    """Counts by word, and under each word by passage.

    Attributes:
        ids: of the passages, `(n,)`; a passage's row is its place here.
        vocabulary: each word's number, from 0.
        starts: `(words + 1,)`: the entries of word w are those from `starts[w]` to `starts[w + 1]`, and there is one at least.
        rows: `(entries,)`: in which passage, ascending under each word.
        counts: `(entries,)`: how often, from 1.
    """

    def __init__(
        self, ids: Numbers, vocabulary: Mapping[str, int], starts: Numbers, rows: Narrow, counts: Narrow
    ) -> None:
        """Made by `of` and `from_bytes`."""
        self.ids, self.vocabulary, self.starts, self.rows, self.counts = ids, vocabulary, starts, rows, counts

    @classmethod
    def of(cls, ids: Numbers, texts: Sequence[str], *, left_out: frozenset[str] = frozenset()) -> Self:
        """Count the words of texts, one under each of the `ids`, `(n,)`; words of `left_out` are not counted.

        Raises `InputError` where there is not one id a text.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if ids.shape != (len(texts),) or len(np.unique(ids)) != len(ids):
            message = f"ids: got {ids.shape} for {len(texts)} texts, expected one each, and none twice"
            raise InputError(message)
        vocabulary: defaultdict[str, int] = defaultdict()
        vocabulary.default_factory = vocabulary.__len__  # a new word has the next number
        parts = [
            _entries(texts[begin : begin + _AT_ONCE], begin, vocabulary, left_out)
            for begin in range(0, max(1, len(texts)), _AT_ONCE)
        ]
        words, rows, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(ids, *_by_word(vocabulary, words, rows, counts))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def words(self) -> Numbers:
        """The word's number of each entry, `(entries,)`."""
        return np.repeat(np.arange(len(self.vocabulary)), np.diff(self.starts))

    @property
    def lengths(self) -> Numbers:
        """How many words each passage has, `(n,)`."""
        return np.bincount(self.rows, weights=self.counts, minlength=len(self)).astype(np.int64)

    def brought_to(self, ids: Numbers, texts: Sequence[str], *, removed: Iterable[int]) -> "WordCounts":
        """The counts of these passages: those that are here already are not counted again, unless they were `removed` meanwhile."""
        gone = np.fromiter(removed, dtype=np.int64)
        here = self._only(np.isin(self.ids, ids) & ~np.isin(self.ids, gone))
        new = np.flatnonzero(~np.isin(ids, here.ids))
        if not len(here):
            return WordCounts.of(ids, texts)
        return _joined(here, WordCounts.of(ids[new], [texts[place] for place in new])) if len(new) else here

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads."""
        words = np.frombuffer("\n".join(self.vocabulary).encode(), dtype=np.uint8)
        rule = np.frombuffer(RULE, dtype=np.uint8)
        file = io.BytesIO()
        for array in (rule, self.ids, self.starts, self.rows, self.counts, words):
            _NPY.write_array(file, array, allow_pickle=False)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self | None:
        """What `to_bytes` gave; `None` where words were found by another rule. Raises `CorpusError` for what contradicts itself."""
        file = io.BytesIO(data)
        rule = _array(file, "the rule", np.uint8)
        if rule.tobytes() != RULE:
            return None
        ids, starts = _array(file, "ids", np.int64), _array(file, "starts", np.int64)
        rows, counts = _array(file, "rows", np.int32), _array(file, "counts", np.int32)
        text = _array(file, "words", np.uint8).tobytes()
        try:
            words = text.decode().split("\n") if text else []
        except UnicodeDecodeError:
            raise _wrong("words: not UTF-8") from None
        vocabulary = {word: number for number, word in enumerate(words)}
        made = cls(ids, vocabulary, starts, rows, counts)
        if file.read(1):
            raise _wrong("more follows")
        made._check(len(words))
        return made

    def _check(self, words: int) -> None:
        """What was read is what `of` makes. Raises `CorpusError`."""
        starts, rows = self.starts, self.rows
        if len(self.vocabulary) != words:
            raise _wrong("words: one is there twice")
        if len(np.unique(self.ids)) != len(self.ids) or (self.ids < 0).any():
            raise _wrong("ids: one is there twice or below 0")
        if len(starts) != words + 1 or starts[0] != 0 or starts[-1] != len(rows) or (starts[1:] <= starts[:-1]).any():
            raise _wrong("starts: not those of the words and the rows")
        if len(self.counts) != len(rows) or (self.counts < 1).any():
            raise _wrong("counts: not one a row, from 1")
        ascending = np.diff(rows) > 0
        ascending[starts[1:-1] - 1] = True  # where another word begins
        if (rows < 0).any() or (rows >= len(self)).any() or not ascending.all():
            raise _wrong("rows: not those of passages, in order")

    def _only(self, kept: NDArray[np.bool_]) -> "WordCounts":
        """Those rows, and the words that stand in them."""
        if kept.all():
            return self
        entries = kept[self.rows]
        words = self.words[entries]
        there = np.zeros(len(self.vocabulary), dtype=bool)
        there[words] = True
        renumbered = np.cumsum(there) - 1
        named = [word for word, present in zip(self.vocabulary, there, strict=True) if present]
        return WordCounts(
            self.ids[kept],
            {word: number for number, word in enumerate(named)},
            _starts(renumbered[words], len(named)),
            (np.cumsum(kept) - 1)[self.rows[entries]].astype(np.int32),
            self.counts[entries],
        )


def _joined(first: WordCounts, behind: WordCounts) -> WordCounts:
    """The passages of both."""
    vocabulary = dict(first.vocabulary)
    numbers = np.array([vocabulary.setdefault(word, len(vocabulary)) for word in behind.vocabulary], dtype=np.int64)
    words = np.concatenate([first.words, numbers[behind.words]])
    rows = np.concatenate([first.rows, behind.rows + np.int32(len(first))])
    counts = np.concatenate([first.counts, behind.counts])
    return WordCounts(np.concatenate([first.ids, behind.ids]), *_by_word(vocabulary, words, rows, counts))


def _entries(
    texts: Sequence[str], begin: int, vocabulary: Mapping[str, int], left_out: frozenset[str]
) -> tuple[Narrow, Narrow, Narrow]:
    """Word, row and count of each entry of some texts, the first of which has the row `begin`."""
    found = [words_of(text) for text in texts]
    if left_out:
        found = [[word for word in words if word not in left_out] for words in found]
    numbers = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(found)), dtype=np.int64)
    key = numbers * len(texts) + np.repeat(np.arange(len(texts)), [len(words) for words in found])
    entries, counts = np.unique(key, return_counts=True)
    words, rows = np.divmod(entries, max(1, len(texts)))
    return words.astype(np.int32), (rows + begin).astype(np.int32), counts.astype(np.int32)


def _by_word(
    vocabulary: Mapping[str, int], words: NDArray[Any], rows: Narrow, counts: Narrow
) -> tuple[Mapping[str, int], Numbers, Narrow, Narrow]:
    """What a `WordCounts` has beside its ids, of entries whose rows ascend."""
    order = np.argsort(words, kind="stable")
    return dict(vocabulary), _starts(words, len(vocabulary)), rows[order], counts[order]


def _starts(words: NDArray[Any], many: int) -> Numbers:
    return np.concatenate([[0], np.cumsum(np.bincount(words, minlength=many))]).astype(np.int64)


def _array(file: io.BytesIO, name: str, kind: type[np.generic]) -> NDArray[Any]:
    """The next array, of one axis and of this kind. Raises `CorpusError`; nothing is made that is larger than what is there.

    A header is held to what numpy writes of such an array: numpy itself reads it as Python's source, and raises what that raises.
    """
    dtype = np.dtype(kind)
    begun, size = file.read(len(_MAGIC)), int.from_bytes(file.read(2), "little")
    header = _ARRAY_HEADER.fullmatch(file.read(size)) if begun == _MAGIC and size <= _MOST_ARRAY_HEADER else None
    if header is None or header[1] != dtype.str.encode():
        raise _wrong(f"{name}: no array of {dtype} in one row")
    length = int(header[2]) * dtype.itemsize
    data = file.read(length)
    if len(data) != length:
        raise _wrong(f"{name}: was cut")
    return np.frombuffer(data, dtype=dtype)


def _wrong(what: str) -> CorpusError:
    return CorpusError(f"the corpus's counts of words cannot be read: {what}")

"""Corpora of those who ask, open in this machine's memory for as long as they are searched: by the embedding model that is here.

A request brings the corpus's key, and the digest of the head that its owner has checked. Then

1. what is open already is found by tenant, name, id and key: who brings another key has another corpus, and opens nothing with it;
2. a head that is not the open one is fetched, and opened (`blindgate_rag.sync.opened`). One that is older than what this node has
   seen is not: its owner asks again with the newer one, or finds out that the gateway shows him an old one;
3. there is room: a corpus has at most `most_bytes`, as it lies at the gateway, and what was searched longest ago is let go of for
   it. In memory it takes several times as much;
4. shards that are new are fetched, held to the head, and opened; the corpus is searched.

What the asker got wrong is a `CorpusError` or an `InputError`, and part of the sealed answer; so is a corpus that the gateway says
is not there (`StaleCorpusError`), since its owner alone can tell whether that is so. Other bytes than those that the head names are
a `BackendError`: the job is released.

**What stays in memory**: keys, texts and vectors, until `expire` finds them unused for a while, the room is needed, or the process
ends. Nothing is written anywhere. Which parts of memory a search reads follows from the question and the corpus, and is hidden from
nobody who sees it.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from blindgate_models.weights import opened_weights
from blindgate_node.backends.interface import CorpusSource
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.corpus_search import CorpusHit, CorpusHits, CorpusQuery
from blindgate_protocol.errors import BackendError, CorpusError, NotFoundError, StaleCorpusError
from blindgate_protocol.values import BlobRef
from blindgate_protocol.weights import Weights
from blindgate_rag.corpus_keys import CorpusKey
from blindgate_rag.embedding import Embedder
from blindgate_rag.sync.opened import Fetch, OpenedCorpus, sealed_bytes

_LEAST: Final = 1 << 20
"""What any corpus counts, however small."""


class _Name(NamedTuple):
    tenant: str
    name: str
    corpus: str
    key: bytes  # its SHA-256


@dataclass
class _Kept:
    """`size` and `used` are the cache's to change; `corpus` is whose who holds `turn`."""

    corpus: OpenedCorpus
    used: float
    size: int = _LEAST
    users: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Corpora:
    """Searches corpora, and keeps them open for a while. Safe to use from several threads."""

    def __init__(
        self, embedder: Embedder, *, most_bytes: int, seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Embed questions by `embedder`; keep at most `most_bytes`, none longer than `seconds` after its last use."""
        self._embedder = embedder
        self._most, self._seconds, self._now = most_bytes, seconds, now
        self._kept: OrderedDict[_Name, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def search(self, query: CorpusQuery, source: CorpusSource) -> CorpusHits:
        """Do steps 1 to 4. Raises `InputError`, `CorpusError`, `BackendError`, and what the source does."""
        key = ContentKey(bytes.fromhex(query.key))
        name = _Name(source.tenant, query.name, query.corpus, hashlib.sha256(key.secret()).digest())
        # 1.
        with self._using(name, CorpusKey(query.corpus, key), source.check) as kept:
            corpus, fetch = kept.corpus, _fetching(query, source)
            if corpus.head != query.head.digest:
                # 2.
                placed = corpus.opened(query.head, fetch)
                # 3.
                self._make_room(kept, query.name, sealed_bytes(placed))
                # 4.
                corpus.become(placed, fetch)
            found = corpus.search(query.query, query.k, where=query.where, ranking=query.ranking, tokens=query.tokens)
        return CorpusHits(
            hits=tuple(
                CorpusHit(
                    text=hit.text,
                    source=hit.source,
                    page=hit.page,
                    score=hit.score,
                    metadata=dict(hit.metadata),
                    passage=hit.passage,
                    tokens=hit.tokens,
                )
                for hit in found
            )
        )

    def expire(self) -> None:
        """Close what has not been searched for too long."""
        with self._lock:
            old = [
                name for name, kept in self._kept.items() if not kept.users and self._now() - kept.used >= self._seconds
            ]
            for name in old:
                self._kept.pop(name).corpus.close()

    def room(self) -> int:
        """How many bytes are counted now."""
        with self._lock:
            return sum(kept.size for kept in self._kept.values())

    @contextmanager
    def _using(self, name: _Name, key: CorpusKey, check: Callable[[], None]) -> Iterator[_Kept]:
        """One corpus, for nobody else meanwhile. One that nothing is open of afterwards is not kept, nor one that broke."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is None:
                kept = self._kept[name] = _Kept(OpenedCorpus(name.name, key, self._embedder), self._now())
            kept.users += 1
            self._kept.move_to_end(name)
        try:
            while not kept.turn.acquire(timeout=1.0):
                check()
            try:
                if kept.corpus.broken:
                    message = "the corpus was opened for another request first, and that failed"
                    raise BackendError(message)
                yield kept
            finally:
                kept.turn.release()
        finally:
            with self._lock:
                kept.users -= 1
                kept.used = self._now()
                worthless = kept.corpus.broken or (kept.corpus.head is None and not kept.users)
                if worthless and self._kept.get(name) is kept:
                    del self._kept[name]

    def _make_room(self, kept: _Kept, name: str, size: int) -> None:
        """Count a corpus with so many bytes. Raises `CorpusError` where it never fits, `BackendError` where it does not now."""
        if size > self._most:
            message = f"corpus {name!r} has {size} bytes, and this node takes corpora of at most {self._most}"
            raise CorpusError(message)
        with self._lock:
            wanted = max(size, _LEAST)
            others = sum(one.size for one in self._kept.values() if one is not kept)
            idle = [other for other, one in self._kept.items() if not one.users]
            while others + wanted > self._most and idle:
                gone = self._kept.pop(idle.pop(0))
                others -= gone.size
                gone.corpus.close()
            if others + wanted > self._most:
                message = "the corpora that are searched on this node now leave no room for another"
                raise BackendError(message)
            kept.size = wanted


def open_corpora(  # noqa: PLR0913
    folder: Path, weights: Weights, *, name: str, device: str, most_bytes: int, seconds: float
) -> Corpora:
    """The corpora that can be searched by the embedding model whose files lie in `folder`.

    Raises what `opened_weights` and `Embedder.open` do.
    """
    with opened_weights(folder, weights.resources) as checked:
        embedder = Embedder.open(checked, weights.digest, name=name, device=device)
    return Corpora(embedder, most_bytes=most_bytes, seconds=seconds)


def _fetching(query: CorpusQuery, source: CorpusSource) -> Fetch:
    def fetch(blobs: Sequence[BlobRef]) -> list[bytes]:
        try:
            return [source.fetch(query.name, blob) for blob in blobs]
        except NotFoundError as error:
            message = (
                f"the gateway gives this node no corpus {query.name!r} as it was at {query.head.digest}: it was changed or deleted "
                "meanwhile, or the gateway keeps it back"
            )
            raise StaleCorpusError(message) from error

    return fetch

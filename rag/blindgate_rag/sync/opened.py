"""A corpus that lies elsewhere, opened in memory and nowhere else, at a head that somebody names: how a node searches one.

The one who asks has checked the head, and names it by digest. So what is held here is that the head opens as this corpus of this
name, is no older than what was open, and continues it (`heads`); that it was embedded by the model that is here; and every shard.
A newer head changes what it changed: shards that are the same in both are not asked for again.

Where anything fails midway, what is in memory is nothing to go on with: `broken` says so.
"""

from collections.abc import Callable, Sequence

from blindgate_protocol.errors import CorpusError, ForkedCorpusError, RolledBackCorpusError, StaleCorpusError
from blindgate_protocol.values import BlobRef
from blindgate_rag.corpus_keys import CorpusKey
from blindgate_rag.embedding import Embedder
from blindgate_rag.hits import Hit
from blindgate_rag.records import Records, Where
from blindgate_rag.searching import Ranking, search_state
from blindgate_rag.sync.exchange import documents_of
from blindgate_rag.sync.heads import MOST_HEAD_BYTES, Placed, opened_head
from blindgate_rag.sync.state import SyncedState

Fetch = Callable[[Sequence[BlobRef]], list[bytes]]
"""Gives blobs of the corpus, in order, each of its size and digest."""


class OpenedCorpus:
    """One corpus in memory. Not for several threads at once.

    Attributes:
        broken: whether something failed while it changed.
    """

    def __init__(self, name: str, key: CorpusKey, embedder: Embedder) -> None:
        """Nothing is open yet. `embedder` is the one that every head must have."""
        self._name, self._key, self._embedder = name, key, embedder
        self._state = SyncedState(0, Records(), None)
        self.broken = False

    @property
    def head(self) -> str | None:
        """The digest of the head that is open."""
        return None if self._state.base is None else self._state.base.digest

    def opened(self, ref: BlobRef, fetch: Fetch) -> Placed:
        """Fetch and open a head; its shards are not touched yet. Raises `CorpusError`, `StaleCorpusError` for an older one."""
        if ref.size > MOST_HEAD_BYTES:
            message = f"corpus {self._name!r}: a head of {ref.size} bytes: at most {MOST_HEAD_BYTES} are read"
            raise CorpusError(message)
        (blob,) = fetch([ref])
        base = self._state.base
        try:
            placed = opened_head(self._key, self._name, blob, seen=(None if base is None else base.seen,))
        except RolledBackCorpusError as error:
            message = f"corpus {self._name!r}: this node has seen a newer one of its heads since it started"
            raise StaleCorpusError(message) from error
        except ForkedCorpusError as error:
            message = (
                f"corpus {self._name!r}: this node has seen another of its heads, which this one does not continue"
            )
            raise ForkedCorpusError(message) from error
        self._require_embedder(placed)
        return placed

    def become(self, placed: Placed, fetch: Fetch) -> None:
        """Become what a head says. Raises `CorpusError`, and what `fetch` does; then it is broken, unless nothing was changed."""
        incoming = list(documents_of(self._key, placed.head, self._state, fetch))
        self.broken = True
        self._state.take_in(placed, incoming)
        self.broken = False

    def search(
        self, query: str, k: int, *, where: Where | None, ranking: Ranking | None, tokens: int | None
    ) -> tuple[Hit, ...]:
        """The passages that fit a question best, as `Corpus.search`. Raises `InputError`."""
        return search_state(
            self._state, query, k, embedder=lambda: self._embedder, where=where, ranking=ranking, tokens=tokens
        )

    def close(self) -> None:
        """Give the memory back."""
        self._state.records.close()
        self._state = SyncedState(0, Records(), None)

    def _require_embedder(self, placed: Placed) -> None:
        settings = placed.head.settings
        found = settings.get("embedder", self._embedder.digest)
        if found != self._embedder.digest:
            message = (
                f"corpus {self._name!r} was embedded by {settings.get('embedder-name')} ({found}), and this node embeds by "
                f"{self._embedder.digest}: vectors of two do not compare"
            )
            raise CorpusError(message)
        if placed.head.dimension not in {0, self._embedder.dimension}:
            message = (
                f"corpus {self._name!r} has vectors of {placed.head.dimension} numbers, and its embedder's have "
                f"{self._embedder.dimension}"
            )
            raise CorpusError(message)


def sealed_bytes(placed: Placed) -> int:
    """How many bytes all shards of a head have, as they lie there."""
    return sum(one.size for one in placed.head.shards.values())

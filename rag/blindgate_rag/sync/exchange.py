"""What goes to and fro between a corpus's cache and where it lies: pulling what is newer, pushing what was changed here.

Nothing here touches the cache's files: a state is changed when everything that came holds, and its owner writes it.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CorpusError, NotFoundError
from blindgate_protocol.messages import MOST_SHARDS
from blindgate_protocol.values import BlobRef
from blindgate_rag.corpus_keys import CorpusKey, KeyHeader
from blindgate_rag.sync import shards
from blindgate_rag.sync.heads import (
    ANCESTORS,
    MOST_HEAD_BYTES,
    Head,
    Placed,
    Seen,
    ShardRef,
    header_of,
    opened_head,
    opened_shard,
    require_recent,
    sealed_head,
    sealed_shard,
)
from blindgate_rag.sync.remote import Remote
from blindgate_rag.sync.state import SyncedState, new_shards

_T = TypeVar("_T")
_TRIES: Final = 20
"""How often it is begun again where others are quicker, before it is said so."""
_PAUSE: Final = 0.5
_AT_ONCE: Final = 32
"""How many shards are in memory, sealed, at the same time."""


@dataclass
class Exchange:
    """One corpus and where it lies.

    Attributes:
        name: what it is called there.
        header: where its key rests now.
        keep_header: told where another client has changed the passphrase.
        at_least: no head of a lower generation is taken: who has seen nothing has this from who has.
    """

    name: str
    key: CorpusKey
    header: KeyHeader
    remote: Remote
    seen: Seen
    keep_header: Callable[[KeyHeader], None]
    at_least: int = 0

    def is_newest(self, state: SyncedState) -> bool:
        """Whether what is here is what lies there."""
        return state.base is not None and self._ask().digest == state.base.digest

    def check_recent(self, generation: int) -> None:
        """Refuse what is older than somebody said. Raises `RolledBackCorpusError`."""
        require_recent(self.name, generation, self.at_least)

    def pull(self, state: SyncedState) -> bool:
        """Take in what is newer. Gives whether anything is. Raises `CorpusError` for whatever does not hold; see `heads`."""
        missing = ""
        for _ in range(_TRIES):
            ref = self._ask()
            if state.base is not None and ref.digest == state.base.digest:
                return False
            if ref.digest == missing:
                break
            try:
                placed, header = self._head(ref, state)
                incoming = list(documents_of(self.key, placed.head, state, self.remote.fetch))
            except (
                NotFoundError
            ):  # replaced while it was fetched; or it is gone, and the next round finds the same head
                missing = ref.digest
                continue
            before = None if state.base is None else state.base.head.header
            state.take_in(placed, incoming)
            self.seen.remember(self.key.corpus, placed.seen)
            if header.digest not in {before, self.header.digest}:  # another machine changed the passphrase
                self.header = header
                self.keep_header(header)
            return True
        message = (
            f"corpus {self.name!r}: the gateway has its head, and not all of the shards that it names: try again later. Where it "
            "lost them, `blindgate rag put-back` on a machine that has the corpus puts them there again"
        )
        raise CorpusError(message)

    def push(self, state: SyncedState) -> bool:
        """Put what was changed here. Gives whether anything was. Raises `CorpusError` where others are quicker again and again."""
        reuse = True
        for _ in range(_TRIES):
            base = _base(state)
            if not self._is_other(state, base.head):
                return False
            head = self._stored(state, base, reuse=reuse)
            if (head.shards, head.settings, head.header) == (base.head.shards, base.head.settings, base.head.header):
                state.was_put(base)  # what was changed here was changed back
                return False
            try:
                if self._replaced(state, head, instead_of=base.digest):
                    return True
            except NotFoundError:
                if not reuse:
                    raise
                reuse = False  # a shard of before is lost there: all are put again
                continue
            if not self.pull(
                state
            ):  # it refuses for a head that it does not show yet: others' writes may not have settled
                time.sleep(_PAUSE * random.random())  # noqa: S311  (a pause is no secret)
        message = (
            f"corpus {self.name!r}: others change it all the time; what was changed here goes up with the next change"
        )
        raise CorpusError(message)

    def put_back(self, state: SyncedState) -> None:
        """Put what is here in place of whatever lies there: an older state, or none. Raises `CorpusError` for another corpus.

        It continues the head that is known here, so whoever saw that takes it. What others put meanwhile, and is gone, stays gone.
        """
        base, ref = _base(state), self.remote.head()
        if ref is not None and ref.digest != base.digest and self._is_another(ref):
            message = f"corpus {self.name!r}: another corpus lies there, which is not put an end to: delete it first"
            raise CorpusError(message)
        head = self._stored(state, base, reuse=False)
        if not self._replaced(state, head, instead_of=None if ref is None else ref.digest):
            message = f"corpus {self.name!r}: somebody else was quicker, see what lies there now"
            raise CorpusError(message)

    def _is_another(self, ref: BlobRef) -> bool:
        """Whether a head is another corpus's. Raises `CorpusError` where nobody can tell."""
        try:
            return header_of(fetched_head(self.remote, ref)).corpus != self.key.corpus
        except NotFoundError as error:
            message = (
                f"corpus {self.name!r}: the gateway names a head that this machine does not know, and has lost it: whether it is "
                "this corpus's, nobody can tell. Delete it first"
            )
            raise CorpusError(message) from error

    def change_header(self, header: KeyHeader) -> None:
        """Let the key rest in another header, once it was pushed."""
        self.header = header

    def _replaced(self, state: SyncedState, head: Head, *, instead_of: str | None) -> bool:
        """Put a head whose shards are stored. Whether it is there: then it is what the state rests on."""
        blob, before = sealed_head(self.key, self.header, head), _base(state).head.header
        ref = _ref(blob)
        self.remote.store([blob])
        if not self.remote.replace(ref, [one.blob for one in head.shards.values()], instead_of=instead_of):
            return False
        placed = Placed(head, ref.digest)
        self.seen.remember(self.key.corpus, placed.seen)
        state.was_put(placed)
        if head.header != before:
            self.keep_header(self.header)
        return True

    def _ask(self) -> BlobRef:
        ref = self.remote.head()
        if ref is None:
            message = (
                f"the gateway has no corpus {self.name!r} any more: it was deleted, or lost. What this machine has can be opened "
                "with offline=True; `blindgate rag put-back` puts it there again"
            )
            raise CorpusError(message)
        return ref

    def _head(self, ref: BlobRef, state: SyncedState) -> tuple[Placed, KeyHeader]:
        blob = fetched_head(self.remote, ref)
        known = None if state.base is None else state.base.seen
        placed = opened_head(self.key, self.name, blob, seen=(self.seen.newest(self.key.corpus), known))
        self.check_recent(placed.head.generation)
        return placed, header_of(blob)

    def _is_other(self, state: SyncedState, head: Head) -> bool:
        return bool(state.changed_here or state.settings != head.settings or self.header.digest != head.header)

    def _stored(self, state: SyncedState, base: Placed, *, reuse: bool) -> Head:
        """The head that follows on `base`, and its shards stored."""
        generation = base.head.generation + 1
        refs: dict[str, ShardRef] = {}
        cut = state.shards(self.key.corpus)
        if len(cut) > MOST_SHARDS:
            message = f"corpus {self.name!r}: {len(cut)} shards are more than the {MOST_SHARDS} that a gateway takes"
            raise CorpusError(message)
        for some in _in_turns(list(cut.items())):
            blobs = []
            for name, documents in some:
                data, known = shards.to_bytes(documents), base.head.shards.get(name)
                if reuse and known is not None and known.content == digest(data):
                    refs[name] = known
                else:
                    refs[name], blob = sealed_shard(self.key, name, generation, data)
                    blobs.append(blob)
            self.remote.store(blobs)
        given = state.records.last_ids()
        return Head(
            corpus=self.key.corpus,
            name=self.name,
            generation=generation,
            ancestors=(base.digest, *base.head.ancestors)[:ANCESTORS],
            header=self.header.digest,
            settings=state.settings,
            documents=given[0],
            passages=given[1],
            shards=refs,
        )


def documents_of(
    key: CorpusKey, head: Head, state: SyncedState, fetch: Callable[[Sequence[BlobRef]], list[bytes]]
) -> Iterable[shards.Filed]:
    """What is in those of a head's shards that a state has not. `fetch` gives blobs in order. Raises `CorpusError`."""
    before = {} if state.base is None else state.base.head.shards
    wanted = [(name, head.shards[name]) for name in new_shards(head.shards, before) if name in head.shards]
    for some in _in_turns(wanted):
        for (name, ref), blob in zip(some, fetch([ref.blob for _, ref in some]), strict=True):
            data = opened_shard(key, name, ref, blob)
            yield from shards.from_bytes(name, data, corpus=key.corpus, dimension=head.dimension)


def first_head(remote: Remote, name: str, key: CorpusKey, header: KeyHeader) -> bool:
    """Put the head of a new corpus, without a document. Whether it is there: not where another one is."""
    head = Head(
        corpus=key.corpus,
        name=name,
        generation=1,
        ancestors=(),
        header=header.digest,
        settings={},
        documents=0,
        passages=0,
        shards={},
    )
    blob = sealed_head(key, header, head)
    remote.store([blob])
    return remote.replace(_ref(blob), [], instead_of=None)


def fetched_head(remote: Remote, ref: BlobRef) -> bytes:
    """The bytes of a head. Raises `CorpusError` where they are too many, or not those that were named."""
    if ref.size > MOST_HEAD_BYTES:
        message = f"a corpus's head of {ref.size} bytes: at most {MOST_HEAD_BYTES} are read"
        raise CorpusError(message)
    (blob,) = remote.fetch([ref])
    if len(blob) != ref.size or digest(blob) != ref.digest:
        message = "a corpus's head is not the one that the gateway named"
        raise CorpusError(message)
    return blob


def _base(state: SyncedState) -> Placed:
    if state.base is None:
        message = "what was never pulled is not pushed"
        raise AssertionError(message)
    return state.base


def _in_turns(all_: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(all_), _AT_ONCE):
        yield all_[begin : begin + _AT_ONCE]


def _ref(blob: bytes) -> BlobRef:
    return BlobRef(digest=digest(blob), size=len(blob))

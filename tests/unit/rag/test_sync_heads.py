"""What a client holds a head to before it believes any of it."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import STREAM_NONCE_BYTES
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import CorpusError, ForkedCorpusError, RolledBackCorpusError
from blindgate_rag.corpus_keys import CorpusKey, KeyHeader
from blindgate_rag.sync.heads import (
    ANCESTORS,
    Head,
    Placed,
    SeenHead,
    ShardRef,
    opened_head,
    opened_shard,
    sealed_head,
    sealed_shard,
)

SETTINGS = {"embedder": "sha256:" + "2" * 64, "dimension": "384", "largest": "0.3"}


class Owner:
    """A corpus's owner, who puts heads."""

    def __init__(self) -> None:
        own, header = ContentKey.generate(), KeyHeader.fresh("passphrase")
        self.header = header.around(own, header.outer_key("pass"))
        self.key = CorpusKey(self.header.corpus, own)

    def blob(self, **changes: Any) -> bytes:
        """A head's."""
        given: dict[str, Any] = {
            "corpus": self.header.corpus,
            "name": "notes",
            "generation": 1,
            "ancestors": (),
            "header": self.header.digest,
            "settings": {},
            "documents": 0,
            "passages": 0,
            "shards": {},
        }
        return sealed_head(self.key, self.header, Head(**(given | changes)))

    def chain(self, length: int) -> list[bytes]:
        """Heads that follow one another."""
        blobs: list[bytes] = []
        for generation in range(1, length + 1):
            before = tuple(digest(blob) for blob in reversed(blobs))[:ANCESTORS]
            blobs.append(self.blob(generation=generation, ancestors=before))
        return blobs

    def opened(self, blob: bytes, *seen: SeenHead | None) -> Placed:
        """It, as this owner's other machine opens it."""
        return opened_head(self.key, "notes", blob, seen=seen)


def test_a_head_that_continues_what_was_seen_is_taken() -> None:
    """The same one, the next one, a later one; and any by who has seen nothing."""
    owner = Owner()
    chain = owner.chain(5)
    for blob in chain:
        assert owner.opened(blob, None).digest == digest(blob)
    second = owner.opened(chain[1]).seen
    for blob in chain[1:]:
        owner.opened(blob, second, None)


def test_an_older_head_and_a_fork_are_refused_by_name() -> None:
    """Also a fork that shows only generations later, as long as heads name what was seen."""
    owner = Owner()
    chain = owner.chain(4)
    seen = owner.opened(chain[2]).seen
    with pytest.raises(RolledBackCorpusError, match="generation 2 was given, and this client has seen 3"):
        owner.opened(chain[1], None, seen)
    theirs = owner.blob(generation=3, ancestors=(digest(chain[1]), digest(chain[0])), documents=1)
    with pytest.raises(ForkedCorpusError, match="two of generation 3"):
        owner.opened(theirs, seen)
    fourth = owner.blob(generation=4, ancestors=(digest(theirs), digest(chain[1]), digest(chain[0])))
    fifth = (digest(fourth), digest(theirs), digest(chain[1]), digest(chain[0]))
    for generation, blob in ((4, fourth), (5, owner.blob(generation=5, ancestors=fifth))):
        with pytest.raises(ForkedCorpusError, match=f"generation {generation} does not continue the 3"):
            owner.opened(blob, seen)
    first = owner.opened(chain[0]).seen
    with pytest.raises(ForkedCorpusError, match="generation 2 does not continue the 1"):
        owner.opened(owner.blob(generation=2, ancestors=(digest(theirs),)), first)


def _other_name(owner: Owner) -> bytes:
    return owner.blob(name="trial")


def _others(_owner: Owner) -> bytes:
    return Owner().blob()


def _other_header(owner: Owner) -> bytes:
    header = owner.header.salted()
    header = header.around(owner.key.content, header.outer_key("old"))
    return _beside(header, owner.blob())


def _header_of_another(owner: Owner) -> bytes:
    return _beside(Owner().header, owner.blob())


def _beside(header: KeyHeader, blob: bytes) -> bytes:
    outer, end = header.to_bytes(), 2 + int.from_bytes(blob[:2])
    return len(outer).to_bytes(2) + outer + blob[end:]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (_other_name, "what was given is the corpus 'trial'"),
        (_others, "another corpus lies there now"),
        (_other_header, "its key's header is not the one"),
        (_header_of_another, "another corpus lies there now"),
        (lambda owner: owner.blob()[:-1], "altered"),
        (lambda owner: owner.blob()[:-65_000], "altered"),
        (lambda owner: owner.blob() + b"\0", "altered"),
        (lambda _owner: b"", "no corpus of this release"),
        (lambda _owner: b"\xff\xff" + bytes(100_000), "no corpus of this release"),
    ],
)
def test_what_is_no_head_of_this_corpus_is_refused(lie: Callable[[Owner], bytes], said: str) -> None:
    """By what it is instead."""
    owner = Owner()
    with pytest.raises(CorpusError, match=said):
        owner.opened(lie(owner))


def test_a_shard_opens_at_its_own_place_only() -> None:
    """Under its name, in its generation, whole."""
    owner = Owner()
    ref, blob = sealed_shard(owner.key, "s0", 4, b"documents")
    assert opened_shard(owner.key, "s0", ref, blob) == b"documents"
    other, others = sealed_shard(owner.key, "s1", 4, b"others")
    wrong: list[tuple[str, ShardRef, bytes]] = [
        ("s1", ref, blob),
        ("s0", ref.model_copy(update={"generation": 3}), blob),
        ("s0", ref.model_copy(update={"size": 1}), blob),  # by which a node counts what it opens
        ("s0", ref, others),
        ("s0", other, others),
        ("s0", ref, blob[:-1]),
        # of the same place and generation: what another machine put, and was too late with its head
        ("s0", ref, sealed_shard(owner.key, "s0", 4, b"was late!")[1]),
    ]
    for name, named, data in wrong:
        with pytest.raises(CorpusError, match=r"is not the one|was altered"):
            opened_shard(owner.key, name, named, data)


def test_the_same_is_sealed_to_the_same_bytes_and_nothing_else_is() -> None:
    """So that what arrived is not sent again. Another text, place, generation or corpus has another nonce."""
    owner = Owner()
    blobs = [
        sealed_shard(key, name, generation, data)[1]
        for key in (owner.key, Owner().key)
        for name in ("s0", "s1")
        for generation in (1, 2)
        for data in (b"documents", b"document2")
    ]
    assert len({blob[:STREAM_NONCE_BYTES] for blob in blobs}) == len(blobs)
    assert sealed_shard(owner.key, "s0", 1, b"documents")[1] == blobs[0]
    assert owner.blob() == owner.blob()


def test_small_changes_do_not_show_in_sizes() -> None:
    """Blobs grow by 64 KiB at a time."""
    owner = Owner()
    sizes = {len(sealed_shard(owner.key, "s", 1, bytes(size))[1]) for size in (1, 1000, 65_536)}
    assert len(sizes) == 1
    assert len(sealed_shard(owner.key, "s", 1, bytes(65_537))[1]) == sizes.pop() + 65_536


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": 0},
        {"generation": 2},
        {"ancestors": ("sha256:" + "0" * 64,)},
        {"shards": {"s0": None, "s01": None}},
        {"shards": {"s01": None, "s1": None, "s0": None}},
        {"shards": {"t": None}},
        {"shards": {"s": None}, "settings": {}},
        {"shards": {"s": None}, "settings": SETTINGS | {"dimension": "1e3"}},
        {"settings": {"dimension": "0"}},
        {"settings": {"dimension": " 384"}},
        {"settings": {"dimension": "100000"}},
        {"settings": {"largest": "nan"}},
        {"settings": {"largest": "inf"}},
        {"settings": {"largest": "0"}},
        {"settings": {"largest": "-1"}},
        {"settings": {"largest": "wide"}},
        {"settings": {"ranking": "best"}},
        {"settings": {"embedder-name": "x" * 1001}},
    ],
)
def test_a_head_that_contradicts_itself_is_none(changes: dict[str, Any]) -> None:
    """Whoever wrote it."""
    ref = ShardRef(digest="sha256:" + "0" * 64, size=1, generation=1, content="sha256:" + "1" * 64)
    if "shards" in changes:
        changes = {"settings": SETTINGS} | changes | {"shards": dict.fromkeys(changes["shards"], ref)}
    with pytest.raises(ValidationError):
        Owner().blob(**changes)

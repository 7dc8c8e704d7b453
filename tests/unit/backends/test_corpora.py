"""Corpora that are open on a node: found by tenant, key and head, for as long as there is room and somebody asks."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from blindgate_node.backends.corpora import Corpora
from blindgate_node.backends.interface import CorpusSource
from blindgate_protocol.canonical import digest
from blindgate_protocol.corpus_search import CorpusHits, CorpusQuery
from blindgate_protocol.errors import (
    BackendError,
    CorpusError,
    ForkedCorpusError,
    InputError,
    LeaseLostError,
    NotFoundError,
    StaleCorpusError,
)
from blindgate_protocol.values import BlobRef
from blindgate_rag.adding import Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.lexical import LexicalIndex
from blindgate_rag.sync import shards
from blindgate_rag.sync.corpus import SyncedCorpus
from blindgate_rag.sync.heads import sealed_head
from blindgate_rag.sync.state import SyncedState
from kept_blobs import InMind, Kept, KeptBlobs
from runs import wait_until

MEBI = 1 << 20


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    return Embedder.default()


@dataclass
class Stage:
    """One corpus, what a node asks for of it, and a clock."""

    corpus: SyncedCorpus
    kept: Kept
    asked: list[str] = field(default_factory=list)
    now: float = 0.0
    on_fetch: Callable[[], None] = lambda: None

    def source(self, tenant: str = "bank") -> CorpusSource:
        """The blobs, for a job of this tenant's."""

        def fetch(name: str, ref: BlobRef) -> bytes:
            self.asked.append(ref.digest)
            self.on_fetch()
            if name != self.corpus.name or ref.digest not in self.kept.blobs:
                message = "no such blob"
                raise NotFoundError(message, status=404)
            return self.kept.blobs[ref.digest]

        return CorpusSource(tenant, fetch, lambda: None)

    def query(self, text: str = "tea", **changes: Any) -> CorpusQuery:
        """A question to the newest head, by its words."""
        key = self.corpus._exchange.key
        given = {
            "corpus": key.corpus,
            "name": self.corpus.name,
            "head": self.kept.heads[-1][0],
            "key": key.content.secret().hex(),
            "query": text,
            "k": 3,
            "ranking": "bm25",
        }
        return CorpusQuery.model_validate(given | changes)

    def took(self) -> int:
        """How many blobs were asked for since this was asked last."""
        count = len(self.asked)
        self.asked.clear()
        return count


@pytest.fixture
def stage(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A corpus of several shards."""
    monkeypatch.setattr(shards.cut, "__kwdefaults__", {"most": 3000})
    kept = Kept()
    corpus = SyncedCorpus.join(
        tmp_path, "notes", KeptBlobs(kept), InMind(), passphrase="pass", embedder=embedder, show_progress=False
    )
    corpus.add_texts([Text(f"{number}", f"Report {number}: tea was given.") for number in range(12)])
    return Stage(corpus, kept)


def opened(stage: Stage, embedder: Embedder, *, most: int = 64 * MEBI) -> Corpora:
    """A node that has nothing open."""
    return Corpora(embedder, most_bytes=most, seconds=60, now=lambda: stage.now)


def sources(found: CorpusHits) -> list[str]:
    """What was found."""
    return [hit.source for hit in found.hits]


def test_what_is_open_is_not_fetched_again_nor_are_shards_that_stay(stage: Stage, embedder: Embedder) -> None:
    """The head and every shard at first; then nothing; then a newer head, and the shards that changed."""
    corpora = opened(stage, embedder)
    asked: dict[str, Any] = {"k": 20, "ranking": "fused"}
    assert sources(corpora.search(stage.query(**asked), stage.source())) == [
        hit.source for hit in stage.corpus.search("tea", 20)
    ]
    every = len(stage.kept.heads[-1][1])
    assert stage.took() == 1 + every > 3
    corpora.search(stage.query("report 5"), stage.source())
    assert stage.took() == 0
    stage.corpus.remove("5")
    found = corpora.search(stage.query(**asked), stage.source())
    assert sources(found) == [hit.source for hit in stage.corpus.search("tea", 20)]
    assert 1 <= stage.took() < every


def test_tenant_key_name_and_head_decide_what_is_asked(stage: Stage, embedder: Embedder) -> None:
    """Another tenant's is fetched for that tenant; another key opens nothing, and takes up no room; nor does another name."""
    corpora = opened(stage, embedder)
    corpora.search(stage.query(), stage.source())
    stage.took()
    corpora.search(stage.query(), stage.source("clinic"))
    assert stage.took() > 1
    room = corpora.room()
    for wrong, error, says in (
        ({"key": "0" * 64}, CorpusError, "was altered"),
        ({"corpus": "0" * 32}, CorpusError, "another corpus"),
        ({"name": "other"}, StaleCorpusError, "gives this node no corpus 'other'"),
        ({"head": BlobRef(digest="sha256:" + "0" * 64, size=9)}, StaleCorpusError, "keeps it back"),
        ({"head": BlobRef(digest="sha256:" + "0" * 64, size=9 * MEBI)}, CorpusError, "at most"),
        ({"query": " "}, InputError, "the question is empty"),
    ):
        with pytest.raises(error, match=says):
            corpora.search(stage.query(**wrong), stage.source())
    assert corpora.room() == room
    assert sources(corpora.search(stage.query("report 5", k=1), stage.source())) == ["5"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dimension": "1"}, "has vectors of 1 numbers, and its embedder's have 384"),
        ({"dimension": "wide"}, r"settings\.dimension is no number"),
        ({"dimension": "9" * 30}, r"settings\.dimension is no number"),
        ({"largest": "nan"}, r"settings\.largest is not above 0"),
        ({"embedder": "sha256:" + "0" * 64}, "vectors of two do not compare"),
        ({"embedder": None}, "there are shards, and settings has no embedder"),
    ],
)
def test_a_corpus_that_its_owner_made_to_harm_a_node_is_refused_before_its_shards_are_fetched(
    stage: Stage, embedder: Embedder, settings: dict[str, str | None], says: str
) -> None:
    """He has the key, so every seal holds. It is his answer, by what is wrong, and no fault of the node's."""
    exchange, base = stage.corpus._exchange, stage.corpus._here().base
    assert base is not None
    changed = {name: value for name, value in (base.head.settings | settings).items() if value is not None}
    head = base.head.model_copy(update={"settings": changed})
    blob = sealed_head(exchange.key, exchange.header, head)
    ref = BlobRef(digest=digest(blob), size=len(blob))
    stage.kept.blobs[ref.digest] = blob
    corpora = opened(stage, embedder)
    with pytest.raises(CorpusError, match=says):
        corpora.search(stage.query(head=ref), stage.source())
    assert stage.took() == 1
    assert corpora.room() == 0


def test_an_older_head_than_the_open_one_is_stale(stage: Stage, embedder: Embedder) -> None:
    """Though the gateway still has all of it: who asks has been shown what was before."""
    corpora = opened(stage, embedder)
    before = stage.query()
    stage.corpus.remove("5")
    corpora.search(stage.query(), stage.source())
    with pytest.raises(StaleCorpusError, match="has seen a newer one"):
        corpora.search(before, stage.source())
    assert sources(corpora.search(stage.query("report 6", k=1), stage.source())) == ["6"]


def test_a_head_that_does_not_continue_the_open_one_is_a_fork(stage: Stage, embedder: Embedder) -> None:
    """Whoever asks is told so, and is not asked for a newer one: both have the key, and were shown two corpora."""
    corpora, exchange, base = opened(stage, embedder), stage.corpus._exchange, stage.corpus._here().base
    assert base is not None
    corpora.search(stage.query(), stage.source())
    blob = sealed_head(exchange.key, exchange.header, base.head.model_copy(update={"documents": 99}))
    stage.kept.blobs[digest(blob)] = blob
    with pytest.raises(ForkedCorpusError, match="this node has seen another of its heads, which this one does not"):
        corpora.search(stage.query(head=BlobRef(digest=digest(blob), size=len(blob))), stage.source())
    assert sources(corpora.search(stage.query("report 5", k=1), stage.source())) == ["5"]


def test_a_corpus_without_a_document_is_searched(stage: Stage, embedder: Embedder) -> None:
    """Nobody has chosen its embedder yet. Nothing is found, and no error; later what came."""
    corpora, first = opened(stage, embedder), stage.kept.heads[0][0]
    assert sources(corpora.search(stage.query(head=first), stage.source())) == []
    assert sources(corpora.search(stage.query("report 5", k=1), stage.source())) == ["5"]


def test_room_is_bounded_and_what_was_asked_longest_ago_goes(
    stage: Stage, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By sealed bytes, which the error names. Nothing of a corpus that is too large is fetched but its head."""
    size = sum(len(stage.kept.blobs[one]) for one in stage.kept.heads[-1][1])
    small = opened(stage, embedder, most=size - 1)
    with pytest.raises(
        CorpusError, match=f"'notes' has {size} bytes, and this node takes corpora of at most {size - 1}"
    ):
        small.search(stage.query(), stage.source())
    assert stage.took() == 1
    assert small.room() == 0
    room = max(size, MEBI)
    two = opened(stage, embedder, most=2 * room)
    for tenant in ("one", "two", "one", "three"):
        two.search(stage.query(), stage.source(tenant))
    assert two.room() == 2 * room
    stage.took()
    for tenant in ("three", "one"):
        two.search(stage.query(), stage.source(tenant))
    assert stage.took() == 0
    two.search(stage.query(), stage.source("two"))
    assert stage.took() > 1

    def meanwhile() -> None:
        stage.on_fetch = lambda: None
        one.search(stage.query(), stage.source("two"))

    one = opened(stage, embedder, most=room)
    one.search(stage.query(), stage.source("one"))
    stage.corpus.remove("5")
    stage.on_fetch = meanwhile
    with pytest.raises(BackendError, match="leave no room"):
        one.search(stage.query(), stage.source("one"))
    monkeypatch.setattr("blindgate_node.backends.corpora._LEAST", 1)
    one.search(stage.query(), stage.source("three"))
    assert one.room() == sum(len(stage.kept.blobs[each]) for each in stage.kept.heads[-1][1]), (
        "what it takes is counted"
    )


def test_one_tenants_large_corpus_keeps_no_other_tenant_waiting(
    stage: Stage, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its index of words is made, others search theirs."""
    corpora = opened(stage, embedder)
    corpora.search(stage.query(ranking="fused"), stage.source("clinic"))
    begun, go_on, make = threading.Event(), threading.Event(), LexicalIndex.over

    def slowly(*given: Any) -> LexicalIndex:
        begun.set()
        assert go_on.wait(60)
        return make(*given)

    monkeypatch.setattr(LexicalIndex, "over", slowly)
    large = threading.Thread(target=corpora.search, args=(stage.query(ranking="fused"), stage.source("bank")))
    large.start()
    assert begun.wait(60)
    found: list[str] = []
    small = threading.Thread(
        target=lambda: found.extend(sources(corpora.search(stage.query("report 5", k=1), stage.source("clinic"))))
    )
    small.start()
    small.join(20)
    assert found == ["5"]
    go_on.set()
    large.join()


def test_what_nobody_asks_is_closed(stage: Stage, embedder: Embedder) -> None:
    """After its time."""
    corpora = opened(stage, embedder)
    corpora.search(stage.query(), stage.source())
    stage.now = 59.0
    corpora.expire()
    assert corpora.room() > 0
    corpora.search(stage.query(), stage.source())
    stage.now = 118.0
    corpora.expire()
    assert corpora.room() > 0
    stage.now = 119.0
    corpora.expire()
    assert corpora.room() == 0
    stage.took()
    corpora.search(stage.query(), stage.source())
    assert stage.took() > 1


@pytest.mark.timeout(60)
def test_who_waits_for_a_corpus_and_is_wanted_no_more_gives_up(stage: Stage, embedder: Embedder) -> None:
    """However long another request of its tenant's takes to fetch it; that one goes on."""
    corpora = opened(stage, embedder)

    def gone() -> None:
        raise LeaseLostError

    def meanwhile() -> None:
        stage.on_fetch = lambda: None
        with pytest.raises(LeaseLostError):
            corpora.search(stage.query(), replace(stage.source(), check=gone))

    stage.on_fetch = meanwhile
    assert sources(corpora.search(stage.query("report 5", k=1), stage.source())) == ["5"]


def test_what_is_searched_now_is_not_closed(stage: Stage, embedder: Embedder) -> None:
    """However long its blobs take to come: it stays, and counts."""
    corpora = opened(stage, embedder)

    def later() -> None:
        stage.now += 100
        corpora.expire()

    stage.on_fetch = later
    assert sources(corpora.search(stage.query("report 5", k=1), stage.source())) == ["5"]
    assert corpora.room() > 0


def test_what_broke_while_it_changed_answers_nobody(
    stage: Stage, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that contradict each other, half taken in: neither who waited for it, nor who asks next and has it fetched anew."""
    corpora, told = opened(stage, embedder), list[Exception]()
    before = stage.query("report", k=20)
    every = sources(corpora.search(before, stage.source()))
    stage.corpus.add_texts([Text("new", "Honey.")])

    def wait() -> None:
        try:
            corpora.search(before, stage.source())
        except BackendError as error:
            told.append(error)

    waiting = threading.Thread(target=wait)

    def contradict(*_: object) -> None:
        waiting.start()
        wait_until(lambda: any(one.users > 1 for one in corpora._kept.values()), seconds=20)
        message = "two of them have one id"
        raise CorpusError(message)

    with monkeypatch.context() as broken:
        broken.setattr(SyncedState, "_restore", contradict)
        with pytest.raises(CorpusError, match="two of them have one id"):
            corpora.search(stage.query("honey"), stage.source())
        waiting.join()
    assert ["opened for another request first, and that failed" in str(one) for one in told] == [True]
    assert corpora.room() == 0
    stage.took()
    assert sources(corpora.search(before, stage.source())) == every
    assert stage.took() > 1


def test_a_change_that_fails_midway_leaves_what_was_open(stage: Stage, embedder: Embedder) -> None:
    """A shard that does not come: the head of before is searched on, and the newer one once all of it is there."""
    corpora = opened(stage, embedder)
    before = stage.query("report 5", k=1)
    corpora.search(before, stage.source())
    stage.corpus.add_texts([Text("new", "Honey.")])
    gone = min(set(stage.kept.heads[-1][1]) - set(stage.kept.heads[-2][1]))  # a shard may have been cut in two
    blob = stage.kept.blobs.pop(gone)
    with pytest.raises(StaleCorpusError):
        corpora.search(stage.query("honey"), stage.source())
    stage.took()
    assert sources(corpora.search(before, stage.source())) == ["5"]
    assert stage.took() == 0, "it was let go of, with what the node knew of the newest head"
    stage.kept.blobs[gone] = blob
    assert sources(corpora.search(stage.query("honey", k=1), stage.source())) == ["new"]

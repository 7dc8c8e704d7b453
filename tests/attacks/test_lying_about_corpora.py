"""Whoever keeps a sealed corpus may keep it back. Whatever else it does is refused by name, and the cache is as it was.

The lies are told at the blobs themselves, as a gateway could; the gateway's own side, over the wire, is in
`tests/integration/test_synced_corpora.py`.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CorpusError, ForkedCorpusError, NotFoundError, RolledBackCorpusError
from blindgate_protocol.values import BlobRef
from blindgate_rag.adding import Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.sync import shards
from blindgate_rag.sync.corpus import SyncedCorpus
from blindgate_rag.sync.remote import Traffic
from kept_blobs import InMind, Kept, KeptBlobs

Lie = Callable[["Stage"], None]


class Stage:
    """A gateway with a corpus of several shards, and its owner's machine as of generation 3, which has not fetched the newest."""

    def __init__(self, folder: Path, embedder: Embedder, kept: Kept) -> None:
        self.folder, self.embedder, self.kept = folder, embedder, kept

    def write(self) -> None:
        """Make the corpus, once for all tests."""
        writer = self.join("writer")
        writer.add_texts([Text(f"{number}", f"Report {number}: tea was given.") for number in range(16)])
        writer.add_texts([Text("24", "The 24th report.")])
        self.join("reader")
        writer.add_texts([Text(f"{number}", "Newer.") for number in range(30, 36)])

    def open(self) -> None:
        """Open the machine that has generation 3, without its asking anybody."""
        with pytest.MonkeyPatch.context() as asleep:
            asleep.setattr(SyncedCorpus, "_look", lambda _corpus: None)
            self.reader = self.join("reader")
            self.shown = self.reader.search("tea", k=5, ranking="bm25").found

    def join(self, machine: str, kept: Kept | None = None, name: str = "notes") -> SyncedCorpus:
        """A machine of the owner's."""
        return SyncedCorpus.join(
            self.folder / machine / name,
            name,
            KeptBlobs(self.kept if kept is None else kept),
            InMind(),
            passphrase="pass",
            embedder=self.embedder,
        )

    def new_shards(self) -> list[str]:
        """The digests of what is new in the newest head."""
        return sorted(set(self.kept.heads[-1][1]) - set(self.kept.heads[-2][1]))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    return Embedder.default()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Stage]:
    """The corpus. Shards are small, so that there are several."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shards.cut, "__kwdefaults__", {"most": 3000})
        made = Stage(tmp_path_factory.mktemp("written"), embedder, Kept())
        made.write()
        assert len(made.new_shards()) > 2
        yield made


@pytest.fixture
def stage(written: Stage, tmp_path: Path) -> Stage:
    """A copy of it for each test."""
    shutil.copytree(written.folder, tmp_path / "machines")
    kept = Kept(dict(written.kept.blobs), list(written.kept.heads))
    made = Stage(tmp_path / "machines", written.embedder, kept)
    made.open()
    return made


def _an_old_head(stage: Stage) -> None:
    stage.kept.shown = 1


def _two_swapped(stage: Stage) -> None:
    one, other = stage.new_shards()[:2]
    stage.kept.blobs[one], stage.kept.blobs[other] = stage.kept.blobs[other], stage.kept.blobs[one]


def _one_of_before(stage: Stage) -> None:
    old = sorted(set(stage.kept.heads[-2][1]) - set(stage.kept.heads[-1][1]))
    stage.kept.blobs[stage.new_shards()[0]] = stage.kept.blobs[old[0]]


def _one_cut(stage: Stage) -> None:
    one = stage.new_shards()[0]
    stage.kept.blobs[one] = stage.kept.blobs[one][:-1]


def _one_bit(stage: Stage) -> None:
    one = stage.new_shards()[0]
    blob = stage.kept.blobs[one]
    stage.kept.blobs[one] = blob[:1000] + bytes([blob[1000] ^ 1]) + blob[1001:]


def _one_missing(stage: Stage) -> None:
    del stage.kept.blobs[stage.new_shards()[0]]


def _a_head_that_is_missing(stage: Stage) -> None:
    del stage.kept.blobs[stage.kept.heads[-1][0].digest]


def _a_head_that_is_altered(stage: Stage) -> None:
    head = stage.kept.blobs[stage.kept.heads[-1][0].digest]
    _show(stage, head[:-1] + bytes([head[-1] ^ 1]))


def _an_endless_head(stage: Stage) -> None:
    stage.kept.heads.append((BlobRef(digest="sha256:" + "0" * 64, size=1 << 40), ()))


def _a_head_named_by_another_digest(stage: Stage) -> None:
    blob = stage.kept.blobs[stage.kept.heads[-2][0].digest]
    named = BlobRef(digest="sha256:" + "0" * 64, size=len(blob))
    stage.kept.blobs[named.digest] = blob
    stage.kept.heads.append((named, ()))


def _another_corpus_of_ones_own(stage: Stage) -> None:
    _show_all(stage, _made(stage, "trial"))


def _another_corpus_of_the_same_name(stage: Stage) -> None:
    _show_all(stage, _made(stage, "notes"))


def _made(stage: Stage, name: str) -> Kept:
    kept = Kept()
    corpus = stage.join(f"other-{name}", kept, name)
    corpus.add_texts([Text("a", "Another corpus.")])
    return kept


def _show_all(stage: Stage, kept: Kept) -> None:
    stage.kept.blobs |= kept.blobs
    stage.kept.heads += kept.heads


def _show(stage: Stage, blob: bytes) -> None:
    stage.kept.blobs[digest(blob)] = blob
    stage.kept.heads.append((BlobRef(digest=digest(blob), size=len(blob)), ()))


LIES: dict[str, tuple[Lie, type[CorpusError], str]] = {
    "an old head": (_an_old_head, RolledBackCorpusError, "generation 2 was given, and this client has seen 3"),
    "two shards swapped": (_two_swapped, CorpusError, "is not the one that the corpus's head names"),
    "a shard of before": (_one_of_before, CorpusError, "is not the one that the corpus's head names"),
    "a shard that was cut": (_one_cut, CorpusError, "is not the one that the corpus's head names"),
    "a shard with another bit": (_one_bit, CorpusError, "is not the one that the corpus's head names"),
    "a shard that is missing": (_one_missing, CorpusError, "not all of the shards that it names"),
    "a head that is missing": (_a_head_that_is_missing, CorpusError, "not all of the shards that it names"),
    "a head that was altered": (_a_head_that_is_altered, CorpusError, "head was altered"),
    "a head without an end": (_an_endless_head, CorpusError, "at most 8388608 are read"),
    "a head by another digest": (_a_head_named_by_another_digest, CorpusError, "not the one that the gateway named"),
    "another corpus": (_another_corpus_of_ones_own, CorpusError, "another corpus lies there now"),
    "another corpus of the name": (_another_corpus_of_the_same_name, CorpusError, "another corpus lies there now"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_lie_is_refused_by_name_and_the_cache_is_as_it_was(stage: Stage, what: str) -> None:
    """Twice, in this process and in another; and once the gateway is honest again, all goes on."""
    lie, error, said = LIES[what]
    blobs, heads = dict(stage.kept.blobs), list(stage.kept.heads)
    lie(stage)
    for _ in range(2):
        with pytest.raises(error, match=said):
            stage.reader.search("tea")
    with pytest.raises(error, match=said):
        stage.join("reader")
    with pytest.raises(error, match=said):
        stage.reader.add_texts([Text("mine", "Not lost.")])
    offline = SyncedCorpus.join(
        stage.folder / "reader" / "notes",
        "notes",
        KeptBlobs(Kept()),
        InMind(),
        passphrase="pass",
        embedder=stage.embedder,
        offline=True,
    )
    assert offline.search("tea", k=5, ranking="bm25").found == stage.shown
    stage.kept.blobs, stage.kept.heads, stage.kept.shown = blobs, heads, -1
    assert stage.reader.search("newer", ranking="bm25")[0].text == "Newer."


def test_a_gateway_that_refuses_every_head_is_given_up_on_and_fills_no_quota(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that others were quicker, and shows nothing newer. What was put is put once, however often it is tried."""
    monkeypatch.setattr("blindgate_rag.sync.exchange._PAUSE", 0.0)
    stage.reader.sync()
    before = set(stage.kept.blobs)
    with monkeypatch.context() as lying:
        lying.setattr(KeptBlobs, "replace", lambda *_, **__: False)
        for _ in range(2):
            with pytest.raises(CorpusError, match="others change it all the time; what was changed here goes up"):
                stage.reader.add_texts([Text("mine", "Not lost.")])
    put = set(stage.kept.blobs) - before
    assert stage.reader.sync() == 5
    assert set(stage.kept.blobs) - before == put
    assert stage.join("another").search("lost", k=1, ranking="bm25")[0].source == "mine"


def test_a_gateway_that_says_it_lost_what_it_was_sent_is_sent_all_of_it_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more: the change is on this machine, as the error says."""
    stage.reader.sync()

    def lost(*_: object, **__: object) -> bool:
        raise NotFoundError("no such blob", status=404)

    before = stage.reader._exchange.remote.traffic.put
    with monkeypatch.context() as lying:
        lying.setattr(KeptBlobs, "replace", lost)
        with pytest.raises(NotFoundError, match="nothing is lost"):
            stage.reader.add_texts([Text("mine", "Not lost.")])
    every = len(stage.kept.heads[-1][1])
    assert every < stage.reader._exchange.remote.traffic.put - before <= every + 6
    assert stage.reader.sync() == 5


def test_a_gateway_that_says_it_took_a_head_and_did_not_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next look. What was changed is on this machine, which can put it back."""
    stage.reader.sync()
    with monkeypatch.context() as lying:
        lying.setattr(KeptBlobs, "replace", lambda *_, **__: True)
        stage.reader.add_texts([Text("mine", "Not lost.")])
    with pytest.raises(RolledBackCorpusError, match=r"generation 4 was given, and this client has seen 5.*put-back"):
        stage.reader.search("lost")
    offline = SyncedCorpus.join(
        stage.folder / "reader" / "notes",
        "notes",
        KeptBlobs(stage.kept),
        InMind(),
        passphrase="pass",
        embedder=stage.embedder,
        offline=True,
    )
    assert offline.put_back() == 6
    assert stage.join("another").search("lost", k=1, ranking="bm25")[0].source == "mine"


def test_two_clients_that_were_shown_two_corpora_find_out_when_they_meet(stage: Stage) -> None:
    """A gateway that took two heads in place of one has to keep its clients apart for good."""
    fork = Kept(dict(stage.kept.blobs), list(stage.kept.heads))
    one, other = stage.join("one"), stage.join("other", fork)
    one.add_texts([Text("one", "One's own.")])
    other.add_texts([Text("other", "The other's.")])
    stage.kept.blobs |= fork.blobs
    stage.kept.heads.append(fork.heads[-1])
    with pytest.raises(ForkedCorpusError, match="there are two of generation"):
        one.search("tea")
    other.add_texts([Text("more", "And more.")])
    stage.kept.blobs |= fork.blobs
    stage.kept.heads.append(fork.heads[-1])
    with pytest.raises(ForkedCorpusError, match="does not continue"):
        one.search("tea")


def test_what_was_seen_outlives_the_cache(stage: Stage) -> None:
    """Whoever deleted the cache, and not what was seen, is shown no old head: neither one of before what it put itself."""
    seen = InMind()
    given: dict[str, Any] = {"passphrase": "pass", "embedder": stage.embedder}
    one = SyncedCorpus.join(stage.folder / "one" / "notes", "notes", KeptBlobs(stage.kept), seen, **given)
    stage.kept.shown = 2
    with pytest.raises(RolledBackCorpusError):
        SyncedCorpus.join(stage.folder / "two" / "notes", "notes", KeptBlobs(stage.kept), seen, **given)
    stage.kept.shown = -1
    one.add_texts([Text("mine", "Put by this client.")])
    stage.kept.shown = -2
    with pytest.raises(RolledBackCorpusError, match="generation 4 was given, and this client has seen 5"):
        SyncedCorpus.join(stage.folder / "two" / "notes", "notes", KeptBlobs(stage.kept), seen, **given)


def test_nothing_that_is_stored_can_be_read(stage: Stage) -> None:
    """Not a word of a document, nor its name, nor the corpus's."""
    everything = b"".join(stage.kept.blobs.values())
    for word in (b"tea was given", b"Report", b"notes", b"MiniLM", b"embedder", b"documents"):
        assert word not in everything


def test_a_search_fetches_the_same_whatever_is_asked(stage: Stage) -> None:
    """And puts nothing."""
    told: list[Traffic] = []
    for query in ("tea", "report 7", "a question that nothing answers"):
        corpus = stage.join(f"asker-{len(told)}")
        corpus.search(query, ranking="bm25")
        told.append(corpus._exchange.remote.traffic)
    assert len(set(told)) == 1
    assert told[0].put == 0

"""A corpus that lies elsewhere: two machines, one name, and nothing lost; searched here exactly, with MiniLM's real weights."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_documents
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CorpusError, GatewayError, InputError, RolledBackCorpusError
from blindgate_protocol.values import BlobRef
from blindgate_rag.adding import Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.int8 import quantised, quantised_queries
from blindgate_rag.state import PROMPTS
from blindgate_rag.sync import shards
from blindgate_rag.sync.corpus import SyncedCorpus
from blindgate_rag.sync.heads import ANCESTORS, Head, sealed_head
from blindgate_rag.sync.state import scale_for
from kept_blobs import InMind, Kept, KeptBlobs

NOTES = [
    Text("dose", "Aspirin must not be combined with warfarin: both thin the blood.", {"ward": "3B"}),
    Text("tea", "The patient of bed 4 has had a cough for three weeks. Tea with honey was given.", {"ward": "4A"}),
    Text("visit", "Visiting hours are from two to four."),
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    return Embedder.default()


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a socket fails: those are the SDK's."""

    def refuse(*_: object, **__: object) -> None:
        message = "a socket was asked for"
        raise AssertionError(message)

    monkeypatch.setattr(socket, "socket", refuse)


class Machines:
    """Several of one owner's, and where the corpus lies."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self.kept = Kept()
        self._folder, self._embedder = folder, embedder

    def join(
        self,
        name: str,
        passphrase: str | None = "pass",
        *,
        ranking: Any = None,
        create: bool = True,
        offline: bool = False,
        at_least: int = 0,
    ) -> SyncedCorpus:
        """The corpus, as the machine of this name opens it."""
        return SyncedCorpus.join(
            self._folder / name / "notes",
            "notes",
            KeptBlobs(self.kept),
            InMind(),
            passphrase=passphrase,
            embedder=self._embedder,
            ranking=ranking,
            create=create,
            offline=offline,
            at_least=at_least,
            show_progress=False,
        )


@pytest.fixture
def machines(tmp_path: Path, embedder: Embedder) -> Machines:
    """Nobody has anything yet."""
    return Machines(tmp_path, embedder)


def _sources(corpus: SyncedCorpus) -> list[str]:
    return sorted(one.source for one in corpus.documents())


def _passages(corpus: SyncedCorpus) -> dict[int, str]:
    """Every passage by its id: what a citation names."""
    found = (corpus.document(source) for source in _sources(corpus))
    return {passage.id: passage.text for one in found if one is not None for passage in one[1]}


def test_another_machine_has_what_the_first_one_added(machines: Machines) -> None:
    """Texts, metadata, the ids that citations name, the ranking; and what is removed is gone there, too."""
    first = machines.join("first")
    first.add_texts(NOTES)
    second = machines.join("second", create=False)
    hits = second.search("what goes badly with blood thinners?", k=1, where={"ward": "3B"})
    assert (hits[0].source, hits[0].text, hits[0].metadata) == ("dose", NOTES[0].text, {"ward": "3B"})
    assert _passages(second) == _passages(first)
    for query in ("cough", "when may I visit?", "thin blood"):
        assert [one.passage for one in second.search(query)] == [one.passage for one in first.search(query)]
    second.remove("tea")
    assert first.document("tea") is None
    assert _sources(first) == ["dose", "visit"]
    assert not first.search("honey", ranking="bm25")
    first.add_texts([NOTES[1]])
    assert max(_passages(first)) == 4, "an id was given twice"
    assert _passages(second) == _passages(first)
    second.remove("tea")
    machines.join("third").add_texts([NOTES[1]])
    assert max(_passages(first)) == 5, "by who never saw the passage that had it"


def test_of_many_that_make_it_at_once_without_a_passphrase_all_open_it_again(machines: Machines) -> None:
    """On one machine, a cron job and a person, say: one random passphrase is made, and it is the one that stays."""
    together = threading.Barrier(6)

    def make(_: int) -> str:
        together.wait()
        return machines.join("first", None).path.parent.with_suffix(".passphrase").read_text()

    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(make, range(6)))
    assert len(made) == 1
    with pytest.raises(
        CorpusError, match=r"not this corpus's, .* opens without one, by .*first/notes\.passphrase: give none"
    ):
        machines.join("first", "a passphrase that was set for another corpus")
    machines.join("first", None).add_texts(NOTES)
    machines.join("second", made.pop(), create=False).search("cough", k=1)


def test_search_here_is_exact_search_in_eight_bits(machines: Machines) -> None:
    """The same passages in the same order, and the same whole numbers as scores, on both machines."""
    words = ("blood", "cough", "tea", "honey", "visit", "hours", "ward", "bed", "aspirin", "patient", "fever", "night")
    draw = np.random.default_rng(5)
    texts = [Text(f"{number}", " ".join(draw.choice(words, size=6))) for number in range(40)]
    first = machines.join("first")
    first.add_texts(texts[:25])
    second = machines.join("second")
    second.add_texts(texts[25:])
    embedder = first.embedder
    largest = scale_for(embedder.embed([texts[0].text]))
    ids = {text: one for one, text in _passages(first).items()}
    distinct = [one for one in texts if one.text in ids]
    index = quantised(embedder.embed([one.text for one in distinct]), largest).astype(np.int64)
    for query in ("a patient with fever", "tea", "who may visit at night?"):
        scores = index @ quantised_queries(embedder.embed([query]))[0]
        expected = sorted(zip((ids[one.text] for one in distinct), scores, strict=True), key=lambda p: (-p[1], p[0]))
        for corpus in (first, second):
            found = corpus._here().nearest(embedder.embed([query]), 60)
            assert found == [(one, float(score)) for one, score in expected]


def test_words_and_vectors_of_eight_bits_are_blended_as_cosines_are(machines: Machines) -> None:
    """Alike on all machines, scores included; a passage that is asked for by its own text is best by both."""
    first = machines.join("first")
    first.add_texts(NOTES)
    second = machines.join("second", ranking="blended")
    again = machines.join("third")
    assert again.ranking == "blended"
    query = NOTES[0].text
    found = second.search(query)
    assert found[0].source == "dose"
    assert found[0].score == pytest.approx(1)
    assert first.search(query).found == found.found == again.search(query).found
    vector = first.embedder.embed_questions([query])
    state = first._here()
    assert state.nearest(vector, 1)[0][1] / state.unit_of(vector) == pytest.approx(1, abs=0.01)
    cosines = {hit.source: hit.score / state.unit_of(vector) for hit in first.search(query, ranking="dense")}
    exact = vector @ first.embedder.embed([one.text for one in NOTES]).T
    assert cosines == pytest.approx({one.name: exact[0][place] for place, one in enumerate(NOTES)}, abs=0.01)


def test_two_who_change_it_at_once_lose_nothing(machines: Machines) -> None:
    """The second takes in what the first put, and puts its own on top: other documents, the same one, and removals."""
    first, second = machines.join("first"), machines.join("second")
    first.add_texts(NOTES)
    first.sync()
    second.sync()

    def meanwhile() -> None:
        second.add_texts([Text("night", "At night nobody visits."), Text("dose", "Warfarin and aspirin, never.")])
        second.remove("tea")

    machines.kept.before_replacing.append(meanwhile)
    first.add_texts([Text("day", "By day there is tea."), Text("dose", "Aspirin and warfarin: ask first.")])
    for corpus in (first, second):
        assert _sources(corpus) == ["day", "dose", "night", "visit"]
        assert corpus.search("aspirin", k=1, ranking="bm25")[0].text == "Aspirin and warfarin: ask first."
    assert _passages(first) == _passages(second)
    assert len(set(_passages(first))) == 4
    assert machines.join("third").search("day", k=1, ranking="bm25")[0].source == "day"


def test_what_is_put_on_top_of_anothers_documents_is_what_it_was(machines: Machines, tmp_path: Path) -> None:
    """Its pages, metadata, length and vectors, though the other one was first, and chose another scale."""
    first, second = machines.join("first"), machines.join("second")
    path = tmp_path / "plan.pdf"
    path.write_bytes(made_documents.pdf(["", "Warfarin is stopped five days before."]))
    machines.kept.before_replacing.append(lambda: (second.add_texts(NOTES), None)[1])
    first.add(path, {"ward": "5C"})
    (hit,) = second.search("warfarin stopped", k=1, ranking="bm25")
    length = first.embedder.tokens("Warfarin is stopped five days before.")
    assert (hit.source, hit.page, hit.metadata, hit.tokens) == ("plan.pdf", 2, {"ward": "5C"}, length)
    assert [one.media for one in second.documents({"ward": "5C"})] == ["pdf"]
    vector, state = first.embedder.embed_questions([hit.text]), second._here()
    assert state.nearest(vector, 1)[0][0] == hit.passage
    assert state.nearest(vector, 1)[0][1] / state.unit_of(vector) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("most", [1, shards.MOST_BYTES], ids=["in another shard", "in the same shard"])
def test_what_one_removes_is_gone_though_another_changes_something_else_at_once(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Whoever asked for its removal would find it there again."""
    monkeypatch.setattr(shards.cut, "__kwdefaults__", {"most": most})
    first, second = machines.join("first"), machines.join("second")
    first.add_texts(NOTES)
    machines.kept.before_replacing.append(lambda: (second.add_texts([Text("visit", "Nobody visits.")]), None)[1])
    first.remove("tea")
    assert _sources(second) == _sources(first) == _sources(machines.join("third")) == ["dose", "visit"]


def test_what_was_not_there_to_be_removed_is_not_removed_later(machines: Machines) -> None:
    """A machine that is offline is asked to remove what another one is only adding: it is told that there was none."""
    machines.join("first").add_texts(NOTES[:1])
    assert machines.join("first", offline=True).remove("dose", "text:tea") == 1
    machines.join("second").add_texts(NOTES[1:2])
    assert machines.join("first").sync() == 4
    assert _sources(machines.join("first")) == ["tea"]


def test_what_two_removed_is_there_again_when_one_adds_it_again(machines: Machines) -> None:
    """Each removed it by itself: that the other one had, too, is no word against what comes later."""
    first, second = machines.join("first"), machines.join("second")
    first.add_texts(NOTES)
    offline = machines.join("first", offline=True)
    offline.remove("tea")
    second.remove("tea")
    assert _sources(first) == ["dose", "visit"]
    second.add_texts(NOTES[1:2])
    assert first.sync() == 4
    assert _sources(first) == _sources(second) == ["dose", "tea", "visit"]


def test_the_same_document_of_two_is_one(machines: Machines) -> None:
    """Both added it; the ids of who was first hold, and nothing goes up again."""
    first, second = machines.join("first"), machines.join("second")
    machines.kept.before_replacing.append(lambda: (first.add_texts(NOTES), None)[1])
    second.add_texts(NOTES)
    assert _passages(second) == _passages(first)
    assert len(machines.kept.heads) == 2


def test_of_two_descriptions_of_one_document_the_later_one_counts(machines: Machines) -> None:
    """Though its text is the same: what it is described by decides where it is found."""
    first, second = machines.join("first"), machines.join("second")
    machines.kept.before_replacing.append(lambda: (first.add_texts(NOTES[:1]), None)[1])
    second.add_texts([Text(NOTES[0].name, NOTES[0].text, {"ward": "5C"})])
    for corpus in (first, second):
        assert [one.metadata for one in corpus.documents()] == [{"ward": "5C"}]
    first.add_texts(NOTES[:1])
    assert [one.metadata for one in second.documents()] == [{"ward": "3B"}]


def test_one_file_that_two_machines_call_otherwise_keeps_neither_from_going_on(
    machines: Machines, tmp_path: Path
) -> None:
    """It lies at one path on both, and on one of them a text was called so first: each would refuse all that the other puts."""
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "may.txt").write_text("Tea with honey.")
    machines.join("first"), machines.join("second").add(folder)
    offline = machines.join("first", offline=True)
    offline.add_texts([Text("reports/may.txt", "A text of May.")])
    offline.add(folder)
    first, second = machines.join("first"), machines.join("second")
    first.sync()
    assert _passages(first) == _passages(second)
    assert sorted(_passages(first).values()) == ["A text of May.", "Tea with honey."]


class Disk:
    """A machine's, with a folder `reports`. Its files are there while it is plugged in."""

    def __init__(self, folder: Path) -> None:
        self._there, self._away = folder, folder.with_name(f"{folder.name}-away")
        (self._away / "reports").mkdir(parents=True)

    @contextmanager
    def plugged_in(self, **files: str) -> Iterator[Path]:
        """Its folder, with these texts besides."""
        self._away.rename(self._there)
        for name, text in files.items():
            (self._there / "reports" / f"{name}.txt").write_text(text)
        yield self._there / "reports"
        self._there.rename(self._away)


def test_one_file_of_two_machines_is_one_document(machines: Machines, tmp_path: Path) -> None:
    """By its path from the folder that was added. What is new at both at once is one where it is the same, and else both stay."""
    first, second, one, two = (
        machines.join("first"),
        machines.join("second"),
        Disk(tmp_path / "1"),
        Disk(tmp_path / "2"),
    )
    with one.plugged_in(dose="Aspirin, never with warfarin.", tea="Tea with honey.") as folder:
        first.add(folder)
    with two.plugged_in(dose="Aspirin, never with warfarin.", tea="Tea, and no sugar.", gone="Not for long.") as folder:
        told = second.add(folder)
        assert (told.added, told.changed, told.unchanged) == (("reports/gone.txt",), ("reports/tea.txt",), 1)
        (folder / "gone.txt").unlink()
        assert second.add(folder, prune=True).removed == ("reports/gone.txt",)
        assert _sources(first) == ["reports/dose.txt", "reports/tea.txt"]
        assert first.search("tea", k=1, ranking="bm25")[0].text == "Tea, and no sugar."
    with two.plugged_in(new="New at both.", note="Second's note.") as folder:
        second.add(folder)
    with one.plugged_in(new="New at both.", note="First's note.") as folder:
        machines.join("first", offline=True).add(folder)
        first.sync()
        names = ["reports/dose.txt", "reports/new.txt", "reports/note.txt", "reports/tea.txt"]
        assert _sources(second) == [str(folder / "note.txt"), *names]
        assert second.search("tea", k=1, ranking="bm25")[0].text == "Tea with honey.", "the later word counts"


def test_a_file_that_takes_the_place_of_anothers_is_not_lost_with_it(machines: Machines, tmp_path: Path) -> None:
    """Theirs was removed here, and this machine's own was added: that it says the same does not make it theirs."""
    one, two = Disk(tmp_path / "1"), Disk(tmp_path / "2")
    with one.plugged_in(tea="Tea with honey.") as folder:
        machines.join("first").add(folder)
    machines.join("second")
    with two.plugged_in(tea="Tea with honey.") as folder:
        offline = machines.join("second", offline=True)
        offline.remove("reports/tea.txt")
        offline.add(folder)
        machines.join("first").add_texts(NOTES[:1])
        machines.join("second").sync()
    assert _sources(machines.join("first")) == ["dose", "reports/tea.txt"]


def test_what_is_gone_from_a_folder_is_pruned_whoever_added_it_first(machines: Machines, tmp_path: Path) -> None:
    """Where it was in this machine's folder, too, in this process or an earlier one. What only the other has stays."""
    one, two = Disk(tmp_path / "1"), Disk(tmp_path / "2")
    with one.plugged_in(
        dose="Aspirin, never with warfarin.", tea="Tea with honey.", only="Only at the first."
    ) as folder:
        machines.join("first").add(folder)
    with two.plugged_in(dose="Aspirin, never with warfarin.", tea="Tea, and no sugar.", own="Only here.") as folder:
        machines.join("second").add(folder)
        dose = (folder / "dose.txt").read_text()
        (folder / "dose.txt").write_bytes(b"")  # it is there, and nothing can be read of it for a while
        told = machines.join("second").add(folder, prune=True)
        assert ([one.source for one in told.failed], told.removed) == (["reports/dose.txt"], ())
        (folder / "dose.txt").write_text(dose)
        for name in ("dose", "tea", "own"):
            (folder / f"{name}.txt").unlink()
        (folder / "note.txt").write_text("A note.")
        told = machines.join("second").add(folder, prune=True)
        assert sorted(told.removed) == ["reports/dose.txt", "reports/own.txt", "reports/tea.txt"]
    assert _sources(machines.join("first")) == ["reports/note.txt", "reports/only.txt"]


def test_a_file_that_another_machine_was_quicker_with_is_pruned_too(machines: Machines, tmp_path: Path) -> None:
    """Though nothing else of this folder was new when it was added here: that it was here is remembered."""
    one, two = Disk(tmp_path / "1"), Disk(tmp_path / "2")
    with two.plugged_in(dose="Aspirin, never with warfarin.") as folder:
        machines.join("second").add(folder)
    with one.plugged_in(tea="Tea with honey.") as folder:
        machines.join("first").add(folder)
    with two.plugged_in(tea="Tea with honey.") as folder:
        assert machines.join("second").add(folder).unchanged == 2
        (folder / "tea.txt").unlink()
        assert machines.join("second").add(folder, prune=True).removed == ("reports/tea.txt",)
    with two.plugged_in(new="New at both.") as folder:
        machines.join("second", offline=True).add(folder)
    with one.plugged_in(new="New at both.") as folder:
        machines.join("first").add(folder)
    with two.plugged_in() as folder:
        machines.join("second").sync()
        (folder / "new.txt").unlink()
        assert machines.join("second").add(folder, prune=True).removed == ("reports/new.txt",), "it was here first"
        machines.join("second", offline=True).add_texts([Text("reports/text.txt", "A text.")])
    with one.plugged_in(text="A text.") as folder:
        machines.join("first").add(folder)
    with two.plugged_in() as folder:
        assert machines.join("second").add(folder, prune=True).removed == (), "of no file that was here"


def test_pruning_one_folder_takes_nothing_out_of_another(machines: Machines, tmp_path: Path) -> None:
    """Though another machine added it first: `letters` is not below `reports`, and another `reports` is not this one."""
    one, two = Disk(tmp_path / "1"), Disk(tmp_path / "2")
    with one.plugged_in(dose="Aspirin, never with warfarin.") as folder:
        (folder.parent / "letters").mkdir()
        (folder.parent / "letters" / "may.txt").write_text("A letter of May.")
        for each in (folder, folder.parent / "letters"):
            machines.join("first").add(each)
    with two.plugged_in(dose="Aspirin, never with warfarin.") as folder:
        (folder.parent / "letters").mkdir()
        (folder.parent / "letters" / "may.txt").write_text("A letter of May.")
        second = machines.join("second")
        assert second.add(folder.parent / "letters").unchanged == 1
        assert second.add(folder, prune=True).removed == ()
    with Disk(tmp_path / "3").plugged_in(own="Only here.") as folder:
        assert second.add(folder, prune=True).removed == ()
    assert _sources(second) == ["letters/may.txt", "reports/dose.txt", "reports/own.txt"]


def test_two_folders_of_one_name_on_one_machine_are_two(machines: Machines, tmp_path: Path) -> None:
    """Whether the other is there now or is not; a text that is called as a file is stays, too."""
    corpus, one, two = machines.join("first"), Disk(tmp_path / "1"), Disk(tmp_path / "2")
    corpus.add_texts([Text("reports/text.txt", "A text.")])
    with one.plugged_in(may="May of one.", text="A file.") as folder:
        corpus.add(folder)
        file = str(folder / "text.txt")
    with two.plugged_in(may="May of two.") as folder:
        corpus.add(folder)
        other = str(folder / "may.txt")
    assert _sources(corpus) == [file, other, "reports/may.txt", "reports/text.txt"]


def test_one_more_document_moves_what_it_is_in_and_no_more(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up and down: one shard and the head, of many. Who comes anew reads the head twice: once for the key."""
    monkeypatch.setattr(shards.cut, "__kwdefaults__", {"most": 4000})
    first = machines.join("first")
    first.add_texts([Text(f"{number}", f"Report {number} of ward {number % 7}.") for number in range(40)])
    count = len(machines.kept.heads[-1][1])
    assert count > 5
    second = machines.join("second")
    assert f"that {count + 2} blobs of" in str(second.search("report", k=1, ranking="bm25").leakage)
    assert "blobs" not in str(second.search("report", k=1, ranking="bm25").leakage)
    assert "blobs" not in str(machines.join("first").search("report", k=1, ranking="bm25").leakage), (
        "it put them itself"
    )
    assert "together were put" in str(first.search("report", k=1, ranking="bm25").leakage)
    before = set(machines.kept.heads[-1][1])
    first.add_texts([Text("61", "One more report.")])
    moved = len(set(machines.kept.heads[-1][1]) - before)
    assert (
        1 <= moved < count / 2
    )  # where the document lies follows from the corpus's random id: a full shard is divided
    leakage = second.search("report", k=1, ranking="bm25").leakage
    assert leakage.profile == "sealed-sync"
    assert f"that {moved + 1} blobs of" in str(leakage)
    assert len(second) == 41


def test_the_passphrase_is_changed_everywhere(machines: Machines) -> None:
    """A machine that is open goes on, a new one needs the new one, and so does one that opens again."""
    first, second = machines.join("first"), machines.join("second")
    first.add_texts(NOTES)
    salt = second._exchange.header.salt
    second.change_passphrase("another")
    assert second._exchange.header.salt != salt, "what was worked out against the old one is of use against the new one"
    assert first.sync() == 3
    for name in ("first", "second", "third"):
        with pytest.raises(CorpusError, match="the passphrase is not this corpus's"):
            machines.join(name)
        assert len(machines.join(name, "another")) == 3


def test_a_passphrase_whose_change_failed_does_not_come_into_force_later(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next change, say: whoever was told that it failed may not have written it down."""
    first = machines.join("first")
    with monkeypatch.context() as broken:

        def full(*_: object, **__: object) -> bool:
            raise GatewayError("beyond the tenant's quota", problem="quota")

        broken.setattr(KeptBlobs, "store", full)
        with pytest.raises(GatewayError, match="The passphrase stays as it was: change it again"):
            first.change_passphrase("another")
    first.add_texts(NOTES)
    assert len(machines.join("second")) == 3


def test_a_search_while_another_process_adds_finds_what_is_here(machines: Machines) -> None:
    """It waits a moment and no more, though there is something newer: an `add` may take hours."""
    first, adding = machines.join("first"), machines.join("first")
    first.add_texts(NOTES[:1])
    machines.join("second").add_texts(NOTES[1:])
    with adding._vault.writing():
        assert [hit.source for hit in first.search("tea")] == ["dose"]
    assert first.search("tea", k=1)[0].source == "tea"


def test_an_empty_passphrase_seals_nothing(machines: Machines) -> None:
    """As that of a variable that is not set: whoever has the blobs would try it first."""
    with pytest.raises(CorpusError, match="the passphrase is empty"):
        machines.join("first", "")
    assert not machines.kept.heads
    with pytest.raises(CorpusError, match="the passphrase is empty"):
        machines.join("first").change_passphrase("")
    assert machines.join("first").generation == 1


def test_a_passphrase_that_is_changed_is_the_one_that_opens_it(machines: Machines) -> None:
    """Nothing of the random one before stays; who changes it offline, or at another's moment, is told that it does not hold."""
    first = machines.join("first", None)
    own = first.path.parent.with_suffix(".passphrase")
    assert own.exists()
    with pytest.raises(CorpusError, match="its passphrase is changed where it lies"):
        machines.join("first", None, offline=True).change_passphrase("offline")
    first.change_passphrase("pass")
    assert not own.exists()
    second = machines.join("second")
    machines.kept.before_replacing.append(lambda: (second.add_texts(NOTES), None)[1])
    first.change_passphrase("first's, beside somebody's documents")
    first.change_passphrase("pass")
    machines.kept.before_replacing.append(lambda: second.change_passphrase("second's"))
    with pytest.raises(CorpusError, match="another machine changed the passphrase at this moment, and that one holds"):
        first.change_passphrase("first's")
    machines.join("third", "second's", create=False)


def test_who_is_stopped_while_it_makes_a_corpus_makes_it_the_next_time(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key is kept here of what never came to lie there."""
    with monkeypatch.context() as broken:

        def away(*_: object, **__: object) -> bool:
            raise ConnectionError

        broken.setattr(KeptBlobs, "replace", away)
        with pytest.raises(ConnectionError):
            machines.join("first")
    machines.join("first").add_texts(NOTES)
    assert len(machines.join("second", create=False)) == 3


def test_what_is_older_than_was_said_is_neither_taken_in_nor_remembered(machines: Machines) -> None:
    """Or the machine that was shown it would search it offline, and hold the true one against it."""
    machines.join("first").add_texts(NOTES)
    with pytest.raises(RolledBackCorpusError, match="generation 2 was given, and at least 9 was said to be there"):
        machines.join("second", at_least=9)
    assert len(machines.join("second", offline=True)) == 0
    assert len(machines.join("second", at_least=2)) == 3
    with pytest.raises(RolledBackCorpusError, match="generation 2 was given, and at least 9 was said to be there"):
        machines.join("second", at_least=9)


def test_another_corpus_is_not_taken_for_ones_own_by_its_passphrase(machines: Machines) -> None:
    """Nor is its key kept: what is added would be sealed for whoever made it, and the right passphrase open nothing any more."""
    machines.join("first").add_texts(NOTES)
    theirs = Machines(machines._folder / "theirs", machines._embedder)
    theirs.join("liar", "theirs").add_texts(NOTES[:1])
    kept, machines.kept = machines.kept, theirs.kept
    with pytest.raises(CorpusError, match="the passphrase is not this corpus's"):
        machines.join("first", "theirs")
    for name in ("first", "second"):
        with pytest.raises(CorpusError):
            machines.join(name)
    machines.kept = kept
    for name in ("first", "second"):
        assert len(machines.join(name)) == 3


def test_of_two_machines_that_make_it_at_once_one_finds_the_others(machines: Machines) -> None:
    """Its key is not the other's: what it added would be nobody's."""
    machines.kept.before_replacing.append(lambda: (machines.join("second").add_texts(NOTES), None)[1])
    assert _sources(machines.join("first")) == ["dose", "tea", "visit"]


def test_a_corpus_goes_on_when_it_has_more_generations_than_a_head_names(machines: Machines) -> None:
    """After the 129th, too; and who saw one of long ago takes the newest."""
    first = machines.join("first")
    exchange = first._exchange
    before = tuple(digest(bytes([place])) for place in range(ANCESTORS))
    header = exchange.header.digest
    given: dict[str, Any] = {"settings": {}, "documents": 0, "passages": 0, "shards": {}}
    head = Head(corpus=exchange.key.corpus, name="notes", generation=200, ancestors=before, header=header, **given)
    blob = sealed_head(exchange.key, exchange.header, head)
    machines.kept.blobs[digest(blob)] = blob
    machines.kept.heads.append((BlobRef(digest=digest(blob), size=len(blob)), ()))
    first.add_texts(NOTES[:1])
    assert first.generation == machines.join("second").generation == 201


def _put_head(machines: Machines, corpus: SyncedCorpus, settings: dict[str, str]) -> None:
    """The head that follows on what a machine has, with other settings, as another client of the owner's puts it."""
    exchange, base = corpus._exchange, corpus._here().base
    assert base is not None
    given = {"generation": base.head.generation + 1, "ancestors": (base.digest, *base.head.ancestors)}
    head = base.head.model_copy(update=given | {"settings": base.head.settings | settings})
    blob = sealed_head(exchange.key, exchange.header, head)
    machines.kept.blobs[digest(blob)] = blob
    machines.kept.heads.append((BlobRef(digest=digest(blob), size=len(blob)), machines.kept.heads[-1][1]))


@pytest.mark.parametrize("settings", [{"embedder": "sha256:" + "0" * 64}, {PROMPTS: "no"}], ids=["files", "prompts"])
def test_vectors_of_two_models_do_not_come_into_one_index(machines: Machines, settings: dict[str, str]) -> None:
    """Another client of the owner's embeds otherwise: what is here is searched offline, as it was."""
    first = machines.join("first")
    first.add_texts(NOTES)
    second = machines.join("second")
    second.remove("visit")
    _put_head(machines, second, settings)
    with pytest.raises(CorpusError, match="vectors of two do not compare"):
        first.search("tea")
    assert len(first) == 3, "it shows what it took in by half"
    assert machines.join("first", offline=True).search("tea", k=1)[0].source == "tea"


def test_vectors_of_another_length_do_not_come_into_the_cache(machines: Machines) -> None:
    """Another client of the owner's says that they have one number each: the cache would not be read any more."""
    first = machines.join("first")
    first.add_texts(NOTES)
    _put_head(machines, first, {"dimension": "1"})
    with pytest.raises(CorpusError, match="vectors of 1 numbers, and what is here has 384"):
        first.search("tea")
    assert machines.join("first", offline=True).search("tea", k=1)[0].source == "tea"


def test_what_is_broken_off_midway_is_neither_here_nor_there(machines: Machines) -> None:
    """Nor does it go up with a later change: whoever broke it off begins it again."""
    first = machines.join("first")
    first.add_texts(NOTES[:1])

    def texts() -> Iterator[Text]:
        yield Text(NOTES[0].name, NOTES[0].text, {"ward": "5C"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.add_texts(texts())
    first.add_texts(NOTES[1:2])
    for corpus in (first, machines.join("second")):
        assert [one.metadata for one in corpus.documents()] == [{"ward": "3B"}, {"ward": "4A"}]


def test_a_setting_that_is_none_of_a_corpuss_does_not_come_into_the_cache(machines: Machines) -> None:
    """Or another client of the owner's makes this one's cache unreadable, with what was added here and did not go up."""
    first = machines.join("first")
    first.add_texts(NOTES)
    _put_head(machines, first, {"format": "99"})
    assert first.search("tea", k=1)[0].source == "tea"
    assert len(machines.join("first", offline=True)) == 3


def test_what_did_not_go_up_goes_up_later(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added offline, or while nobody could be asked: it rests in the cache."""
    machines.join("first").add_texts(NOTES[:1])
    offline = machines.join("first", offline=True)
    offline.add_texts(NOTES[1:2])
    assert offline.search("tea", k=1, ranking="bm25").leakage.learned == ()
    with monkeypatch.context() as broken:

        def away(*_: object, **__: object) -> bool:
            raise ConnectionError

        broken.setattr(KeptBlobs, "replace", away)
        with pytest.raises(ConnectionError):
            machines.join("first").add_texts(NOTES[2:])
    assert _sources(machines.join("second")) == ["dose"]
    assert machines.join("first").sync() == 3
    assert _sources(machines.join("second")) == ["dose", "tea", "visit"]


def test_what_a_gateway_lost_is_put_back_from_a_cache(machines: Machines) -> None:
    """Restored from a backup, or deleted: whoever saw the newest goes on from there, and is told what to do until then."""
    first, second = machines.join("first"), machines.join("second")
    first.add_texts(NOTES[:2])
    first.add_texts(NOTES[2:])
    second.sync()
    for left in (2, 0):
        lost = {one for ref, its_shards in machines.kept.heads[left:] for one in (ref.digest, *its_shards)}
        del machines.kept.heads[left:]
        for one in lost:
            machines.kept.blobs.pop(one)
        with pytest.raises(CorpusError, match="`blindgate rag put-back` puts"):
            first.search("tea")
        generation = second.generation
        for more in (1, 2):
            assert machines.join("second", offline=True).put_back() == generation + more
        for corpus in (first, second, machines.join("third")):
            assert _sources(corpus) == ["dose", "tea", "visit"]
    other = Machines(machines._folder / "others", first.embedder)
    other.join("one").add_texts(NOTES)
    machines.kept.blobs |= other.kept.blobs
    machines.kept.heads += other.kept.heads
    with pytest.raises(CorpusError, match="another corpus lies there, which is not put an end to"):
        machines.join("first", offline=True).put_back()


def test_whoever_is_quicker_than_a_put_back_loses_nothing_by_it(machines: Machines) -> None:
    """And who puts back is not told that what it has is there."""
    first = machines.join("first")
    first.add_texts(NOTES[:2])
    machines.join("second")
    machines.kept.before_replacing.append(lambda: (first.add_texts(NOTES[2:]), None)[1])
    with pytest.raises(CorpusError, match="somebody else was quicker, see what lies there now"):
        machines.join("second", offline=True).put_back()
    assert _sources(machines.join("second")) == ["dose", "tea", "visit"]


def test_a_head_that_the_gateway_lost_is_put_back_by_who_knows_it(machines: Machines) -> None:
    """By its digest. One that this machine does not know may be another corpus's."""
    first, second = machines.join("first"), machines.join("second")
    first.add_texts(NOTES[:1])
    machines.kept.blobs.pop(machines.kept.heads[-1][0].digest)
    assert machines.join("first", offline=True).put_back() == 3
    assert _sources(second) == ["dose"]
    second.add_texts(NOTES[1:])
    machines.kept.blobs.pop(machines.kept.heads[-1][0].digest)
    with pytest.raises(CorpusError, match="names a head that this machine does not know, and has lost it"):
        machines.join("first", offline=True).put_back()


def test_a_shard_that_a_gateway_lost_is_put_again_with_the_next_change(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a machine that has it: what did not change goes up again, once it is said to be gone."""
    monkeypatch.setattr(shards.cut, "__kwdefaults__", {"most": 2000})
    first = machines.join("first")
    first.add_texts([Text(f"{number}", f"Report {number} of ward {number % 7}.") for number in range(12)])
    assert len(machines.kept.heads[-1][1]) > 2
    for one in machines.kept.heads[-1][1]:
        machines.kept.blobs.pop(one)
    first.add_texts([Text("13", "One more report.")])
    assert len(machines.join("second")) == 13


def test_more_shards_than_a_gateway_takes_are_refused_before_any_is_put(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would fill the quota, and no head could name them."""
    monkeypatch.setattr(shards.cut, "__kwdefaults__", {"most": 1})
    monkeypatch.setattr("blindgate_rag.sync.exchange.MOST_SHARDS", 2)
    first = machines.join("first")
    before = set(machines.kept.blobs)
    with pytest.raises(CorpusError, match="3 shards are more than the 2 that a gateway takes"):
        first.add_texts(NOTES)
    assert set(machines.kept.blobs) == before


def test_a_ranking_that_is_none_is_given_to_no_machine(machines: Machines) -> None:
    """It would lie at the gateway, and no search of anybody's would be answered any more."""
    with pytest.raises(InputError, match="ranking 'best': expected one of fused, blended, dense, bm25"):
        machines.join("first", ranking="best")
    assert not machines.kept.heads
    first = machines.join("first", ranking="bm25")
    assert (first.ranking, machines.join("second").ranking) == ("bm25", "bm25")


def test_a_corpus_that_is_not_there_is_told_of(machines: Machines) -> None:
    """Never made; of a machine that never saw it; deleted."""
    with pytest.raises(CorpusError, match="the gateway has no corpus 'notes': `blindgate rag add"):
        machines.join("first", create=False)
    with pytest.raises(CorpusError, match="nothing of the corpus 'notes' is on this machine yet"):
        machines.join("first", offline=True)
    corpus = machines.join("first")
    corpus.add_texts(NOTES)
    machines.kept.heads.clear()
    with pytest.raises(CorpusError, match="has no corpus 'notes' any more"):
        corpus.search("tea")
    assert machines.join("first", offline=True).search("tea", k=1)[0].source == "tea"

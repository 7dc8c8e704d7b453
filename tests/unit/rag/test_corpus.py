"""A corpus, as whoever uses it sees it: with MiniLM's real weights, and without a single socket."""

import errno
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_protocol.errors import BlindgateError, CorpusError, DocumentError, InputError
from blindgate_rag import records, searching, word_counts
from blindgate_rag.adding import Adding, Text
from blindgate_rag.corpus import Corpus
from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from blindgate_rag.loading import Loader
from blindgate_rag.records import Records
from blindgate_rag.searching import RANKINGS
from blindgate_rag.state import State
from blindgate_rag.words import words_of

NOTES = {
    "ward3/cough.txt": "The patient of bed 4 has had a cough for three weeks. Tea with honey was given.",
    "ward3/blood.md": "# Anticoagulants\n\nAspirin must not be combined with warfarin: both thin the blood.",
    "ward4/doses.csv": "name,dose\namoxicillin,500 mg\nI10 protocol,2.5mg\n",
    "ward4/visit.html": "<html><body><p>Visiting hours are from two to four.</p><script>secret()</script></body></html>",
}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    return Embedder.default()


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a socket fails."""

    def refuse(*_: object, **__: object) -> None:
        message = "a socket was asked for"
        raise AssertionError(message)

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the documents lie, and a corpus that has them, once there is one."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def notes(kept: Path) -> Path:
    """A folder with documents, the same for each test."""
    shutil.rmtree(kept / "notes", ignore_errors=True)
    for name, text in NOTES.items():
        path = kept / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return kept / "notes"


@pytest.fixture
def corpus(tmp_path: Path, notes: Path, embedder: Embedder, kept: Path) -> Iterator[Corpus]:
    """A corpus that has them."""
    folder, made_before = tmp_path / "notes.bgc", kept / "notes.bgc"
    if made_before.exists():
        shutil.copytree(made_before, folder)
    with Corpus.open(folder, "pass", embedder=embedder) as made:
        made.add(notes / "ward3", {"ward": "3B"})
        made.add(notes / "ward4", {"ward": "4A"})
        if not made_before.exists():
            shutil.copytree(folder, made_before)
        yield made


def again(corpus: Corpus) -> Corpus:
    """The same one, as another process opens it."""
    return Corpus.open(corpus.path, "pass", embedder=corpus.embedder)


def test_passages_are_found_by_meaning_and_by_words(corpus: Corpus) -> None:
    """Each with where it is from, and that nobody else could learn of it."""
    hits = corpus.search("what goes badly with blood thinners?", k=2)
    assert (hits[0].source, hits[0].metadata) == ("ward3/blood.md", {"ward": "3B"})
    assert "warfarin" in hits[0].text
    assert hits.leakage.learned == ()
    assert corpus.search("I10", k=1, ranking="bm25")[0].source == "ward4/doses.csv"
    assert corpus.search("2.5mg", k=1)[0].source == "ward4/doses.csv"
    found = corpus.passage(hits[0].passage)
    assert found is not None
    assert found.text == hits[0].text


def test_its_contents_are_the_same_where_vectors_lie_in_cells(corpus: Corpus) -> None:
    """As they do in a large corpus, in another order: to host it, each passage has its own vector beside it."""
    flat, dense = corpus.contents(), corpus._fresh().dense
    assert dense is not None
    dense._rebuild(cells=2)
    celled = corpus.contents()
    assert celled.passages == flat.passages
    assert (celled.vectors == flat.vectors).all()


def test_a_search_keeps_to_where_it_may_look(corpus: Corpus) -> None:
    """Inside of the search, so that k are found where there are k."""
    for ranking in RANKINGS:
        hits = corpus.search("aspirin cough dose visiting", k=8, where={"ward": "4A"}, ranking=ranking)
        assert {hit.source.split("/")[0] for hit in hits} == {"ward4"}
    assert len(corpus.search("aspirin", where={"ward": ["3B", "4A"]}, ranking="dense")) == len(corpus)
    assert list(corpus.search("aspirin", where={"ward": "9"})) == []
    for ask in (partial(corpus.search, "aspirin"), corpus.documents):
        with pytest.raises(InputError, match="where 'ward' is a dict"):
            ask(where={"ward": {}})  # type: ignore[dict-item]
        with pytest.raises(InputError, match="where 'ward' is nan: expected a finite number"):
            ask(where={"ward": math.nan})
        with pytest.raises(InputError, match="where is a function: expected names of metadata"):
            ask(where=lambda metadata: metadata["ward"] == "3B")  # type: ignore[arg-type]


def test_blended_scores_are_the_formulas_over_what_may_be_found(corpus: Corpus) -> None:
    """Each passage by both, measured by the best of those that are allowed; also where vectors lie in cells."""
    query, where = "aspirin cough dose visiting", {"ward": "4A"}
    cosines = {hit.passage: hit.score for hit in corpus.search(query, 100, where=where, ranking="dense")}
    words = {hit.passage: hit.score for hit in corpus.search(query, 100, where=where, ranking="bm25")}
    found = corpus.search(query, 100, where=where, ranking="blended")
    nearest, most = max(cosines.values()) + 1, max(words.values())
    expected = {one: 0.8 * (near + 1) / nearest + 0.2 * words.get(one, 0) / most for one, near in cosines.items()}
    assert {hit.passage: hit.score for hit in found} == pytest.approx(expected)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert corpus.search(query, 2, where=where, ranking="blended").found == found.found[:2]
    dense = corpus._fresh().dense
    assert dense is not None
    dense._rebuild(cells=2)
    assert [hit.passage for hit in corpus.search(query, 2, ranking="blended", where=where)] == [
        hit.passage for hit in found.found[:2]
    ]


def test_added_again_only_what_changed_is_read(corpus: Corpus, notes: Path) -> None:
    """And what is gone from the folder is removed where that is asked for."""
    (notes / "ward3/cough.txt").write_text("The cough is gone.")
    (notes / "ward3/new.txt").write_text("A new note.")
    (notes / "ward3/blood.md").unlink()
    done = corpus.add(notes / "ward3", {"ward": "3B"})
    assert (done.added, done.changed, done.unchanged, done.removed) == (("ward3/new.txt",), ("ward3/cough.txt",), 0, ())
    done = corpus.add(notes / "ward3", prune=True)
    assert (done.unchanged, done.removed) == (2, ("ward3/blood.md",))
    assert {one.source for one in corpus.documents({"ward": "3B"})} == {"ward3/cough.txt", "ward3/new.txt"}
    done = corpus.add(notes / "ward3", {"ward": "3C"})
    assert (len(done.changed), done.passages) == (2, 0)
    assert len(again(corpus).documents({"ward": "3C"})) == 2


def test_words_are_kept_with_the_corpus_and_counted_once(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens it counts none; of a note that is added, its own."""
    found = corpus.search("aspirin dose", ranking="bm25")
    counted: list[str] = []
    cut = words_of

    def remembered(text: str) -> list[str]:
        counted.append(text)
        return cut(text)

    monkeypatch.setattr(word_counts, "words_of", remembered)
    with again(corpus) as opened:
        assert opened.search("aspirin dose", ranking="bm25") == found
        assert counted == []
        opened.add_texts([Text("more", "Aspirin is a drug.")])
        assert {hit.source for hit in opened.search("drug", ranking="bm25")} == {"more"}
        assert counted == ["Aspirin is a drug."]


def test_a_corpus_of_a_release_that_kept_no_words_opens(corpus: Corpus) -> None:
    """And finds the same; what is written to it next has them."""
    found = [(hit.passage, hit.score) for hit in corpus.search("aspirin dose", ranking="bm25")]
    files = {name: data for name, data in corpus._fresh().files().items() if name != "words"}
    with corpus._vault.writing():
        corpus._vault.write(files)
    with again(corpus) as opened:
        assert [(hit.passage, hit.score) for hit in opened.search("aspirin dose", ranking="bm25")] == found
        opened.remove("ward4/visit.html")
        snapshot = opened._vault.read()
    assert snapshot is not None
    assert "words" in snapshot.files


def test_nothing_is_removed_of_a_folder_that_may_not_be_read(
    corpus: Corpus, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its files are gone, nobody can tell; it is told of, by the name that the corpus has for it."""
    listed = Path.iterdir

    def guarded(folder: Path) -> Iterator[Path]:
        if folder.name == "ward3":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    before = {one.source for one in corpus.documents()}
    monkeypatch.setattr(Path, "iterdir", guarded)
    done = corpus.add(notes, prune=True)
    assert done.removed == ()
    assert [error.source for error in done.failed] == [f"{notes.name}/ward3"]
    assert before <= {one.source for one in corpus.documents()}


def test_what_is_removed_is_found_no_more_and_is_in_no_file(corpus: Corpus) -> None:
    """Neither its text nor its vectors, in this process or the next."""
    assert corpus.remove("ward3/blood.md", "no such") == 1
    for one in (corpus, again(corpus)):
        assert "ward3/blood.md" not in {hit.source for hit in one.search("warfarin aspirin blood", k=8)}
        assert len(one.search("warfarin", ranking="bm25")) == 0
    state = corpus._fresh()
    assert not any(b"warfarin" in data for data in state.files().values())
    assert state.dense is not None
    assert len(state.dense) == len(corpus)


def test_many_are_removed_at_once(corpus: Corpus, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and where their files are gone: one by one, all other vectors would be moved each time."""
    removed = []
    remove = DenseIndex.remove

    def counted(index: DenseIndex, ids: NDArray[np.int64]) -> int:
        removed.append(len(ids))
        return remove(index, ids)

    monkeypatch.setattr(DenseIndex, "remove", counted)
    for path in (notes / "ward3").iterdir():
        path.unlink()
    assert len(corpus.add(notes / "ward3", prune=True).removed) == 2
    assert corpus.remove("ward4/doses.csv", "ward4/visit.html", "ward4/visit.html") == 2
    assert removed == [2, 2]
    assert len(again(corpus)) == 0


def test_a_file_that_cannot_be_read_is_told_of_and_the_rest_is_there(corpus: Corpus, notes: Path) -> None:
    """By its name, and with what is wrong."""
    (notes / "ward3/scan.pdf").write_bytes(b"%PDF-1.4\ngarbage")
    (notes / "ward3/latin.txt").write_bytes(b"caf\xe9")
    (notes / "ward3/photo.jpg").write_bytes(b"")
    (notes / "ward3/z.txt").write_text("The last one.")
    done = corpus.add(notes / "ward3")
    assert {error.source for error in done.failed} == {"ward3/scan.pdf", "ward3/latin.txt"}
    assert done.added == ("ward3/z.txt",)
    assert corpus.add(notes / "ward3/latin.txt", encoding="cp1252").added == ("latin.txt",)
    with pytest.raises(InputError, match="encoding: 'latin-99'"):
        corpus.add(notes, encoding="latin-99")
    assert [Path(name).name for name in done.skipped] == ["photo.jpg"]
    with pytest.raises(DocumentError, match="no format that is read here"):
        corpus.add(notes / "ward3/photo.jpg")
    with pytest.raises(CorpusError, match="no such file or folder"):
        corpus.add(notes / "none")


def test_a_file_that_is_empty_for_a_while_keeps_what_it_said_and_is_read_when_it_has_grown(
    corpus: Corpus, notes: Path
) -> None:
    """As one is that something writes anew; it is told of, and `prune` takes nothing out."""
    file, found = notes / "ward3/blood.md", corpus.search("warfarin", k=1)
    file.write_bytes(b"")
    (notes / "ward3/new.txt").write_bytes(b"")
    done = corpus.add(notes / "ward3", prune=True)
    assert [str(error).partition(". ")[0] for error in done.failed] == [
        "ward3/blood.md: the file is empty",
        "ward3/new.txt: the file is empty",
    ]
    assert "keeps what it has" in str(done.failed[0])
    assert done.removed == ()
    assert corpus.search("warfarin", k=1)[0].text == found[0].text
    file.write_text("Aspirin and warfarin: never.")
    (notes / "ward3/new.txt").write_text("A new note.")
    done = corpus.add(notes / "ward3")
    assert (done.failed, done.changed, done.added) == ((), ("ward3/blood.md",), ("ward3/new.txt",))


def test_what_was_added_is_told_by_the_name_by_which_it_is_removed(corpus: Corpus, notes: Path, tmp_path: Path) -> None:
    """Also where another folder has a file of that name, and a text is called as this one's path."""
    other, third = tmp_path / "other/ward3", tmp_path / "third/ward3"
    corpus.add_texts([Text(str(third / "cough.txt"), "A text.")])
    for number, folder in enumerate((other, third)):
        folder.mkdir(parents=True)
        (folder / "cough.txt").write_text(f"Another note, {number}.")
        (name,) = corpus.add(folder).added
        assert corpus.document(name) is not None
        assert name != "ward3/cough.txt"
        assert corpus.remove(name) == 1
    assert corpus.document("ward3/cough.txt") is not None
    assert corpus.remove(notes / "ward3/cough.txt", str((notes / "ward3/blood.md").resolve()), "\udce9") == 2


def test_what_may_not_be_said_of_documents_is_refused_before_they_are_read(
    corpus: Corpus, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of embedding are not lost by it. True is not 1: it is said anew."""
    (notes / "ward3/new.txt").write_text("A new note.")
    monkeypatch.setattr(Loader, "load", None)
    for metadata in ({"ward": None}, {"ward": "\udce9"}, ["ward"], {"n": 10**5000}):
        with pytest.raises(InputError, match="metadata"):
            corpus.add(notes / "ward3", metadata)  # type: ignore[arg-type]
    (notes / "ward3/new.txt").unlink()
    assert len(corpus.add(notes / "ward3", {"seen": True}).changed) == 2
    assert len(corpus.add(notes / "ward3", {"seen": 1}).changed) == 2
    assert len(corpus.documents({"seen": 1})) == 2
    assert corpus.documents({"seen": True}) == []


def test_a_word_is_found_however_it_was_typed(corpus: Corpus) -> None:
    """In a text that is in no file, and in a question, as in a file: soft hyphens and ligatures are a typesetter's."""
    corpus.add_texts([Text("page", "Anti\u00adcoagulation is in\ufb02uenced\x00 by\r\ncabbage.")])
    for question in ("anticoagulation", "anti\u00adcoagulation", "influenced", "in\ufb02uenced"):
        (hit,) = corpus.search(question, ranking="bm25")
        assert hit.text == "Anticoagulation is influenced by\ncabbage."


@pytest.mark.parametrize(
    "text",
    [
        Text("", "x"),
        Text("\udce9", "x"),
        Text("a", None),  # type: ignore[arg-type]
        Text("a", "x", None),  # type: ignore[arg-type]
        ("a", "x"),
        Text("a", "x", {"b": "\udce9"}),
    ],
)
def test_what_is_no_text_is_refused_by_name(corpus: Corpus, text: Text) -> None:
    """And nothing is added; of half a character in a text a question mark is left."""
    with pytest.raises(InputError):
        corpus.add_texts([Text("fine", "x"), text])
    assert corpus.document("fine") is None
    corpus.add_texts([Text("half", "caf\udce9 au lait")])
    assert corpus.search("lait", k=1, ranking="bm25")[0].text == "caf? au lait"


def test_a_path_that_is_no_text_is_an_error_that_shows_it(corpus: Corpus, tmp_path: Path) -> None:
    """So is an empty one, which would be wherever the program happens to be, and one that nobody can look at."""
    strange = tmp_path / os.fsdecode(b"caf\xe9") / "notes"
    strange.mkdir(parents=True)
    (strange / "a.txt").write_text("A note.")
    for path in (strange, strange / "a.txt"):
        with pytest.raises(CorpusError, match=r"caf\\udce9.* is not UTF-8: rename"):
            corpus.add(path)
    with pytest.raises(CorpusError, match="is empty"):
        corpus.add("")
    for unseen in ("x" * 300, "a\0b"):
        with pytest.raises(CorpusError):
            corpus.add(unseen)


def test_a_corpus_that_was_moved_is_not_an_empty_one(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it open is told, and finds it where it is again; a program may go to another folder meanwhile."""
    moved = corpus.path.rename(tmp_path / "moved.bgc")
    for use in (partial(corpus.search, "aspirin"), partial(len, corpus), partial(corpus.remove, "x")):
        with pytest.raises(CorpusError, match=r"not there any more|cannot be written"):
            use()
    assert not corpus.path.exists()
    moved.rename(corpus.path)
    monkeypatch.chdir(tmp_path)
    there = Corpus.open(corpus.path.name, "pass", embedder=corpus.embedder)
    monkeypatch.chdir(corpus.path)
    assert len(there) == len(corpus) > 0
    for path in (".", "../notes.bgc", "../notes.bgc/"):
        assert Corpus.open(path, "pass").name == "notes.bgc"


def test_a_document_is_given_whole_by_its_name(corpus: Corpus) -> None:
    """With all of its passages, in order."""
    text = " ".join(f"On day {day} the patient slept well." for day in range(100))
    corpus.add_texts([Text("diary", text, {"ward": "5"})])
    found = corpus.document("diary")
    assert found is not None
    document, passages = found
    assert (document.source, document.metadata) == ("diary", {"ward": "5"})
    assert [one.position for one in passages] == list(range(len(passages)))
    assert len(passages) > 1
    assert " ".join(one.text for one in passages) == text
    assert corpus.document("nowhere") is None


def test_a_text_is_not_called_as_a_file_is(corpus: Corpus) -> None:
    """By that name one of the two could not be removed."""
    with pytest.raises(
        InputError, match=r"ward3/blood\.md is what a file's document is called: name the text otherwise"
    ):
        corpus.add_texts([Text("ward3/blood.md", "Tea thins no blood.")])
    assert "Tea" not in corpus.search("blood", k=1)[0].text
    assert corpus.add_texts([Text("tea", "Tea thins no blood.")]).added == ("tea",)
    assert corpus.add_texts([Text("tea", "Tea is warm.")]).changed == ("tea",)


def test_passages_that_say_the_same_are_given_once(corpus: Corpus) -> None:
    """Copies of a note do not push other notes out of what is sent."""
    corpus.add_texts(Text(f"copy {number}", "Aspirin must not  be combined with WARFARIN.") for number in range(5))
    hits = corpus.search("aspirin and warfarin", k=4)
    assert len({hit.text.casefold() for hit in hits}) == len(hits)
    assert sum(hit.source.startswith("copy") for hit in hits) == 1


def test_copies_of_one_note_leave_room_for_what_else_there_is(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many stand in front of it: as many as were asked for are given where there are so many."""
    monkeypatch.setattr(searching, "_DEPTH", 4)
    corpus.add_texts(Text(f"copy {number}", "Aspirin and warfarin, aspirin and warfarin.") for number in range(9))
    for ranking in RANKINGS:
        found = corpus.search("aspirin and warfarin", k=2, ranking=ranking)
        assert [hit.source.split()[0] for hit in found] == ["copy", "ward3/blood.md"], ranking
    assert len(corpus.search("aspirin and warfarin", k=50, ranking="dense")) == 5


def test_a_search_reads_what_it_finds_and_not_every_document(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a corpus of many notes that would take longer than finding them; of what many say alike one is looked at."""
    corpus.add_texts(Text(f"note {number}", f"Note {number}.", {"ward": "5"}) for number in range(20))
    monkeypatch.setattr(Records, "documents", None)
    assert corpus.search("warfarin", k=1, ranking="bm25")[0].metadata == {"ward": "3B"}
    looked = 0
    is_so = records.is_so

    def counted(*given: Any) -> bool:
        nonlocal looked
        looked += 1
        return is_so(*given)

    monkeypatch.setattr(records, "is_so", counted)
    assert len(corpus.search("note", k=50, ranking="bm25", where={"ward": "5"})) == 20
    assert looked == 3


def test_no_more_text_than_asked_for_is_given(corpus: Corpus) -> None:
    """In the embedding model's tokens, best first; what a smaller budget gave, a larger one gives too."""
    every = corpus.search("aspirin cough dose visiting", k=8)
    some = corpus.search("aspirin cough dose visiting", k=8, tokens=every[0].tokens + every[1].tokens)
    assert [hit.passage for hit in some] == [hit.passage for hit in every[:2]]
    assert list(corpus.search("aspirin", tokens=1)) == []


def test_a_corpus_stays_with_its_embedder_and_its_ranking(corpus: Corpus, tmp_path: Path) -> None:
    """Vectors of two models do not compare."""
    Corpus.open(corpus.path, "pass", embedder=corpus.embedder, ranking="bm25").close()
    assert again(corpus).ranking == "bm25"
    other = Embedder(corpus.embedder._model, name="other", digest="sha256:" + "0" * 64, device="cpu")
    with pytest.raises(CorpusError, match=r"was embedded by .*open it with that one"):
        len(Corpus.open(corpus.path, "pass", embedder=other))


@pytest.mark.parametrize(
    "ask",
    [
        {"query": " "},
        {"query": "of no UTF-8: \udce9"},
        {"query": None},
        {"query": "x", "k": 0},
        {"query": "x", "k": 1001},
        {"query": "x", "k": "8"},
        {"query": "x", "ranking": "best"},
        {"query": "x", "where": {"ward": "\udce9"}},
        {"query": "x", "tokens": 0},
        {"query": "x", "tokens": math.nan},
        {"query": "x", "tokens": "100"},
    ],
)
def test_what_cannot_be_asked_is_refused(corpus: Corpus, ask: dict[str, object]) -> None:
    """By name."""
    with pytest.raises(InputError, match=r"the question is|k is|ranking|where|tokens is"):
        corpus.search(**ask)  # type: ignore[arg-type]


REFUSED: list[tuple[Callable[[Any], object], str]] = [
    (lambda corpus: corpus.open(7), "the path of the corpus is a int: expected a path"),
    (lambda corpus: corpus.open(""), "the path of the corpus is empty"),
    (lambda corpus: corpus.open("a\0b"), r"the path of the corpus is 'a.x00b', which no file"),
    (lambda corpus: corpus.open("a\ud800"), r"the path of the corpus is 'a.ud800', which no file"),
    (lambda corpus: corpus.open(corpus.path.with_name("made.bgc"), key=7), "key is a int: expected 32 bytes"),
    (
        lambda corpus: corpus.open(corpus.path.with_name("made.bgc"), "p", embedder="minilm"),
        "embedder is a str: expected an Embedder",
    ),
    (lambda corpus: corpus.add(None), "the path of what to add is a NoneType"),
    (lambda corpus: corpus.add(corpus.path, encoding=8), "encoding: 8 is none that is known"),
    (lambda corpus: corpus.add_texts(7), "texts is a int"),
    (lambda corpus: corpus.remove(7), "a source is a int"),
    (lambda corpus: corpus.document(10**30), "a source is a int"),
    (lambda corpus: corpus.passage("1"), "number is a str: expected the id of a passage"),
    (lambda corpus: corpus.embedder.open(None), "the folder of the embedding model is a NoneType"),
    (lambda corpus: corpus.embedder.open("x" * 5_000), "xxx: cannot be read"),
    (lambda corpus: corpus.embedder.embed("one text"), "texts is a str: expected a list"),
    (lambda corpus: corpus.embedder.embed(["fine", None]), "text 1: is None, which is no text"),
    (lambda corpus: corpus.embedder.embed_questions(["\ud800"]), r"text 0: is '.ud800', which is no text"),
    (lambda corpus: corpus.embedder.tokens(7), "text 0: is 7, which is no text"),
]


def test_what_is_given_and_is_none_is_refused_by_what_it_should_be(corpus: Corpus) -> None:
    """By name."""
    for call, says in REFUSED:
        with pytest.raises(BlindgateError, match=says):
            call(corpus)


def test_there_is_no_passage_of_a_number_that_none_can_have(corpus: Corpus) -> None:
    """As of one that is gone."""
    assert [corpus.passage(number) for number in (0, -1, 10**30)] == [None] * 3


def test_texts_of_a_query_that_is_too_long_are_found_by_how_they_begin(corpus: Corpus) -> None:
    """A question may be longer than the model reads."""
    assert corpus.search("warfarin and aspirin " * 500, k=1)[0].source == "ward3/blood.md"


_SEARCHING = """
import sys
from blindgate_rag import corpus_keys
from blindgate_cli import main
corpus_keys._SCRYPT_N = 2  # as tests have it
try:
    main()
finally:
    print([name for name in ("torch", "transformers", "sentence_transformers", "blindgate.client") if name in sys.modules])
"""


def test_a_search_by_words_waits_for_no_model_and_for_no_client(corpus: Corpus) -> None:
    """Torch and what comes with it take seconds to import; a corpus that is ranked by words wants none of it."""
    Corpus.open(corpus.path, "pass", ranking="bm25").close()
    asked = [sys.executable, "-c", _SEARCHING, "rag", "search", str(corpus.path), "warfarin", "--passphrase", "pass"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "ward3/blood.md" in done.stdout
    assert done.stdout.strip().endswith("[]")


_REMOVING = """
import sys
from blindgate_rag import corpus_keys
from blindgate_rag.corpus import Corpus
from blindgate_rag.words import words_of
corpus_keys._SCRYPT_N = 2  # as tests have it
with Corpus.open(sys.argv[1], "pass") as corpus:
    for number in range(PAIRS):
        corpus.remove(f"left {number}", f"right {number}")
"""
_PAIRS = 60


def _pairs(corpus: Corpus) -> tuple[set[str], set[str]]:
    """The numbers of the documents that are there, of either side."""
    sources = [one.source for one in corpus.documents({"pair": True})]
    left, right = ({source.split()[1] for source in sources if source.startswith(side)} for side in ("left", "right"))
    return left, right


def test_others_search_while_one_writes_and_is_killed(corpus: Corpus) -> None:
    """What they see is of one moment, and a killed writer leaves the old or the new."""
    corpus.add_texts(
        Text(f"{side} {number}", f"{side} note, number {number}", {"pair": True})
        for number in range(_PAIRS)
        for side in ("left", "right")
    )
    writer = subprocess.Popen([sys.executable, "-c", _REMOVING.replace("PAIRS", str(_PAIRS)), str(corpus.path)])
    seen: set[int] = set()
    reader = again(corpus)
    while len(seen) < 4:
        assert writer.poll() is None
        left, right = _pairs(reader)
        assert left == right
        assert reader.search("note", k=1, ranking="bm25")
        seen.add(len(left))
    writer.kill()
    writer.wait()
    after = again(corpus)
    left, right = _pairs(after)
    assert left == right
    assert 0 < len(left) < _PAIRS
    assert after.add_texts([Text("c", "the next one")]).added == ("c",)


@pytest.mark.parametrize(("seconds", "writes"), [(0.1, 20), (10, 3)], ids=["a small corpus", "a large one"])
def test_a_large_corpus_is_not_written_all_the_time(
    monkeypatch: pytest.MonkeyPatch, embedder: Embedder, seconds: float, writes: int
) -> None:
    """Every half minute while that costs little; where each time takes long, a twentieth of the time is the most."""
    now, written = 0.0, 0

    def work() -> Iterator[Text]:
        nonlocal now
        for number in range(21):
            now += 31
            yield Text("a", f"text {number}")  # takes the place of the one before, which is embedded first

    def write() -> None:
        nonlocal now, written
        now, written = now + seconds, written + 1

    monkeypatch.setattr("blindgate_rag.adding.time", SimpleNamespace(monotonic=lambda: now))
    made = Adding(State(0, Records(), None), lambda: embedder, write, lambda _what, _done, _total: None)
    made.texts(work())
    assert written == writes

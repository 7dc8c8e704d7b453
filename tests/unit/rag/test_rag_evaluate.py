"""`blindgate rag evaluate`, as it is typed: with MiniLM's real weights, both sides of an encrypted index, and not one socket."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blindgate_cli
from blindgate.retrieval_evaluation import EncryptedRanker, evaluate_folder
from blindgate_protocol.errors import InputError
from blindgate_rag.chunking import Chunker
from blindgate_rag.embedding import Embedder
from blindgate_rag.passages import Document, Page
from blindgate_rag.rankers import LocalRankers
from plaintext_models import minilm

DOCUMENTS = {
    "blood": "Aspirin must not be combined with warfarin: both thin the blood.",
    "cough": "Honey and warm tea soothe a cough.",
    "again": "Aspirin must not be combined with warfarin: both thin the blood.",
    "visits": "Visitors may come from two to four in the afternoon.",
    "long": "The kitchen closes at eight. " * 80 + "Insulin is kept in the refrigerator of ward three.",
}
QUESTIONS = {
    "q1": ("which drugs thin the blood together with aspirin?", "blood"),
    "q2": ("when may visitors come?", "visits"),
    "q3": ("where is insulin kept?", "long"),
}


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a socket or a name fails."""

    def refuse(*_: object, **__: object) -> None:
        message = "a socket was asked for"
        raise AssertionError(message)

    for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection in BEIR's layout: two documents say the same, one is longer than the embedder reads."""
    made = tmp_path / "ward"
    (made / "qrels").mkdir(parents=True)
    entries = [{"_id": one, "text": text} for one, text in DOCUMENTS.items()]
    (made / "corpus.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    questions = [{"_id": one, "text": text} for one, (text, _) in QUESTIONS.items()]
    (made / "queries.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in questions))
    judged = "".join(f"{one}\t{document}\t1\n" for one, (_, document) in QUESTIONS.items())
    (made / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return made


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    minilm()
    return Embedder.default()


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit status of `blindgate rag evaluate …`."""
    monkeypatch.setattr(sys, "argv", ["blindgate", "rag", "evaluate", *(str(word) for word in words)])
    with pytest.raises(SystemExit) as ended:
        blindgate_cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_ranker_is_measured_and_an_encrypted_one_costs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], embedder: Embedder
) -> None:
    """One JSON object for scripts, a plot beside it; whoever wants to compare vectors reads the embedder's digest."""
    plot = folder.parent / "ward.svg"
    assert typed(monkeypatch, folder, "--json", "--plot", plot) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["collection"], told["documents"], told["questions"]) == ("ward", 5, 3)
    assert told["passages"] > 5
    assert (told["embedder"]["name"], told["embedder"]["digest"]) == (embedder.name, embedder.digest)
    rankers = {one.pop("ranker"): one for one in told["rankers"]}
    assert list(rankers) == ["bm25", "dense", "int8", "fused", "blended", "encrypted", "encrypted-public"]
    for one in rankers.values():
        assert one["recall_at_10"] == one["recall_at_100"] == 1
        assert 0.5 <= one["mrr_at_10"] <= one["ndcg_at_10"] <= 1
        assert one["milliseconds"] > 0
    measures = ("ndcg_at_10", "recall_at_10", "recall_at_100", "mrr_at_10")
    for name in ("encrypted", "encrypted-public"):
        assert [rankers[name][measure] for measure in measures] == [rankers["int8"][measure] for measure in measures]
        assert rankers[name]["node_seconds"] > 0
    hidden, public = rankers["encrypted"], rankers["encrypted-public"]
    assert hidden["bytes_up"] > public["bytes_up"] > 5000
    assert hidden["bytes_down"] > public["bytes_down"] > 5000
    assert rankers["dense"]["bytes_up"] is None
    assert plot.read_text().count("encrypted-public")


def test_people_read_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a ranker, of those that were asked for; what nothing encrypted has is no column. What no ranker can find is told."""
    with (folder / "qrels" / "test.tsv").open("a") as judged:
        judged.write("q1\tgone\t1\n")
    assert typed(monkeypatch, folder, "--rankers", "bm25,encrypted,int8", "--no-encrypted") == 0
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines()]
    assert lines[0] == ["ranker", "nDCG@10", "recall@10", "recall@100", "MRR@10", "ms"]
    assert [line[0] for line in lines[1:]] == ["bm25", "int8"]
    assert "ward: 5 documents" in told.err
    assert "relevant documents that are not in corpus.jsonl, so that no ranker finds them: 1" in told.err


@pytest.mark.parametrize(("name", "begins"), [("ward.svg", b"<?xml"), ("ward.PNG", b"\x89PNG"), ("ward.pdf", b"%PDF")])
def test_a_plot_is_what_its_name_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, begins: bytes
) -> None:
    """In either case of letters."""
    assert typed(monkeypatch, folder, "--rankers", "bm25", "--plot", tmp_path / name) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_plot_of_another_kind_is_refused_before_long_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the names that would do."""
    for name in ("plot.bmp", "plot"):
        assert typed(monkeypatch, folder, "--plot", tmp_path / name) == 2
        assert f"{name} should end in one of .svg, .png, .pdf" in " ".join(
            capsys.readouterr().err.replace("│", "").split()
        )
        assert not (tmp_path / name).exists()


def test_documents_that_say_the_same_stand_in_the_same_order(embedder: Embedder) -> None:
    """Scores are equal, so that the order is the documents'; in several indexes as in one; and each question has one length."""
    chunker = Chunker(embedder.tokens, embedder.limit)

    def split(text: str) -> list[str]:
        return [one.text for one in chunker.passages(Document("", "", "txt", (Page(text),)))]

    local = LocalRankers(DOCUMENTS, embedder, split)
    one, several = EncryptedRanker(local, "model_private"), EncryptedRanker(local, "model_public", most=2)
    for text, first in QUESTIONS.values():
        expected = local.int8(text)
        assert expected[0] == first
        assert one(text) == several(text) == expected
    assert local.int8(QUESTIONS["q1"][0])[:2] == ["blood", "again"]
    assert len({cost[:2] for cost in one._costs}) == 1


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{', "corpus.jsonl, line 2: not JSON"),
        ("queries.jsonl", '{"_id": "q1"}', "queries.jsonl, line 1: text"),
        ("qrels/test.tsv", "h\nq1 a\n", "qrels/test.tsv, line 2: 2 columns"),
    ],
)
def test_a_malformed_collection_is_refused_with_file_and_line(  # noqa: PLR0917  (fixtures, and a row)
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str, text: str, says: str
) -> None:
    """One line, exit status 1, and no traceback."""
    (folder / file).write_text(text)
    assert typed(monkeypatch, folder, "--json") == 1
    told = capsys.readouterr()
    assert says in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_a_split_that_is_not_there_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was expected."""
    assert typed(monkeypatch, folder, "--split", "dev") == 1
    assert "qrels/dev.tsv: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--rankers", "bm25,best"], "best"), (["--rankers", "encrypted", "--no-encrypted"], "none")],
)
def test_a_mistyped_command_says_which_rankers_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """Exit status 2, and nothing is computed."""
    assert typed(monkeypatch, folder, *words) == 2
    assert says in capsys.readouterr().err


def test_without_matplotlib_the_plot_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to install; the collection is not even read."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (folder / "corpus.jsonl").unlink()
    assert typed(monkeypatch, folder, "--plot", folder / "ward.svg") == 1
    assert "pip install matplotlib" in capsys.readouterr().err


def test_in_python_an_unknown_ranker_is_named(folder: Path) -> None:
    """Before anything is read."""
    with pytest.raises(InputError, match="'best' is none of bm25"):
        evaluate_folder(folder / "none", ["best"])
    with pytest.raises(InputError, match="at least one of"):
        evaluate_folder(folder / "none", [])


def test_progress_is_told_of_every_long_step(folder: Path, embedder: Embedder) -> None:
    """Embedding, and each ranker's questions; each ends with all of its whole."""
    told: dict[str, tuple[int, int]] = {}
    found = evaluate_folder(
        folder,
        ["int8", "encrypted-public"],
        embedder=embedder,
        progress=lambda what, done, total: told.update({what: (done, total)}),
    )
    assert list(told) == ["cutting documents", "embedding passages", "embedding questions", "int8", "encrypted-public"]
    assert all(done == total for done, total in told.values())
    assert np.isfinite(found.question_milliseconds)

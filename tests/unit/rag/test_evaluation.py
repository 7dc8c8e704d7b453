"""Collections in BEIR's layout, and measures that are trec_eval's."""

import gzip
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from blindgate_models.search.spec import quantised_entries, quantised_queries
from blindgate_protocol.errors import BackendError, InputError
from blindgate_rag import int8
from blindgate_rag.beir import read_collection
from blindgate_rag.evaluation import evaluate, ndcg, recall, reciprocal_rank, score_of

CORPUS = '{"_id": "a", "title": "Asthma", "text": "Salbutamol."}\n\n{"_id": 2, "text": "Flu"}\n'
QUERIES = '{"_id": "q1", "text": "asthma"}\n{"_id": "q2", "text": "flu"}\n{"_id": "q3", "text": "nothing"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\t2\t0\nq2\t2\t1\nq3\ta\t0\n"


def written(folder: Path, *, corpus: str = CORPUS, queries: str = QUERIES, qrels: str = QRELS) -> Path:
    """A small collection, with what is given in place of its own."""
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_bytes(corpus.encode("utf-8", "surrogateescape"))
    (folder / "queries.jsonl").write_text(queries)
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


def test_a_collection_is_read_as_beir_reads_it(tmp_path: Path) -> None:
    """The title stands in front of the text; every question that was judged is asked; empty lines do not count."""
    collection = read_collection(written(tmp_path, queries=QUERIES + '{"_id": "of another split", "text": ""}\n'))
    assert collection.documents == {"a": "Asthma Salbutamol.", "2": "Flu"}
    assert collection.questions == {"q1": "asthma", "q2": "flu", "q3": "nothing"}
    assert collection.judgements == {"q1": {"a": 2, "2": 0}, "q2": {"2": 1}, "q3": {"a": 0}}
    assert (collection.unanswerable, collection.not_in_corpus) == (1, 0)


@pytest.mark.parametrize(
    "qrels",
    [
        QRELS.partition("\n")[2],
        "q1\t0\ta\t2\nq1\t0\t2\t0\nq2\t0\t2\t1\nq3\t0\ta\t0",
        "q1 0 a 2\nq1 0 2 0\nq2 0 2 1\nq3 0 a 0\n",
        QRELS.replace("\n", ".0 \n"),
        "\n" + QRELS.replace("q1\t", " q1 \t"),
    ],
    ids=["without a header", "TREC's columns", "TREC's blanks", "grades of a spreadsheet", "blanks and an empty line"],
)
def test_judgements_as_they_go_around_are_read(tmp_path: Path, qrels: str) -> None:
    """None is lost in place of a header, and none is read as another."""
    expected = {"q1": {"a": 2, "2": 0}, "q2": {"2": 1}, "q3": {"a": 0}}
    assert read_collection(written(tmp_path, qrels=qrels)).judgements == expected


def test_an_id_with_blanks_is_the_one_that_stands_there(tmp_path: Path) -> None:
    """Inside of it, and at its ends."""
    corpus = '{"_id": "a b", "text": "x"}\n{"_id": " a b ", "text": "y"}\n'
    read = read_collection(written(tmp_path, corpus=corpus, qrels="q1\ta b\t1\nq1\t a b \t2\n"))
    assert read.judgements == {"q1": {"a b": 1, " a b ": 2}}


def test_half_a_character_is_no_crash(tmp_path: Path) -> None:
    """JSON can name one, and texts that were cut in the middle of a smiley do."""
    read = read_collection(written(tmp_path, corpus='{"_id": "a", "text": "cut \\ud83d"}\n{"_id": "2", "text": ""}'))
    assert read.documents == {"a": "cut ?", "2": ""}


def test_windows_files_are_read_too(tmp_path: Path) -> None:
    """A byte order mark, and lines that end with a carriage return."""
    folder = written(tmp_path, corpus="\ufeff" + CORPUS, qrels=QRELS.replace("\n", "\r\n"))
    assert read_collection(folder).judgements["q1"] == {"a": 2, "2": 0}


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("corpus", CORPUS + "{", "corpus.jsonl, line 4: not JSON"),
        ("corpus", "[" * 100_000, "corpus.jsonl, line 1: not JSON"),
        ("corpus", CORPUS + "[]", "corpus.jsonl, line 4: expected an object"),
        ("corpus", CORPUS + '{"_id": "a", "text": ""}', "corpus.jsonl, line 4: _id: 'a' was there before"),
        ("corpus", '{"_id": "a"}', "corpus.jsonl, line 1: text: got NoneType"),
        ("corpus", '{"_id": "a", "title": 3, "text": ""}', "corpus.jsonl, line 1: title: got int"),
        ("corpus", '{"_id": null, "text": ""}', "corpus.jsonl, line 1: _id: got NoneType"),
        ("corpus", "\n\udcff", "corpus.jsonl, line 2: expected UTF-8"),
        ("corpus", "", "0 documents"),
        ("queries", '{"_id": "q1"}', "queries.jsonl, line 1: text"),
        ("qrels", "h\nq1\n", "qrels/test.tsv, line 2: 1 columns"),
        ("qrels", "h\nq1\ta\t1\t1\t1\n", "qrels/test.tsv, line 2: 5 columns"),
        ("qrels", "h\nq9\ta\t1\n", "qrels/test.tsv, line 2: query-id 'q9'"),
        ("qrels", "h\nq1\ta\tyes\n", "qrels/test.tsv, line 2: score"),
        ("qrels", "h\nq1\ta\t0.5\n", "qrels/test.tsv, line 2: score"),
        ("qrels", "h\nq1\ta\t1_0\n", "qrels/test.tsv, line 2: score"),
        ("qrels", "q1\ta\thigh\nq1\t2\t1\n", "qrels/test.tsv, line 1: score"),
        ("qrels", "q1\ta\t1.5\nq1\t2\t1\n", "qrels/test.tsv, line 1: score"),
        ("qrels", "q9\ta\t1e3\nq1\t2\t1\n", "qrels/test.tsv, line 1: query-id 'q9'"),
        ("qrels", "h\nq1\tA\t1\n", "none of the 1 relevant documents is in corpus.jsonl"),
        ("qrels", "h\nq1\ta\t0\n", "0 questions with a relevant one"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, file: str, text: str, says: str) -> None:
    """And the rule."""
    with pytest.raises(InputError) as refused:
        read_collection(written(tmp_path, **{file: text}))
    assert says in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With what is there in its place."""
    with pytest.raises(InputError, match="no such folder"):
        read_collection(tmp_path / "none")
    written(tmp_path)
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "dev.tsv")
    with pytest.raises(InputError, match=r"qrels/test\.tsv: cannot be read .*/qrels has dev\.tsv$"):
        read_collection(tmp_path)
    (tmp_path / "corpus.jsonl").rename(tmp_path / "corpus.zip")
    with pytest.raises(InputError, match=r"has corpus\.zip, qrels, queries\.jsonl$"):
        read_collection(tmp_path, split="dev")
    os.mkfifo(tmp_path / "corpus.jsonl")
    with pytest.raises(InputError, match=r"corpus\.jsonl: is a pipe"):
        read_collection(tmp_path, split="dev")


def test_a_collection_is_read_as_its_hosts_pack_it(tmp_path: Path) -> None:
    """By gzip, each file or some; one that was not fetched whole is named."""
    for name in ("corpus.jsonl", "qrels/test.tsv"):
        plain = written(tmp_path) / name if name == "corpus.jsonl" else tmp_path / name
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert read_collection(tmp_path).judgements["q1"] == {"a": 2, "2": 0}
    for cut in (
        gzip.compress(CORPUS.encode())[:-9],
        CORPUS.encode(),
        gzip.compress(CORPUS.encode())[:12] + b"\xff" * 9,
    ):
        (tmp_path / "corpus.jsonl.gz").write_bytes(cut)
        with pytest.raises(InputError, match=r"corpus\.jsonl\.gz: is damaged, or was not fetched whole"):
            read_collection(tmp_path)


def test_the_measures_are_trec_evals() -> None:
    """By hand: grades are gains, places are discounted by log2, the best order there is makes 1."""
    grades = {"a": 3, "b": 1, "c": 0, "d": 2, "e": -1}
    best = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["c", "a", "x", "b", "e"], grades, 10) == pytest.approx((3 / math.log2(3) + 1 / math.log2(5)) / best)
    assert ndcg(["a", "d", "b"], grades, 10) == pytest.approx(1)
    assert ndcg(["x"] * 10 + ["a"], grades, 10) == 0
    assert ndcg(["a"], {"a": 1} | {str(one): 1 for one in range(30)}, 1) == 1
    assert recall(["a", "c", "b"], grades, 2) == pytest.approx(1 / 3)
    assert reciprocal_rank(["c", "e", "b"], grades, 10) == pytest.approx(1 / 3)
    assert reciprocal_rank(["c", "e", "b"], grades, 2) == 0


def test_rankers_are_compared_side_by_side(tmp_path: Path) -> None:
    """Each is asked one question after the other, and its median question is timed."""
    collection = read_collection(written(tmp_path))
    told: list[tuple[str, int, int]] = []
    right = {"asthma": ["a"], "flu": ["2"], "nothing": []}
    evaluation = evaluate(
        collection, {"right": right.__getitem__, "silent": lambda _: []}, progress=lambda *now: told.append(now)
    )
    assert told == [(name, done, 3) for name in ("right", "silent") for done in (1, 2, 3)]
    kept = json.loads(json.dumps(evaluation.to_dict()))
    assert [(one["ranker"], one["ndcg_at_10"], one["mrr_at_10"]) for one in kept["rankers"]] == [
        ("right", pytest.approx(2 / 3), pytest.approx(2 / 3)),
        ("silent", 0, 0),
    ]
    assert (kept["documents"], kept["questions"], kept["unanswerable"], kept["not_in_corpus"]) == (2, 3, 1, 0)
    assert all(0 <= one["milliseconds"] < 1000 for one in kept["rankers"])


def test_a_question_that_is_a_document_does_not_find_itself(tmp_path: Path) -> None:
    """As in ArguAna, and as BEIR counts; where ids are mere numbers in both files, what was judged still counts."""
    documents = [str(one) for one in range(110)]
    corpus = "".join(json.dumps({"_id": one, "text": one}) + "\n" for one in documents)
    queries = '{"_id": 0, "text": "a"}\n{"_id": 1, "text": "b"}\n'
    collection = read_collection(written(tmp_path, corpus=corpus, queries=queries, qrels="0\t100\t1\n1\t1\t1\n"))
    (score,) = evaluate(collection, {"in order": lambda text: documents if text == "a" else ["1"]}).scores
    assert (score.ndcg_at_10, score.recall_at_100) == (0.5, 1), "the hundredth, once 0 is left out; and the first"


def test_a_ranker_that_cheats_is_refused() -> None:
    """A document that is named twice would count twice; a question that is left out would not count."""
    with pytest.raises(InputError, match="twice"):
        score_of("r", [["a", "a"]], [{"a": 1}])
    with pytest.raises(InputError, match="0 rankings for 1 questions"):
        score_of("r", [], [{"a": 1}])


def test_without_matplotlib_a_plot_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table needs nothing."""
    evaluation = evaluate(read_collection(written(tmp_path)), {"right": lambda _: ["a"]})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendError, match="pip install matplotlib"):
        evaluation.plot()


def test_eight_bits_are_those_of_encrypted_search() -> None:
    """The `int8` ranker computes what a node computes under encryption."""
    vectors = np.random.default_rng(2).normal(size=(20, 16)).astype(np.float32)
    wide = vectors.astype(np.float64)
    np.testing.assert_array_equal(int8.quantised_entries(vectors), quantised_entries(wide)[0])
    np.testing.assert_array_equal(int8.quantised_queries(vectors), quantised_queries(wide)[0])

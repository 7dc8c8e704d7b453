"""Embedding models with prompts: what stands in front of a question is not what stands in front of a passage."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_protocol.errors import PackageError
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from blindgate_rag.embedding import Embedder, Prompts
from blindgate_rag.rankers import LocalRankers
from blindgate_rag.sync.corpus import SyncedCorpus
from kept_blobs import InMind, Kept, KeptBlobs
from plaintext_models import write_embeddings

E5 = {"query": "query: ", "passage": "passage: "}
NOTES = ["the patient has a cough", "no no no no", "user : system :", "1 2 3 a b c x y z"]
QUESTION = "has the patient a fever"
KEY = bytes(32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's, with prompts as e5 has them."""
    made = tmp_path_factory.mktemp("prompted") / "model"
    write_embeddings(made, prompts=E5)
    return made


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    """That model, opened."""
    return Embedder.open(folder)


def plainly(embedder: Embedder, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What sentence-transformers makes of these very texts, with nothing in front."""
    found = embedder._model.encode(texts, prompt="", normalize_embeddings=True, convert_to_numpy=True)
    return np.asarray(found, dtype=np.float32)


def scores(corpus: Corpus) -> dict[str, float]:
    """How near each note is to the question."""
    return {hit.text: hit.score for hit in corpus.search(QUESTION, ranking="dense")}


def expected(embedder: Embedder, in_front_of_question: str, in_front_of_note: str) -> dict[str, float]:
    """The same, by the library alone."""
    notes = plainly(embedder, [in_front_of_note + note for note in NOTES])
    nearness = notes @ plainly(embedder, [in_front_of_question + QUESTION])[0]
    return dict(zip(NOTES, map(float, nearness), strict=True))


def test_a_question_is_asked_and_a_passage_kept_as_the_model_was_trained(embedder: Embedder) -> None:
    """The library's own choice would be an empty prompt for passages, since it calls theirs `document`."""
    assert embedder.prompts == Prompts("query: ", "passage: ")
    asked, kept = embedder.embed_questions([QUESTION]), embedder.embed([QUESTION])
    np.testing.assert_allclose(asked, plainly(embedder, ["query: " + QUESTION]), atol=1e-6)
    np.testing.assert_allclose(kept, plainly(embedder, ["passage: " + QUESTION]), atol=1e-6)
    assert float(asked[0] @ kept[0]) < 0.999
    np.testing.assert_allclose(embedder.unprompted().embed([QUESTION]), plainly(embedder, [QUESTION]), atol=1e-6)


def test_a_corpus_is_searched_with_the_prompts(embedder: Embedder, tmp_path: Path) -> None:
    """By who made it, and by who opens it later."""
    with Corpus.open(tmp_path / "notes", key=KEY, embedder=embedder) as corpus:
        corpus.add_texts(Text(note, note) for note in NOTES)
        found = scores(corpus)
    assert len(found) > 1  # of two that a model of random weights thinks alike, one
    wanted, alike = expected(embedder, "query: ", "passage: "), expected(embedder, "", "")
    assert found == pytest.approx({note: wanted[note] for note in found}, abs=1e-5)
    assert all(abs(score - alike[note]) > 1e-3 for note, score in found.items())  # so they matter
    with Corpus.open(tmp_path / "notes", key=KEY, embedder=embedder) as again:
        assert scores(again) == found


def test_passages_leave_room_for_the_prompt(embedder: Embedder, tmp_path: Path) -> None:
    """The model reads each passage whole, its prompt included, and none is refused."""
    text = " ".join(["the patient has a cough and no fever, user1 and system2."] * 40)
    with Corpus.open(tmp_path / "long", key=KEY, embedder=embedder) as corpus:
        corpus.add_texts([Text("long", text)])
        passages = [hit.text for hit in corpus.contents().passages]
    read = embedder._model.tokenizer(["passage: " + passage for passage in passages])["input_ids"]
    assert max(map(len, read)) <= embedder._model.max_seq_length
    assert max(map(len, read)) > embedder._model.max_seq_length - 8  # and no more room than that
    assert embedder.limit == embedder._model.max_seq_length - 4  # two special tokens, and `passage` and `:`


def test_a_corpus_of_before_is_searched_and_grows_as_it_was_begun(embedder: Embedder, tmp_path: Path) -> None:
    """A release that knew no prompts embedded both alike: a prompt in front of questions alone would only do harm."""
    with Corpus.open(tmp_path / "old", key=KEY, embedder=embedder.unprompted()) as corpus:
        corpus.add_texts(Text(note, note) for note in NOTES[:2])
    with Corpus.open(tmp_path / "old", key=KEY, embedder=embedder) as corpus:
        corpus.add_texts(Text(note, note) for note in NOTES[2:])
        assert scores(corpus) == pytest.approx(expected(embedder, "", ""), abs=1e-5)


def test_another_machine_asks_with_the_prompts_that_the_first_one_used(embedder: Embedder, tmp_path: Path) -> None:
    """The head says that a corpus was begun with them, or without."""
    for begun, asked in (embedder, ("query: ", "passage: ")), (embedder.unprompted(), ("", "")):
        kept, found = Kept(), []
        for machine, model in ("first", begun), ("second", embedder):
            folder = tmp_path / f"{machine}{begun.prompts is None}"
            corpus = SyncedCorpus.join(
                folder, "notes", KeptBlobs(kept), InMind(), passphrase="pass", embedder=model, show_progress=False
            )
            if machine == "first":
                corpus.add_texts(Text(note, note) for note in NOTES)
            found.append(scores(corpus))
        assert found[0] == found[1]
        wanted = expected(embedder, *asked)
        assert list(found[1]) == sorted(found[1], key=lambda note: -wanted[note])


def test_an_evaluation_asks_with_the_prompts(embedder: Embedder) -> None:
    """What is measured is what a search does."""
    rankers = LocalRankers({note: note for note in NOTES}, embedder, lambda text: [text])
    wanted = expected(embedder, "query: ", "passage: ")
    assert rankers.dense(QUESTION) == sorted(NOTES, key=lambda note: -wanted[note])
    np.testing.assert_allclose(rankers.vector_of(QUESTION), plainly(embedder, ["query: " + QUESTION])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ({"query": ["query: "]}, "prompt 'query' is a list, expected a text"),
        ({"passage": "cough " * 62}, "the prompt of passages has 62 tokens and leaves no room"),
        (["query: "], "cannot open the model: AttributeError"),
    ],
)
def test_prompts_that_are_none_are_refused(folder: Path, tmp_path: Path, prompts: object, says: str) -> None:
    """The file is named."""
    spoilt = tmp_path / "model"
    shutil.copytree(folder, spoilt)
    configuration = json.loads((folder / "config_sentence_transformers.json").read_bytes())
    (spoilt / "config_sentence_transformers.json").write_text(json.dumps(configuration | {"prompts": prompts}))
    with pytest.raises(PackageError, match=says):
        Embedder.open(spoilt)

"""What `ask` is given and is none of it: refused by name, before anybody is asked or a model is opened."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blindgate.answer import Turn
from blindgate.ask import ask
from blindgate_protocol.errors import InputError
from blindgate_rag.corpus import Corpus

NOBODY: Any = None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """One without a document."""
    with Corpus.open(tmp_path_factory.mktemp("corpora") / "notes.bgc", key=bytes(32)) as made:
        yield made


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"question": 7}, "question: expected a text"),
        ({"question": "\n"}, "question: expected a text"),
        ({"question": "a\ud800"}, "the question is no text"),
        ({"corpus": "notes.bgc"}, "corpus: got a str, expected an open one"),
        ({"corpus": Path("notes.bgc")}, "corpus: got a PosixPath"),
        ({"k": math.nan}, "k is nan"),
        ({"k": 10**30}, "k is 1000"),
        ({"tokens": 0}, "tokens is 0"),
        ({"where": "ward=3B"}, "where is a str"),
        ({"history": None}, "history: got a NoneType, expected a list"),
        ({"history": ["tea"]}, r"history\.0: expected an earlier answer"),
        ({"instructions": ["short"]}, "instructions: got a list, expected a text"),
        ({"rules": {"dates": True}}, "redaction: got a dict, expected Rules"),
        ({"recognisers": "presidio:/models/en"}, "recognisers: expected a list of .*stands in the policy"),
        ({"recognisers": [None]}, "recognisers: expected a list"),
        ({"data_class": ["phi"]}, "data_class: got a list, expected a text"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(corpus: Corpus, given: dict[str, Any], says: str) -> None:
    """In words of this project."""
    asked: dict[str, Any] = {"question": "tea", "corpus": corpus, "model": "chat", "parameters": {}}
    with pytest.raises(InputError, match=says):
        ask(NOBODY, **(asked | given))


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (("tea?", 7), "answer of a Turn: got a int"),
        ((None, "yes"), "question of a Turn: got a NoneType"),
        (("tea?", "yes", "phi"), "classes of a Turn: expected a list"),
        (("tea?", "yes", [7]), "classes of a Turn"),
        (("tea?", "yes", [], {"ssn": "219099999"}), "values of a Turn: expected a list of pairs"),
        (("tea?", "yes", [], ["ssn"]), "values of a Turn"),
    ],
)
def test_a_turn_that_was_kept_otherwise_is_refused_by_its_field(kept: tuple[Any, ...], says: str) -> None:
    """One class that is a text would be taken for its letters; what JSON made of a Turn is one."""
    with pytest.raises(InputError, match=says):
        Turn(*kept)
    again: Any = (["phi"], [["ssn", "219099999"]])
    assert list(Turn("tea?", "yes", *again).classes) == ["phi"]

"""What a node answers that searched a corpus: read strictly, though the node was judged."""

import json
from typing import Any

import pytest

from blindgate.attested_corpus import _read
from blindgate_protocol.errors import CorpusError, MalformedError


def hit(passage: int, **changes: Any) -> dict[str, Any]:
    """A passage that was found."""
    given: dict[str, Any] = {"text": "Tea.", "source": "tea", "page": None, "score": 0.5, "metadata": {}, "tokens": 2}
    return given | {"passage": passage} | changes


def answer(*hits: dict[str, Any]) -> bytes:
    """A node's."""
    return json.dumps({"hits": hits}).encode()


def test_what_was_found_is_what_the_node_says() -> None:
    """In its order, and no passage at all."""
    found = _read(answer(hit(2, source="dose"), hit(1, page=3)) + b"\n", 2)
    assert [(one.passage, one.source, one.page) for one in found] == [(2, "dose", None), (1, "tea", 3)]
    assert _read(answer(), 8) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(answer(hit(1), hit(2), hit(3)), "3 passages were given, expected at most 2", id="more than k"),
        pytest.param(answer(hit(1), hit(1)), "expected at most 2, each once", id="one twice"),
        pytest.param(answer(hit(1)) + b"\n" + answer(hit(2)), "has bytes behind what was found", id="another line"),
        pytest.param(answer(hit(0)), "malformed: hits.0.passage", id="a passage of no corpus"),
        pytest.param(answer(hit(1, more=1)), "malformed: hits.0.more", id="an unknown field"),
    ],
)
def test_an_answer_to_another_question_is_none(given: bytes, said: str) -> None:
    """By the rule: no passage of it is shown, or sent on to a model."""
    with pytest.raises(MalformedError, match=said):
        _read(given, 2)


def test_what_the_node_refuses_is_the_corpuss_error() -> None:
    """And not an answer without a passage."""
    refused = {"error": {"code": "bad-corpus", "message": "shard s0 was altered"}}
    with pytest.raises(CorpusError, match="the node refuses the corpus: shard s0 was altered"):
        _read(json.dumps(refused).encode(), 2)

"""Requests that are handed to a server of models on loopback: its answers come back as they are written, and nothing else does."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from blindgate_node.backends.answers import gather
from blindgate_node.backends.requests import ChatRequest, EmbeddingRequest, read_chat
from blindgate_node.backends.upstream import Upstream, check_loopback
from blindgate_protocol.errors import BackendError, ContextLengthError, InputError
from openai_server import WORDS, running_server


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server was asked."""
    return tmp_path_factory.mktemp("upstream") / "seen"


@pytest.fixture(scope="module")
def address(seen: Path) -> Iterator[str]:
    """A server of models."""
    with running_server(seen) as served:
        yield served


Open = Callable[..., Upstream]


@pytest.fixture
def upstream(address: str) -> Iterator[Open]:
    """A model of the server's, by its name there."""
    with ExitStack() as stack:
        yield lambda model, **options: stack.enter_context(closing(Upstream(address, model, **options)))


def chat(**fields: Any) -> ChatRequest:
    """A request."""
    body = {"model": "ours", "messages": [{"role": "user", "content": "I cough"}], **fields}
    return read_chat(json.dumps(body).encode())


def last(seen: Path) -> dict[str, Any]:
    """What the server was asked last."""
    asked: dict[str, Any] = json.loads(seen.read_text().splitlines()[-1])
    return asked


def test_an_answer_streams_back_under_the_name_that_was_asked_for(upstream: Open, seen: Path) -> None:
    """The server's own name for the model stays inside, and so does who asked."""
    chunks = list(
        upstream("theirs", key="k").chat(chat(stream=True, temperature=0, seed=3, stop="X", user="patient-7"))
    )
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [*WORDS, None]
    assert {chunk["model"] for chunk in chunks} == {"ours"}
    asked = last(seen)
    assert asked["path"] == "/v1/chat/completions"
    assert asked["key"] == "Bearer k"
    assert asked["body"] == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "I cough"}],
        "temperature": 0.0,
        "seed": 3,
        "stop": "X",
        "stream": True,
    }


def test_an_answer_in_one_piece_counts_its_tokens(upstream: Open) -> None:
    """It is streamed inside all the same."""
    answer = gather(upstream("theirs").chat(chat()))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "".join(WORDS)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 6


def test_the_server_stops_when_nobody_waits(upstream: Open, seen: Path) -> None:
    """Closing the stream, or a cancellation, closes the connection."""
    endless = upstream("endless")
    chunks = iter(endless.chat(chat()))
    next(chunks)
    del chunks
    stopping = iter([False, False, False, True])
    assert len(list(endless.chat(chat(), lambda: next(stopping)))) < 4
    deadline = time.monotonic() + 20
    while seen.read_text().count('"gone"') < 2:
        assert time.monotonic() < deadline, "the server still writes"
        time.sleep(0.05)


def test_embeddings_come_in_the_order_of_the_texts(upstream: Open, seen: Path) -> None:
    """Whatever the order in which the server lists them."""
    answer = upstream("theirs").embed(EmbeddingRequest(model="ours", input=("a", "bbb")))
    assert [entry["embedding"] for entry in answer["data"]] == [[1.0, 1.5], [3.0, 1.5]]
    assert answer["model"] == "ours"
    with pytest.raises(BackendError, match="not one finite vector for each of 2 texts"):
        upstream("fewer").embed(EmbeddingRequest(model="ours", input=("a", "bbb")))


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        pytest.param("status-400", InputError, "refused the request", id="refused"),
        pytest.param("too long for vLLM", ContextLengthError, "length is 4096 tokens", id="too long"),
        pytest.param("too long for llama.cpp", ContextLengthError, "length is 4096 tokens", id="too long, otherwise"),
        pytest.param("status-500", BackendError, "HTTP 500", id="failed"),
        pytest.param("status-307", BackendError, "HTTP 307", id="redirect"),
        pytest.param("garbage", BackendError, "no JSON object", id="no JSON"),
        pytest.param("long line", BackendError, "a line of more than", id="endless line"),
        pytest.param("text in a list", BackendError, "a choice without text", id="wrong shape"),
        pytest.param("cut", BackendError, "ended its stream before", id="cut"),
    ],
)
def test_a_server_that_misbehaves_is_an_error_without_the_prompt(
    upstream: Open, model: str, error: type[Exception], says: str
) -> None:
    """An error text of the server's may quote what it was asked."""
    with pytest.raises(error, match=says) as refused:
        list(upstream(model).chat(chat()))
    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_said() -> None:
    """With its address, which is the operator's."""
    with (
        closing(Upstream("http://127.0.0.1:1", "m")) as missing,
        pytest.raises(BackendError, match=r"does not answer at http://127\.0\.0\.1:1"),
    ):
        list(missing.chat(chat()))


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("http://192.0.2.7:8000", id="another machine"),
        pytest.param("http://localhost:8000", id="a name"),
        pytest.param("http://127.0.0.1.evil.example", id="like an address"),
        pytest.param("http://0.0.0.0:8000", id="every address"),
        pytest.param("https://127.0.0.1", id="TLS"),
        pytest.param("http://user@127.0.0.1", id="user"),
        pytest.param("http://127.0.0.1/v1", id="path"),
        pytest.param("http://[::ffff:192.0.2.7]:1", id="mapped"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("http://127.0.0.1:99999", id="port"),
        pytest.param("", id="nothing"),
    ],
)
def test_plaintext_never_leaves_the_machine(address: str) -> None:
    """Only a loopback address in digits is taken."""
    with pytest.raises(BackendError, match="expected http://127"):
        Upstream(address, "m")


def test_loopback_is_taken_in_both_families() -> None:
    """And a slash at the end does no harm."""
    assert check_loopback("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"
    assert check_loopback("http://[::1]:8000") == "http://[::1]:8000"


def test_a_proxy_that_the_environment_names_sees_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody set one for the whole machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with closing(Upstream(address, "theirs")) as upstream:
        assert gather(upstream.chat(chat()))["choices"]

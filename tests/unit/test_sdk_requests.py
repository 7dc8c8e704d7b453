"""What is asked, before it is sealed: what is left out, what is refused by its name, and what goes to the node as it is."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from blindgate.chat import failure_in
from blindgate.requests import chat_request, embedding_request
from blindgate.shapes import ChatMessage
from blindgate_node.backends.requests import read_chat, read_embedding
from blindgate_protocol.errors import ContextLengthError, InputError

SECRET = "planted: Aurelia Quince"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
TOOL = {"type": "function", "function": {"name": SECRET}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": SECRET}}


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"n": 1, "logprobs": False, "top_logprobs": 0}, id="one choice, no probabilities"),
        pytest.param({"tools": [], "functions": [], "tool_choice": "auto", "parallel_tool_calls": True}, id="no tool"),
        pytest.param({"tool_choice": "none", "function_call": "none"}, id="no tool, said"),
        pytest.param({"response_format": {"type": "text"}, "modalities": ["text"]}, id="text"),
        pytest.param({"logit_bias": {}, "stop": []}, id="empty"),
        pytest.param({"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"}, id="bookkeeping"),
        pytest.param({"safety_identifier": "s", "prompt_cache_key": "k"}, id="newer bookkeeping"),
        pytest.param(dict.fromkeys(("tools", "seed", "logprobs", "reasoning_effort", "never-heard-of")), id="null"),
        pytest.param({"stream": False, "stream_options": {"include_usage": True}}, id="options of no stream"),
    ],
)
def test_what_changes_no_answer_is_told_to_nobody(members: dict[str, Any]) -> None:
    """What is sealed is what would be without it."""
    asked = chat_request(CHAT | members)
    asked.pop("stream", None)
    assert asked == CHAT


@pytest.mark.parametrize(
    ("members", "member"),
    [
        pytest.param({"tools": [TOOL]}, "tools", id="a tool"),
        pytest.param({"functions": [TOOL]}, "functions", id="a function"),
        pytest.param({"tool_choice": "required"}, "tool_choice", id="tools that have to be"),
        pytest.param({"n": 2}, "n", id="two choices"),
        pytest.param({"n": True}, "n", id="a truth in place of a number"),
        pytest.param({"logprobs": True}, "logprobs", id="probabilities"),
        pytest.param({"top_logprobs": 3}, "top_logprobs", id="more probabilities"),
        pytest.param({"modalities": ["text", "audio"]}, "modalities", id="sounds"),
        pytest.param({"audio": {"voice": SECRET}}, "audio", id="a voice"),
        pytest.param({"messages": SECRET}, "messages", id="messages that are none"),
        pytest.param({"messages": [SECRET]}, "messages", id="a message that is none"),
        pytest.param({"messages": [{"role": "user", "content": None}]}, "messages", id="no content"),
        pytest.param({"messages": [{"role": "user", "content": [SECRET]}]}, "messages", id="a part that is none"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": SECRET}}]}]},
            "messages",
            id="a picture",
        ),
        pytest.param({"messages": [{"role": "tool", "content": SECRET}]}, "messages", id="a tool's answer"),
        pytest.param(
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [CALL]}]}, "messages", id="a tool's call"
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "content": "a", "refusal": SECRET}]}, "messages", id="a refusal"
        ),
    ],
)
def test_what_no_answer_can_have_is_refused_by_its_name(members: dict[str, Any], member: str) -> None:
    """Before anything is sealed, and without what stood in it."""
    with pytest.raises(InputError) as refused:
        chat_request(CHAT | members)
    assert refused.value.member == member
    assert str(refused.value).startswith(member)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("members", "member"),
    [
        pytest.param({"response_format": {"type": "json_object"}}, "response_format", id="JSON"),
        pytest.param({"reasoning_effort": "low"}, "reasoning_effort", id="reasoning"),
        pytest.param({"logit_bias": {"1": 5}}, "logit_bias", id="bias"),
        pytest.param({"frequency_penalty": 0.5}, "frequency_penalty", id="penalty"),
        pytest.param({"top_k": 5}, "top_k", id="of another server"),
        pytest.param({"temperature": 3}, "temperature", id="out of range"),
        pytest.param({"stop": ""}, "stop", id="empty stop"),
        pytest.param({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", id="two limits"),
        pytest.param({"messages": [{"role": SECRET, "content": "a"}]}, "messages", id="role"),
        pytest.param({"messages": []}, "messages", id="no message"),
    ],
)
def test_what_is_the_nodes_to_say_it_says_by_its_name(members: dict[str, Any], member: str) -> None:
    """It goes there as it is; the name comes back as the error's member."""
    with pytest.raises(InputError) as refused:
        read_chat(json.dumps(chat_request(CHAT | members)).encode())
    told = failure_in({"error": {"code": refused.value.code, "message": str(refused.value)}})
    assert told is not None
    assert told.member == member
    assert SECRET not in str(told)


def test_a_request_that_is_too_long_is_told_apart() -> None:
    """From any other that the node refuses."""
    told = failure_in({"error": {"code": "context-length", "message": "messages: the prompt has 9 tokens"}})
    assert isinstance(told, ContextLengthError)
    assert told.member == "messages"


def test_an_answers_message_goes_back_as_it_came() -> None:
    """The SDK's, the `openai` package's, and one that was written out: nulls and empty lists say nothing."""
    said: dict[str, Any] = {"role": "assistant", "content": "b"}
    beside: dict[str, Any] = {
        "refusal": None,
        "tool_calls": None,
        "function_call": None,
        "audio": None,
        "annotations": [],
    }
    messages: list[Any] = [
        ChatMessage(role="assistant", content="b"),
        ChatCompletionMessage(role="assistant", content="b"),
        said | beside,
        said | {"tool_calls": [], "name": None},
    ]
    for message in messages:
        asked = chat_request(CHAT | {"messages": [*CHAT["messages"], message]})
        assert asked["messages"] == [*CHAT["messages"], said]
        assert read_chat(json.dumps(asked).encode()).messages[1].text == "b"


def test_a_streams_options_are_those_that_the_node_knows() -> None:
    """OpenAI's obfuscation is padding, which the seal does."""
    options = {"include_usage": True, "include_obfuscation": False}
    asked = chat_request(CHAT | {"stream": True, "stream_options": options})
    assert read_chat(json.dumps(asked).encode()).wants_usage
    assert asked["stream_options"] == {"include_usage": True}


def test_a_limit_that_is_said_by_both_names_is_one() -> None:
    """Programs that cannot know which name a server takes send both."""
    asked = chat_request(CHAT | {"max_tokens": 5, "max_completion_tokens": 5})
    assert read_chat(json.dumps(asked).encode()).limit == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param([1, 2], "check_embedding_ctx_length=False", id="tokens"),
        pytest.param([[1, 2], [3]], "check_embedding_ctx_length=False", id="lists of tokens"),
        pytest.param(["a", 1], "check_embedding_ctx_length=False", id="one token among texts"),
        pytest.param("", "empty", id="empty text"),
        pytest.param(["a", ""], "empty", id="one empty text"),
        pytest.param([], "at least one", id="no text"),
    ],
)
def test_what_cannot_be_embedded_is_refused(given: object, words: str) -> None:
    """With what to do about it."""
    with pytest.raises(InputError, match=words) as refused:
        embedding_request({"model": "m", "input": given})
    assert refused.value.member == "input"


def test_texts_are_embedded_as_openais_clients_send_them() -> None:
    """With nulls, and a name for who asks. How many numbers a vector has is the model's to say."""
    body = {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": None, "user": "u"}
    assert read_embedding(json.dumps(embedding_request(body)).encode()).texts == ("a",)
    assert embedding_request({"model": "m", "input": "a", "dimensions": 64})["dimensions"] == 64

"""What is asked, in the shapes of OpenAI's API, before it is sealed. The SDK's calls and the proxy go through here alike.

Programs that were written for OpenAI say more than they mean: `null` for what they leave open, an account's bookkeeping, a list of
tools without a tool. Others mean what no model here does. So a member of a request

1. that is `null` is left out: in OpenAI's API both mean the default;
2. that changes no answer (`FORGOTTEN`) is left out, and told to nobody;
3. that asks for what an answer has anyway (`n` of 1, no tools, text as its format) is left out;
4. that asks for an answer which cannot be shown here (tools, several choices, probabilities, sounds) is refused by its name, before
   anything is sealed, and so is a message that is no text;
5. anything else goes to the node as it is, which refuses by name what its model does not do.

Nothing that changes an answer is dropped without a word.
"""

from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from blindgate_protocol.errors import InputError

FORGOTTEN: Final = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Who asks, what is kept of it at OpenAI, how fast it goes there."""
NO_NUMBERS: Final = (
    "input: numbers of tokens mean nothing to a model that has a tokeniser of its own: send texts. In LangChain, that is "
    "OpenAIEmbeddings(check_embedding_ctx_length=False)"
)

_NO_TOOLS: Final = "these models call no tools"
_ONE_CHOICE: Final = "there is one choice to an answer"
_NO_PROBABILITIES: Final = "an answer does not say how likely its tokens were"
_TEXT_ONLY: Final = "answers are texts"
_ASIDE: Final = frozenset({"annotations", "audio", "function_call", "refusal", "tool_calls"})
"""What an assistant's message has beside its text, in answers that are sent back as a part of the next request."""


def _is(*values: Any) -> Callable[[Any], bool]:
    """Whether a member is one of these, of their types: `true` is no 1."""
    return lambda given: any(type(given) is type(value) and given == value for value in values)


_ANYWAY: Final[dict[str, tuple[Callable[[Any], bool], str | None]]] = {
    "audio": (_is(), _TEXT_ONLY),
    "function_call": (_is("none", "auto"), _NO_TOOLS),
    "functions": (_is([]), _NO_TOOLS),
    "logit_bias": (_is({}), None),
    "logprobs": (_is(False), _NO_PROBABILITIES),  # noqa: FBT003  (a value, not a switch)
    "modalities": (_is(["text"]), _TEXT_ONLY),
    "n": (_is(1), _ONE_CHOICE),
    "parallel_tool_calls": (_is(True, False), _NO_TOOLS),  # noqa: FBT003
    "response_format": (_is({"type": "text"}), None),
    "stop": (_is([]), None),
    "tool_choice": (_is("none", "auto"), _NO_TOOLS),
    "tools": (_is([]), _NO_TOOLS),
    "top_logprobs": (_is(0), _NO_PROBABILITIES),
}
"""Members that may ask for what an answer has anyway: when they do, and why anything else is refused here. Without a why it is the
node's to say."""


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """A chat as it is sealed. Raises `InputError`, whose `member` is the one at fault."""
    asked = _without_what_is_usual(body)
    if "messages" in asked:
        asked["messages"] = _messages(asked["messages"])
    if asked.get("max_tokens") is not None and _is(asked["max_tokens"])(asked.get("max_completion_tokens")):
        del asked["max_tokens"]  # the older name, said twice
    options = asked.pop("stream_options", None)
    if asked.get("stream") and options:
        asked["stream_options"] = _stream_options(options)
    return asked


def embedding_request(body: dict[str, Any]) -> dict[str, Any]:
    """Texts to be embedded, as they are sealed. Raises `InputError`, whose `member` is the one at fault."""
    asked = {name: value for name, value in body.items() if value is not None and name not in FORGOTTEN}
    texts = asked.get("input")
    if isinstance(texts, int) or (isinstance(texts, list) and any(isinstance(text, int | list) for text in texts)):
        raise InputError(NO_NUMBERS, member="input")
    if texts == [] or not all([texts] if isinstance(texts, str) else texts or [""]):
        message = "input: expected at least one text, and none that is empty"
        raise InputError(message, member="input")
    return asked


def wants_usage(body: dict[str, Any]) -> bool:
    """Whether somebody who asks for a stream wants its tokens counted in a chunk of their own."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _without_what_is_usual(body: dict[str, Any]) -> dict[str, Any]:
    """Do rules 1 to 4."""
    asked: dict[str, Any] = {}
    for name, value in body.items():
        if value is None or name in FORGOTTEN:
            continue
        usual, why = _ANYWAY.get(name, (_is(), None))
        if usual(value):
            continue
        if why is not None:
            message = f"{name}: {why}"
            raise InputError(message, member=name)
        asked[name] = value
    return asked


def _stream_options(options: Any) -> Any:
    """What the node knows of it. OpenAI's obfuscation is padding against who reads along: here the seal does that."""
    if not isinstance(options, dict):
        return options
    return {name: value for name, value in options.items() if value is not None and name != "include_obfuscation"}


def _messages(messages: Any) -> list[Any]:
    if not isinstance(messages, list | tuple):
        message = "messages: expected a list"
        raise InputError(message, member="messages")
    return [_message(each, f"messages.{position}") for position, each in enumerate(messages)]


def _message(given: Any, place: str) -> dict[str, Any]:
    """A message without what says nothing. `place`: how it is called in errors."""
    if isinstance(given, BaseModel):  # an answer's own message, as it came
        given = given.model_dump(mode="json")
    if not isinstance(given, dict):
        _refuse(place, "expected a message, which has a role and a content")
    if given.get("role") in {"tool", "function"}:
        _refuse(f"{place}.role", _NO_TOOLS)
    for name in _ASIDE & given.keys():
        if given[name] not in (None, []):
            why = (
                _NO_TOOLS
                if name in {"function_call", "tool_calls"}
                else "a message is a text, and has nothing beside it"
            )
            _refuse(f"{place}.{name}", why)
    said: dict[str, Any] = {}
    for name, value in given.items():
        if name == "content":
            said[name] = _content(value, f"{place}.{name}")
        elif value is not None and name not in _ASIDE:
            said[name] = value
    return said


def _content(given: Any, place: str) -> Any:
    if isinstance(given, str):
        return given
    if not isinstance(given, list | tuple):
        _refuse(place, "expected a text, or a list of parts of type text")
    return [_part(part, f"{place}.{position}") for position, part in enumerate(given)]


def _part(given: Any, place: str) -> dict[str, Any]:
    if not isinstance(given, dict) or given.get("type") != "text":
        _refuse(place, "expected a part of type text: these models take no pictures, sounds or files")
    return {name: value for name, value in given.items() if value is not None and name != "cache_control"}


def _refuse(place: str, why: str) -> Any:
    message = f"{place}: {why}"
    raise InputError(message, member="messages")

"""Requests in the shapes of OpenAI's API, as far as a plaintext model here can do what they ask.

A field that would change the answer and that nothing here computes (tools, several choices, penalties) is refused by its name
rather than ignored. Fields that change nothing for the model (`user`, `store`, `metadata`) are taken and forgotten.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from blindgate_protocol.corpus_search import CorpusQuery
from blindgate_protocol.errors import InputError
from blindgate_protocol.values import Value

MAX_MESSAGES: Final = 2000
MAX_CHARACTERS: Final = 4 << 20
MAX_TEXTS: Final = 2048
MAX_TOKENS: Final = 1 << 20
_OF_TYPE: Final = frozenset({"string_type", "tuple_type"})

_Content = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]
_Model = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class TextPart(Value):
    """A part of a message. There are no images."""

    type: Literal["text"]
    text: _Content


class Message(Value):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Content | Annotated[tuple[TextPart, ...], Field(min_length=1, max_length=100)]
    name: Annotated[str, StringConstraints(max_length=64)] | None = None

    @property
    def text(self) -> str:
        """What was said."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Value):
    """What goes with a stream."""

    include_usage: bool = False


class ResponseFormat(Value):
    """Text is the one format."""

    type: Literal["text"] = "text"


class ChatRequest(Value):
    """`POST /v1/chat/completions`.

    Attributes:
        max_completion_tokens: the most tokens of the answer; `max_tokens` is its older name. `None`: as the model's context allows.
        temperature: 0 takes the likeliest token each time; `None` is 1, as at OpenAI.
        top_p: the share of probability that tokens are drawn from.
        seed: the same seed, request and software give the same answer.
        stop: up to four texts before which the answer ends.
    """

    model: _Model
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: _Tokens | None = None
    max_tokens: _Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Stop | Annotated[tuple[_Stop, ...], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    response_format: ResponseFormat | None = None
    user: Any = Field(default=None, repr=False)
    metadata: Any = Field(default=None, repr=False)
    store: Any = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if sum(len(message.text) for message in self.messages) > MAX_CHARACTERS:
            message = f"messages: expected at most {MAX_CHARACTERS} characters in all"
            raise ValueError(message)
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "max_tokens: it is the older name of max_completion_tokens, expected one of them"
            raise ValueError(message)
        return self

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()

    @property
    def wants_usage(self) -> bool:
        """Whether the last chunk counts tokens: always for an answer in one piece."""
        return not self.stream or (self.stream_options is not None and self.stream_options.include_usage)


class EmbeddingRequest(Value):
    """`POST /v1/embeddings`. Texts only: token numbers mean nothing to a model with a tokeniser of its own."""

    model: _Model
    input: _Content | Annotated[tuple[_Content, ...], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    user: Any = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not all(self.texts) or sum(map(len, self.texts)) > MAX_CHARACTERS:
            message = f"input: expected texts that are not empty, with at most {MAX_CHARACTERS} characters in all"
            raise ValueError(message)
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, of one or many."""
        return (self.input,) if isinstance(self.input, str) else self.input


def read_chat(body: bytes) -> ChatRequest:
    """A chat's request from JSON. Raises `InputError` naming the field and the rule, never what it holds."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise InputError(_said(error)) from None


def read_embedding(body: bytes) -> EmbeddingRequest:
    """The request of embeddings from JSON. Raises `InputError` likewise."""
    try:
        return EmbeddingRequest.model_validate_json(body)
    except ValidationError as error:
        raise InputError(_said(error)) from None


def read_query(body: bytes) -> CorpusQuery:
    """The question to a corpus from JSON. Raises `InputError` likewise."""
    try:
        return CorpusQuery.model_validate_json(body)
    except ValidationError as error:
        raise InputError(_said(error)) from None


def _said(error: ValidationError) -> str:
    """The member at fault, and its rule. The rules above that hold between members name theirs themselves.

    Of a member that may be a text or a list, both errors are told; the one that says more than a type is the one that was meant.
    """
    errors = error.errors(include_url=False, include_input=False)
    first = next((each for each in errors if each["type"] not in _OF_TYPE), errors[0])
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    where = ".".join(str(step) for step in first["loc"] if not isinstance(step, str) or step.isidentifier())
    rule = "nothing that this model does" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{where or 'document'}: {rule}"

"""Answers in the shapes of the `openai` package, so that code written for that reads them: `completion.choices[0].message.content`.

Values are read from what a node wrote, so each has its type and nothing more is believed of it. Fields that are not named here are
kept, as that package does. `model_dump()` gives what a server of OpenAI's API would have sent.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from blindgate_protocol.errors import MalformedError
from blindgate_protocol.signing import first_error

ShapeT = TypeVar("ShapeT", bound="Shape")


class Shape(BaseModel):
    """A part of an answer."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, value: dict[str, Any]) -> Self:
        """Read what a node wrote. Raises `MalformedError` naming the field, never what it holds."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            message = f"the answer is no {cls.__name__}: {first_error(error)}"
            raise MalformedError(message) from None


class Usage(Shape):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class Delta(Shape):
    """A piece of a message."""

    role: str | None = None
    content: str | None = None


class ChunkChoice(Shape):
    """A piece of the one answer that there is."""

    index: int
    delta: Delta
    finish_reason: str | None = None


class ChatCompletionChunk(Shape):
    """A piece of an answer, as it is written."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None


class ChatMessage(Shape):
    """What was answered."""

    role: str
    content: str | None = None
    refusal: str | None = None


class Choice(Shape):
    """The one answer that there is."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None


class ChatCompletion(Shape):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None


class Embedding(Shape):
    """A text's vector: numbers, or float32 in base64, as was asked."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class CreateEmbeddingResponse(Shape):
    """Vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


def completion_of(chunks: Iterable[ChatCompletionChunk]) -> ChatCompletion:
    """One completion from all chunks of an answer. Raises `MalformedError` where there is none."""
    head: ChatCompletionChunk | None = None
    texts: list[str] = []
    role, reason, usage = "assistant", None, None
    for chunk in chunks:
        head = head or chunk
        usage = chunk.usage or usage
        for choice in chunk.choices:
            role = choice.delta.role or role
            texts.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
    if head is None:
        message = "the answer has no chunk"
        raise MalformedError(message)
    said = Choice(index=0, message=ChatMessage(role=role, content="".join(texts)), finish_reason=reason)
    return ChatCompletion(id=head.id, created=head.created, model=head.model, choices=(said,), usage=usage)

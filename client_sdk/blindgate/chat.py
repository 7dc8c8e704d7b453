"""Chats and embeddings, with the calls of the `openai` package.

    client.chat.completions.create(model="…", messages=[…], stream=True)
    client.embeddings.create(model="minilm", input=[…])

Parameters are that package's; `requests` says what becomes of them here. They go to the node inside the seal, which refuses by name
what its model cannot do. What is refused there comes back inside the seal, too, and is raised as `InputError`.

A stream gives chunks as they open. It ends once everything about the answer held (`sealed_job`), so code that reads it to its end
has an answer to be believed, and code that shows it shows a beginning until then. Where the policy wants answers buffered, for the
classes that this request has, the node is asked for no stream, and the chunks come all at once.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Self, overload

from pydantic import BaseModel

from blindgate.decisions import Said
from blindgate.requests import chat_request, embedding_request, wants_usage
from blindgate.sealed_job import SealedJob, Sealing
from blindgate.shapes import ChatCompletion, ChatCompletionChunk, CreateEmbeddingResponse, completion_of
from blindgate_protocol.errors import ContextLengthError, InputError, MalformedError
from blindgate_protocol.manifest import Api
from blindgate_protocol.sealed_bodies import Lines, failure_of, read_line

SealingOf = Callable[[str, Api], Sealing]
"""Gives what it takes to seal requests to a model, by its name and what is asked of it."""

_MEMBER: Final = re.compile(r"([a-z][a-z0-9_]{0,63})(?:\.| [0-9]+:|:)")
"""How a node's error names the member of a request that is at fault: `tools: …`, `messages.0.content: …`, `input 3: …`."""


class Stream:
    """The chunks of an answer, as they are written. It is read once; leaving it early cancels the job.

    Attributes:
        job: the job, whose bundle has the receipt once the stream was read to its end.
    """

    def __init__(self, job: SealedJob, timeout: float | None, *, counted: bool = True) -> None:
        """Made by `Completions.create`. `counted`: with the chunk that counts tokens, where there is one."""
        self.job = job
        self._counted = counted
        self._pieces = job.pieces(timeout)
        self._chunks = self._read()

    def close(self) -> None:
        """Read no more. The job is cancelled where it has not ended."""
        self._chunks.close()  # type: ignore[attr-defined]
        self._pieces.close()  # type: ignore[attr-defined]
        self.job.leave()  # where nothing was read, the two have not begun, and say nothing

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self._chunks

    def __next__(self) -> ChatCompletionChunk:
        return next(self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Iterator[ChatCompletionChunk]:
        failed: InputError | None = None
        for value in answer_lines(self._pieces):
            failed = failed or failure_in(value)
            if failed is None:
                chunk = ChatCompletionChunk.read(value)
                if chunk.choices or self._counted:
                    yield chunk
        if failed is not None:  # once everything held: then it is the node that says so
            raise failed


class Completions:
    """`client.chat.completions`."""

    def __init__(self, sealing: SealingOf) -> None:
        """Made by `Client`."""
        self._sealing = sealing

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Sequence[dict[str, Any] | BaseModel],
        stream: Literal[True],
        timeout: float | None = ...,
        data_class: str | None = ...,
        **parameters: Any,
    ) -> Stream: ...
    @overload
    def create(
        self,
        *,
        model: str,
        messages: Sequence[dict[str, Any] | BaseModel],
        stream: Literal[False] | None = ...,
        timeout: float | None = ...,
        data_class: str | None = ...,
        **parameters: Any,
    ) -> ChatCompletion: ...
    def create(
        self,
        *,
        model: str,
        messages: Sequence[dict[str, Any] | BaseModel],
        stream: bool | None = None,
        timeout: float | None = None,
        data_class: str | None = None,
        **parameters: Any,
    ) -> ChatCompletion | Stream:
        """Answer a chat.

        Args:
            model: its name at the gateway.
            messages: the turns so far, as `{"role": …, "content": …}`, or an answer's own `message`.
            stream: give chunks as they are written.
            timeout: seconds for the whole answer; without it, until the order's deadline.
            data_class: what kind of data this is, by the policy's name for it; it is sent to nobody.
            parameters: what else OpenAI's API takes: `temperature`, `max_completion_tokens`, `stop`, `seed`, and so on.

        Raises `InputError` for what the model cannot do, `PolicyError` or `UntrustedEvidenceError` before anything is sealed, and
        what `SealedJob.pieces` does.
        """
        body = {"model": model, "messages": messages, "stream": bool(stream), **parameters}
        answer = self.begin(body, timeout, data_class=data_class)
        if stream:
            return answer
        with answer:
            return completion_of(answer)

    def begin(
        self,
        body: dict[str, Any],
        timeout: float | None = None,
        *,
        data_class: Said = None,
        redacted: Mapping[str, int] | None = None,
    ) -> Stream:
        """Seal and submit a request in OpenAI's shape, whose `model` is a text; nothing of its answer is read yet. See `create`.

        `redacted` says how often something of a class was taken out of it, for the job's bundle.
        """
        asked = chat_request(body)
        sealing = self._sealing(body["model"], "chat")
        streams = bool(asked.get("stream"))
        stream = streams and not sealing.allowed(data_class).rules.buffered
        job = sealing.ask(_to_json({**asked, "stream": stream}), data_class=data_class, redacted=redacted)
        # Asked for no stream, a node counts tokens always. Whoever reads a stream expects that only where it asked.
        return Stream(job, timeout, counted=not streams or wants_usage(asked))


class Chat:
    """`client.chat`."""

    def __init__(self, completions: Completions) -> None:
        """Made by `Client`."""
        self.completions = completions


class Embeddings:
    """`client.embeddings`."""

    def __init__(self, sealing: SealingOf) -> None:
        """Made by `Client`."""
        self._sealing = sealing

    def create(
        self,
        *,
        model: str,
        input: str | list[str],  # noqa: A002  (OpenAI's name)
        timeout: float | None = None,
        data_class: str | None = None,
        **parameters: Any,
    ) -> CreateEmbeddingResponse:
        """Embed one text or several: a vector for each, in their order. See `Completions.create`."""
        body = {"model": model, "input": input, **parameters}
        return self.read(self.begin(body, data_class=data_class), timeout)

    def begin(self, body: dict[str, Any], *, data_class: str | None = None) -> SealedJob:
        """Seal and submit a request in OpenAI's shape, whose `model` is a text; nothing of its answer is read yet."""
        asked = embedding_request(body)
        return self._sealing(body["model"], "embeddings").ask(_to_json(asked), data_class=data_class)

    @staticmethod
    def read(job: SealedJob, timeout: float | None = None) -> CreateEmbeddingResponse:
        """The whole answer of such a job."""
        lines = list(answer_lines(job.pieces(timeout)))
        for value in lines:
            if failed := failure_in(value):
                raise failed
        if len(lines) != 1:
            message = f"the answer has {len(lines)} lines, expected one list of embeddings"
            raise MalformedError(message)
        return CreateEmbeddingResponse.read(lines[0])


def answer_lines(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The lines of an answer. Raises `MalformedError`, and what reading the pieces does."""
    lines = Lines()
    for piece in pieces:
        yield from map(read_line, lines.feed(piece))
    lines.finish()


def failure_in(value: dict[str, Any]) -> InputError | None:
    """The error that a line says. Raises `MalformedError` for one that is malformed."""
    found = failure_of(value)
    if found is None:
        return None
    kind = ContextLengthError if found.code == ContextLengthError.code else InputError
    member = _MEMBER.match(found.message)
    return kind(f"the node refuses the request: {found.message}", member=None if member is None else member[1])


def _to_json(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        message = f"the request is not JSON: {error}"
        raise InputError(message) from error

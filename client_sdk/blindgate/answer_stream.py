"""An answer out of documents, as it is written.

1. Each piece goes through `citations`, then through the redaction's `Restorer`: citations of nothing are out, and values are in
   their places, in every part that is given. Only what may yet become a citation or a placeholder is held back. The parts, joined,
   are the text of the answer.
2. The stream ends once everything about the answer held (`sealed_job`). Then, and not before, there is an `answer`; parts that were
   shown until then are a beginning, and no more.
3. Leaving the stream cancels the job, as of a chat.

There is no other way to an answer: one that is asked for whole is its stream, read to the end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from blindgate.answer import Answer, Citation, Turn
from blindgate.chat import Stream
from blindgate.citations import Citing
from blindgate.sealed_job import SealedJob
from blindgate.shapes import ChatCompletionChunk, completion_of
from blindgate_protocol.errors import BlindgateError, ContextLengthError, InputError
from blindgate_rag.hits import Hits
from blindgate_rag.redaction import Redactor, Restorer

_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_NOT_YET: Final = "the stream was not read to its end yet: until then there is a beginning, and no answer"


@dataclass(frozen=True)
class Asked:
    """What was asked, and of what.

    Attributes:
        question: as its caller wrote it.
        hits: the passages that were sent, numbered from 1.
        messages: what was sealed, word by word.
        redactor: what knows the values of its placeholders.
        history: how many earlier turns went along.
        classes: the request's classes, by the word of its caller, of the documents and of earlier turns.
    """

    question: str
    hits: Hits
    messages: tuple[Mapping[str, str], ...]
    redactor: Redactor = field(repr=False)
    history: int
    classes: tuple[str, ...]


class AnswerStream:
    """The text of an answer, part by part. It is read once; leaving it early cancels the job.

    Attributes:
        hits: all passages that were sent, and who could have learnt what of the search.
        messages: what was sealed, word by word.
        job: the job, whose bundle has the receipt once the stream was read to its end.
    """

    def __init__(self, stream: Stream, asked: Asked) -> None:
        """Made by `Client.ask`."""
        self.hits = asked.hits
        self.messages = asked.messages
        self.job: SealedJob = stream.job
        self._asked, self._stream = asked, stream
        self._answer: Answer | None = None
        self._why_none = _NOT_YET
        self._parts = self._read()

    @property
    def answer(self) -> Answer:
        """The answer, once the stream was read to its end and everything held. Raises `InputError` before, and where it did not."""
        if self._answer is None:
            raise InputError(self._why_none)
        return self._answer

    def read(self) -> Answer:
        """Read what is left, and give the answer. Raises what reading does: see `SealedJob.pieces`."""
        for _ in self:
            pass
        return self.answer

    def close(self) -> None:
        """Read no more. The job is cancelled where it has not ended."""
        if self._why_none == _NOT_YET:
            self._why_none = "the stream was left before its end: there is a beginning, and no answer"
        self._parts.close()  # type: ignore[attr-defined]
        self._stream.close()

    def __iter__(self) -> Iterator[str]:
        return self._parts

    def __next__(self) -> str:
        return next(self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Iterator[str]:
        # 1.
        citing, restorer = Citing(len(self.hits)), self._asked.redactor.restorer()
        chunks: list[ChatCompletionChunk] = []
        given: list[str] = []
        try:
            for chunk in self._stream:
                chunks.append(chunk)
                pieces = (choice.delta.content or "" for choice in chunk.choices)
                if part := "".join(restorer.feed(citing.feed(piece)) for piece in pieces):
                    given.append(part)
                    yield part
            # 2.
            rest = restorer.feed(citing.close()) + restorer.close()
            self._answer = self._made("".join([*given, rest]), citing, restorer, chunks)
        except BlindgateError as error:
            self._why_none = f"the stream ended in an error, and there is no answer: {error}"
            if isinstance(error, ContextLengthError):
                raise self._too_long(error) from error
            raise
        if rest:
            yield rest

    def _made(self, text: str, citing: Citing, restorer: Restorer, chunks: list[ChatCompletionChunk]) -> Answer:
        completion = completion_of(chunks)
        asked = self._asked
        return Answer(
            text=text,
            citations=tuple(Citation(number, self.hits[number - 1]) for number in citing.cited),
            unresolved=citing.unresolved,
            hits=self.hits,
            withheld=tuple(dict.fromkeys(restorer.withheld)),
            redacted=asked.redactor.counts,
            not_protected=asked.redactor.not_protected,
            messages=self.messages,
            turn=Turn(asked.question, text, asked.classes, asked.redactor.known_in(asked.question, text)),
            finish_reason=completion.choices[0].finish_reason,
            usage=completion.usage,
            job=self.job,
        )

    def _too_long(self, error: ContextLengthError) -> ContextLengthError:
        """The same, in words of who wrote a question and no messages."""
        count, tokens = len(self.hits), sum(hit.tokens for hit in self.hits)
        less = ["for fewer passages (k), for less text (tokens)"] if count > 1 else []
        less += ["with less history"] if self._asked.history else []
        less += [f"for a shorter answer ({error.member})"] if error.member in _LIMITS else []
        message = (
            f"{error}. Sent were {count} passage{'s' * (count > 1)}, of {tokens} tokens as the corpus counts them: "
            f"ask {', '.join(less) or 'a model that reads more'}"
        )
        return ContextLengthError(message, member=error.member)

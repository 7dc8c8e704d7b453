"""What a sealed request and its answer say, once they are opened.

| the manifest's `api` | request | answer |
|---|---|---|
| `chat` | the JSON of OpenAI's chat completions | a line for each chunk: a `chat.completion.chunk` |
| `embeddings` | the JSON of OpenAI's embeddings | one line: the list of embeddings |
| `table` | rows of numbers: float64, little-endian, row by row | one line, `{"rows": …, "outputs": …}`; then float32, likewise |
| `corpus` | the JSON of a `CorpusQuery` (`corpus_search`) | one line: the `CorpusHits` |

Lines are JSON and end with a newline. A line `{"error": {"code": …, "message": …}}` is the last one: the node could not answer this
request, and says so to its client alone. The job has succeeded all the same, as far as a gateway can see.

A chat whose request says `"stream": true` is sealed chunk by chunk, as it is written. Otherwise, and for the others, an answer is
sealed in one piece.

Section 13 of docs/protocol.md.
"""

import json
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from blindgate_protocol.errors import MalformedError
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Name, Text, Value

MAX_LINE_BYTES: Final = 256 << 20
NUMBER_BYTES: Final = 8
SCORE_BYTES: Final = 4


class Failure(Value):
    """Why a node could not answer."""

    code: Name
    message: Text


class FailureLine(Value):
    """The last line of an answer that could not be given."""

    error: Failure


class TableHead(Value):
    """The first line of a table's answer: its shape."""

    rows: Annotated[int, Field(ge=0)]
    outputs: Annotated[int, Field(ge=1)]


def line_of(value: dict[str, Any] | Value) -> bytes:
    """A line of an answer."""
    if isinstance(value, Value):
        return value.model_dump_json().encode() + b"\n"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Lines:
    """The lines of an answer, as its bytes come. What a node wrote is a stranger's until it is read."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. Raises `MalformedError` for one that is too long."""
        self._rest += data
        if b"\n" not in data:
            if len(self._rest) > MAX_LINE_BYTES:
                message = f"a line of the answer has more than {MAX_LINE_BYTES} bytes"
                raise MalformedError(message)
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return lines

    def finish(self) -> None:
        """Raises `MalformedError` where the answer ends inside a line."""
        if self._rest:
            message = "the answer ends inside a line"
            raise MalformedError(message)


def read_line(line: bytes) -> dict[str, Any]:
    """A line's JSON object. Raises `MalformedError`."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        message = "a line of the answer is not JSON"
        raise MalformedError(message) from error
    if not isinstance(value, dict):
        message = "a line of the answer is no JSON object"
        raise MalformedError(message)
    return value


def failure_of(value: dict[str, Any]) -> Failure | None:
    """What a line says of why there is no answer; `None` where it says something else. Raises `MalformedError`."""
    if "error" not in value:
        return None
    try:
        return FailureLine.model_validate(value).error
    except ValidationError as error:
        message = f"the answer's error is malformed: {first_error(error)}"
        raise MalformedError(message) from error

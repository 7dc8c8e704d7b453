"""Answers that are streamed: server-sent events, as OpenAI's API sends them.

1. Chunks are sent as they open. Until the end they are a beginning: authentic, and not yet held against the receipt.
2. The chunk that says why the answer ended, and what follows it, is held back until everything held (`sealed_job`, steps 7 to 10).
   Then it is sent, and `data: [DONE]` after it.
3. Where something did not hold, or the node was lost, the last event is `data: {"error": …}`, and there is no `[DONE]`: no
   client takes what it has for a whole answer. The `openai` package raises `APIError`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from blindgate.proxy.failures import Failure
from blindgate.shapes import ChatCompletionChunk

DONE = b"data: [DONE]\n\n"


def events(
    first: ChatCompletionChunk, rest: Iterable[ChatCompletionChunk], fail: Callable[[Exception], Failure]
) -> Iterator[bytes]:
    """The events of an answer. `fail` is told of an error, and says what the caller is told."""
    held: list[ChatCompletionChunk] = []
    try:
        for chunk in chain((first,), rest):
            if held or any(choice.finish_reason is not None for choice in chunk.choices):
                held.append(chunk)
            else:
                yield _event(shown(chunk))
    except Exception as error:  # noqa: BLE001  (the headers are gone: whatever it is, the caller has to hear of it here)
        yield _event(fail(error).body())
        return
    yield from map(_event, map(shown, held))
    yield DONE


def shown(chunk: ChatCompletionChunk) -> dict[str, Any]:
    """A chunk as the node wrote it."""
    return {**chunk.model_dump(mode="json", exclude_unset=True), "object": chunk.object}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

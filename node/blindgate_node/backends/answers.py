"""Answers in the shapes of OpenAI's API: the chunks of a chat, the same in one piece, and embeddings."""

import base64
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Finish = Literal["stop", "length"]

_ID_BYTES: Final = 12


class ChatWriter:
    """The chunks of one answer: the same id, model and time in each."""

    def __init__(self, model: str) -> None:
        """Write as `model`."""
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(_ID_BYTES)}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }

    def role(self) -> dict[str, Any]:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> dict[str, Any]:
        """A piece of the answer."""
        return self._chunk({"content": text}, None)

    def finish(self, reason: Finish) -> dict[str, Any]:
        """The last chunk that has a choice: why the answer ends."""
        return self._chunk({}, reason)

    def usage(self, *, prompt: int, answer: int) -> dict[str, Any]:
        """The chunk that counts tokens, which has no choice."""
        counts = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return {**self._head, "choices": [], "usage": counts}

    def _chunk(self, delta: dict[str, str], reason: Finish | None) -> dict[str, Any]:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}


def gather(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One `chat.completion` from all chunks of an answer. At least one chunk is needed: raises `ValueError`."""
    head: dict[str, Any] = {}
    texts: list[str] = []
    reason = usage = None
    for chunk in chunks:
        head = head or chunk
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            texts.append(choice["delta"].get("content") or "")
            reason = choice.get("finish_reason") or reason
    if not head:
        message = "no chunk, no answer"
        raise ValueError(message)
    said = {"role": "assistant", "content": "".join(texts), "refusal": None}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": reason}
    named = {name: head[name] for name in ("id", "created", "model")}
    return {**named, "object": "chat.completion", "choices": [choice], "usage": usage}


def embeddings(
    vectors: NDArray[np.float32], *, model: str, tokens: int, form: Literal["float", "base64"] | None
) -> dict[str, Any]:
    """The answer to a request of embeddings; `vectors`: `(texts, width)`. In base64, numbers are float32, little-endian."""
    little = vectors.astype("<f4")
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if form == "base64" else vector.tolist(),
        }
        for index, vector in enumerate(little)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}

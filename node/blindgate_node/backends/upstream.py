"""A server of OpenAI's API on this machine's loopback (vLLM, llama.cpp's server), to which opened requests are handed.

The server must be inside the same trusted environment: what goes to it is plaintext. So

1. its address is a loopback address in digits, over plain HTTP. A name would be looked up, and could be made to mean another
   machine;
2. no proxy that the environment names is used, no redirect followed;
3. what comes back is bounded and looked at before it is passed on, since a server of models parses hostile prompts all day.

Which weights the server has loaded is not seen from here. Who starts it says it by the folder that was checked for it. What it
keeps or logs of prompts is its own: start it with the logging of requests off.
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Never

import httpx2
import numpy as np

from blindgate_node.backends.answers import embeddings
from blindgate_node.backends.interface import Cancelled, Chunk, never
from blindgate_node.backends.requests import ChatRequest, EmbeddingRequest
from blindgate_protocol.errors import BackendError, ContextLengthError, InputError

MAX_LINE_BYTES: Final = 1 << 20
MAX_STREAM_BYTES: Final = 256 << 20
MAX_ANSWER_BYTES: Final = 256 << 20
MAX_REFUSAL_BYTES: Final = 1 << 16

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 600.0
_PORTS: Final = 1 << 16
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_CHUNK: Final = "chat.completion.chunk"
_TOO_LONG: Final = re.compile(rb"context_length_exceeded|exceed_context_size_error|(?:maximum|model's) context length")
"""How OpenAI, llama.cpp's server, and vLLM and SGLang say that a prompt is too long."""
_LONGEST: Final = re.compile(rb'maximum context length is (\d{1,9})|context length \((\d{1,9})|"n_ctx": ?(\d{1,9})')


def check_loopback(address: str) -> str:
    """Step 1: the address without a slash at its end. Raises `BackendError` saying what is expected."""
    try:
        url = httpx2.URL(address)
        loopback = ipaddress.ip_address(url.host).is_loopback and (url.port or 80) < _PORTS
    except (httpx2.InvalidURL, ValueError, TypeError):
        loopback = False
    if not loopback or url.scheme != "http" or url.userinfo or url.query or url.fragment or url.path not in {"", "/"}:
        message = f"upstream: got {address!r}, expected http://127.0.0.1:PORT or http://[::1]:PORT, in digits and without a path"
        raise BackendError(message)
    return str(url).rstrip("/")


class Upstream:
    """A model that such a server serves: chats and embeddings."""

    def __init__(self, address: str, model: str, *, key: str | None = None) -> None:
        """Hand requests to the server at `address` under its own name for the model, `model`; with `key` if it wants one.

        Raises `BackendError` for an address that is not loopback. Whether the server is there shows with the first request.
        """
        self._model = model
        self._http = httpx2.Client(
            base_url=check_loopback(address),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=False,  # 2.
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def chat(self, request: ChatRequest, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """The server's chunks as they come, under the model's name in the request (`interface.ChatBackend`).

        Closing the iterator closes the connection, at which these servers stop to compute.
        """
        body = request.model_dump(
            mode="json", exclude_none=True, exclude={"user", "metadata", "store", "stream_options"}
        )
        body |= {"model": self._model, "stream": True}
        if request.wants_usage:
            body["stream_options"] = {"include_usage": True}
        return self._chunks(body, request.model, cancelled)

    def embed(self, request: EmbeddingRequest) -> dict[str, Any]:
        """The server's vectors (`interface.EmbeddingBackend`)."""
        body = {"model": self._model, "input": list(request.texts), "encoding_format": "float"}
        with self._post("/v1/embeddings", body) as response:
            data = b"".join(_bounded(response, MAX_ANSWER_BYTES))
        return _read_embeddings(data, request)

    def _chunks(self, body: dict[str, Any], model: str, cancelled: Cancelled) -> Iterator[Chunk]:
        with self._post("/v1/chat/completions", body) as response:
            for line in _lines(_bounded(response, MAX_STREAM_BYTES)):  # 3.
                if cancelled():
                    return
                if not line.startswith(_DATA):
                    continue  # blank lines and comments, which keep a connection awake
                data = line.removeprefix(_DATA).strip()
                if data == _DONE:
                    return
                yield _read_chunk(data) | {"model": model}
        _refuse("ended its stream before it was done")

    @contextmanager
    def _post(self, path: str, body: dict[str, Any]) -> Iterator[httpx2.Response]:
        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.status_code in {400, 413, 422}:
                    raise _refusal(response)
                if response.status_code != httpx2.codes.OK:
                    _refuse(f"answered HTTP {response.status_code}")
                yield response
        except httpx2.TransportError as error:
            message = f"the model's server does not answer at {self._http.base_url} ({type(error).__name__})"
            raise BackendError(message) from None


def _refusal(response: httpx2.Response) -> InputError:
    """What to say of a refused request. Of the server's own words, which may quote it, no more than how much the model reads."""
    said = b""
    for data in response.iter_bytes():
        said += data
        if len(said) > MAX_REFUSAL_BYTES:
            break
    message = f"the model's server refused the request (HTTP {response.status_code})"
    if _TOO_LONG.search(said) is None:
        return InputError(message)
    longest = _LONGEST.search(said)
    reads = (
        "more than the model reads"
        if longest is None
        else f"the maximum context length is {int(longest[longest.lastindex or 0])} tokens"
    )
    return ContextLengthError(f"messages: {reads}; {message}")


def _bounded(response: httpx2.Response, most: int) -> Iterator[bytes]:
    left = most
    for data in response.iter_bytes():
        left -= len(data)
        if left < 0:
            _refuse(f"sent more than {most} bytes")
        yield data


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES or any(len(line) > MAX_LINE_BYTES for line in lines):
            _refuse(f"sent a line of more than {MAX_LINE_BYTES} bytes")
        yield from lines
    if rest:
        yield rest


def _read_chunk(data: bytes) -> Chunk:
    """A chunk that `answers.gather`, and a client, can read."""
    value = _parse(data)
    choices = value.get("choices")
    if value.get("object") != _CHUNK or not isinstance(choices, list) or not isinstance(value.get("id"), str):
        _refuse(f"sent something that is no {_CHUNK}")
    if not isinstance(value.get("created"), int) or not isinstance(value.get("usage"), dict | None):
        _refuse(f"sent a {_CHUNK} without its time, or with a usage that is no object")
    for choice in choices:
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if not isinstance(delta, dict) or not isinstance(delta.get("content"), str | None):
            _refuse("sent a choice without text")
    return value


def _read_embeddings(data: bytes, request: EmbeddingRequest) -> dict[str, Any]:
    value = _parse(data)
    try:
        listed = sorted(value["data"], key=lambda entry: entry["index"])
        vectors = np.array([entry["embedding"] for entry in listed], dtype=np.float32)
        tokens = int(value.get("usage", {}).get("prompt_tokens", 0))
        indices = [entry["index"] for entry in listed]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        _refuse("sent something that is no list of embeddings")
    if indices != list(range(len(request.texts))) or vectors.ndim != 2 or not np.isfinite(vectors).all():  # noqa: PLR2004
        _refuse(f"sent embeddings that are not one finite vector for each of {len(request.texts)} texts")
    return embeddings(vectors, model=request.model, tokens=tokens, form=request.encoding_format)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _refuse("sent something that is no JSON object")
    return value


def _refuse(what: str) -> Never:
    message = f"the model's server {what}"
    raise BackendError(message)

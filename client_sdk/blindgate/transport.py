"""The only way out: every byte that this SDK sends or receives goes through here.

- Proxies come from the usual environment variables, certificates from the system, `SSL_CERT_FILE` or a bundle that the caller
  names: as users of HTTP libraries expect.
- Every request can be repeated without harm (blobs are named by digest, jobs by an id that the client chose), so a connection
  that breaks, or a gateway that says it is restarting or asked for too much, is tried again a few times, with growing pauses, and
  not before the gateway said (`Retry-After`).
- A part of a blob goes out piece by piece: however often it is sent, it is never copied whole.
- What comes back is bounded before it is read: a gateway cannot fill this machine's memory.
- A problem (RFC 9457) becomes the error of the same `code`.
- Parts of blobs may go to a store that the gateway names (`put_elsewhere`), on connections of their own: without the API key, never
  to where that store points instead, and by HTTPS if the gateway is reached so.
"""

import os
import random
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

import httpx2
from pydantic import ValidationError

from blindgate_protocol.errors import (
    BudgetSpentError,
    ClockSkewError,
    GatewayError,
    GatewayUnreachableError,
    MalformedError,
    NotAuthorisedError,
    NotFoundError,
)
from blindgate_protocol.messages import Problem
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Value
from blindgate_telemetry import NO_TRACES, Traces, open_traces

MAX_ANSWER_BYTES = 16 << 20
"""The most that a JSON answer may have."""

_ATTEMPTS = 5
_PIECE_BYTES = 1 << 18
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_LONGEST_WAIT = 30.0
_FLUSH_SECONDS = 3.0
_STATUS_MISSING, _STATUS_BUSY, _STATUS_FAULT = 404, frozenset({429, 502, 503, 504}), 500
_STATUS_NOT_AUTHORISED = frozenset({401, 403})

AnswerT = TypeVar("AnswerT", bound=Value)


class Transport:
    """A gateway, as HTTP."""

    def __init__(self, url: str, api_key: str, *, ca: str | None = None) -> None:
        """Connect to `url` on first use. `ca` is a file of CA certificates to trust instead of the system's."""
        if not re.match(r"https?://[^/]", url):
            message = f"not a gateway's address: {url!r}; expected http:// or https:// and a host"
            raise GatewayError(message)
        if not re.fullmatch(r"[!-~]+", api_key):  # what a header can hold; and an error of HTTP's would show the key
            message = "not an API key: it is empty, or holds a space, a line's end or a character that is not ASCII"
            raise GatewayError(message)
        self.url = url.rstrip("/")
        self.traces = _traces()
        self._counting = threading.Lock()
        self.bytes_sent = 0
        self.bytes_received = 0
        try:
            verify = ssl.create_default_context(cafile=ca) if ca else True
            self._http = httpx2.Client(
                base_url=self.url,
                headers={
                    "Authorization": f"Bearer {api_key}",
                    "User-Agent": "blindgate-sdk",
                    "Accept-Encoding": "identity",  # sizes are checked on the bytes as sent
                },
                timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
                verify=verify,
            )
            self._elsewhere = httpx2.Client(
                headers={"Accept-Encoding": "identity"},
                timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
                verify=verify,
                follow_redirects=False,
            )
        except OSError as error:
            where = ca or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "the system's"
            message = f"CA certificates {where}: {error.strerror or error}"
            raise GatewayError(message) from error
        except (httpx2.InvalidURL, ValueError) as error:
            message = f"not a gateway's address: {url!r}"
            raise GatewayError(message) from error

    def get(self, path: str, answer: type[AnswerT], *, wait: float = 0.0) -> AnswerT:
        """GET a message. `wait` is for how many seconds the gateway may hold the answer back."""
        return _parsed(self._send("GET", path, most=MAX_ANSWER_BYTES, wait=wait), answer)

    def post(self, path: str, body: Value | None, answer: type[AnswerT], *, wait: float = 0.0) -> AnswerT:
        """POST a message and parse the answer. `wait` is for how many seconds more than usual it may take."""
        return _parsed(self._post(path, body, wait=wait), answer)

    def post_only(self, path: str, body: Value | None = None) -> None:
        """POST a message; the answer has no body."""
        self._post(path, body)

    def put(self, path: str, data: bytes | memoryview, answer: type[AnswerT], *, wait: float = 0.0) -> AnswerT:
        """PUT raw bytes and parse the answer. `wait` is for how many seconds more than usual it may take."""
        headers = {"Content-Type": "application/octet-stream"}
        return _parsed(self._send("PUT", path, data, headers, most=MAX_ANSWER_BYTES, wait=wait), answer)

    def put_message(self, path: str, body: Value, answer: type[AnswerT]) -> AnswerT:
        """PUT a message and parse the answer."""
        data = body.model_dump_json().encode()
        return _parsed(
            self._send("PUT", path, data, {"Content-Type": "application/json"}, most=MAX_ANSWER_BYTES), answer
        )

    def delete(self, path: str) -> None:
        """DELETE what is there; the answer has no body."""
        self._send("DELETE", path, most=MAX_ANSWER_BYTES)

    def put_elsewhere(self, url: str, data: bytes | memoryview) -> bool:
        """PUT raw bytes to a store that the gateway named, by a URL that is the permission. Whether the store took them.

        Raises `MalformedError` for a URL that a gateway has no business to name.
        """
        try:
            target = httpx2.URL(url)
        except httpx2.InvalidURL:
            target = httpx2.URL()
        allowed = {"https"} if self.url.startswith("https:") else {"https", "http"}
        if target.scheme not in allowed or not target.host or target.userinfo:
            message = "the gateway names an address for a part that is none, or is less safe than its own"
            raise MalformedError(message)
        for pause in _pauses():
            content, length = _content(data)
            try:
                with self._elsewhere.stream("PUT", target, content=content, headers=length) as response:
                    self._count(sent=len(data))
            except httpx2.TransportError:
                if pause is None:
                    return False
                time.sleep(pause)
                continue
            if pause is None or response.status_code not in _STATUS_BUSY | {_STATUS_FAULT}:
                return response.is_success
            time.sleep(max(pause, (_retry_after(response) or 0.0) * _jitter()))
        raise AssertionError  # the last pause is None

    def download(self, path: str, size: int) -> bytes:
        """GET a blob of exactly `size` bytes. Raises `MalformedError` when there are more or fewer."""
        data = self._send("GET", path, most=size)
        if len(data) != size:
            message = f"{path}: got {len(data)} bytes, expected {size}"
            raise MalformedError(message)
        return data

    def fetch(self, path: str, most: int) -> bytes:
        """GET bytes of which nobody knows how many there are. Raises `MalformedError` when there are more than `most`."""
        return self._send("GET", path, most=most)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._elsewhere.close()
        self.traces.close(seconds=_FLUSH_SECONDS)

    def _post(self, path: str, body: Value | None, *, wait: float = 0.0) -> bytes:
        data = b"" if body is None else body.model_dump_json().encode()
        return self._send("POST", path, data, {"Content-Type": "application/json"}, most=MAX_ANSWER_BYTES, wait=wait)

    def _send(  # noqa: PLR0913  (a request's parts)
        self,
        method: str,
        path: str,
        data: bytes | memoryview = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int,
        wait: float = 0.0,
    ) -> bytes:
        timeout = httpx2.Timeout(_READ_SECONDS + wait, connect=_CONNECT_SECONDS)
        for pause in _pauses():
            content, length = (None, {}) if method in {"GET", "DELETE"} else _content(data)
            sent = {**(headers or {}), **length}
            try:
                with (
                    self.traces.asking(method, path, server=self.url) as asked,
                    self._http.stream(
                        method, path, content=content, headers={**sent, **asked.headers}, timeout=timeout
                    ) as response,
                ):
                    asked.answered(response.status_code)
                    self._count(sent=len(data))
                    body = self._read(path, response, most if response.is_success else MAX_ANSWER_BYTES)
            except httpx2.TransportError as error:
                if pause is None:
                    message = f"no answer from the gateway at {self.url}: {error or type(error).__name__}"
                    raise GatewayUnreachableError(message) from error
                time.sleep(pause)
                continue
            if response.is_success:
                return body
            if pause is None or response.status_code not in _STATUS_BUSY:
                raise _problem(method, path, response, body)
            time.sleep(max(pause, (_retry_after(response) or 0.0) * _jitter()))
        raise AssertionError  # the last pause is None

    def _read(self, path: str, response: httpx2.Response, most: int) -> bytes:
        chunks = []
        length = 0
        for chunk in response.iter_raw():
            length += len(chunk)
            if length > most:
                message = f"{path}: the gateway sends more than the {most} bytes that were expected"
                raise MalformedError(message)
            chunks.append(chunk)
        self._count(received=length)
        return b"".join(chunks)

    def _count(self, *, sent: int = 0, received: int = 0) -> None:
        with self._counting:
            self.bytes_sent += sent
            self.bytes_received += received


def _traces() -> Traces:
    """Where this process's traces go. The variables may be meant for others: without the extra there are just none."""
    try:
        return open_traces("blindgate-sdk")
    except ImportError:
        return NO_TRACES


def _content(data: bytes | memoryview) -> tuple[bytes | Iterator[bytes], dict[str, str]]:
    """A body for one attempt, and what its header says of its length where that cannot be seen."""
    if isinstance(data, bytes):
        return data, {}
    pieces = (bytes(data[start : start + _PIECE_BYTES]) for start in range(0, len(data), _PIECE_BYTES))
    return pieces, {"Content-Length": str(len(data))}


def _pauses() -> Iterator[float | None]:
    """Seconds to wait after each attempt but the last, growing, with jitter so that clients do not march in step."""
    for attempt in range(_ATTEMPTS - 1):
        yield 0.1 * 2**attempt * (0.5 + random.random())  # noqa: S311  (a pause is no secret)
    yield None


def _jitter() -> float:
    return 1.0 + random.random() / 4  # noqa: S311  (a pause is no secret)


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds that the gateway asks to wait; no gateway makes this process wait for longer than half a minute."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _parsed(body: bytes, answer: type[AnswerT]) -> AnswerT:
    try:
        return answer.model_validate_json(body)
    except ValidationError as error:
        message = f"the gateway's answer is malformed: {first_error(error)}"
        raise MalformedError(message) from error


def _problem(method: str, path: str, response: httpx2.Response, body: bytes) -> GatewayError:
    status = response.status_code
    try:
        problem = Problem.model_validate_json(body)
        code, detail = problem.code, problem.detail
    except ValidationError:
        code, detail = None, "the answer has no problem description; is this a Blindgate gateway?"
    message = f"{method} {path}: the gateway answered {status}: {detail}"
    if status == _STATUS_MISSING:
        return NotFoundError(message, status=status, problem=code)
    if code == BudgetSpentError.code:
        return BudgetSpentError(message, status=status, problem=code)
    if code == ClockSkewError.code:
        return ClockSkewError(f"{message}: set this machine's clock right", status=status, problem=code)
    if status in _STATUS_NOT_AUTHORISED:
        return NotAuthorisedError(message, status=status, problem=code)
    return GatewayError(message, status=status, problem=code, retry_after=_retry_after(response))

"""The node's only way out: its gateway, as HTTP.

- One pool of connections, kept alive: a job costs no handshake.
- Everything that a lease holder does can be repeated without harm, so a connection that breaks, or a gateway that restarts, is
  tried again with growing pauses, for as long as the caller says that it still makes sense, and not before the gateway said
  (`Retry-After`).
- Every request is signed with the node's own key (RFC 9421): there is no secret that a gateway, or who reads its disk, could lose.
- What comes back is bounded before it is read.
- A lease that is not this node's any more is `LeaseLostError`, whatever the command was.
"""

import random
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import ValidationError

from blindgate_protocol.attestations import AttestationAnswer, AttestationPoll, AttestationWork
from blindgate_protocol.canonical import digest as digest_of
from blindgate_protocol.errors import (
    BlindgateError,
    ClockSkewError,
    GatewayError,
    GatewayUnreachableError,
    LeaseLostError,
    MalformedError,
    NotAuthorisedError,
    NotFoundError,
)
from blindgate_protocol.http_signatures import (
    CONTENT_DIGEST,
    NONCE_BYTES,
    content_digest,
    sign_request,
    signed_fields,
)
from blindgate_protocol.messages import (
    LEASE_HEADER,
    AnswerPart,
    Commit,
    EnrolmentAnswer,
    EnrolmentBody,
    EvictionReport,
    Heartbeat,
    Lease,
    LeaseRequest,
    Problem,
    Refusal,
    Release,
)
from blindgate_protocol.signing import SigningKey, first_error
from blindgate_protocol.values import Value
from blindgate_telemetry import NO_TRACES, Traces

MAX_ANSWER_BYTES = 4 << 20
"""The most that a JSON answer may have: a lease carries two envelopes and perhaps a small input."""

_CONNECT_SECONDS, _READ_SECONDS = 5.0, 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_CHUNK_BYTES = 1 << 18
_NO_CONTENT, _CONFLICT, _MISSING, _NOT_AUTHORISED = 204, 409, 404, frozenset({401, 403})
_LIMITED, _ENROLMENTS = 429, 4
_LONGEST_WAIT = 30.0
_BUSY = frozenset({429, 502, 503, 504})
_REPLAYED = "replayed"
"""What a gateway says when something on the way sent a request twice: the next one is signed anew."""

AnswerT = TypeVar("AnswerT", bound=Value)
AnyT = TypeVar("AnyT")
GoOn = Callable[[], bool]


@dataclass(frozen=True)
class LeaseName:
    """What a command about a lease carries."""

    job: str
    generation: int
    token: str

    @property
    def header(self) -> str:
        """The value of the lease header."""
        return f"{self.generation}.{self.token}"

    def __repr__(self) -> str:
        return f"LeaseName({self.job}, generation {self.generation})"


class Gateway:
    """A gateway, from its node's side. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        *,
        key: SigningKey | None = None,
        ca: Path | None = None,
        connections: int = 16,
        traces: Traces = NO_TRACES,
    ) -> None:
        """Connect on first use. Requests are signed with `key`. Raises `GatewayError` on what is no address."""
        self.url = url
        self._key = key
        self._traces = traces
        try:
            self._http = httpx2.Client(
                base_url=url,
                headers={"User-Agent": "blindgate-node"},
                timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(
                    max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60.0
                ),
                verify=ssl.create_default_context(cafile=ca) if ca else True,
            )
        except (httpx2.InvalidURL, ValueError, OSError) as error:
            message = f"not a gateway's address, or not a file of CA certificates: {url!r}, {ca}"
            raise GatewayError(message) from error

    def enrol(self, body: EnrolmentBody) -> EnrolmentAnswer:
        """Ask to be taken in. The token is good for one answer, so it is sent again only when nobody looked at it (429)."""
        for _ in range(_ENROLMENTS - 1):
            try:
                return _parsed(self._once("POST", "/v1/nodes", body=body), EnrolmentAnswer)
            except GatewayError as error:
                if error.status != _LIMITED:
                    raise
                time.sleep((error.retry_after or 1.0) * _jitter())
        return _parsed(self._once("POST", "/v1/nodes", body=body), EnrolmentAnswer)

    def lease(self, request: LeaseRequest) -> Lease | None:
        """Ask for work, once; `None` when there is none."""
        body = self._once("POST", "/v1/leases", body=request, wait=request.wait / 1000)
        return _parsed(body, Lease) if body else None

    def heartbeat(self, lease: LeaseName) -> Heartbeat:
        """Say that the job is still worked on, once."""
        return _parsed(self._once("POST", f"/v1/leases/{lease.job}/heartbeat", lease=lease), Heartbeat)

    def report(self, evictions: EvictionReport) -> None:
        """Hand in what was signed about keys that are forgotten, once."""
        self._once("POST", "/v1/evictions", body=evictions)

    def question(self, poll: AttestationPoll) -> AttestationWork | None:
        """Take a question about evidence, once; `None` when there is none."""
        body = self._once("POST", "/v1/questions", body=poll, wait=poll.wait / 1000)
        return _parsed(body, AttestationWork) if body else None

    def answer(self, question: str, answer: AttestationAnswer) -> None:
        """Answer a question, once."""
        self._once("POST", f"/v1/questions/{question}/answer", body=answer)

    def refuse_question(self, question: str, refusal: Refusal) -> None:
        """Say why a question is not answered, once."""
        self._once("POST", f"/v1/questions/{question}/refuse", body=refusal)

    def download(self, lease: LeaseName, digest: str, take: Callable[[Iterator[bytes]], AnyT], go_on: GoOn) -> AnyT:
        """Stream a blob of the job's into `take`, from its start again when the connection breaks."""
        return self._streamed(f"/v1/leases/{lease.job}/blobs/{digest}", lease, take, go_on)

    def download_of_corpus(
        self, lease: LeaseName, corpus: str, digest: str, take: Callable[[Iterator[bytes]], AnyT], go_on: GoOn
    ) -> AnyT:
        """Stream a blob of a corpus of the job's tenant, as `download`. Raises `NotFoundError` for one that it does not need."""
        return self._streamed(f"/v1/leases/{lease.job}/corpora/{corpus}/blobs/{digest}", lease, take, go_on)

    def put_result(self, lease: LeaseName, data: bytes, digest: str, go_on: GoOn) -> None:
        """Store the job's result."""
        path = f"/v1/leases/{lease.job}/result"
        _patiently(lambda: self._once("PUT", path, lease=lease, data=data, digest=digest), go_on)

    def add_part(self, lease: LeaseName, part: AnswerPart) -> None:
        """Send a part of a sealed answer, once: what does not arrive comes with the result."""
        self._once("POST", f"/v1/leases/{lease.job}/answer", lease=lease, body=part)

    def commit(self, lease: LeaseName, commit: Commit, go_on: GoOn) -> None:
        """Finish the job. The same receipt again is the same answer, so it is repeated until one is known."""
        _patiently(lambda: self._once("POST", f"/v1/leases/{lease.job}/commit", lease=lease, body=commit), go_on)

    def refuse(self, lease: LeaseName, refusal: Refusal, go_on: GoOn) -> None:
        """Say that the job can never be computed."""
        _patiently(lambda: self._once("POST", f"/v1/leases/{lease.job}/refuse", lease=lease, body=refusal), go_on)

    def release(self, lease: LeaseName, release: Release, go_on: GoOn) -> None:
        """Give the job back."""
        _patiently(lambda: self._once("POST", f"/v1/leases/{lease.job}/release", lease=lease, body=release), go_on)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _streamed(self, path: str, lease: LeaseName, take: Callable[[Iterator[bytes]], AnyT], go_on: GoOn) -> AnyT:
        def attempt() -> AnyT:
            with self._stream("GET", path, lease=lease) as response:
                return take(response.iter_raw(_CHUNK_BYTES))

        return _patiently(attempt, go_on)

    def _once(  # noqa: PLR0913
        self,
        method: str,
        path: str,
        *,
        lease: LeaseName | None = None,
        body: Value | None = None,
        data: bytes = b"",
        digest: str | None = None,
        wait: float = 0.0,
    ) -> bytes:
        if body is not None:
            data = body.model_dump_json().encode()
        media = {} if not data else {"Content-Type": "application/octet-stream" if body is None else "application/json"}
        digest = digest_of(data) if data and digest is None else digest
        with self._stream(method, path, lease=lease, data=data, digest=digest, headers=media, wait=wait) as response:
            return b"" if response.status_code == _NO_CONTENT else _read(response)

    @contextmanager
    def _stream(  # noqa: PLR0913
        self,
        method: str,
        path: str,
        *,
        lease: LeaseName | None = None,
        data: bytes = b"",
        digest: str | None = None,
        headers: dict[str, str] | None = None,
        wait: float = 0.0,
    ) -> Iterator[httpx2.Response]:
        """Open one answer. Raises the problem's error when it is one, and `GatewayUnreachableError` when there is none."""
        signed = dict(headers or {}) | self._signed(method, path, lease, digest)
        timeout = httpx2.Timeout(_READ_SECONDS + wait, connect=_CONNECT_SECONDS)
        content = None if method == "GET" else data
        try:
            with (
                self._traces.asking(method, path, server=self.url) as asked,
                self._http.stream(
                    method, path, content=content, headers=signed | dict(asked.headers), timeout=timeout
                ) as response,
            ):
                asked.answered(response.status_code)
                if not response.is_success:
                    raise _problem(method, path, response, _read(response))
                yield response
        except httpx2.TransportError as error:
            message = f"no answer from the gateway at {self.url}: {error or type(error).__name__}"
            raise GatewayUnreachableError(message) from error

    def _signed(self, method: str, path: str, lease: LeaseName | None, digest: str | None) -> dict[str, str]:
        """What a signature covers of the header, and the signature: another one each time, since a nonce is good once."""
        announced = None if digest is None else content_digest(digest)
        held = None if lease is None else lease.header
        fields = {} if announced is None else {CONTENT_DIGEST: announced}
        fields |= {} if held is None else {LEASE_HEADER: held}
        if self._key is None:
            return fields
        return fields | sign_request(
            self._key,
            method=method,
            target=self.url + path,
            fields=signed_fields(announced, held),
            created=int(time.time()),
            nonce=secrets.token_bytes(NONCE_BYTES),
        )


def pauses() -> Iterator[float]:
    """Seconds to wait between attempts, growing, with jitter so that nodes do not march in step."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * (0.5 + random.random())  # noqa: S311  (a pause is no secret)
        pause = min(pause * 2, _LONGEST_PAUSE)


def wait_after(error: BlindgateError, pause: float) -> float:
    """How long to wait after `error`: `pause`, or, where the gateway asked for more, that much, and half a minute at most."""
    asked = error.retry_after if isinstance(error, GatewayError) else None
    return pause if asked is None else max(pause, asked * _jitter())


def _jitter() -> float:
    return 1.0 + random.random() / 4  # noqa: S311  (a pause is no secret)


def _patiently(attempt: Callable[[], AnyT], go_on: GoOn) -> AnyT:
    for pause in pauses():
        try:
            return attempt()
        except GatewayError as error:
            again = isinstance(error, GatewayUnreachableError) or error.status in _BUSY or error.problem == _REPLAYED
            if not again or not go_on():
                raise
            wait = wait_after(error, pause)
        end = time.monotonic() + wait
        while time.monotonic() < end and go_on():
            time.sleep(min(wait, 0.1))
    raise AssertionError  # pauses() does not end


def _read(response: httpx2.Response) -> bytes:
    chunks, length = [], 0
    for chunk in response.iter_raw():
        length += len(chunk)
        if length > MAX_ANSWER_BYTES:
            message = f"the gateway answered more than {MAX_ANSWER_BYTES} bytes"
            raise MalformedError(message)
        chunks.append(chunk)
    return b"".join(chunks)


def _parsed(body: bytes, answer: type[AnswerT]) -> AnswerT:
    try:
        return answer.model_validate_json(body)
    except ValidationError as error:
        message = f"the gateway's answer is malformed: {first_error(error)}"
        raise MalformedError(message) from error


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _problem(method: str, path: str, response: httpx2.Response, body: bytes) -> GatewayError | LeaseLostError:
    status = response.status_code
    details: dict[str, Any]
    try:
        problem = Problem.model_validate_json(body)
        details = {"status": status, "problem": problem.code, "retry_after": _retry_after(response)}
        message = f"{method} {path}: the gateway answered {status}: {problem.detail}"
    except ValidationError:
        details = {"status": status, "problem": None, "retry_after": _retry_after(response)}
        message = f"{method} {path}: the gateway answered {status} without saying why; is it a Blindgate gateway?"
    if status == _CONFLICT and details["problem"] == LeaseLostError.code:
        return LeaseLostError(message)
    if status == _MISSING:
        return NotFoundError(message, **details)
    if details["problem"] == ClockSkewError.code:
        return ClockSkewError(f"{message}: set this machine's clock right", **details)
    if status in _NOT_AUTHORISED and details["problem"] != _REPLAYED:
        return NotAuthorisedError(message, **details)
    return GatewayError(message, **details)

"""Bytes from a gateway, or from whatever serves a log: the only way out of the auditor's side.

Nothing that comes back is believed, and nothing that comes back can hurt:

- an answer has a most, set before it is read, and a time in which all of it must have come, however slowly it drips;
- nobody is sent elsewhere: a redirect is a refusal, and the API key goes to the address that it was given for;
- everything is only read, so what fails for want of an answer is tried again a few times, with growing pauses.

Proxies come from the usual environment variables, certificates from the system, `SSL_CERT_FILE` or a bundle that the caller names.
One `Web` may be used from several threads.
"""

import os
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Final

import httpx2
from pydantic import ValidationError

from blindgate_protocol.errors import (
    GatewayError,
    GatewayUnreachableError,
    MalformedError,
    NotAuthorisedError,
    NotFoundError,
)
from blindgate_protocol.messages import Problem

MOST_SECONDS = 60.0
"""How long one answer may take, from the request to its last byte."""

_ATTEMPTS: Final = 4
_CONNECT_SECONDS: Final = 10.0
_LONGEST_WAIT: Final = 30.0
_MOST_PROBLEM_BYTES: Final = 1 << 16
_MISSING: Final = 404
_NOT_AUTHORISED: Final = frozenset({401, 403})
_BUSY: Final = frozenset({429, 502, 503, 504})


class Web:
    """What lies under one address."""

    def __init__(self, url: str, *, api_key: str | None = None, ca: str | None = None) -> None:
        """Connect to `url` on first use. `ca` is a file of CA certificates to trust instead of the system's.

        Raises `GatewayError` for what is no address, no API key, or no certificate.
        """
        if not re.match(r"https?://[^/]", url):
            message = f"not an address: {url!r}; expected http:// or https:// and a host"
            raise GatewayError(message)
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):  # an error of HTTP's would show it
            message = "not an API key: it is empty, or holds a space, a line's end or a character that is not ASCII"
            raise GatewayError(message)
        self.url = url.rstrip("/")
        self._seconds = MOST_SECONDS
        headers = {"User-Agent": "blindgate-audit", "Accept-Encoding": "identity"}  # sizes are of the bytes as sent
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._http = httpx2.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx2.Timeout(self._seconds, connect=min(_CONNECT_SECONDS, self._seconds)),
                verify=ssl.create_default_context(cafile=ca) if ca else True,
                follow_redirects=False,
            )
        except OSError as error:
            where = ca or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "the system's"
            message = f"CA certificates {where}: {error.strerror or error}"
            raise GatewayError(message) from error
        except (httpx2.InvalidURL, ValueError) as error:
            message = f"not an address: {url!r}"
            raise GatewayError(message) from error

    def fetch(self, path: str, *, most: int, parameters: Mapping[str, str] | None = None) -> bytes:
        """GET what lies at `path`, at most `most` bytes.

        Raises `MalformedError` for more than that, `NotFoundError`, `NotAuthorisedError`, `GatewayUnreachableError` where nothing
        answers in time, and `GatewayError` for every other refusal.
        """
        for pause in _pauses():
            try:
                with self._http.stream("GET", path, params=dict(parameters or {})) as response:
                    bound = most if response.is_success else _MOST_PROBLEM_BYTES
                    body = self._read(path, response, bound)
            except httpx2.TransportError as error:
                if pause is None:
                    message = f"no answer from {self.url}: {error or type(error).__name__}. {_cause(error)}"
                    raise GatewayUnreachableError(message) from error
                time.sleep(pause)
                continue
            if response.is_success:
                return body
            if pause is None or response.status_code not in _BUSY:
                raise self._refusal(path, response, body)
            time.sleep(max(pause, _retry_after(response)))
        raise AssertionError  # the last pause is None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _read(self, path: str, response: httpx2.Response, most: int) -> bytes:
        pieces: list[bytes] = []
        length, ends = 0, time.monotonic() + self._seconds
        for piece in response.iter_raw():
            length += len(piece)
            if length > most:
                message = f"{self.url}{path}: more than the {most} bytes that this can have"
                raise MalformedError(message)
            if time.monotonic() > ends:
                message = f"{self.url}{path}: the answer is not whole after {self._seconds:g} seconds"
                raise GatewayUnreachableError(message)
            pieces.append(piece)
        return b"".join(pieces)

    def _refusal(self, path: str, response: httpx2.Response, body: bytes) -> GatewayError:
        status = response.status_code
        where = f"{self.url}{path}"
        if response.has_redirect_location:
            return GatewayError(f"{where}: sent elsewhere (status {status}); redirects are not followed", status=status)
        try:
            problem = Problem.model_validate_json(body)
            code, detail = problem.code, problem.detail
        except ValidationError:
            code, detail = None, "no description of the problem; is this a Blindgate gateway?"
        message = f"{where}: refused with status {status}: {detail}"
        if status == _MISSING:
            return NotFoundError(message, status=status, problem=code)
        if status in _NOT_AUTHORISED:
            return NotAuthorisedError(message, status=status, problem=code)
        return GatewayError(message, status=status, problem=code)


def _cause(error: httpx2.TransportError) -> str:
    """What whoever sees this should look at."""
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return "Its certificate is not from an authority that is trusted here: --ca names a file of those to trust"
    if "SSL" in said:
        return "What listens there does not speak TLS as it should: is it an http:// address?"
    return "Is this the right address, and does the gateway run?"


def _pauses() -> Iterator[float | None]:
    """Seconds to wait after each attempt but the last."""
    for attempt in range(_ATTEMPTS - 1):
        yield 0.1 * 3**attempt * (0.5 + random.random())  # noqa: S311  (a pause is no secret)
    yield None


def _retry_after(response: httpx2.Response) -> float:
    """The seconds that the other side asks to wait, and not longer than half a minute."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if re.fullmatch(r"[0-9]{1,9}", text) else 0.0

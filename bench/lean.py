"""An HTTP client that costs little: what loads a gateway shares its cores, and should leave them to it.

The standard library's connection, and as much of httpx2's face as the callers of the tests look at.
"""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2


@dataclass
class _Answer:
    status_code: int
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class _Client:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.base_url = url
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def request(self, method: str, path: str, *, content: bytes | None, headers: Mapping[str, str]) -> _Answer:
        self._connection.request(method, path, content, headers)
        answer = self._connection.getresponse()
        return _Answer(answer.status, answer.read())

    def close(self) -> None:
        self._connection.close()


@contextmanager
def lean_client(url: str) -> Iterator[httpx2.Client]:
    """What stands for a client of the gateway at `url`, with one connection."""
    client = _Client(url)
    try:
        yield cast("httpx2.Client", client)
    finally:
        client.close()

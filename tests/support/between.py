"""A real HTTP proxy that stands between a client and its gateway, and may lie.

It passes every request on and every answer back; `Proxy.lie` is given each answer before the client is, and `Proxy.overhear` each
request's method and path before its body is read. `Proxy.heard` is what the client said: method, path, and how many bytes. With
`Proxy.hasty` it asks for no answer to be waited for.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

import httpx2

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


class Said(NamedTuple):
    """One request of the client."""

    method: str
    path: str
    size: int


class Answer(NamedTuple):
    """What the gateway answered, or what the client is to believe that it did."""

    status: int
    body: bytes


Lie = Callable[[str, str, Answer], Answer]
"""Given the method, the path and the gateway's answer, gives the answer that the client gets."""


def honest(_method: str, _path: str, answer: Answer) -> Answer:
    """No lie."""
    return answer


class Proxy:
    """A proxy in front of `gateway`, as a context manager."""

    def __init__(self, gateway: str) -> None:
        self.lie: Lie = honest
        self.overhear: Callable[[str, str], None] = lambda _method, _path: None
        self.heard: list[Said] = []
        self.hasty = False
        self._upstream = httpx2.Client(base_url=gateway, timeout=90)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._upstream.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the client was killed
                    super().handle()

            def _pass_on(self) -> None:
                proxy.overhear(self.command, self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                proxy.heard.append(Said(self.command, self.path, len(body)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
                path = self.path.replace("wait=", "hurry=") if proxy.hasty else self.path
                got = proxy._upstream.request(self.command, path, content=body or None, headers=headers)
                answer = proxy.lie(self.command, self.path, Answer(got.status_code, got.content))
                self.send_response(answer.status)
                for name, value in got.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815  (http.server's names)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its parent's name)
                """Say nothing."""

        return Handler

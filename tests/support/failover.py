"""An HTTP client of several gateways: what a load balancer in front of them does for clients and nodes."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx2

ADDRESS = "http://blindgate.test"
"""The name under which the gateways are known together."""
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.02


class Failover(httpx2.BaseTransport):
    """Sends each request to one of `urls`, in turn, and to the next when that one does not answer or cannot now."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [httpx2.URL(url) for url in urls]
        self._transport = httpx2.HTTPTransport()
        self._next = 0
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Insist until one of them has answered."""
        body = request.read()
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            with self._lock:
                self._next = (self._next + 1) % len(self._urls)
                to = self._urls[self._next]
            url = request.url.copy_with(scheme=to.scheme, host=to.host, port=to.port)
            sent = httpx2.Request(request.method, url, headers=request.headers, content=body)
            try:
                response = self._transport.handle_request(sent)
                response.read()
                if response.status_code < httpx2.codes.INTERNAL_SERVER_ERROR:
                    return response
            except httpx2.TransportError:
                pass
            time.sleep(_PAUSE_SECONDS)
        message = "no gateway answers"
        raise httpx2.ConnectTimeout(message)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


@contextmanager
def failover_client(urls: Sequence[str]) -> Iterator[httpx2.Client]:
    """An HTTP client of whichever of the gateways answers."""
    with httpx2.Client(transport=Failover(urls), base_url=ADDRESS, timeout=60) as http:
        yield http

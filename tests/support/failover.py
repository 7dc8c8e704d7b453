"""An HTTP client of several gateways: what a load balancer in front of them does for clients and nodes."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import httpx2

ADDRESS = "http://blindgate.test"
"""The name under which the gateways are known together."""
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.02


class Failover(httpx2.BaseTransport):
    """Sends requests to `urls` in turn.

    A request is sent once: a node's signature is good for one. Whoever sent it tries again (`insist`).
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [httpx2.URL(url) for url in urls]
        self._transport = httpx2.HTTPTransport()
        self._next = 0
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it to the next."""
        with self._lock:
            self._next = (self._next + 1) % len(self._urls)
            to = self._urls[self._next]
        url = request.url.copy_with(scheme=to.scheme, host=to.host, port=to.port)
        sent = httpx2.Request(request.method, url, headers=request.headers, content=request.read())
        return self._transport.handle_request(sent)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def insist(send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Send anew until there is an answer that is not a dying gateway's."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with suppress(httpx2.TransportError):
            response = send()
            if response.status_code < httpx2.codes.INTERNAL_SERVER_ERROR:
                return response
        time.sleep(_PAUSE_SECONDS)
    message = "no gateway answers"
    raise TimeoutError(message)


@contextmanager
def failover_client(urls: Sequence[str]) -> Iterator[httpx2.Client]:
    """An HTTP client of whichever of the gateways answers."""
    with httpx2.Client(transport=Failover(urls), base_url=ADDRESS, timeout=60) as http:
        yield http

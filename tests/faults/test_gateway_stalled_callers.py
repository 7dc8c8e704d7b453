"""Callers that fall silent in the middle of something, or say too much, and more of them than there are descriptors."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from brokerage import GatewayProcess, Keys, http_client, make_settings
from descriptors import few_descriptors

THREADS = 4
STALL_MS = 400


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of few threads and little patience."""
    gateway = GatewayProcess(make_settings(tmp_path / "gateway", Keys(), threads=THREADS, stall=STALL_MS))
    gateway.start()
    yield gateway
    gateway.stop()


def connect(gateway: GatewayProcess, said: bytes = b"", **options: Any) -> socket.socket:
    """A connection that has said something."""
    connection = socket.socket()
    connection.settimeout(30)
    if "receive" in options:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive"])
    connection.connect(("127.0.0.1", gateway.settings.port))
    connection.sendall(said)
    return connection


def answers_soon(gateway: GatewayProcess) -> bool:
    """Whether a stranger's question is answered, though not at once."""
    with http_client(gateway.url) as http:
        return http.get("/healthz", timeout=30).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET /heal", id="half a request"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\n", id="half of the headers"),
        pytest.param(b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{", id="half a body"),
    ],
)
def test_callers_that_fall_silent_do_not_hold_the_gateway(gateway: GatewayProcess, said: bytes) -> None:
    """As many as there are threads, and nobody needs a credential for it."""
    with ExitStack() as stack:
        for _ in range(2 * THREADS):
            stack.enter_context(connect(gateway, said))
        assert answers_soon(gateway)
    assert '"failed"' not in gateway.log.read_text()
    assert "Traceback" not in gateway.log.read_text()


def test_a_body_that_stops_is_told_so(gateway: GatewayProcess) -> None:
    """Whoever is only slow learns why its request came to nothing."""
    with connect(gateway, b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{") as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_a_connection_outlives_a_large_body_that_was_refused(gateway: GatewayProcess) -> None:
    """The answer says that the connection stays, and the next request on it may be one that nobody repeats."""
    head = b"PUT /v1/uploads/none/parts/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    with connect(gateway, head + bytes(1_000_000)) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_caller_that_takes_nothing_of_its_answer_is_let_go(gateway: GatewayProcess) -> None:
    """A large answer that nobody reads holds a thread for so long, and not longer."""
    with ExitStack() as stack:
        for _ in range(2 * THREADS):
            # Many questions on one connection: together their answers are more than the kernel takes.
            stack.enter_context(connect(gateway, b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 400, receive=4096))
        time.sleep(1)
        assert answers_soon(gateway)


def test_a_gateway_without_descriptors_leaves_callers_waiting_and_lives(tmp_path: Path) -> None:
    """No worker ends of it, so what others have under way is not lost."""
    gateway = GatewayProcess(make_settings(tmp_path / "gateway", Keys(), threads=THREADS))
    gateway.start()
    try:
        workers = gateway.workers()
        with ExitStack() as stack:
            for process in (gateway.pid, *workers):
                stack.enter_context(few_descriptors(process, 40))
            for _ in range(100):
                stack.enter_context(connect(gateway))
            time.sleep(0.5)
        assert answers_soon(gateway)
        assert gateway.workers() == workers
    finally:
        gateway.stop()

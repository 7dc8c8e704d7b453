"""A gateway that is told to stop: what it has begun it finishes, and nobody who was let in is turned away."""

import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from blindgate_gateway.server import refuse_new
from blindgate_protocol.messages import JobRequest, Upload, UploadRequest
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Running,
    Tenant,
    Worker,
    blob_ref,
    http_client,
    make_settings,
    random_bytes,
)

DRAIN = 1500
PART = 64 * 1024


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A gateway of two workers that takes its time to leave."""
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys, workers=2, drain=DRAIN, part=PART)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as first, http_client(gateway.url) as second:
            manifest = brokerage.manifest()
            Publisher(first, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(first, brokerage.api_key("bank"), name="bank", keys=keys)
            yield Running(brokerage, gateway, manifest, tenant, Worker(second, brokerage))
    finally:
        if gateway.running:
            gateway.kill()


class _Half:
    """A request of which only the first half was sent."""

    def __init__(self, running: Running, method: str, path: str, body: bytes) -> None:
        token = running.tenant._headers["Authorization"]
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._rest = body[len(body) // 2 :]
        self._socket = socket.create_connection(("127.0.0.1", running.brokerage.settings.port))
        self._socket.sendall(head.encode() + body[: len(body) // 2])

    def finish(self) -> tuple[int, str]:
        """Send the other half; gives the answer's status, and its header."""
        answer = b""
        with self._socket:
            self._socket.sendall(self._rest)
            while data := self._socket.recv(1 << 16):
                answer += data
        head = answer.partition(b"\r\n\r\n")[0].decode()
        return int(head.split()[1]), head.lower()


def test_what_has_begun_is_finished_and_who_was_let_in_is_answered(running: Running) -> None:
    """An upload and a submit that are half sent, a node that waits, and callers that come while the gateway drains."""
    data = random_bytes(PART)
    upload = Upload.model_validate_json(
        running.tenant.ask("POST", "/v1/uploads", UploadRequest(size=PART, sha256=blob_ref(data).digest)).content
    )
    small = random_bytes(50)
    order = running.tenant.order(running.manifest, blob_ref(small))
    body = JobRequest(order=order.envelope, input_data=small).model_dump_json().encode()
    part = _Half(running, "PUT", f"/v1/uploads/{upload.upload}/parts/1", data)
    submit = _Half(running, "POST", "/v1/jobs", body)
    polls: list[object] = []
    node = threading.Thread(target=lambda: polls.append(running.worker.lease(wait=30_000)))
    node.start()
    time.sleep(0.5)

    assert running.gateway._process is not None
    running.gateway._process.send_signal(signal.SIGTERM)
    with http_client(running.gateway.url) as http:
        while (ready := http.get("/readyz")).status_code == 200:
            time.sleep(0.02)
        assert (ready.status_code, ready.headers["Connection"]) == (503, "close")
        late = Tenant(http, running.tenant.token or "", name="bank", keys=running.brokerage.keys).send(
            "GET", "/v1/jobs"
        )
        assert (late.status_code, late.headers["Connection"]) == (200, "close")
    time.sleep(DRAIN / 1000)

    status, head = part.finish()
    assert (status, "connection: close" in head) == (200, True)
    assert submit.finish()[0] == 201
    node.join(20)
    assert len(polls) == 1
    assert running.gateway._process.wait(20) == 0
    running.gateway.start()
    with http_client(running.gateway.url) as http:
        again = Tenant(http, running.tenant.token or "", name="bank", keys=running.brokerage.keys)
        answer = again.ask("POST", "/v1/uploads", UploadRequest(size=PART, sha256=blob_ref(data).digest))
        assert Upload.model_validate_json(answer.content).status == "exists"
        again.job(order.document.job)
    events = [json.loads(line)["event"] for line in running.gateway.log.read_text().splitlines()]
    assert "failed" not in events


def test_who_comes_while_the_door_closes_is_refused_and_not_cut_off() -> None:
    """The kernel forgets that they knocked: the connection that was there stays whole, theirs never is."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as early:
            refuse_new(listener)
            address, came = listener.getsockname(), []

            def come_late() -> None:
                try:
                    socket.create_connection(address, timeout=20).close()
                except OSError as error:
                    came.append(error)

            late = threading.Thread(target=come_late)
            late.start()
            time.sleep(0.2)
            accepted, _ = listener.accept()
            listener.close()
            with accepted:
                early.sendall(b"asked")
                assert accepted.recv(5) == b"asked"
                accepted.sendall(b"answered")
            assert early.recv(8) == b"answered"
    late.join(20)
    assert [type(error) for error in came] == [ConnectionRefusedError]


def test_a_connection_that_opened_is_answered_up_to_the_last(running: Running) -> None:
    """Callers that come as fast as they can while it stops: each is answered in full, or refused before it sent anything."""
    outcomes: Counter[str] = Counter()
    over = threading.Event()
    port = running.brokerage.settings.port
    callers = [threading.Thread(target=_call, args=(port, outcomes, over)) for _ in range(16)]
    for caller in callers:
        caller.start()
    time.sleep(0.3)
    assert running.gateway.stop() == 0
    for caller in callers:
        caller.join(20)
    over.set()
    assert outcomes["refused"] == len(callers)
    assert outcomes["answered"] > 100
    assert outcomes["cut off"] == 0


def test_a_socket_that_somebody_holds_stays_open_over_a_restart(tmp_path: Path) -> None:
    """As systemd does it: who comes while the gateway is restarted waits, and nobody is refused or cut off."""
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys)
    outcomes: Counter[str] = Counter()
    over = threading.Event()
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", settings.port))
        held.listen(512)
        gateway = GatewayProcess(settings, held=held)
        gateway.start()
        callers = [threading.Thread(target=_call, args=(settings.port, outcomes, over)) for _ in range(4)]
        for caller in callers:
            caller.start()
        try:
            for _ in range(2):
                assert gateway.stop() == 0
                gateway.start()
        finally:
            over.set()
            for caller in callers:
                caller.join(30)
            if gateway.running:
                gateway.kill()
    assert set(outcomes) == {"answered"}
    assert outcomes["answered"] > 20


def _call(port: int, outcomes: Counter[str], over: threading.Event) -> None:
    """Ask over a connection of its own each time, until nobody listens or it is over."""
    while not over.is_set():
        try:
            caller = socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            outcomes["refused"] += 1
            return
        with caller:
            try:
                caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                outcomes["answered" if b" 200 " in caller.recv(1 << 16) else "cut off"] += 1
            except OSError:
                outcomes["cut off"] += 1

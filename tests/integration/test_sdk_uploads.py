"""The SDK's uploads against a real gateway: in parts, several at once, straight to a store where the gateway says so."""

import gc
import http.server
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from between import Answer, Proxy
from blindgate.transport import Transport
from blindgate.uploads import blob_ref, upload
from blindgate_protocol.errors import GatewayError, MalformedError
from blindgate_protocol.messages import Upload, UploadRequest
from brokerage import Brokerage, GatewayProcess, Keys, make_settings, random_bytes
from cuts import Cutter
from s3 import S3Server

PART = 256 * 1024


@dataclass
class Served:
    """A gateway and a proxy in front of it."""

    gateway: GatewayProcess
    proxy: Proxy
    key: str

    def puts(self) -> list[int]:
        """How many bytes each PUT had that came by the gateway."""
        return [said.size for said in self.proxy.heard if said.method == "PUT"]


@pytest.fixture
def transports() -> Iterator[list[Transport]]:
    """Closed at the end."""
    made: list[Transport] = []
    yield made
    for transport in made:
        transport.close()


def _serve(tmp_path: Path, **changes: Any) -> GatewayProcess:
    return GatewayProcess(make_settings(tmp_path / "gateway", Keys(), part=PART, max_blob=1 << 30, **changes))


@pytest.fixture(params=["folder", "s3", "s3 with URLs"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """On each store, and on one that clients may reach themselves."""
    store: Mapping[str, Any] = {}
    if request.param != "folder":
        server: S3Server = request.getfixturevalue("s3_server")
        store = server.new_bucket(direct=request.param.endswith("URLs"))
    gateway = _serve(tmp_path, **store)
    key = Brokerage(gateway.settings, Keys()).api_key("bank")
    gateway.start()
    try:
        with Proxy(gateway.url) as proxy:
            yield Served(gateway, proxy, key)
    finally:
        gateway.kill()


def test_parts_are_sent_once_by_the_way_that_the_gateway_names(served: Served, transports: list[Transport]) -> None:
    """With URLs none of a large blob's bytes go through the gateway; a small one's always do, and again nothing is sent."""
    transports.append(transport := Transport(served.proxy.url, served.key))
    large, small = random_bytes(9 * PART + 77), random_bytes(PART)
    assert upload(transport, large) == blob_ref(large)
    parts = [] if served.gateway.settings.s3_public else [77, *[PART] * 9]
    assert sorted(served.puts()) == parts
    assert transport.bytes_sent > len(large)
    upload(transport, small)
    assert sorted(served.puts()) == sorted([*parts, PART])
    before = transport.bytes_sent
    for blob in (large, small):
        upload(transport, blob)
    assert transport.bytes_sent < before + 1000


def test_an_upload_that_fails_has_copied_no_part_of_it(tmp_path: Path, transports: list[Transport]) -> None:
    """However often each was sent: many failures after each other would fill the memory of the application."""
    part = 4 << 20
    gateway = GatewayProcess(make_settings(tmp_path / "gateway", Keys(), part=part))
    key = Brokerage(gateway.settings, Keys()).api_key("bank")
    gateway.start()
    gc.disable()
    try:
        with Cutter(gateway.settings.port, lambda: 1 << 20, 1000) as wire:
            transports.append(transport := Transport(wire.url, key))
            blob = random_bytes(4 * part)
            tracemalloc.start()
            with pytest.raises(GatewayError):
                upload(transport, blob)
            assert wire.cuts > 4
            assert tracemalloc.get_traced_memory()[1] < part
    finally:
        tracemalloc.stop()
        gc.enable()
        gateway.kill()


def test_another_process_sends_only_what_is_missing(served: Served, transports: list[Transport]) -> None:
    """Also after the gateway was started again."""
    transports.append(transport := Transport(served.proxy.url, served.key))
    blob = random_bytes(5 * PART)
    ref = blob_ref(blob)
    began = transport.post("/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest), Upload)
    for part in (2, 4):
        transport.put(f"/v1/uploads/{began.upload}/parts/{part}", blob[(part - 1) * PART : part * PART], Upload)
    served.gateway.kill()
    served.gateway.start()
    transports.append(other := Transport(served.proxy.url, served.key))
    upload(other, blob)
    assert 3 * PART < other.bytes_sent < 3 * PART + 1000


class _Store(http.server.BaseHTTPRequestHandler):
    heard: list[dict[str, str]]
    answers: list[tuple[int, dict[str, str]]]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its parent's name)
        """Say nothing."""


@dataclass
class Elsewhere:
    """A store that a gateway may name."""

    url: str
    heard: list[dict[str, str]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(200, {})])


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """A store that writes down what it hears."""
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    made = Elsewhere(f"http://127.0.0.1:{serving.server_address[1]}")
    serving.RequestHandlerClass = type("Own", (_Store,), {"heard": made.heard, "answers": made.answers})
    thread = threading.Thread(target=serving.serve_forever, args=[0.02])
    thread.start()
    yield made
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((307, {"Location": "/elsewhere"}), id="a redirect"),
        pytest.param((403, {}), id="a URL that is too old"),
        pytest.param((200, {}), id="a store that keeps nothing"),
    ],
)
@pytest.mark.parametrize("served", ["folder"], indirect=True)
def test_a_store_that_a_gateway_names_learns_no_key_and_leads_nowhere(
    served: Served, transports: list[Transport], elsewhere: Elsewhere, answer: tuple[int, dict[str, str]]
) -> None:
    """It is sent one part's bytes and nothing else; what it does not take goes through the gateway; its word counts for nothing."""
    elsewhere.answers[:] = [answer]

    def lie(method: str, path: str, said: Answer) -> Answer:
        if (method, path) == ("POST", "/v1/uploads"):
            state = Upload.model_validate_json(said.body)
            urls = tuple(f"{elsewhere.url}/{part}?signature=x" for part in state.missing)
            return said._replace(body=state.model_copy(update={"urls": urls}).model_dump_json().encode())
        return said

    served.proxy.lie = lie
    transports.append(transport := Transport(served.proxy.url, served.key))
    blob = random_bytes(3 * PART)
    if answer[0] == 200:
        with pytest.raises(MalformedError, match="does not count"):
            upload(transport, blob)
    else:
        upload(transport, blob)
        assert served.puts() == [PART] * 3
    assert sorted(heard["path"] for heard in elsewhere.heard) == [f"/{part}?signature=x" for part in (1, 2, 3)]
    assert all({"authorization", "cookie"}.isdisjoint(heard) for heard in elsewhere.heard)
    assert all(served.key not in str(heard) for heard in elsewhere.heard)


def test_a_store_that_is_busy_is_asked_again_when_it_said(transports: list[Transport], elsewhere: Elsewhere) -> None:
    """`Retry-After` is obeyed, and a fault is tried again."""
    elsewhere.answers[:] = [(503, {"Retry-After": "1"}), (500, {}), (200, {})]
    transports.append(transport := Transport("http://gateway.invalid", "key"))
    began = time.monotonic()
    assert transport.put_elsewhere(f"{elsewhere.url}/1", b"part")
    assert time.monotonic() - began >= 1
    assert len(elsewhere.heard) == 3


@pytest.mark.parametrize(
    "url", ["http://store/1", "https://user:pw@store/1", "file:///etc/passwd", "https:///1", "no URL"]
)
def test_an_address_that_a_gateway_has_no_business_to_name_is_refused(transports: list[Transport], url: str) -> None:
    """A gateway that is reached by HTTPS cannot send the bytes, or the next hop, into the clear."""
    transports.append(transport := Transport("https://gateway.invalid", "key"))
    with pytest.raises(MalformedError, match="less safe"):
        transport.put_elsewhere(url, b"part")


def test_a_quota_that_is_full_is_told_after_waiting(
    tmp_path: Path, transports: list[Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 is waited for as long as the gateway says, a few times, and then it is the caller's error."""
    gateway = _serve(tmp_path, quota=PART)
    key = Brokerage(gateway.settings, Keys()).api_key("bank")
    gateway.start()
    try:
        transports.append(transport := Transport(gateway.url, key))
        upload(transport, random_bytes(PART))
        waited: list[float] = []
        monkeypatch.setattr("blindgate.transport.time.sleep", waited.append)
        with pytest.raises(GatewayError, match="quota") as caught:
            upload(transport, b"one byte more")
    finally:
        monkeypatch.undo()
        gateway.kill()
    assert (caught.value.status, caught.value.problem) == (429, "quota")
    assert len(waited) == 4
    assert min(waited) >= 10.0

"""What no HTTP library would send, to a gateway's own process: each is refused or hung up on, and the next caller is served.

Two things are looked for besides: that one request is never taken for two (smuggling), and that what could not be read is repeated
neither to the caller nor in the log, for it may be part of a credential or of a body.
"""

import gzip
import re
import socket
from collections.abc import Callable, Iterator

import psutil
import pytest

from blindgate_protocol.messages import Problem
from brokerage import Brokerage, GatewayProcess, Keys, make_settings

SECRET = "c2VjcmV0LW9mLXNvbWVib2R5"
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MOST_MORE_BYTES = 32 << 20


@pytest.fixture(scope="module")
def brokerage(tmp_path_factory: pytest.TempPathFactory) -> Brokerage:
    """Settings of a gateway that is patient with wrong credentials, and impatient with silence."""
    keys = Keys()
    folder = tmp_path_factory.mktemp("hostile") / "gateway"
    return Brokerage(make_settings(folder, keys, threads=4, stall=500, failures=0), keys)


@pytest.fixture(scope="module")
def gateway(brokerage: Brokerage) -> Iterator[GatewayProcess]:
    """That gateway."""
    gateway = GatewayProcess(brokerage.settings)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def key(brokerage: Brokerage) -> bytes:
    """A tenant's header field."""
    return f"Authorization: Bearer {brokerage.api_key('bank')}\r\n".encode()


@pytest.fixture(autouse=True)
def served_and_silent(gateway: GatewayProcess) -> Iterator[None]:
    """After whatever it was, the gateway serves the next caller, and its log has no fault and no secret."""
    workers = gateway.workers()
    yield
    assert gateway.workers() == workers
    assert statuses(said_to(gateway, GET + b"\r\n")) == [200]
    log = gateway.log.read_text()
    assert SECRET not in log
    assert "/smuggled" not in log
    assert not re.search(r'"failed"|Traceback|"level": ?"error"', log)


def said_to(gateway: GatewayProcess, said: bytes) -> bytes:
    """All that a gateway answers to these bytes until it hangs up, or has nothing more to say."""
    answer = b""
    with socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=20) as connection:
        try:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                answer += more
        except (TimeoutError, ConnectionError):
            pass
    return answer


def statuses(answer: bytes) -> list[int]:
    """Those of all answers in what came."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def body_of(headers: bytes, body: bytes) -> bytes:
    """A request with a body of the right length."""
    return POST + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


NO_REQUESTS = {
    "length and chunks": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    "chunks and length": POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + SECOND,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 39\r\n\r\n" + SECOND,
    "the same length twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "a list of lengths": POST + b"Content-Length: 0, 39\r\n\r\n" + SECOND,
    "a length with a sign": POST + b"Content-Length: +0\r\n\r\n" + SECOND,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + SECOND,
    "a length in hexadecimal": POST + b"Content-Length: 0x0\r\n\r\n" + SECOND,
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n" + SECOND,
    "a length in other digits": POST + "Content-Length: ٣\r\n\r\n".encode() + SECOND,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunks not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND,
    "chunks twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    "chunks behind a tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunks in HTTP/1.0": b"POST /v1/nodes HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    "a folded line": GET + b"X: a\r\n " + SECRET.encode() + b"\r\n\r\n",
    "a folded credential": GET + b"Authorization: Bearer\r\n " + SECRET.encode() + b"\r\n\r\n",
    "a space before the colon": GET + b"Authorization : Bearer " + SECRET.encode() + b"\r\n\r\n",
    "a line without a colon": GET + SECRET.encode() + b"\r\n\r\n",
    "a name of nothing": GET + b": " + SECRET.encode() + b"\r\n\r\n",
    "a name with a space": GET + b"X " + SECRET.encode() + b": a\r\n\r\n",
    "NUL in a value": GET + b"Authorization: " + SECRET.encode() + b"\0\r\n\r\n",
    "CR in a value": GET + b"X: " + SECRET.encode() + b"\rY: b\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "the rest of a body": SECRET.encode() * 3 + b"\r\n\r\n" + SECOND,
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.7": b"GET /healthz HTTP/3.7\r\nHost: a\r\n\r\n",
    "a method in small letters": b"get /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of other signs": b'G"T /healthz HTTP/1.1\r\nHost: a\r\n\r\n',
    "two spaces": b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path with a space": b"GET /heal thz HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1") + bytes(160),
    "an expectation": GET + b"Expect: " + SECRET.encode() + b"\r\n\r\n",
    "a long path": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long field": GET + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "many fields": GET + b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + b"\r\n",
}


@pytest.mark.parametrize("said", [pytest.param(said, id=name) for name, said in NO_REQUESTS.items()])
def test_bytes_that_are_no_request_get_one_refusal(gateway: GatewayProcess, said: bytes) -> None:
    """A problem, as everywhere, and the connection ends: nothing behind it is taken for a request."""
    answer = said_to(gateway, said)
    assert SECRET.encode() not in answer
    if answer:
        assert len(statuses(answer)) == 1, answer
        assert 400 <= statuses(answer)[0] < 500
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        assert Problem.model_validate_json(body).status == statuses(answer)[0]


CHUNKS = {
    "no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "a sign": b"-1\r\nabc\r\n0\r\n\r\n",
    "endless": b"ffffffffffffffffff\r\nabc",
    "no end": b"3\r\nabcdef\r\n0\r\n\r\n",
    "a bare LF": b"3\nabc\n0\n\n",
    "an extension with LF": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\nabcdefghijklmnop\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in CHUNKS.items()])
def test_a_body_in_bad_chunks_ends_with_its_connection(gateway: GatewayProcess, body: bytes) -> None:
    """Where the next request would start is not known, so there is none."""
    assert statuses(said_to(gateway, POST + CHUNKED + b"\r\n" + body + SECOND)) in ([400], [411])


PATHS = {
    "up": (b"/v1/../healthz", 404),
    "up, encoded": (b"/v1/%2e%2e/healthz", 404),
    "two slashes": (b"//healthz", 404),
    "an encoded slash": (b"/v1%2Fjobs", 401),
    "NUL": (b"/healthz%00", 404),
    "NUL as an id": (b"/v1/jobs/%00", 401),
    "no UTF-8": (b"/v1/jobs/%ff%fe", 401),
    "half an escape": (b"/v1/jobs/%", 401),
    "no ASCII": (b"/v1/jobs/\xff\xfe", 401),
    "a whole address": (b"http://elsewhere/v1/tenant", 401),
    "a whole address without a path": (b"http://elsewhere", 404),
    "a fragment": (b"/v1/tenant#a", 401),
    "a number without end": (b"/v1/uploads/a/parts/" + b"9" * 3900, 401),
}


@pytest.mark.parametrize(("path", "status"), [pytest.param(*row, id=name) for name, row in PATHS.items()])
def test_an_unusual_path_leads_nowhere(gateway: GatewayProcess, path: bytes, status: int) -> None:
    """It is a route's or none's, as it is written: nothing is put in order, and nobody is sent elsewhere."""
    answer = said_to(gateway, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert statuses(answer)[0] in {status, 400, 405}
    assert b"Location" not in answer


FIELDS = {
    "two credentials": (b"%kAuthorization: Bearer bg_0000000000000000.AAAA\r\n", 401),
    "two credentials, the good one last": (b"Authorization: Bearer bg_0000000000000000.AAAA\r\n%k", 401),
    "a credential with an underscore": (b"Authorization_: a\r\nX_Forwarded_For: 1.2.3.4\r\n", 401),
    "a credential and a signature": (b"%kSignature: a\r\n", 401),
    "two signatures": (b"Signature: a\r\nSignature: b\r\nSignature-Input: c\r\nSignature-Input: d\r\n", 401),
    "an upgrade": (b"%kConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", 200),
    "another method": (b"%kX-HTTP-Method-Override: DELETE\r\n", 200),
    "another scheme": (b"%kX-Forwarded-Proto: https\r\nX-Forwarded-Host: elsewhere\r\n", 200),
}


@pytest.mark.parametrize(("fields", "status"), [pytest.param(*row, id=name) for name, row in FIELDS.items()])
def test_ambiguous_fields_open_nothing(gateway: GatewayProcess, key: bytes, fields: bytes, status: int) -> None:
    """Two credentials are none, and nothing that looks like a field is one."""
    answer = said_to(gateway, b"GET /v1/tenant HTTP/1.1\r\nHost: a\r\n" + fields.replace(b"%k", key) + b"\r\n")
    assert statuses(answer) == [status]
    assert b"elsewhere" not in answer


def test_requests_on_one_connection_are_answered_each_and_in_order(gateway: GatewayProcess, key: bytes) -> None:
    """A refusal by the application ends nothing; bytes that are no request end the connection, whatever is behind them."""
    asked = (
        b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/tenant HTTP/1.1\r\nHost: a\r\n" + key + b"\r\n",
        GET + b"\r\n",
    )
    assert statuses(said_to(gateway, b"".join(asked))) == [404, 200, 200]
    assert statuses(said_to(gateway, asked[0] + SECRET.encode() + b"\r\n\r\n" + SECOND)) == [404, 400]


def test_whoever_may_not_send_a_body_is_not_asked_for_it(gateway: GatewayProcess) -> None:
    """`Expect: 100-continue` is answered by the refusal alone."""
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
    assert statuses(said_to(gateway, head)) in ([401], [100, 401])


def bomb() -> bytes:
    """What becomes a quarter of a gibibyte."""
    return gzip.compress(bytes(1 << 28), 6)


BODIES: dict[str, bytes | Callable[[], bytes]] = {
    "a field twice": b'{"size": 1, "size": 2, "sha256": "sha256:%s"}' % (b"0" * 64),
    "a field twice, further in": b'{"order": {"payload": "", "payload": "a", "payloadType": "", "signatures": []}}',
    "deep lists": b"[" * 2_000_000,
    "deep objects": b'{"a":' * 400_000,
    "NaN": b'{"size": NaN, "sha256": ""}',
    "infinity": b'{"size": -Infinity, "sha256": ""}',
    "a huge number": b'{"size": ' + b"9" * 2_000_000 + b', "sha256": ""}',
    "a huge exponent": b'{"size": 1e999999999, "sha256": ""}',
    "half a surrogate": rb'{"size": 1, "sha256": "\ud800"}',
    "NUL": rb'{"size": 1, "sha256": "\u0000"}',
    "a mark of order": b"\xef\xbb\xbf{}",
    "UTF-16": '{"size": 1}'.encode("utf-16"),
    "no UTF-8": b'{"size": 1, "sha256": "\xff"}',
    "a bomb": bomb,
    "nothing": b"",
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in BODIES.items()])
def test_a_hostile_body_is_refused_and_costs_no_memory(
    gateway: GatewayProcess, key: bytes, body: bytes | Callable[[], bytes]
) -> None:
    """Its coding is not believed, its depth not followed, and what came is forgotten."""
    body = body() if callable(body) else body
    (worker,) = (psutil.Process(pid) for pid in gateway.workers())
    for path in (b"/v1/uploads", b"/v1/jobs"):
        said = body_of(key + b"Content-Encoding: gzip\r\nContent-Type: application/json\r\n", body)
        said = said.replace(b"/v1/nodes", path, 1)
        assert statuses(said_to(gateway, said)) == [422]
        before = worker.memory_info().rss
        for _ in range(8):
            said_to(gateway, said)
        assert worker.memory_info().rss < before + MOST_MORE_BYTES

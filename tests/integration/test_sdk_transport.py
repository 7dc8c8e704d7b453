"""Proxies and private certificate authorities work as users of HTTP libraries expect, and hostile answers are bounded."""

import datetime as dt
import http.server
import ipaddress
import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from between import Proxy
from blindgate.transport import MAX_ANSWER_BYTES, Transport
from blindgate_protocol.errors import GatewayError, GatewayUnreachableError, MalformedError
from blindgate_protocol.messages import ModelList
from world import World

BODY = b'{"models": []}'


def test_a_proxy_in_the_environment_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTP_PROXY`, as everywhere."""
    with Proxy(world.url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        transport = Transport(world.url, world.api_key("hospital"))
        assert transport.get("/v1/models", ModelList).models
        transport.close()
        assert proxy.heard[0].path.startswith(world.url)


@pytest.fixture
def private_ca(tmp_path: Path) -> Path:
    """A certificate and its key for 127.0.0.1, signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private CA")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "ca.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return file


class _Answers(http.server.BaseHTTPRequestHandler):
    body = BODY

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its parent's name)
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server that gives the same answer to everything."""
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Answers,), {}))
    thread = threading.Thread(target=serving.serve_forever, args=[0.02], daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_a_private_ca_is_trusted_when_it_is_named_and_only_then(
    server: http.server.ThreadingHTTPServer, private_ca: Path
) -> None:
    """`Client(ca=…)`; without it the connection is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(private_ca)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_address[1]}"
    trusting = Transport(url, "key", ca=str(private_ca))
    assert trusting.get("/v1/models", ModelList) == ModelList(models=())
    trusting.close()
    other = Transport(url, "key")
    with pytest.raises(GatewayUnreachableError, match="certificate"):
        other.get("/v1/models", ModelList)
    other.close()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b"x" * (MAX_ANSWER_BYTES + 1), MalformedError, id="endless"),
        pytest.param(b"<html>", MalformedError, id="not JSON"),
        pytest.param(b'{"models": 1}', MalformedError, id="another shape"),
        pytest.param(b'{"models": [], "more": 1}', MalformedError, id="an unknown member"),
    ],
)
def test_an_answer_that_is_none_is_refused(
    server: http.server.ThreadingHTTPServer, body: bytes, error: type[Exception]
) -> None:
    """Bounded before it is read, and parsed strictly."""
    server.RequestHandlerClass.body = body  # type: ignore[attr-defined]
    transport = Transport(f"http://127.0.0.1:{server.server_address[1]}", "key")
    with pytest.raises(error):
        transport.get("/v1/models", ModelList)
    with pytest.raises(MalformedError):
        transport.download("/v1/jobs/x/result", 3)
    transport.close()


def test_an_address_that_is_none_is_named() -> None:
    """A typing error is told apart from a gateway that is down."""
    for address in ("not-an-address", "localhost:8080", "https://", "ftp://gateway"):
        with pytest.raises(GatewayError, match=re.escape(repr(address))):
            Transport(address, "key")


@pytest.mark.parametrize("key", ["bg_…", "bg_secret\n", "bg_secret ", ""])
def test_a_key_that_no_header_can_hold_is_named_and_not_shown(key: str) -> None:
    """The README's own placeholder, or a file's last line end: not the address's fault, and no secret in the error."""
    with pytest.raises(GatewayError, match="not an API key") as caught:
        Transport("http://127.0.0.1:9", key)
    assert "secret" not in str(caught.value)


def test_ca_certificates_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL says 'No such file or directory', and not which."""
    (tmp_path / "empty.pem").touch()
    for file in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        with pytest.raises(GatewayError, match=re.escape(str(file))):
            Transport("http://127.0.0.1:9", "key", ca=str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(GatewayError, match=r"none\.pem"):
        Transport("http://127.0.0.1:9", "key")


class _Limited(_Answers):
    """Answers 429, or 503, twice, and then well."""

    status = 429
    asked: ClassVar[list[float]] = []

    def do_GET(self) -> None:
        self.asked.append(time.monotonic())
        if len(self.asked) > 2:
            super().do_GET()
            return
        self.send_response(self.status)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.mark.parametrize("status", [429, 503])
def test_a_gateway_that_says_when_to_come_again_is_obeyed(status: int) -> None:
    """Not before, a little later, and then the caller gets the answer as if nothing had been."""
    handler: Any = type("Own", (_Limited,), {"asked": [], "status": status})
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever, args=[0.02], daemon=True)
    thread.start()
    transport = Transport(f"http://127.0.0.1:{serving.server_address[1]}", "key")
    assert transport.get("/v1/models", ModelList) == ModelList(models=())
    transport.close()
    serving.shutdown()
    serving.server_close()
    thread.join()
    pauses = [after - before for before, after in zip(handler.asked, handler.asked[1:], strict=False)]
    assert len(pauses) == 2
    assert all(1.0 <= pause < 5.0 for pause in pauses)

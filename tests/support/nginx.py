"""A real nginx in front of gateways, with the very configuration that `deploy/` gives out, and a certificate of its own."""

import datetime as dt
import ipaddress
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokerage import free_port

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy" / "chart" / "files" / "gateway.conf.template"
START_SECONDS = 60.0
_MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/gateway.conf;
}}
"""


def find_nginx() -> str | None:
    """The program, or `None` where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """One nginx, in front of gateways that need not be there yet."""

    def __init__(self, folder: Path, program: str, ports: Sequence[int]) -> None:
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate = folder / "certificate.pem"
        self._program, self._folder, self._ports = program, folder, ports
        self._process: subprocess.Popen[bytes] | None = None
        _certify(self.certificate, folder / "key.pem")

    def start(self) -> None:
        """Start it and wait until it answers."""
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;" for port in self._ports)
        given = {
            "GATEWAYS": servers,
            "TLS_PORT": str(self.port),
            "TLS_CERTIFICATE": str(self.certificate),
            "TLS_KEY": str(self._folder / "key.pem"),
        }
        (self._folder / "gateway.conf").write_text(fill(TEMPLATE.read_text(), given))
        main = self._folder / "nginx.conf"
        user = "user root;" if self._folder.owner() == "root" else ""
        main.write_text(_MAIN.format(folder=self._folder, user=user))
        command = [self._program, "-p", str(self._folder), "-c", str(main)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx2.get(f"{self.url}/metrics", verify=self.context(), timeout=5, trust_env=False)
            except httpx2.TransportError:
                if self._process.poll() is not None or time.monotonic() > until:
                    message = f"nginx did not start:\n{self.errors()}"
                    raise RuntimeError(message) from None
                time.sleep(0.02)
            else:
                return

    def context(self) -> ssl.SSLContext:
        """What trusts this nginx and nobody else."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def errors(self) -> str:
        """Its error log."""
        log = self._folder / "error.log"
        return log.read_text() if log.exists() else ""

    def stop(self) -> None:
        """End it."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)


def fill(template: str, given: dict[str, str]) -> str:
    """Fill in `${NAME}` where a name is given, as nginx's image does with its environment."""
    return re.sub(r"\$\{(\w+)\}", lambda found: given.get(found[1], found[0]), template)


def _certify(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "blindgate tests")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)

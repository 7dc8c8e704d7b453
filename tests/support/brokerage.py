"""A real gateway process, and small clients that sign real documents: what the tests and the bench of the broker drive.

The clients do what the SDK and a node do on the wire, and nothing more: no ciphertexts, no policy, no retries. Blobs are
whatever bytes the caller gives, since the gateway cannot know the difference.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx2
from pydantic import SecretStr

from blindgate_gateway.database import Database
from blindgate_gateway.identity import Scope, StaffRole, add_enrolment_token, add_staff, add_tenant
from blindgate_gateway.opening import migrate, open_database
from blindgate_gateway.settings import DAY, Settings
from blindgate_protocol.canonical import digest
from blindgate_protocol.http_signatures import CONTENT_DIGEST, content_digest, sign_request, signed_fields
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.manifest import (
    Accuracy,
    Column,
    Disclosure,
    Encryption,
    Limits,
    Manifest,
    Output,
    Privacy,
    model_ref,
)
from blindgate_protocol.messages import (
    LEASE_HEADER,
    Commit,
    EnrolmentAnswer,
    EnrolmentBody,
    JobRequest,
    JobView,
    KeyRequest,
    Lease,
    LeaseRequest,
    ModelOffer,
    Upload,
    UploadRequest,
)
from blindgate_protocol.nodes import EnrolmentRequest, NodeCertificate
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Envelope, Signed, SigningKey, open_signed
from blindgate_protocol.values import BlobRef, Value
from migrated import lay_database
from preloaded import Preloaded

START_SECONDS = 60.0
"""For a machine that is busy with something else: who started has answered within one on a quiet one."""
_RESERVED: Final[deque[int]] = deque()
_MOST_RESERVED: Final = 64
FAMILY = "echo"
_INHERITING = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)
"""How systemd hands over a socket: as number 3, to the process that is named."""
PARAMETERS = digest(b"key parameters of the tests")


def now_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def blob_ref(data: bytes) -> BlobRef:
    """Name `data`."""
    return BlobRef(digest=digest(data), size=len(data))


@dataclass
class Keys:
    """Everybody's signing keys."""

    publisher: SigningKey = field(default_factory=SigningKey.generate)
    operator: SigningKey = field(default_factory=SigningKey.generate)
    client: SigningKey = field(default_factory=SigningKey.generate)


def make_settings(data: Path, keys: Keys, **changes: Any) -> Settings:
    """Settings that trust `keys`, on a free port."""
    given: dict[str, Any] = {
        "data": data,
        "port": free_port(),
        "publishers": (keys.publisher.id,),
        "operators": (keys.operator.id,),
    }
    return Settings(**(given | changes))


def free_port() -> int:
    """A port that nobody listens on now, and that the kernel gives to nobody else.

    A socket that does not listen stays bound to it: whoever sets `SO_REUSEADDR`, as every server does, may listen there all the
    same. Else any connection could have it before the server does, or while the server is started again, and a connection to it
    could lead to itself. The last few are kept for this process.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port = int(probe.getsockname()[1])
    _RESERVED.append(probe.detach())
    if len(_RESERVED) > _MOST_RESERVED:
        os.close(_RESERVED.popleft())
    return port


class GatewayProcess:
    """`python -m blindgate_gateway serve`, as an operator would start it, or forked from a process that has imported it.

    Attributes:
        preloaded: such a process, if there is one.
    """

    preloaded: ClassVar[Preloaded | None] = None

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str] | None = None,
        held: socket.socket | None = None,
        fresh: bool = False,
    ) -> None:
        """`environment` is what it gets besides its settings and this process's own.

        `held` is a listening socket that the process gets as from systemd, instead of opening its own. A `fresh` one is started as
        an operator would.
        """
        self._fresh = fresh or held is not None
        self.settings = settings
        self.environment = dict(environment or {})
        self.url = f"http://127.0.0.1:{settings.port}"
        self._held = held
        self.log = settings.data.parent / f"{settings.data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "blindgate_gateway", "serve"]
        environment, inherited = os.environ | _environment(self.settings) | self.environment, []
        if self._held is not None:
            inherited = [self._held.fileno()]
            command = [sys.executable, "-c", _INHERITING, str(inherited[0]), *command]
        with self.log.open("ab") as log:
            forked = None
            if self.preloaded is not None and not self._fresh:
                forked = self.preloaded.start(command[3:], environment, log)
            self._process = forked or subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, pass_fds=inherited
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            if self._process.poll() is not None or time.monotonic() > until:
                if self.running:
                    self.kill()
                message = f"the gateway did not start:\n{self.log.read_text()[-4000:]}"
                raise RuntimeError(message)
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The master's process id."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """The workers' process ids."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(child) for child in children.split()]

    def kill_worker(self) -> int | None:
        """Send SIGKILL to a worker, which holds whatever transaction there is; gives its process id."""
        for pid in self.workers():
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
                return pid
        return None

    def kill(self) -> None:
        """Send SIGKILL to master and workers."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM and wait; gives the exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def running(self) -> bool:
        """Whether the master lives."""
        return self._process is not None and self._process.poll() is None


def _environment(settings: Settings) -> Mapping[str, str]:
    values = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    values |= {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    tables = {
        name: [f"{key}={one}" for key, one in value.items()]
        for name, value in values.items()
        if isinstance(value, dict)
    }
    return {
        f"BLINDGATE_GATEWAY_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
        for name, value in (values | tables).items()
    }


@dataclass
class Brokerage:
    """A gateway's settings, everybody's keys, and credentials made on the gateway's own machine."""

    settings: Settings
    keys: Keys
    database: Database | None = None
    """One that is open already, to do with; else each credential opens it for itself, as a command would."""

    def __post_init__(self) -> None:
        if self.database is None:
            if self.settings.database is None:
                lay_database(self.settings.data)
            migrate(self.settings)

    def api_key(self, tenant: str, *, publish: bool = False, scopes: tuple[Scope, ...] = ()) -> str:
        """A fresh API key, for jobs if nothing else is said."""
        with self._opened() as database:
            return str(add_tenant(database, tenant, scopes or [Scope.PUBLISH if publish else Scope.JOBS]))

    def staff_key(self, role: StaffRole, name: str = "somebody") -> str:
        """A fresh API key of somebody of the gateway's staff."""
        with self._opened() as database:
            return str(add_staff(database, name, role))

    def enrolment_token(self) -> str:
        """A fresh enrolment token."""
        with self._opened() as database:
            return str(add_enrolment_token(database, lasts=DAY))

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        if self.database is not None:
            yield self.database
            return
        with closing(open_database(self.settings)) as database:
            yield database

    def manifest(
        self, *, client: bytes = b"client part", server: bytes = b"server part", **changes: Any
    ) -> Signed[Manifest]:
        """A signed manifest of a model that computes nothing."""
        return self.keys.publisher.sign(make_manifest(client=client, server=server, **changes))

    def certificate(self, node: SigningKey, *, name: str = "node-1") -> Signed[NodeCertificate]:
        """The operator's word for a node's key."""
        return self.keys.operator.sign(
            NodeCertificate(
                node=node.id,
                name=name,
                operator=self.keys.operator.id,
                issued=now_ms() - 1000,
                expires=now_ms() + DAY,
            )
        )


def make_manifest(*, client: bytes = b"client part", server: bytes = b"server part", **changes: Any) -> Manifest:
    """A manifest of a model that computes nothing."""
    given: dict[str, Any] = {
        "name": "echo",
        "version": 1,
        "summary": "Gives back what it gets.",
        "family": FAMILY,
        "lane": "fhe",
        "issued": now_ms() - 1000,
        "expires": now_ms() + DAY,
        "columns": (Column(name="x", minimum=0.0, maximum=1.0),),
        "output": Output(task="regression", scores=1, link="identity", decimals=3),
        "client": blob_ref(client),
        "server": blob_ref(server),
        "key_parameters": PARAMETERS,
        "evaluation_key": False,
        "encryption": Encryption(
            scheme="ckks", security=128, degree=4096, modulus_bits=48, levels=0, error_bound=0.0001
        ),
        "determinism": "bit-exact",
        "limits": Limits(rows_per_job=4096, input_bytes=1 << 26, result_bytes=1 << 26, evaluation_key_bytes=1 << 20),
        "privacy": Privacy(mode="model_public"),
        "discloses": Disclosure(to_client=(), to_node=()),
        "accuracy": Accuracy(rows=0, plain=1.0, agreement=1.0, max_error=0.0),
    }
    return Manifest(**(given | changes))


class Caller:
    """An HTTP client with a bearer token. Bodies are values; answers are whatever came."""

    def __init__(self, http: httpx2.Client, token: str | None) -> None:
        self.http = http
        self.token = token
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def send(
        self, method: str, path: str, body: Value | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send one request."""
        content = body.model_dump_json().encode() if isinstance(body, Value) else body
        return self.http.request(method, path, content=content, headers=self._headers | dict(headers or {}))

    def ask(
        self, method: str, path: str, body: Value | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send one request that must be answered well."""
        response = self.send(method, path, body, headers)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response

    def upload(self, data: bytes) -> BlobRef:
        """Store `data`, in as many parts as the gateway asks for."""
        ref = blob_ref(data)
        answer = self.ask("POST", "/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest)).content
        upload = Upload.model_validate_json(answer)
        for number in upload.missing:
            part = data[(number - 1) * upload.part_size : number * upload.part_size]
            self.ask("PUT", f"/v1/uploads/{upload.upload}/parts/{number}", part)
        return ref


class Publisher(Caller):
    """Publishes models."""

    def publish(
        self, manifest: Signed[Manifest], *, client: bytes = b"client part", server: bytes = b"server part"
    ) -> None:
        """Upload both parts and offer the manifest."""
        self.upload(client)
        self.upload(server)
        self.ask("POST", "/v1/models", ModelOffer(manifest=manifest.envelope))


class Tenant(Caller):
    """Submits jobs."""

    def __init__(self, http: httpx2.Client, token: str, *, name: str, keys: Keys) -> None:
        super().__init__(http, token)
        self.name = name
        self.keys = keys

    def order(self, manifest: Signed[Manifest], data: BlobRef, /, **changes: Any) -> Signed[Order]:
        """A signed order of one row."""
        given: dict[str, Any] = {
            "job": new_job_id(),
            "tenant": self.name,
            "model": model_ref(manifest),
            "input": data,
            "evaluation_key": None,
            "rows": 1,
            "operators": (self.keys.operator.id,),
            "client": self.keys.client.id,
            "issued": now_ms(),
            "deadline": now_ms() + DAY,
        }
        return self.keys.client.sign(Order(**(given | changes)))

    def submit(self, order: Signed[Order], data: bytes | None = None) -> JobView:
        """Submit an order, with the input along or uploaded before."""
        request = JobRequest(order=order.envelope, input_data=data)
        return JobView.model_validate_json(self.ask("POST", "/v1/jobs", request).content)

    def job(self, job: str, *, wait: int = 0, inline: int = 0) -> JobView:
        """A job, perhaps after waiting for its end, perhaps with its result."""
        return JobView.model_validate_json(self.ask("GET", f"/v1/jobs/{job}?wait={wait}&inline={inline}").content)

    def statement(
        self, key: BlobRef, state: KeyState, previous: Signed[KeyStatement] | None = None
    ) -> Signed[KeyStatement]:
        """The next signed statement about a key."""
        return self.keys.client.sign(
            KeyStatement(
                key=key,
                tenant=self.name,
                parameters=PARAMETERS,
                state=state,
                client=self.keys.client.id,
                sequence=1 if previous is None else previous.document.sequence + 1,
                previous=None if previous is None else previous.digest,
                issued=now_ms(),
            )
        )

    def state(self, statement: Signed[KeyStatement]) -> httpx2.Response:
        """Send a statement."""
        return self.send("POST", "/v1/keys", KeyRequest(statement=statement.envelope))


class Worker(Caller):
    """A node: leases, stores, commits. What it computes is up to its driver."""

    def __init__(self, http: httpx2.Client, brokerage: Brokerage, *, name: str = "node-1") -> None:
        super().__init__(http, None)
        self.key = SigningKey.generate()
        self.certificate = brokerage.certificate(self.key, name=name)
        answer = self.ask("POST", "/v1/nodes", self.enrolment(brokerage.enrolment_token(), self.gateway))
        assert EnrolmentAnswer.model_validate_json(answer.content) == EnrolmentAnswer(node=self.key.id, name=name)

    @property
    def gateway(self) -> str:
        """The address that it signs for."""
        return str(self.http.base_url).rstrip("/")

    def over(self, http: httpx2.Client) -> "Worker":
        """The same node over another connection."""
        other = copy(self)
        other.http = http
        return other

    def send(
        self, method: str, path: str, body: Value | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send one signed request."""
        content = body.model_dump_json().encode() if isinstance(body, Value) else body
        return super().send(method, path, content, self.signed(method, path, content, headers))

    def signed(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> dict[str, str]:
        """The header of a signed request; `changes` are to what is signed."""
        announced = content_digest(digest(content)) if content else None
        sent = dict(headers or {}) | ({CONTENT_DIGEST: announced} if announced else {})
        given: dict[str, Any] = {
            "method": method,
            "target": self.gateway + path,
            "fields": signed_fields(announced, sent.get(LEASE_HEADER)),
            "created": now_ms() // 1000,
            "nonce": random_bytes(16),
        }
        return sent | sign_request(self.key, **(given | changes))

    def enrolment(self, token: str, gateway: str, **changes: Any) -> EnrolmentBody:
        """The body with which this node asks to be taken in."""
        given: dict[str, Any] = {
            "node": self.key.id,
            "gateway": gateway,
            "challenge": digest(token.encode()),
            "issued": now_ms(),
        }
        request = self.key.sign(EnrolmentRequest(**(given | changes)))
        return EnrolmentBody(token=token, certificate=self.certificate.envelope, request=request.envelope)

    def lease(self, *, wait: int = 0, keys: tuple[str, ...] = ()) -> Lease | None:
        """Ask for work."""
        response = self.ask("POST", "/v1/leases", LeaseRequest(families=(FAMILY,), keys=keys, wait=wait))
        return None if response.status_code == 204 else Lease.model_validate_json(response.content)

    def command(self, lease: Lease, method: str, what: str, body: Value | bytes | None = None) -> httpx2.Response:
        """Send a command about a lease."""
        headers = {LEASE_HEADER: f"{lease.generation}.{lease.token}"}
        return self.send(method, f"/v1/leases/{lease.job}/{what}", body, headers)

    def receipt(self, lease: Lease, output: bytes, /, **changes: Any) -> Signed[Receipt]:
        """The receipt that an honest node would sign for `output`."""
        order, manifest = opened_order(lease.order), opened_manifest(lease.manifest)
        given: dict[str, Any] = {
            "order": order.digest,
            "job": lease.job,
            "tenant": order.document.tenant,
            "model": order.document.model,
            "circuit": manifest.document.server.digest,
            "evaluation_key": order.document.evaluation_key,
            "input": order.document.input,
            "output": blob_ref(output),
            "lane": manifest.document.lane,
            "generation": lease.generation,
            "node": self.key.id,
            "certificate": self.certificate.envelope,
            "software": {},
            "started": now_ms(),
            "finished": now_ms(),
        }
        return self.key.sign(Receipt(**(given | changes)))

    def commit(self, lease: Lease, receipt: Signed[Receipt], data: bytes | None = None) -> httpx2.Response:
        """Commit a receipt, with the result along or stored before."""
        return self.command(lease, "POST", "commit", Commit(receipt=receipt.envelope, result_data=data))

    def finish(self, lease: Lease, output: bytes, *, along: bool = False, **changes: Any) -> JobView:
        """Store a result and commit it, or commit it with the result `along`; `changes` are to the receipt."""
        if not along:
            stored = self.command(lease, "PUT", "result", output)
            assert stored.status_code == 204, stored.text
        committed = self.commit(lease, self.receipt(lease, output, **changes), output if along else None)
        assert committed.status_code == 200, committed.text
        return JobView.model_validate_json(committed.content)


@dataclass
class Running:
    """A gateway process and its callers."""

    brokerage: Brokerage
    gateway: GatewayProcess
    manifest: Signed[Manifest]
    tenant: Tenant
    worker: Worker


@lru_cache(maxsize=64)
def opened_order(envelope: Envelope) -> Signed[Order]:
    """A verified order, opened once."""
    return open_signed(envelope, Order)


@lru_cache(maxsize=64)
def opened_manifest(envelope: Envelope) -> Signed[Manifest]:
    """A verified manifest, opened once."""
    return open_signed(envelope, Manifest)


@contextmanager
def http_client(url: str) -> Iterator[httpx2.Client]:
    """An HTTP client of the gateway at `url`."""
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as http:
        yield http


def random_bytes(size: int) -> bytes:
    """Bytes that nobody has stored yet."""
    return secrets.token_bytes(size)

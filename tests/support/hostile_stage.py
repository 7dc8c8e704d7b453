"""Everybody who may call a gateway, and one of everything that a call may name: where hostile requests are tried.

Whoever generates requests gets no further than "not found" by himself: ids are random and documents are signed. So a stage has
real ones, of the tenant `bank` and of a `clinic` that must not show in the bank's answers, and makes new ones when they are
used up. The gateway is the application in this process, or a real process behind a socket; the requests are the same to the byte.
"""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx2
import requests
from apiflask import APIFlask
from requests.adapters import BaseAdapter, HTTPAdapter
from sqlalchemy import update
from urllib3 import HTTPHeaderDict, HTTPResponse
from werkzeug.test import run_wsgi_app

from blindgate_gateway.app import create_app
from blindgate_gateway.identity import Scope, StaffRole
from blindgate_gateway.opening import open_database, prepare
from blindgate_gateway.tables import api_keys, jobs
from blindgate_protocol.attestations import AttestationAnswer, AttestationPoll, AttestationRequest
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.evidence import NONCE_BYTES
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import (
    LEASE_HEADER,
    AnswerPart,
    Commit,
    CorpusRequest,
    JobRequest,
    KeyRequest,
    Lease,
    LeaseRequest,
    ModelOffer,
    Refusal,
    Release,
    UploadRequest,
)
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Value
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    blob_ref,
    http_client,
    make_settings,
    opened_order,
    random_bytes,
)
from desk import connection_to

CANARY = "the-reason-that-nobody-logs"
"""Stands in bodies that are good, so that a log that repeats one shows it."""

NOBODY, NODE = "nobody", "node"
_MOST_JOBS = 16
_UNLIMITED = {
    "rate": 0,
    "failures": 0,
    "part": 64 * 1024,
    "lease": 600_000,
    "attempts": 2,
    "max_blob": 1 << 20,
    "questions": 10_000,
}


class InProcess(BaseAdapter):
    """Takes a request to an application in this process, as gunicorn would hand it over."""

    def __init__(self, app: APIFlask) -> None:
        super().__init__()
        self.app = app

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer one request."""
        path, _sep, query = request.path_url.partition("?")
        body = bytes_of(request)
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": request.path_url,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            shown = value.decode("latin-1") if isinstance(value, bytes) else value
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = shown
        content, status, headers = run_wsgi_app(self.app, environ, buffered=True)
        raw = HTTPResponse(
            io.BytesIO(b"".join(content)),
            HTTPHeaderDict(list(headers)),
            int(status.split()[0]),
            version=11,
            reason=status.partition(" ")[2],
            preload_content=False,
        )
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        """Close nothing."""


@dataclass
class Stage:
    """A gateway with everybody, and with real objects.

    Attributes:
        credentials: by caller, the bearer token; `None` where there is none.
        names: what paths may name, of the bank and of the clinic: `names["bank"]["job"]`.
        marks: texts that belong to the clinic alone, and that nobody sends.
    """

    brokerage: Brokerage
    http: httpx2.Client
    session: requests.Session
    log: Callable[[], str]
    credentials: dict[str, str | None] = field(default_factory=dict)
    names: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        made, keys = self.brokerage, self.brokerage.keys
        self.manifest: Signed[Manifest] = made.manifest()
        self.publisher = Publisher(self.http, made.api_key("models", publish=True))
        self.publisher.publish(self.manifest)
        self.bank = Tenant(self.http, made.api_key("bank"), name="bank", keys=keys)
        self.clinic = Tenant(self.http, made.api_key("clinic"), name="clinic", keys=keys)
        self.worker = Worker(self.http, made)
        expired, revoked = made.api_key("bank"), made.api_key("bank")
        self._end(expired, "expires")
        self._end(revoked, "revoked")
        self.credentials = {
            NOBODY: None,
            "jobs": self.bank.token,
            "publish": made.api_key("bank", scopes=(Scope.PUBLISH,)),
            "read": made.api_key("bank", scopes=(Scope.READ,)),
            "every scope": made.api_key("bank", scopes=(Scope.JOBS, Scope.PUBLISH, Scope.READ)),
            NODE: None,
            "enrolment token": made.enrolment_token(),
            "operator": made.staff_key(StaffRole.OPERATOR),
            "auditor": made.staff_key(StaffRole.AUDITOR),
            "expired": expired,
            "revoked": revoked,
        }
        self.names = {tenant.name: self._stock(tenant) for tenant in (self.bank, self.clinic)}
        for tenant in (self.bank, self.clinic):  # last, or the node would have taken them for others
            job = tenant.submit(tenant.order(self.manifest, tenant.upload(random_bytes(24)))).job
            self.names[tenant.name]["job"].append(job)
        self.lease = self._lease()
        self._announced = b""

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return str(self.http.base_url).rstrip("/")

    def authorise(self, request: requests.PreparedRequest, caller: str) -> None:
        """Give a request that is ready the caller's credential, in place of what it brought."""
        if caller == NOBODY:
            return
        for name in ("Authorization", "Signature", "Signature-Input", "Content-Digest"):
            request.headers.pop(name, None)
        token = self.credentials[caller]
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
            return
        lease = request.headers.get(LEASE_HEADER)
        given = {} if lease is None else {LEASE_HEADER: str(lease)}
        with suppress(MalformedError):  # no node could sign such a lease: the request goes as it is, and is refused
            request.headers.update(
                self.worker.signed(str(request.method), request.path_url, bytes_of(request) or None, given)
            )

    def body(self, operation: str) -> Value | bytes | None:
        """A fresh body that the operation takes well, from whoever may call it."""
        data = random_bytes(24)
        makers: Mapping[str, Callable[[], Value | bytes]] = {
            "uploads_request_upload": lambda: self._announce(data),
            "uploads_put_part": lambda: self._announced,
            "jobs_submit": lambda: JobRequest(
                order=self.bank.order(self.manifest, blob_ref(data)).envelope, input_data=data
            ),
            "corpora_put_corpus": self._corpus,
            "keys_state_key": lambda: KeyRequest(
                statement=self.bank.statement(self.bank.upload(data), KeyState.ACTIVE).envelope
            ),
            "models_offer_model": lambda: ModelOffer(manifest=self.manifest.envelope),
            "nodes_enrol": lambda: self.worker.enrolment(self.brokerage.enrolment_token(), self.url),
            "attestations_ask": self._question,
            "attestations_pull": AttestationPoll,
            "attestations_answer": lambda: AttestationAnswer(
                recipient=self.worker.receipt(self.lease, data).envelope, evidence=data
            ),
            "attestations_refuse": lambda: Refusal(code="no", reason=CANARY),
            "sealed_answers_add_part": lambda: AnswerPart(begin=0, data=data),
            "leases_poll": lambda: LeaseRequest(families=("echo",)),
            "leases_put_result": lambda: data,
            "leases_commit": lambda: Commit(receipt=self.worker.receipt(self.lease, data).envelope, result_data=data),
            "leases_refuse": lambda: Refusal(code="no", reason=CANARY),
            "leases_release": lambda: Release(code="no", reason=CANARY),
        }
        return makers[operation]() if operation in makers else None

    def _question(self) -> AttestationRequest:
        return AttestationRequest(
            model=self.manifest.digest, policy=self.manifest.digest, nonce=random_bytes(NONCE_BYTES)
        )

    def _corpus(self) -> CorpusRequest:
        """The first head of the corpus of one's own that a path may name, or what replaces it."""
        there = self.bank.send("GET", f"/v1/corpora/{self.bank.name}-notes")
        instead_of = there.json()["head"]["digest"] if there.is_success else None
        shards = (self.bank.upload(random_bytes(24)),)
        return CorpusRequest(head=self.bank.upload(random_bytes(24)), shards=shards, instead_of=instead_of)

    def _announce(self, data: bytes) -> UploadRequest:
        self._announced = data
        return UploadRequest(size=len(data), sha256=blob_ref(data).digest)

    def renew(self) -> None:
        """Take another lease where the last one has ended."""
        if self.bank.job(self.lease.job).state is not JobState.LEASED:
            self.lease = self._lease()

    def _lease(self) -> Lease:
        self.bank.submit(self.bank.order(self.manifest, self.bank.upload(random_bytes(24))))
        while True:
            lease = self.worker.lease()
            assert lease is not None
            if opened_order(lease.order).document.tenant == self.bank.name:
                self.names["bank"]["job"].append(lease.job)
                del self.names["bank"]["job"][_MOST_JOBS:-1]
                return lease

    def _stock(self, tenant: Tenant) -> dict[str, list[Any]]:
        """One job in each state, keys, blobs and uploads."""
        found: dict[str, list[Any]] = {"job": [], "digest": [], "upload": [], "name": ["echo"], "number": [1, 2]}
        found["tile"] = ["0/000.p/1", "entries/000.p/2", "0/000"]
        found["table"] = ["keys", "ended_jobs", "attempts"]
        found["manifest"] = [self.manifest.digest]
        order = None
        for end in ("succeeded", "failed", "dead", "cancelled", "expired"):
            secret = random_bytes(24)
            order = tenant.order(self.manifest, tenant.upload(secret))
            job = tenant.submit(order).job
            found["job"].append(job)
            found["digest"].append(order.document.input.digest)
            self._end_job(tenant, job, end)
        upload = tenant.ask("POST", "/v1/uploads", UploadRequest(size=100_000, sha256=blob_ref(random_bytes(9)).digest))
        found["upload"] = [upload.json()["upload"]]
        asked = tenant.ask("POST", "/v1/attestations", self._question())
        found["attestation"] = [asked.json()["attestation"]]
        head, shard = tenant.upload(random_bytes(24)), tenant.upload(random_bytes(24))
        found["corpus"] = [f"{tenant.name}-notes"]
        found["digest"].append(shard.digest)
        corpus = CorpusRequest(head=head, shards=(shard,), instead_of=None)
        tenant.ask("PUT", f"/v1/corpora/{found['corpus'][0]}", corpus)
        for state in (KeyState.ACTIVE, KeyState.REGISTERED):
            key = tenant.upload(random_bytes(32))
            statement = tenant.statement(key, state)
            tenant.state(statement)
            found["digest"].append(key.digest)
        if tenant is self.clinic:
            assert order is not None
            self.marks = [order.envelope.signatures[0].sig, statement.envelope.signatures[0].sig, '"tenant":"clinic"']
            self.marks += [base64.b64encode(secret).decode(), "clinic-reason"]
        return found

    def _end_job(self, tenant: Tenant, job: str, end: str) -> None:
        if end == "cancelled":
            tenant.ask("POST", f"/v1/jobs/{job}/cancel")
        elif end == "expired":
            database = open_database(self.brokerage.settings)
            with database.write() as connection:
                connection.execute(update(jobs).where(jobs.c.job == job).values(deadline=1))
            database.close()
            assert self.worker.lease() is None
        else:
            for _ in range(2 if end == "dead" else 1):
                lease = self.worker.lease()
                assert lease is not None
                if end == "succeeded":
                    self.worker.finish(lease, random_bytes(24))
                else:
                    body = Release(code="no", reason=f"{tenant.name}-reason")
                    refused = Refusal(code="no", reason=f"{tenant.name}-reason")
                    what = ("release", body) if end == "dead" else ("refuse", refused)
                    assert self.worker.command(lease, "POST", *what).status_code == 200

    def _end(self, token: str, column: str) -> None:
        database = open_database(self.brokerage.settings)
        name = token.partition(".")[0].partition("_")[2]
        with database.write() as connection:
            connection.execute(update(api_keys).where(api_keys.c.id == name).values({column: 1}))
        database.close()


def bytes_of(request: requests.PreparedRequest) -> bytes:
    """The body of a request that is ready."""
    body = request.body or b""
    assert isinstance(body, str | bytes)
    return body.encode() if isinstance(body, str) else body


@contextmanager
def in_process(folder: Path, database: str | None, log: Callable[[], str]) -> Iterator[Stage]:
    """A stage around an application in this process."""
    keys = Keys()
    settings = make_settings(folder / "gateway", keys, database=database, **_UNLIMITED)
    with prepare(settings):
        app = create_app(settings)
        with connection_to(app, settings) as http, requests.Session() as session:
            session.mount("http://", InProcess(app))
            yield Stage(Brokerage(settings, keys), http, session, log)
        app.extensions["blindgate"].database.close()
        app.extensions["blindgate"].wakeups.close()


@contextmanager
def behind_a_socket(folder: Path, database: str | None, *, workers: int = 2) -> Iterator[Stage]:
    """A stage around a gateway's own processes."""
    keys = Keys()
    settings = make_settings(folder / "gateway", keys, database=database, workers=workers, threads=8, **_UNLIMITED)
    brokerage = Brokerage(settings, keys)
    gateway = GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http, requests.Session() as session:
            session.trust_env = False
            yield Stage(brokerage, http, session, gateway.log.read_text)
        assert gateway.stop() == 0
    finally:
        if gateway.running:
            gateway.kill()

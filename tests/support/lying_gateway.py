"""A gateway that hands out whatever a test prepared, over real HTTP: what a node meets when its gateway is not honest.

It speaks the node's side of the protocol and checks nothing but the signature of each request, as every gateway does.
"""

import http.server
import json
import queue
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from blindgate_gateway.settings import DAY
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, ClockSkewError, LeaseLostError, NotAuthorisedError
from blindgate_protocol.http_signatures import (
    CONTENT_DIGEST,
    SIGNATURE,
    SIGNATURE_INPUT,
    content_digest,
    read_signature,
    signed_fields,
)
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.messages import LEASE_HEADER, Commit, EnrolmentAnswer, EnrolmentBody, Heartbeat, Lease
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.signing import Envelope, Signed
from brokerage import Keys, blob_ref, make_manifest, now_ms

TENANT = "hospital"


@dataclass
class Said:
    """One command of a node's about a lease."""

    job: str
    generation: int
    what: str
    body: dict[str, Any]


@dataclass
class LyingGateway:
    """A gateway under a test's control.

    Attributes:
        duration: of every lease, in milliseconds.
        blobs: what a download answers, by digest.
        ended: `refuse`, `release` and `commit` commands, as they come.
        lost: jobs whose leases are answered with 409.
        down: while set, every answer is 503.
        limited: so many requests are told to come again in a second.
        twice: so many requests are told that they came before.
        skewed: while set, it says that the node's clock is wrong.
        polls: how often a node asked for work.
        overhear: called with what a node commands about a lease, before that is answered.
        hasty: whether it is told at once that there is none.
        nodes: the keys that asked to be taken in: nobody else is answered.
        nonces: what a signature brought once: it is not taken again.
        results: the bytes that were stored or came along with a commit, by job.
    """

    keys: Keys
    duration: int = 30_000
    blobs: dict[str, bytes] = field(default_factory=dict)
    ended: "queue.Queue[Said]" = field(default_factory=queue.Queue)
    lost: set[str] = field(default_factory=set)
    down: threading.Event = field(default_factory=threading.Event)
    limited: int = 0
    twice: int = 0
    skewed: threading.Event = field(default_factory=threading.Event)
    results: dict[str, bytes] = field(default_factory=dict)
    polls: int = 0
    overhear: Callable[[str], None] = lambda _what: None
    hasty: bool = False
    heartbeats: list[str] = field(default_factory=list)
    nodes: set[str] = field(default_factory=set)
    nonces: set[str] = field(default_factory=set)
    leases: "queue.Queue[Lease]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        # Concrete's runtime, once it has computed in this process, makes a write to a closed socket end the process.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                gateway.answer(self)

            def handle(self) -> None:
                with suppress(ConnectionError):  # the node was killed
                    super().handle()

            do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                del format, args

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()

    def manifest(self, part: bytes = b"{}", **changes: Any) -> Signed[Manifest]:
        """A signed manifest whose server part is served."""
        self.blobs[digest(part)] = part
        return self.keys.publisher.sign(make_manifest(server=part, **changes))

    def order(self, manifest: Signed[Manifest], given: bytes, **changes: Any) -> Signed[Order]:
        """A signed order whose input is served."""
        self.blobs[digest(given)] = given
        fields: dict[str, Any] = {
            "job": new_job_id(),
            "tenant": TENANT,
            "model": model_ref(manifest),
            "input": blob_ref(given),
            "evaluation_key": None,
            "rows": 1,
            "operators": (self.keys.operator.id,),
            "client": self.keys.client.id,
            "issued": now_ms(),
            "deadline": now_ms() + DAY,
        }
        return self.keys.client.sign(Order(**(fields | changes)))

    def offer(self, manifest: Envelope, order: Signed[Order], **changes: Any) -> Lease:
        """Hand out a lease."""
        fields: dict[str, Any] = {
            "job": order.document.job,
            "generation": 1,
            "token": secrets.token_hex(16),
            "duration": self.duration,
            "order": order.envelope,
            "manifest": manifest,
        }
        lease = Lease(**(fields | changes))
        self.leases.put(lease)
        return lease

    def outcome(self, seconds: float = 30.0) -> Said:
        """How the next job ended."""
        return self.ended.get(timeout=seconds)

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        status, content = self._route(request, body)
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        if status == 429:
            request.send_header("Retry-After", "1")
        request.end_headers()
        request.wfile.write(content)

    def _route(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        hindrance = self._hindrance()
        if hindrance is not None:
            return hindrance
        steps = request.path.strip("/").split("/")[1:]
        if steps == ["nodes"]:
            node = EnrolmentBody.model_validate_json(body).request.signatures[0].keyid
            self.nodes.add(node)
            return 201, EnrolmentAnswer(node=node, name="node").model_dump_json().encode()
        if not self._is_signed(request, body):
            return 401, _problem(401, NotAuthorisedError.code)
        if steps == ["leases"]:
            return self._next_lease(request, body)
        return self._command(steps[1], steps[2:], request, body)

    def _next_lease(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        self.polls += 1
        try:
            wait = 0.0 if self.hasty else json.loads(body)["wait"] / 1000
            lease = self.leases.get(timeout=wait or 0.001)
        except queue.Empty:
            return 204, b""
        if _has_left(request.connection):
            self.leases.put(lease)  # a killed node's poll would take what is meant for its successor
            return 204, b""
        return 200, lease.model_dump_json().encode()

    def _hindrance(self) -> tuple[int, bytes] | None:
        if self.down.is_set():
            return 503, _problem(503, "busy")
        if self.limited:
            self.limited -= 1
            return 429, _problem(429, "rate-limited")
        if self.twice:
            self.twice -= 1
            return 401, _problem(401, "replayed")
        return (401, _problem(401, ClockSkewError.code)) if self.skewed.is_set() else None

    def _is_signed(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> bool:
        announced = request.headers.get(CONTENT_DIGEST)
        try:
            signature = read_signature(request.headers.get(SIGNATURE_INPUT, ""), request.headers.get(SIGNATURE, ""))
            fields = signed_fields(announced, request.headers.get(LEASE_HEADER))
            signature.verify(request.command, [self.url + request.path], fields)
        except BlindgateError:
            return False
        known = signature.key in self.nodes and signature.nonce not in self.nonces
        self.nonces.add(signature.nonce)
        return known and (announced == content_digest(digest(body)) if body else announced is None)

    def _command(
        self, job: str, what: list[str], request: http.server.BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, bytes]:
        if job in self.lost:
            return 409, _problem(409, LeaseLostError.code)
        self.overhear(what[0])
        commands: dict[str, Callable[[], tuple[int, bytes]]] = {
            "heartbeat": lambda: (200, Heartbeat(duration=self.duration).model_dump_json().encode()),
            "blobs": lambda: (200, self.blobs[what[1]]),
            "result": lambda: (204, b""),
        }
        if what[0] == "heartbeat":
            self.heartbeats.append(job)
        elif what[0] == "result":
            self.results[job] = body
        elif what[0] not in commands:
            if what[0] == "commit":
                said = Commit.model_validate_json(body)
                if said.result_data is not None:
                    self.results[job] = said.result_data
            generation = int(request.headers["Blindgate-Lease"].split(".")[0])
            self.ended.put(Said(job, generation, what[0], json.loads(body)))
            return 200, b"{}"
        return commands[what[0]]()


def _problem(status: int, code: str) -> bytes:
    problem = {"type": "about:blank", "title": code, "status": status, "detail": code, "code": code, "request": "0"}
    return json.dumps(problem).encode()


def _has_left(connection: socket.socket) -> bool:
    """Whether whoever asked is gone, as a killed process is."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True

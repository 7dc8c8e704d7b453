"""What an auditor is shown, made of values: events, statements and receipts that belong together, and a server that shows them.

The server answers the routes for auditors as `blindgate_protocol.logged` and `oversight` say, beside the log's files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from blindgate_protocol.canonical import digest
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.logged import Logged, LoggedPage, LogView, PseudonymPage
from blindgate_protocol.manifest import ModelRef
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order
from blindgate_protocol.oversight import JobRecords, NodeRecord, NodeRecords, StatementRecord, StatementRecords
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Envelope, Signed, SigningKey
from blindgate_protocol.values import BlobRef, Value
from static_logs import LOG_KEY, SOME_DAY, event, log_files, logged, served, verifier

CLIENT, NODE, OPERATOR = (SigningKey.from_seed(bytes([seed]) * 32) for seed in (21, 22, 23))
API_KEY = "auditor.secret"
ACTIONS = {
    KeyState.REGISTERED: Action.KEY_REGISTERED,
    KeyState.ACTIVE: Action.KEY_ACTIVATED,
    KeyState.SUSPENDED: Action.KEY_SUSPENDED,
    KeyState.DESTROYED: Action.KEY_DESTROYED,
}
LIFE = (KeyState.REGISTERED, KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.ACTIVE, KeyState.DESTROYED)


def blob(text: str) -> BlobRef:
    """A blob that consists of this text."""
    return BlobRef(digest=digest(text.encode()), size=len(text))


def key_life(name: str, tenant: str = "bank") -> list[Signed[KeyStatement]]:
    """What a client signs in the life of a key."""
    said: list[Signed[KeyStatement]] = []
    for sequence, state in enumerate(LIFE, 1):
        statement = KeyStatement(
            key=blob(name),
            tenant=tenant,
            parameters=digest(b"parameters"),
            state=state,
            client=CLIENT.id,
            sequence=sequence,
            previous=said[-1].digest if said else None,
            issued=SOME_DAY + sequence,
        )
        said.append(CLIENT.sign(statement))
    return said


def order(number: int, tenant: str = "bank", issued: int = SOME_DAY - 10**8) -> Signed[Order]:
    """A client's order; one that is older than the log, unless told otherwise."""
    return CLIENT.sign(
        Order(
            job=f"{number:032x}",
            tenant=tenant,
            model=ModelRef(name="echo", version=1, manifest=digest(b"manifest")),
            input=blob(f"input {number}"),
            evaluation_key=None,
            rows=1,
            operators=(OPERATOR.id,),
            client=CLIENT.id,
            issued=issued,
            deadline=SOME_DAY + 10**9,
        )
    )


def receipt(number: int, tenant: str = "bank") -> Signed[Receipt]:
    """A node's receipt of a job."""
    certificate = NodeCertificate(
        node=NODE.id, name="node-1", operator=OPERATOR.id, issued=SOME_DAY, expires=SOME_DAY + 10**9
    )
    return NODE.sign(
        Receipt(
            order=digest(b"order %d" % number),
            job=f"{number:032x}",
            tenant=tenant,
            model=ModelRef(name="echo", version=1, manifest=digest(b"manifest")),
            circuit=digest(b"circuit"),
            evaluation_key=None,
            input=blob(f"input {number}"),
            output=blob(f"output {number}"),
            lane="fhe",
            generation=1,
            node=NODE.id,
            certificate=OPERATOR.sign(certificate).envelope,
            software={},
            started=SOME_DAY,
            finished=SOME_DAY,
        )
    )


def statement_record(statement: Signed[KeyStatement]) -> StatementRecord:
    """The statement as the gateway shows it."""
    return StatementRecord(tenant=statement.document.tenant, received=SOME_DAY, statement=statement.envelope)


def job_record(signed: Signed[Receipt], envelope: Envelope | None = None) -> JobRecord:
    """The job as the gateway shows it."""
    document = signed.document
    return JobRecord(
        job=document.job,
        tenant=document.tenant,
        state=JobState.SUCCEEDED,
        order=envelope or order(int(document.job, 16), document.tenant).envelope,
        receipt=signed.envelope,
        blobs=(),
        attempts=(),
    )


def key_event(number: int, statement: Signed[KeyStatement], **members: Any) -> Event:
    """The event of a statement."""
    document = statement.document
    given = {
        "action": ACTIONS[document.state],
        "object": f"key:{document.key.digest}",
        "digest": statement.digest,
        "after": document.state.value,
    }
    return event(number, **{**given, **members})


def job_event(number: int, signed: Signed[Receipt]) -> Event:
    """The event of a receipt."""
    return event(number, action=Action.JOB_SUCCEEDED, object=f"job:{signed.document.job}", digest=signed.digest)


def submission(at: int, number: int, **members: Any) -> Event:
    """The event of an order."""
    given = {"action": Action.JOB_SUBMITTED, "object": f"job:{number:032x}", "digest": order(number).digest}
    return event(at, **{**given, **members})


@dataclass
class Audited:
    """A gateway's log and records. Whoever cheats changes them before the files are made.

    Attributes:
        late: how many of the last events are in no checkpoint yet.
    """

    events: list[Event] = field(default_factory=list)
    statements: list[StatementRecord] = field(default_factory=list)
    jobs: list[JobRecord] = field(default_factory=list)
    nodes: list[NodeRecord] = field(default_factory=list)
    erased: set[int] = field(default_factory=set)
    late: int = 0
    page: int = 7

    @classmethod
    def whole(cls, keys: int = 3, jobs: int = 20) -> "Audited":
        """A gateway where everything has its event."""
        made = cls()
        for name in range(keys):
            said = key_life(f"key {name}")
            made.events += [key_event(len(made.events) + at, one) for at, one in enumerate(said)]
            made.statements += [statement_record(one) for one in said]
        for number in range(jobs):
            signed = receipt(number)
            made.events += [submission(len(made.events), number), job_event(len(made.events) + 1, signed)]
            made.jobs.append(job_record(signed))
        return made

    def entries(self) -> tuple[list[bytes], list[Logged]]:
        """The log's entries, and its events as they are shown."""
        entries, shown = logged(self.events)
        for index in self.erased:
            shown[index] = Logged(index=index, event=None, salt=None)
        return entries, shown


@contextmanager
def shown(gateway: Audited) -> Iterator[str]:
    """Serve it; gives the address."""
    entries, events = gateway.entries()
    files, _ = log_files(entries[: len(entries) - gateway.late])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            message = _answer(gateway, events, parts.path, parse_qs(parts.query).get("after", [""])[0])
            data = (
                files.get(parts.path.removeprefix("/log/")) if message is None else message.model_dump_json().encode()
            )
            status = 404 if data is None or parts.path == "/log/key" else 200
            if "/audit/" in parts.path and self.headers["Authorization"] != f"Bearer {API_KEY}":
                status = 401
            body = data if data is not None and status == 200 else b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with served(Handler) as url:
        yield url


def _answer(gateway: Audited, events: Sequence[Logged], path: str, after: str) -> Value | None:  # noqa: PLR0911  (one for each route)
    match path:
        case "/v1/log":
            return LogView(key=str(verifier(LOG_KEY)), size=len(events), pending=0)
        case "/v1/audit/events":
            behind = [one for one in events if one.index > int(after or -1)]
            part = behind[: gateway.page]
            follows = len(behind) > len(part)
            return LoggedPage(size=len(events), events=tuple(part), after=part[-1].index if follows else None)
        case "/v1/audit/keys":
            found, last = _page(gateway.statements, after, gateway.page)
            return StatementRecords(statements=tuple(found), after=last)
        case "/v1/audit/nodes":
            found, last = _page(gateway.nodes, after, gateway.page)
            return NodeRecords(nodes=tuple(found), after=last)
        case "/v1/audit/pseudonyms":
            return PseudonymPage(pseudonyms=(), after=None)
        case "/v1/audit/jobs":
            found, last = _page(gateway.jobs, after, gateway.page)
            return JobRecords(records=tuple(found), after=last)
    return None


def _page(found: Sequence[Any], after: str, most: int) -> tuple[Sequence[Any], str | None]:
    begin = int(after or -1) + 1
    part = found[begin : begin + most]
    return part, str(begin + len(part) - 1) if part else after or None

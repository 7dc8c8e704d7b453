"""Where a gateway's spans come from: each request, and in it each transaction and each call of the store of blobs.

Nothing here is used unless a collector was named (`blindgate_telemetry`): then these wrap the database and the store, which know
nothing of it. What is done without a request, such as sweeping, is not traced.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar, cast

from apiflask import APIFlask
from flask import Response, request
from sqlalchemy import Connection

from blindgate_gateway.blobs import Blobs, Incoming
from blindgate_gateway.database import Database, Prepared, Row, Transaction
from blindgate_gateway.routing import CALLER
from blindgate_protocol.messages import REQUEST_HEADER
from blindgate_telemetry import JOB_PATH, Served, Traces

_SERVED: Final = "blindgate.served"
_CALLS: Final = frozenset(
    {"begin", "arrived", "take", "urls", "finish", "end", "open", "holds", "remove", "purge", "writable"}
)

GivenT = ParamSpec("GivenT")
GotT = TypeVar("GotT")


def follow(app: APIFlask, traces: Traces) -> None:
    """Let every request of `app` be a span, from before anything else is done until after everything was."""

    def begin() -> None:
        named = JOB_PATH.match(request.path)
        job = None if named is None or request.url_rule is None else named[1]
        request.environ[_SERVED] = traces.serving(request.method, request.headers.get("traceparent"), job)

    def end(response: Response) -> Response:
        environ, rule = request.environ, request.url_rule
        served: Served = environ[_SERVED]
        served.ended(
            route="none" if rule is None else rule.rule,
            status=response.status_code,
            request=response.headers[REQUEST_HEADER],
            caller=environ.get(CALLER),
        )
        return response

    app.before_request(begin)
    app.after_request(end)


class TracedDatabase:
    """A `Database` whose transactions are spans."""

    def __init__(self, database: Database, traces: Traces, system: str) -> None:
        """`system` is what OpenTelemetry calls the database: `sqlite` or `postgresql`."""
        self._database, self._traces, self._system = database, traces, system

    def of_tenant(self, tenant: str) -> "TracedDatabase":
        """See `Database`."""
        return TracedDatabase(self._database.of_tenant(tenant), self._traces, self._system)

    def look(self, statement: Prepared, parameters: Mapping[str, Any]) -> Row:
        """See `Database`."""
        with self._step("look"):
            return self._database.look(statement, parameters)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """See `Database`."""
        with self._step("read"), self._database.read() as transaction:
            yield transaction

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """See `Database`."""
        with self._step("write"), self._database.write(durable=durable) as transaction:
            yield transaction

    def migrating(self) -> AbstractContextManager[Connection]:
        """See `Database`."""
        return self._database.migrating()

    def tidy(self) -> None:
        """See `Database`."""
        self._database.tidy()

    def close(self) -> None:
        """See `Database`."""
        self._database.close()

    def _step(self, what: str) -> AbstractContextManager[None]:
        return self._traces.step(f"database {what}", {"db.system.name": self._system, "db.operation.name": what})


class _TracedBlobs:
    def __init__(self, blobs: Blobs, traces: Traces) -> None:
        self._blobs, self._traces = blobs, traces
        for name in _CALLS:
            setattr(self, name, self._traced(name, getattr(blobs, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    @contextmanager
    def incoming(self, tenant: str, digest: str) -> Iterator[Incoming]:
        with self._traces.step("blobs incoming"), self._blobs.incoming(tenant, digest) as incoming:
            yield incoming

    def _traced(self, name: str, call: Callable[GivenT, GotT]) -> Callable[GivenT, GotT]:
        @wraps(call)
        def traced(*given: GivenT.args, **named: GivenT.kwargs) -> GotT:
            with self._traces.step(f"blobs {name}"):
                return call(*given, **named)

        return traced


def traced_blobs(blobs: Blobs, traces: Traces) -> Blobs:
    """A store whose calls are spans."""
    return cast("Blobs", _TracedBlobs(blobs, traces))

"""What the roles say of their work to a collector, and whether they say it at all.

Nothing is traced unless the standard variables name a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`, or the one for traces) and the
extra `telemetry` is installed; otherwise `NO_TRACES` stands in, and no library is imported. All other `OTEL_*` variables mean
what OpenTelemetry says.

**One trace for one job.** A job's id is 128 random bits, and so is a trace's: they are the same. A job's first span, which the
gateway writes when it accepts the job, has an id that follows from the job's, too. So whoever works on a job knows its trace
without being told: the tenant before it submits, the gateway, the node that holds the lease; and no table has to keep it. An
application that traces itself goes on in its own trace, and the two are linked.

What a span may hold: names of routes and steps, ids that logs hold, status codes, error names. Never a body, a header, a query, a
message of an error; nor `tracestate` and `baggage`, which belong to others and are neither read nor sent.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Final, Protocol

JOB_PATH: Final = re.compile(r"/v1/(?:jobs|leases)/([0-9a-f]{32})(?:[/?]|$)")
"""A path that names a job."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NOTHING: Final[Mapping[str, str]] = {}


class Asked:
    """A request that is being sent.

    Attributes:
        headers: what it brings along so that the other side goes on with the trace.
    """

    headers: Mapping[str, str] = _NOTHING

    def answered(self, status: int) -> None:
        """Note how it was answered."""


class Served:
    """A request that is being answered."""

    def ended(self, *, route: str, status: int, request: str, caller: str | None) -> None:
        """Note how: the route's template, the status, the name under which the log has the request, the caller's name in it."""


class Traces(Protocol):
    """A way to a collector."""

    def asking(self, method: str, path: str, *, server: str) -> AbstractContextManager[Asked]:
        """Send one request: part of the trace that this is in, or else of the job's that the path names."""
        ...

    def about(self, job: str, what: str) -> AbstractContextManager[None]:
        """Do some work on a job: part of the trace that this is in, or else of the job's."""
        ...

    def step(self, what: str, attributes: Mapping[str, str] = _NOTHING) -> AbstractContextManager[None]:
        """Do a part of what is being traced; nothing where nothing is."""
        ...

    def serving(self, method: str, traceparent: str | None, job: str | None) -> Served:
        """Begin to answer a request: part of the trace that it brings, or else of the job's that its path names."""
        ...

    def accepted(self, job: str) -> None:
        """Write a job's first span, from within the request that submitted it."""
        ...

    def leased(self, job: str) -> None:
        """Link the request that is being answered to the job that it gave away."""
        ...

    def close(self, *, seconds: float) -> None:
        """Send what was not sent, for so long at most."""
        ...


class _NoTraces:
    """See `Traces`. Does nothing."""

    @contextmanager
    def asking(self, method: str, path: str, *, server: str) -> Iterator[Asked]:  # noqa: ARG002
        yield _ASKED

    def about(self, job: str, what: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def step(self, what: str, attributes: Mapping[str, str] = _NOTHING) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def serving(self, method: str, traceparent: str | None, job: str | None) -> Served:  # noqa: ARG002
        return _SERVED

    def accepted(self, job: str) -> None: ...

    def leased(self, job: str) -> None: ...

    def close(self, *, seconds: float) -> None: ...


_ASKED: Final = Asked()
_SERVED: Final = Served()
NO_TRACES: Final[Traces] = _NoTraces()


def wanted() -> bool:
    """Whether the environment names a collector for traces by OTLP."""
    given = os.environ
    off = given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    elsewhere = given.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() != "otlp"
    return not off and not elsewhere and any(given.get(name) for name in _ENDPOINTS)


def open_traces(service: str) -> Traces:
    """The way to the collector that the environment names, if any, for the service of this name. Opened on first use.

    Raises `ImportError` where a collector is named and the extra is not installed.
    """
    if not wanted():
        return NO_TRACES
    if not find_spec("opentelemetry") or not find_spec("opentelemetry.sdk") or not find_spec("opentelemetry.exporter"):
        message = "traces (OTEL_EXPORTER_OTLP_ENDPOINT) need OpenTelemetry: pip install 'blindgate[telemetry]'"
        raise ImportError(message)
    from blindgate_telemetry.collected import CollectedTraces  # noqa: PLC0415  (an extra)

    return CollectedTraces(service)

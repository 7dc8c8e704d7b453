"""Traces that a collector gets: OpenTelemetry's SDK, with OTLP over HTTP.

The provider is this role's own and not the process's, unless the application that uses the SDK has set one. It is made on first
use, so a server may fork before. Spans leave in batches from a thread of their own; where the collector is slow or gone they are
dropped, and nobody waits for it but `close`, and that not for long.
"""

import atexit
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from blindgate_telemetry.traces import JOB_PATH, Asked, Served

JOB: Final = "blindgate.job"
_NOTHING: Final[Mapping[str, str]] = {}
_SCOPE: Final = "blindgate"
_TRACEPARENT: Final = "traceparent"
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"})
_OBJECT: Final = re.compile(r"(?<=/)(?:sha256:)?[0-9a-f]{16,}(?=/|$)|(?<=/parts/)\d+")
_AT_EXIT_SECONDS: Final = 3.0
_FAULT: Final = 500
_ERROR: Final = 400
_chosen: ContextVar[tuple[int, int] | None] = ContextVar("chosen", default=None)


class _Ids(RandomIdGenerator):
    """Random, but for a job's first span."""

    def generate_trace_id(self) -> int:
        chosen = _chosen.get()
        return super().generate_trace_id() if chosen is None else chosen[0]

    def generate_span_id(self) -> int:
        chosen = _chosen.get()
        return super().generate_span_id() if chosen is None else chosen[1]


def first_span(job: str) -> tuple[int, int]:
    """The ids of a job's trace, and of the first span in it."""
    return int(job, 16), int.from_bytes(hashlib.sha256(f"blindgate job {job}".encode()).digest()[:8]) or 1


class CollectedTraces:
    """See `Traces`."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._provider: TracerProvider | None = None
        self._own = False

    @contextmanager
    def asking(self, method: str, path: str, *, server: str) -> Iterator[Asked]:
        """Send one request. Where it belongs to no trace, it begins none: nobody asked for polls to be traced."""
        named = JOB_PATH.match(path)
        context = self._context(None if named is None else named[1])
        if context is None:
            yield Asked()
            return
        host = urlsplit(server)
        template = _OBJECT.sub("{id}", path.partition("?")[0])
        attributes = {"http.request.method": method, "url.template": template, "server.address": host.hostname or ""}
        with self._span(f"{method} {template}", SpanKind.CLIENT, context, attributes) as span:
            yield _Sent(span)

    @contextmanager
    def about(self, job: str, what: str) -> Iterator[None]:
        """Do some work on a job."""
        context = self._context(job)
        attributes, links = {JOB: job}, _links_from(context, job)
        with self._span(what, SpanKind.INTERNAL, context or Context(), attributes, links):
            yield

    def step(self, what: str, attributes: Mapping[str, str] = _NOTHING) -> AbstractContextManager[None]:
        """Do a part of what is being traced."""
        if not trace.get_current_span().is_recording():
            return nullcontext()
        return self._step(what, attributes)

    @contextmanager
    def _step(self, what: str, attributes: Mapping[str, str]) -> Iterator[None]:
        with self._span(what, SpanKind.CLIENT, None, attributes):
            yield

    def serving(self, method: str, traceparent: str | None, job: str | None) -> Served:
        """Begin to answer a request."""
        context = Context()
        if traceparent is not None:
            context = _PROPAGATOR.extract({_TRACEPARENT: traceparent}, context)
        elif job is not None:
            context = self._of_job(job)
        known = method if method in _METHODS else "_OTHER"
        attributes = {"http.request.method": known} | ({} if job is None else {JOB: job})
        links = () if job is None else _links_from(context, job)
        span = self._tracer().start_span(
            known, context=context, kind=SpanKind.SERVER, attributes=attributes, links=links
        )
        return _Answered(span, known, attach(trace.set_span_in_context(span, context)))

    def accepted(self, job: str) -> None:
        """Write a job's first span."""
        asked, ids = trace.get_current_span(), first_span(job)
        there = asked.get_span_context()
        links = [Link(there)] if there.is_valid else []
        token = _chosen.set(ids)
        try:
            span = self._tracer().start_span("job", context=Context(), attributes={JOB: job}, links=links)
        finally:
            _chosen.reset(token)
        span.end()
        self.leased(job)

    def leased(self, job: str) -> None:
        """Link the request that is being answered to the job."""
        span = trace.get_current_span()
        span.set_attribute(JOB, job)
        span.add_link(_first_context(job))

    def close(self, *, seconds: float) -> None:
        """Send what was not sent. A collector that does not answer is left alone."""
        atexit.unregister(self._at_exit)
        if self._provider is not None and self._own:
            self._own = False
            ending = threading.Thread(target=self._provider.shutdown, daemon=True)
            ending.start()
            ending.join(seconds)

    def _at_exit(self) -> None:
        self.close(seconds=_AT_EXIT_SECONDS)

    def _context(self, job: str | None) -> Context | None:
        """Where a span belongs: to what is traced already, or to the job."""
        current = trace.get_current_span()
        if current.get_span_context().is_valid:
            return trace.set_span_in_context(current)
        return None if job is None else self._of_job(job)

    def _of_job(self, job: str) -> Context:
        """A job's own trace, as far as sampling has room for it: that is decided by the trace's id, so by all alike."""
        ids = first_span(job)
        decided = self._opened().sampler.should_sample(None, ids[0], "job")
        sampled = decided.decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return trace.set_span_in_context(
            NonRecordingSpan(SpanContext(*ids, is_remote=True, trace_flags=flags)), Context()
        )

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        context: Context | None,
        attributes: Mapping[str, str],
        links: tuple[Link, ...] = (),
    ) -> Iterator[Span]:
        with self._tracer().start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes=attributes,
            links=links,
            record_exception=False,  # its message may hold anything
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    def _tracer(self) -> trace.Tracer:
        return self._opened().get_tracer(_SCOPE)

    def _opened(self) -> TracerProvider:
        if self._provider is None:
            with self._lock:
                if self._provider is None:
                    self._provider = self._open()
        return self._provider

    def _open(self) -> TracerProvider:
        applications = trace.get_tracer_provider()
        if isinstance(applications, TracerProvider):
            return applications
        # A queue that is full because nobody takes anything is not worth a line for every span.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        provider = TracerProvider(
            resource=Resource.create({} if named else {SERVICE_NAME: self._service}),
            id_generator=_Ids(),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._own = True
        atexit.register(self._at_exit)
        return provider


class _Sent(Asked):
    """A request on its way."""

    def __init__(self, span: Span) -> None:
        self._span = span
        carried: dict[str, str] = {}
        _PROPAGATOR.inject(carried)
        self.headers = {_TRACEPARENT: carried[_TRACEPARENT]} if _TRACEPARENT in carried else {}

    def answered(self, status: int) -> None:
        """Note how it was answered."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= _ERROR:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)


class _Answered(Served):
    """A request that is being answered, in this thread."""

    def __init__(self, span: Span, method: str, token: Token[Context]) -> None:
        self._span, self._method, self._token = span, method, token

    def ended(self, *, route: str, status: int, request: str, caller: str | None) -> None:
        """Note how."""
        span = self._span
        span.update_name(f"{'HTTP' if self._method == '_OTHER' else self._method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status, "blindgate.request": request})
        if caller is not None:
            span.set_attribute("blindgate.caller", caller)
        if status >= _FAULT:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        span.end()
        detach(self._token)


def _first_context(job: str) -> SpanContext:
    return SpanContext(*first_span(job), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _links_from(context: Context | None, job: str) -> tuple[Link, ...]:
    """A link to a job's first span, from whatever is not in its trace."""
    there = trace.get_current_span(context).get_span_context()
    return () if there.trace_id == first_span(job)[0] else (Link(_first_context(job)),)

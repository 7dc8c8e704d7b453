"""A collector of traces: OTLP over HTTP, as the specification has it, in a thread of the test's own."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Told:
    """A span, as it arrived; ids in hexadecimal, `parent` empty where there is none."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was told, by whom.

    Attributes:
        url: what `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
        raw: every request's bytes, uncompressed: what a search for secrets looks through.
        reached: set when something came.
        silent: while set, requests are taken and never answered.
    """

    url: str = ""
    raw: list[bytes] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    silent: bool = False
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def spans(self) -> list[Told]:
        """All spans."""
        return [span for data in list(self.raw) for span in _decoded(data)]

    def of(self, service: str) -> list[Told]:
        """A service's spans."""
        return [span for span in self.spans if span.service == service]


def _decoded(data: bytes) -> Iterator[Told]:
    for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
        service = next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Told(
                    service=service,
                    name=span.name,
                    kind=span.kind,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes={
                        each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes
                    },
                )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        """Takes what comes."""

        def do_POST(self) -> None:
            """Take one batch."""
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            collector.raw.append(data)
            collector.reached.set()
            if collector.silent:
                collector.ending.wait()
                return
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()

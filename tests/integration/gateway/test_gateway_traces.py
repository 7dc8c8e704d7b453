"""Traces, as a collector gets them from real processes: one for each job, with nothing secret, and at nobody's expense."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blindgate.keystore import FileStore
from blindgate_gateway.identity import Scope
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_protocol.messages import Refusal
from blindgate_telemetry import wanted
from blindgate_telemetry.collected import first_span
from brokerage import Brokerage, Caller, GatewayProcess, Keys, Publisher, Tenant, Worker, http_client, make_settings
from collector import Collector, Told, collecting
from postgresql import PostgresqlServer
from runs import SOON_IN_THE_LOG
from signed_packages import PUBLISHER, package
from world import World

SECRET = "a-text-that-only-its-sender-knows"
METHOD = "ONLYOURSENDERS"
SERVER = 2
"""A kind of span."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that every process started now is told of."""
    with collecting() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield made


def parent_of(span: Told, spans: list[Told]) -> Told:
    """The span that another belongs to."""
    (found,) = (each for each in spans if (each.trace, each.id) == (span.trace, span.parent))
    return found


def test_one_trace_tells_of_one_job_at_its_tenant_its_gateway_and_its_node(
    tmp_path: Path, small_compiled: CompiledModel, collector: Collector
) -> None:
    """From the first upload to the evaluation in the node and back; everything hangs together, and no row and no key is in it."""
    rows = np.array([[0.8371946205, -1.2948305716, 0.5560213948, 2.1130587429]])
    with World(tmp_path / "world", gateway={"workers": 2} | SOON_IN_THE_LOG) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        world.start_node("node-1")
        world.publish(package(small_compiled))
        with world.client() as client:
            job = client.model("small").submit(rows)
            job.result(timeout=60)
            store = FileStore(client.home / "keys")
            secrets = [store.get(name) or b"" for name in store.names() if not name.endswith(".public")]
    spans = [span for span in collector.spans if span.trace == job.id]
    assert {span.service for span in spans} == {"blindgate-sdk", "blindgate-gateway", "blindgate-node"}
    first = f"{first_span(job.id)[1]:016x}"
    roots = [span for span in spans if not span.parent]
    assert [(span.name, span.id) for span in roots] == [("job", first)]
    for span in spans:
        assert not span.parent or parent_of(span, spans)
    named = {(span.service, span.name) for span in spans}
    assert {
        ("blindgate-sdk", "submit"),
        ("blindgate-sdk", "POST /v1/jobs"),
        ("blindgate-gateway", "POST /v1/jobs"),
        ("blindgate-gateway", "GET /v1/jobs/<job>"),
        ("blindgate-gateway", "database write"),
        ("blindgate-node", "run"),
        ("blindgate-node", "evaluate"),
        ("blindgate-node", "POST /v1/leases/{id}/commit"),
        ("blindgate-gateway", "POST /v1/leases/<job>/commit"),
    } <= named
    served = next(span for span in spans if span.name == "POST /v1/leases/<job>/commit")
    assert (served.kind, parent_of(served, spans).service) == (SERVER, "blindgate-node")
    assert served.attributes["http.route"] == "/v1/leases/<job>/commit"
    assert (served.attributes["http.request.method"], served.attributes["http.response.status_code"]) == ("POST", 200)
    lease = next(span for span in collector.spans if span.name == "POST /v1/leases" and (job.id, first) in span.links)
    assert lease.attributes["blindgate.job"] == job.id
    told = b"".join(collector.raw)
    for secret in secrets:
        assert secret[:64] not in told
    for number in rows[0]:
        assert str(number).encode() not in told
        assert np.float64(number).tobytes() not in told


def test_a_collector_learns_no_secret_of_a_request(
    tmp_path: Path, collector: Collector, postgresql_server: PostgresqlServer
) -> None:
    """Credentials, bodies, reasons, queries and foreign trace fields, in requests that are taken and in such that are refused."""
    keys = Keys()
    settings = make_settings(
        tmp_path / "gateway", keys, database=postgresql_server.new_database(), workers=3, threads=8, failures=0
    )
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    with http_client(gateway.url) as http:
        manifest = brokerage.manifest()
        publish = brokerage.api_key("models", publish=True)
        Publisher(http, publish).publish(manifest)
        tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
        reader = Caller(http, brokerage.api_key("bank", scopes=(Scope.READ,)))
        enrolment = brokerage.enrolment_token()
        worker = Worker(http, brokerage)
        secret = SECRET.encode()
        tenant.submit(tenant.order(manifest, tenant.upload(secret)))
        lease = worker.lease()
        assert lease is not None
        assert worker.command(lease, "POST", "refuse", Refusal(code="no", reason=SECRET)).status_code == 200
        theirs = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": f"a={SECRET}", "baggage": f"a={SECRET}"}
        for number in range(40):
            tenant.send("GET", f"/v1/jobs/{lease.job}?inline={SECRET}", headers=theirs | {"User-Agent": SECRET})
            tenant.send("POST", "/v1/uploads", b'{"size": "%s"}' % secret, headers={"Idempotency-Key": SECRET})
            Caller(http, f"bg_{number:016x}.{SECRET}").send("GET", f"/v1/{SECRET}", headers={"Cookie": SECRET})
            worker.send("POST", "/v1/nodes", worker.enrolment(f"{enrolment}x", gateway.url))
            reader.send(METHOD, "/v1/jobs")
    assert gateway.stop() == 0
    told = b"".join(collector.raw)
    spans = collector.spans
    credentials = [publish, str(tenant.token), str(reader.token), enrolment, lease.token]
    for text in (SECRET, METHOD, *(each.partition(".")[2] or each for each in credentials)):
        assert text.encode() not in told
        assert base64.b64encode(text.encode())[:-4] not in told
    assert {span.attributes.get("db.system.name") for span in spans} == {None, "postgresql"}
    requests = {span.attributes.get("blindgate.request") for span in spans}
    assert len(requests) > 200
    assert {span.name for span in spans} >= {"POST /v1/uploads", "HTTP none", "GET none", "database look"}
    assert any(span.trace == "ab" * 16 and span.parent == "cd" * 8 for span in spans)


def test_a_collector_that_never_answers_holds_up_nobody(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans are dropped when nobody takes them: requests are answered, the log stays quiet, and the gateway ends in order."""
    collector.silent = True
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    settings = make_settings(tmp_path / "gateway", Keys(), threads=4)
    gateway = GatewayProcess(settings)
    gateway.start()
    with http_client(gateway.url) as http:
        assert collector.reached.wait(20)
        assert {http.get("/healthz", timeout=5).status_code for _ in range(200)} == {200}
    assert gateway.stop() == 0
    assert len(collector.spans) < 50
    assert len(gateway.log.read_text().splitlines()) < 10


_FRESH = """
import sys
from pathlib import Path
from blindgate_gateway.app import create_app
from blindgate_gateway.opening import prepare
from blindgate_gateway.settings import Settings
settings = Settings(data=Path(sys.argv[1]))
{before}
lock = prepare(settings)
app = create_app(settings)
assert app.test_client().get("/healthz").status_code == 200
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "google", "requests")))
"""


def fresh(folder: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A gateway's application in a process that did nothing else."""
    command = [sys.executable, "-c", _FRESH.format(before=before), str(folder / "gateway")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)


def test_a_gateway_without_a_collector_imports_nothing_of_it(tmp_path: Path) -> None:
    """It is as light as before, whatever is installed."""
    assert fresh(tmp_path).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("given", "on"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True, id="a collector"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, True, id="a collector of traces"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"}, False, id="disabled"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False, id="no traces"
        ),
    ],
)
def test_the_standard_variables_decide(given: dict[str, str], on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has turned traces off for everything has turned them off here."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert wanted() is on


def test_a_collector_without_the_extra_is_an_error_that_says_so(tmp_path: Path) -> None:
    """An operator who wants traces is not left without them in silence."""
    before = "sys.path[:] = [place for place in sys.path if 'site-packages' not in place]; sys.modules['opentelemetry'] = None"
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = fresh(
        tmp_path, "import sqlalchemy.dialects.sqlite.pysqlite, alembic.command, alembic.script; " + before, **there
    )
    assert "pip install 'blindgate[telemetry]'" in done.stderr

"""What the gateway says of itself is true: its tables, its interface, its settings."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from openapi_spec_validator import validate
from sqlalchemy import select

from blindgate_gateway.app import ROUTES
from blindgate_gateway.opening import migrate
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings, load_settings
from blindgate_gateway.tables import metadata, stored_bytes
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.messages import UploadRequest
from blindgate_protocol.signing import SigningKey
from brokerage import Keys, blob_ref, make_settings
from desk import Desk, open_desk
from postgresql import PostgresqlServer


def test_the_migrations_make_the_tables(tmp_path: Path, empty_database_url: str | None) -> None:
    """A table that changed without a migration fails here; migrating twice does nothing."""
    settings = make_settings(tmp_path / "gateway", Keys(), database=empty_database_url)
    assert migrate(settings) == (None, _LATEST)
    assert migrate(settings) == (_LATEST, _LATEST)
    with connect(settings).migrating() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_interface_document_is_valid_and_complete(desk: Desk) -> None:
    """OpenAPI 3.1, with every route, its callers, its body and its answers."""
    spec: dict[str, Any] = desk.http.get("/openapi.json").json()
    validate(spec)
    assert spec["openapi"].startswith("3.1")
    for route in ROUTES:
        operation = spec["paths"][re.sub(r"<(?:int:|path:)?(\w+)>", r"{\1}", route.rule)][route.method.lower()]
        assert bool(operation.get("security")) == bool(route.roles)
        assert ("requestBody" in operation) == (route.body is not None)
        assert {str(status) for status in route.answers} == set(operation["responses"]) - {
            "default",
            "401",
            "429",
            "503",
        }
        assert operation["summary"].endswith(".")
    assert set(spec["components"]["securitySchemes"]) == {
        "apiKey",
        "readKey",
        "publisherKey",
        "nodeSignature",
        "operatorKey",
        "auditorKey",
    }


def test_the_page_for_people_needs_nothing_from_elsewhere(desk: Desk) -> None:
    """No script, no style, no font and no picture from another host."""
    page = desk.http.get("/docs").text
    assert not re.search(r"https?://|<script|@import|url\(|<link|<img", page)
    for route in ROUTES:
        assert re.sub(r"<(?:int:|path:)?(\w+)>", r"{\1}", route.rule) in page
    assert "lease-lost" in page


def test_settings_come_from_the_environment_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given before environment before file before default; lists may be written with commas."""
    first, second = SigningKey.generate().id, SigningKey.generate().id
    file = tmp_path / "gateway.toml"
    file.write_text(f'port = 1111\nthreads = 8\nhost = "::1"\noperators = ["{first}"]\n')
    monkeypatch.setenv("BLINDGATE_GATEWAY_THREADS", "9")
    monkeypatch.setenv("BLINDGATE_GATEWAY_PUBLISHERS", f"{first}, {second}")
    settings = load_settings(file, port=2222)
    assert (settings.port, settings.threads, settings.host, settings.workers) == (2222, 9, "::1", 1)
    assert (settings.publishers, settings.operators) == ((first, second), (first,))
    assert settings.known_as("http://[::1]:2222/")
    assert settings.known_as("http://localhost:2222")
    assert not settings.known_as("http://localhost:2223")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("prot = 1", "prot", id="misspelt"),
        pytest.param('port = "no"', "port", id="no number"),
        pytest.param("port = 0", "port", id="out of range"),
        pytest.param('publishers = ["me"]', "publishers", id="no key id"),
        pytest.param("port = ", "TOML", id="not TOML"),
        pytest.param('blobs = "https://bucket"', "blobs", id="no bucket"),
        pytest.param('s3_endpoint = "http://user:pw@host"', "s3_endpoint", id="credentials in an address"),
        pytest.param('s3_key_id = "x"', "s3_secret", id="half a credential"),
        pytest.param('blobs = "s3://bucket"\npart = 65536', "part", id="more parts than S3 has"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, names: str) -> None:
    """And its value is not repeated."""
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(MalformedError, match=names):
        load_settings(file)
    with pytest.raises(MalformedError, match="does not exist"):
        load_settings(tmp_path / "nothing.toml")


def test_secrets_in_settings_are_never_shown() -> None:
    """Neither by repr nor by the command that shows settings."""
    settings = Settings(metrics_token="a-secret")
    assert "a-secret" not in repr(settings)
    assert "a-secret" not in str(settings.shown())


def test_the_metrics_count_and_may_be_guarded(tmp_path: Path, desk: Desk) -> None:
    """Jobs by state, whatever was asked; a token where one is set."""
    desk.submit()
    text = desk.http.get("/metrics").text
    assert 'blindgate_jobs{state="queued"} 1.0' in text
    assert 'route="/v1/jobs"' in text
    object.__setattr__(desk.parts, "settings", desk.parts.settings.model_copy(update={"metrics_token": None}))
    guarded = Settings(metrics_token="a-secret")
    object.__setattr__(desk.parts, "settings", guarded)
    assert desk.http.get("/metrics").status_code == 401
    assert desk.http.get("/metrics", headers={"Authorization": "Bearer a-secret"}).status_code == 200


def test_strangers_cannot_add_to_what_is_counted(desk: Desk) -> None:
    """Each count is kept for ever: neither made-up methods nor made-up paths become new ones."""
    for number in range(10):
        desk.http.request(f"MADEUP{number}", f"/made-up/{number}")
    text = desk.http.get("/metrics").text
    assert 'method="other",route="none",status="404"' in text
    assert "MADEUP" not in text
    assert "made-up" not in text


def test_a_gateway_that_can_write_is_ready_and_one_that_cannot_is_not(desk: Desk) -> None:
    """The load balancer is told before the tenants are."""
    assert desk.http.get("/healthz").status_code == 200
    assert desk.http.get("/readyz").status_code == 200
    incoming = desk.brokerage.settings.data / "incoming"
    incoming.rmdir()
    answer = desk.http.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_jobs_of_an_older_gateway_move_to_their_queues(tmp_path: Path, empty_database_url: str | None) -> None:
    """Waiting ones can be leased as before, ended ones keep their documents and attempts."""
    settings = make_settings(tmp_path / "gateway", Keys(), database=empty_database_url)
    migrate(settings, to="0003")
    with connect(settings).migrating() as connection:
        for statement in _OLD_ROWS:
            connection.exec_driver_sql(statement)
    assert migrate(settings) == ("0003", _LATEST)
    with connect(settings).migrating() as connection:
        waiting = connection.exec_driver_sql("SELECT job, queue, state, generation, held FROM jobs ORDER BY job").all()
        assert [(row.job, row.state, row.generation, row.held) for row in waiting] == [
            ("held", "queued", 0, 1),
            ("taken", "leased", 2, 0),
            ("waiting", "queued", 0, 0),
        ]
        assert len({row.queue for row in waiting}) == 1
        operators = connection.exec_driver_sql("SELECT operator FROM queue_operators ORDER BY operator").scalars().all()
        assert operators == ["north", "south"]
        assert connection.exec_driver_sql("SELECT job, state, ended FROM ended_jobs").all() == [
            ("done", "succeeded", 9)
        ]
        assert connection.exec_driver_sql("SELECT count(*) FROM job_documents").scalar() == 4
        assert connection.exec_driver_sql("SELECT job, node FROM attempts").all() == [("done", "node-1")]


def test_blobs_of_an_older_gateway_are_where_they_were(tmp_path: Path) -> None:
    """Files keep the names that they had, small blobs stay in their rows, and both are counted; uploads begin anew."""
    settings = make_settings(tmp_path / "gateway", Keys())
    migrate(settings, to="0007")
    file, row = blob_ref(b"in a file"), blob_ref(b"in its row")
    with connect(settings).migrating() as connection:
        for statement in (
            _OLD_ROWS[0],
            f"INSERT INTO blobs VALUES ('bank', '{file.digest}', 9, 1, NULL)",
            f"INSERT INTO blobs VALUES ('bank', '{row.digest}', 10, 1, CAST('in its row' AS BLOB))",
            "INSERT INTO uploads VALUES ('u', 'bank', 'd', 100, 64, 'parts', 1)",
            "INSERT INTO upload_parts VALUES ('u', 1)",
        ):
            connection.exec_driver_sql(statement)
    old = settings.data / "blobs" / "bank" / file.digest.removeprefix("sha256:")
    old.parent.mkdir(parents=True)
    old.write_bytes(b"in a file")
    (settings.data / "partial").mkdir()
    (settings.data / "partial" / "u").write_bytes(b"half")
    with open_desk(tmp_path, port=settings.port) as desk:
        for ref in (file, row):
            asked = UploadRequest(size=ref.size, sha256=ref.digest)
            assert desk.tenant.ask("POST", "/v1/uploads", asked).json()["status"] == "exists"
            job = desk.tenant.submit(desk.tenant.order(desk.manifest, ref)).job
            lease = desk.worker.lease()
            assert lease is not None
            assert lease.job == job
            got = lease.input_data or desk.worker.command(lease, "GET", f"blobs/{ref.digest}").content
            assert blob_ref(got) == ref
        with desk.parts.database.read() as connection:
            assert (
                connection.execute(select(stored_bytes.c.bytes).where(stored_bytes.c.tenant == "bank")).scalar() == 19
            )
    assert not list((settings.data / "partial").iterdir())


def test_nodes_of_an_older_gateway_and_their_jobs_stay(tmp_path: Path, empty_database_url: str | None) -> None:
    """Their tokens go: their keys were known before, and are what they sign with now."""
    settings = make_settings(tmp_path / "gateway", Keys(), database=empty_database_url)
    migrate(settings, to="0005")
    with connect(settings).migrating() as connection:
        for statement in _OLD_NODES:
            connection.exec_driver_sql(statement)
    assert migrate(settings) == ("0005", _LATEST)
    with connect(settings).migrating() as connection:
        assert connection.exec_driver_sql("SELECT * FROM nodes").all() == [("k", "node-1", "north", 9, "{}", 1)]
        for table in ("jobs", "ended_jobs"):
            kept = connection.exec_driver_sql(f"SELECT job, node FROM {table} ORDER BY job").all()
            assert kept == [(f"{table}-1", "k"), (f"{table}-2", None)]


_LATEST = "0023"
_OLD_NODES = [
    (
        "INSERT INTO nodes (key, name, operator, expires, certificate, token, secret_hash, enrolled) "
        "VALUES ('k', 'node-1', 'north', 9, '{}', 't', 'h', 1)"
    ),
    "INSERT INTO tenants (name, created) VALUES ('bank', 1)",
    (
        "INSERT INTO manifests (digest, name, version, tenant, client_digest, server_digest, envelope, published) "
        "VALUES ('m', 'model', 1, 'bank', 'c', 's', '{}', 1)"
    ),
    "INSERT INTO queues (id, tenant, family) VALUES ('q', 'bank', 'echo')",
    *(
        "INSERT INTO jobs (job, tenant, queue, state, manifest, input_digest, submitted, deadline, node) "
        f"VALUES ('jobs-{number}', 'bank', 'q', 'queued', 'm', 'i', 1, 2, {node})"
        for number, node in ((1, "'k'"), (2, "NULL"))
    ),
    *(
        "INSERT INTO ended_jobs (job, tenant, state, manifest, input_digest, submitted, deadline, ended, generation, node)"
        f" VALUES ('ended_jobs-{number}', 'bank', 'dead', 'm', 'i', 1, 2, 3, 1, {node})"
        for number, node in ((1, "'k'"), (2, "NULL"))
    ),
]
_OLD_JOBS = [
    ("waiting", "queued", "NULL", 0, "NULL"),
    ("held", "queued", "'suspended-key'", 0, "NULL"),
    ("taken", "leased", "NULL", 2, "NULL"),
    ("done", "succeeded", "NULL", 1, "9"),
]
_OLD_ROWS = [
    "INSERT INTO tenants (name, created) VALUES ('bank', 1)",
    (
        "INSERT INTO manifests (digest, name, version, tenant, client_digest, server_digest, envelope, published) "
        "VALUES ('m', 'model', 1, 'bank', 'c', 's', '{}', 1)"
    ),
    "INSERT INTO keys (tenant, digest, state, sequence) VALUES ('bank', 'suspended-key', 'suspended', 1)",
    *(
        "INSERT INTO jobs (job, tenant, state, manifest, family, input_digest, evaluation_key, submitted, deadline, "
        f"generation, ended) VALUES ('{job}', 'bank', '{state}', 'm', 'echo', 'i', {key}, 1, 2, {generation}, {ended})"
        for job, state, key, generation, ended in _OLD_JOBS
    ),
    *(
        f"INSERT INTO job_operators (job, operator) VALUES ('{job}', '{operator}')"
        for job, *_ in _OLD_JOBS
        for operator in ("north", "south")
    ),
    *(
        f"""INSERT INTO job_documents (job, order_digest, "order") VALUES ('{job}', 'd', '{{}}')"""
        for job, *_ in _OLD_JOBS
    ),
    (
        "INSERT INTO attempts (job, generation, node, outcome, reason, ended) "
        "VALUES ('done', 1, 'node-1', 'succeeded', '', 9)"
    ),
]


def test_a_migration_takes_as_long_as_it_takes(
    tmp_path: Path, postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many rows, or while another gateway is at it: what bounds a request does not end it."""
    monkeypatch.setattr("blindgate_gateway.database.postgresql._OPTIONS", "-c lock_timeout=50 -c statement_timeout=50")
    settings = make_settings(tmp_path / "gateway", Keys(), database=postgresql_server.new_database(empty=True))
    began = threading.Event()

    def first() -> None:
        with connect(settings).migrating() as connection:
            began.set()
            connection.exec_driver_sql("SELECT pg_sleep(0.3)")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(first)
        began.wait()
        assert migrate(settings) == (None, _LATEST)
        other.result()

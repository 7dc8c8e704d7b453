"""What the gateway says of itself is true: its tables, its interface, its settings."""

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from openapi_spec_validator import validate

from blindgate_gateway.app import ROUTES
from blindgate_gateway.opening import migrate
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings, load_settings
from blindgate_gateway.tables import metadata
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.signing import SigningKey
from brokerage import Keys, make_settings
from desk import Desk


def test_the_migrations_make_the_tables(tmp_path: Path, database_url: str | None) -> None:
    """A table that changed without a migration fails here; migrating twice does nothing."""
    settings = make_settings(tmp_path / "gateway", Keys(), database=database_url)
    assert migrate(settings) == (None, "0003")
    assert migrate(settings) == ("0003", "0003")
    with connect(settings).migrating() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_interface_document_is_valid_and_complete(desk: Desk) -> None:
    """OpenAPI 3.1, with every route, its callers, its body and its answers."""
    spec: dict[str, Any] = desk.http.get("/openapi.json").json()
    validate(spec)
    assert spec["openapi"].startswith("3.1")
    for route in ROUTES:
        operation = spec["paths"][re.sub(r"<(?:int:)?(\w+)>", r"{\1}", route.rule)][route.method.lower()]
        assert bool(operation.get("security")) == bool(route.roles)
        assert ("requestBody" in operation) == (route.body is not None)
        assert {str(status) for status in route.answers} == set(operation["responses"]) - {"default"}
        assert operation["summary"].endswith(".")
    assert set(spec["components"]["securitySchemes"]) == {"apiKey", "publisherKey", "nodeToken"}


def test_the_page_for_people_needs_nothing_from_elsewhere(desk: Desk) -> None:
    """No script, no style, no font and no picture from another host."""
    page = desk.http.get("/docs").text
    assert not re.search(r"https?://|<script|@import|url\(|<link|<img", page)
    for route in ROUTES:
        assert re.sub(r"<(?:int:)?(\w+)>", r"{\1}", route.rule) in page
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

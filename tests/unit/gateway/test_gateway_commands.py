"""What the gateway's operator does from the command line."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from blindgate_gateway.commands import app
from blindgate_gateway.settings import DAY
from blindgate_protocol.messages import Refusal, UploadRequest
from blindgate_protocol.signing import SigningKey
from brokerage import Caller, Tenant
from desk import Desk

SIGNER = SigningKey.generate().id


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def _json(*arguments: str) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def data(desk: Desk, database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The running gateway's data folder; its database, if that is elsewhere, stands in the environment."""
    if database_url is not None:
        monkeypatch.setenv("BLINDGATE_GATEWAY_DATABASE", database_url)
    return str(desk.brokerage.settings.data)


def test_a_new_gateway_is_made_by_one_command(tmp_path: Path) -> None:
    """One tenant, one publisher, one enrolment token; the folder is its user's alone, and no secret lies in it."""
    data = tmp_path / "new"
    made = _json("init", "--data", str(data))
    assert made["tenant_key"].startswith("bg_")
    assert made["enrolment_token"].startswith("be_")
    assert data.stat().st_mode & 0o777 == 0o700
    secret = made["tenant_key"].partition(".")[2].encode()
    assert all(secret not in path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert {*map(tuple, (key["scopes"] for key in _json("tenants", "list", "--data", str(data))))} == {
        ("jobs",),
        ("publish",),
    }
    assert made["data"] in _run("init", "--data", str(data)).stdout


def test_a_key_works_beside_a_running_gateway_until_it_is_revoked(desk: Desk, data: str) -> None:
    """Both take effect at once."""
    key = _json("tenants", "add", "bank", "--data", data)["api_key"]
    caller = Tenant(desk.http, key, name="bank", keys=desk.brokerage.keys)
    assert caller.send("GET", "/v1/jobs").status_code == 200
    assert _run("tenants", "revoke", key.partition(".")[0].removeprefix("bg_"), "--data", data).exit_code == 0
    assert caller.send("GET", "/v1/jobs").status_code == 401


def test_a_key_is_made_for_a_time_and_rotated(desk: Desk, data: str) -> None:
    """The list says until when, and on which day it was used; the old key works on for the overlap."""
    made = _json("tenants", "add", "bank", "--scope", "read", "--scope", "jobs", "--expires", "90d", "--data", data)
    assert made["scopes"] == ["jobs", "read"]
    new = _json("tenants", "rotate", made["id"], "--overlap", "2h", "--data", data)
    keys = {key["id"]: key for key in _json("tenants", "list", "--data", data)}
    assert keys[new["id"]]["expires"] - keys[new["id"]]["created"] == 90 * DAY
    assert keys[made["id"]]["expires"] - keys[made["id"]]["created"] < 2 * DAY
    began = datetime.now(UTC)
    for key in (made["api_key"], new["api_key"]):
        caller = Tenant(desk.http, key, name="bank", keys=desk.brokerage.keys)
        assert caller.send("GET", "/v1/jobs").status_code == 200
    listed = _run("tenants", "list", "--data", data).stdout
    assert "jobs, read" in listed
    assert any(f"{day:%Y-%m-%d}" in listed for day in (began, datetime.now(UTC)))  # it may be midnight between


def test_staff_are_added_listed_rotated_and_revoked(desk: Desk, data: str) -> None:
    """They belong to no tenant, and their keys open what their role says."""
    made = _json("staff", "add", "ann", "--role", "operator", "--data", data)
    (ann,) = [key for key in _json("staff", "list", "--data", data) if key["staff"] == "ann"]
    assert (ann["id"], ann["scopes"]) == (made["id"], ["operator"])
    caller = Caller(desk.http, _json("staff", "rotate", made["id"], "--overlap", "0m", "--data", data)["api_key"])
    assert caller.send("GET", "/v1/operator/jobs").status_code == 200
    assert Caller(desk.http, made["api_key"]).send("GET", "/v1/operator/jobs").status_code == 401
    assert caller.token is not None
    assert _run("staff", "revoke", caller.token.partition(".")[0], "--data", data).exit_code == 0
    assert caller.send("GET", "/v1/operator/jobs").status_code == 401
    assert "ann" in _run("staff", "add", "ann", "--role", "auditor", "--data", data).stdout


def test_jobs_are_shown_with_every_reason(desk: Desk, data: str) -> None:
    """The dead letter can be read."""
    lease = desk.leased()
    desk.worker.command(lease, "POST", "refuse", Refusal(code="bad-ciphertext", reason="too short"))
    (row,) = _json("jobs", "list", "--state", "failed", "--data", data)
    assert (row["job"], row["tenant"], row["code"]) == (lease.job, "bank", "bad-ciphertext")
    assert _json("jobs", "list", "--state", "dead", "--data", data) == []
    shown = _json("jobs", "show", lease.job, "--data", data)
    assert shown["attempts"][0]["reason"] == "bad-ciphertext: too short"
    for text in (_run("jobs", "show", lease.job, "--data", data).stdout, _run("jobs", "list", "--data", data).stdout):
        assert "too short" in text
    assert "none" in _run("jobs", "list", "--state", "dead", "--data", data).stdout


def test_what_a_hostile_node_says_reaches_no_terminal_as_it_is(desk: Desk, data: str) -> None:
    """Neither control characters nor the markup of the library that prints tables."""
    lease = desk.leased()
    reason = "[/bold] \x1b]0;owned\x07 \x9b2J \u202e"
    desk.worker.command(lease, "POST", "refuse", Refusal(code="bad-ciphertext", reason=reason))
    for command in (["jobs", "list"], ["jobs", "show", lease.job]):
        result = _run(*command, "--data", data)
        assert result.exit_code == 0, result.output
        assert "[/bold]" in result.stdout
        assert not set("\x1b\x07\x9b\u202e") & set(result.stdout)


def test_a_tenants_quota_is_set_beside_a_running_gateway(desk: Desk, data: str) -> None:
    """It holds for the next upload, and what is stored is shown beside it."""
    desk.tenant.upload(b"ten bytes.")
    assert _run("tenants", "quota", "bank", "15", "--data", data).exit_code == 0
    rows = {row["tenant"]: row for row in _json("tenants", "storage", "--data", data)}
    assert rows["bank"] == {"tenant": "bank", "stored": 10, "quota": 15}
    assert rows["clinic"] == {"tenant": "clinic", "stored": 0, "quota": None}
    refused = desk.tenant.send("POST", "/v1/uploads", UploadRequest(size=6, sha256="sha256:" + "0" * 64))
    assert (refused.status_code, refused.json()["code"]) == (429, "quota")
    assert _run("tenants", "quota", "nobody", "15", "--data", data).exit_code == 1


def test_nodes_are_listed_and_dismissed(desk: Desk, data: str) -> None:
    """A dismissed node's token opens nothing."""
    (node,) = _json("nodes", "list", "--data", data)
    assert node["key"] == desk.worker.key.id
    assert _run("nodes", "dismiss", node["key"], "--data", data).exit_code == 0
    assert desk.worker.send("POST", "/v1/leases").status_code == 401


def test_an_enrolment_token_is_made_for_a_time(data: str) -> None:
    """And shown once."""
    assert _json("enrol", "--hours", "2", "--data", data)["hours"] == 2
    assert "be_" in _run("enrol", "--data", data).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["tenants", "list"], "no gateway", id="no folder"),
        pytest.param(["tenants", "add", "Not A Name"], "not a name", id="no name"),
        pytest.param(["jobs", "show", "x"], "no such job", id="no job"),
        pytest.param(["tenants", "revoke", "x"], "no such API key", id="no key"),
        pytest.param(["staff", "revoke", "x"], "no such API key", id="no staff key"),
        pytest.param(["tenants", "rotate", "x"], "no such API key", id="no key to rotate"),
        pytest.param(["tenants", "add", "x", "--expires", "soon"], "not a length of time", id="no time"),
        pytest.param(["tenants", "revoke-signer", "x", "ed25519:x"], "not a signing key", id="no signing key"),
        pytest.param(["tenants", "revoke-signer", "nobody", SIGNER], "no such tenant", id="no tenant"),
        pytest.param(["nodes", "dismiss", "x"], "no such node", id="no node"),
        pytest.param(["serve", "--port", "0"], "port", id="no port"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    tmp_path: Path, data: str, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, without a traceback."""
    folder = data
    if says == "no gateway":
        monkeypatch.delenv("BLINDGATE_GATEWAY_DATABASE", raising=False)
        folder = str(tmp_path / "nothing")
    result = _run(*arguments, "--data", folder)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [["tenants", "list"], ["init"], ["migrate"]])
def test_a_broken_database_and_a_folder_that_cannot_be_are_one_line_too(tmp_path: Path, command: list[str]) -> None:
    """Whoever reads it at night is told what is wrong, and not where in the code."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "gateway.sqlite").write_bytes(b"not a database" * 1000)
    (tmp_path / "file").touch()
    impossible = "no gateway" if command == ["tenants", "list"] else "Not a directory"
    for folder, says in ((broken, "file is not a database"), (tmp_path / "file" / "folder", impossible)):
        result = _run(*command, "--data", str(folder))
        assert (result.exit_code, type(result.exception)) == (1, SystemExit)
        assert says in result.stderr


def test_settings_and_migrations_are_shown(data: str) -> None:
    """For people and for scripts."""
    assert _json("settings", "--data", data)["data"] == data
    assert "threads" in _run("settings", "--data", data).stdout
    assert _json("migrate", "--data", data) == {"before": "0023", "after": "0023"}
    assert "nothing to do" in _run("migrate", "--data", data).stdout

"""API keys: what they are good for, how long, and how they are replaced without anybody noticing."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from blindgate_gateway.identity import (
    Scope,
    StaffRole,
    add_staff,
    add_tenant,
    list_api_keys,
    revoke_api_key,
    rotate_api_key,
)
from blindgate_gateway.opening import migrate
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import DAY
from blindgate_gateway.tables import api_keys
from blindgate_protocol.errors import NotFoundError
from blindgate_protocol.messages import JobRequest, ModelOffer
from brokerage import Caller, Keys, make_settings, now_ms, random_bytes
from desk import Desk


def _status(desk: Desk, key: object, path: str = "/v1/jobs") -> int:
    return Caller(desk.http, str(key)).send("GET", path).status_code


def _set(desk: Desk, key: str, **values: Any) -> None:
    with desk.parts.database.write() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == key).values(**values))


def _row(desk: Desk, key: str) -> Any:
    with desk.parts.database.read() as connection:
        return connection.execute(select(api_keys).where(api_keys.c.id == key)).one()


def test_a_key_has_a_set_of_scopes_and_each_opens_its_routes(desk: Desk) -> None:
    """One key for both, one that only looks."""
    database = desk.parts.database
    both = Caller(desk.http, str(add_tenant(database, "bank", [Scope.JOBS, Scope.PUBLISH])))
    assert both.ask("GET", "/v1/tenant").json() == {"tenant": "bank", "scopes": ["jobs", "publish"]}
    assert both.send("GET", "/v1/jobs").status_code == 200
    assert both.send("POST", "/v1/models", ModelOffer(manifest=desk.manifest.envelope)).status_code != 403


def test_a_reader_sees_all_that_is_the_tenants_and_changes_nothing(desk: Desk) -> None:
    """The result too: whoever has no key of the client's can do nothing with it."""
    lease = desk.leased()
    desk.worker.finish(lease, b"sealed")
    assert [job["job"] for job in desk.reader.ask("GET", "/v1/jobs").json()["jobs"]] == [lease.job]
    assert desk.reader.ask("GET", f"/v1/jobs/{lease.job}/result").content == b"sealed"
    order = desk.tenant.order(desk.manifest, desk.tenant.upload(random_bytes(8)))
    for method, path, body in (
        ("POST", "/v1/jobs", JobRequest(order=order.envelope)),
        ("POST", f"/v1/jobs/{lease.job}/cancel", None),
        ("POST", f"/v1/jobs/{lease.job}/acknowledge", None),
    ):
        assert desk.reader.send(method, path, body).status_code == 403


def test_a_key_ends_when_it_was_said_to_and_says_so(desk: Desk) -> None:
    """By the database's clock; who does not have the secret is told nothing."""
    key = add_tenant(desk.parts.database, "bank", [Scope.JOBS], lasts=DAY)
    assert _status(desk, key) == 200
    _set(desk, key.id, expires=now_ms() - 1)
    refused = Caller(desk.http, str(key)).send("GET", "/v1/jobs")
    assert (refused.status_code, refused.json()["code"]) == (401, "key-expired")
    assert f"bg_{key.id} expired on 20" in refused.json()["detail"]
    guessed = Caller(desk.http, f"bg_{key.id}.{'A' * 43}").send("GET", "/v1/jobs")
    assert guessed.json()["code"] == "not-authorised"


def test_a_key_is_rotated_without_a_gap(desk: Desk) -> None:
    """Both work during the overlap; then the old one has expired."""
    database = desk.parts.database
    old = add_tenant(database, "bank", [Scope.JOBS, Scope.READ], lasts=90 * DAY)
    new = rotate_api_key(database, old.id, staff=False, overlap=DAY)
    assert (_status(desk, old), _status(desk, new)) == (200, 200)
    was, now = _row(desk, old.id), _row(desk, new.id)
    assert (now.tenant, now.scopes) == ("bank", "jobs read")
    assert abs(was.expires - (was.created + DAY)) < 60_000
    assert abs(now.expires - (now.created + 90 * DAY)) < 1000
    _set(desk, old.id, expires=now_ms() - 1)
    assert (_status(desk, old), _status(desk, new)) == (401, 200)


def test_rotating_never_makes_a_key_last_longer(desk: Desk) -> None:
    """Nor one that has ended good again."""
    database = desk.parts.database
    short = add_tenant(database, "bank", [Scope.JOBS], lasts=60_000)
    before = _row(desk, short.id).expires
    rotate_api_key(database, short.id, staff=False, overlap=DAY)
    assert _row(desk, short.id).expires == before
    for ended in ({"expires": 1}, {"expires": None, "revoked": 1}):
        _set(desk, short.id, **ended)
        with pytest.raises(NotFoundError):
            rotate_api_key(database, short.id, staff=False, overlap=DAY)


def test_without_an_overlap_the_old_key_ends_at_once(desk: Desk) -> None:
    """For a key that leaked."""
    old = add_tenant(desk.parts.database, "bank", [Scope.JOBS])
    new = rotate_api_key(desk.parts.database, old.id, staff=False, overlap=0)
    assert (_status(desk, old), _status(desk, new)) == (401, 200)
    assert _row(desk, new.id).expires is None


def test_the_last_use_is_kept_by_the_day(desk: Desk) -> None:
    """One write a day: an older day is put right, the same one is left."""
    key = add_tenant(desk.parts.database, "bank", [Scope.JOBS])
    assert _row(desk, key.id).used is None
    _status(desk, key)
    today = now_ms() // DAY * DAY
    assert _row(desk, key.id).used == today
    _set(desk, key.id, used=today - DAY)
    _status(desk, key)
    assert _row(desk, key.id).used == today
    _set(desk, key.id, used=today + 1)
    _status(desk, key)
    assert _row(desk, key.id).used == today + 1


def test_staff_keys_are_no_tenants_keys(desk: Desk) -> None:
    """Neither command reaches the other's keys, and a key's kind cannot be exchanged."""
    database = desk.parts.database
    staff = add_staff(database, "ann", StaffRole.AUDITOR)
    tenant = add_tenant(database, "bank", [Scope.JOBS])
    assert "ann" in {key.owner for key in list_api_keys(database, staff=True)}
    assert "ann" not in {key.owner for key in list_api_keys(database, staff=False)}
    for key, wrong in ((staff.id, False), (tenant.id, True)):
        with pytest.raises(NotFoundError):
            revoke_api_key(database, key, staff=wrong)
        with pytest.raises(NotFoundError):
            rotate_api_key(database, key, staff=wrong, overlap=0)
    assert _status(desk, staff, "/v1/audit/jobs") == 200
    assert _status(desk, str(staff).replace("bs_", "bg_"), "/v1/audit/jobs") == 401
    assert _status(desk, str(tenant).replace("bg_", "bs_")) == 401
    second = rotate_api_key(database, f"bs_{staff.id}", staff=True, overlap=0)
    assert str(second).startswith("bs_")
    assert _status(desk, second, "/v1/audit/jobs") == 200


def test_keys_of_an_older_gateway_go_on(tmp_path: Path, empty_database_url: str | None) -> None:
    """What was `tenant` is `jobs` now; `publish` is `publish`."""
    settings = make_settings(tmp_path / "older", Keys(), database=empty_database_url)
    migrate(settings, to="0006")
    with connect(settings).migrating() as connection:
        connection.exec_driver_sql("INSERT INTO tenants (name, created) VALUES ('bank', 1)")
        for key, scope in (("a", "tenant"), ("b", "publish")):
            connection.exec_driver_sql(
                "INSERT INTO api_keys (id, tenant, secret_hash, scope, created) "
                f"VALUES ('{key}', 'bank', 'h', '{scope}', 1)"
            )
    migrate(settings)
    database = connect(settings)
    found = {key.id: (key.owner, key.scopes, key.expires) for key in list_api_keys(database, staff=False)}
    database.close()
    assert found == {"a": ("bank", ("jobs",), None), "b": ("bank", ("publish",), None)}

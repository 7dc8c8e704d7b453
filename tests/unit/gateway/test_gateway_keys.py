"""An evaluation key's life at the gateway."""

from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, select, update

from blindgate_gateway.keys import destroy_due
from blindgate_gateway.tables import blobs, keys
from blindgate_protocol.canonical import digest
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobRequest, KeyList, KeyView, Lease, UploadRequest
from blindgate_protocol.signing import Signed, SigningKey, open_signed
from blindgate_protocol.values import BlobRef
from brokerage import blob_ref, now_ms
from desk import Desk


def _keyed(desk: Desk) -> Signed[Manifest]:
    manifest = desk.brokerage.manifest(name="keyed", evaluation_key=True)
    desk.publisher.publish(manifest)
    return manifest


def _live(desk: Desk) -> tuple[BlobRef, Signed[KeyStatement]]:
    key = desk.tenant.upload(b"evaluation key")
    statement = desk.tenant.statement(key, KeyState.ACTIVE)
    assert desk.tenant.state(statement).status_code == 201
    return key, statement


def test_a_keys_statements_follow_one_another(desk: Desk) -> None:
    """The gateway keeps the last one, and the same again changes nothing."""
    key, first = _live(desk)
    second = desk.tenant.statement(key, KeyState.SUSPENDED, first)
    assert desk.tenant.state(second).status_code == 200
    assert desk.tenant.state(second).status_code == 200
    view = KeyView.model_validate_json(desk.tenant.ask("GET", f"/v1/keys/{key.digest}").content)
    assert (view.state, view.statement, view.key) == (KeyState.SUSPENDED, second.envelope, key)
    assert KeyList.model_validate_json(desk.tenant.ask("GET", "/v1/keys").content).keys == (view,)
    assert KeyList.model_validate_json(desk.stranger.ask("GET", "/v1/keys").content).keys == ()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"sequence": 3}, "malformed", id="out of sequence"),
        pytest.param({"sequence": 1, "previous": None}, "malformed", id="starts anew"),
        pytest.param({"previous": "sha256:" + "0" * 64}, "malformed", id="follows on another"),
        pytest.param({"state": KeyState.REGISTERED}, "malformed", id="a state that cannot follow"),
        pytest.param({"parameters": digest(b"others")}, "malformed", id="other parameters"),
        pytest.param({"tenant": "clinic"}, "conflict", id="another tenant"),
        pytest.param({"client": SigningKey.generate().id}, "bad-signature", id="another client"),
    ],
)
def test_a_statement_that_does_not_follow_is_refused(desk: Desk, changes: Any, code: str) -> None:
    """The chain that is stored stays a chain."""
    key, first = _live(desk)
    given = desk.tenant.statement(key, KeyState.SUSPENDED, first).document.model_dump() | changes
    statement = desk.brokerage.keys.client.sign(KeyStatement(**(given | {"key": key})))
    assert desk.tenant.state(statement).json()["code"] == code


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        pytest.param(blob_ref(b"never sent"), "not-found", id="no blob"),
        pytest.param(blob_ref(b"known").model_copy(update={"size": 6}), "digest-mismatch", id="another size"),
    ],
)
def test_a_key_needs_its_blob(desk: Desk, ref: BlobRef, code: str) -> None:
    """A statement about bytes that are not stored is refused."""
    desk.tenant.upload(b"known")
    assert desk.tenant.state(desk.tenant.statement(ref, KeyState.ACTIVE)).json()["code"] == code


def test_a_suspended_keys_jobs_wait(desk: Desk) -> None:
    """They are leased when it is active again."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    job = desk.tenant.submit(desk.tenant.order(manifest, desk.tenant.upload(b"x"), evaluation_key=key.digest)).job
    second = desk.tenant.statement(key, KeyState.SUSPENDED, first)
    desk.tenant.state(second)
    assert desk.worker.lease() is None
    desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, second))
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == job


def test_a_destroyed_key_is_gone_and_so_are_its_jobs(desk: Desk) -> None:
    """The blob is deleted, waiting and running jobs are cancelled, and nothing brings the key back."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    jobs = [
        desk.tenant.submit(desk.tenant.order(manifest, desk.tenant.upload(data), evaluation_key=key.digest)).job
        for data in (b"running", b"waiting")
    ]
    lease = desk.worker.lease()
    assert lease is not None
    last = desk.tenant.statement(key, KeyState.DESTROYED, first)
    assert desk.tenant.state(last).status_code == 200
    assert not [stray for stray in desk.parts.blobs.strays(grace=-60_000) if stray.object.startswith(key.digest[7:])]
    assert [desk.state(job) for job in jobs] == [JobState.CANCELLED] * 2
    assert desk.worker.command(lease, "GET", f"blobs/{key.digest}").status_code == 409
    again = UploadRequest(size=key.size, sha256=key.digest)
    refused = desk.tenant.send("POST", "/v1/uploads", again)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert desk.stranger.send("POST", "/v1/uploads", again).status_code == 201, "another tenant learns nothing of it"
    order = desk.tenant.order(desk.manifest, key)
    along = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=b"evaluation key"))
    assert along.json()["code"] == "conflict", "nor does it come back as something else"
    revived = desk.brokerage.keys.client.sign(
        last.document.model_copy(
            update={"state": KeyState.ACTIVE, "sequence": 3, "previous": last.digest, "issued": now_ms()}
        )
    )
    assert desk.tenant.state(revived).json()["code"] == "malformed"


def _schedule(desk: Desk, key: BlobRef, previous: Signed[KeyStatement], *, at: int) -> Signed[KeyStatement]:
    body = desk.tenant.statement(key, KeyState.SUSPENDED, previous).document.model_dump()
    body |= {"key": key, "state": KeyState.DESTRUCTION_SCHEDULED, "destroy_at": at}
    return desk.brokerage.keys.client.sign(KeyStatement(**body))


def _let_time_come(desk: Desk, key: BlobRef) -> None:
    """As if a scheduled destruction had been signed for a moment ago."""
    with desk.parts.database.write() as connection:
        connection.execute(update(keys).where(keys.c.digest == key.digest).values(destroy_at=1))


def _shown(desk: Desk, key: BlobRef) -> KeyState:
    return KeyView.model_validate_json(desk.tenant.ask("GET", f"/v1/keys/{key.digest}").content).state


def _stored(desk: Desk, key: BlobRef) -> bool:
    with desk.parts.database.read() as connection:
        return connection.execute(select(blobs.c.size).where(blobs.c.digest == key.digest)).first() is not None


def _two_jobs(desk: Desk, manifest: Signed[Manifest], key: BlobRef) -> tuple[Lease, str]:
    """One that a node works on, and one that waits."""
    running, waiting = (
        desk.tenant.submit(desk.tenant.order(manifest, desk.tenant.upload(data), evaluation_key=key.digest)).job
        for data in (b"running", b"waiting")
    )
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == running
    return lease, waiting


def _new_job(desk: Desk, manifest: Signed[Manifest], key: BlobRef) -> httpx2.Response:
    order = desk.tenant.order(manifest, desk.tenant.upload(b"new"), evaluation_key=key.digest)
    return desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope))


@pytest.mark.parametrize("state", [KeyState.SUPERSEDED, KeyState.DEACTIVATED])
def test_a_key_that_is_past_its_use_finishes_what_was_begun(desk: Desk, state: KeyState) -> None:
    """Waiting jobs run, also those that were held back before; no new one is taken."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    _, waiting = _two_jobs(desk, manifest, key)
    second = desk.tenant.statement(key, KeyState.SUSPENDED, first)
    desk.tenant.state(second)
    assert desk.worker.lease() is None
    assert desk.tenant.state(desk.tenant.statement(key, state, second)).status_code == 200
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == waiting
    assert desk.worker.command(lease, "GET", f"blobs/{key.digest}").content == b"evaluation key"
    refused = _new_job(desk, manifest, key)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_a_compromised_keys_bytes_are_kept_and_no_node_gets_them_again(desk: Desk) -> None:
    """Its jobs are cancelled, running ones too; it comes back to no use, and is destroyed when its owner says so."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    lease, waiting = _two_jobs(desk, manifest, key)
    assert desk.worker.command(lease, "GET", f"blobs/{key.digest}").status_code == 200
    second = desk.tenant.statement(key, KeyState.COMPROMISED, first)
    assert desk.tenant.state(second).status_code == 200
    assert [desk.state(job) for job in (lease.job, waiting)] == [JobState.CANCELLED] * 2
    assert desk.tenant.job(waiting).reason == "its evaluation key is compromised"
    assert desk.worker.command(lease, "GET", f"blobs/{key.digest}").status_code == 409
    assert desk.worker.lease() is None
    assert _new_job(desk, manifest, key).status_code == 409
    assert _stored(desk, key)
    assert desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, second)).json()["code"] == "malformed"
    assert desk.tenant.state(desk.tenant.statement(key, KeyState.DESTROYED, second)).status_code == 200
    assert not _stored(desk, key)


def test_a_scheduled_destruction_waits_and_can_be_called_off(desk: Desk) -> None:
    """No new job and no lease meanwhile; called off, everything goes on."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    _, waiting = _two_jobs(desk, manifest, key)
    second = _schedule(desk, key, first, at=now_ms() + 60_000)
    assert desk.tenant.state(second).status_code == 200
    assert destroy_due(desk.parts) == 0
    assert _shown(desk, key) is KeyState.DESTRUCTION_SCHEDULED
    assert _new_job(desk, manifest, key).status_code == 409
    assert desk.worker.lease() is None
    elsewhere = desk.tenant.statement(key, KeyState.SUPERSEDED, second)
    assert desk.tenant.state(elsewhere).json()["code"] == "malformed", "it leads back to where the key stood"
    assert desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, second)).status_code == 200
    _assert_nothing_scheduled(desk)
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == waiting
    assert _new_job(desk, manifest, key).status_code == 201


def _assert_nothing_scheduled(desk: Desk) -> None:
    with desk.parts.database.read() as connection:
        assert connection.execute(select(keys.c.digest).where(keys.c.destroy_at.is_not(None))).all() == []


def test_a_suspended_keys_jobs_stay_held_through_a_schedule(desk: Desk) -> None:
    """Scheduling lets none of them go, and calling off leads back to suspended."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    _two_jobs(desk, manifest, key)
    second = desk.tenant.statement(key, KeyState.SUSPENDED, first)
    third = _schedule(desk, key, second, at=now_ms() + 60_000)
    fourth = desk.tenant.statement(key, KeyState.SUSPENDED, third)
    for statement in (second, third, fourth):
        assert desk.tenant.state(statement).status_code == 200
        assert desk.worker.lease() is None
    desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, fourth))
    assert desk.worker.lease() is not None


def test_a_scheduled_destruction_is_carried_out_when_its_time_has_come(desk: Desk) -> None:
    """On the ground of the owner's statement, which stays the last one; its owner may sign the end, and nothing else."""
    manifest = _keyed(desk)
    key, first = _live(desk)
    lease, waiting = _two_jobs(desk, manifest, key)
    second = _schedule(desk, key, first, at=now_ms() + 60_000)
    desk.tenant.state(second)
    _let_time_come(desk, key)
    late = desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, second))
    assert (late.status_code, late.json()["code"]) == (409, "conflict"), "also before the sweep came by"
    assert destroy_due(desk.parts) == 1
    assert destroy_due(desk.parts) == 0
    assert not _stored(desk, key)
    assert not [stray for stray in desk.parts.blobs.strays(grace=-60_000) if stray.object.startswith(key.digest[7:])]
    view = KeyView.model_validate_json(desk.tenant.ask("GET", f"/v1/keys/{key.digest}").content)
    assert (view.state, view.statement) == (KeyState.DESTROYED, second.envelope)
    assert KeyView.model_validate_json(desk.tenant.state(second).content) == view, "said again, it is still destroyed"
    assert [desk.state(job) for job in (lease.job, waiting)] == [JobState.CANCELLED] * 2
    assert desk.worker.command(lease, "GET", f"blobs/{key.digest}").status_code == 409
    again = desk.tenant.send("POST", "/v1/uploads", UploadRequest(size=key.size, sha256=key.digest))
    assert again.status_code == 409
    for state in (KeyState.ACTIVE, KeyState.COMPROMISED):
        assert desk.tenant.state(desk.tenant.statement(key, state, second)).status_code == 409
    last = desk.tenant.statement(key, KeyState.DESTROYED, second)
    assert desk.tenant.state(last).status_code == 200
    assert _shown(desk, key) is KeyState.DESTROYED


def test_a_key_whose_bytes_were_lost_can_still_be_said_to_be_compromised(desk: Desk) -> None:
    """What takes it out of use needs no bytes; what brings it back does."""
    key, first = _live(desk)
    second = desk.tenant.statement(key, KeyState.SUSPENDED, first)
    desk.tenant.state(second)
    with desk.parts.database.write() as connection:
        connection.execute(delete(blobs).where(blobs.c.digest == key.digest))
    assert desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, second)).status_code == 404
    assert desk.tenant.state(desk.tenant.statement(key, KeyState.COMPROMISED, second)).status_code == 200


def test_a_reason_is_kept_with_its_statement(desk: Desk) -> None:
    """Whoever reads the statement reads why."""
    key, first = _live(desk)
    body = desk.tenant.statement(key, KeyState.SUSPENDED, first).document
    signed = desk.brokerage.keys.client.sign(body.model_copy(update={"reason": "the laptop is being repaired"}))
    desk.tenant.state(signed)
    view = KeyView.model_validate_json(desk.tenant.ask("GET", f"/v1/keys/{key.digest}").content)
    assert open_signed(view.statement, KeyStatement).document.reason == "the laptop is being repaired"

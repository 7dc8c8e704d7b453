"""An evaluation key's life at the gateway."""

from typing import Any

import pytest

from blindgate_protocol.canonical import digest
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobRequest, KeyList, KeyView, UploadRequest
from blindgate_protocol.signing import Signed, SigningKey
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

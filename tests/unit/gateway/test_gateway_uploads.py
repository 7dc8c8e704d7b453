"""Blobs come in whole, once per tenant, and resume."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import select, update

from blindgate_gateway import partial
from blindgate_gateway.sweep import sweep_bytes, sweep_partial
from blindgate_gateway.tables import blobs, uploads
from blindgate_protocol.messages import Upload, UploadRequest
from blindgate_protocol.values import BlobRef
from brokerage import blob_ref, random_bytes
from desk import Desk

PART = 64 * 1024


def _ask(desk: Desk, ref: BlobRef, *, stranger: bool = False) -> Upload:
    caller = desk.stranger if stranger else desk.tenant
    answer = caller.ask("POST", "/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest))
    return Upload.model_validate_json(answer.content)


def _put(desk: Desk, upload: Upload, number: int, data: bytes) -> Any:
    return desk.tenant.send("PUT", f"/v1/uploads/{upload.upload}/parts/{number}", data)


def _part(data: bytes, number: int) -> bytes:
    return data[(number - 1) * PART : number * PART]


def _files(desk: Desk, folder: str) -> list[str]:
    return [path.name for path in (desk.brokerage.settings.data / folder).rglob("*") if path.is_file()]


def test_a_blob_is_stored_once_in_a_tenant_and_unknown_to_others(desk: Desk) -> None:
    """The second upload of the same bytes sends nothing; another tenant has to send them."""
    ref = desk.tenant.upload(b"the same bytes")
    assert _ask(desk, ref).status == "exists"
    assert _ask(desk, ref, stranger=True).status == "parts"
    desk.stranger.upload(b"the same bytes")
    assert _files(desk, "blobs").count(hashlib.sha256(b"the same bytes").hexdigest()) == 2


@pytest.mark.parametrize(
    "order", [pytest.param((1, 2, 3, 4), id="in order"), pytest.param((4, 2, 1, 3), id="out of order")]
)
def test_parts_may_come_in_any_order(desk: Desk, order: tuple[int, ...]) -> None:
    """The last missing part stores the blob, whichever it is, and the bytes are right."""
    data = random_bytes(3 * PART + 17)
    ref = blob_ref(data)
    upload = _ask(desk, ref)
    assert upload.missing == (1, 2, 3, 4)
    for count, number in enumerate(order, start=1):
        answer = Upload.model_validate_json(_put(desk, upload, number, _part(data, number)).content)
        assert answer.status == ("complete" if count == 4 else "parts")
        assert set(answer.missing) == set(order[count:])
    assert _ask(desk, ref).status == "exists"
    with desk.parts.blobs.open("bank", ref.digest) as stored:
        assert stored.read() == data
    assert _files(desk, "partial") == []
    assert _files(desk, "incoming") == []


def test_an_upload_resumes_where_it_was_after_the_memory_is_gone(desk: Desk) -> None:
    """A restarted gateway, or a client that asks again, goes on with the parts that are missing."""
    data = random_bytes(3 * PART)
    ref = blob_ref(data)
    upload = _ask(desk, ref)
    _put(desk, upload, 1, _part(data, 1))
    partial._running.clear()
    sweep_partial(desk.parts)
    again = _ask(desk, ref)
    assert (again.upload, again.missing) == (upload.upload, (2, 3))
    _put(desk, again, 3, _part(data, 3))
    shown = Upload.model_validate_json(desk.tenant.ask("GET", f"/v1/uploads/{upload.upload}").content)
    assert shown.missing == (2,)
    assert _put(desk, again, 2, _part(data, 2)).json()["status"] == "complete"


def test_a_part_that_was_answered_cannot_be_changed(desk: Desk) -> None:
    """A repetition with other bytes changes nothing, so the digest that was taken stays true."""
    data = random_bytes(2 * PART)
    upload = _ask(desk, blob_ref(data))
    _put(desk, upload, 1, _part(data, 1))
    assert _put(desk, upload, 1, bytes(PART)).json()["missing"] == [2]
    assert _put(desk, upload, 2, _part(data, 2)).json()["status"] == "complete"
    assert _put(desk, upload, 2, _part(data, 2)).json()["status"] == "complete"


@pytest.mark.parametrize("size", [pytest.param(100, id="one part"), pytest.param(PART + 1, id="two parts")])
def test_other_bytes_than_announced_end_the_upload(desk: Desk, size: int) -> None:
    """Nothing of them is kept, and the upload starts anew."""
    data = random_bytes(size)
    ref = blob_ref(data)
    upload = _ask(desk, ref)
    answers = [_put(desk, upload, number, bytes(len(_part(data, number)))) for number in upload.missing]
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (422, "digest-mismatch")
    assert desk.tenant.send("GET", f"/v1/uploads/{upload.upload}").status_code == 404
    assert not desk.parts.blobs.holds("bank", ref.digest, ref.size)
    assert _files(desk, "partial") == []
    assert desk.tenant.upload(data) == ref


@pytest.mark.parametrize("when", ["before the part is placed", "while the part is placed"])
def test_a_part_of_an_upload_that_ends_meanwhile_is_not_found(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Asking with another size ends the upload: its last part on the way is refused like any later one, and leaves no file."""
    ref = blob_ref(random_bytes(3 * PART))
    upload = _ask(desk, ref)
    name = "locked" if when.startswith("before") else "place"
    inner = getattr(partial, name)

    def interrupted(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(partial, name, inner)
        _ask(desk, ref.model_copy(update={"size": PART}))
        return inner(*given, **named)

    monkeypatch.setattr(partial, name, interrupted)
    assert _put(desk, upload, 1, bytes(PART)).status_code == 404
    assert _files(desk, "partial") == []


def test_a_file_without_a_row_gives_way(desk: Desk) -> None:
    """Bytes that a killed gateway left under a blob's name are replaced by checked ones."""
    ref = blob_ref(b"what was asked for")
    desk.tenant.upload(b"anything, so that the folder is there")
    left = desk.brokerage.settings.data / "blobs" / "bank" / ref.digest.removeprefix("sha256:")
    left.write_bytes(b"half of")
    desk.tenant.upload(b"what was asked for")
    assert left.read_bytes() == b"what was asked for"


def test_a_row_without_a_file_is_not_a_blob(desk: Desk) -> None:
    """If the bytes are gone the gateway asks for them again."""
    ref = desk.tenant.upload(b"soon gone")
    desk.parts.blobs.remove("bank", ref.digest)
    assert _ask(desk, ref).status == "parts"
    desk.tenant.upload(b"soon gone")
    assert desk.parts.blobs.holds("bank", ref.digest, ref.size)


def test_a_blob_that_its_disk_cut_short_is_asked_for_again(desk: Desk) -> None:
    """Otherwise nobody could ever replace it: its digest would be there for good."""
    ref = desk.tenant.upload(b"soon cut short")
    file = desk.brokerage.settings.data / "blobs" / "bank" / ref.digest.removeprefix("sha256:")
    file.write_bytes(b"soon cut")
    assert desk.tenant.upload(b"soon cut short") == ref
    assert file.read_bytes() == b"soon cut short"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        pytest.param("parts/1", b"short", 422, "digest-mismatch", id="too short"),
        pytest.param("parts/1", bytes(PART + 1), 413, "too-large", id="too long"),
        pytest.param("parts/3", bytes(PART), 404, "not-found", id="no such part"),
        pytest.param("parts/0", bytes(PART), 404, "not-found", id="part zero"),
        pytest.param("parts/x", bytes(PART), 404, "not-found", id="no number"),
    ],
)
def test_a_part_of_another_shape_is_refused(desk: Desk, path: str, body: bytes, status: int, code: str) -> None:
    """The length is known before a byte is read."""
    upload = _ask(desk, blob_ref(bytes(2 * PART)))
    refused = desk.tenant.send("PUT", f"/v1/uploads/{upload.upload}/{path}", body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_blob_past_the_gateways_limit_is_refused(desk: Desk) -> None:
    """Before anything is sent."""
    request = UploadRequest(size=(1 << 20) + 1, sha256=blob_ref(b"").digest)
    assert desk.tenant.send("POST", "/v1/uploads", request).json()["code"] == "too-large"


def test_a_digest_that_is_known_with_another_size_is_refused(desk: Desk) -> None:
    """The size is part of what was announced."""
    ref = desk.tenant.upload(b"ten bytes.")
    refused = desk.tenant.send("POST", "/v1/uploads", UploadRequest(size=11, sha256=ref.digest))
    assert refused.json()["code"] == "digest-mismatch"


def test_what_nobody_needs_is_swept_and_what_a_job_needs_stays(desk: Desk) -> None:
    """Old blobs go, unless a model, a key or a job still refers to them."""
    loose = desk.tenant.upload(b"nobody's")
    ended = desk.submit(b"an ended job's input").job
    lease = desk.worker.lease()
    assert lease is not None
    waiting = desk.submit(b"a waiting job's input").job
    _make_old(desk)
    desk.worker.finish(lease, b"an ended job's result")
    assert sweep_bytes(desk.parts) == 1
    assert not desk.parts.blobs.holds("bank", loose.digest, loose.size)
    assert desk.tenant.send("GET", f"/v1/jobs/{ended}/result").content == b"an ended job's result"
    _make_old(desk)
    assert sweep_bytes(desk.parts) == 2
    with desk.parts.database.read() as connection:
        left = set(connection.execute(select(blobs.c.digest)).scalars())
    kept = (b"client part", b"server part", b"a waiting job's input")
    assert left == {blob_ref(data).digest for data in kept}
    assert desk.state(waiting).value == "queued"
    assert desk.tenant.send("GET", f"/v1/jobs/{ended}/result").status_code == 404


def _make_old(desk: Desk) -> None:
    """Let the retention of all that is stored be over."""
    with desk.parts.database.write() as connection:
        connection.execute(update(blobs).values(stored=1))
        connection.execute(update(uploads).values(created=1))

"""Blobs come in whole, once per tenant, and resume: on each database, in the folder and in an S3 store."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

import campaigns
from blindgate_gateway.sweep import sweep_bytes, sweep_strays
from blindgate_gateway.tables import blobs, stored_bytes, uploads
from blindgate_protocol.messages import Upload, UploadRequest
from blindgate_protocol.values import BlobRef
from brokerage import blob_ref, random_bytes
from desk import Desk, open_desk

PART = 64 * 1024
PUBLISHED = 2
"""The model's parts are in the store before anything else."""


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None, store: Mapping[str, Any]) -> Iterator[Desk]:
    """A gateway with one of everybody; in `make test` the embedded database beside the folder, and PostgreSQL beside S3."""
    if (database_url is None) is bool(store):
        campaigns.leave_to_nightly()
    with open_desk(tmp_path, database=database_url, part=PART, lease=60_000, max_blob=1 << 20, **store) as made:
        yield made
        assert _counted(made) == _there(made)


def _counted(desk: Desk) -> dict[str, int]:
    """How many bytes the gateway counts for each tenant that has any."""
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(stored_bytes).where(stored_bytes.c.bytes != 0)).all()
    return {row.tenant: row.bytes for row in rows}


def _there(desk: Desk) -> dict[str, int]:
    """The same, added up from blobs and open uploads."""
    found: dict[str, int] = {}
    with desk.parts.database.read() as connection:
        for table, where in ((blobs, blobs.c.size > 0), (uploads, uploads.c.status == "parts")):
            size = func.sum(table.c.size).label("size")
            for row in connection.execute(select(table.c.tenant, size).where(where).group_by(table.c.tenant)).all():
                found[row.tenant] = found.get(row.tenant, 0) + int(row.size)
    return found


def _read(desk: Desk, tenant: str, digest: str) -> bytes | None:
    """What the store has of a blob."""
    with desk.parts.database.read() as connection:
        this = (blobs.c.tenant == tenant) & (blobs.c.digest == digest)
        name = connection.execute(select(blobs.c.object).where(this)).scalar()
    if name is None:
        return None
    opened, size = desk.parts.blobs.open(tenant, name)
    data = b"".join(iter(lambda: opened.read(10_000), b""))
    opened.close()
    assert len(data) == size
    return data


def _things(desk: Desk) -> list[str]:
    """Every object and unfinished upload in the store, those that belong to nothing too."""
    return [stray.object for stray in desk.parts.blobs.strays(grace=-60_000)]


def _ask(desk: Desk, ref: BlobRef, *, stranger: bool = False) -> Upload:
    caller = desk.stranger if stranger else desk.tenant
    answer = caller.ask("POST", "/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest))
    return Upload.model_validate_json(answer.content)


def _put(desk: Desk, upload: Upload, number: int, data: bytes) -> Any:
    return desk.tenant.send("PUT", f"/v1/uploads/{upload.upload}/parts/{number}", data)


def _part(data: bytes, number: int) -> bytes:
    return data[(number - 1) * PART : number * PART]


def test_a_blob_is_stored_once_in_a_tenant_and_unknown_to_others(desk: Desk) -> None:
    """The second upload of the same bytes sends nothing; another tenant has to send them."""
    ref = desk.tenant.upload(b"the same bytes")
    assert _ask(desk, ref).status == "exists"
    assert _ask(desk, ref, stranger=True).status == "parts"
    desk.stranger.upload(b"the same bytes")
    assert len(_things(desk)) == PUBLISHED + 2


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
    assert _read(desk, "bank", ref.digest) == data
    assert len(_things(desk)) == PUBLISHED + 1


def test_an_upload_resumes_where_it_was_after_the_memory_is_gone(desk: Desk) -> None:
    """A restarted gateway, or a client that asks again, goes on with the parts that are missing."""
    data = random_bytes(3 * PART)
    ref = blob_ref(data)
    upload = _ask(desk, ref)
    _put(desk, upload, 1, _part(data, 1))
    sweep_strays(desk.parts)
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
    assert len(_things(desk)) == PUBLISHED
    assert desk.tenant.upload(data) == ref
    assert _read(desk, "bank", ref.digest) == data


@pytest.mark.parametrize("name", ["take", "arrived", "finish"])
def test_a_part_of_an_upload_that_ends_meanwhile_is_not_found(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Asking with another size ends the upload: its last part on the way is refused like any later one, and leaves nothing."""
    data = random_bytes(2 * PART)
    ref = blob_ref(data)
    upload = _ask(desk, ref)
    _put(desk, upload, 1, _part(data, 1))
    inner = getattr(desk.parts.blobs, name)

    def interrupted(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(desk.parts.blobs, name, inner)
        _ask(desk, ref.model_copy(update={"size": PART}))
        return inner(*given, **named)

    monkeypatch.setattr(desk.parts.blobs, name, interrupted)
    assert _put(desk, upload, 2, _part(data, 2)).status_code == 404
    assert len(_things(desk)) == PUBLISHED


@pytest.mark.parametrize("when", ["before the object", "after the object"])
def test_a_gateway_that_dies_between_the_object_and_its_row_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """All parts are there: whoever asks next is told that none is missing, and completes it."""
    data = random_bytes(2 * PART + 5)
    ref = blob_ref(data)
    upload = _ask(desk, ref)
    for number in (1, 3):
        _put(desk, upload, number, _part(data, number))
    with monkeypatch.context() as patch:
        inner = desk.parts.blobs.finish

        def dying(*given: Any) -> None:
            if when.startswith("after"):
                inner(*given)
            raise OSError

        patch.setattr(desk.parts.blobs, "finish", dying)
        assert _put(desk, upload, 2, _part(data, 2)).status_code == 500
    again = _ask(desk, ref)
    assert (again.upload, again.status, again.missing) == (upload.upload, "parts", ())
    assert sweep_strays(desk.parts) == 0
    done = desk.tenant.ask("POST", f"/v1/uploads/{upload.upload}/complete")
    assert done.json()["status"] == "complete"
    assert desk.tenant.ask("POST", f"/v1/uploads/{upload.upload}/complete").json()["status"] == "complete"
    assert _read(desk, "bank", ref.digest) == data


def test_an_upload_is_not_complete_before_its_parts_are_there(desk: Desk) -> None:
    """Saying so changes nothing, and names what is missing; another tenant's upload is not found."""
    for size, missing in ((3 * PART, [2, 3]), (10, [1])):
        data = random_bytes(size)
        upload = _ask(desk, blob_ref(data))
        if size > PART:
            _put(desk, upload, 1, _part(data, 1))
        answer = desk.tenant.ask("POST", f"/v1/uploads/{upload.upload}/complete").json()
        assert (answer["status"], answer["missing"]) == ("parts", missing)
        for method, path in (("GET", ""), ("POST", "/complete"), ("PUT", "/parts/1")):
            refused = desk.stranger.send(method, f"/v1/uploads/{upload.upload}{path}", _part(data, 1))
            assert refused.status_code == 404


def test_what_is_stored_is_never_written_again(desk: Desk) -> None:
    """Two who upload the same bytes at once both succeed, and what the first was told of stays as it is."""
    data = random_bytes(2 * PART)
    upload = _ask(desk, blob_ref(data))
    _put(desk, upload, 1, _part(data, 1))
    _put(desk, upload, 2, _part(data, 2))
    before = _things(desk)
    assert _put(desk, upload, 2, bytes(PART)).json()["status"] == "complete"
    assert _things(desk) == before
    assert _read(desk, "bank", blob_ref(data).digest) == data


@pytest.mark.parametrize("size", [pytest.param(100, id="a file"), pytest.param(PART + 1, id="two parts")])
def test_a_row_without_its_bytes_is_not_a_blob(desk: Desk, size: int) -> None:
    """If the bytes are gone, or some of them, the gateway asks for them again."""
    data = random_bytes(size)
    ref = desk.tenant.upload(data)
    stray = next(stray for stray in desk.parts.blobs.strays(grace=-60_000) if stray.object.startswith(ref.digest[7:]))
    desk.parts.blobs.remove("bank", stray.object)
    assert _ask(desk, ref).status == "parts"
    desk.tenant.upload(data)
    assert _read(desk, "bank", ref.digest) == data


def test_bytes_without_a_row_are_collected_after_a_time(desk: Desk) -> None:
    """What a killed gateway left counts for nothing: it is not in the way of the same bytes, and goes."""
    ref = blob_ref(b"what was asked for")
    with desk.parts.blobs.incoming("bank", ref.digest) as left:
        left.fill(BytesIO(b"half of it"), 10)
        left.settle()
    assert desk.tenant.upload(b"what was asked for") == ref
    assert len(_things(desk)) == PUBLISHED + 2
    assert sweep_strays(desk.parts) == 0
    begun = desk.parts.blobs.begin("bank", ref.digest)[0]  # moto says that every upload began in 2010
    assert len(_things(desk)) == PUBLISHED + 3
    _be_patient(desk, -60_000)
    assert sweep_strays(desk.parts) == 2
    assert begun not in _things(desk)
    assert _read(desk, "bank", ref.digest) == b"what was asked for"


def test_an_upload_that_nobody_goes_on_with_is_ended(desk: Desk) -> None:
    """Its parts go, and what was reserved for it."""
    upload = _ask(desk, blob_ref(random_bytes(3 * PART)))
    _put(desk, upload, 1, bytes(PART))
    _make_old(desk)
    sweep_bytes(desk.parts)
    assert desk.tenant.send("GET", f"/v1/uploads/{upload.upload}").status_code == 404
    assert len(_things(desk)) == PUBLISHED
    assert "bank" not in _counted(desk)


@pytest.mark.sqlite
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
    assert _read(desk, "bank", loose.digest) is None
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


def _be_patient(desk: Desk, grace: int) -> None:
    """Change how long bytes without a row are left alone."""
    object.__setattr__(desk.parts, "settings", desk.parts.settings.model_copy(update={"grace": grace}))


def test_bytes_that_a_node_stores_again_are_kept_once(desk: Desk) -> None:
    """Its object takes the place of the one that was uploaded, which nobody needs any more."""
    data = random_bytes(3 * PART)
    ref = desk.tenant.upload(data)
    desk.submit(data)
    lease = desk.worker.lease()
    assert lease is not None
    desk.worker.finish(lease, data)
    _be_patient(desk, -60_000)
    assert sweep_strays(desk.parts) == 1
    assert len(_things(desk)) == PUBLISHED + 1
    assert _read(desk, "bank", ref.digest) == data

"""A tenant has no more bytes than it may, whoever brings them and however many at once."""

import threading

import pytest
from sqlalchemy import update

from blindgate_gateway.quotas import set_quota
from blindgate_gateway.sweep import sweep_bytes
from blindgate_gateway.tables import blobs
from blindgate_protocol.messages import JobRequest, UploadRequest
from brokerage import blob_ref, random_bytes
from desk import Desk

PART = 64 * 1024


def _ask(desk: Desk, size: int) -> tuple[int, str | None]:
    """Ask to upload fresh bytes; the status, and after how long to ask again."""
    asked = UploadRequest(size=size, sha256=blob_ref(random_bytes(8)).digest)
    answer = desk.tenant.send("POST", "/v1/uploads", asked)
    return answer.status_code, answer.headers.get("Retry-After")


def test_what_an_upload_needs_is_reserved_when_it_is_asked_for(desk: Desk) -> None:
    """Another that does not fit beside it is refused, until the first has ended; other tenants notice nothing."""
    set_quota(desk.parts.database, "bank", 3 * PART)
    first = random_bytes(2 * PART)
    upload = desk.tenant.ask("POST", "/v1/uploads", UploadRequest(size=2 * PART, sha256=blob_ref(first).digest)).json()
    assert _ask(desk, PART + 1) == (429, "10")
    assert desk.stranger.upload(random_bytes(2 * PART)).size == 2 * PART
    assert _ask(desk, PART) == (201, None)
    assert _ask(desk, 1) == (429, "10")
    for number in (1, 2):
        desk.tenant.send("PUT", f"/v1/uploads/{upload['upload']}/parts/{number}", bytes(PART))
    assert _ask(desk, 2 * PART) == (201, None), "other bytes than announced ended the first"


def test_what_is_deleted_makes_room(desk: Desk) -> None:
    """Blobs that are swept are not counted any more."""
    set_quota(desk.parts.database, "bank", PART)
    desk.tenant.upload(random_bytes(PART))
    assert _ask(desk, 1)[0] == 429
    with desk.parts.database.write() as connection:
        connection.execute(update(blobs).values(stored=1))
    sweep_bytes(desk.parts)
    assert _ask(desk, PART)[0] == 201


def test_small_blobs_and_results_count(desk: Desk) -> None:
    """An input beyond the quota is refused with its order; a result is taken, and the next input is not."""
    set_quota(desk.parts.database, "bank", 1000)
    order = desk.tenant.order(desk.manifest, blob_ref(bytes(1001)))
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=bytes(1001)))
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (429, "quota", "10")
    assert desk.worker.lease() is None
    data = random_bytes(900)
    for output, along in ((random_bytes(2000), False), (random_bytes(2000), True)):
        job = desk.tenant.submit(desk.tenant.order(desk.manifest, blob_ref(data)), data).job
        lease = desk.worker.lease()
        assert lease is not None
        assert lease.job == job
        desk.worker.finish(lease, output, along=along)
    assert _ask(desk, 1)[0] == 429
    assert desk.tenant.submit(desk.tenant.order(desk.manifest, blob_ref(data)), data).state.value == "queued", (
        "what is there needs no room"
    )
    set_quota(desk.parts.database, "bank", 900 + 4000 + 1)
    assert _ask(desk, 2)[0] == 429
    assert _ask(desk, 1)[0] == 201


@pytest.mark.parametrize("attempt", range(3))
def test_two_uploads_at_once_do_not_share_the_last_room(desk: Desk, attempt: int) -> None:
    """Of many that would fit alone, as many are taken as fit together."""
    set_quota(desk.parts.database, "bank", 5 * PART)
    start, statuses = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        statuses.append(_ask(desk, 2 * PART)[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] * 2 + [429] * 6


def test_the_same_upload_asked_for_twice_at_once_is_one_upload(desk: Desk) -> None:
    """It is reserved once, and both are told its name."""
    start, names = threading.Barrier(6), []
    asked = UploadRequest(size=3 * PART, sha256=blob_ref(random_bytes(8)).digest)

    def ask() -> None:
        start.wait()
        names.append(desk.tenant.ask("POST", "/v1/uploads", asked).json()["upload"])

    set_quota(desk.parts.database, "bank", 4 * PART)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 6
    assert len(set(names)) == 1
    assert len([stray for stray in desk.parts.blobs.strays(grace=-60_000) if stray.tenant == "bank"]) == 1

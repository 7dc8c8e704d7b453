"""Two gateways on one PostgreSQL and one bucket, four nodes, one gateway killed in the middle: every job ends once.

Tenants and nodes go on with the other gateway when one does not answer, as behind a load balancer. A lease is in the database,
so it may be taken at one gateway and committed at the other; so may an upload go on there, and what it stored be read.
2,000 jobs are the whole; `make test` has a slice.
"""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

import campaigns
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import all_jobs, attempts
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobRequest, Lease, LeaseRequest, Upload, UploadRequest
from blindgate_protocol.signing import Signed
from brokerage import (
    FAMILY,
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    blob_ref,
    make_settings,
    opened_order,
    random_bytes,
)
from failover import ADDRESS, failover_client, insist
from postgresql import PostgresqlServer
from runs import running, wait_until
from s3 import S3Server
from whole_log import check_whole_log

JOBS = campaigns.of(2000, slice_of=250)
NODES = 4
LARGE = 200_000
PATIENCE_SECONDS = 200.0


@pytest.mark.slow
def test_two_gateways_on_one_database_end_every_job_once_though_one_is_killed(
    tmp_path: Path, postgresql_server: PostgresqlServer, s3_server: S3Server
) -> None:
    """Both have work, nothing is lost, nothing is doubled."""
    keys, url = Keys(), postgresql_server.new_database()
    given = {"database": url, "addresses": (ADDRESS,), "lease": 3000, "attempts": 100, "part": 64 * 1024}
    given |= {"max_blob": 1 << 20, "log_key": tmp_path / "log.key", **s3_server.new_bucket()}
    settings = [make_settings(tmp_path / name, keys, **given) for name in ("first", "second")]
    brokerage, gateways = Brokerage(settings[0], keys), [GatewayProcess(one) for one in settings]
    for gateway in gateways:
        gateway.start()
    submitted: list[str] = []
    try:
        with failover_client([gateway.url for gateway in gateways]) as http:
            manifest = brokerage.manifest()
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            runs: list[Callable[[], None]] = []
            over = threading.Event()
            for name in ("bank", "clinic"):
                tenant = Tenant(http, brokerage.api_key(name), name=name, keys=keys)
                runs.append(partial(_submit, tenant, manifest, submitted))
            workers = [Worker(http, brokerage, name=f"node-{number}") for number in range(NODES)]
            runs += [partial(_work, worker, over) for worker in workers]
            with running(runs, over) as errors:
                wait_until(lambda: len(submitted) >= JOBS // 3 or bool(errors), seconds=PATIENCE_SECONDS)
                gateways[0].kill()
                wait_until(lambda: _ended(settings[1]) >= JOBS or bool(errors), seconds=PATIENCE_SECONDS)
    finally:
        for gateway in gateways:
            if gateway.running:
                gateway.kill()
    assert not errors, errors
    _check(settings[1], submitted)
    check_whole_log(settings[1])
    answered = [gateway.log.read_text().count('"path": "/v1/leases"') for gateway in gateways]
    assert min(answered) > JOBS // 20, answered


def _submit(tenant: Tenant, manifest: Signed[Manifest], submitted: list[str]) -> None:
    for number in range(JOBS // 2):
        large = number % 20 == 0
        data = random_bytes(LARGE if large else 64)
        if large:
            _upload(tenant, data)
        order = tenant.order(manifest, blob_ref(data))
        body = JobRequest(order=order.envelope, input_data=None if large else data)
        answer = insist(lambda body=body: tenant.send("POST", "/v1/jobs", body))  # type: ignore[misc]
        assert answer.status_code in {200, 201}, answer.text
        submitted.append(order.document.job)


def _upload(tenant: Tenant, data: bytes) -> None:
    ref = blob_ref(data)
    asked = UploadRequest(size=ref.size, sha256=ref.digest)
    upload = Upload.model_validate_json(insist(lambda: tenant.send("POST", "/v1/uploads", asked)).content)
    for number in upload.missing:
        part = data[(number - 1) * upload.part_size : number * upload.part_size]
        path = f"/v1/uploads/{upload.upload}/parts/{number}"
        answer = insist(lambda path=path, part=part: tenant.send("PUT", path, part))  # type: ignore[misc]
        assert answer.status_code == 200, answer.text


def _work(worker: Worker, over: threading.Event) -> None:
    poll = LeaseRequest(families=(FAMILY,), wait=200)
    while not over.is_set():
        leased = insist(lambda: worker.send("POST", "/v1/leases", poll))
        if leased.status_code != 200:
            continue
        lease = Lease.model_validate_json(leased.content)
        data = lease.input_data
        if data is None:
            ref = opened_order(lease.order).document.input
            found = insist(lambda lease=lease, ref=ref: worker.command(lease, "GET", f"blobs/{ref.digest}"))  # type: ignore[misc]
            if found.status_code == 409:
                continue
            data = found.content
            assert blob_ref(data) == ref
        output = data[:1000]
        receipt = worker.receipt(lease, output)
        answer = insist(lambda lease=lease, receipt=receipt, output=output: worker.commit(lease, receipt, output))  # type: ignore[misc]
        assert answer.status_code in {200, 409}, answer.text


def _check(settings: Settings, submitted: list[str]) -> None:
    database = connect(settings)
    with database.read() as connection:
        stored = connection.execute(select(all_jobs.c.job, all_jobs.c.state)).all()
        won = Counter(connection.execute(select(attempts.c.job).where(attempts.c.outcome == "succeeded")).scalars())
    database.close()
    assert {row.state for row in stored} == {JobState.SUCCEEDED.value}
    assert won == dict.fromkeys(submitted, 1)
    assert len(stored) == len(submitted) == JOBS


def _ended(settings: Settings) -> int:
    database = connect(settings)
    try:
        with database.read() as connection:
            return len(connection.execute(select(all_jobs.c.job).where(all_jobs.c.ended.is_not(None))).all())
    finally:
        database.close()

"""The gateway as it runs: real processes, real sockets, several workers."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobView, Lease, Upload, UploadRequest
from brokerage import Running, Tenant, blob_ref, http_client, random_bytes
from typed import type_command

FORBIDDEN = {"blindgate", "blindgate_models", "blindgate_node", "blindgate_rag"} | {
    "concrete",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "tenseal",
    "torch",
}


def _submit(running: Running, data: bytes) -> JobView:
    return running.tenant.submit(running.tenant.order(running.manifest, running.tenant.upload(data)))


def test_jobs_go_through_and_large_blobs_keep_their_bytes(standing: Running) -> None:
    """One part and many, through whichever worker answers."""
    for size in (1, 1024, 256 * 1024, 3 * 256 * 1024 + 5):
        data = random_bytes(size)
        job = _submit(standing, data).job
        lease = standing.worker.lease(wait=5000)
        assert lease is not None
        got = standing.worker.command(lease, "GET", f"blobs/{blob_ref(data).digest}").content
        assert got == data
        standing.worker.finish(lease, data[::-1])
        assert standing.tenant.ask("GET", f"/v1/jobs/{job}/result").content == data[::-1]


def test_a_waiting_node_and_a_waiting_tenant_are_woken(standing: Running) -> None:
    """A long poll ends when there is something, not when its time is over, in whichever worker it waits."""
    leases: list[Lease | None] = []
    node = threading.Thread(target=lambda: leases.append(standing.worker.lease(wait=20_000)))
    node.start()
    time.sleep(0.3)
    began = time.monotonic()
    job = _submit(standing, b"something to do").job
    node.join()
    assert leases[0] is not None
    views: list[JobView] = []
    with http_client(standing.gateway.url) as http:
        key = standing.brokerage.api_key("bank")
        watcher = Tenant(http, key, name="bank", keys=standing.brokerage.keys)
        tenant = threading.Thread(target=lambda: views.append(watcher.job(job, wait=20_000)))
        tenant.start()
        time.sleep(0.3)
        standing.worker.finish(leases[0], b"done")
        tenant.join()
    assert views[0].state is JobState.SUCCEEDED
    assert time.monotonic() - began < 15


def test_polls_beyond_the_cap_are_answered_at_once(standing: Running) -> None:
    """Those who wait cannot take every thread: the gateway still answers the others."""
    threads, answers = [], []

    def poll() -> None:
        with http_client(standing.gateway.url) as http:
            caller = standing.worker.over(http)
            began = time.monotonic()
            caller.ask("POST", "/v1/leases", b'{"families":["echo"],"wait":3000}')
            answers.append(time.monotonic() - began)

    for _ in range(48):
        threads.append(threading.Thread(target=poll))
        threads[-1].start()
    time.sleep(1)
    with http_client(standing.gateway.url) as http:
        assert http.get("/healthz", timeout=2).status_code == 200
    for thread in threads:
        thread.join()
    assert len(answers) == 48
    assert min(answers) < 2.5


def test_a_gateway_process_has_nothing_loaded_that_could_see(standing: Running) -> None:
    """Neither the modules of a fresh process nor the files that the running one has mapped."""
    code = (
        "import json, sys; import blindgate_gateway.server, blindgate_gateway.app; print(json.dumps(list(sys.modules)))"
    )
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert {name.partition(".")[0] for name in loaded} & FORBIDDEN == set()
    assert "blindgate_gateway.leases" in loaded
    for process in [standing.gateway.pid, *standing.gateway.workers()]:
        mapped = set(re.findall(r"/site-packages/([a-z_]+)", Path(f"/proc/{process}/maps").read_text()))
        assert "pydantic_core" in mapped
        assert mapped & FORBIDDEN == set()


def test_an_upload_goes_on_after_the_gateway_was_killed(running: Running) -> None:
    """What was answered is still there; what was on its way is gone; the digest is right."""
    data = random_bytes(4 * 256 * 1024)
    ref = blob_ref(data)
    request = UploadRequest(size=ref.size, sha256=ref.digest)
    upload = Upload.model_validate_json(running.tenant.ask("POST", "/v1/uploads", request).content)
    for number in (1, 3):
        part = data[(number - 1) * upload.part_size : number * upload.part_size]
        running.tenant.ask("PUT", f"/v1/uploads/{upload.upload}/parts/{number}", part)
    incoming = running.brokerage.settings.data / "incoming"
    with socket.create_connection(("127.0.0.1", running.brokerage.settings.port)) as half:
        token = running.tenant._headers["Authorization"]
        head = f"PUT /v1/uploads/{upload.upload}/parts/2 HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        half.sendall(f"{head}Content-Length: {upload.part_size}\r\n\r\n".encode() + data[:1000])
        while not list(incoming.iterdir()):
            time.sleep(0.01)
        running.gateway.kill()
    running.gateway.start()
    assert list(incoming.iterdir()) == []
    again = Upload.model_validate_json(running.tenant.ask("POST", "/v1/uploads", request).content)
    assert (again.upload, again.missing) == (upload.upload, (2, 4))
    running.tenant.upload(data)
    job = running.tenant.submit(running.tenant.order(running.manifest, ref)).job
    assert running.tenant.job(job).state is JobState.QUEUED


def test_sigterm_ends_waiting_and_lets_work_finish(running: Running) -> None:
    """Whoever waits is answered, and the process ends by itself with exit code 0."""
    answers: list[Any] = []
    node = threading.Thread(target=lambda: answers.append(running.worker.lease(wait=30_000)))
    node.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert running.gateway.stop() == 0
    node.join()
    assert answers == [None]
    assert time.monotonic() - began < 20


def test_a_second_gateway_in_the_same_folder_is_refused(standing: Running) -> None:
    """Two masters would clear away each other's uploads."""
    second = type_command(["gateway", "serve", "--data", str(standing.brokerage.settings.data)], os.environ)
    assert second.returncode == 1
    assert "another gateway" in second.stderr
    assert standing.tenant.send("GET", "/v1/jobs").status_code == 200


def test_the_log_is_json_and_holds_no_body_no_query_and_no_secret(standing: Running) -> None:
    """Names, sizes and times only."""
    job = _submit(standing, b"PLANTED-IN-A-BLOB").job
    standing.tenant.job(job, wait=1)
    standing.tenant.send("GET", f"/v1/jobs/{job}?wait=1&note=PLANTED-IN-A-QUERY")
    standing.tenant.send("POST", "/v1/jobs", b'{"order": "PLANTED-IN-A-BODY"}')
    lines = standing.gateway.log.read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert any(event.get("path") == f"/v1/jobs/{job}" for event in events)
    assert any(event["event"] == "listening" for event in events)
    text = "\n".join(lines)
    assert "PLANTED" not in text
    assert standing.tenant._headers["Authorization"].partition(".")[2] not in text


CROOKED = {
    "no credential": (b"PUT /v1/leases/x/result HTTP/1.1\r\nHost: x\r\n\r\n", 401),
    "no ASCII": (b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xc3\xa9\r\n\r\n", 401),
    "no such version": (b"GET /v1/jobs HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "no HTTP": (b"NONSENSE\r\n\r\n", 400),
    "a long header": (b"GET /v1/jobs HTTP/1.1\r\n" + b"A" * 20_000 + b": x\r\n\r\n", 431),
}


def test_crooked_requests_are_refused_and_the_next_one_answered(standing: Running) -> None:
    """A worker survives what a socket can bring."""
    for name, (sent, status) in CROOKED.items():
        with socket.create_connection(("127.0.0.1", standing.brokerage.settings.port)) as raw:
            raw.sendall(sent)
            assert f" {status} ".encode() in raw.recv(4096).partition(b"\r\n")[0], name
        assert standing.tenant.send("GET", "/v1/jobs").status_code == 200, name


def test_a_body_without_a_length_is_refused(standing: Running) -> None:
    """Chunked bodies have no length that could be checked before reading."""
    upload = Upload.model_validate_json(
        standing.tenant.ask("POST", "/v1/uploads", UploadRequest(size=5, sha256=blob_ref(b"hello").digest)).content
    )
    answer = standing.tenant.http.put(
        f"/v1/uploads/{upload.upload}/parts/1", content=iter([b"he", b"llo"]), headers=standing.tenant._headers
    )
    assert (answer.status_code, answer.json()["code"]) == (411, "length-required")
    assert standing.tenant.upload(b"hello") == blob_ref(b"hello")

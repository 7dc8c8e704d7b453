"""A gateway is backed up while it works, by the words of docs/operations.md, and all that it had said yes to before is in it.

Restored into a new place it is well, to the last byte and signature, and goes on: what had been done can be fetched, what had not
is computed. Keys are destroyed all the while, but for those that came while the copy was made: what is destroyed is gone, and the
document says what a copy tells of such a key. The whole campaign does so ten times over; `make test` once on each database.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

import campaigns
from blindgate_gateway.settings import Settings
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    blob_ref,
    http_client,
    make_settings,
    random_bytes,
)
from postgresql import PostgresqlServer
from runs import wait_until

ROUNDS = campaigns.of(10, slice_of=1)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
LOAD_SECONDS = 1.0
LEAST = 5
"""So many jobs have succeeded before the copy, or more."""
PART = 64 * 1024


@dataclass
class Said:
    """What the gateway has said yes to."""

    accepted: list[str] = field(default_factory=list)
    succeeded: list[tuple[str, bytes]] = field(default_factory=list)
    copying: threading.Event = field(default_factory=threading.Event)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_backup_of_a_working_gateway_has_everything_that_was_acknowledged(
    tmp_path: Path, request: pytest.FixtureRequest, database_url: str | None, number: int
) -> None:
    """On both databases, by the documented commands."""
    for program in ("rsync", *(("sqlite3",) if database_url is None else ())):
        if shutil.which(program) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")
    keys, backup = Keys(), tmp_path / "backup"
    settings = make_settings(tmp_path / "gateway", keys, database=database_url, part=PART, threads=16)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            manifest = brokerage.manifest()
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            worker = Worker(http, brokerage)
            with _load(tenant, worker, manifest) as said:
                time.sleep(LOAD_SECONDS)
                wait_until(lambda: len(said.succeeded) > LEAST, seconds=60)  # a machine may be busy with something else
                accepted, succeeded = list(said.accepted), list(said.succeeded)
                said.copying.set()
                _back_up(settings, backup, request)
                said.copying.clear()
                time.sleep(LOAD_SECONDS / 3)
                wait_until(lambda: len(said.accepted) > len(accepted), seconds=60)
    finally:
        gateway.kill()
    shutil.rmtree(settings.data)

    new = _restore(settings, backup, tmp_path / "elsewhere", request)
    again = GatewayProcess(new)
    again.start()
    try:
        with http_client(again.url) as http:
            for job, result in succeeded:
                answer = tenant_of(tenant, http).ask("GET", f"/v1/jobs/{job}/result")
                assert answer.content == result
            states = {job: tenant_of(tenant, http).job(job).state for job in accepted}
            assert set(states.values()) <= {JobState.SUCCEEDED, JobState.QUEUED, JobState.LEASED}
            waiting = [job for job, state in states.items() if state is JobState.QUEUED]
            late = worker.over(http)
            while (lease := late.lease()) is not None:
                late.finish(lease, b"computed again")
            assert all(tenant_of(tenant, http).job(job).state is JobState.SUCCEEDED for job in waiting)
        report = _check(new)
        assert report["well"], report
    finally:
        again.kill()


def tenant_of(tenant: Tenant, http: httpx2.Client) -> Tenant:
    """The same tenant over another connection."""
    return Tenant(http, tenant.token or "", name=tenant.name, keys=tenant.keys)


@dataclass
class Load:
    """Jobs small and large, results small and large, and keys that come and go."""

    tenant: Tenant
    worker: Worker
    manifest: Signed[Manifest]
    said: Said = field(default_factory=Said)
    over: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)

    def submit(self) -> None:
        """Every third input is uploaded in parts."""
        number = 0
        while not self.over.is_set():
            is_large = number % 3 == 0
            data = random_bytes(PART * 2 + 1 if is_large else 64)
            if is_large:
                self.tenant.upload(data)
            order = self.tenant.order(self.manifest, blob_ref(data))
            self.said.accepted.append(self.tenant.submit(order, None if is_large else data).job)
            number += 1

    def work(self) -> None:
        """Every third result is stored before it is committed."""
        while not self.over.is_set():
            lease = self.worker.lease(wait=100)
            if lease is not None:
                result = random_bytes(PART if len(self.said.succeeded) % 3 == 0 else 64)
                self.worker.finish(lease, result, along=len(result) < 100)
                self.said.succeeded.append((lease.job, result))

    def keep_keys(self) -> None:
        """The oldest is destroyed when there are six, and while a copy is made."""
        live: list[Signed[KeyStatement]] = []
        while not self.over.is_set():
            was_copying = self.said.copying.is_set()
            first = self.tenant.statement(self.tenant.upload(random_bytes(1000)), KeyState.ACTIVE)
            assert self.tenant.state(first).status_code == 201
            if not was_copying and not self.said.copying.is_set():
                live.append(first)
            if len(live) > 5 or (self.said.copying.is_set() and live):
                old = live.pop(0)
                ended = self.tenant.statement(old.document.key, KeyState.DESTROYED, old)
                assert self.tenant.state(ended).status_code == 200
            self.over.wait(0.05)

    def guarded(self, run: Callable[[], None]) -> None:
        """Run, and keep what it raises."""
        try:
            run()
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)


@contextmanager
def _load(tenant: Tenant, worker: Worker, manifest: Signed[Manifest]) -> Iterator[Said]:
    load = Load(tenant, worker, manifest)
    runs = (load.submit, load.work, load.work, load.keep_keys)
    threads = [threading.Thread(target=load.guarded, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield load.said
    finally:
        load.over.set()
        for thread in threads:
            thread.join()
    assert not load.errors, load.errors


def _back_up(settings: Settings, backup: Path, request: pytest.FixtureRequest) -> None:
    if settings.database is None:
        _run("back up SQLite and the folder", request, DATA=settings.data, BACKUP=backup)
        return
    # A folder beside PostgreSQL: the document's order, with its words for each.
    blobs = f'mkdir -p "$BACKUP"; rsync --archive "{settings.data}/blobs" "$BACKUP" || [ $? = 24 ]'
    _sh(blobs, request, BACKUP=backup)
    _run("back up PostgreSQL", request, DATABASE=settings.database.get_secret_value(), BACKUP=backup)
    _sh(blobs, request, BACKUP=backup)


def _restore(settings: Settings, backup: Path, data: Path, request: pytest.FixtureRequest) -> Settings:
    new = settings.model_copy(update={"data": data, "addresses": (f"http://127.0.0.1:{settings.port}",)})
    if settings.database is None:
        _run("restore SQLite and the folder", request, DATA=data, BACKUP=backup)
        return new
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    url = server.new_database(empty=True)
    _run("restore PostgreSQL", request, DATABASE=url, BACKUP=backup)
    _sh(f'umask 077 && mkdir "{data}" && rsync --archive "$BACKUP/blobs" "{data}"', request, BACKUP=backup)
    return new.model_copy(update={"database": type(settings.database)(url)})


def _run(what: str, request: pytest.FixtureRequest, **variables: object) -> None:
    """Run the document's own block of that name."""
    (block,) = re.findall(rf"```sh\n# {re.escape(what)}.*?\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    _sh(block, request, **variables)


def _sh(script: str, request: pytest.FixtureRequest, **variables: object) -> None:
    path = [str(Path(sys.executable).parent)]
    with suppress(pytest.FixtureLookupError):
        path.append(str(request.getfixturevalue("postgresql_server").programs) if "DATABASE" in variables else "")
    given: Mapping[str, str] = {name: str(value) for name, value in variables.items()}
    environment = os.environ | given | {"PATH": os.pathsep.join([*filter(None, path), os.environ["PATH"]])}
    done = subprocess.run(["sh", "-eu", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def _check(settings: Settings) -> dict[str, object]:
    given = {"DATA": str(settings.data), "OPERATORS": ",".join(settings.operators)}
    if settings.database is not None:
        given["DATABASE"] = settings.database.get_secret_value()
    environment = os.environ | {f"BLINDGATE_GATEWAY_{name}": value for name, value in given.items()}
    command = [sys.executable, "-m", "blindgate_gateway", "check", "--read-data", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    report: dict[str, object] = json.loads(done.stdout)
    assert report["well"] == (done.returncode == 0)
    return report

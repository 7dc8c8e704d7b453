"""A gateway with one of each kind of job, key and blob, to be damaged behind its back and put together again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import delete, insert, select

from blindgate_gateway.check import Finding, State, documents, examine, rows
from blindgate_gateway.database import Transaction
from blindgate_gateway.database.sqlite import SqliteDatabase
from blindgate_gateway.parts import connect
from blindgate_gateway.tables import blobs, events, log_head, log_tiles, metadata
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import Release, UploadRequest
from brokerage import blob_ref, random_bytes
from desk import Desk, open_desk
from postgresql import ADMINISTRATOR
from s3 import S3Server

PART = 64 * 1024
LARGE = 2 * PART + 17
_LOG = {events, log_head, log_tiles}


@dataclass
class Patient:
    """A gateway to be damaged, and some of what is in it."""

    desk: Desk
    store: Mapping[str, Any]
    s3: S3Server | None
    job: dict[str, str]
    large: str
    key: str

    def look(self, *, read_data: bool = True) -> dict[str, Finding]:
        """What the check says, by check."""
        found = list(examine(self.desk.brokerage.settings, read_data=read_data, progress=lambda *_: None))
        assert len({finding.check for finding in found}) == len(found)
        return {finding.check: finding for finding in found}

    def rows(self) -> dict[str, Finding]:
        """What the check says of rows and documents alone."""
        settings = self.desk.brokerage.settings
        database = connect(settings)
        found = [*rows.look(settings, database)]
        found += documents.look(settings, database, every_job=True, progress=lambda *_: None)
        database.close()
        return {finding.check: finding for finding in found}

    def bad(self, *, read_data: bool = True) -> dict[str, State]:
        """What is not well, but for the one dead letter."""
        found = self.look(read_data=read_data)
        assert found.pop("jobs.dead").state is State.WARNING
        return {name: finding.state for name, finding in found.items() if finding.state is not State.OK}

    @contextmanager
    def damaged(self, harm: Callable[[Transaction], object]) -> Iterator[None]:
        """Change rows behind every constraint's back, and put all of them back, but for the log's: it may have grown meanwhile."""
        database = connect(self.desk.brokerage.settings)
        with database.read() as connection:
            tables = [table for table in metadata.sorted_tables if table not in _LOG]
            before = {table: connection.execute(select(table)).all() for table in tables}
        try:
            with self._unbound() as connection:
                harm(connection)
            yield
        finally:
            with self._unbound() as connection:
                for table, kept in before.items():
                    connection.execute(delete(table))
                    for row in kept:
                        connection.execute(insert(table).values(**row._asdict()))
            database.close()

    @contextmanager
    def _unbound(self) -> Iterator[Transaction]:
        settings = self.desk.brokerage.settings
        if settings.database is not None:  # the server's administrator alone may look away from references
            url = settings.database.get_secret_value().replace("//gateway@", f"//{ADMINISTRATOR}@")
            settings = settings.model_copy(update={"database": SecretStr(url)})
        database = connect(settings)
        if isinstance(database, SqliteDatabase):
            with database._connection() as driver:  # the one that is used next, too
                driver.execute("PRAGMA foreign_keys=OFF")
        with database.write() as connection:
            if connection.dialect == "postgresql":
                connection._driver.execute("SET LOCAL session_replication_role = replica")
            yield connection
        database.close()

    def object_of(self, digest: str) -> str:
        """The name of the object that holds a blob of the bank's."""
        database = connect(self.desk.brokerage.settings)
        with database.read() as connection:
            name: str = connection.execute(select(blobs.c.object).where(blobs.c.digest == digest)).scalar()
        database.close()
        return name

    @contextmanager
    def object_as(self, digest: str, data: bytes | None) -> Iterator[None]:
        """Let the object of a blob be other bytes, or none."""
        name = self.object_of(digest)
        if self.s3 is not None:
            client = self.s3.client()
            bucket, _, prefix = self.store["blobs"].removeprefix("s3://").partition("/")
            where = {"Bucket": bucket, "Key": f"{prefix}/blobs/bank/{name}"}
            before = client.get_object(**where)["Body"].read()
            client.delete_object(**where) if data is None else client.put_object(**where, Body=data)
            yield
            client.put_object(**where, Body=before)
            client.close()
            return
        path = self.desk.brokerage.settings.data / "blobs" / "bank" / name
        aside = self.desk.brokerage.settings.data.parent / "aside"
        path.rename(aside)
        if data is not None:
            path.write_bytes(data)
        yield
        path.unlink(missing_ok=True)
        aside.rename(path)


@contextmanager
def open_patient(folder: Path, *, database: str | None, s3_server: S3Server | None) -> Iterator[Patient]:
    """One of each kind, on a database and on a folder or a bucket."""
    store: Mapping[str, Any] = {} if s3_server is None else s3_server.new_bucket()
    given: dict[str, Any] = {"part": PART, "attempts": 1, "max_blob": 1 << 20, "lease": 3_600_000, **store}
    with open_desk(folder, database=database, **given) as desk:
        large = random_bytes(LARGE)
        job = {"succeeded": desk.submit(large).job}
        lease = desk.worker.lease()
        assert lease is not None
        desk.worker.finish(lease, random_bytes(LARGE))
        job["dead"] = desk.submit().job
        lease = desk.worker.lease()
        assert lease is not None
        gone = Release(code="interrupted", reason="the node stopped")
        assert desk.worker.command(lease, "POST", "release", gone).status_code == 200
        small = random_bytes(100)
        job["leased"] = desk.tenant.submit(desk.tenant.order(desk.manifest, blob_ref(small)), small).job
        lease = desk.worker.lease()
        assert lease is not None
        job["cancelled"] = desk.submit().job
        desk.tenant.ask("POST", f"/v1/jobs/{job['cancelled']}/cancel")
        keyed = desk.brokerage.manifest(name="keyed", evaluation_key=True)
        desk.publisher.publish(keyed)
        key = desk.tenant.upload(random_bytes(LARGE))
        active = desk.tenant.statement(key, KeyState.ACTIVE)
        assert desk.tenant.state(active).status_code == 201
        data = desk.tenant.upload(random_bytes(10))
        job["held"] = desk.tenant.submit(desk.tenant.order(keyed, data, evaluation_key=key.digest)).job
        assert desk.tenant.state(desk.tenant.statement(key, KeyState.SUSPENDED, active)).status_code == 200
        other = desk.tenant.upload(random_bytes(LARGE))
        first = desk.tenant.statement(other, KeyState.ACTIVE)
        assert desk.tenant.state(first).status_code == 201
        assert desk.tenant.state(desk.tenant.statement(other, KeyState.DESTROYED, first)).status_code == 200
        desk.tenant.ask("POST", "/v1/uploads", UploadRequest(size=LARGE, sha256="sha256:" + "7" * 64))
        job["queued"] = desk.submit().job
        yield Patient(desk, store, s3_server, job, blob_ref(large).digest, key.digest)

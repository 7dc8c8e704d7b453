"""A real PostgreSQL server of the tests' own: Debian's package, started on a free port in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import psycopg

from blindgate_gateway.opening import migrate
from blindgate_gateway.settings import Settings
from brokerage import free_port

START_SECONDS = 60.0
ADMINISTRATOR = "administrator"
_MIGRATED = "migrated"
_CHOOSES_HOW_TO_COPY = 150_000  # from this version on
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 2 << 30
_PACKAGED = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """The folder of PostgreSQL's programs, the newest version first; `None` where it is not installed."""
    found = sorted(_PACKAGED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True)
    on_path = shutil.which("initdb")
    if found:
        return found[0].parent
    return Path(on_path).resolve().parent if on_path else None


def in_memory() -> Path | None:
    """Where folders lie in memory, if there is room for a server's: a database is 400 files, and a disk takes its time for each."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES else None


class PostgresqlServer:
    """A server with a data folder, which outlives `kill`."""

    def __init__(
        self, folder: Path, programs: Path, *, environment: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        """Make the cluster. `settings` are the server's own, beyond its defaults; `environment` goes beside this process's."""
        self._environment = dict(environment or {})
        self.port = free_port()
        self.log = folder / "postgresql.log"
        self._data = folder / "data"
        self.programs = programs
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._migrated = False
        folder.chmod(0o711)
        self._data.mkdir(mode=0o700)
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(self._data, owner.pw_uid, owner.pw_gid)
        initdb = [
            str(programs / "initdb"),
            "-D",
            str(self._data),
            "-U",
            ADMINISTRATOR,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        made = subprocess.run(initdb, user=self._user, cwd="/", capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise RuntimeError(made.stderr)

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        given = {"unix_socket_directories": "", "listen_addresses": "127.0.0.1", "port": self.port}
        given |= {
            "dynamic_shared_memory_type": "mmap"
        }  # files in its folder: others would outlive a server that is killed
        given |= self._settings
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self._data, *options],
                env=os.environ | self._environment,
                user=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    message = f"PostgreSQL did not start:\n{self.log.read_text()[-4000:]}"
                    raise RuntimeError(message) from None
                time.sleep(0.02)
            else:
                return

    @property
    def pid(self) -> int:
        """Of the process that all others descend from."""
        assert self._process is not None
        return self._process.pid

    def start_again(self) -> None:
        """Start it if it has ended."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
            self.start()

    def url(self, database: str, *, user: str = ADMINISTRATOR) -> str:
        """The URI of one of its databases."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self, *, owner: str = "gateway", empty: bool = False) -> str:
        """Make a database; gives its URI for `owner`, who is not the server's administrator, but may make roles.

        It has a gateway's tables already, which is copied faster than migrated to, unless it is to be `empty` or another owner's.
        """
        if empty or owner != "gateway":
            return self._database(f"test_{token_hex(6)}", "template0", owner)
        if not self._migrated:
            url = self._database(_MIGRATED, "template0", owner)
            with tempfile.TemporaryDirectory() as folder:
                migrate(Settings(data=Path(folder), database=url))
            self._migrated = True
        return self._database(f"test_{token_hex(6)}", _MIGRATED, owner)

    def drop_database(self, url: str) -> None:
        """Drop one of its databases, whoever is still connected to it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)".encode())

    def _database(self, name: str, template: str, owner: str) -> str:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            with suppress(psycopg.errors.DuplicateObject):
                connection.execute(b"CREATE ROLE gateway LOGIN CREATEROLE")
            # Nobody can be connected to a template. Its files are copied, which takes a third of writing its pages to the log.
            copied = " STRATEGY FILE_COPY" if connection.info.server_version >= _CHOOSES_HOW_TO_COPY else ""
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}{copied}".encode())
        return self.url(name, user=owner)

    def kill(self) -> None:
        """End every one of its processes at once, as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that it starts none meanwhile
        children = children_of(self._process.pid)
        for process in (self._process.pid, *children):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Shut it down."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def running_server(
    programs: Path, *, within: Path | None = None, environment: Mapping[str, str] | None = None, **settings: object
) -> Iterator[PostgresqlServer]:
    """A server in a folder of its own, `within` another one perhaps, which is removed. The rest as `PostgresqlServer` has it.

    Not in pytest's: it runs under another user id where the tests are root, and another pytest that starts closes the way to those.
    """
    with tempfile.TemporaryDirectory(prefix="blindgate-postgresql-", dir=within) as folder:
        server = PostgresqlServer(Path(folder), programs, environment=environment, **settings)
        server.start()
        try:
            yield server
        finally:
            server.kill()  # to shut down, it would write everything to its disk


def children_of(process: int) -> list[int]:
    """The server's own processes."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in children.split()]

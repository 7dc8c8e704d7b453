"""A corpus at a gateway while a disk is full: the gateway's, its database's, or that of a machine that has a cache.

Whoever changes it is told so, and where the change is. What lay there stays, nothing is half there, and room heals everything.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import campaigns
from between import Proxy
from blindgate import Client, Policy
from blindgate_gateway.parts import build_parts
from blindgate_gateway.settings import Settings
from blindgate_gateway.sweep import sweep_bytes, sweep_strays
from blindgate_protocol.errors import CorpusError, GatewayError
from blindgate_rag.adding import Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.sync.corpus import SyncedCorpus
from brokerage import Brokerage, GatewayProcess, Keys, make_settings
from disks import fill, small_disk
from postgresql import PostgresqlServer

Machine = Callable[..., SyncedCorpus]
ROUNDS, TRIES = 3, 3
MOMENTS = ("the shard", "the head", "the head's name")
"""What the gateway is asked to take when its disk is full."""


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 12 MiB."""
    with small_disk(12) as made:
        yield made


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients give up soon."""
    monkeypatch.setattr("blindgate.transport._LONGEST_WAIT", 0.0)
    monkeypatch.setattr("blindgate.transport._ATTEMPTS", 2)


@pytest.fixture
def wire(disk: Path) -> Iterator[tuple[Proxy, Settings, Machine]]:
    """A gateway on the small disk."""
    with serving(disk) as made:
        yield made


@contextmanager
def serving(folder: Path, database: str | None = None) -> Iterator[tuple[Proxy, Settings, Machine]]:
    """A gateway in a folder, the wire to it, and what opens the corpus `notes` on a machine."""
    keys = Keys()
    settings = make_settings(folder / "gateway", keys, threads=8, log_file=folder / "log.jsonl", database=database)
    brokerage, gateway, embedder = Brokerage(settings, keys), GatewayProcess(settings), Embedder.default()
    key = brokerage.api_key("hospital")
    gateway.start()
    try:
        with ExitStack() as stack:
            proxy = stack.enter_context(Proxy(gateway.url))

            def machine(home: Path, **given: Any) -> SyncedCorpus:
                client = stack.enter_context(Client(proxy.url, key, policy=Policy({}, {}), home=home, progress=False))
                return client.corpus("notes", passphrase="pass", embedder=embedder, **given)

            yield proxy, settings, machine
        assert gateway.stop() == 0
    finally:
        if gateway.running:
            gateway.kill()


def named(corpus: SyncedCorpus) -> set[str]:
    """The documents that a machine finds there."""
    return {one.source for one in corpus.documents()}


def objects(settings: Settings) -> int:
    """How many objects a gateway has, and of what is on its way."""
    return sum(
        path.is_file() for place in ("blobs", "partial", "incoming") for path in (settings.data / place).rglob("*")
    )


def test_what_a_full_gateway_does_not_take_goes_up_when_there_is_room(
    wire: tuple[Proxy, Settings, Machine], disk: Path, tmp_path: Path
) -> None:
    """Both machines go on with what lay there, whatever did not fit, and no blob is left of what was tried."""
    proxy, settings, machine = wire
    one = machine(tmp_path / "one")
    one.add_texts([Text("tea", "Tea with honey was given.")])
    other, there = machine(tmp_path / "other"), {"tea"}
    asked: list[str] = []

    def overhear(method: str, path: str) -> None:
        asked.extend([path] if (method, path) == ("POST", "/v1/uploads") else [])
        moment = MOMENTS[len(asked) - 1] if method == "PUT" and path.startswith("/v1/uploads/") else MOMENTS[2]
        if method == "PUT" and moment == full_at:
            with closing(sqlite3.connect(settings.sqlite_file)) as database:
                database.execute("pragma wal_checkpoint(truncate)")  # it would write where it has room already
            fill(disk)

    for number, full_at in enumerate(MOMENTS):
        note = Text(f"note-{number}", f"Note {number} of the ward.")
        asked.clear()
        proxy.overhear = overhear
        with pytest.raises(
            GatewayError, match=r"The database or the disk .*; try again\. Corpus 'notes': nothing is lost"
        ) as told:
            one.add_texts([note])
        proxy.overhear = lambda _method, _path: None
        assert told.value.problem == "busy"
        assert named(other) == there, full_at
        assert named(one) == there | {note.name}
        (disk / "filler").unlink()
        other.add_texts([Text(f"theirs-{number}", f"Of another machine, {number}.")])
        assert one.add_texts([note]).unchanged == 1
        there |= {note.name, f"theirs-{number}"}
        assert named(other) == named(one) == there
    parts = build_parts(settings.model_copy(update={"retention": -60_000, "grace": -60_000}))
    try:
        assert (
            sweep_bytes(parts) == 3
        )  # of what came without the rest, and was put anew behind the other machine's: swept in time
        assert sweep_strays(parts) == 0
    finally:
        parts.database.close()
    assert objects(settings) == 2
    assert named(machine(tmp_path / "third")) == there


@pytest.mark.slow
def test_what_a_full_database_server_does_not_take_goes_up_when_there_is_room(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """It may end for it, and is started again; whether it took a change or not, both machines go on."""
    campaigns.leave_to_nightly()
    with small_disk(192) as disk:
        folder = disk / "server"
        folder.mkdir()
        server = PostgresqlServer(folder, postgresql_server.programs, min_wal_size="32MB", max_wal_size="32MB")
        server.start()
        try:
            with serving(tmp_path, server.new_database()) as (_, _, machine):
                one, other, there, refused = (
                    machine(tmp_path / "one"),
                    machine(tmp_path / "other"),
                    set[str](),
                    Counter[str | None](),
                )
                for number in range(ROUNDS):
                    with psycopg.connect(server.url("postgres"), autocommit=True) as asked:
                        asked.execute("select pg_switch_wal()")  # it would write where it has room already
                    filler, tried = fill(disk), [f"note-{number}-{each}" for each in range(TRIES)]
                    for name in tried:
                        try:
                            one.add_texts([Text(name, f"Note {name} of the ward.")])
                        except GatewayError as told:
                            refused[told.problem] += 1
                    filler.unlink()
                    server.start_again()
                    other.add_texts([Text(f"theirs-{number}", f"Of another machine, {number}.")])
                    for name in tried:
                        one.add_texts([Text(name, f"Note {name} of the ward.")])
                    there |= {*tried, f"theirs-{number}"}
                    assert named(one) == named(other) == there
                assert refused.keys() == {"busy"}
        finally:
            server.stop()


def test_a_machine_whose_disk_is_full_keeps_what_it_had_and_catches_up(
    wire: tuple[Proxy, Settings, Machine], tmp_path: Path
) -> None:
    """It is told which file has no room, of a change and of what others changed; what it has is searched offline."""
    _, _, machine = wire
    with small_disk(2) as full:
        here, other = machine(full / "home"), machine(tmp_path / "other")
        here.add_texts([Text("tea", "Tea with honey was given.")])
        other.add_texts([Text("dose", "Aspirin must not be combined with warfarin.")])
        fill(full)
        for change in (here.documents, here.sync, lambda: here.search("tea")):
            with pytest.raises(CorpusError, match=r"/home/corpora\S* cannot be written: No space left on device"):
                change()
        assert named(machine(full / "home", offline=True)) == {"tea"}
        with pytest.raises(CorpusError, match="cannot be written: No space left on device"):
            machine(full / "new")
        (full / "filler").unlink()
        assert named(here) == {"tea", "dose"}
        fill(full)
        with pytest.raises(CorpusError, match=r"/cache/\S+ cannot be written: No space left on device"):
            here.add_texts([Text("visit", "Visiting hours are from two to four.")])
        assert named(other) == {"tea", "dose"}
        (full / "filler").unlink()
        here.add_texts([Text("visit", "Visiting hours are from two to four.")])
        assert named(here) == named(other) == named(machine(full / "new")) == {"tea", "dose", "visit"}

"""Disks are filled and freed again and again under load: a gateway's, its database server's. What was answered stays so.

Whoever needs room meanwhile is told 503 with `Retry-After`, no process of the gateway ends, one that is killed is replaced, and
when there is room again everything goes on by itself. PostgreSQL itself ends where its log of changes finds no room; it is started
again as an init system would. 50 times each are the whole; `make test` has a slice of each.

The loads are `ledger`'s. What each route answers is in `test_gateway_full_disk`, nodes are in `test_node_shortages`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import campaigns
from brokerage import GatewayProcess
from disks import fill, small_disk
from ledger import Ledger, campaign, strike
from postgresql import PostgresqlServer

TIMES = campaigns.of(50, slice_of=2)
FEWEST = 5
"""How many answers say that there is no room before there is again."""
LONGEST_SECONDS = 2.0


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system that fills up quickly."""
    with small_disk(64) as made:
        yield made


def filling(ledger: Ledger, gateway: GatewayProcess, disk: Path, *, then: Callable[[], None] = lambda: None) -> None:
    """Fill and free `disk` again and again."""

    def blow(count: int) -> None:
        before, workers = ledger.refused.total(), gateway.workers()
        filler = fill(disk)
        if count % 5 == 4:
            gateway.kill_worker()
        until = time.monotonic() + LONGEST_SECONDS
        while ledger.refused.total() < before + FEWEST and time.monotonic() < until:
            time.sleep(0.002)
        filler.unlink()
        then()
        assert gateway.running
        assert count % 5 == 4 or gateway.workers() == workers

    strike(ledger, TIMES, blow)
    assert ledger.refused["busy"] >= TIMES


@pytest.mark.slow
def test_a_gateway_whose_disk_fills_up_keeps_its_word(
    tmp_path: Path, disk: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blobs, log and temporary files are on that disk, and, with SQLite, the database."""
    if database_url is not None:
        campaigns.leave_to_nightly()
    temporary = disk / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    log = disk / "log.jsonl"
    with campaign(disk, database_url, log_file=log) as (ledger, gateway):
        filling(ledger, gateway, disk)
        lines = log.stat().st_size
        strike(ledger, 1, lambda _: None)
        assert log.stat().st_size > lines


@pytest.mark.slow
def test_a_database_server_whose_disk_fills_up_loses_no_word_of_the_gateways(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """Its log of changes is on that disk, too: the server ends where it finds no room there, and goes on when it is started."""
    campaigns.leave_to_nightly()
    with small_disk(192) as disk:
        folder = disk / "server"
        folder.mkdir()
        server = PostgresqlServer(folder, postgresql_server.programs, min_wal_size="32MB", max_wal_size="32MB")
        server.start()
        try:
            with campaign(tmp_path, server.new_database()) as (ledger, gateway):
                filling(ledger, gateway, disk, then=server.start_again)
        finally:
            server.stop()

"""A gateway is killed again and again in the middle of uploads, leases and commits, and keeps every word it gave.

Under load (`ledger`), SIGKILL goes to the worker, the process that holds whatever transaction there is, and every now and then to
the whole group, master included. The master forks a new worker at once.

In another campaign PostgreSQL is killed under a gateway that lives on. 200 kills on each database and 50 are the whole; `make test`
has a slice of each.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import exists, select

import campaigns
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import events
from brokerage import GatewayProcess
from ledger import campaign, strike
from postgresql import PostgresqlServer, running_server
from s3 import S3Server

KILLS = campaigns.of(200, slice_of=20)
DATABASE_KILLS = campaigns.of(50, slice_of=4)
WHOLE = 5
"""How many of the kills take the master, too."""


def is_pending(settings: Settings) -> bool:
    """Whether an event waits for its place."""
    database = connect(settings)
    try:
        with database.read() as connection:
            return bool(connection.execute(select(exists().where(events.c.position.is_(None)))).scalar())
    finally:
        database.close()


def kill_gateway(gateway: GatewayProcess, between: list[int]) -> Callable[[int], None]:
    """The worker, or now and then the whole group, which is then started again.

    `between` takes the number of each blow that came between a change of state, with its event, and the event's place in the tree.
    """

    def blow(count: int) -> None:
        is_whole = count % (KILLS // WHOLE) == KILLS // WHOLE - 1
        if is_whole:
            gateway.kill()
        else:
            while gateway.kill_worker() is None:
                time.sleep(0.001)
        if is_pending(gateway.settings):
            between.append(count)
        if is_whole:
            gateway.start()

    return blow


@pytest.mark.slow
def test_a_gateway_that_is_killed_again_and_again_keeps_its_word(tmp_path: Path, database_url: str | None) -> None:
    """No acknowledged upload, job, result or event is lost, none is doubled, and every job ends once."""
    between: list[int] = []
    with campaign(tmp_path, database_url) as (ledger, gateway):
        strike(ledger, KILLS, kill_gateway(gateway, between))
    print(f"{KILLS} kills, {len(between)} of them between a change and its place in the log")
    assert len(between) >= KILLS * 3 // 4
    assert min(ledger.hit[what] for what in ("upload", "lease", "commit")) >= KILLS // 20, ledger.hit


@pytest.mark.slow
def test_a_gateway_that_is_killed_on_a_bucket_keeps_its_word(
    tmp_path: Path, postgresql_server: PostgresqlServer, s3_server: S3Server
) -> None:
    """The same, where blobs are in an S3 store; what was on its way there is collected."""
    campaigns.leave_to_nightly()
    store = {"max_blob": 1 << 20, **s3_server.new_bucket()}
    with campaign(tmp_path, postgresql_server.new_database(), **store) as (ledger, gateway):
        strike(ledger, KILLS, kill_gateway(gateway, []))


@pytest.mark.slow
def test_a_database_that_is_killed_loses_no_word_of_the_gateways(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """The gateway says that it is busy meanwhile, and goes on by itself."""
    with (
        running_server(postgresql_server.programs) as server,
        campaign(tmp_path, server.new_database()) as (ledger, gateway),
    ):

        def blow(_: int) -> None:
            server.kill()
            server.start()
            assert gateway.running

        strike(ledger, DATABASE_KILLS, blow)

"""The gateway gets no connection to its database, again and again, under load: it says so, and goes on when it gets one.

Somebody else takes all that the server gives, while the gateway's own are ended; or somebody locks what every transaction needs,
so that the gateway's few connections are all held, and whoever waits for one longer than ten seconds is told to come again.
50 times are the whole; `make test` has a slice without the long waits.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

import campaigns
from blindgate_gateway.database.postgresql import BUSY_SECONDS
from ledger import Ledger, campaign, strike
from postgresql import PostgresqlServer, running_server

TIMES = campaigns.of(50, slice_of=4)
LONG_WAITS = campaigns.of(3, slice_of=0)
"""How many of the locks outlast the gateway's patience."""
MOST = 24
"""The server's connections."""
OWN = 6
"""The gateway's connections, fewer than its threads."""
SHORT_SECONDS = 0.3


@pytest.fixture
def server(postgresql_server: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """A server that gives few connections, the last three to its administrator, which the gateway is not."""
    with running_server(postgresql_server.programs, max_connections=MOST) as server:
        yield server


@contextmanager
def _all_connections(url: str) -> Iterator[None]:
    """Take every connection that the server has for ordinary users."""
    with ExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(url))
        yield


def _take_connections(server: PostgresqlServer, url: str, ledger: Ledger) -> None:
    """End the gateway's connections and be quicker than it to have others, until it has refused something."""
    before, until = ledger.refused.total(), time.monotonic() + 5
    with psycopg.connect(server.url("postgres"), autocommit=True) as overseer:
        while ledger.refused.total() == before and time.monotonic() < until:
            with _all_connections(url):
                overseer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'blindgate-gateway'"
                )
                with _all_connections(url):
                    time.sleep(SHORT_SECONDS)


def _hold_the_gateways(url: str, seconds: float) -> None:
    """Lock what every claim, submission and commit writes."""
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE jobs, blobs IN ACCESS EXCLUSIVE MODE")
        time.sleep(seconds)


@pytest.mark.slow
def test_a_gateway_without_a_connection_keeps_its_word(tmp_path: Path, server: PostgresqlServer) -> None:
    """It refuses what it cannot do, and nothing that it said is lost."""
    url = server.new_database()
    with campaign(tmp_path, url, connections=OWN) as (ledger, gateway):
        workers = gateway.workers()

        def blow(count: int) -> None:
            if count < LONG_WAITS:
                before = ledger.refused.total()
                _hold_the_gateways(url, BUSY_SECONDS + 2)
                assert ledger.refused.total() > before
            elif count % 2:
                _hold_the_gateways(url, SHORT_SECONDS)
            else:
                _take_connections(server, url, ledger)

        strike(ledger, TIMES, blow)
        assert gateway.workers() == workers
        assert ledger.refused["busy"] >= TIMES // 2

"""A process has no file descriptor left, again and again, under load: it says so, and goes on when it has some.

The limit of the running worker is lowered to what it has open, or callers hold connections until there is no more; then it is
raised, or they hang up. 50 times are the whole; `make test` has a slice. Nodes are in `test_node_shortages`.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import campaigns
from brokerage import GatewayProcess
from descriptors import few_descriptors
from ledger import Ledger, campaign, strike

TIMES = campaigns.of(50, slice_of=4)
SPARE = (0, 1, 3)
"""How many descriptors are left: none, or too few to finish with."""
CONNECTIONS = 60
LONGEST_SECONDS = 0.5


@contextmanager
def many_connections(gateway: GatewayProcess) -> Iterator[None]:
    """Connect, and say nothing, more often than a process may have descriptors."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(1)
            with suppress(OSError):
                connection.connect(("127.0.0.1", gateway.settings.port))
        yield


@pytest.mark.slow
def test_a_gateway_that_runs_out_of_descriptors_keeps_its_word(tmp_path: Path, database_url: str | None) -> None:
    """No worker ends of it."""
    if database_url is not None:
        campaigns.leave_to_nightly()
    with campaign(tmp_path, database_url) as (ledger, gateway):
        (worker,) = gateway.workers()

        def blow(count: int) -> None:
            if count % 2:
                with many_connections(gateway), few_descriptors(worker, 3):
                    _pass(ledger)
            else:
                with few_descriptors(worker, SPARE[count // 2 % len(SPARE)]):
                    _pass(ledger)

        strike(ledger, TIMES, blow)
        assert gateway.workers() == [worker]
        assert ledger.refused["busy"] >= TIMES


def _pass(ledger: Ledger) -> None:
    """Let a while pass, in which something is refused or nothing is answered."""
    before, until = ledger.refused.total(), time.monotonic() + LONGEST_SECONDS
    while ledger.refused.total() < before + 5 and time.monotonic() < until:
        time.sleep(0.005)

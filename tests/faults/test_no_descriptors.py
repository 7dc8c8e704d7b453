"""A process has no file descriptor left, again and again, under load: it says so, and goes on when it has some.

The limit of the running worker is lowered to what it has open, or callers hold connections until there is no more; then it is
raised, or they hang up. 50 times are the whole; `make test` has a slice. Nodes are in `test_node_shortages`.
"""

import resource
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import campaigns
from brokerage import GatewayProcess
from ledger import Ledger, campaign, strike

TIMES = campaigns.of(50, slice_of=8)
SPARE = (0, 1, 3)
"""How many descriptors are left: none, or too few to finish with."""
CONNECTIONS = 60
LONGEST_SECONDS = 0.5


def with_few_descriptors(process: int, spare: int, during: Callable[[], None]) -> None:
    """Let a running process have only `spare` more descriptors than it has open, while `during` runs."""
    limits = resource.prlimit(process, resource.RLIMIT_NOFILE)
    taken = max(int(descriptor.name) for descriptor in Path(f"/proc/{process}/fd").iterdir())
    resource.prlimit(process, resource.RLIMIT_NOFILE, (min(taken + 1 + spare, limits[0]), limits[1]))
    try:
        during()
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, limits)


def hold_connections(gateway: GatewayProcess, during: Callable[[], None]) -> None:
    """Connect, and say nothing, more often than a process may have descriptors, while `during` runs."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(1)
            with suppress(OSError):
                connection.connect(("127.0.0.1", gateway.settings.port))
        during()


@pytest.mark.slow
def test_a_gateway_that_runs_out_of_descriptors_keeps_its_word(tmp_path: Path, database_url: str | None) -> None:
    """No worker ends of it."""
    with campaign(tmp_path, database_url) as (ledger, gateway):
        (worker,) = gateway.workers()

        def blow(count: int) -> None:
            if count % 2:
                hold_connections(gateway, lambda: with_few_descriptors(worker, 3, lambda: _pass(ledger)))
            else:
                with_few_descriptors(worker, SPARE[count // 2 % len(SPARE)], lambda: _pass(ledger))

        strike(ledger, TIMES, blow)
        assert gateway.workers() == [worker]
        assert ledger.refused["busy"] >= TIMES


def _pass(ledger: Ledger) -> None:
    """Let a while pass, in which something is refused or nothing is answered."""
    before, until = ledger.refused.total(), time.monotonic() + LONGEST_SECONDS
    while ledger.refused.total() < before + 5 and time.monotonic() < until:
        time.sleep(0.005)

"""A node's disk fills up, or it has no file descriptor left, again and again, while there is work: no job dies of it.

A job has few attempts here, as it has in use, and there is one node: what it takes and cannot finish, it will be given again. 50
times each are the whole; `make test` has a slice.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import campaigns
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import attempts
from brokerage import Brokerage, GatewayProcess, Keys, Publisher, Tenant, http_client, make_settings
from descriptors import few_descriptors
from disks import fill, small_disk
from ledger import SETTINGS, Ledger, check, top_up, unfinished, wait
from node_process import ECHO, NodeProcess

TIMES = campaigns.of(50, slice_of=1)
ATTEMPTS = 4
SLOTS = 2
"""A node's, as `NodeProcess` has them: what is short costs at most the jobs that it is at."""
SHORT_SECONDS = 0.4

Shortage = Callable[[NodeProcess, int], AbstractContextManager[None]]


@contextmanager
def _full_disk(node: NodeProcess, _: int) -> Iterator[None]:
    filler = fill(node.data.parent)
    yield
    filler.unlink()


def _no_descriptors(node: NodeProcess, count: int) -> AbstractContextManager[None]:
    return few_descriptors(node.pid, (0, 2, 8)[count % 3])


@pytest.mark.slow
@pytest.mark.parametrize(
    "shortage", [pytest.param(_full_disk, id="disk"), pytest.param(_no_descriptors, id="descriptors")]
)
def test_a_node_that_is_short_of_something_takes_no_work_and_goes_on_when_it_is_not(
    tmp_path: Path, shortage: Shortage
) -> None:
    """The node lives, every job ends once, and the log goes on, too."""
    keys, ledger, chance = Keys(), Ledger(), random.Random(TIMES)
    settings = make_settings(tmp_path / "gateway", keys, **(SETTINGS | {"attempts": ATTEMPTS}))
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        with small_disk(16) as disk, http_client(gateway.url) as http:
            manifest = brokerage.manifest(server=b"{}", family=ECHO)
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest, server=b"{}")
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            trusted: dict[str, Any] = {"publisher": keys.publisher.id, "operator": keys.operator}
            node = NodeProcess(disk / "node", gateway.url, name="node-1", poll_seconds=0.5, **trusted)
            node.start(brokerage.enrolment_token())

            def go_on(until: int) -> bool:
                top_up(ledger, tenant, manifest, settings, chance)
                return len(ledger.jobs) - unfinished(settings) >= until

            for count in range(TIMES):
                until = len(ledger.jobs) - unfinished(settings) + 4
                wait(ledger, lambda until=until: go_on(until), "the node does not go on")  # type: ignore[misc]
                with shortage(node, count):
                    over = time.monotonic() + SHORT_SECONDS
                    wait(ledger, lambda over=over: go_on(0) and time.monotonic() > over, "")  # type: ignore[misc]
            before = node.events().count("job.ended")
            wait(ledger, lambda: go_on(0) and node.events().count("job.ended") > before, "the log does not go on")
            wait(ledger, lambda: not unfinished(settings), "jobs are left")
            assert node.running
            check(ledger, tenant, settings, result_of=lambda data: data)
            node.stop()
    finally:
        gateway.kill()
    assert _spent(settings) <= SLOTS * TIMES


def _spent(settings: Settings) -> int:
    """How many attempts came to nothing."""
    database = connect(settings)
    with database.read() as connection:
        outcomes = connection.execute(select(attempts.c.outcome)).scalars()
    database.close()
    return sum(outcome != "succeeded" for outcome in outcomes)

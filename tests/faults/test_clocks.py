"""Clocks are an hour off, one after the other: a gateway's, its database's, a node's, a client's.

The database's clock decides. A gateway's own counts for nothing beside PostgreSQL; when the database's jumps, nodes and clients
hear that theirs differ, and when it is right again everything goes on. Whoever's clock is wrong learns that it is the clock, and
by how much. Nothing that was answered is lost, nothing is doubled.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import campaigns
from blindgate_gateway.parts import connect
from blindgate_gateway.tables import all_jobs
from brokerage import Brokerage, GatewayProcess, Keys, Publisher, Tenant, http_client, make_settings, now_ms
from clocks import HOUR, Clock, clock_of_their_own
from ledger import SETTINGS, Ledger, campaign, check, strike, top_up, unfinished, wait
from node_process import ECHO, NodeProcess
from postgresql import PostgresqlServer, running_server
from quick_stores import as_users_have_them
from world import World

TIMES = campaigns.of(50, slice_of=2)
JUMPS = (HOUR, -HOUR)


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that is right at first."""
    with clock_of_their_own() as made:
        yield made


@pytest.mark.slow
def test_a_gateways_own_clock_counts_for_nothing(
    tmp_path: Path, postgresql_server: PostgresqlServer, clock: Clock
) -> None:
    """It jumps by an hour under load: nobody is refused, and times are the database's."""
    began = now_ms()
    with campaign(tmp_path, postgresql_server.new_database(), environment=clock.environment) as (ledger, gateway):
        strike(ledger, TIMES, lambda count: clock.set(JUMPS[count % 2]))
        assert not ledger.refused
        database = connect(gateway.settings)
        with database.read() as connection:
            times = connection.execute(select(all_jobs.c.submitted)).scalars()
        database.close()
        assert began - 1000 <= min(times) <= max(times) <= now_ms() + 1000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_whose_clock_jumps_loses_no_word_of_the_gateways(
    kind: str, tmp_path: Path, clock: Clock, request: pytest.FixtureRequest
) -> None:
    """SQLite's is the gateway's own. Nodes are told how far theirs is from it; their leases end with its time, or do not."""
    with ExitStack() as stack:
        url, environment = None, clock.environment
        if kind == "postgresql":
            campaigns.leave_to_nightly()
            installed: PostgresqlServer = request.getfixturevalue("postgresql_server")
            server = stack.enter_context(running_server(installed.programs, environment=environment))
            url, environment = server.new_database(), {}
        ledger, _ = stack.enter_context(campaign(tmp_path, url, environment=environment))

        def blow(count: int) -> None:
            before = ledger.refused["clock-skew"]
            clock.set(JUMPS[count % 2])
            wait(ledger, lambda: ledger.refused["clock-skew"] >= before + 3, "nobody hears of it")
            clock.set(0)

        strike(ledger, TIMES, blow)


@pytest.mark.slow
def test_a_node_whose_clock_is_off_says_so_and_goes_on_when_it_is_right(tmp_path: Path, clock: Clock) -> None:
    """In the middle of jobs: each ends once, though the node could not say that it was done."""
    keys, ledger, chance = Keys(), Ledger(), random.Random(TIMES)
    settings = make_settings(tmp_path / "gateway", keys, **SETTINGS)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    trusted: dict[str, Any] = {"publisher": keys.publisher.id, "operator": keys.operator}
    node = NodeProcess(tmp_path / "node", gateway.url, name="node-1", poll_seconds=0.5, **trusted)
    node.environment |= clock.environment
    try:
        with http_client(gateway.url) as http:
            manifest = brokerage.manifest(server=b"{}", family=ECHO)
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest, server=b"{}")
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            node.start(brokerage.enrolment_token())

            def go_on(until: int) -> bool:
                top_up(ledger, tenant, manifest, settings, chance)
                return len(ledger.jobs) - unfinished(settings) >= until

            def hears(times: int) -> bool:
                return node.events().count("clock.wrong") >= times

            for count in range(TIMES):
                until = len(ledger.jobs) - unfinished(settings) + 4
                wait(ledger, lambda until=until: go_on(until), "the node does not go on")  # type: ignore[misc]
                heard = node.events().count("clock.wrong") + 1
                clock.set(JUMPS[count % 2])
                wait(ledger, lambda heard=heard: go_on(0) and hears(heard), "it hears nothing")  # type: ignore[misc]
                clock.set(0)
            wait(ledger, lambda: not unfinished(settings), "jobs are left")
            check(ledger, tenant, settings, result_of=lambda data: data)
    finally:
        node.stop()
        gateway.kill()
    said = set(re.findall(r"clock is 3,[56]\d\d s (ahead of|behind) the gateway's", node.log.read_text()))
    assert said == {"ahead of", "behind"}


@pytest.fixture
def users_stores() -> Iterator[None]:
    """For a client that is a program of its own."""
    with as_users_have_them():
        yield


def test_a_node_that_starts_with_a_wrong_clock_says_that_it_is_the_clock(tmp_path: Path, clock: Clock) -> None:
    """It ends, as whatever starts it can see, and starts well when the clock is right."""
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        trusted: dict[str, Any] = {"publisher": keys.publisher.id, "operator": keys.operator}
        node = NodeProcess(tmp_path / "node", gateway.url, name="node-1", **trusted)
        node.environment |= clock.environment
        token = brokerage.enrolment_token()
        for seconds, said in (
            (HOUR, r"clock is 3,\d\d\d s ahead of the gateway's"),
            (-HOUR, r"not valid now \(this machine's clock says "),  # before its certificate
        ):
            clock.set(seconds)
            with pytest.raises(AssertionError, match="did not get there"):
                node.start(token)
            assert node.wait() == 1
            assert re.search(said, (tmp_path / "node.out").read_text())
        clock.set(0)
        node.start(token)
        node.stop()
    finally:
        gateway.kill()


_CLIENT = """
import sys
from pathlib import Path
from blindgate import Client
from blindgate_protocol.errors import BlindgateError
home = Path(sys.argv[3])
client = Client(sys.argv[1], sys.argv[2], policy=home / "policy.toml", home=home)
try:
    print(client.model("small").predict([[0.5, 0.5, 0.5, 0.5]])[0])
except BlindgateError as error:
    print(error.code, error)
"""


@pytest.mark.usefixtures("users_stores")
def test_a_client_whose_clock_is_off_learns_that_it_is_the_clock(world: World, tmp_path: Path, clock: Clock) -> None:
    """Before anything is computed; and when it is right, it gets its answer."""
    world.client(home=tmp_path).close()

    def ask(environment: Mapping[str, str]) -> str:
        told = [sys.executable, "-c", _CLIENT, world.url, world.api_key("hospital"), str(tmp_path)]
        return subprocess.run(
            told, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    clock.set(HOUR)
    assert re.match(
        r"clock-skew .*dated 3,\d\d\d s ahead of the gateway's clock.*: set this machine's clock right",
        ask(clock.environment),
    )
    clock.set(-HOUR)
    assert re.search("ahead of this machine's clock|by the clock here", ask(clock.environment))
    clock.set(0)
    assert ask(clock.environment).strip() in {"sick", "well"}

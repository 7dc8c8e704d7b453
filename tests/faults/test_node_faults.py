"""Nodes that are killed, late, cut off or told to stop, in the middle of a job."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from blindgate_gateway.nodes import dismiss_node
from blindgate_gateway.opening import open_database
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobView
from blindgate_protocol.receipts import Receipt, check_receipt
from blindgate_protocol.signing import Signed, open_signed
from brokerage import Brokerage, GatewayProcess, Keys, Publisher, Tenant, http_client, make_settings
from lying_gateway import LyingGateway
from node_process import ECHO, HOSTILE, NodeProcess

LEASE_MS = 2000


@dataclass
class World:
    """A gateway with short leases, and as many nodes as a test starts."""

    folder: Path
    keys: Keys
    gateway: GatewayProcess
    brokerage: Brokerage
    tenant: Tenant
    model: Signed[Manifest]
    nodes: list[NodeProcess] = field(default_factory=list)

    def node(self, **changes: Any) -> NodeProcess:
        """Start a node."""
        name = f"node-{len(self.nodes) + 1}"
        node = NodeProcess(
            self.folder / name,
            self.gateway.url,
            publisher=self.keys.publisher.id,
            operator=self.keys.operator,
            name=name,
            **({"poll_seconds": 1} | changes),
        )
        self.nodes.append(node)
        node.start(self.brokerage.enrolment_token())
        return node

    def submit(self, seconds: float) -> Callable[[], JobView]:
        """Submit a job that works for so long; what is given back waits for its end and checks its receipt."""
        given = f'{{"do": "work", "seconds": {seconds}}}'.encode()
        order = self.tenant.order(self.model, self.tenant.upload(given))
        self.tenant.submit(order)

        def ended() -> JobView:
            view = self.tenant.job(order.document.job, wait=30_000)
            if view.receipt is not None:
                check_receipt(open_signed(view.receipt, Receipt), order, self.model, operators={self.keys.operator.id})
            return view

        return ended


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A gateway with short leases."""
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys, lease=LEASE_MS)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    with http_client(gateway.url) as http:
        model = brokerage.manifest(server=b"{}", family=HOSTILE)
        Publisher(http, brokerage.api_key("models", publish=True)).publish(model, server=b"{}")
        tenant = Tenant(http, brokerage.api_key("hospital"), name="hospital", keys=keys)
        world = World(tmp_path, keys, gateway, brokerage, tenant, model)
        yield world
        for node in world.nodes:
            node.stop()
    gateway.stop()


def workers_of(node: NodeProcess) -> int:
    """How many of the node's workers have a job: they hold a result to write to."""
    found = 0
    for process in node.family():
        with suppress(FileNotFoundError, ProcessLookupError):
            held = [descriptor.readlink() for descriptor in Path(f"/proc/{process.pid}/fd").iterdir()]
            found += any(str(target).startswith("/memfd:result") for target in held)
    return found


def working(node: NodeProcess) -> bool:
    """Whether the node has a job in a worker."""
    return workers_of(node) > 0


def test_a_node_killed_in_mid_evaluation_costs_one_lease(world: World) -> None:
    """Its job is leased again, to another node, and finishes once; nothing of the dead node keeps running."""
    first = world.node()
    ended = world.submit(3)
    first.until(lambda: working(first))
    orphans = first.family()
    first.kill()
    gone, alive = psutil.wait_procs(orphans, timeout=20)
    assert alive == []
    assert len(gone) >= 3  # the tree's keeper, the zygote, the worker
    second = world.node()
    view = ended()
    assert view.state is JobState.SUCCEEDED
    assert view.receipt is not None
    receipt = open_signed(view.receipt, Receipt)
    assert (receipt.signer, receipt.document.generation) == (second.key.id, 2)


def test_a_killed_node_starts_again_in_its_folder(world: World) -> None:
    """Without a token, with the same key, and without what the killed one left in its temporary folders."""
    node = world.node()
    ended = world.submit(1)
    node.until(lambda: working(node))
    node.kill()
    left = list((node.data / "work").iterdir())
    assert left
    node.start()
    assert not any(folder.exists() for folder in left)
    assert ended().state is JobState.SUCCEEDED


def test_a_late_node_cannot_commit_over_its_successor(world: World) -> None:
    """A node that was stopped for longer than its lease finds it lost, kills its worker, and commits nothing."""
    late = world.node()
    ended = world.submit(3)
    late.until(lambda: working(late))
    family = [psutil.Process(late.pid), *late.family()]
    for process in family:
        process.suspend()
    second = world.node()
    view = ended()
    for process in family:
        with suppress(psutil.NoSuchProcess):  # the node is the first that goes on, and kills its worker
            process.resume()
    assert view.receipt is not None
    assert open_signed(view.receipt, Receipt).signer == second.key.id
    late.until(lambda: "job.ended" in late.events())
    assert '"outcome": "lost"' in late.log.read_text()
    assert world.tenant.job(view.job) == view
    assert late.running


def test_sigterm_drains(world: World) -> None:
    """The running job finishes, the next one is not taken, and the node ends by itself."""
    node = world.node()
    running = world.submit(2)
    node.until(lambda: working(node))
    node.terminate()
    node.until(lambda: "node.draining" in node.events())
    waiting = world.submit(0)
    assert running().state is JobState.SUCCEEDED
    assert node.wait() == 0
    world.node()
    view = waiting()
    assert view.state is JobState.SUCCEEDED
    assert view.attempts == () or all(attempt.outcome != "lost" for attempt in view.attempts)


def test_a_job_that_outlasts_the_drain_is_given_back(world: World) -> None:
    """Another node has it at once, without waiting for the lease to run out."""
    node = world.node(drain_seconds=0.5)
    ended = world.submit(3)
    node.until(lambda: working(node))
    family = node.family()
    node.terminate()
    assert node.wait() == 0
    assert psutil.wait_procs(family, timeout=20)[1] == []
    world.node()
    view = ended()
    assert view.state is JobState.SUCCEEDED
    assert view.attempts[0].outcome == "released"


def test_a_second_sigterm_ends_at_once(world: World) -> None:
    """Whoever insists gets it, and no worker outlives the node."""
    node = world.node()
    world.submit(60)
    node.until(lambda: working(node))
    family = node.family()
    node.terminate()
    node.until(lambda: "node.draining" in node.events())
    node.terminate()
    assert node.wait(20) != 0
    assert psutil.wait_procs(family, timeout=20)[1] == []


def test_one_folder_is_one_node(world: World) -> None:
    """Two processes with one key could sign two receipts for one lease."""
    node = world.node()
    twin = NodeProcess(
        node.data, world.gateway.url, publisher=world.keys.publisher.id, operator=world.keys.operator, name="node-1"
    )
    with pytest.raises(AssertionError, match="another node uses the folder"):
        twin.start()
    assert node.running


@pytest.fixture
def lying(tmp_path: Path) -> Iterator[tuple[LyingGateway, NodeProcess]]:
    """A gateway under the test's control, and a node."""
    keys = Keys()
    gateway = LyingGateway(keys, duration=1500)
    node = NodeProcess(
        tmp_path / "node",
        gateway.url,
        publisher=keys.publisher.id,
        operator=keys.operator,
        name="node-1",
        poll_seconds=0.5,
    )
    node.start("enrolment-token-of-the-test")
    yield gateway, node
    node.stop()
    gateway.close()


def offer(gateway: LyingGateway, given: bytes, family: str = HOSTILE, **changes: Any) -> str:
    """Hand out a job."""
    manifest = gateway.manifest(family=family)
    return gateway.offer(manifest.envelope, gateway.order(manifest, given), **changes).job


def test_a_node_does_not_press_a_gateway_that_cannot_hold_its_request(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """A busy gateway answers long polls at once: the node asks ever more rarely, and still finds the next job."""
    gateway, _ = lying
    gateway.hasty = True
    before = gateway.polls
    time.sleep(3)
    assert 2 <= gateway.polls - before <= 12
    offer(gateway, b"{}", family=ECHO)
    assert gateway.outcome().what == "commit"


def test_a_worker_is_killed_when_its_lease_is_lost(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """The heartbeat's 409 ends the worker; nothing is stored, committed, refused or released."""
    gateway, node = lying
    job = offer(gateway, b'{"do": "hang"}')
    node.until(lambda: working(node))
    gateway.lost.add(job)
    node.until(lambda: "job.ended" in node.events())
    assert '"outcome": "lost"' in node.log.read_text()
    node.until(lambda: not working(node))
    assert gateway.ended.empty()
    assert job not in gateway.results


def test_a_package_that_hangs_does_not_outlive_a_killed_node(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """A zygote that listens to nobody ends with its node all the same: the kernel ends it."""
    gateway, node = lying
    manifest = gateway.manifest(b'{"hang": 1}', family=ECHO)
    gateway.offer(manifest.envelope, gateway.order(manifest, b"given"))
    node.until(lambda: len(node.family()) == 2)
    time.sleep(1)  # until it is in the package's hands
    family = node.family()
    node.kill()
    assert psutil.wait_procs(family, timeout=20)[1] == []


def test_a_long_job_is_kept_by_heartbeats_and_a_short_one_needs_none(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """Heartbeats come in time, and only when they are needed."""
    gateway, _ = lying
    gateway.duration = 60_000
    short = offer(gateway, b'{"do": "work", "seconds": 0}')
    assert gateway.outcome().what == "commit"
    gateway.duration = 1500
    long = offer(gateway, b'{"do": "work", "seconds": 2.5}')
    assert gateway.outcome().what == "commit"
    assert short not in gateway.heartbeats
    assert 3 <= gateway.heartbeats.count(long) <= 12


@pytest.mark.parametrize("seconds", [0.5, 60.0], ids=["late", "never"])
def test_a_heartbeat_that_is_out_does_not_keep_a_node_from_ending(
    lying: tuple[LyingGateway, NodeProcess], seconds: float
) -> None:
    """Nobody needs its answer once the job is over, whether it comes while the node ends or never."""
    gateway, node = lying
    out, job_over, over = threading.Event(), threading.Event(), threading.Event()

    def hold_heartbeats(what: str) -> None:
        if what == "heartbeat":
            out.set()
            job_over.wait(20)
            over.wait(seconds)

    gateway.overhear = hold_heartbeats
    offer(gateway, b'{"do": "work", "seconds": 0.8}')
    assert out.wait(10)
    node.terminate()
    assert gateway.outcome().what == "commit"
    job_over.set()
    assert node.wait(15) == 0
    over.set()


@pytest.mark.parametrize("duration", [0, 2**53 - 1])
def test_an_absurd_duration_stops_no_heartbeat_and_sends_no_flood(
    lying: tuple[LyingGateway, NodeProcess], duration: int
) -> None:
    """The node goes on with this lease, and keeps the next one alive."""
    gateway, node = lying
    gateway.duration = duration
    job = offer(gateway, b'{"do": "work", "seconds": 1.5}')
    assert gateway.outcome().what == "commit"
    assert gateway.heartbeats.count(job) < 100
    gateway.duration = 1500
    next_job = offer(gateway, b'{"do": "work", "seconds": 1.5}')
    assert gateway.outcome().what == "commit"
    assert gateway.heartbeats.count(next_job) >= 2
    assert node.running


def test_a_gateway_that_is_away_gets_the_commit_when_it_is_back(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """The worker goes on meanwhile, and the commit is repeated until there is an answer."""
    gateway, node = lying
    gateway.duration = 20_000
    job = offer(gateway, b'{"do": "work", "seconds": 1}')
    node.until(lambda: working(node))
    gateway.down.set()
    time.sleep(2)
    gateway.down.clear()
    said = gateway.outcome()
    assert (said.job, said.what) == (job, "commit")


def test_a_worker_goes_no_further_than_its_lease_when_the_gateway_stays_away(
    lying: tuple[LyingGateway, NodeProcess],
) -> None:
    """A lease that ran out belongs to somebody else, whether or not anybody could say so."""
    gateway, node = lying
    offer(gateway, b'{"do": "hang"}')
    node.until(lambda: working(node))
    gateway.down.set()
    node.until(lambda: "lease.ran-out" in node.events())
    node.until(lambda: not working(node))
    gateway.down.clear()


def test_the_same_lease_again_gets_the_same_receipt(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """Even after a restart, and even if another result would come out: two receipts for one lease look like fraud."""
    gateway, node = lying
    manifest = gateway.manifest(family=ECHO)
    lease = gateway.offer(manifest.envelope, gateway.order(manifest, os.urandom(50)))
    first = gateway.outcome().body["receipt"]
    gateway.leases.put(lease)
    assert gateway.outcome().body["receipt"] == first
    node.stop()
    node.start()
    gateway.leases.put(lease)
    assert gateway.outcome().body["receipt"] == first
    again = lease.model_copy(update={"generation": 2})
    gateway.leases.put(again)
    assert gateway.outcome().body["receipt"] != first


def test_a_request_that_something_on_the_way_sent_twice_is_signed_anew(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """Neither the node nor the job ends of it."""
    gateway, node = lying
    gateway.twice = 2
    node.until(lambda: not gateway.twice)
    offer(gateway, b'{"do": "work", "seconds": 1}')
    node.until(lambda: working(node))
    gateway.twice = 2
    assert gateway.outcome().what == "commit"
    assert not gateway.twice
    assert node.running


def test_a_node_whose_clock_is_wrong_goes_on_when_it_is_right(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """It says so in its log, and heals alone: a clock that is off is set right by others."""
    gateway, node = lying
    gateway.skewed.set()
    node.until(lambda: "clock.wrong" in node.events())
    assert node.running
    gateway.skewed.clear()
    offer(gateway, b'{"do": "work", "seconds": 0}')
    assert gateway.outcome().what == "commit"


def test_as_many_jobs_at_once_as_slots(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """Two slots: the third job is not even leased until one is free."""
    gateway, node = lying
    gateway.duration = 20_000
    for _ in range(3):
        offer(gateway, b'{"do": "work", "seconds": 1.5}')
    node.until(lambda: workers_of(node) == 2)
    assert gateway.leases.qsize() == 1
    assert {gateway.outcome().what for _ in range(3)} == {"commit"}


def test_a_node_that_was_dismissed_says_how_to_enrol_again(world: World) -> None:
    """It ends, since nobody will give it work, and tells what to do."""
    node = world.node()
    node.stop()
    database = open_database(world.brokerage.settings)
    dismiss_node(database, node.key.id)
    database.close()
    node.start()
    assert node.wait() == 1
    assert "blindgate node enrol --again" in (node.data.parent / f"{node.data.name}.out").read_text()

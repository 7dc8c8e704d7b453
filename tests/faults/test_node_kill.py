"""Nodes are killed again and again, at moments that were aimed at, and what they were at ends once, with one receipt.

Real nodes with real workers compute for a real gateway, each through a proxy of its own (`between`) that knows where a job is: just
leased, its result or its commit on the way, its commit answered and the answer not heard. SIGKILL goes to the node alone, as it
would come from a machine short of memory; its processes must end with it. It is started again at once, in its folder.

200 kills on each database are the whole; `make test` has a slice.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from sqlalchemy import select

import campaigns
from between import Answer, Proxy
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import job_documents
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Envelope, open_signed
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    free_port,
    http_client,
    make_settings,
)
from ledger import SETTINGS, Ledger, check, top_up, unfinished, wait
from lying_gateway import LyingGateway
from node_process import ECHO, NodeProcess
from runs import wait_until

KILLS = campaigns.of(200, slice_of=3)
REPETITIONS = campaigns.of(10, slice_of=1)
KEPT = {"node.key", "certificate.json", "enrolment.json", "receipts.jsonl", "budgets.sqlite", "packages"}
"""What a node leaves in its folder."""

Moment = Literal["leased", "computing", "storing", "committing", "committed", "any"]
MOMENTS: tuple[Moment, ...] = ("leased", "computing", "storing", "committing", "committed", "any")
"""When the answer with a lease is there; a while later; when the result comes, or the commit, for which the receipt is on disk;
when the commit was answered, and the node has not heard of it; and whenever."""


@dataclass
class Doomed:
    """A node, the wire between it and its gateway, and when it is to be killed next."""

    node: NodeProcess
    wire: Proxy
    chance: random.Random
    aim: Moment | None = None
    aiming: threading.Lock = field(default_factory=threading.Lock)
    struck: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.wire.overhear, self.wire.lie = self._overhear, self._lie

    def doom(self, moment: Moment) -> None:
        """Let it be killed at the next such moment."""
        self.struck.clear()
        if moment == "any":
            time.sleep(self.chance.uniform(0, 0.3))
            self._strike()
        else:
            self.aim = moment

    def _overhear(self, method: str, path: str) -> None:
        if (method == "PUT" and self._hits("storing")) or (path.endswith("/commit") and self._hits("committing")):
            self._strike()

    def _lie(self, _method: str, path: str, answer: Answer) -> Answer:
        leased = answer.status == 200 and path == "/v1/leases"
        if (leased and self._hits("leased")) or (
            answer.status == 200 and path.endswith("/commit") and self._hits("committed")
        ):
            self._strike()
        elif leased and self._hits("computing"):
            threading.Timer(self.chance.uniform(0, 0.05), self._strike).start()  # it is to hear of its lease before
        return answer

    def _hits(self, moment: Moment) -> bool:
        """Whether this is the moment: for one of two jobs that come to it at once."""
        with self.aiming:
            hit = self.aim == moment
            if hit:
                self.aim = None
        return hit

    def _strike(self) -> None:
        self.family = self.node.family()
        self.node.kill()
        self.struck.set()

    def gone(self) -> None:
        """Everything that it had started ends with it."""
        assert psutil.wait_procs(self.family, timeout=20)[1] == []
        # What was forked between the look at the family and the blow is in no list.
        wait_until(lambda: not _session(self.node.pid), seconds=20)


def _session(leader: int) -> list[int]:
    """The processes of a session whose leader is gone."""
    found = []
    for process in psutil.pids():
        with suppress(ProcessLookupError):
            found += [process] if os.getsid(process) == leader and process != leader else []
    return found


@contextmanager
def doomed_nodes(brokerage: Brokerage, gateway: GatewayProcess, wires: list[Proxy]) -> Iterator[list[Doomed]]:
    """A node behind each wire."""
    made: list[Doomed] = []
    try:
        for number, wire in enumerate(wires):
            folder = gateway.settings.data.parent / f"node-{number}"
            node = NodeProcess(
                folder,
                wire.url,
                publisher=brokerage.keys.publisher.id,
                operator=brokerage.keys.operator,
                name=f"node-{number}",
                poll_seconds=0.5,
            )
            temporary = folder.with_suffix(".tmp")
            temporary.mkdir()
            node.environment["TMPDIR"] = str(temporary)
            made.append(Doomed(node, wire, random.Random(number)))
            node.start(brokerage.enrolment_token())
        yield made
    finally:
        for doomed in made:
            doomed.node.stop()


@pytest.mark.slow
def test_jobs_of_nodes_that_are_killed_end_once(tmp_path: Path, database_url: str | None) -> None:
    """With one receipt each, and nothing of a killed node is left."""
    keys, port, chance = Keys(), free_port(), random.Random(KILLS)
    first_moment = 0 if database_url is None else KILLS  # a slice has some of them on each
    with Proxy(f"http://127.0.0.1:{port}") as first, Proxy(f"http://127.0.0.1:{port}") as second:
        wires = [first, second]
        addresses = (f"http://127.0.0.1:{port}", *(wire.url for wire in wires))
        given = SETTINGS | {"port": port, "addresses": addresses, "database": database_url}
        settings = make_settings(tmp_path / "gateway", keys, **given)
        brokerage, gateway, ledger = Brokerage(settings, keys), GatewayProcess(settings), Ledger()
        gateway.start()
        try:
            with http_client(gateway.url) as http, doomed_nodes(brokerage, gateway, wires) as nodes:
                manifest = brokerage.manifest(server=b"{}", family=ECHO)
                Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest, server=b"{}")
                tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
                more = partial(top_up, ledger, tenant, manifest, settings, chance)
                for count in range(KILLS):
                    doomed = nodes[chance.randrange(len(nodes))]
                    doomed.doom(MOMENTS[(count + first_moment) % len(MOMENTS)])
                    wait(ledger, lambda doomed=doomed: more() or doomed.struck.is_set(), "the moment does not come")  # type: ignore[misc]
                    doomed.gone()
                    doomed.node.start()
                wait(ledger, lambda: not unfinished(settings), "jobs are left")
                check(ledger, tenant, settings, result_of=lambda data: data)
        finally:
            gateway.kill()
        for doomed in nodes:
            _check_node(doomed.node, settings)


def _check_node(node: NodeProcess, settings: Settings) -> None:
    """It signed one receipt for a lease at most, those that the gateway has among them, and leaves nothing."""
    lines = [json.loads(line) for line in (node.data / "receipts.jsonl").read_bytes().splitlines()]
    signed = {(line["job"], line["generation"]): _envelope(line["receipt"]) for line in lines}
    assert len(signed) == len(lines)
    database = connect(settings)
    with database.read() as connection:
        kept = [
            Envelope.from_bytes(text.encode()) for text in connection.execute(select(job_documents.c.receipt)).scalars()
        ]
    database.close()
    for receipt in (open_signed(envelope, Receipt) for envelope in kept):
        if receipt.signer == node.key.id:
            assert signed[receipt.document.job, receipt.document.generation] == receipt.envelope
    assert {path.name for path in node.data.iterdir()} == KEPT
    assert [path.suffix for path in (node.data / "packages").iterdir()] == [""]
    assert list(Path(node.environment["TMPDIR"]).iterdir()) == []


def _envelope(receipt: Any) -> Envelope:
    return Envelope.from_bytes(json.dumps(receipt).encode())


@pytest.fixture
def lying(tmp_path: Path) -> Iterator[tuple[LyingGateway, NodeProcess]]:
    """A gateway under the test's control, and a node."""
    keys = Keys()
    gateway = LyingGateway(keys, duration=30_000)
    trusted: dict[str, Any] = {"publisher": keys.publisher.id, "operator": keys.operator}
    # A killed node's long poll must be over when the next lease is offered: it would get it.
    node = NodeProcess(tmp_path / "node", gateway.url, name="node-1", poll_seconds=0.2, **trusted)
    node.start("enrolment-token-of-the-test")
    yield gateway, node
    node.stop()
    gateway.close()


def test_a_node_killed_while_it_commits_repeats_its_receipt(lying: tuple[LyingGateway, NodeProcess]) -> None:
    """The same lease again is a repetition, not a fraud: the receipt was on disk before anybody saw it."""
    gateway, node = lying
    manifest = gateway.manifest(family=ECHO)

    def kill(what: str) -> None:
        if what == "commit" and node.running:
            node.kill()

    overheard: dict[bool, Callable[[str], None]] = {True: kill, False: lambda _: None}
    for number in range(REPETITIONS):
        gateway.overhear = overheard[True]
        lease = gateway.offer(manifest.envelope, gateway.order(manifest, os.urandom(50)))
        first: Any = gateway.outcome().body["receipt"]
        assert not node.running
        gateway.overhear = overheard[False]
        node.start()
        gateway.leases.put(lease)
        assert gateway.outcome().body["receipt"] == first, number

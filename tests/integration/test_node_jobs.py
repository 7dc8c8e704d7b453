"""A real node at the real gateway: jobs run, receipts verify, and a node at rest is small."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.package import serialise_part
from blindgate_node.enrolment import enrol
from blindgate_node.settings import Settings
from blindgate_node.transport import Gateway
from blindgate_protocol.errors import CiphertextError, ClockSkewError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.manifest import Limits, Manifest
from blindgate_protocol.messages import JobView, LeaseRequest
from blindgate_protocol.receipts import Receipt, check_receipt, check_result
from blindgate_protocol.signing import Signed, SigningKey, open_signed
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    http_client,
    make_settings,
    now_ms,
)
from node_process import ECHO, HOSTILE, NodeProcess

REST_BYTES = 200_000_000
IDLE_SECONDS = 2


@dataclass
class World:
    """A gateway, a node, a tenant and a publisher."""

    keys: Keys
    gateway: GatewayProcess
    brokerage: Brokerage
    node: NodeProcess
    tenant: Tenant
    publisher: Publisher

    def publish(self, name: str, family: str, part: bytes, **changes: Any) -> Signed[Manifest]:
        """Publish a model."""
        manifest = self.brokerage.manifest(server=part, name=name, family=family, **changes)
        self.publisher.publish(manifest, server=part)
        return manifest

    def run(self, manifest: Signed[Manifest], given: bytes, **changes: Any) -> tuple[JobView, bytes]:
        """Submit a job, wait for its end, and check everything that a client would."""
        order = self.tenant.order(manifest, self.tenant.upload(given), **changes)
        self.tenant.submit(order)
        view = self.tenant.job(order.document.job, wait=30_000)
        if view.state is not JobState.SUCCEEDED:
            return view, b""
        assert view.receipt is not None
        receipt = open_signed(view.receipt, Receipt)
        check_receipt(receipt, order, manifest, operators={self.keys.operator.id})
        result = self.tenant.ask("GET", f"/v1/jobs/{view.job}/result").content
        check_result(receipt, result)
        return view, result


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One of each, for all tests here."""
    folder = tmp_path_factory.mktemp("world")
    keys = Keys()
    settings = make_settings(folder / "gateway", keys)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    node = NodeProcess(
        folder / "node-1",
        gateway.url,
        publisher=keys.publisher.id,
        operator=keys.operator,
        name="node-1",
        fresh=True,
        idle_seconds=IDLE_SECONDS,
        key_seconds=IDLE_SECONDS,
        poll_seconds=1,
    )
    node.start(brokerage.enrolment_token())
    with http_client(gateway.url) as http:
        yield World(
            keys,
            gateway,
            brokerage,
            node,
            Tenant(http, brokerage.api_key("hospital"), name="hospital", keys=keys),
            Publisher(http, brokerage.api_key("models", publish=True)),
        )
    node.stop()
    gateway.stop()


@pytest.fixture(scope="module")
def echo(world: World) -> Signed[Manifest]:
    """A model that computes nothing."""
    return world.publish("echo", ECHO, b"{}")


@pytest.mark.parametrize("size", [1, 1000, 20_000_000], ids=["a byte", "a kilobyte", "20 MB"])
def test_a_job_comes_back_with_a_receipt_that_verifies(world: World, echo: Signed[Manifest], size: int) -> None:
    """From submit to a checked result, through the sandbox."""
    given = os.urandom(size)
    view, result = world.run(echo, given)
    assert view.state is JobState.SUCCEEDED, view
    assert result == given


def test_a_linear_model_predicts(world: World) -> None:
    """Blindgate's own family, in a worker, on a stranger's rows."""
    rng = np.random.default_rng(1)
    weights, intercept = rng.normal(size=(3, 5)), rng.normal(size=3)
    client_part, server_part = linear_parts(weights, intercept, np.array([[-1.0, 1.0]] * 5), precision=1e-4)
    client = LinearClient.from_part(client_part.model_dump())
    secret = client.make_keys().secret
    rows = rng.uniform(-1, 1, (50, 5))
    manifest = world.publish("linear", "linear", serialise_part(server_part.model_dump()))
    blob = client.encrypt(secret, rows)
    view, _ = world.run(manifest, blob, rows=49)
    assert (view.state, view.code) == (JobState.FAILED, CiphertextError.code), "a budget counts what an order says"
    view, result = world.run(manifest, blob, rows=50)
    assert view.state is JobState.SUCCEEDED, view
    np.testing.assert_allclose(client.decrypt(secret, result, 50), rows @ weights.T + intercept, atol=1e-3)
    assert view.receipt is not None
    assert set(open_signed(view.receipt, Receipt).document.software) == {"blindgate", "tenseal"}


def test_what_a_worker_refuses_is_the_jobs_failure_by_its_name(world: World) -> None:
    """The client reads the code; the job is not tried again."""
    manifest = world.publish("hostile", HOSTILE, b'{"a": 1}')
    view, _ = world.run(manifest, b'{"do": "raise", "kind": "ciphertext"}')
    assert (view.state, view.code) == (JobState.FAILED, CiphertextError.code)


def test_a_worker_that_crashes_is_tried_again_and_then_buried(world: World) -> None:
    """Each attempt is told; none takes the node with it."""
    manifest = world.publish("crashing", HOSTILE, b'{"b": 1}')
    view, _ = world.run(manifest, b'{"do": "crash"}')
    assert view.state is JobState.DEAD
    assert [attempt.outcome for attempt in view.attempts] == ["released"] * len(view.attempts)
    assert all("signal 11" in attempt.reason for attempt in view.attempts)
    assert world.node.running


def test_an_evaluation_key_is_fetched_once(world: World) -> None:
    """The second job under a key costs no download."""
    key = os.urandom(100_000)
    ref = world.tenant.upload(key)
    limits = Limits(rows_per_job=1, input_bytes=100, result_bytes=1 << 20, evaluation_key_bytes=1 << 20)
    manifest = world.publish("keyed", ECHO, b'{"c": 1}', evaluation_key=True, limits=limits)
    assert world.tenant.state(world.tenant.statement(ref, KeyState.ACTIVE)).is_success
    for number in range(3):
        view, result = world.run(manifest, str(number).encode(), evaluation_key=ref.digest)
        assert view.state is JobState.SUCCEEDED, view
        assert result == key
    asked = re.findall(rf'"path": "[^"]*/blobs/{re.escape(ref.digest)}"', world.gateway.log.read_text())
    assert len(asked) == 1


def test_neither_bodies_nor_secrets_are_logged_or_stored(world: World, echo: Signed[Manifest]) -> None:
    """The node's folder and log hold names, sizes, receipts and parts: no input, no key, no token."""
    marked = b"a marked value " + os.urandom(16).hex().encode()
    world.run(echo, marked)
    written = world.node.log.read_bytes() + b"".join(
        file.read_bytes() for file in world.node.data.rglob("*") if file.is_file()
    )
    assert marked not in written
    assert b"be_" not in written
    assert written.count(world.node.key.seed()) == 1


def test_a_node_whose_clock_is_wrong_says_by_how_much(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To its operator, when it enrols and later."""
    key, hour = SigningKey.generate(), 3_600_000
    token = SecretStr(world.brokerage.enrolment_token())
    given = Settings(data=tmp_path, gateway=world.gateway.url, enrolment_token=token)
    with pytest.raises(ClockSkewError, match=r"3,(59|60)\d s ahead of the gateway's.*set this machine's clock"):
        enrol(given, key, world.brokerage.certificate(key), now_ms() + hour)
    enrol(given, key, world.brokerage.certificate(key), now_ms())
    gateway = Gateway(world.gateway.url, key=key)
    assert gateway.lease(LeaseRequest(families=("nothing",))) is None
    behind = time.time() - 3600
    monkeypatch.setattr("blindgate_node.transport.time.time", lambda: behind)
    with pytest.raises(ClockSkewError, match=r"3,(59|60)\d s behind the gateway's"):
        gateway.lease(LeaseRequest(families=("nothing",)))
    gateway.close()


def test_a_node_at_rest_is_small(world: World, echo: Signed[Manifest]) -> None:
    """When its jobs are over for a while, no zygote and no key is left, and all of it fits in 200 MB."""
    world.run(echo, b"x")
    world.node.until(lambda: world.node.family() == [])
    processes = [psutil.Process(world.node.pid), *world.node.family()]
    assert sum(process.memory_info().rss for process in processes) <= REST_BYTES


def test_the_nodes_process_has_nothing_of_a_client_and_no_library(world: World) -> None:
    """What the node maps shows what it imported: no tenseal, no numpy, no client half."""
    maps = Path(f"/proc/{world.node.pid}/maps").read_text()
    assert "tenseal" not in maps
    assert "numpy" not in maps


def test_the_gateway_restarting_does_not_stop_a_node(world: World, echo: Signed[Manifest]) -> None:
    """It asks again, with pauses, and goes on."""
    world.gateway.stop()
    world.node.until(lambda: "gateway.unreachable" in world.node.events())
    world.gateway.start()
    view, _ = world.run(echo, b"after")
    assert view.state is JobState.SUCCEEDED

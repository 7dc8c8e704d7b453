"""Hostile bytes on their way through a node: ciphertexts through real workers, documents and blobs through a real node."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_gateway.settings import DAY
from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.package import serialise_part
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CiphertextError
from blindgate_protocol.manifest import Limits
from blindgate_protocol.messages import Lease
from blindgate_protocol.order import new_job_id
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import SigningKey, open_signed
from brokerage import Keys, blob_ref, now_ms
from campaigns import of
from lying_gateway import LyingGateway
from node_process import ECHO, NodeProcess
from worker_pool import workers

MUTATIONS = of(600, slice_of=200)
HEADER = 44


def mutated(blob: bytes, strangers: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """One hostile blob, and what was done to it."""
    how = (
        "truncated",
        "flipped header",
        "flipped",
        "appended",
        "self-appended",
        "random",
        "zeros",
        "stranger",
        "shuffled",
    )[int(rng.integers(9))]
    at = int(rng.integers(len(blob)))
    head = int(rng.integers(HEADER))
    made = {
        "truncated": lambda: blob[:at],
        "flipped header": lambda: blob[:head] + bytes([blob[head] ^ 1 << int(rng.integers(8))]) + blob[head + 1 :],
        "flipped": lambda: blob[:at] + bytes([blob[at] ^ 1 << int(rng.integers(8))]) + blob[at + 1 :],
        "appended": lambda: blob + rng.bytes(1 + at % 100),
        "self-appended": lambda: blob + blob,
        "random": lambda: rng.bytes(len(blob)),
        "zeros": lambda: blob[:HEADER] + bytes(len(blob) - HEADER),
        "stranger": lambda: strangers[int(rng.integers(len(strangers)))],
        "shuffled": lambda: blob[:HEADER] + rng.permutation(np.frombuffer(blob[HEADER:], np.uint8)).tobytes(),
    }[how]()
    return how, made


def test_mutated_ciphertexts_get_their_error_and_the_node_goes_on(tmp_path: Path) -> None:
    """Every mutation is refused by name or is another ciphertext; none ends a worker, and the honest job stays right."""
    rng = np.random.default_rng(7)
    ranges = np.array([[-1.0, 1.0]] * 3)
    weights = np.array([[1.0, -2.0, 0.5]])
    client_part, server_part = linear_parts(weights, np.zeros(1), ranges, precision=1e-2)
    client = LinearClient.from_part(client_part.model_dump())
    other = LinearClient.from_part(
        linear_parts(np.ones((1, 4)), np.zeros(1), ranges[[0] * 4], precision=1e-2)[0].model_dump()
    )
    secret = client.make_keys().secret
    rows = rng.uniform(-1, 1, (2, 3))
    blob = client.encrypt(secret, rows)
    outcomes: Counter[tuple[str, str]] = Counter()
    with workers(tmp_path / "node", memory=2 << 30, file=64 << 20, result=32 << 20) as rig:
        model = rig.model("linear", serialise_part(server_part.model_dump()))
        honest = rig.run(model, blob)
        strangers = [other.encrypt(other.make_keys().secret, np.zeros((2, 4))), honest, b"", b"\x00"]
        for _ in range(MUTATIONS):
            how, given = mutated(blob, strangers, rng)
            if not given:
                continue
            try:
                rig.run(model, given)
            except CiphertextError:
                outcomes[how, "refused"] += 1
            else:
                outcomes[how, "computed"] += 1
        assert rig.run(model, blob) == honest
        np.testing.assert_allclose(client.decrypt(secret, honest, 2), rows @ weights.T, atol=1e-2)
    assert sum(outcomes.values()) >= MUTATIONS * 5 // 6
    # A changed payload is another ciphertext, which nobody but the owner of the secret key can tell from a good one.
    assert {how for how, what in outcomes if what == "computed"} <= {"flipped", "shuffled", "zeros", "flipped header"}
    for how in ("truncated", "appended", "self-appended", "random", "stranger"):
        assert outcomes[how, "refused"] > 0


@dataclass
class World:
    """A node at a gateway that lies."""

    gateway: LyingGateway
    node: NodeProcess
    keys: Keys = field(default_factory=Keys)

    def honest(self) -> None:
        """An honest job is committed, with a receipt for the right bytes."""
        given = os.urandom(100)
        manifest = self.gateway.manifest(family=ECHO)
        order = self.gateway.order(manifest, given)
        self.gateway.offer(manifest.envelope, order)
        said = self.gateway.outcome()
        assert said.what == "commit", said
        receipt = open_signed(json.dumps(said.body["receipt"]).encode(), Receipt)
        assert (receipt.signer, receipt.document.output) == (self.node.key.id, blob_ref(given))
        assert self.gateway.results[order.document.job] == given


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A node at a gateway that lies."""
    folder = tmp_path_factory.mktemp("world")
    keys = Keys()
    gateway = LyingGateway(keys)
    node = NodeProcess(
        folder / "node",
        gateway.url,
        publisher=keys.publisher.id,
        operator=keys.operator,
        name="node-1",
        job_seconds=2,
        start_seconds=5,
        key_bytes=1 << 20,
    )
    node.start("enrolment-token-of-the-test")
    yield World(gateway, node, keys)
    node.stop()
    gateway.close()


def good(world: World, given: bytes = b"given", order: dict[str, Any] | None = None, **manifest: Any) -> Lease:
    """An honest lease, or one whose documents say something else."""
    signed = world.gateway.manifest(**({"family": ECHO} | manifest))
    return world.gateway.offer(signed.envelope, world.gateway.order(signed, given, **(order or {})))


def unknown_publisher(world: World) -> None:
    """A model of somebody whom this node does not know."""
    document = world.gateway.manifest(family=ECHO).document
    stranger = SigningKey.generate().sign(document)
    world.gateway.offer(stranger.envelope, world.gateway.order(stranger, b"given"))


def expired(world: World) -> None:
    """A model whose time is over."""
    good(world, issued=now_ms() - DAY, expires=now_ms() - 1)


def altered_manifest(world: World) -> None:
    """A manifest with one byte changed."""
    signed = world.gateway.manifest(family=ECHO)
    payload = signed.envelope.payload
    changed = ("A" if payload[40] != "A" else "B").join((payload[:40], payload[41:]))
    world.gateway.offer(signed.envelope.model_copy(update={"payload": changed}), world.gateway.order(signed, b"given"))


def altered_part(world: World) -> None:
    """A server part with one byte changed."""
    part = b'{"b": 1}'
    signed = world.gateway.manifest(part, family=ECHO)
    world.gateway.blobs[digest(part)] = b'{"b": 2}'
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"))


def long_part(world: World) -> None:
    """A server part that is longer than the manifest says."""
    part = b'{"c": 1}'
    signed = world.gateway.manifest(part, family=ECHO)
    world.gateway.blobs[digest(part)] = b'{"c": 1}' + bytes(1 << 20)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"))


def refused_part(world: World) -> None:
    """A validly signed part that its family refuses."""
    signed = world.gateway.manifest(b'{"refuse": 1}', family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"))


def pickled_part(world: World) -> None:
    """A validly signed part with a jsonpickle payload."""
    signed = world.gateway.manifest(b'{"py/reduce": [{"py/function": "os.system"}]}', family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"))


def elf_part(world: World) -> None:
    """A validly signed part that is a shared object."""
    signed = world.gateway.manifest(b"\x7fELF\x02\x01\x01" + bytes(100), family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"))


def crashing_part(world: World) -> None:
    """A validly signed part that crashes native code."""
    signed = world.gateway.manifest(b'{"crash": 1}', family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"))


def swapped_input(world: World) -> None:
    """Another input of the same size."""
    signed = world.gateway.manifest(family=ECHO)
    order = world.gateway.order(signed, b"swapped input")
    world.gateway.blobs[digest(b"swapped input")] = b"swapped INPUT"
    world.gateway.offer(signed.envelope, order)


def long_input(world: World) -> None:
    """An input that does not end where the order says."""
    signed = world.gateway.manifest(family=ECHO)
    order = world.gateway.order(signed, b"long input")
    world.gateway.blobs[digest(b"long input")] = b"long input" * 100_000
    world.gateway.offer(signed.envelope, order)


def swapped_input_along(world: World) -> None:
    """Another input of the same size, along with the lease."""
    signed = world.gateway.manifest(family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"input"), input_data=b"inpUt")


def long_input_along(world: World) -> None:
    """An input along with the lease that does not end where the order says."""
    signed = world.gateway.manifest(family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"input"), input_data=b"input" * 13_000)


def no_input_along(world: World) -> None:
    """Nothing at all, along with the lease."""
    signed = world.gateway.manifest(family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"input"), input_data=b"")


def input_past_the_limit(world: World) -> None:
    """An order whose input is larger than the model allows."""
    limits = Limits(rows_per_job=1, input_bytes=3, result_bytes=100, evaluation_key_bytes=0)
    good(world, b"four", limits=limits)


def rows_past_the_limit(world: World) -> None:
    """An order of more rows than the model allows."""
    limits = Limits(rows_per_job=1, input_bytes=100, result_bytes=100, evaluation_key_bytes=0)
    good(world, b"rows", order={"rows": 2}, limits=limits)


def swapped_key(world: World) -> None:
    """Another tenant's key in the place of the order's."""
    key = b"a key" * 10
    world.gateway.blobs[digest(key)] = b"b key" * 10
    good(world, order={"evaluation_key": digest(key)}, evaluation_key=True)


def large_key(world: World) -> None:
    """A key past the model's limit."""
    key = bytes(2 << 20)
    world.gateway.blobs[digest(key)] = key
    good(world, order={"evaluation_key": digest(key)}, evaluation_key=True)


def key_too_many(world: World) -> None:
    """A key for a model that needs none."""
    good(world, order={"evaluation_key": digest(b"key")})


def somebody_elses_order(world: World) -> None:
    """An order signed by another than the client it names."""
    signed = world.gateway.manifest(family=ECHO)
    document = world.gateway.order(signed, b"given").document
    world.gateway.offer(signed.envelope, SigningKey.generate().sign(document))


def late_order(world: World) -> None:
    """An order whose deadline passed."""
    good(world, order={"issued": now_ms() - DAY, "deadline": now_ms() - 1})


def other_model(world: World) -> None:
    """An order for another model than the lease's manifest."""
    ordered = world.gateway.manifest(family=ECHO, version=1)
    offered = world.gateway.manifest(family=ECHO, version=2)
    world.gateway.offer(offered.envelope, world.gateway.order(ordered, b"given"))


def other_job(world: World) -> None:
    """A lease for another job than the order's."""
    signed = world.gateway.manifest(family=ECHO)
    world.gateway.offer(signed.envelope, world.gateway.order(signed, b"given"), job=new_job_id())


def other_operator(world: World) -> None:
    """An order that does not allow this node's operator."""
    good(world, order={"operators": (SigningKey.generate().id,)})


def unknown_family(world: World) -> None:
    """A model of a family that this node does not have."""
    good(world, family="horoscope")


def small_result(world: World) -> None:
    """A result that is larger than the model allows."""
    limits = Limits(rows_per_job=1, input_bytes=100, result_bytes=3, evaluation_key_bytes=0)
    good(world, b"four", limits=limits)


@pytest.mark.parametrize(
    ("lie", "what", "code"),
    [
        pytest.param(unknown_publisher, "refuse", "untrusted-signer", id="unknown publisher"),
        pytest.param(expired, "refuse", "manifest-expired", id="expired manifest"),
        pytest.param(altered_manifest, "refuse", "bad-signature", id="altered manifest"),
        pytest.param(altered_part, "refuse", "package-digest", id="altered server part"),
        pytest.param(long_part, "refuse", "package-digest", id="longer server part"),
        pytest.param(refused_part, "refuse", "bad-package", id="part that the family refuses"),
        pytest.param(pickled_part, "refuse", "bad-package", id="jsonpickle in a signed part"),
        pytest.param(elf_part, "refuse", "bad-package", id="ELF in a signed part"),
        pytest.param(crashing_part, "release", "worker-ended", id="part that crashes the compiler"),
        pytest.param(swapped_input, "refuse", "bad-ciphertext", id="swapped input"),
        pytest.param(long_input, "refuse", "bad-ciphertext", id="longer input"),
        pytest.param(swapped_input_along, "refuse", "bad-ciphertext", id="input swapped in the lease"),
        pytest.param(long_input_along, "refuse", "bad-ciphertext", id="input too long in the lease"),
        pytest.param(no_input_along, "refuse", "bad-ciphertext", id="no input in the lease"),
        pytest.param(input_past_the_limit, "refuse", "bad-ciphertext", id="input past the limit"),
        pytest.param(rows_past_the_limit, "refuse", "bad-ciphertext", id="rows past the limit"),
        pytest.param(swapped_key, "refuse", "bad-evaluation-key", id="swapped key"),
        pytest.param(large_key, "refuse", "bad-evaluation-key", id="key past the limit"),
        pytest.param(key_too_many, "refuse", "bad-evaluation-key", id="key for a model without"),
        pytest.param(somebody_elses_order, "refuse", "bad-signature", id="order of another client"),
        pytest.param(late_order, "refuse", "job-timeout", id="order past its deadline"),
        pytest.param(other_model, "release", "policy", id="order for another model"),
        pytest.param(other_job, "release", "policy", id="lease of another job"),
        pytest.param(other_operator, "release", "policy", id="operator not allowed"),
        pytest.param(unknown_family, "release", "policy", id="unknown family"),
        pytest.param(small_result, "release", "worker-ended", id="result past the limit"),
    ],
)
def test_a_lie_of_the_gateways_gets_its_name_and_the_next_job_runs(
    world: World, lie: Any, what: str, code: str
) -> None:
    """Nothing is computed on what does not check; what nobody could compute is refused, the rest is given back."""
    lie(world)
    said = world.gateway.outcome()
    assert (said.what, said.body["code"]) == (what, code), said
    assert said.job not in world.gateway.results
    world.honest()
    assert world.node.running

"""What a policy's classes let leave, against a real gateway, with a proxy between that hears all that is said; no node is needed.

`small` is an encrypted model of the tests' publisher, `triage` a table's model of lane tee, whose column `age` it calls `pii`.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from between import Proxy
from blindgate import Client
from blindgate.attestation.rules import PlatformRules
from blindgate.explanation import sealed_size
from blindgate.policy import ClassRules, ModelRules, Rules
from blindgate.transport import Transport
from blindgate.uploads import upload
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_protocol.chunks import RequestStream, Sealer
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import InputError, PolicyError
from blindgate_protocol.messages import ModelOffer
from blindgate_protocol.padding import Padding
from blindgate_protocol.revocations import Revocation
from blindgate_protocol.signing import SigningKey
from classified import column, manifest
from signed_packages import PUBLISHER, package
from typed import type_command
from world import World

CLASSES = {
    "phi": ClassRules(lanes=("fhe",), operators=("mine",)),
    "pii": ClassRules(padding=Padding(rule="buckets", buckets=(4096, 1 << 20)), buffered=True),
    "public": ClassRules(),
}
OURS = SigningKey.from_seed(bytes([9]) * 32)
ROWS = np.full((3, 2), 0.5)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, small_compiled: CompiledModel) -> Iterator[World]:
    """A gateway with both models."""
    with World(tmp_path_factory.mktemp("asked")) as world:
        world.trust("tests", PUBLISHER.id)
        world.operators.append(OURS.id)
        world.start_gateway()
        world.publish(package(small_compiled))
        triage = manifest(column("age", "pii"), column("fever"), by=PUBLISHER)
        with contextlib.closing(Transport(world.url, world.api_key("models", publish=True))) as transport:
            upload(transport, b"server part")
            transport.post("/v1/models", ModelOffer(manifest=triage.envelope), ModelOffer)
        yield world


@pytest.fixture
def between(asked: World) -> Iterator[Proxy]:
    """Hears what the client says."""
    with Proxy(asked.url) as proxy:
        yield proxy


@pytest.fixture
def client(asked: World, between: Proxy, tmp_path: Path) -> Iterator[Client]:
    """A client whose policy has the classes."""
    policy = dataclasses.replace(
        asked.policy(tmp_path / "policy.toml", log=False),
        operators={"this-world": asked.operator.id, "mine": OURS.id},
        rules=Rules(lanes=("fhe", "tee")),
        platforms={"amd-sev-snp": PlatformRules(measurements={"measurement": ("aa" * 48,)})},
        classes=CLASSES,
    )
    policy.save()
    with Client(between.url, asked.api_key("hospital"), policy=policy, home=tmp_path) as made:
        yield made


def sent(between: Proxy) -> list[str]:
    """What was sent, and not only asked for."""
    return [said.path for said in between.heard if said.method != "GET"]


def test_nothing_is_sent_when_the_policy_says_no(client: Client, between: Proxy) -> None:
    """Sealed or encrypted; the error names the rule; no node was even asked what it proves, and no key was made."""
    triage, small = client.model("triage"), client.model("small")
    with pytest.raises(PolicyError, match=r"classes\.phi\.lanes allows fhe for data of class 'phi' \(the caller\)"):
        triage.predict(ROWS, data_class="phi", timeout=10)
    for ask in (partial(small.predict, timeout=10), partial(small.predict_proba, timeout=10), small.submit):
        with pytest.raises(PolicyError, match="data class 'secret'"):
            ask(np.zeros((2, 4)), data_class="secret")
    assert sent(between) == []
    assert [name for name in client.key_store.names() if name.endswith(".secret")] == []


def test_an_order_names_the_operators_of_its_class_alone(client: Client) -> None:
    """So no other one's node may run it, and no other one's receipt is taken."""
    narrow = client.model("small").submit(np.zeros((2, 4)), data_class="phi")
    wide = client.model("small").submit(np.zeros((2, 4)))
    assert narrow.bundle.order.document.operators == (OURS.id,)
    assert len(wide.bundle.order.document.operators) == 2
    narrow.cancel()
    wide.cancel()


def test_an_explanation_sends_nothing_but_the_question_for_the_manifest(client: Client, between: Proxy) -> None:
    """And says what would leave, to the byte, who could learn what, and what nodes would have to prove."""
    found = client.explain("triage", ROWS)
    assert [(said.method, said.path) for said in between.heard] == [("GET", "/v1/models/triage")]
    assert found.sent, found.refusal
    assert [(one.name, one.of) for one in found.classes] == [("pii", "column 'age', by its manifest")]
    assert {finding.rule for finding in found.findings} == {
        "manifest",
        "classes",
        "lanes",
        "witnesses",
        "publishers",
        "operators",
        "platforms",
        "table",
    }
    sealed = Sealer(ContentKey.generate(), RequestStream(job="0" * 32, padding=found.decision.policy.rules.padding))
    assert (found.leaving.jobs, found.leaving.bytes) == (1, len(sealed.finish(ROWS.astype("<f8").tobytes())))
    assert found.decision.policy.rules.buffered
    assert any("measurement is aaaa" in text for text in found.asked_of_nodes)
    assert set(found.seen_by) == {"the gateway", "the node", "you, of the model"}
    assert "answers in one piece" in str(found)
    assert not any("key" in name for name in client.key_store.names())


def test_an_explanation_says_no_where_sending_would(client: Client) -> None:
    """With the same error: of the class, of the table, of a revoked key."""
    found = client.explain("triage", ROWS, data_class="phi")
    assert (found.sent, [one.rule for one in found.findings if not one.holds]) == (False, ["classes.phi.lanes"])
    for table in ({"age": [0.5]}, [[0.5, 7.0]]):
        with pytest.raises(InputError) as error:
            client.model("triage").predict(table)
        assert str(client.explain("triage", table).refusal) == str(error.value)
    with contextlib.suppress(PolicyError):
        client.model("triage").predict(ROWS, data_class="phi")  # which makes the key that signs orders
    (key,) = (client.model("small").submit(np.zeros((1, 4))).bundle.order.signer,)
    client.policy.revoked[key] = Revocation(at=1)
    assert [one.rule for one in client.explain("triage").findings if not one.holds] == ["client"]


def test_an_explanation_of_a_strangers_model_says_whom_to_trust(asked: World, client: Client) -> None:
    """Where `client.model` would raise."""
    client.policy.publishers.clear()
    found = client.explain("small")
    assert [one.rule for one in found.findings if not one.holds] == ["publishers"]
    assert "blindgate policy trust publisher" in str(found.refusal)
    assert asked.publishers["tests"] in str(found)


@pytest.mark.parametrize("padding", [Padding(), Padding(rule="powers"), Padding(rule="buckets", buckets=(16, 64))])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000, (1 << 20) + 5])
def test_a_sealed_size_is_what_sealing_gives(padding: Padding, length: int) -> None:
    """For each rule, at the edges of its chunks."""
    sealer = Sealer(ContentKey.generate(), RequestStream(job="0" * 32, padding=padding))
    assert sealed_size(length, padding) == len(sealer.finish(bytes(length)))


def explain(world: World, home: Path, *arguments: str) -> "CompletedProcess[str]":
    """Type the command, as the client that has its files in `home`."""
    environment = {
        **os.environ,
        "BLINDGATE_URL": world.url,
        "BLINDGATE_API_KEY": world.api_key("hospital"),
        "BLINDGATE_HOME": str(home),
        "BLINDGATE_POLICY": str(home / "policy.toml"),
    }
    return type_command(["policy", *arguments], environment)


def test_the_command_exits_with_0_only_when_it_would_be_sent(asked: World, client: Client, tmp_path: Path) -> None:
    """For people and for scripts; `show` tells the classes."""
    rows = tmp_path / "rows.csv"
    rows.write_text("age,fever\n0.5,0.25\n")
    client.policy.models["triage"] = ModelRules(columns={"fever": "public"})
    client.policy.save()
    done = explain(asked, tmp_path, "explain", "triage", str(rows))
    assert done.returncode == 0, done.stderr
    assert "it would be sent" in done.stdout
    assert "class        public: column 'fever', by [models] of the policy, triage" in done.stdout
    done = explain(asked, tmp_path, "explain", "triage", str(rows), "--data-class", "phi", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (told["sent"], told["leaves"]["rows"], told["refusal"]["code"]) == (False, 1, "policy")
    assert [rule["rule"] for rule in told["rules"] if not rule["holds"]] == ["classes.phi.lanes"]
    shown = explain(asked, tmp_path, "show")
    assert "class phi: lanes fhe; operators mine" in shown.stderr
    assert "model triage: columns fever public" in shown.stderr
    entries = json.loads(explain(asked, tmp_path, "show", "--json").stdout)
    assert {"may": "class", "name": "public", "key": None, "rules": {}} in entries

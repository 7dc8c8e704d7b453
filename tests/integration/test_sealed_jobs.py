"""Plaintext models on a node that is sealed to, end to end: real processes, a tiny chat model, MiniLM's weights, a torch table."""

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate import Client
from blindgate.attestation.rules import PlatformRules
from blindgate.explanation import sealed_size
from blindgate.policy import ClassRules
from blindgate_node.backends.answers import gather
from blindgate_node.backends.causal import CausalModel
from blindgate_node.backends.requests import read_chat
from blindgate_protocol.bundle import read_bundle
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import InputError, LogError, PolicyError, UntrustedEvidenceError
from blindgate_protocol.padding import Padding
from classified import WITNESSES
from plaintext_models import torch
from sealed_world import (
    CHAT,
    COLUMNS,
    EMBEDDER,
    TRIAGE,
    offer_model,
    package_chat,
    package_embedder,
    package_table,
    sealed_client,
    start_sealed_node,
)
from signed_packages import PUBLISHER
from world import World

MESSAGES = [{"role": "user", "content": "the patient has a cough"}]
ASKED: dict[str, Any] = {"messages": MESSAGES, "temperature": 0, "max_completion_tokens": 24}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway, and one node with three models."""
    weights = torch().tensor([[0.5, -0.25, 2.0]])
    folder = tmp_path_factory.mktemp("sealed")
    models = folder / "models"
    models.mkdir()
    package_chat(models / "chat")
    package_embedder(models / "minilm")
    architecture = {"columns": 3, "layers": [{"kind": "linear", "inputs": 3, "outputs": 1}]}
    package_table(models / "triage", architecture, {"0.weight": weights, "0.bias": torch().tensor([1.0])})
    for leftover in models.glob("*.files"):
        leftover.rename(folder / leftover.name)
    with World(folder / "world", gateway={"QUESTIONS": 1000}) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        for name in ("chat", "minilm", "triage"):
            offer_model(world, models / name)
        start_sealed_node(world, "enclave", models)
        yield world


@pytest.fixture(scope="module")
def client(sealed: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client that takes the node's simulated evidence, knowingly."""
    with sealed_client(sealed, tmp_path_factory.mktemp("client"), "enclave") as made:
        yield made


def direct(folder: Path) -> str:
    """What the model answers without anything in between."""
    body = {"model": CHAT, **ASKED}
    answer = gather(CausalModel(folder, device="cpu").chat(read_chat(json.dumps(body).encode())))
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_a_chat_is_answered_as_by_the_model_itself(sealed: World, client: Client) -> None:
    """In one piece and as a stream; the bundle has the receipt, the log's proof and the node's evidence."""
    wanted = direct(sealed.folder.parent / "chat.files")
    whole = client.chat.completions.create(model=CHAT, **ASKED)
    assert whole.choices[0].message.content == wanted
    assert whole.usage is not None
    stream = client.chat.completions.create(model=CHAT, stream=True, **ASKED)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == wanted
    assert len(chunks) > 3
    bundle = read_bundle(stream.job.bundle.to_bytes())
    assert bundle.receipt is not None
    assert bundle.receipt.document.lane == "tee"
    assert bundle.evidence is not None
    assert bundle.logged is not None
    assert client.bundles.load(stream.job.id) == bundle


def test_embeddings_are_those_of_the_library(client: Client) -> None:
    """Two sentences of one meaning are nearer than two of different ones."""
    texts = ["the patient has a fever", "the sick man is hot", "the bank lends money"]
    answer = client.embeddings.create(model=EMBEDDER, input=texts)
    one, two, three = (np.array(entry.embedding) for entry in answer.data)
    assert one.shape == (384,)
    assert one @ two > one @ three


def test_a_table_is_predicted(client: Client) -> None:
    """By the weights, exactly."""
    rows = np.array([[10.0, 20.0, 1.0], [0.0, 0.0, 0.0]])
    model = client.model(TRIAGE)
    assert model.feature_names_in_.tolist() == [column.name for column in COLUMNS]
    np.testing.assert_allclose(model.predict(rows), rows @ [0.5, -0.25, 2.0] + 1.0, atol=1e-4)


def test_who_made_the_files_is_shown_with_what_the_node_proves(sealed: World, client: Client) -> None:
    """By the publisher's word, as the command says. The node verified the maker's signature before it offered the model."""
    environment = {
        **os.environ,
        "BLINDGATE_URL": sealed.url,
        "BLINDGATE_API_KEY": sealed.api_key("hospital"),
        "BLINDGATE_HOME": str(client.home),
        "BLINDGATE_POLICY": str(client.policy.path),
    }
    maker = client.manifest(TRIAGE).document.maker
    assert maker is not None
    shown = sealed.type_command(["trust", "check", "enclave", "--model", TRIAGE], environment)
    words = f"signed by their maker before, by the publisher's word: ecdsa-p256-sha256 key {digest(maker.key)}"
    assert words in " ".join(shown.stdout.split()), (shown.stdout, shown.stderr)
    told = json.loads(sealed.type_command(["trust", "check", "--model", TRIAGE, "--json"], environment).stdout)
    assert told["model"]["maker"]["key_digest"] == digest(maker.key)
    other = json.loads(sealed.type_command(["trust", "check", "--model", CHAT, "--json"], environment).stdout)
    assert other["model"]["maker"] is None


def test_what_the_model_cannot_do_is_said_inside_the_seal(sealed: World, client: Client) -> None:
    """The client gets the field's name; the gateway sees a job that succeeded."""
    with pytest.raises(InputError, match="logit_bias"):
        client.chat.completions.create(model=CHAT, logit_bias={"7": 1}, **ASKED)
    assert "logit_bias" not in sealed.log("gateway")


def test_a_policy_without_the_lane_or_the_node_seals_nothing(sealed: World, tmp_path: Path) -> None:
    """And says which rule, or what the node did not prove."""
    with sealed.client(home=tmp_path / "a") as client, pytest.raises(PolicyError, match=r"rules\.lanes"):
        client.chat.completions.create(model=CHAT, **ASKED)
    with (
        sealed_client(sealed, tmp_path / "b", "gateway") as client,
        pytest.raises(UntrustedEvidenceError, match="nothing was sealed or sent"),
    ):
        client.chat.completions.create(model=CHAT, **ASKED)


def test_an_auditor_replays_a_sealed_job(sealed: World, client: Client, tmp_path: Path) -> None:
    """From the bundle alone: which node, on which evidence, under which keys; and evidence that was changed is refused by name."""
    stream = client.chat.completions.create(model=CHAT, stream=True, **ASKED)
    list(stream)
    bundle = stream.job.bundle
    file = tmp_path / "bundle.json"
    file.write_bytes(bundle.to_bytes())
    told = json.loads(audit(sealed, client, file).stdout)
    assert told["verdict"] == "holds", told
    said = {line["name"]: line["value"] for line in told["statements"]}
    assert bundle.receipt is not None
    assert said["evidence"] == bundle.receipt.document.evidence
    assert said["lane"] == "tee"
    assert {"evidence", "computation"} <= {line["code"] for line in told["not_proven"]}
    assert bundle.evidence is not None
    other = bundle.evidence.evidence.replace(b'"nonce":"', b'"nonce":"A', 1)
    changed = dataclasses.replace(bundle, evidence=bundle.evidence.model_copy(update={"evidence": other}))
    file.write_bytes(changed.to_bytes())
    refused = audit(sealed, client, file)
    assert refused.returncode == 1
    assert [line["document"] for line in json.loads(refused.stdout)["refusals"]] == ["evidence"]


def test_a_class_wants_cosignatures_that_others_do_without(sealed: World, tmp_path: Path) -> None:
    """Nobody cosigned this gateway's tree: one answer is taken, the other is not, and is not acknowledged."""
    with sealed_client(sealed, tmp_path, "enclave", log_within=1.0) as made:
        classes = {"phi": ClassRules(cosignatures=1)}
        policy = dataclasses.replace(made.policy, classes=classes, witnesses={"archive": WITNESSES["archive"]})
    with Client(sealed.url, sealed.api_key("hospital"), policy=policy, home=tmp_path) as client:
        assert client.chat.completions.create(model=CHAT, **ASKED).choices
        stream = client.chat.completions.create(model=CHAT, stream=True, data_class="phi", **ASKED)
        with pytest.raises(LogError, match="cosignatures"):
            list(stream)
        assert stream.job.bundle.receipt is None


def audit(world: World, client: Client, file: Path) -> "subprocess.CompletedProcess[str]":
    """Type the auditor's command."""
    policy = str(client.policy.path)
    return world.type_command(["audit", "replay", str(file), "--policy", policy, "--json"], dict(os.environ))


def test_classes_decide_which_nodes_a_request_is_sealed_to(sealed: World, tmp_path: Path) -> None:
    """A node that was believed for one request is none for another whose class may not use its platform."""
    with sealed_client(sealed, tmp_path, "enclave") as made:
        hardware = {"amd-sev-snp": PlatformRules(measurements={"measurement": ("aa" * 48,)})}
        classes = {
            "internal": ClassRules(
                platforms=("insecure-simulated",),
                padding=Padding(rule="buckets", buckets=(1 << 14, 1 << 20)),
                buffered=True,
            ),
            "phi": ClassRules(platforms=("amd-sev-snp",)),
        }
        policy = dataclasses.replace(made.policy, platforms=made.policy.platforms | hardware, classes=classes)
    with Client(sealed.url, sealed.api_key("hospital"), policy=policy, home=tmp_path) as client:
        stream = client.chat.completions.create(model=CHAT, stream=True, data_class="internal", **ASKED)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        order = stream.job.bundle.order.document
        assert order.input.size == sealed_size(1 << 14, Padding())
        assert stream.job.bundle.receipt is not None
        assert stream.job.bundle.receipt.document.output.size == order.input.size  # one chunk, padded
        with pytest.raises(UntrustedEvidenceError, match=r"platform: the policy does not name insecure-simulated"):
            client.embeddings.create(model=EMBEDDER, input="a", data_class="phi")
        with pytest.raises(UntrustedEvidenceError, match="nothing was sealed or sent"):
            client.chat.completions.create(model=CHAT, data_class="phi", **ASKED)

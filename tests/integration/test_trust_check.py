"""`blindgate trust check` against real processes: a gateway, nodes with the simulated attester and without, a client with a policy.

Simulated evidence never affirms. What this machine cannot have, evidence that does, comes from a made processor in the last part.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from blindgate.attestation.rules import PlatformRules
from blindgate.client import Client
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_node.attester.simulated import KEY_FILE
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.evidence import Evidence
from blindgate_protocol.signing import SigningKey
from signed_packages import PUBLISHER, package
from typed import type_command
from world import World

SIMULATED = "insecure-simulated"


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory, small_compiled: CompiledModel) -> Iterator[World]:
    """A gateway with one model; `prover` has the simulated attester, `plain` proves nothing, `wary` trusts another publisher."""
    with World(tmp_path_factory.mktemp("trusted"), gateway={"QUESTIONS": 1000}) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        world.publish(package(small_compiled))
        world.start_node("plain", ATTESTER="none", SLOTS=1)
        world.start_node("prover", ATTESTER=SIMULATED, SLOTS=1, ATTESTATIONS=600, POLL_SECONDS=2)
        stranger = SigningKey.generate().id
        world.start_node("wary", ATTESTER=SIMULATED, SLOTS=1, ATTESTATIONS=600, POLL_SECONDS=2, PUBLISHERS=stranger)
        for name in ("plain", "prover", "wary"):
            world._await(name, lambda name=name: "node.started" in world.log(name))
        yield world


def attester_key(world: World, name: str) -> str:
    """The key that signs a node's simulated evidence."""
    return load_or_create_key(world.folder / name / KEY_FILE).id


@pytest.fixture
def client(trusted: World, tmp_path: Path) -> Iterator[Client]:
    """A client whose policy knowingly takes the prover's simulated evidence."""
    with client_of(trusted, tmp_path, takes=attester_key(trusted, "prover")) as made:
        yield made


def client_of(world: World, home: Path, *, takes: str | None = None) -> Client:
    """A client whose policy takes simulated evidence by this key, if any."""
    client = world.client(home=home, log=False)
    policy = client.policy
    if takes is not None:
        policy.platforms[SIMULATED] = PlatformRules(keys=(takes,))
        policy.save()
    return client


def check(world: World, home: Path, *arguments: str) -> "CompletedProcess[str]":
    """Type the command, as the client that has its files in `home`."""
    environment = {
        **os.environ,
        "BLINDGATE_URL": world.url,
        "BLINDGATE_API_KEY": world.api_key("hospital"),
        "BLINDGATE_HOME": str(home),
        "BLINDGATE_POLICY": str(home / "policy.toml"),
    }
    return type_command(["trust", "check", *arguments], environment)


def test_a_node_is_shown_line_by_line_and_simulated_evidence_is_refused_by_name(trusted: World, tmp_path: Path) -> None:
    """By a policy that does not name its key, which is every policy at first."""
    client_of(trusted, tmp_path).close()
    done = check(trusted, tmp_path, "prover", "--model", "small")
    assert done.returncode == 1, done.stderr
    for line in ("platform", "TCB", "measurement", "weights", "GPU", "freshness", "keys", "not proven", "verdict"):
        assert re.search(rf"^  {line} ", done.stdout, re.MULTILINE), (line, done.stdout)
    assert "contraindicated" in done.stdout
    assert "REFUSED  simulated:" in done.stdout
    assert "nothing is sealed to this node" in done.stdout
    assert "not proven   hardware:" in done.stdout
    assert "not proven   weights:" in done.stdout


def test_a_policy_that_names_the_key_gets_a_warning_and_never_more(
    trusted: World, client: Client, tmp_path: Path
) -> None:
    """So a script that asks for the exit code is not fooled; the SDK may be told to use it."""
    done = check(trusted, tmp_path, "prover", "--json")
    assert done.returncode == 1, done.stderr
    shown = json.loads(done.stdout)
    (node,) = shown["nodes"]
    assert (node["name"], node["verdict"], node["admitted"]) == ("prover", "warning", True)
    assert [reason["rule"] for reason in node["reasons"]] == ["simulated"]
    assert shown["model"]["name"] == "small"
    found = client.recipients("small", node="prover")
    assert [one.name for one in found.admitted] == ["prover"]
    again = client.recipients("small", node="prover").admitted[0]
    first = found.admitted[0]
    assert first.recipient is not None
    assert again.recipient is not None
    assert first.recipient.document.key_set == again.recipient.document.key_set
    assert first.recipient.document.evidence != again.recipient.document.evidence


def test_another_nodes_attester_key_is_not_taken(trusted: World, tmp_path: Path) -> None:
    """The policy names one key."""
    with client_of(trusted, tmp_path, takes=PUBLISHER.id) as client:
        (node,) = client.recipients("small", node="prover").answers
    assert not node.admitted
    assert "key" in {reason.rule for reason in node.reasons}


def test_a_node_that_does_not_answer_says_why(trusted: World, client: Client, tmp_path: Path) -> None:
    """One that trusts another publisher refuses the model; one without an attester is never asked."""
    found = client.recipients("small", seconds=8)
    assert [one.name for one in found.admitted] == ["prover"]
    (wary,) = [one for one in found.answers if one.refused is not None]
    assert wary.refused is not None
    assert wary.refused.rule == "untrusted-signer"
    assert found.taken == 2


def test_a_node_that_nobody_has_is_told_apart_from_silence(trusted: World, tmp_path: Path) -> None:
    """The error says what to look at."""
    client_of(trusted, tmp_path).close()
    done = check(trusted, tmp_path, "nobody", "--seconds", "3")
    assert done.returncode == 1
    assert "no node 'nobody' answered" in done.stderr
    silent = check(trusted, tmp_path, SigningKey.generate().id, "--seconds", "1")
    assert silent.returncode == 1
    assert "blindgate node attest" in silent.stderr
    unknown = check(trusted, tmp_path, "prover", "--model", "nothing")
    assert unknown.returncode == 1
    assert "nothing" in unknown.stderr or "no such model" in unknown.stderr


def test_a_client_asks_by_a_nodes_key_too(trusted: World, client: Client, tmp_path: Path) -> None:
    """And only that node takes the question."""
    key = load_or_create_key(trusted.folder / "prover" / "node.key").id
    found = client.recipients("small", node=key)
    assert ([one.node for one in found.admitted], found.taken) == ([key], 1)


def test_the_help_says_what_a_stranger_wants_to_know(trusted: World, tmp_path: Path) -> None:
    """And the command is found where it is looked for."""
    done = check(trusted, tmp_path, "--help")
    assert done.returncode == 0
    assert "what they prove of themselves" in " ".join(done.stdout.split())
    assert "check" in type_command(["trust", "--help"], dict(os.environ)).stdout


def test_the_evidence_binds_what_was_asked_and_the_gateway_keeps_none_of_it(
    trusted: World, client: Client, tmp_path: Path
) -> None:
    """Nonce, model, policy and key set; and after its minute nothing of it is in the gateway's folder."""
    found = client.recipients("small", node="prover")
    evidence = found.admitted[0].evidence
    assert isinstance(evidence, Evidence)
    bound = evidence.binding
    assert (bound.nonce, bound.model, bound.policy) == (
        found.question.nonce,
        client.manifest("small").digest,
        client.policy.digest,
    )


def test_a_node_that_is_stopped_stops_in_time_though_it_waits_for_questions(trusted: World, tmp_path: Path) -> None:
    """Within its poll."""
    trusted.start_node("brief", ATTESTER=SIMULATED, SLOTS=1, POLL_SECONDS=1)
    trusted._await("brief", lambda: "node.started" in trusted.log("brief"))
    process = trusted.processes.pop("brief")
    began = time.monotonic()
    process.terminate()
    assert process.wait(20) == 0
    assert time.monotonic() - began < 10
    assert '"event": "node.ended"' in trusted.log("brief")

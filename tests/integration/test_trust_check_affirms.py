"""A node whose evidence affirms, asked over a real gateway: the node's own thread, the SDK and the command, in this process.

The processor is a made one, whose root is pinned in this process alone. All else is what runs elsewhere.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blindgate import Client
from blindgate.commands.trust import app
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_node.attester.choice import Attesters
from blindgate_node.enrolment import enrol, load_certificate
from blindgate_node.key_sets import KeySets
from blindgate_node.offers import Offers, OfferThread
from blindgate_node.packages import Packages
from blindgate_node.settings import Settings
from blindgate_node.signer import load_or_create_key
from blindgate_node.stopping import Stop
from blindgate_node.transport import Gateway
from blindgate_protocol.errors import AttesterError
from blindgate_protocol.nodes import NodeCertificate
from brokerage import now_ms
from made_machine import SNP_RULES, MadeProcessor
from signed_packages import DAY, PUBLISHER, package
from world import World


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, small_compiled: CompiledModel) -> Iterator[World]:
    """A gateway and a model, and no question that is left over; nodes are the test's own."""
    with World(tmp_path_factory.mktemp("affirms"), gateway={"QUESTIONS": 1000}) as made:
        made.trust("tests", PUBLISHER.id)
        made.start_gateway()
        made.publish(package(small_compiled))
        yield made


@contextmanager
def answering(world: World, name: str, processor: Any, *, a_minute: int = 600) -> Iterator[list[dict[str, Any]]]:
    """A node that does nothing but answer questions; gives what it logs."""
    folder = world.folder / name
    folder.mkdir()
    key = load_or_create_key(folder / "node.key")
    now = now_ms()
    certificate = NodeCertificate(
        node=key.id, name=name, operator=world.operator.id, issued=now - DAY, expires=now + DAY
    )
    (folder / "certificate.json").write_bytes(world.operator.sign(certificate).envelope.to_bytes())
    token = world._command("gateway", "enrol", "--data", str(world.gateway_folder), "--json")["enrolment_token"]
    settings = Settings(data=folder, gateway=world.url, enrolment_token=token)
    vouched = load_certificate(settings.certificate_file, key, now)
    enrol(settings, key, vouched, now)
    gateway, stopping, log = Gateway(world.url, key=key), Stop(), []
    offers = Offers(
        Attesters(processor, None),
        KeySets(key, lasts=600_000, now=now_ms),
        key=key,
        certificate=vouched,
        packages=Packages(folder / "packages", publishers=(PUBLISHER.id,), most_bytes=1 << 20),
        families=("linear",),
        now=now_ms,
    )
    thread = OfferThread(
        offers,
        gateway,
        wait=1.0,
        a_minute=a_minute,
        stopping=stopping,
        log=lambda event, **said: log.append({"event": event} | said),
    )
    thread.start()
    try:
        yield log
    finally:
        stopping.set()
        thread.join()
        gateway.close()


def client_of(world: World, home: Path) -> Client:
    """A client whose policy names the made processor's program."""
    client = world.client(home=home, log=False)
    client.policy.platforms["amd-sev-snp"] = SNP_RULES
    client.policy.save()
    return client


def test_the_command_exits_with_0_when_a_node_affirms_and_only_then(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node with the program that the policy names; then another with none of it beside."""
    processor, other = MadeProcessor(), MadeProcessor(fields={0x90: b"\xbb" * 48})
    client_of(world, tmp_path).close()
    to = ["--url", world.url, "--api-key", world.api_key("hospital"), "--home", str(tmp_path)]
    to += ["--policy", str(tmp_path / "policy.toml"), "--seconds", "5"]
    with answering(world, "genuine", processor):
        processor.pin(monkeypatch)
        done = CliRunner().invoke(app, ["check", "genuine", *to])
        assert done.exit_code == 0, done.output
        assert "verdict      affirming" in done.output
        assert "measurement  measurement aaaaaaaa" in done.output
        assert "not proven   weights:" in done.output
        shown = json.loads(CliRunner().invoke(app, ["check", "all", "--json", *to]).output)
        assert [(node["name"], node["verdict"]) for node in shown["nodes"]] == [("genuine", "affirming")]
        assert shown["nodes"][0]["appraisals"][0]["submods"]["amd-sev-snp"]["ear.status"] == "affirming"
        other._maker = processor._maker
        other.__dict__["_chain"] = processor._chain
        with answering(world, "changed", other):
            done = CliRunner().invoke(app, ["check", "all", *to])
            assert done.exit_code == 1
            assert "verdict      affirming" in done.output
            assert "REFUSED  measurement:" in done.output


def test_a_platform_that_fails_is_told_and_ends_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client hears why, and the next question is answered."""
    processor = MadeProcessor()
    processor.pin(monkeypatch)
    faults: list[Exception] = [AttesterError("the platform is busy"), ValueError("a secret of the driver's")]

    class Failing:
        platform = processor.platform

        def attest(self, report_data: bytes) -> Any:
            if faults:
                raise faults.pop(0)
            return processor.attest(report_data)

    with client_of(world, tmp_path) as client, answering(world, "failing", Failing()) as log:
        (busy,) = client.recipients("small", seconds=4).answers
        assert busy.refused is not None
        assert busy.refused.text.endswith("the platform is busy")
        (failed,) = client.recipients("small", seconds=4).answers
        assert failed.refused is not None
        assert "secret" not in failed.refused.text
        assert client.recipients("small", seconds=4).admitted
    assert [said["outcome"] for said in log if said["event"] == "question.ended"] == ["refused", "failed", "answered"]


def test_one_question_at_a_time_and_so_many_a_minute(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask at once: what is beyond is left to others."""
    processor = MadeProcessor()
    processor.pin(monkeypatch)
    at_once, most = [0], [0]

    class Slow:
        platform = processor.platform

        def attest(self, report_data: bytes) -> Any:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.1)
            at_once[0] -= 1
            return processor.attest(report_data)

    with client_of(world, tmp_path) as client, answering(world, "slow", Slow(), a_minute=3) as log:
        admitted: list[int] = []
        asking = [
            threading.Thread(target=lambda: admitted.append(len(client.recipients("small", seconds=5).admitted)))
            for _ in range(5)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert sorted(admitted) == [0, 0, 1, 1, 1]
    assert (most[0], len([said for said in log if said["event"] == "question.ended"])) == (1, 3)

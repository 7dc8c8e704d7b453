"""What an auditor reads of one job's bundle, and what the command's exit status says of it."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blindgate_audit.commands import app
from blindgate_audit.replay import Verdict, replay
from blindgate_audit.roots import Roots
from blindgate_audit.statements import statements
from blindgate_protocol.bundle import Bundle, read_bundle
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, PolicyError
from blindgate_protocol.signing import SigningKey
from bundled_jobs import COSIGNED, FINISHED, LOGGED, MINUTE, ORDERED, STARTED, BundledJobs
from second_keys import SECOND, proof_signed_too

BLINDGATE = Path(sys.executable).with_name("blindgate")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> BundledJobs:
    """Everybody, on a machine without a network."""

    def refuse(*_: object, **__: object) -> None:
        message = "there is no network here"
        raise AssertionError(message)

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return BundledJobs()


def said(bundle: Bundle, roots: Roots) -> dict[str, tuple[Any, str]]:
    """Each statement's value, and whose signatures it rests on."""
    found = statements(replay(bundle, roots))
    return {f"{one.section}.{one.name}": (one.value, ", ".join(one.rests_on)) for one in found}


def test_every_statement_names_whose_word_it_is(jobs: BundledJobs) -> None:
    """What was run, where, by whom, when, under which key, on which code, and where it is logged."""
    key = digest(b"an evaluation key")
    manifest = jobs.manifest(evaluation_key=True)
    order = jobs.order(manifest, evaluation_key=key)
    bundle = jobs.bundle(manifest=manifest, order=order)
    assert replay(bundle, jobs.roots()).verdict is Verdict.HOLDS
    told = said(bundle, jobs.roots())
    for name, value, signers in (
        ("what.job", order.document.job, "client, node"),
        ("what.model", "echo", "publisher, client, node"),
        ("what.version", 1, "publisher, client, node"),
        ("what.manifest", manifest.digest, "client, node"),
        ("what.family", "echo", "publisher"),
        ("what.lane", "fhe", "publisher"),
        ("what.determinism", "bit-exact", "publisher"),
        ("what.key_parameters", manifest.document.key_parameters, "publisher"),
        ("what.input", digest(b"input"), "client, node"),
        ("what.output", digest(b"output"), "node"),
        ("where.node", jobs.node.id, "node"),
        ("where.node_name", "node-1", "operator"),
        ("where.operator", jobs.operator.id, "operator"),
        ("when.issued", ORDERED, "client"),
        ("when.started", STARTED, "node"),
        ("when.finished", FINISHED, "node"),
        ("when.logged", LOGGED, "log"),
        ("when.cosigned", COSIGNED * 1000, "witness w1"),
        ("key.evaluation_key", key, "client, node"),
        ("key.client", jobs.client.id, "client"),
        ("code.circuit", digest(b"server part"), "publisher, node"),
        ("code.software tenseal", "0.3.18", "node"),
        ("log.origin", "gateway.example/log", "log"),
        ("log.index", 6, "log"),
        ("log.size", 10, "log"),
        ("log.cosignatures", 1, "log"),
    ):
        assert told[name] == (value, signers), name


def test_what_the_owner_wrote_down_is_nobodys_signature(jobs: BundledJobs) -> None:
    """Classes of data, and what was taken out: shown, and shown as what they are."""
    bundle = replace(jobs.bundle(), classes=("phi", "pii"), redacted={"card": 2, "iban": 1})
    found = said(read_bundle(bundle.to_bytes()), jobs.roots())
    nobody = "nobody: its owner wrote it down"
    assert found["what.data_classes"] == ("phi, pii", nobody)
    assert found["what.redacted"] == ("2 card, 1 iban", nobody)


def test_a_log_that_nobody_named_is_not_shown_as_a_signature(jobs: BundledJobs) -> None:
    """Whoever wrote that tree is not known."""
    told = said(jobs.bundle(), jobs.roots(logs={}))
    of_the_log = {signers for name, (_, signers) in told.items() if name.startswith("log.") or name == "when.logged"}
    assert of_the_log == {"log, not verified"}


def test_what_is_refused_is_shown_as_refused(jobs: BundledJobs) -> None:
    """The statements of a receipt that lies are marked; those of the order stand."""
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    lying = jobs.bundle(manifest=manifest, order=order, receipt=jobs.receipt(order, tenant="clinic"))
    held = {one.name: one.holds for one in statements(replay(lying, jobs.roots()))}
    assert not held["output"]
    assert not held["finished"]
    assert not held["tenant"]
    assert held["issued"]
    assert held["family"]


ALWAYS = {"computation", "content", "model", "software", "revocation", "clocks", "deletion", "delivery", "omission"}
LOGGED_ONLY = {"consistency"}


def test_what_is_not_proven_depends_on_what_the_bundle_holds(jobs: BundledJobs) -> None:
    """Each root that is missing, and each thing that the bundle lacks, adds its own entry, and takes away none."""
    bundle = jobs.bundle()
    manifest = jobs.manifest(evaluation_key=True)
    keyed = jobs.bundle(manifest=manifest, order=jobs.order(manifest, evaluation_key=digest(b"key")))
    for case, roots, codes in (
        (bundle, jobs.roots(), LOGGED_ONLY),
        (keyed, jobs.roots(), LOGGED_ONLY | {"key-life"}),
        (bundle, jobs.roots(witnesses={}, cosignatures=0), LOGGED_ONLY | {"witness"}),
        (bundle, jobs.roots(logs={}), LOGGED_ONLY | {"log-unvouched", "witness"}),
        (bundle, jobs.roots(clients={}), LOGGED_ONLY | {"client"}),
        (bundle, jobs.roots(publishers={}), LOGGED_ONLY | {"publisher-unvouched"}),
        (bundle, jobs.roots(operators={}), LOGGED_ONLY | {"operator-unvouched"}),
        (replace(bundle, logged=None), jobs.roots(logs={}), {"inclusion"}),
    ):
        assert {one.code for one in replay(case, roots).not_proven} == ALWAYS | codes


def test_clocks_that_contradict_each_other_are_pointed_at(jobs: BundledJobs) -> None:
    """A witness that cosigned before the job was done has another time than the node: nobody can say who is right."""
    made = jobs.bundle()
    assert made.receipt is not None
    for seconds, disagree in ((COSIGNED, False), (FINISHED // 1000 - 60, False), (FINISHED // 1000 - 3600, True)):
        proof = jobs.log.proof(jobs.event(made.receipt), witnesses=[jobs.witness], seconds=seconds)
        replayed = replay(replace(made, logged=proof), jobs.roots())
        assert replayed.verdict is Verdict.HOLDS
        assert ("clocks-disagree" in {one.code for one in replayed.not_proven}) is disagree


@pytest.mark.parametrize("role", ["publishers", "operators", "logs"])
def test_a_key_that_nobody_named_is_no_trust(jobs: BundledJobs, role: str) -> None:
    """Nothing contradicts, and still nobody vouches: neither refused nor good."""
    replayed = replay(jobs.bundle(), jobs.roots(**{role: {}}))
    assert replayed.verdict is Verdict.UNVOUCHED
    assert [signer.role for signer in replayed.signers if not signer.vouched] == (
        [role[:-1], "node"] if role == "operators" else [role[:-1]]
    )


def test_a_job_that_no_log_was_asked_about_can_hold(jobs: BundledJobs) -> None:
    """A policy without logs asks for no inclusion; the answer says that there is none."""
    replayed = replay(replace(jobs.bundle(), logged=None), jobs.roots(logs={}))
    assert replayed.verdict is Verdict.HOLDS
    assert "inclusion" in {one.code for one in replayed.not_proven}


# The command


def run(*arguments: object) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


@pytest.fixture
def files(jobs: BundledJobs, tmp_path: Path) -> tuple[Path, Path]:
    """A bundle and a policy, as files."""
    bundle, policy = tmp_path / "job.json", tmp_path / "policy.toml"
    bundle.write_bytes(jobs.bundle().to_bytes())
    policy.write_text(jobs.policy())
    return bundle, policy


def test_a_policy_that_names_everybody_gives_status_0(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """Verdict first, every section, and what is not proven."""
    bundle, policy = files
    done = run(bundle, "--policy", policy)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].endswith("every signature holds, under keys that you named.")
    for title in ("What was run", "Where, and by whom", "Under which key", "On which code", "NOT proven"):
        assert title in lines
    assert any("finished" in line and " UTC " in line and "[node]" in line for line in lines)
    assert any(line.split()[:1] == ["computation"] for line in lines)
    assert f"acme ({jobs.publisher.id})" in done.output


def test_keys_may_be_named_one_by_one(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """Options do what a policy does."""
    named = ("--publisher", f"acme={jobs.publisher.id}", "--operator", jobs.operator.id, "--log", jobs.log.key)
    witnessed = ("--witness", f"w1={jobs.witness.key}", "--cosignatures", 1, "--client", jobs.client.id)
    assert run(files[0], *named, *witnessed).exit_code == 0
    assert run(files[0], *named[:4]).exit_code == 1  # nobody vouches for the log


def test_a_logs_second_key_may_be_named_in_the_policy_or_by_itself(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """Either way a log that it did not sign is refused; and it belongs to a log that is named."""
    bundle, policy = files
    second = ("--second-key", SECOND.verifier)
    assert run(bundle, "--policy", policy).exit_code == 0
    refused = run(bundle, "--policy", policy, *second)
    assert refused.exit_code == 1
    assert "no signature of the log's second key" in refused.output
    both = policy.with_name("both.toml")
    both.write_text(jobs.policy() + f'[second_keys]\nours = "{SECOND.verifier}"\n')
    assert run(bundle, "--policy", both).exit_code == 1
    made = jobs.bundle()
    assert made.logged is not None
    bundle.write_bytes(replace(made, logged=proof_signed_too(made.logged)).to_bytes())
    bare = ("--publisher", jobs.publisher.id, "--operator", jobs.operator.id)
    for named in (("--policy", both), ("--policy", policy, *second), (*bare, "--log", jobs.log.key, *second)):
        assert run(bundle, *named).exit_code == 0, named
    stray = run(bundle, *bare, *second)
    assert isinstance(stray.exception, PolicyError)
    assert "--second-key: a second key of the log 'gateway.example/log', which is not among" in str(stray.exception)


def test_without_roots_the_verdict_says_that_nobody_vouched(files: tuple[Path, Path]) -> None:
    """Status 1, and in plain words why."""
    done = run(files[0])
    assert done.exit_code == 1
    assert "under keys that nobody vouched for (publisher, operator, log)" in done.output.splitlines()[0]


def test_scripts_read_the_same(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """One JSON object: verdict, refusals, signers, statements, and what is not proven as code and text."""
    bundle, policy = files
    document = json.loads(run(bundle, "--policy", policy, "--json").output)
    assert document["verdict"] == "holds"
    assert document["refusals"] == []
    assert document["recomputed"] is None
    assert {one["code"] for one in document["not_proven"]} == ALWAYS | LOGGED_ONLY | {"client"}
    assert all(one["text"] for one in document["not_proven"])
    assert {signer["role"]: signer["name"] for signer in document["signers"]} == {
        "publisher": "acme",
        "operator": "north",
        "log": "ours",
        "witness": "w1",
        "client": None,
        "node": "node-1",
    }
    finished = next(one for one in document["statements"] if one["name"] == "finished")
    assert (finished["value"], finished["rests_on"], finished["holds"]) == (FINISHED, ["node"], True)


def test_a_refusal_comes_first_and_gives_status_1(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """The rule's name stands beside its words."""
    bundle, policy = files
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    late = jobs.receipt(order, finished=ORDERED + 13 * MINUTE)
    bundle.write_bytes(jobs.bundle(manifest=manifest, order=order, receipt=late).to_bytes())
    done = run(bundle, "--policy", policy)
    assert done.exit_code == 1
    assert done.output.splitlines()[0].endswith("refused.")
    assert "the receipt's times lie outside the order's [receipt-order]" in done.output.splitlines()[1]
    assert "REFUSED" in next(line for line in done.output.splitlines() if "  finished" in line)


def test_nothing_that_a_stranger_signed_steers_the_terminal(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """An escape sequence in a version is shown, not obeyed."""
    bundle, policy = files
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    receipt = jobs.receipt(order, software={"blindgate": "\x1b]0;gone\x07\n0.1.0  [publisher]"})
    bundle.write_bytes(jobs.bundle(manifest=manifest, order=order, receipt=receipt).to_bytes())
    done = run(bundle, "--policy", policy)
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    line = next(line for line in done.output.splitlines() if "software blindgate" in line)
    assert line.endswith("[node]")


def test_a_bundle_that_was_kept_before_there_was_a_log_still_tells(jobs: BundledJobs, files: tuple[Path, Path]) -> None:
    """Three documents and nothing else, as older clients wrote them."""
    bundle, _ = files
    whole = json.loads(bundle.read_bytes())
    bundle.write_text(json.dumps({name: whole[name] for name in ("manifest", "order", "receipt")}))
    done = run(bundle, "--publisher", jobs.publisher.id, "--operator", jobs.operator.id)
    assert done.exit_code == 0, done.output
    assert any(line.split()[:1] == ["inclusion"] for line in done.output.splitlines())


def test_the_command_as_it_is_typed_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    """A file that is no bundle, and one that is not there."""
    (tmp_path / "no.json").write_text("{}")
    for name, words in (("no.json", "not a bundle"), ("none.json", "none.json")):
        command = [str(BLINDGATE), "audit", "replay", name]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("blindgate: ")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--ciphertexts", "."), id="a folder and no wish"),
        pytest.param(("--input", "input.bin"), id="files and no wish"),
        pytest.param(("--cosignatures", -1), id="fewer than none"),
    ],
)
def test_a_mistyped_command_gives_status_2(files: tuple[Path, Path], options: tuple[object, ...]) -> None:
    """And nothing that could be taken for a verdict."""
    done = run(files[0], *options)
    assert done.exit_code == 2
    assert done.stdout == ""


# Roots


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param('[publishers]\nacme = "ed25519:short"', "publishers.acme", id="a key that is none"),
        pytest.param(f'[operators]\n"N N" = "{"ed25519:" + "A" * 43}"', "operators", id="a name that is none"),
        pytest.param('[logs]\nours = "gateway.example/log"', "logs.ours", id="a log without a key"),
        pytest.param('[witnesses]\nw = "w+00000000+BAAA"', "witnesses.w", id="a witness with another key's id"),
        pytest.param(f'[second_keys]\nours = "{SECOND.verifier}"', "second_keys.ours", id="a second key of no log"),
        pytest.param("[rules]\ncosignatures = -1", "rules.cosignatures", id="fewer than none"),
        pytest.param('[rules]\ncosignatures = "2"', "rules.cosignatures", id="a text for a number"),
        pytest.param("publishers = [", "not TOML", id="no TOML"),
    ],
)
def test_a_policy_that_names_nonsense_is_refused_by_field(tmp_path: Path, text: str, names: str) -> None:
    """Better no audit than one under a key that was mistyped."""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=names):
        Roots.load(path)


def test_what_else_a_clients_policy_says_is_left_alone(tmp_path: Path) -> None:
    """Rules of newer clients, and sections that only they read."""
    path = tmp_path / "policy.toml"
    path.write_text(
        f'[publishers]\nacme = "{SigningKey.generate().id}"\n[rules]\nlanes = ["tee"]\n[platforms]\nx = 1\n'
    )
    assert list(Roots.load(path).publishers) == ["acme"]


@pytest.mark.parametrize("option", ["publishers", "operators", "clients", "logs", "witnesses"])
def test_an_option_that_names_nonsense_is_refused_by_name(option: str) -> None:
    """As above."""
    given: dict[str, Any] = {option: ["ours=nonsense"]}
    with pytest.raises(
        BlindgateError, match=f"--{option.removesuffix('es') if option == 'witnesses' else option[:-1]}"
    ):
        Roots().joined(**given)

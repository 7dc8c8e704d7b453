"""Real models, evaluated a second time by an auditor: the same bytes, another result, or nothing to compare."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from blindgate_audit.commands import app
from blindgate_audit.recomputation import Files, Recomputation, recompute
from blindgate_audit.replay import replay
from blindgate_audit.roots import Roots
from blindgate_models.clients import client_half
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.search import compile_search
from blindgate_models.package import parse_part
from blindgate_models.product.spec import Privacy
from blindgate_models.publishing import open_package
from blindgate_models.servers import server_half
from blindgate_protocol.bundle import Bundle, read_bundle
from blindgate_protocol.errors import (
    BlindgateError,
    CiphertextError,
    EvaluationKeyError,
    InputError,
    PackageDigestError,
    ResultDigestError,
)
from bundled_jobs import BundledJobs
from signed_packages import package
from square_networks import drawn
from world import BLINDGATE, World

Rows = np.ndarray[Any, np.dtype[np.float64]]


class Done(NamedTuple):
    """A job that was really computed, and its files."""

    jobs: BundledJobs
    bundle: Bundle
    files: Files
    package: bytes
    output: bytes


def done(folder: Path, compiled: CompiledModel, rows: Rows, lie: Callable[[bytes], bytes] = bytes) -> Done:
    """Encrypt, evaluate and bundle; the node reports what `lie` makes of the result."""
    jobs = BundledJobs()
    whole = package(compiled, publisher=jobs.publisher)
    opened = open_package(whole)
    family = opened.manifest.document.family
    client = client_half(family).from_part(parse_part(opened.client))
    server = server_half(family).from_part(parse_part(opened.server))
    keys = client.make_keys()
    given = client.encrypt(keys.secret, rows)
    server.prepare()
    output = lie(server.evaluate(keys.evaluation, given))
    bundle = jobs.computed(whole, given, output, rows=len(rows), key=keys.evaluation)
    files = Files(folder / "input.bin", folder / "model.bgmodel", result=folder / "result.bin")
    written = [("input.bin", given), ("model.bgmodel", whole), ("result.bin", output)]
    if keys.evaluation is not None:
        files = replace(files, key=folder / "key.bin")
        written.append(("key.bin", keys.evaluation))
    for name, data in written:
        (folder / name).write_bytes(data)
    return Done(jobs, bundle, files, whole, output)


@pytest.fixture
def linear(tmp_path: Path, small_compiled: CompiledModel, small_rows: Rows) -> Done:
    """The small linear model on 40 rows."""
    return done(tmp_path, small_compiled, small_rows[:40])


def again(it: Done, files: Files | None = None) -> Recomputation:
    """Evaluate again, as an auditor who knows everybody."""
    return recompute(replay(it.bundle, it.jobs.roots()), files or it.files)


def test_an_honest_nodes_result_is_found_equal(linear: Done) -> None:
    """The very bytes, from a fresh process."""
    found = again(linear)
    assert found.outcome == "equal", found.text
    assert linear.bundle.receipt is not None
    assert found.output == linear.bundle.receipt.document.output


def test_a_node_that_made_a_result_up_is_found_out(
    tmp_path: Path, small_compiled: CompiledModel, small_rows: Rows
) -> None:
    """Every signature holds, and the result is that of other rows: what a receipt alone can never show."""

    def of_other_rows(result: bytes) -> bytes:
        return result[:-1] + bytes([result[-1] ^ 1])

    lying = done(tmp_path, small_compiled, small_rows[:40], of_other_rows)
    assert replay(lying.bundle, lying.jobs.roots()).verdict.value == "holds"
    found = again(lying)
    assert found.outcome == "different"
    assert found.output is not None
    assert found.output.digest in found.text


@pytest.mark.parametrize(("privacy", "outcome"), [("model_public", "equal"), ("model_private", "not-comparable")])
def test_only_what_is_exact_is_compared(tmp_path: Path, privacy: Privacy, outcome: str) -> None:
    """An index whose replies are flooded answers the same question with other bytes; the manifest says so, and so do we."""
    rows = np.random.default_rng(0).normal(size=(50, 12))
    entries: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    searched = done(tmp_path, compile_search(entries, privacy=privacy), entries[:3])
    found = again(searched)
    assert found.outcome == outcome, found.text
    assert ("'varies'" in found.text) is (outcome == "not-comparable")


def test_a_part_is_found_wherever_it_lies(linear: Done, tmp_path: Path) -> None:
    """A folder with the package, a node's folder of parts by digest, the part itself."""
    opened = open_package(linear.package)
    parts = tmp_path / "parts"
    parts.mkdir()
    part = parts / opened.manifest.document.server.digest.removeprefix("sha256:")
    part.write_bytes(opened.server)
    (tmp_path / "a.bgmodel").write_bytes(b"PK, and no package")
    for place in (tmp_path, parts, part):
        assert again(linear, Files(linear.files.input, place)).outcome == "equal"


def another_package(it: Done, folder: Path) -> Files:
    """The next version of a model that looks alike."""
    other = folder / "other.bgmodel"
    rows = np.random.default_rng(1).normal(size=(5, 4))
    other.write_bytes(package(compile_search(rows, privacy="model_public")))
    return Files(it.files.input, other)


def a_flipped_input(it: Done, folder: Path) -> Files:
    """One bit of the input."""
    data = bytearray(it.files.input.read_bytes())
    data[-1] ^= 1
    (folder / "flipped.bin").write_bytes(data)
    return Files(folder / "flipped.bin", it.files.package)


def a_longer_input(it: Done, folder: Path) -> Files:
    """The input and a byte behind it."""
    (folder / "longer.bin").write_bytes(it.files.input.read_bytes() + b"\0")
    return Files(folder / "longer.bin", it.files.package)


def another_result(it: Done, folder: Path) -> Files:
    """A result that the receipt does not name."""
    (folder / "other.bin").write_bytes(b"x" * len(it.output))
    return Files(it.files.input, it.files.package, result=folder / "other.bin")


def a_key_for_none(it: Done, folder: Path) -> Files:
    """A key where the order names none."""
    (folder / "key.bin").write_bytes(b"key")
    return Files(it.files.input, it.files.package, key=folder / "key.bin")


def an_empty_folder(it: Done, folder: Path) -> Files:
    """No part at all."""
    (folder / "empty").mkdir()
    return Files(it.files.input, folder / "empty")


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        pytest.param(another_package, PackageDigestError, "holds no server part", id="another model"),
        pytest.param(an_empty_folder, PackageDigestError, "holds no server part", id="no model"),
        pytest.param(a_flipped_input, CiphertextError, "the input that the order names", id="another input"),
        pytest.param(a_longer_input, CiphertextError, "the input that the order names", id="a longer input"),
        pytest.param(another_result, ResultDigestError, "the receipt names", id="another result"),
        pytest.param(a_key_for_none, InputError, "no evaluation key", id="a key for none"),
    ],
)
def test_files_of_another_job_are_refused_before_anything_is_parsed(
    linear: Done, tmp_path: Path, change: Callable[[Done, Path], Files], kind: type[BlindgateError], says: str
) -> None:
    """By the file's name, and what it was expected to be."""
    with pytest.raises(kind, match=says):
        again(linear, change(linear, tmp_path))


def test_a_model_with_a_key_needs_that_key(tmp_path: Path) -> None:
    """A network multiplies ciphertexts: with its evaluation key the bytes are equal, without it or with another it is refused."""
    network = drawn([3, 4, 2])
    rows = np.random.default_rng(0).uniform(-1, 1, size=(60, 3))
    it = done(tmp_path, compile_network(network, rows, ranges=[(-1.0, 1.0)] * 3), rows[:2])
    assert it.files.key is not None
    found = again(it)
    assert found.outcome == "equal", found.text
    with pytest.raises(InputError, match="--key"):
        again(it, replace(it.files, key=None))
    with pytest.raises(EvaluationKeyError, match="is not the evaluation key"):
        again(it, replace(it.files, key=it.files.input))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        pytest.param({"memory": 64 << 20}, "", id="memory"),
        pytest.param({"seconds": 0}, "not done after 0 s", id="time"),
    ],
)
def test_limits_end_an_evaluation_and_nothing_else(linear: Done, limits: dict[str, int], says: str) -> None:
    """No result is said to be no result, whatever became of the process."""
    found = recompute(replay(linear.bundle, linear.jobs.roots()), linear.files, **limits)
    assert found.outcome == "failed"
    assert found.text.startswith("the evaluation gave no result: ")
    assert says in found.text


def test_hostile_ciphertexts_end_in_a_refusal_by_name(
    tmp_path: Path, small_compiled: CompiledModel, small_rows: Rows
) -> None:
    """A client signed for bytes that are no ciphertexts: the process says so, and this one goes on."""
    it = done(tmp_path, small_compiled, small_rows[:40])
    garbage = os.urandom(len(it.files.input.read_bytes()))
    it.files.input.write_bytes(garbage)
    found = again(it._replace(bundle=it.jobs.computed(it.package, garbage, it.output, rows=40)))
    assert found.outcome == "failed"
    assert "bad-ciphertext" in found.text


def test_nothing_is_compared_with_a_receipt_that_is_refused(linear: Done) -> None:
    """First it must be known what the receipt is worth."""
    stranger = Roots(publishers={"other": BundledJobs().publisher.id})
    found = recompute(replay(linear.bundle, stranger), linear.files)
    assert found.outcome == "not-comparable"


def test_an_equal_result_takes_the_nodes_word_off_the_list(linear: Done, tmp_path: Path) -> None:
    """The command: status 0, and `computation` is no longer unproven."""
    bundle, policy = tmp_path / "job.json", tmp_path / "policy.toml"
    bundle.write_bytes(linear.bundle.to_bytes())
    policy.write_text(linear.jobs.policy())
    command = ["replay", str(bundle), "--policy", str(policy), "--json"]
    files = ["--recompute", "--input", str(linear.files.input), "--package", str(linear.files.package)]
    alone, compared = (CliRunner().invoke(app, [*command, *more]) for more in ([], files))
    assert (alone.exit_code, compared.exit_code) == (0, 0), compared.output
    before, after = json.loads(alone.stdout), json.loads(compared.stdout)
    assert after["recomputed"]["outcome"] == "equal"
    codes = [{one["code"] for one in document["not_proven"]} for document in (before, after)]
    assert codes[0] - codes[1] == {"computation"}


def test_the_process_is_told_neither_secrets_nor_what_should_come_out(
    linear: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hostile bytes that took it over could not say `equal`, and would find no API key."""
    monkeypatch.setenv("BLINDGATE_API_KEY", "a secret")
    started: list[tuple[Any, dict[str, str]]] = []
    popen = subprocess.Popen

    def watched(command: Any, **options: Any) -> Any:
        started.append((command, options["env"]))
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", watched)
    assert again(linear).outcome == "equal"
    assert linear.bundle.receipt is not None
    [(command, environment)] = started
    assert command[0] == sys.executable
    assert linear.bundle.receipt.document.output.digest not in " ".join(command)
    assert "BLINDGATE_API_KEY" not in environment


def test_a_real_nodes_job_is_replayed_from_what_a_client_and_a_gateway_keep(
    world: World, small_compiled: CompiledModel, small_rows: Rows, tmp_path: Path
) -> None:
    """The client's bundle and policy, the blob that the gateway still holds, and the published package: nothing else is needed."""
    with world.client() as client:
        client.model("small").predict(dict(zip(("x0", "x1", "x2", "x3"), small_rows[:7].T, strict=True)))
        kept = max((client.home / "bundles").glob("*.json"), key=lambda path: path.stat().st_mtime)
        policy = client.policy.path
    order = read_bundle(kept.read_bytes()).order.document
    with closing(sqlite3.connect(f"file:{world.gateway_folder / 'gateway.sqlite'}?mode=ro", uri=True)) as database:
        asked = "SELECT data FROM blobs WHERE tenant = ? AND digest = ?"  # a larger one would be a file
        (blob,) = database.execute(asked, (order.tenant, order.input.digest)).fetchone()
    (tmp_path / "input.bin").write_bytes(blob)
    (tmp_path / "small.bgmodel").write_bytes(package(small_compiled))
    files = ("--recompute", "--input", "input.bin", "--package", str(tmp_path))
    command = [str(BLINDGATE), "audit", "replay", str(kept), "--policy", str(policy), *files]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "every signature holds" in found.stdout.splitlines()[0]
    assert "equal: the model, evaluated again" in found.stdout
    assert "  computation  " not in found.stdout

"""A client keeps its ciphertexts, and an auditor elsewhere evaluates the job again from that folder: no gateway, no secret key."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from blindgate_audit.commands import app
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.search import compile_search
from blindgate_protocol.bundle import Bundle, ciphertext_file, read_bundle
from blindgate_protocol.errors import BlindgateError
from disks import fill, small_disk
from signed_packages import package
from square_networks import drawn
from typed import type_command
from world import World

BLINDGATE = Path(sys.executable).with_name("blindgate")
CSV = "x0,x1,x2\n0.1,-0.4,0.9\n-1,0,1\n"
TENANT = "keeper"


class Handed(NamedTuple):
    """What a tenant hands to an auditor: one folder."""

    folder: Path
    bundle: Bundle

    @property
    def file(self) -> Path:
        """The bundle's file."""
        return self.folder / f"{self.bundle.order.document.job}.json"

    def ciphertext(self, digest: str | None) -> Path:
        """The file of that digest."""
        assert digest is not None
        return self.folder / "ciphertexts" / ciphertext_file(digest)

    def files(self) -> dict[str, Path]:
        """Everything that is read to evaluate again."""
        order, receipt = self.bundle.order.document, self.bundle.receipt
        assert receipt is not None
        return {
            "input": self.ciphertext(order.input.digest),
            "key": self.ciphertext(order.evaluation_key),
            "result": self.ciphertext(receipt.document.output.digest),
            "package": self.folder / "ciphertexts" / "kept.bgmodel",
        }

    def command(self, *more: str) -> list[str]:
        """The auditor's command."""
        return ["replay", str(self.file), "--policy", str(self.folder / "policy.toml"), "--recompute", *more]


@pytest.fixture(scope="module")
def network() -> CompiledModel:
    """A network of squares: it has an evaluation key."""
    rows = np.random.default_rng(0).uniform(-1, 1, size=(60, 3))
    return compile_network(drawn([3, 4, 2]), rows, ranges=[(-1.0, 1.0)] * 3)


@pytest.fixture(scope="module")
def whole(network: CompiledModel) -> bytes:
    """Its package, as its publisher has it."""
    return package(network, name="kept")


@pytest.fixture(scope="module")
def served(world: World, whole: bytes) -> World:
    """The world, with the network."""
    world.publish(whole)
    return world


def asks(world: World, home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The client's command, as a process with a home of its own."""
    world.client(TENANT, home=home).close()
    named = {"BLINDGATE_URL": world.url, "BLINDGATE_API_KEY": world.api_key(TENANT), "BLINDGATE_HOME": str(home)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return type_command(command, os.environ | named)

    return run


@pytest.fixture(scope="module")
def home(served: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's home after two predictions that kept their ciphertexts and one that did not."""
    made = tmp_path_factory.mktemp("keeper")
    rows = made / "rows.csv"
    rows.write_text(CSV)
    run = asks(served, made)
    for keep in (["--keep-ciphertexts"], ["--keep-ciphertexts"], []):
        done = run("predict", "kept", str(rows), *keep)
        assert done.returncode == 0, done.stderr
        assert ("ciphertexts kept in" in done.stderr) is bool(keep)
        assert "determinism" not in done.stderr
    return made


@pytest.fixture
def handed(home: Path, whole: bytes, tmp_path: Path) -> Handed:
    """The first job, copied elsewhere, with the publisher's package."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home / "bundles", elsewhere)
    shutil.copy(home / "policy.toml", elsewhere)
    (elsewhere / "ciphertexts" / "kept.bgmodel").write_bytes(whole)
    first = min(elsewhere.glob("*.json"), key=lambda path: path.stat().st_mtime)
    return Handed(elsewhere, read_bundle(first.read_bytes()))


def refusal(handed: Handed, *more: str) -> str:
    """The error that the auditor's command ends with."""
    done = CliRunner().invoke(app, handed.command(*more))
    assert isinstance(done.exception, BlindgateError), done.output
    return str(done.exception)


def test_what_jobs_sent_and_got_is_kept_for_its_owner_alone(home: Path) -> None:
    """Two inputs, two results, and one key for both, each under its digest; the job that was not to be kept left nothing."""
    folder = home / "bundles" / "ciphertexts"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (folder, folder.parent)} == {0o700}
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    named, jobs = [], 0
    for file in (home / "bundles").glob("*.json"):
        bundle, jobs = read_bundle(file.read_bytes()), jobs + 1
        assert bundle.receipt is not None
        order = bundle.order.document
        assert order.evaluation_key is not None
        named += [order.input.digest, bundle.receipt.document.output.digest, order.evaluation_key]
    kept = {each.name for each in folder.iterdir()}
    assert (jobs, len(kept), len(set(named))) == (3, 5, 7)
    assert kept < {ciphertext_file(digest) for digest in named}


def test_an_auditor_elsewhere_finds_the_result_equal(handed: Handed) -> None:
    """As processes, from the copied folder alone; and from another folder that is named."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("BLINDGATE_")}
    moved = handed.folder.with_name("moved")
    for more in ([], ["--ciphertexts", str(moved)]):
        if more:
            (handed.folder / "ciphertexts").rename(moved)
        done = type_command(["audit", *handed.command(*more)], alone)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "equal: the model, evaluated again" in done.stdout
        assert "  computation  " not in done.stdout


@pytest.mark.parametrize("which", ["input", "key", "result", "package"])
def test_a_flipped_byte_is_refused_by_the_files_name(handed: Handed, which: str) -> None:
    """Before anything is computed: whose bytes these are is not a question of what comes out."""
    path = handed.files()[which]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = refusal(handed)
    assert str(path.parent) in said
    assert path.name in said


def test_everything_that_is_missing_is_listed_with_its_option(handed: Handed) -> None:
    """At once. The result alone may be missing: its digest is in the receipt."""
    files = handed.files()
    files["package"].unlink()
    said = refusal(handed)
    assert (
        "which the gateway does not give to tenants: the publisher's package, a file *.bgmodel (or --package)" in said
    )
    assert "--input" not in said
    files["input"].unlink()
    files["key"].unlink()
    said = refusal(handed)
    for which in ("input", "key"):
        assert f"{files[which].name} (or --{which})" in said
    assert "(or --package)" in said
    assert "--ciphertexts" in said
    shutil.rmtree(handed.folder / "ciphertexts")
    assert "does not exist" in refusal(handed)
    assert "--input" not in refusal(handed, "--input", str(handed.file)).partition(": ")[2]


def test_a_result_that_is_missing_is_not_missed(handed: Handed) -> None:
    """What comes out is compared with the receipt."""
    handed.files()["result"].unlink()
    done = CliRunner().invoke(app, handed.command())
    assert done.exit_code == 0, done.output


def test_a_full_disk_costs_the_copy_and_not_the_prediction(served: World, tmp_path: Path) -> None:
    """A warning for each file, and nothing half written."""
    (tmp_path / "rows.csv").write_text(CSV)
    home = tmp_path / "home"
    run = asks(served, home)
    with small_disk(1) as disk:
        filler = fill(disk)
        (home / "bundles").mkdir(mode=0o700)
        (home / "bundles" / "ciphertexts").symlink_to(disk)
        done = run("predict", "kept", str(tmp_path / "rows.csv"), "--keep-ciphertexts")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3
        assert done.stderr.count("could not be kept") == 3
        assert "warnings.warn" not in done.stderr  # a reader is told what, not where in the source
        assert "No space left on device" in done.stderr
        assert "but for 3 files, see above" in done.stderr
        assert list(disk.iterdir()) == [filler]


def test_a_search_keeps_its_ciphertexts_and_says_what_they_are_not_good_for(served: World, tmp_path: Path) -> None:
    """Of a model whose honest results vary, nobody can show by them that they were computed."""
    entries: np.ndarray[Any, Any] = np.random.default_rng(0).normal(size=(50, 12))
    entries /= np.linalg.norm(entries, axis=1, keepdims=True)
    served.publish(package(compile_search(entries, privacy="model_private"), name="kept-index"))
    np.save(tmp_path / "queries.npy", entries[:2])
    run = asks(served, tmp_path / "home")
    done = run("search", "kept-index", str(tmp_path / "queries.npy"), "-k", "3", "--keep-ciphertexts")
    assert done.returncode == 0, done.stderr
    assert "calls its determinism 'varies'" in done.stderr
    assert len(list((tmp_path / "home" / "bundles" / "ciphertexts").iterdir())) >= 2


def test_in_python_a_client_keeps_them_when_it_is_told_to(served: World, tmp_path: Path) -> None:
    """Without an evaluation key, where the model needs none; and the package is asked for by the model's name."""
    with served.client(TENANT, home=tmp_path / "home", keep_ciphertexts=True) as client:
        client.model("small").predict(np.zeros((1, 4)))
    (bundle,) = (tmp_path / "home" / "bundles").glob("*.json")
    handed = Handed(tmp_path / "home" / "bundles", read_bundle(bundle.read_bytes()))
    assert len(list((handed.folder / "ciphertexts").iterdir())) == 2
    shutil.copy(tmp_path / "home" / "policy.toml", handed.folder)
    assert "small version 1" in refusal(handed)

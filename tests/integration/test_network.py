"""A network through a real gateway and a real node: an MLP of scikit-learn, compiled by commands, asked by the SDK."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("skops", reason="the extra `compile` is not installed")

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io import dump
from typer.testing import CliRunner, Result

import campaigns
from blindgate.commands import keys
from blindgate_models.compilers.fine_tuning import train
from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.squares import SquareNetwork
from runs import SOON_IN_THE_LOG
from signed_packages import PUBLISHER, package
from square_networks import drawn
from typed import FreshWorld, blindgate
from world import World

MEBI = 1 << 20


def test_every_held_out_digit_comes_back_with_the_plaintext_networks_class(world: World) -> None:
    """Packed, encrypted, computed in a keyed worker, decrypted and rounded: 90 of 90, and again with the key kept."""
    rows, classes = load_digits(return_X_y=True)
    seen, held_out, answers, _ = train_test_split(rows / 16, classes, test_size=0.05, random_state=1)
    start = SquareNetwork(drawn([64, 64, 10]).layers, tuple(range(10)))
    network = train(start, seen, np.eye(10)[answers], steps=1500)
    compiled = compile_network(network, seen, ranges=[(0.0, 1.0)] * 64)
    world.publish(package(compiled, name="digits"))
    with world.client() as client:
        model = client.model("digits")
        assert model.predict(held_out).tolist() == network.predict(held_out).tolist()
        job = model.submit(held_out[:1])
        assert job.result(timeout=60).tolist() == network.predict(held_out[:1]).tolist()
        assert job.receipt is not None
        assert job.receipt.document.job == job.id


def test_many_tenants_keys_take_no_more_memory_than_the_node_has_room_for(tmp_path: Path) -> None:
    """Several tenants, room for the keys of two in use: what the node holds does not grow, and every tenant is answered."""
    room, rows = 330 * MEBI, np.zeros((1, 64))
    network = drawn([64, 64, 10])
    tmp_path.chmod(0o755)  # the node's workers have other user ids
    with FreshWorld(tmp_path / "world", gateway=SOON_IN_THE_LOG) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        world.start_node("node-1", KEY_BYTES=room)
        world.publish(package(compile_network(network, rows, ranges=[(0.0, 1.0)] * 64), name="digits"))
        node = psutil.Process(world.processes["node-1"].pid)
        taken = [_memory(node)]
        for number in range(campaigns.of(7, slice_of=4)):
            with world.client(f"tenant-{number}", home=tmp_path / f"tenant-{number}") as client:
                np.testing.assert_allclose(client.model("digits").predict(rows), network.scores(rows), atol=1e-3)
            taken.append(_memory(node))
    assert max(taken) < taken[2] + 5 * MEBI


def test_the_command_that_supersedes_a_key_makes_the_next_one_and_names_it(world: World, tmp_path: Path) -> None:
    """Found by the key's parameters among the gateway's models; jobs go on under it."""
    rows = np.zeros((1, 3))
    network = drawn([3, 2, 2])
    world.publish(package(compile_network(network, rows, ranges=[(-1.0, 1.0)] * 3), name="tiny-network"))
    world.policy(tmp_path / "policy.toml").save()
    environment = {
        "BLINDGATE_URL": world.url,
        "BLINDGATE_API_KEY": world.api_key("hospital"),
        "BLINDGATE_HOME": str(tmp_path),
    }

    def run(*command: str) -> Result:
        result = CliRunner().invoke(keys.app, list(command), env=environment, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return result

    with world.client(home=tmp_path) as client:
        np.testing.assert_allclose(client.model("tiny-network").predict(rows), network.scores(rows), atol=1e-3)
    (old,) = [one["evaluation_key"] for one in json.loads(run("list", "--json").stdout)]
    said = run("supersede", old, "--reason", "a year is over").stderr
    shown = json.loads(run("show", old, "--json").stdout)
    assert (shown["at_gateway"], shown["statements"][1]["reason"]) == ("superseded", "a year is over")
    successor = shown["statements"][1]["successor"]
    assert f"its place took {successor}" in said
    listed = {one["evaluation_key"]: one["at_gateway"] for one in json.loads(run("list", "--json").stdout)}
    assert listed == {old: "superseded", successor: "active"}
    with world.client(home=tmp_path) as client:
        job = client.model("tiny-network").submit(rows)
        np.testing.assert_allclose(job.result(60), network.scores(rows), atol=1e-3)
        assert job.bundle.order.document.evaluation_key == successor


def _memory(node: psutil.Process) -> int:
    """Bytes of a node and its workers, those in memory files with them: keys lie there, and count for no process.

    What ends between being listed and being looked at, a worker or one descriptor, counts for nothing.
    """
    taken, files = 0, dict[tuple[int, int], int]()
    for process in [node, *node.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            taken += process.memory_full_info().uss
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    if str(descriptor.readlink()).startswith("/memfd:"):
                        found = descriptor.stat()
                        files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return taken + sum(files.values())


def test_an_mlp_in_a_file_is_compiled_by_the_command(tmp_path: Path) -> None:
    """Skops in, `--family network`, a package out; the manifest says what was computed and how exactly."""
    rows, classes = load_digits(return_X_y=True)
    table = pd.DataFrame(rows, columns=[f"pixel{j}" for j in range(64)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=60, random_state=0)).fit(table, classes)
    dump(fitted, tmp_path / "mlp.skops")
    table.assign(digit=classes)[:600].to_csv(tmp_path / "rows.csv", index=False)
    environment = os.environ | {"BLINDGATE_HOME": str(tmp_path / "home"), "BLINDGATE_PASSPHRASE": "a passphrase"}

    def command(*arguments: str) -> str:
        return blindgate(*arguments, folder=tmp_path, environment=environment)

    command("publisher", "key")
    told = command(
        *("models", "compile", "mlp.skops", "rows.csv", "--name", "mlp", "--family", "network"),
        *("--target", "digit", "--json"),
    )
    report = json.loads(told)
    assert report["family"] == "network"
    assert report["agreement"] > 0.9
    assert report["accuracy_in_the_clear"] > 0.9
    shown = json.loads(command("models", "show", "mlp.bgmodel", "--json"))
    assert shown["encryption"]["levels"] == 1
    assert 0 < shown["encryption"]["error_bound"] < 0.1
    assert shown["determinism"] == "bit-exact"
    assert shown["limits"]["evaluation_key_bytes"] == report["evaluation_key_bytes"] > 0

"""A network through a real gateway and a real node: an MLP of scikit-learn, compiled by commands, asked by the SDK."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("skops", reason="the extra `compile` is not installed")

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io import dump

from blindgate_models.compilers.fine_tuning import train
from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.squares import SquareNetwork
from signed_packages import package
from square_networks import drawn
from world import World

BLINDGATE = Path(sys.executable).with_name("blindgate")


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
        done = subprocess.run(
            [BLINDGATE, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

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

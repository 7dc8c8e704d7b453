"""A network that Concrete ML fitted, from its owner's file to an encrypted answer that is Concrete ML's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.compile_environment import compile_worker, find_compile_python
from blindgate_models.package import parse_part
from blindgate_models.publishing import open_package, publish
from blindgate_protocol.signing import SigningKey

pytest.importorskip("mlir", reason="the extra `concrete` is not installed")
pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from sklearn.datasets import load_diabetes, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import campaigns
from blindgate_models.compilers import concrete_worker
from blindgate_models.compilers.estimators import compile_model, load_estimator
from blindgate_models.compilers.networks import ask_clear
from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.server import ConcreteServer
from blindgate_models.concrete.spec import read_specs
from typed import blindgate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_compile_python() is None, reason="no compile environment: `make compile-env` makes it, with Python 3.11"
    ),
]
FIT = Path(__file__).with_name("concrete_ml_networks.py")
EPOCHS = campaigns.of(40, slice_of=2)
"""What a network has learnt is asked for in `make nightly`."""
BITS = campaigns.of(4, slice_of=2)
"""Of the regressor's weights and activations: rows of two bits take a third of the time."""
ASKED = campaigns.of(3, slice_of=1)
"""So many rows are encrypted, and simulated by Concrete ML; of the classifier in `make nightly` alone."""


class Fitted(NamedTuple):
    """A network's file, and what Concrete ML answers for its rows: in the clear, and for the first in simulation."""

    file: Path
    clear: NDArray[Any]
    simulated: NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both networks, or the regressor alone, were fitted and dumped, by Concrete ML in an environment without Blindgate."""
    folder = tmp_path_factory.mktemp("networks")
    command = [str(find_compile_python()), "-I", str(FIT), concrete_worker.__file__, str(folder)]
    command += [str(EPOCHS), str(BITS), str(campaigns.of(ASKED, slice_of=0)), str(ASKED)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


def fitted(folder: Path, name: str) -> Fitted:
    """One of them."""
    answers = json.loads((folder / f"{name}.answers.json").read_text())
    return Fitted(folder / f"{name}.json", np.array(answers["clear"]), np.array(answers["simulated"]))


def answered(package: bytes | Path, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Scores that were computed under encryption, with nothing but the package."""
    before = {"torch"} & sys.modules.keys()  # another test of this process may have wanted it
    opened = open_package(package)
    client = ConcreteClient.from_part(parse_part(opened.client))
    server = ConcreteServer.from_part(parse_part(opened.server))
    keys = client.make_keys()
    result = server.evaluate(keys.evaluation, client.encrypt(keys.secret, rows.to_numpy(dtype=np.float64)))
    assert {"torch"} & sys.modules.keys() == before
    return client.decrypt(keys.secret, result, len(rows))


def test_a_classifier_behind_its_scaler_answers_as_concrete_ml_does(folder: Path) -> None:
    """In Python, where the owner's scaler is put in front of the network, so that users give columns in their own units."""
    campaigns.leave_to_nightly()
    network = fitted(folder, "classifier")
    rows, species = load_iris(return_X_y=True, as_frame=True)
    assert (network.clear == species).mean() > 0.85
    loaded = load_estimator(network.file)
    compiled = compile_model(make_pipeline(StandardScaler().fit(rows), loaded), rows)
    assert compiled.report["agreement_plain"] == 1.0
    np.testing.assert_array_equal(loaded.predict(StandardScaler().fit_transform(rows)), network.clear)

    package = publish(compiled, SigningKey.generate(), name="iris", version=1, summary="", issued=0)
    asked = [0, 60, 120]
    labels = np.array(compiled.labels)[answered(package, rows.iloc[asked]).argmax(axis=1)]
    np.testing.assert_array_equal(labels, network.clear[asked])
    np.testing.assert_array_equal(network.simulated, network.clear[:ASKED])


def test_the_circuit_takes_all_that_the_quantiser_gives(folder: Path) -> None:
    """Though the calibration rows were all alike: the circuit's width is found from rows."""
    network = load_estimator(fitted(folder, "regressor").file)
    with compile_worker() as worker:
        quantiser = ask_clear(worker, network.module, np.zeros((2, 3)))["quantiser"]
        takes = read_specs(worker.ask("compile", p_error=2.0**-10)["specs"]).takes
    assert takes.minimum <= quantiser["minimum"] < quantiser["maximum"] <= takes.maximum


def test_a_regressor_is_compiled_from_its_file_by_the_command(folder: Path, tmp_path: Path) -> None:
    """`blindgate models compile network.json rows.csv`, with the columns that the network was fitted on."""
    network = fitted(folder, "regressor")
    table, target = load_diabetes(return_X_y=True, as_frame=True)
    chosen = table[["bmi", "bp", "s5"]]
    rows = (chosen - chosen.mean()) / chosen.std(ddof=0)
    answers = (target - target.mean()) / target.std(ddof=0)
    rows.assign(progression=answers).to_csv(tmp_path / "rows.csv", index=False)

    def run(*command: str) -> Any:
        environment = os.environ | {
            "BLINDGATE_HOME": str(tmp_path / "owner"),
            "BLINDGATE_COMPILE_PYTHON": str(find_compile_python()),
        }
        return json.loads(blindgate(*command, "--json", folder=tmp_path, environment=environment))

    run("publisher", "key")
    made = ("models", "compile", str(network.file), "rows.csv", "--name", "diabetes", "--target", "progression")
    report = run(*made)
    assert report["agreement"] == 1.0
    assert report["accuracy_in_the_clear"] == pytest.approx(
        1 - ((network.clear - answers) ** 2).sum() / (answers**2).sum()
    )
    numbers = answered(tmp_path / "diabetes.bgmodel", rows[:ASKED])[:, 0]
    np.testing.assert_allclose(numbers, network.simulated, atol=1e-6)

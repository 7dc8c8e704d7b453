"""A network that Concrete ML fitted arrives from a file without running it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the extra `compile` is not installed")

from blindgate_models.compilers.estimators import choose_family, load_estimator
from blindgate_models.compilers.networks import read_network
from blindgate_models.compilers.prepared import Prepared


def dumped(kind: str = "NeuralNetClassifier", **members: Any) -> str:
    """What Concrete ML's `dump` writes, as far as it is read."""
    network = {
        "params": "80049529…",
        "quantized_module_": {"type_name": "QuantizedModule", "serialized_value": {"_onnx_model": None}},
        "module__input_dim": 2,
        "module__n_outputs": 2,
        "classes_": {"type_name": "numpy_array", "serialized_value": [0, 1], "dtype": "int64"},
    }
    return json.dumps({"type_name": kind, "serialized_value": {**network, **members}})


def layer(kind: str) -> Any:
    """A quantised module with something inside."""
    inside = [{"deeper": {"type_name": kind, "serialized_value": "80049529…"}}]
    return {"type_name": "QuantizedModule", "serialized_value": inside}


def test_only_the_quantised_module_is_read(tmp_path: Path) -> None:
    """The pickles of torch's weights beside it go nowhere; the family is the only one that runs it."""
    (tmp_path / "network.json").write_text(dumped())
    network = load_estimator(tmp_path / "network.json")
    assert network.classes_.tolist() == [0, 1]
    assert choose_family(network) == "concrete"
    assert "80049529" not in json.dumps(network.module)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        pytest.param(
            dumped(quantized_module_=layer("sklearn_model")), "sklearn_model", id="a pickle of scikit-learn's"
        ),
        pytest.param(dumped(quantized_module_=layer("type")), "more than arithmetic: type", id="a pickled type"),
        pytest.param(
            dumped(quantized_module_=layer("NeuralNetClassifier")), "NeuralNetClassifier", id="a network with pickles"
        ),
        pytest.param(dumped("XGBClassifier"), r"\.sklearn_model", id="another model of Concrete ML's"),
        pytest.param(dumped("NeuralNetRegressor"), "regression of 2 numbers", id="two numbers at once"),
        pytest.param(dumped(classes_=None), "was it fitted", id="never fitted"),
        pytest.param(
            json.dumps({"type_name": "NeuralNetRegressor", "serialized_value": {}}), "was it fitted", id="an empty one"
        ),
    ],
)
def test_a_file_that_would_run_code_or_answer_otherwise_is_refused(text: str, match: str, tmp_path: Path) -> None:
    """Before Concrete ML's decoder, which unpickles some types, has seen it."""
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        load_estimator(tmp_path / "network.json")


def test_calibration_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    """The error says how many columns the network takes."""
    (tmp_path / "network.json").write_text(dumped())
    network = load_estimator(tmp_path / "network.json")
    with pytest.raises(ValueError, match="got 3 columns, the network takes 2"):
        read_network(network, Prepared.of(network, np.zeros((4, 3)), {}))

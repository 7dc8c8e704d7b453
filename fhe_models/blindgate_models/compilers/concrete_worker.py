"""Runs inside the compile environment: Concrete ML behind a pipe that carries plain JSON.

Started by `blindgate_models.compilers.compile_environment` with the compile environment's Python, which has Concrete ML
and torch and none of Blindgate. Each line on standard input is a request, each line on standard output its answer.
First `forest`, `linear` or `network` quantises a model, or `fitted` restores one that is quantised, and answers with
what it gives on the calibration rows; it may come again with other bits. Then `compile` answers with the circuit. Models
arrive as numbers: no pickle crosses this pipe.

What Concrete ML 1.9 needs to run with releases newer than the ones it pins stands in `adapt`, each with its reason.
Whoever fits networks in this environment calls it too.
"""
# ruff: noqa: SLF001 - Concrete ML has no door for a model that is fitted already, over features that are integers already

import functools
import json
import os
import re
import sys
import warnings
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

Message: TypeAlias = dict[str, Any]


class Session:
    """One model on its way to a circuit."""

    def __init__(self) -> None:
        self._model: Any = None
        self._inputs: Any = None

    def forest(self, request: Message) -> Message:
        """Quantise a tree ensemble over bin numbers: leaves to `leaf_bits`, nothing else is rounded."""
        from_booster = "booster" in request["model"]
        fitted = (booster_of if from_booster else sklearn_forest_of)(request["estimator"], request["model"])
        codes = np.asarray(request["codes"], dtype=np.float64)
        model = getattr(import_module("concrete.ml.sklearn"), request["estimator"])(n_bits=request["input_bits"])
        model.sklearn_model = fitted
        whole_range = np.array([0.0, 2.0 ** request["input_bits"] - 1])
        quantised_range = import_module("concrete.ml.quantization").QuantizedArray(request["input_bits"], whole_range)
        model.input_quantizers = [quantised_range.quantizer] * codes.shape[1]
        # What `fit` does after fitting, with features that are integers already.
        model._set_post_processing_params()
        convert = import_module("concrete.ml.sklearn.tree_to_numpy").tree_to_numpy
        model._tree_inference, model.output_quantizers, model.onnx_model_ = convert(
            fitted, codes, framework="xgboost" if from_booster else "sklearn", output_n_bits=request["leaf_bits"]
        )
        model._is_fitted = True
        self._model, self._inputs = model, codes
        return describe_outputs(model._inference(codes.astype(np.int64)), model.output_quantizers[0])

    def linear(self, request: Message) -> Message:
        """Quantise a linear model, rows and weights to `bits`."""
        rows = np.asarray(request["rows"], dtype=np.float64)
        name = "LogisticRegression" if request["classes"] else "LinearRegression"
        fitted = getattr(import_module("sklearn.linear_model"), name)()
        fitted.coef_, fitted.intercept_ = np.asarray(request["weights"]), np.asarray(request["bias"])
        fitted.n_features_in_ = rows.shape[1]
        if request["classes"]:
            fitted.classes_ = np.arange(request["classes"])
        model = getattr(import_module("concrete.ml.sklearn"), name)(n_bits=request["bits"])
        model.sklearn_model = fitted
        model._quantize_model(rows)
        self._model, self._inputs = model, rows
        outputs = describe_outputs(model._inference(model.quantize_input(rows)), model.output_quantizers[0])
        return {**outputs, "quantiser": describe_quantiser(model.input_quantizers[0])}

    def network(self, request: Message) -> Message:
        """Quantise a network of linear layers and ReLUs, rows and weights to `bits`."""
        torch = import_module("torch")
        rows = np.asarray(request["rows"], dtype=np.float64)
        layers = []
        for layer in request["layers"]:
            weights = torch.tensor(layer["weights"], dtype=torch.float32)
            linear = torch.nn.Linear(*weights.shape)
            linear.weight.data = weights.T.contiguous()
            linear.bias.data = torch.tensor(layer["bias"], dtype=torch.float32)
            layers += [linear, torch.nn.ReLU()]
        bits = request["bits"]
        module = import_module("concrete.ml.torch.compile").build_quantized_module(
            torch.nn.Sequential(*layers[:-1]),
            rows,
            n_bits={"model_inputs": bits, "op_inputs": bits, "op_weights": bits, "model_outputs": max(bits, 6)},
            rounding_threshold_bits=bits,
        )
        self._model, self._inputs = module, rows
        return describe_module(module, rows)

    def fitted(self, request: Message) -> Message:
        """Restore a network that Concrete ML fitted and quantised, and answer as its `predict` does, in float32."""
        module = import_module("concrete.ml.common.serialization.loaders").loads(json.dumps(request["module"]))
        rows = np.asarray(request["rows"], dtype=np.float32)
        answer = describe_module(module, rows)
        # A circuit takes the integers that its rows need. Two more rows need all that the quantiser gives.
        quantiser = answer["quantiser"]
        ends = np.repeat(rows[:1], 2, axis=0)
        ends[:, 0] = (np.array([quantiser["minimum"], quantiser["maximum"]]) - quantiser["zero_point"]) * quantiser[
            "scale"
        ]
        self._model, self._inputs = module, np.concatenate([rows, ends])
        return answer

    def evaluate(self, request: Message) -> Message:
        """What the restored network gives for integers."""
        outputs = self._model.quantized_forward(np.asarray(request["codes"], dtype=np.int64))
        return {"outputs": outputs.astype(int).tolist()}

    def compile(self, request: Message) -> Message:
        """Compile what was quantised last: its circuit, parameters and cost."""
        circuit = self._model.compile(self._inputs, p_error=request["p_error"])
        specs = json.loads(circuit.client.specs.serialize())
        specs.pop("tfhers_specs", None)
        return {
            "circuit": circuit.mlir,
            "specs": specs,
            "bootstraps": int(circuit.statistics["programmable_bootstrap_count"]),
            "complexity": float(circuit.complexity),
        }


def booster_of(estimator: str, model: Message) -> Any:
    """An XGBoost estimator from XGBoost's own JSON."""
    fitted = getattr(import_module("xgboost"), estimator)(n_jobs=1)
    fitted.load_model(bytearray(json.dumps(model["booster"]).encode()))
    return fitted


def sklearn_forest_of(estimator: str, model: Message) -> Any:
    """A scikit-learn tree or forest from arrays."""
    ensemble, trees, native = map(import_module, ("sklearn.ensemble", "sklearn.tree", "sklearn.tree._tree"))
    classifier = estimator.endswith("Classifier")
    members = []
    for document in model["trees"]:
        nodes = np.zeros(len(document["left"]), dtype=native.NODE_DTYPE)
        nodes["left_child"], nodes["right_child"] = document["left"], document["right"]
        nodes["feature"], nodes["threshold"] = document["feature"], document["threshold"]
        nodes["n_node_samples"] = nodes["weighted_n_node_samples"] = 1
        values = np.asarray(document["value"], dtype=np.float64)[:, None, :]
        tree = native.Tree(model["features"], np.array([values.shape[2]], dtype=np.intp), 1)
        tree.__setstate__({"max_depth": len(nodes), "node_count": len(nodes), "nodes": nodes, "values": values})
        member = trees.DecisionTreeClassifier() if classifier else trees.DecisionTreeRegressor()
        member.tree_, member.max_features_ = tree, model["features"]
        members.append(furnish(member, model, classifier=classifier))
    if estimator.startswith("DecisionTree"):
        return members[0]
    forest = getattr(ensemble, estimator)(n_estimators=len(members))
    forest.estimators_ = members
    return furnish(forest, model, classifier=classifier)


def furnish(fitted: Any, model: Message, *, classifier: bool) -> Any:
    """Set what fitting would have set."""
    fitted.n_features_in_, fitted.n_outputs_ = model["features"], 1
    if classifier:
        fitted.n_classes_, fitted.classes_ = model["outputs"], np.arange(model["outputs"])
    return fitted


def describe_module(module: Any, rows: Any) -> Message:
    """What a quantised network gives on the rows, and its quantisers."""
    outputs = describe_outputs(module.quantized_forward(module.quantize_input(rows)), module.output_quantizers[0])
    return {**outputs, "quantiser": describe_quantiser(module.input_quantizers[0])}


def describe_outputs(outputs: Any, quantiser: Any) -> Message:
    """The circuit's integers for each row, and how they become numbers."""
    return {
        "outputs": np.asarray(outputs).astype(int).tolist(),
        "scale": float(quantiser.scale),
        "zero_point": np.asarray(quantiser.zero_point, dtype=np.float64).reshape(-1).tolist(),
    }


def describe_quantiser(quantiser: Any) -> Message:
    """An input quantiser, with the clipping that Concrete ML applies."""
    offset = int(quantiser.offset)
    return {
        "scale": float(quantiser.scale),
        "zero_point": float(quantiser.zero_point),
        "minimum": -offset + (1 if quantiser.is_narrow else 0),
        "maximum": 2 ** int(quantiser.n_bits) - 1 - offset,
    }


def adapt() -> None:
    """Let Concrete ML, Brevitas and Hummingbird run with newer releases."""
    # They were written for the TorchScript exporter, which torch 2.9 made the second choice.
    torch = import_module("torch")
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    # Brevitas takes the names off its tensors; torch 2.13 has no names to take off.
    torch.Tensor.rename = lambda tensor, _: tensor
    # XGBoost 3.1 writes the base score as a list in a text, where Hummingbird expects a number in a text.
    booster = import_module("xgboost").Booster
    save_config = booster.save_config
    listed = re.compile(r'"base_score":"\[([^\],]*)\]"')
    booster.save_config = lambda self: listed.sub(r'"base_score":"\1"', save_config(self))


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the libraries print
    warnings.simplefilter("ignore")
    adapt()
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(session, request.pop("do"))(request)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the front end shows it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

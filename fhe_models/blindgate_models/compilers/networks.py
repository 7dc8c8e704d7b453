"""Networks that Concrete ML fitted itself, `NeuralNetClassifier` and `NeuralNetRegressor`, from the file that `dump` writes.

They learn with their quantisers in place, by Brevitas, so nothing is left to quantise: the file holds the quantised
module, and compiling it changes no answer. Their owner fits them where Concrete ML is installed and Blindgate is not:

    network.callbacks = "disable"  # Concrete ML writes no callbacks
    with open("network.json", "w") as file:
        network.dump(file)

1. The file also holds torch's weights and optimiser, as pickles. They are neither read nor passed on.
2. The quantised module goes to the compile environment, where Concrete ML's own decoder restores it. That decoder
   builds whatever type a member names, some of them from pickles, so a file that names other types than numbers and
   arithmetic is refused here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compile_environment import Conversation, compile_worker
from blindgate_models.compilers.compiled import Label
from blindgate_models.compilers.dense import Scaling, read_steps
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.halves import Part

_NETWORKS: Final = ("NeuralNetClassifier", "NeuralNetRegressor")
_MEMBERS: Final = ("quantized_module_", "module__input_dim", "module__n_outputs")
_ARITHMETIC: Final = "Quantized"
_NUMBERS: Final = frozenset(
    {
        "MinMaxQuantizationStats",
        "QuantizationOptions",
        "UniformQuantizationParameters",
        "UniformQuantizer",
        "inspect_empty",
        "numpy_array",
        "numpy_float",
        "numpy_integer",
        "onnx_model",
        "set",
        "tuple",
    }
)


class FittedNetwork:
    """A fitted network, with scikit-learn's names.

    Attributes:
        module: the quantised module, as Concrete ML wrote it.
        n_features_in_: how many columns it takes.
        classes_: the labels, in the order of the outputs. A regression has none.
    """

    def __init__(self, module: Part, features: int, classes: Sequence[Label] | None) -> None:
        self.module = module
        self.n_features_in_ = features
        if classes is not None:
            self.classes_ = np.asarray(classes)

    def predict(self, rows: Any) -> NDArray[Any]:
        """What Concrete ML predicts in the clear: labels, or numbers, `(n,)`. Starts the compile environment: seconds.

        Raises `CompilerError` where there is none.
        """
        with compile_worker() as worker:
            answer = ask_clear(worker, self.module, np.asarray(rows, dtype=np.float64))
        scores = clear_scores(answer)
        return self.classes_[scores.argmax(axis=1)] if hasattr(self, "classes_") else scores[:, 0]


@dataclass(frozen=True)
class Network:
    """A fitted network behind scalers, as the compiler takes it."""

    module: Part
    scaling: Scaling
    labels: tuple[Label, ...] | None

    @property
    def link(self) -> Literal["identity", "softmax"]:
        """From scores to probabilities or numbers; two classes have two scores."""
        return "identity" if self.labels is None else "softmax"


def is_concrete_ml(document: object) -> bool:
    """Whether Concrete ML's `dump` wrote this."""
    return isinstance(document, dict) and document.keys() == {"type_name", "serialized_value"}


def load_network(document: Part) -> FittedNetwork:
    """A network from what `dump` wrote. Raises `ValueError` on another model, or on types that do more than arithmetic."""
    kind, network = document["type_name"], document["serialized_value"]
    if kind not in _NETWORKS:
        msg = (
            f"estimator: got Concrete ML's {kind!r:.40}, expected {' or '.join(_NETWORKS)}; of its other models, save the "
            "scikit-learn or XGBoost model that stands in .sklearn_model"
        )
        raise ValueError(msg)
    try:
        module, features, outputs = (network[name] for name in _MEMBERS)
        classes = network["classes_"]["serialized_value"] if kind == _NETWORKS[0] else None
    except (KeyError, TypeError) as error:
        msg = f"estimator: the network has no member {error}; was it fitted, and dumped by Concrete ML 1.9?"
        raise ValueError(msg) from error
    unknown = {name for name in map(str, _types_in(module)) if not (name in _NUMBERS or name.startswith(_ARITHMETIC))}
    if unknown:
        msg = f"estimator: the network names types that do more than arithmetic: {', '.join(sorted(unknown)):.200}"
        raise ValueError(msg)
    if classes is None and outputs != 1:
        msg = f"estimator: got a regression of {outputs} numbers, expected 1"
        raise ValueError(msg)
    return FittedNetwork(module, features, classes)


def read_network(estimator: Any, prepared: Prepared) -> Network | None:
    """The network in `estimator`, which may be a pipeline of scalers that ends in one; or `None`.

    Raises `ValueError` on rows of another width, or with categories in them; `TypeError` on steps that are no scalers.
    """
    *steps, fitted = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    if not isinstance(fitted, FittedNetwork):
        return None
    rows = prepared.require_numbers()
    if rows.shape[1] != fitted.n_features_in_:
        msg = f"calibration: got {rows.shape[1]} columns, the network takes {fitted.n_features_in_}"
        raise ValueError(msg)
    labels = tuple(fitted.classes_.tolist()) if hasattr(fitted, "classes_") else None
    return Network(fitted.module, read_steps(steps, rows), labels)


def ask_clear(worker: Conversation, module: Part, rows: NDArray[np.float64]) -> Part:
    """Have the worker restore the quantised module, and answer for `rows` in the clear."""
    return worker.ask("fitted", module=module, rows=rows.tolist())


def clear_scores(answer: Part) -> NDArray[np.float64]:
    """The scores in the worker's answer, `(n, outputs)`."""
    integers, zero_point = np.asarray(answer["outputs"], dtype=np.float64), np.asarray(answer["zero_point"])
    return np.asarray(answer["scale"] * (integers - zero_point))


def _types_in(value: object) -> Iterator[object]:
    """Every type that Concrete ML's decoder would build, at any depth."""
    if isinstance(value, dict):
        if "type_name" in value:
            yield value["type_name"]
        for member in value.values():
            yield from _types_in(member)
    elif isinstance(value, list):
        for member in value:
            yield from _types_in(member)

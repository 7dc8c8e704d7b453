"""Runs inside the compile environment: fits two networks with Concrete ML and dumps them, as their owner would elsewhere.

Beside each file stands what Concrete ML itself answers for the rows: its predictions in the clear, and for the first few
rows in its simulation of the compiled circuit.
"""

import json
import runpy
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

DIABETES_COLUMNS = ["bmi", "bp", "s5"]


def main(worker: str, folder: Path, epochs: int, bits: int, *simulated: int) -> None:
    """Fit, answer and dump both networks into `folder`; the regressor is of so many bits. So many rows of each are simulated.

    Where no row of the classifier is, there is no classifier.
    """
    warnings.simplefilter("ignore")
    runpy.run_path(worker)["adapt"]()
    torch, data, sklearn = map(import_module, ("torch", "sklearn.datasets", "concrete.ml.sklearn"))
    settings = {"module__n_layers": 2, "max_epochs": epochs, "batch_size": 16, "verbose": 0, "callbacks": "disable"}
    torch.manual_seed(0)

    if simulated[0]:
        rows, species = data.load_iris(return_X_y=True)
        classifier = sklearn.NeuralNetClassifier(
            **settings, lr=0.02, module__n_w_bits=3, module__n_a_bits=3, module__n_hidden_neurons_multiplier=2
        )
        dump(classifier, standardised(rows), species, folder / "classifier.json", simulated[0])

    table, progression = data.load_diabetes(return_X_y=True, as_frame=True)
    regressor = sklearn.NeuralNetRegressor(
        **settings, lr=0.01, module__n_w_bits=bits, module__n_a_bits=bits, module__n_hidden_neurons_multiplier=1
    )
    target = standardised(progression.to_numpy()[:, None])
    dump(regressor, standardised(table[DIABETES_COLUMNS].to_numpy()), target, folder / "regressor.json", simulated[1])


def standardised(rows: Any) -> Any:
    """What StandardScaler gives."""
    return ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)


def dump(network: Any, rows: Any, target: Any, file: Path, simulated: int) -> None:
    """Fit, dump and answer."""
    network.fit(rows, target)
    with file.open("w", encoding="utf-8") as out:
        network.dump(out)
    network.compile(rows)
    answers = {
        "clear": network.predict(rows).reshape(-1).tolist(),
        "simulated": network.predict(rows[:simulated], fhe="simulate").reshape(-1).tolist(),
    }
    file.with_suffix(".answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))

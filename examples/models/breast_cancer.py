"""The demo's two models: their data, how they were trained, and how their packages are built.

The data are scikit-learn's bundled Wisconsin breast cancer set: 569 patients, 30 measurements, malignant (0) or benign (1).
A quarter is held out from training; the demo asks for those patients. The fitted models stand beside this file as plain
numbers, so that the plaintext answers and the packages are the same on every machine:

- `breast-cancer-linear.json`: a standardising step and a logistic regression;
- `breast-cancer-trees.json`: XGBoost's own document, ten trees of depth three over at most eight bins a feature.

`python examples/models/breast_cancer.py` trains them again and writes these two files. `build_demo_models` compiles them;
the trees need the compile environment (`make compile-env`). Signing and packing is `make models`' work.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.linear import compile_linear

HERE: Final = Path(__file__).parent
LINEAR: Final = "breast-cancer-linear"
TREES: Final = "breast-cancer-trees"
SEED: Final = 20
HELD_OUT: Final = 0.25


def patients() -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """Measurements to train with and held out, then their diagnoses."""
    frame, diagnosis = load_breast_cancer(return_X_y=True, as_frame=True)
    train, held_out, known, wanted = train_test_split(
        frame, diagnosis, test_size=HELD_OUT, random_state=SEED, stratify=diagnosis
    )
    return train, held_out, known.to_numpy(), wanted.to_numpy()


def plain_linear() -> Pipeline:
    """The fitted linear model, from its file."""
    document = json.loads((HERE / f"{LINEAR}.json").read_text(encoding="utf-8"))
    scaler, model = StandardScaler(), LogisticRegression()
    scaler.mean_, scaler.scale_ = np.array(document["mean"]), np.array(document["scale"])
    scaler.var_ = scaler.scale_**2
    model.coef_, model.intercept_ = np.array([document["weights"]]), np.array([document["intercept"]])
    model.classes_ = np.array(document["labels"])
    names = np.array(document["columns"], dtype=object)
    scaler.feature_names_in_ = names
    scaler.n_features_in_ = model.n_features_in_ = len(names)
    return make_pipeline(scaler, model)


def plain_trees() -> XGBClassifier:
    """The fitted trees, from their file."""
    model = XGBClassifier(n_jobs=1)
    model.load_model(HERE / f"{TREES}.json")
    return model


def build_linear() -> CompiledModel:
    """The linear model, compiled to CKKS."""
    train, *_ = patients()
    return compile_linear(plain_linear(), train)


def build_trees() -> CompiledModel:
    """The trees, compiled to TFHE. Needs the compile environment."""
    train, *_ = patients()
    return compile_concrete(plain_trees(), train)


def build_demo_models() -> dict[str, CompiledModel]:
    """Both models by name."""
    builders: dict[str, Callable[[], CompiledModel]] = {LINEAR: build_linear, TREES: build_trees}
    return {name: build() for name, build in builders.items()}


def train() -> dict[str, Any]:
    """Train both models and write their files. The held-out accuracies by name."""
    rows, held_out, known, wanted = patients()
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, known)
    scaler, model = linear[0], linear[1]
    document = {
        "columns": list(rows.columns),
        "labels": model.classes_.tolist(),
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
        "weights": model.coef_[0].tolist(),
        "intercept": float(model.intercept_[0]),
    }
    (HERE / f"{LINEAR}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    trees = XGBClassifier(
        n_estimators=10,
        max_depth=3,
        max_bin=8,
        learning_rate=0.4,
        colsample_bynode=0.5,
        tree_method="hist",
        random_state=0,
        n_jobs=1,
    ).fit(rows, known)
    trees.save_model(HERE / f"{TREES}.json")
    return {
        LINEAR: float((plain_linear().predict(held_out) == wanted).mean()),
        TREES: float((plain_trees().predict(held_out) == wanted).mean()),
    }


if __name__ == "__main__":
    for name, accuracy in train().items():
        print(f"{name}: {accuracy:.3f} of the held-out patients")

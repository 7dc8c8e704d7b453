"""The demo's models: their data, how they were trained, and how their packages are built.

The data are scikit-learn's bundled Wisconsin breast cancer set: 569 patients, 30 measurements, malignant (0) or benign (1).
A quarter is held out from training; the demo asks for those patients. The fitted models stand beside this file as plain
numbers, so that the plaintext answers and the packages are the same on every machine:

- `breast-cancer-linear.json`: a standardising step and a logistic regression;
- `breast-cancer-trees.json`: XGBoost's own document, ten trees of depth three over at most eight bins a feature;
- `breast-cancer-forest.json`: sixteen public bins a column, and XGBoost's document of fifty trees of depth four over them;
- `breast-cancer-additive.json`: the same bins, and a hundred trees of depth one.

`python examples/models/breast_cancer.py` trains them again and writes these files. `BUILDERS` compiles them; the trees under TFHE
need the compile environment (`make compile-env`). Signing and packing is `make models`' work.
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

from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.compilers.trees import compile_trees
from blindgate_models.public_bins import PublicBins

HERE: Final = Path(__file__).parent
LINEAR: Final = "breast-cancer-linear"
TREES: Final = "breast-cancer-trees"
FOREST: Final = "breast-cancer-forest"
ADDITIVE: Final = "breast-cancer-additive"
NAMES: Final = (LINEAR, TREES, FOREST, ADDITIVE)
BINS: Final = 16
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


def plain_binned(name: str) -> Pipeline:
    """A fitted model over public bins, from its file."""
    document = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    bins, model = PublicBins(BINS), XGBClassifier(n_jobs=1)
    bins.edges_ = [np.array(edges) for edges in document["edges"]]
    bins.feature_names_in_ = np.array(document["columns"], dtype=object)
    bins.n_features_in_ = len(document["columns"])
    model.load_model(bytearray(json.dumps(document["booster"]), "utf-8"))
    return make_pipeline(bins, model)


def plain(name: str) -> Any:
    """The fitted model of this name, from its file."""
    if name == LINEAR:
        return plain_linear()
    return plain_trees() if name == TREES else plain_binned(name)


def build(name: str) -> CompiledModel:
    """The model of this name, compiled: to CKKS, TFHE, or to a private product under BFV. TFHE needs the compile environment."""
    rows, *_ = patients()
    compilers: dict[str, Callable[..., CompiledModel]] = {
        LINEAR: compile_linear,
        TREES: compile_concrete,
        FOREST: compile_trees,
        ADDITIVE: compile_additive,
    }
    return compilers[name](plain(name), rows)


def train() -> dict[str, Any]:
    """Train the models and write their files. The held-out accuracies by name."""
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
    for name, settings in (
        (FOREST, {"n_estimators": 50, "max_depth": 4}),
        (ADDITIVE, {"n_estimators": 100, "max_depth": 1}),
    ):
        bins, binned = make_pipeline(PublicBins(BINS), XGBClassifier(**settings, random_state=0, n_jobs=1)).fit(
            rows, known
        )
        document = {
            "columns": list(rows.columns),
            "edges": [edges.tolist() for edges in bins.edges_],
            "booster": json.loads(bytes(binned.get_booster().save_raw("json"))),
        }
        (HERE / f"{name}.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    return {name: float((plain(name).predict(held_out) == wanted).mean()) for name in NAMES}


if __name__ == "__main__":
    for name, accuracy in train().items():
        print(f"{name}: {accuracy:.3f} of the held-out patients")

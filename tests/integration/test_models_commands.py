"""A model's owner with nothing but commands: from a fitted model and a real table with gaps to answers for somebody else."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("skops", reason="the extra `compile` is not installed")

from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io import dump

from runs import SOON_IN_THE_LOG
from shared import shared
from typed import blindgate
from world import World

COLUMNS = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
]
RULES = """
[age]
type = "integer"
minimum = 18
maximum = 110
[chol]
out_of_range = "clip"
maximum = 500
"""


def clipped(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as the rules want them."""
    return rows.assign(chol=rows["chol"].clip(upper=500))


class Owner:
    """Somebody with a fitted model of patients, in a folder, at a command line.

    Attributes:
        table: the patients with their answers; the model has seen the first 200.
        rows: their columns, as the rules want them.
        model: a pipeline that ends in a logistic model.
        publisher: the owner's key.
    """

    MADE = ("models", "compile", "heart.skops", "calibration.csv", "--name", "heart", "--target", "disease")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"BLINDGATE_HOME": str(folder / "owner")}
        self.table = pd.read_csv(shared("data/heart_cleveland.csv"), names=[*COLUMNS, "disease"], na_values="?")
        self.table["disease"] = np.where(self.table["disease"] > 0, "yes", "no")
        self.rows = self.table[COLUMNS].pipe(clipped)
        self.model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())
        self.model.fit(self.rows[:200], self.table["disease"][:200])
        self.table[:200].to_csv(folder / "calibration.csv", index=False)
        self.table[200:].to_csv(folder / "unseen.csv", index=False)
        dump(self.model, folder / "heart.skops")
        (folder / "columns.toml").write_text(RULES)
        self.publisher = json.loads(self.run("publisher", "key", "--json"))["publisher_key"]

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command prints."""
        return blindgate(*command, folder=self.folder, environment=self.environment, fails=fails)

    def right(self, rows: slice) -> Any:
        """How right the model in the clear is on these rows."""
        return pytest.approx((self.model.predict(self.rows[rows]) == self.table["disease"][rows]).mean())


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    """With a key, a model and two tables."""
    return Owner(tmp_path)


def test_a_manifest_states_how_the_model_did_on_rows_that_it_has_not_seen(owner: Owner) -> None:
    """And on no others: the accuracy on the calibration rows, which may be those of its training, stays with its owner."""
    report = json.loads(owner.run(*owner.MADE, "--columns", "columns.toml", "--json"))
    assert (report["agreement"], report["of_held_out_rows"]) == (1, False)
    assert report["accuracy_in_the_clear"] == owner.right(slice(200))
    assert "not stated" in owner.run("models", "show", "heart.bgmodel")

    tried = ("--columns", "columns.toml", "--held-out", "unseen.csv", "--json")
    report = json.loads(owner.run(*owner.MADE, *tried))
    unseen = len(owner.rows) - 200
    assert report["held_out_accuracy"] == owner.right(slice(200, None))
    assert (report["rows_compared"], report["of_held_out_rows"], report["agreement"]) == (unseen, True, 1)
    shown = " ".join(owner.run("models", "show", "heart.bgmodel").split())
    assert f"1.0000 of {unseen} held-out rows" in shown
    assert f"{report['held_out_accuracy_in_the_clear']:.4f} in the clear" in shown

    without = pd.read_csv(owner.folder / "unseen.csv").drop(columns="disease")
    without.to_csv(owner.folder / "unseen.csv", index=False)
    assert "unseen.csv: there is no column 'disease'" in owner.run(*owner.MADE, *tried, fails=True)


def test_from_a_fitted_model_to_somebody_elses_answers(owner: Owner, tmp_path: Path) -> None:
    """Compile with rules, show, publish, trust, predict: the labels are the plaintext model's, gaps and all."""
    run, model, table, environment = owner.run, owner.model, owner.table, owner.environment
    run(*owner.MADE, "--columns", "columns.toml")
    chol = next(line.split() for line in run("models", "show", "heart.bgmodel").splitlines() if "chol" in line)
    assert chol[1:] == ["number", "0", "to", "500", "clip", "filled", "with", f"{model[0].statistics_[4]:g}"]

    (tmp_path / "wrong.toml").write_text("[chol]\nclip = true\n")
    assert "wrong.toml: chol.clip" in run(*owner.MADE, "--columns", "wrong.toml", fails=True)

    hidden = ("models", "compile", "heart.skops", "calibration.csv", "--name", "hidden", "--target", "disease")
    assert "network" in run(*hidden, "--hide-scores")
    shown = run("models", "show", "hidden.bgmodel")
    assert "the probabilities, to the decimals shown" in " ".join(shown.split())
    refused = run(*owner.MADE, "--hide-scores", "--family", "trees", fails=True)
    assert "hide_scores: a logistic model's sigmoid under encryption, got the family 'trees'" in refused

    with World(tmp_path / "world", gateway=SOON_IN_THE_LOG) as world:
        world.trust("owner", owner.publisher)
        world.start_gateway()
        world.start_node("node-1")
        environment |= {"BLINDGATE_URL": world.url, "BLINDGATE_API_KEY": world.api_key("owner", publish=True)}
        run("models", "publish", "heart.bgmodel")

        world.policy(tmp_path / "hospital" / "policy.toml").save()
        environment |= {"BLINDGATE_HOME": str(tmp_path / "hospital"), "BLINDGATE_API_KEY": world.api_key("hospital")}
        asked = table[COLUMNS][200:].copy()
        asked.iloc[0, COLUMNS.index("chol")] = 700
        asked.to_csv(tmp_path / "patients.csv", index=False)
        run("predict", "heart", "patients.csv", "-o", "labels.csv")
        labels = pd.read_csv(tmp_path / "labels.csv")["prediction"]
        assert labels.tolist() == model.predict(asked.pipe(clipped)).tolist()

        asked.iloc[3, COLUMNS.index("age")] = 55.5
        asked.to_csv(tmp_path / "patients.csv", index=False)
        assert "column 'age', row 3: expected a whole number" in run("predict", "heart", "patients.csv", fails=True)

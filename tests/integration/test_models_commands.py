"""A model's owner with nothing but commands: from a fitted model and a real table with gaps to answers for somebody else."""

import json
import os
import subprocess
import sys
from pathlib import Path

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

from shared import shared
from world import World

BLINDGATE = Path(sys.executable).with_name("blindgate")
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


def test_from_a_fitted_model_to_somebody_elses_answers(tmp_path: Path) -> None:
    """Key, compile with rules, show, publish, trust, predict: the labels are the plaintext model's, gaps and all."""
    table = pd.read_csv(shared("data/heart_cleveland.csv"), names=[*COLUMNS, "disease"], na_values="?")
    table["disease"] = np.where(table["disease"] > 0, "yes", "no")
    rows, answers = table[COLUMNS].pipe(clipped), table["disease"]
    model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())
    model.fit(rows[:200], answers[:200])
    table[:200].to_csv(tmp_path / "calibration.csv", index=False)
    table[200:].to_csv(tmp_path / "unseen.csv", index=False)
    dump(model, tmp_path / "heart.skops")
    (tmp_path / "columns.toml").write_text(RULES)
    environment = os.environ | {"BLINDGATE_HOME": str(tmp_path / "owner")}

    def run(*command: str, fails: bool = False) -> str:
        done = subprocess.run(
            [BLINDGATE, *command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    publisher = json.loads(run("publisher", "key", "--json"))["publisher_key"]
    made = ("models", "compile", "heart.skops", "calibration.csv", "--name", "heart", "--target", "disease")
    report = json.loads(run(*made, "--columns", "columns.toml", "--json"))
    assert report["agreement"] == 1
    assert report["accuracy_in_the_clear"] == pytest.approx((model.predict(rows[:200]) == answers[:200]).mean())
    assert not report["of_held_out_rows"]
    assert "not stated" in run("models", "show", "heart.bgmodel")
    report = json.loads(run(*made, "--columns", "columns.toml", "--held-out", "unseen.csv", "--json"))
    asked = rows[200:]
    assert report["held_out_accuracy"] == pytest.approx((model.predict(asked) == answers[200:]).mean())
    assert (report["rows_compared"], report["of_held_out_rows"], report["agreement"]) == (len(asked), True, 1)
    shown = " ".join(run("models", "show", "heart.bgmodel").split())
    assert f"1.0000 of {len(asked)} held-out rows" in shown
    assert f"{report['held_out_accuracy_in_the_clear']:.4f} in the clear" in shown
    assert "calibration.csv: there is no column 'sick'" in run(*made[:-1], "sick", fails=True)
    chol = next(line.split() for line in run("models", "show", "heart.bgmodel").splitlines() if "chol" in line)
    assert chol[1:] == ["number", "0", "to", "500", "clip", "filled", "with", f"{model[0].statistics_[4]:g}"]

    (tmp_path / "wrong.toml").write_text("[chol]\nclip = true\n")
    assert "wrong.toml: chol.clip" in run(*made, "--columns", "wrong.toml", fails=True)

    hidden = run(
        "models",
        "compile",
        "heart.skops",
        "calibration.csv",
        "--name",
        "hidden",
        "--hide-scores",
        "--target",
        "disease",
    )
    assert "network" in hidden
    shown = run("models", "show", "hidden.bgmodel")
    assert "the probabilities, to the decimals shown" in " ".join(shown.split())
    refused = run(*made, "--hide-scores", "--family", "trees", fails=True)
    assert "hide_scores: a logistic model's sigmoid under encryption, got the family 'trees'" in refused

    with World(tmp_path / "world") as world:
        world.trust("owner", publisher)
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

"""A model fitted again on public bins, from its owner's file: categories and gaps stay what they were."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("skops", reason="the extra `compile` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from skops.io import dump
from xgboost import XGBClassifier

from blindgate_models.compilers.from_files import Choices, Compilation, compile_files
from blindgate_models.public_bins import PublicBins
from shared import shared


@pytest.fixture(scope="module")
def credit() -> pd.DataFrame:
    """A bank's table, texts and numbers in turns, with the answers in `risk`."""
    rows = [*csv.reader(shared("data/german_credit.csv").read_text().splitlines())]
    table = pd.DataFrame(rows, columns=[*(f"a{place}" for place in range(len(rows[0]) - 1)), "risk"])
    for name in table.columns[:-1]:
        if not table[name].str.startswith("A").any():
            table[name] = table[name].astype(float)
    return table.assign(risk=table["risk"].map({"1": "good", "2": "bad"}))


def encoding(model: Any) -> Pipeline:
    """The texts one-hot, the numbers as they are."""
    encoder = OneHotEncoder(handle_unknown="ignore")
    texts = make_column_selector(dtype_include=object)
    return make_pipeline(make_column_transformer((encoder, texts), remainder="passthrough"), model)


def compiled(model: Any, table: pd.DataFrame, folder: Path, **choices: Any) -> Compilation:
    """As `blindgate models compile` does it, from files."""
    dump(model.fit(table.drop(columns="risk"), table["risk"]), folder / "model.skops")
    table.to_csv(folder / "rows.csv", index=False)
    return compile_files(folder / "model.skops", folder / "rows.csv", Choices(target="risk", **choices))


def test_numbers_are_cut_and_categories_stay(credit: pd.DataFrame, tmp_path: Path) -> None:
    """No threshold of the model's own is published, every category is asked for, and both accuracies are told."""
    model = encoding(GradientBoostingClassifier(n_estimators=10, max_depth=3, random_state=0))
    found = compiled(model, credit, tmp_path, bins=8)
    assert found.compiled.family == "trees"
    assert found.compiled.report["agreement_plain"] == 1
    assert found.compiled.discloses["to_client"][0].startswith("the public bins of every column")
    assert found.refitted.keys() == {"accuracy_over_folds", "accuracy_over_folds_on_bins"}
    assert all(0.6 < accuracy < 0.9 for accuracy in found.refitted.values())
    names = list(credit.columns[:-1])
    assert [column["name"] for column in found.compiled.columns] == names
    asked = {names[each["column"]]: each for each in found.compiled.client["questions"]}
    assert asked["a0"]["kind"] == "is"
    edges = PublicBins(8).fit(credit[["a4"]]).edges_[0]
    assert set(asked["a4"]["values"]) == set(edges.tolist())


def test_a_table_of_numbers_needs_no_names(credit: pd.DataFrame, tmp_path: Path) -> None:
    """Bins alone, in front of the model; gaps go through."""
    numbers = credit[["a1", "a4", "a12", "risk"]].copy()
    numbers.loc[::7, "a1"] = np.nan
    found = compiled(RandomForestClassifier(8, max_depth=3, random_state=0), numbers, tmp_path, bins=4)
    assert found.compiled.discloses["to_client"][0].startswith("the public bins of every column")
    assert found.compiled.report["agreement_plain"] == 1


def test_a_table_without_numbers_has_nothing_to_cut(credit: pd.DataFrame, tmp_path: Path) -> None:
    """It says so, and what to do."""
    with pytest.raises(ValueError, match=r"bins: no column holds numbers, .*: compile the model as it is"):
        compiled(encoding(RandomForestClassifier(3, max_depth=2)), credit[["a0", "a2", "risk"]], tmp_path, bins=4)


def test_answers_in_other_words_than_the_models_are_refused(credit: pd.DataFrame, tmp_path: Path) -> None:
    """Every one would count as wrong."""
    numbers = credit[["a1", "a4", "risk"]]
    model = XGBClassifier(n_estimators=2, max_depth=2).fit(numbers.drop(columns="risk"), numbers["risk"] == "bad")
    model.save_model(tmp_path / "model.json")
    numbers.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ValueError, match=r"target: none of the answers \('good', 'bad'\) .* the model's \(0, 1\)"):
        compile_files(tmp_path / "model.json", tmp_path / "rows.csv", Choices(target="risk"))


def test_a_tolerance_reaches_the_compiler(credit: pd.DataFrame, tmp_path: Path) -> None:
    """A coarser forest has a larger bound; what is no share, and TFHE, are refused in words."""
    numbers, model = credit[["a1", "a4", "risk"]], RandomForestClassifier(8, max_depth=3, random_state=0)
    fine, rough = (compiled(model, numbers, tmp_path, tolerance=share) for share in (1e-6, 0.1))
    assert 100 * fine.compiled.encryption.error_bound < rough.compiled.encryption.error_bound
    for share, family, says in ((2.0, None, "got 2, expected a share"), (0.01, "concrete", "takes none")):
        with pytest.raises(ValueError, match=f"tolerance: .*{says}"):
            compiled(model, numbers, tmp_path, tolerance=share, family=family)

"""Rules for columns: what an owner says about gaps and outliers is what the client does, and what the model is compared on."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from blindgate import frames
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.estimators import compile_model
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.rules import Rule, read_rules
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_models.publishing import open_package
from blindgate_protocol.errors import InputError
from signed_packages import package

ROWS, ANSWERS = load_diabetes(return_X_y=True, as_frame=True)
GAPS = ROWS.mask(np.random.default_rng(0).random(ROWS.shape) < 0.1)


def imputing(**options: Any) -> Any:
    """A pipeline that begins with an imputer, fitted on rows with gaps."""
    return make_pipeline(SimpleImputer(**options), StandardScaler(), Ridge()).fit(GAPS, ANSWERS)


def predict(compiled: CompiledModel, table: Any) -> Any:
    """What a client gets for a table: through the manifest's rules, encrypted, computed, decrypted."""
    rows = frames.matrix(table, open_package(package(compiled)).manifest.document.columns)
    client, server = LinearClient.from_part(compiled.client), LinearServer.from_part(compiled.server)
    secret = client.make_keys().secret
    return client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))[:, 0]


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_a_pipelines_imputer_becomes_the_clients_rule(strategy: str) -> None:
    """Rows with gaps get the answers that the pipeline gives them in the clear."""
    model = imputing(strategy=strategy)
    np.testing.assert_allclose(predict(compile_model(model, GAPS), GAPS), model.predict(GAPS), rtol=1e-3)


def test_an_imputer_that_adds_columns_is_refused() -> None:
    """The client fills in; it adds nothing."""
    with pytest.raises(ValueError, match="adds no column"):
        compile_model(imputing(add_indicator=True), GAPS)


def test_what_is_said_of_a_column_is_what_the_client_does() -> None:
    """Filled, clipped, refused: by column, and nothing for the others."""
    model = Ridge().fit(ROWS, ANSWERS)
    rules = {
        "age": Rule(fill=0.0),
        "bmi": Rule(minimum=-0.05, maximum=0.05, out_of_range="clip"),
        "bp": Rule(minimum=-1, maximum=1),
    }
    compiled = compile_model(model, Prepared.of(model, ROWS, rules))
    gaps = ROWS.assign(age=np.nan)
    expected = model.predict(ROWS.assign(age=0.0, bmi=ROWS["bmi"].clip(-0.05, 0.05)))
    np.testing.assert_allclose(predict(compiled, gaps), expected, rtol=1e-3)
    for column, value in (("s1", np.nan), ("bp", 1.5)):
        with pytest.raises(InputError, match=f"column '{column}'"):
            predict(compiled, ROWS.assign(**{column: value}))


def test_a_column_may_be_clipped_without_a_range() -> None:
    """Then at the end of the one that the calibration rows give it."""
    model = Ridge().fit(ROWS, ANSWERS)
    compiled = compile_model(model, Prepared.of(model, ROWS, {"bmi": Rule(out_of_range="clip")}))
    (most,) = [column["maximum"] for column in compiled.columns if column["name"] == "bmi"]
    far = ROWS.assign(bmi=100.0)
    np.testing.assert_allclose(predict(compiled, far), model.predict(ROWS.assign(bmi=most)), rtol=1e-3)


def test_numbers_in_columns_of_objects_are_numbers() -> None:
    """A table that was put together cell by cell has such columns; scikit-learn reads them as it reads others."""
    model = Ridge().fit(ROWS, ANSWERS)
    whole = (ROWS * 1000).round().astype(int).astype(object)
    for table in (ROWS.astype(object), whole, ROWS.map(Decimal)):
        compiled = compile_model(model, table)
        assert {column["type"] for column in compiled.columns} == {"number"}
        np.testing.assert_allclose(predict(compiled, table), model.predict(table), rtol=1e-3, atol=0.1)


def test_of_a_column_that_is_dropped_nothing_is_published_and_anything_is_taken() -> None:
    """A patient's name, a date, a running number: the model does not read it, so a manifest lists no values of it."""
    table = ROWS.assign(patient=[f"patient {n}" for n in range(len(ROWS))], number=np.arange(len(ROWS)) * 1.0)
    table["seen"] = pd.date_range("2026-01-01", periods=len(ROWS))
    steps = ColumnTransformer([("scaled", StandardScaler(), slice("age", "bp"))])
    model = make_pipeline(steps, Ridge()).fit(table, ANSWERS)
    compiled = compile_model(model, table)
    assert "patient 7" not in str(compiled.columns)
    (number,) = [column for column in compiled.columns if column["name"] == "number"]
    assert (number["minimum"], number["maximum"], number["fill"]) == (0, 1, 0)
    others = table.assign(patient="somebody else", number=1e9, seen=pd.Timestamp("2027-01-01"))
    for asked in (others, others.assign(patient=None, number=np.nan, seen=pd.NaT)):
        np.testing.assert_allclose(predict(compiled, asked), model.predict(table), rtol=1e-3)
    told = compile_model(model, Prepared.of(model, table, {"number": Rule(minimum=0, maximum=1000)}))
    with pytest.raises(InputError, match="column 'number'"):
        predict(told, others)


def test_columns_may_come_in_another_order_than_they_were_fitted_in() -> None:
    """Rules and ranges go with the name."""
    model = Ridge().fit(ROWS, ANSWERS)
    shuffled = ROWS[ROWS.columns[::-1]]
    prepared = Prepared.of(model, shuffled, {"bp": Rule(minimum=-1, maximum=1)})
    compiled = compile_model(model, prepared)
    assert [column["name"] for column in compiled.columns] == list(ROWS.columns)
    assert [column["maximum"] for column in compiled.columns if column["name"] == "bp"] == [1]
    np.testing.assert_allclose(predict(compiled, shuffled), model.predict(ROWS), rtol=1e-3)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        pytest.param({"agee": Rule()}, "no column 'agee'", id="no such column"),
        pytest.param({"age": Rule(fill=99)}, "'age': fill lies outside", id="fill outside the range"),
        pytest.param({"age": Rule(maximum=0)}, "'age'", id="calibration row outside"),
        pytest.param({"age": Rule(type="integer")}, "'age' is said to hold whole numbers", id="not whole"),
    ],
)
def test_rules_that_do_not_fit_are_refused_by_name(rules: dict[str, Rule], says: str) -> None:
    """Before anything is compiled."""
    model = Ridge().fit(ROWS, ANSWERS)
    with pytest.raises(ValueError, match=says):
        compile_model(model, Prepared.of(model, ROWS, rules))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(ROWS.drop(columns="bmi"), "'bmi' is missing", id="one too few"),
        pytest.param(ROWS.assign(answer=1.0), "'answer' is not one of them; if it holds the answers", id="the answers"),
        pytest.param(ROWS.rename(columns={"bmi": "BMI"}), "'bmi' is missing", id="another name"),
    ],
)
def test_calibration_rows_with_other_columns_are_refused_by_the_column(rows: pd.DataFrame, says: str) -> None:
    """Forgetting to name the target is the usual reason."""
    with pytest.raises(ValueError, match=says):
        Prepared.of(Ridge().fit(ROWS, ANSWERS), rows, {})


def test_a_column_that_no_manifest_can_hold_is_refused_by_name() -> None:
    """Nanoseconds since 1970: the signed manifest would hold whole numbers past 2^53, which nobody could open again."""
    rows = pd.DataFrame({"admitted": 1.7e18 + 1e14 * np.arange(40), "age": np.arange(40.0)})
    model = make_pipeline(StandardScaler(), Ridge()).fit(rows, rows["age"])
    with pytest.raises(ValueError, match=r"'admitted' has whole numbers past 2\^53"):
        compile_model(model, rows)
    seconds = rows.assign(admitted=rows["admitted"] / 1e9)
    compiled = compile_model(model.fit(seconds, rows["age"]), seconds)
    assert open_package(package(compiled)).manifest.document.columns[0].maximum == compiled.columns[0]["maximum"]


def test_a_filling_is_whole_where_the_column_is() -> None:
    """Or the client would refuse what it filled in itself."""
    with pytest.raises(ValueError, match="'age': fill is not a whole number"):
        Prepared.of(Ridge(), ROWS.round(), {"age": Rule(type="integer", fill=0.5)})


def test_a_gap_without_a_rule_is_refused_by_name() -> None:
    """Calibration rows are rows like those to come."""
    model = Ridge().fit(ROWS, ANSWERS)
    with pytest.raises(ValueError, match="'age' has empty cells"):
        Prepared.of(model, GAPS, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[age]\nmaximum = 'x'", r"age\.maximum", id="not a number"),
        pytest.param("[age]\nmax = 3", r"age\.max", id="unknown member"),
        pytest.param("[age]\nout_of_range = 'drop'", r"age\.out_of_range", id="unknown choice"),
        pytest.param("age = 3", "age", id="not a table"),
        pytest.param("[age", "not TOML", id="not TOML"),
    ],
)
def test_a_file_of_rules_that_is_wrong_says_where(text: str, says: str, tmp_path: Path) -> None:
    """The file, the column, the member."""
    (tmp_path / "columns.toml").write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        read_rules(tmp_path / "columns.toml")
    assert "columns.toml" in str(caught.value)

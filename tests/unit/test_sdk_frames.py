"""Tables in, matrices out: what a user's table must be, and what the error says when it is not."""

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from blindgate import frames
from blindgate_protocol.errors import InputError
from blindgate_protocol.manifest import Column, Manifest, Output

MASKED: Any = np.ma.MaskedArray

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "protocol.json").read_text())
GOOD = json.loads(base64.b64decode(VECTORS["cases"][0]["envelope"]["payload"]))

COLUMNS = (
    Column(name="age", type="integer", minimum=0.0, maximum=120.0),
    Column(name="dose", minimum=0.0, maximum=10.0, missing="fill", fill=1.5),
    Column(name="level", minimum=-1.0, maximum=1.0, out_of_range="clip"),
)


MANIFEST = Manifest.model_validate_json(json.dumps(GOOD)).model_copy(update={"columns": COLUMNS})
"""A manifest of which only the columns matter."""

WANTED = np.array([[40.0, 2.0, 0.5], [50.0, 3.0, -0.5]])


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(pd.DataFrame({"age": [40, 50], "dose": [2.0, 3.0], "level": [0.5, -0.5]}), id="DataFrame"),
        pytest.param(
            pd.DataFrame({"level": [0.5, -0.5], "age": [40, 50], "dose": [2, 3]}), id="DataFrame, other order"
        ),
        pytest.param(
            pd.DataFrame({"age": [40, 50], "dose": [2, 3], "level": [0.5, -0.5]}, index=[7, 7]), id="odd index"
        ),
        pytest.param(
            pd.DataFrame({"age": [40, 50], "dose": ["2", "3"], "level": [0.5, -0.5]}).astype({"dose": "Float64"}),
            id="nullable",
        ),
        pytest.param(WANTED, id="array"),
        pytest.param(WANTED.astype(np.float32), id="float32 array"),
        pytest.param(np.asfortranarray(WANTED), id="fortran order"),
        pytest.param({"dose": [2.0, 3.0], "level": (0.5, -0.5), "age": np.array([40, 50])}, id="dict of columns"),
        pytest.param(
            [{"age": 40, "dose": 2.0, "level": 0.5}, {"level": -0.5, "dose": 3, "age": 50}], id="list of dicts"
        ),
    ],
)
def test_any_usual_table_becomes_the_same_matrix(table: Any) -> None:
    """Columns are matched by name, in any order and container."""
    np.testing.assert_array_equal(frames.matrix(table, MANIFEST.columns), WANTED)


def test_a_frame_without_names_has_numbers_for_names() -> None:
    """As the compiler called them, which took them from such a frame."""
    columns = tuple(column.model_copy(update={"name": str(j)}) for j, column in enumerate(COLUMNS))
    manifest = MANIFEST.model_copy(update={"columns": columns})
    np.testing.assert_array_equal(frames.matrix(pd.DataFrame(WANTED), manifest.columns), WANTED)


def test_another_librarys_frame_is_told_apart() -> None:
    """Not 'expected a DataFrame, got DataFrame'."""
    frame = type("DataFrame", (), {"__module__": "polars.dataframe.frame"})()
    with pytest.raises(InputError, match=r"expected a pandas DataFrame, .* got polars\.DataFrame"):
        frames.matrix(frame, MANIFEST.columns)


def test_a_dict_of_numbers_is_one_row() -> None:
    """A single patient needs no lists."""
    assert frames.matrix({"age": 40, "dose": 2.0, "level": 0.5}, MANIFEST.columns).shape == (1, 3)


def test_a_list_of_lists_is_taken_by_position() -> None:
    """As scikit-learn takes it; a cell may be a Decimal, which is what databases give."""
    table = [[40, Decimal("2.5"), 0], (41, 3, 1)]
    assert frames.matrix(table, MANIFEST.columns).tolist() == [[40, 2.5, 0], [41, 3, 1]]


def test_a_masked_cell_is_a_missing_one() -> None:
    """What lies under the mask is not the value."""
    table = MASKED([[40.0, 9.0, 0.5]], mask=[[False, True, False]])
    np.testing.assert_array_equal(frames.matrix(table, MANIFEST.columns), [[40.0, 1.5, 0.5]])


@pytest.mark.parametrize(
    ("table", "column", "row", "says"),
    [
        pytest.param({"age": [40], "dose": [2]}, "level", None, "missing", id="missing column"),
        pytest.param(
            {"age": [4], "dose": [2], "level": [0], "name": [1]}, "name", None, "unknown", id="unknown column"
        ),
        pytest.param({"age": [4, "x"], "dose": [2, 2], "level": [0, 0]}, "age", 1, "got str", id="text"),
        pytest.param({"age": [4, [1]], "dose": [2, 2], "level": [0, 0]}, "age", 1, "got list", id="list"),
        pytest.param({"age": [4, 1j], "dose": [2, 2], "level": [0, 0]}, "age", 1, "got complex", id="complex"),
        pytest.param(
            {"age": [4, np.nan], "dose": [2, 2], "level": [0, 0]}, "age", 1, "missing", id="NaN without a rule"
        ),
        pytest.param({"age": [None], "dose": [2], "level": [0]}, "age", 0, "missing", id="None without a rule"),
        pytest.param(
            {"age": [Decimal("sNaN")], "dose": [2], "level": [0]}, "age", 0, "missing", id="a Decimal's signalling NaN"
        ),
        pytest.param(
            {"age": pd.Series([pd.Timedelta(40)]), "dose": [2], "level": [0]},
            "age",
            0,
            "got timedelta",
            id="a length of time",
        ),
        pytest.param({"age": [pd.NA], "dose": [2], "level": [0]}, "age", 0, "missing", id="NA without a rule"),
        pytest.param({"age": [4.5], "dose": [2], "level": [0]}, "age", 0, "whole", id="not whole"),
        pytest.param({"age": [10**400], "dose": [2], "level": [0]}, "age", 0, "infinite", id="too large for a double"),
        pytest.param({"age": [4], "dose": [2], "level": [np.inf]}, "level", 0, "infinite", id="infinite, even to clip"),
        pytest.param({"age": [4, 5, 121], "dose": [2] * 3, "level": [0] * 3}, "age", 2, "0 to 120", id="above"),
        pytest.param({"age": [-1], "dose": [2], "level": [0]}, "age", 0, "0 to 120", id="below"),
        pytest.param(
            [{"age": 4, "dose": 2, "level": 0}, {"age": 4, "dose": 2}], "level", 1, "missing", id="ragged dicts"
        ),
        pytest.param({"age": [4, 5], "dose": [2], "level": [0]}, None, None, "lengths", id="ragged columns"),
        pytest.param({"age": [], "dose": [], "level": []}, None, None, "no rows", id="no rows"),
        pytest.param([], None, None, "no rows", id="empty list"),
        pytest.param(np.zeros(3), None, None, "two-dimensional", id="one dimension"),
        pytest.param(np.zeros((2, 4)), None, None, "4 columns", id="too wide"),
        pytest.param("age,dose,level", None, None, "got str", id="not a table"),
        pytest.param([[1, 2, 0], [1, 2]], None, 1, "expected 3 cells, got 2", id="ragged lists"),
        pytest.param([[1, 2, 0], {"age": 1}], None, 1, "expected 3 cells, got dict", id="lists, then a dict"),
        pytest.param([1, 2, 0], None, 0, "expected a dict or a list", id="one list"),
        pytest.param(["age"], None, 0, "got str", id="list of text"),
        pytest.param([[1, 2, "x"]], "level", 0, "got str", id="list with text"),
        pytest.param(
            MASKED([[4, 2, 0], [5, 2, 0]], mask=[[0, 0, 0], [1, 0, 0]]), "age", 1, "missing", id="masked cell"
        ),
        pytest.param(np.array([["a", "b", "c"]]), "age", 0, "got str", id="array of text"),
    ],
)
def test_a_table_that_does_not_fit_is_one_error_that_names_the_place(
    table: Any, column: str | None, row: int | None, says: str
) -> None:
    """The user is told which column and row, and which rule, before anything is encrypted."""
    with pytest.raises(InputError, match=says) as caught:
        frames.matrix(table, MANIFEST.columns)
    assert (caught.value.column, caught.value.row) == (column, row)
    if column is not None:
        assert repr(column) in str(caught.value)


def test_an_error_never_repeats_the_value() -> None:
    """A traceback in a log is no place for a patient's data."""
    with pytest.raises(InputError) as caught:
        frames.matrix({"age": [98765], "dose": [2], "level": [0]}, MANIFEST.columns)
    assert "98765" not in str(caught.value)


def test_a_duplicated_column_is_refused() -> None:
    """Which of the two was meant is not guessed."""
    table = pd.DataFrame([[1, 1, 0.0, 0.0]], columns=["age", "age", "dose", "level"])
    with pytest.raises(InputError, match="twice"):
        frames.matrix(table, MANIFEST.columns)


def test_the_manifests_rules_fill_and_clip() -> None:
    """A missing value is filled and one outside is clipped, where and only where the manifest says so."""
    table = {"age": [40, 50], "dose": [np.nan, 3.0], "level": [7.0, -7.0]}
    np.testing.assert_array_equal(frames.matrix(table, MANIFEST.columns), [[40.0, 1.5, 1.0], [50.0, 3.0, -1.0]])


BINARY = Output(task="classification", labels=("benign", "malignant"), scores=1, link="sigmoid", decimals=3)
THREE = Output(task="classification", labels=(10, 20, 30), scores=3, link="softmax", decimals=3)


def test_labels_keep_their_type() -> None:
    """Text stays text and integers stay integers, as with scikit-learn."""
    scores = np.array([[-2.0], [0.5]])
    assert frames.predictions(scores, BINARY).tolist() == ["benign", "malignant"]
    many = frames.predictions(np.array([[0.0, 3.0, 1.0]]), THREE)
    assert many.tolist() == [20]
    assert many.dtype.kind == "i"


def test_probabilities_have_a_column_for_each_class_and_the_manifests_decimals() -> None:
    """Two classes from one score, many from many; never more digits than the manifest allows."""
    two = frames.probabilities(np.array([[0.0], [1.2345678]]), BINARY)
    np.testing.assert_array_equal(two, [[0.5, 0.5], [0.225, 0.775]])
    many = frames.probabilities(np.array([[1000.0, 0.0, 0.0]]), THREE)
    np.testing.assert_array_equal(many, [[1.0, 0.0, 0.0]])


def test_scores_that_are_probabilities_add_up() -> None:
    """Quantised ones do not quite, and a node may answer anything: what leaves is never below 0, above 1, or not a number."""
    shares = THREE.model_copy(update={"link": "probability"})
    given = np.array([[0.2, 0.5, 0.31], [-0.1, 0.0, 1.2], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(frames.probabilities(given, shares).sum(axis=1), 1, atol=2e-3)
    np.testing.assert_array_equal(frames.probabilities(given, shares)[1:], [[0, 0, 1.0], [0.333] * 3])


def test_a_regression_with_a_log_link_gives_numbers() -> None:
    """The exponential of the score, rounded; a score beyond all reason is no infinity."""
    counts = Output(task="regression", scores=1, link="exp", decimals=2)
    np.testing.assert_array_equal(frames.predictions(np.array([[0.0], [1.0]]), counts), [1.0, 2.72])
    assert np.isfinite(frames.predictions(np.array([[1e300]]), counts)).all()


@pytest.mark.parametrize(("task", "link"), [("regression", "softmax"), ("classification", "exp")])
def test_a_link_goes_with_its_task(task: str, link: str) -> None:
    """A manifest that mixes them up is none."""
    labels = () if task == "regression" else ("a", "b")
    with pytest.raises(ValueError, match="link"):
        Output(task=task, labels=labels, scores=1, link=link, decimals=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(("labels", "scores"), [(("a", "b", "c"), 2), (("a",), 1), (("a", "b", "c"), 1), ((), 1)])
def test_a_score_is_a_labels_or_tells_two_apart(labels: tuple[str, ...], scores: int) -> None:
    """Two scores of three labels would never give the third."""
    with pytest.raises(ValueError, match="one score a label, or one for two labels"):
        Output(task="classification", labels=labels, scores=scores, link="softmax", decimals=2)


def test_a_model_without_probabilities_says_so() -> None:
    """A regression has no classes to spread over."""
    regression = Output(task="regression", scores=1, link="identity", decimals=2)
    with pytest.raises(InputError, match="no probabilities"):
        frames.probabilities(np.zeros((1, 1)), regression)
    np.testing.assert_array_equal(frames.predictions(np.array([[1.23456]]), regression), [1.23])


CATEGORIES = (
    Column(name="purpose", type="category", categories=("car", "house", "5")),
    Column(name="grade", type="category", categories=(1, 2, 5), out_of_range="other"),
    Column(name="owner", type="category", categories=(False, True), missing="fill", fill=1.0),
    Column(name="dose", minimum=0.0, maximum=10.0, missing="model"),
    Column(name="kind", type="category", categories=("a", "b"), missing="model"),
)
CATEGORICAL = MANIFEST.model_copy(update={"columns": CATEGORIES})
APPLICANT = {"purpose": "house", "grade": 2, "owner": True, "dose": 1.5, "kind": "b"}


def test_categories_become_their_positions() -> None:
    """In the manifest's order, from any usual table."""
    table = pd.DataFrame([APPLICANT, APPLICANT | {"purpose": "car", "grade": 5, "owner": False, "kind": "a"}])
    wanted = [[1.0, 1.0, 1.0, 1.5, 1.0], [0.0, 2.0, 0.0, 1.5, 0.0]]
    for given in (
        table,
        table.astype({"purpose": "category", "kind": "category"}),
        table.to_dict("records"),
        {name: table[name].to_numpy() for name in table},
        table.to_numpy(),
    ):
        np.testing.assert_array_equal(frames.matrix(given, CATEGORICAL.columns), wanted)


@pytest.mark.parametrize(
    ("column", "value", "position"),
    [
        pytest.param("grade", "2", 1.0, id="a number as text, from a file"),
        pytest.param("grade", "2.0", 1.0, id="with a point"),
        pytest.param("grade", 2.0, 1.0, id="as a double"),
        pytest.param("grade", np.int64(5), 2.0, id="numpy's"),
        pytest.param("grade", Decimal(5), 2.0, id="a database's"),
        pytest.param("grade", 3, 3.0, id="another number"),
        pytest.param("grade", "three", 3.0, id="text among numbers"),
        pytest.param("grade", "nan", 3.0, id="a word that reads like no number"),
        pytest.param("grade", [1], 3.0, id="no value at all"),
        pytest.param("purpose", "5", 2.0, id="a digit that is text"),
        pytest.param("owner", np.bool_(False), 0.0, id="a truth"),
        pytest.param("owner", 0, 0.0, id="a truth as a number"),
        pytest.param("owner", None, 1.0, id="missing, filled in"),
        pytest.param("owner", np.nan, 1.0, id="NaN, filled in"),
        pytest.param("owner", pd.NA, 1.0, id="NA, filled in"),
        pytest.param("dose", None, np.nan, id="a number that the model takes as missing"),
        pytest.param("kind", np.nan, np.nan, id="a category that the model takes as missing"),
    ],
)
def test_a_category_is_found_however_it_is_written(column: str, value: Any, position: float) -> None:
    """By its value; what is none of them gets the place past the last, where the manifest lets the model take it."""
    got = frames.matrix([APPLICANT | {column: value}], CATEGORICAL.columns)[0]
    np.testing.assert_array_equal(got[[each.name for each in CATEGORIES].index(column)], position)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        pytest.param("purpose", "boat", r"none of the model's categories, 'car', 'house', '5'", id="another"),
        pytest.param("purpose", "Car", "none of", id="another case"),
        pytest.param("purpose", " car", "none of", id="white space"),
        pytest.param("purpose", 5, "none of", id="a number for text"),
        pytest.param("purpose", 1.0, "none of", id="a position for text"),
        pytest.param("purpose", "", "none of", id="empty text"),
        pytest.param("purpose", None, "missing", id="missing without a rule"),
        pytest.param("grade", None, "missing", id="missing, though others are taken"),
        pytest.param("owner", "yes", "none of", id="a word for a truth"),
        pytest.param("owner", 2, "none of", id="a number that is no truth"),
        pytest.param("dose", "1", "got str", id="text for a number"),
    ],
)
def test_a_category_that_is_none_is_refused_with_its_place(column: str, value: Any, says: str) -> None:
    """The error shows what the model knows and never what was given."""
    with pytest.raises(InputError, match=says) as caught:
        frames.matrix([APPLICANT, APPLICANT | {column: value}], CATEGORICAL.columns)
    assert (caught.value.column, caught.value.row) == (column, 1)
    assert "boat" not in str(caught.value)


def test_a_long_list_of_categories_is_cut_in_a_message() -> None:
    """Eight of them, and a sign that there are more."""
    many = Column(name="c", type="category", categories=tuple(f"v{number}" for number in range(1000)))
    with pytest.raises(InputError, match="'v7', …") as caught:
        frames.matrix([{"c": "w"}], [many])
    assert "v8" not in str(caught.value)


def test_what_the_frames_give_is_not_read_twice() -> None:
    """Positions are no categories: a second reading would refuse them, or take one category for another."""
    rows = frames.matrix([APPLICANT], CATEGORICAL.columns)
    with pytest.raises(InputError, match="none of"):
        frames.matrix(rows, CATEGORICAL.columns)

"""Public bins: a transformer like scikit-learn's own, whose edges say something of the columns and nothing of a model."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from blindgate_models.compilers.estimators import load_estimator
from blindgate_models.public_bins import PublicBins

ROWS = np.random.default_rng(0).normal(size=(500, 3))


def test_it_is_an_estimator_by_scikit_learns_own_checks() -> None:
    """Cloning, pickling, names of columns, errors on what is not fitted, keywords X and y."""
    results = check_estimator(PublicBins(), on_fail=None, on_skip=None)
    failed = [f"{result['check_name']}: {result['exception']}" for result in results if result["status"] == "failed"]
    assert not failed
    assert len(results) > 30


@pytest.mark.parametrize("bins", [2, 3, 16, 100])
def test_bins_hold_as_many_rows_each_as_ties_allow(bins: int) -> None:
    """Quantiles of the training rows, each a value that occurs: no empty bin, none twice as full as another."""
    fitted = PublicBins(bins).fit(ROWS)
    codes = fitted.transform(ROWS)
    for column in range(3):
        counts = np.bincount(codes[:, column].astype(int))
        assert len(counts) == bins
        assert counts.min() >= len(ROWS) // bins - 1
        assert counts.max() <= -(-len(ROWS) // bins) + 1
        assert set(fitted.edges_[column]) <= set(ROWS[:, column])


def test_a_value_counts_the_edges_that_it_reaches() -> None:
    """At an edge it is reached; just below it is not; far outside there are the first and last bins."""
    fitted = PublicBins(4).fit(ROWS)
    edges = fitted.edges_[0]
    probes = np.concatenate([edges, np.nextafter(edges, -np.inf), [-1e300, 1e300]])
    codes = fitted.transform(np.column_stack([probes, np.zeros((len(probes), 2))]))[:, 0]
    np.testing.assert_array_equal(codes, [*range(1, 4), *range(3), 0, 3])


def test_a_column_of_few_values_is_cut_between_all_of_them() -> None:
    """Counts and flags keep every distinction, also where one value is nearly all of the rows."""
    rows = np.array([[0.0, 7.0]] * 97 + [[1.0, 7.0], [2.0, 7.0], [5.0, 7.0]])
    fitted = PublicBins(8).fit(rows)
    assert [edges.tolist() for edges in fitted.edges_] == [[1.0, 2.0, 5.0], []]
    np.testing.assert_array_equal(np.unique(fitted.transform(rows)[:, 0]), [0, 1, 2, 3])
    assert all((np.diff(edges) > 0).all() for edges in PublicBins(3).fit(rows).edges_)


def test_missing_values_stay_missing_and_move_no_edge() -> None:
    """A column without any value is a column without edges."""
    holed = ROWS.copy()
    holed[::3, 0] = np.nan
    holed[:, 2] = np.nan
    fitted = PublicBins(4).fit(holed)
    np.testing.assert_array_equal(fitted.edges_[0], PublicBins(4).fit(ROWS[np.arange(500) % 3 != 0]).edges_[0])
    codes = fitted.transform(holed)
    np.testing.assert_array_equal(np.isnan(codes), np.isnan(holed))
    assert len(fitted.edges_[2]) == 0


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param([["a", "b", "c"]], "could not convert", id="text"),
        pytest.param([[1.0, np.inf, 0.0]], "infinity", id="infinite"),
        pytest.param([1.0, 2.0, 3.0], "2D", id="one dimension"),
        pytest.param(np.zeros((0, 3)), "minimum of 1", id="no rows"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(rows: object, says: str) -> None:
    """In scikit-learn's own words."""
    with pytest.raises(ValueError, match=says):
        PublicBins().fit(rows)


@pytest.mark.parametrize("bins", [1, 0, -3])
def test_fewer_than_two_bins_are_refused(bins: int) -> None:
    """One bin asks nothing."""
    with pytest.raises(ValueError, match=f"bins: got {bins}"):
        PublicBins(bins).fit(ROWS)


def test_nothing_is_cut_before_it_is_fitted() -> None:
    """And a clone is not fitted."""
    with pytest.raises(NotFittedError):
        PublicBins().transform(ROWS)
    again = clone(PublicBins(5).fit(ROWS))
    assert again.bins == 5
    with pytest.raises(NotFittedError):
        again.transform(ROWS)


def test_it_is_pickled_and_named_like_any_step() -> None:
    """What comes back cuts alike; columns keep their names."""
    table = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    fitted = PublicBins(4).fit(table)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(table), fitted.transform(table))
    assert fitted.get_feature_names_out().tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(table.rename(columns={"a": "z"}))


def test_a_pipeline_with_bins_travels_as_a_harmless_file(tmp_path: Path) -> None:
    """Saved by skops and loaded without trusting anything else: the same answers."""
    dump = pytest.importorskip("skops.io", reason="the extra `compile` is not installed").dump
    target = ROWS[:, 0] > 0
    model = make_pipeline(PublicBins(4), LogisticRegression()).fit(ROWS, target)
    dump(model, tmp_path / "model.skops")
    loaded = load_estimator(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded.predict_proba(ROWS), model.predict_proba(ROWS))

"""Steps in front of a model, found out by asking them: which column each number is of, and steps that mix columns are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder, PolynomialFeatures, StandardScaler

from blindgate_models.compilers.pipelines import Steps, read_affine, read_steps, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.public_bins import PublicBins

MIX = np.random.default_rng(4).normal(size=(4, 3))


def steps_of(step: Any, table: pd.DataFrame) -> Steps:
    """A fitted step in front of a model, with the table as calibration rows."""
    answers = np.arange(len(table)) % 2
    model = make_pipeline(step, LogisticRegression(max_iter=9000)).fit(table, answers)
    return split(model, Prepared.given(model, table, None))[0]


def numbers(columns: int, rows: int = 60, seed: int = 0) -> pd.DataFrame:
    """Random numbers, columns by name."""
    drawn = np.random.default_rng(seed).normal(size=(rows, columns))
    return pd.DataFrame(drawn, columns=[f"c{number}" for number in range(columns)])


@settings(max_examples=30)
@given(columns=st.integers(1, 70), data=st.data())
def test_every_number_is_found_at_its_column(columns: int, data: st.DataObject) -> None:
    """Columns in any order, some twice, some left out; a constant between them."""
    chosen = data.draw(st.lists(st.integers(-1, columns - 1), min_size=1, max_size=90))
    factors = np.random.default_rng(1).normal(size=len(chosen)) + 3

    def pick(rows: Any) -> Any:
        given = np.asarray(rows)
        return np.stack(
            [given[:, c] * f + f if c >= 0 else np.full(len(given), f) for c, f in zip(chosen, factors, strict=True)],
            axis=1,
        )

    found = read_steps(steps_of(FunctionTransformer(pick), numbers(columns)))
    assert [output.column for output in found] == chosen
    for output, factor in zip(found, factors, strict=True):
        assert output.offset == pytest.approx(factor)
        assert output.slope == pytest.approx(factor if output.column >= 0 else 0)


def test_categories_numbers_and_bins_side_by_side() -> None:
    """Each output of an encoder changes at one category only, and none at the first row's own."""
    table = numbers(5).assign(purpose=list("abc") * 20, grade=["x", "y"] * 30, wide=np.arange(60) % 7)
    step = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["grade", "purpose"]),
        (StandardScaler(), ["c4", "c0"]),
        (PublicBins(4), ["c2"]),
    )
    steps = steps_of(step, table)
    found = read_steps(steps)
    names = [steps.prepared.names[output.column] for output in found]
    assert names == ["grade"] * 2 + ["purpose"] * 3 + ["c4", "c0", "c2"]
    assert [output.table is not None for output in found] == [True] * 5 + [False] * 3
    assert [output.affine for output in found] == [True] * 7 + [False]
    np.testing.assert_array_equal([output.table[:3] for output in found[2:5] if output.table is not None], np.eye(3))


def together(rows: Any, function: Callable[[Any, Any], Any]) -> Any:
    """Two columns made one, behind all of them."""
    given = np.asarray(rows)
    return np.concatenate([given, function(given[:, 0], given[:, 2])[:, None]], axis=1)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(PCA(2), id="PCA"),
        pytest.param(Normalizer(), id="rows to one length"),
        pytest.param(PolynomialFeatures(2), id="products of columns"),
        pytest.param(FunctionTransformer(together, kw_args={"function": np.add}), id="a sum"),
        pytest.param(FunctionTransformer(together, kw_args={"function": np.maximum}), id="the larger one"),
        pytest.param(
            FunctionTransformer(together, kw_args={"function": lambda a, b: (a > 0) & (b > 0)}), id="both positive"
        ),
        pytest.param(
            FunctionTransformer(together, kw_args={"function": lambda a, b: (a > 0) ^ (b > 0)}), id="one positive"
        ),
        pytest.param(
            FunctionTransformer(together, kw_args={"function": lambda a, b: np.where(b > 3, a, 0.0)}),
            id="one if another",
        ),
    ],
)
@pytest.mark.parametrize("columns", [3, 4, 33])
def test_steps_that_mix_columns_are_refused(step: Any, columns: int) -> None:
    """Whatever the rule is, and wherever the two columns stand."""
    with pytest.raises(TypeError, match="do not keep the columns apart"):
        read_steps(steps_of(step, numbers(columns)))


@pytest.mark.parametrize(
    "step",
    [
        PCA(3),
        PCA(2, whiten=True),
        make_pipeline(StandardScaler(), PCA(2)),
        FunctionTransformer(lambda rows: np.asarray(rows) @ MIX),
    ],
)
def test_weighted_sums_of_columns_are_read_for_models_that_take_them(step: Any) -> None:
    """A principal component is one; what they are is what the steps give, on rows that they were not read from."""
    steps = steps_of(step, numbers(4))
    features, factors, constants = read_affine(steps)
    asked = np.random.default_rng(3).normal(size=(50, 4))
    assert [feature.column for feature in features] == [0, 1, 2, 3]
    np.testing.assert_allclose(asked @ factors.T + constants, steps(asked), atol=1e-8)


def test_principal_components_of_thousands_of_columns_are_read() -> None:
    """As of gene expressions, say."""
    steps = steps_of(PCA(2), numbers(3000, rows=10))
    _, factors, constants = read_affine(steps)
    asked = np.random.default_rng(3).normal(size=(5, 3000))
    np.testing.assert_allclose(asked @ factors.T + constants, steps(asked), atol=1e-6)


@pytest.mark.parametrize(
    "step",
    [
        PolynomialFeatures(2),
        Normalizer(),
        FunctionTransformer(together, kw_args={"function": np.maximum}),
        FunctionTransformer(together, kw_args={"function": lambda a, b: np.where(b > 3, a, 0.0)}),
    ],
)
def test_what_is_no_weighted_sum_is_refused_for_them_too(step: Any) -> None:
    """Also one that is a sum on every row that is at hand."""
    with pytest.raises(TypeError, match="do not keep the columns apart"):
        read_affine(steps_of(step, numbers(4)))


def test_thousands_of_columns_take_a_moment() -> None:
    """All are asked at once, digit by digit of their numbers; one at a time would take minutes."""
    asked: list[int] = []

    def count(rows: Any) -> Any:
        asked.append(len(rows))
        return rows

    steps = steps_of(FunctionTransformer(count), numbers(2000, rows=10))
    asked.clear()
    found = read_steps(steps)
    assert [output.column for output in found] == list(range(2000))
    assert sum(asked) < 66 * 22 + 100

"""How exact a number is that trees or tables add up to: a share of what there is to tell apart, wherever that lies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.compilers.trees import compile_trees
from blindgate_models.public_bins import PublicBins

ROWS, ANSWERS = load_diabetes(return_X_y=True)

FAMILIES = pytest.mark.parametrize(
    "compiler",
    [
        pytest.param(compile_trees, id="trees"),
        pytest.param(compile_trees_batch, id="trees-batch"),
        pytest.param(compile_additive, id="additive"),
    ],
)


@FAMILIES
@pytest.mark.parametrize("scale", [1e-13, 1e-6, 1.0, 1e9, 1e25])
def test_numbers_of_any_magnitude_have_a_scale(compiler: Callable[..., CompiledModel], scale: float) -> None:
    """Amounts in cents or in billions: the error is a share of the numbers' spread."""
    model = make_pipeline(PublicBins(4), DecisionTreeRegressor(max_depth=2, max_leaf_nodes=3))
    model.fit(ROWS, ANSWERS * scale)
    report = compiler(model, ROWS).report
    assert report["max_error"] <= 1e-3 * np.ptp(ANSWERS) * scale
    assert report["agreement_plain"] == 1.0


@FAMILIES
def test_numbers_far_from_zero_are_still_told_apart(compiler: Callable[..., CompiledModel]) -> None:
    """A share of 300,000 would be more than all that the model says: what counts is how far the numbers spread."""
    model = GradientBoostingRegressor(n_estimators=5, max_depth=2, random_state=0).fit(ROWS, 3e5 + ANSWERS)
    report = compiler(model, ROWS).report
    assert report["max_error"] <= 1e-3 * np.ptp(model.predict(ROWS))
    assert report["agreement_plain"] == 1.0


@pytest.mark.parametrize("compiler", [compile_trees, compile_additive])
def test_a_number_that_never_changes_agrees_with_itself(compiler: Callable[..., CompiledModel]) -> None:
    """There is no spread to be a share of: the number itself is."""
    model = make_pipeline(PublicBins(4), DecisionTreeRegressor(max_depth=1)).fit(ROWS, np.full(len(ROWS), 7.1))
    assert compiler(model, ROWS).report["agreement_plain"] == 1.0


@pytest.mark.parametrize(("compiler", "most"), [(compile_trees, 256), (compile_trees_batch, 64)])
def test_more_classes_than_a_family_takes_are_refused_in_words(compiler: Any, most: int) -> None:
    """With their number and the most that there may be."""
    rows = np.arange(900.0)[:, None]
    model = DecisionTreeClassifier(max_depth=10).fit(rows, np.arange(900) // 3)
    with pytest.raises(ValueError, match=f"300 classes, expected at most {most}"):
        compiler(model, rows)

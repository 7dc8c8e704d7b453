"""Tables of hundreds of thousands of cells: explainable boosting machines as they come, through both halves of the family.

Only rounds and bags are fewer than InterpretML's own settings, to be fitted in a second; bins, bins of pairs and pairs are those.
"""

import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("interpret", reason="only tests read InterpretML's models")

from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

import campaigns
from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.additive.spec import Pair, client_part, inputs_of, server_part
from blindgate_models.bits import Questions
from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.estimators import choose_family
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.shapes import summed
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.package import parse_part, serialise_part

Floats = NDArray[np.float64]

QUICK: dict[str, Any] = {"max_rounds": 60, "outer_bags": 1, "random_state": 0, "n_jobs": 1}


class Served(NamedTuple):
    """A compiled model, and the held-out rows as its client gives them."""

    model: Any
    compiled: CompiledModel
    rows: Floats
    table: Any


def served(model: Any, table: pd.DataFrame, target: Any) -> Served:
    """Fit and compile on every other row, hold the rest out, cut off at the declared ranges as a client cuts them off."""
    model.fit(table[::2], target[::2])
    compiled = compile_additive(model, table[::2])
    whole = Prepared.of(model, table, {})
    rows = whole.rows[1::2].copy()
    for position, column in enumerate(compiled.columns):
        if column["type"] != "category":
            rows[:, position] = np.clip(rows[:, position], column["minimum"], column["maximum"])
    return Served(model, compiled, rows, whole.ask(rows))


def in_clear(compiled: CompiledModel, rows: Floats) -> Floats:
    """The sums of the parts' integers, scaled: what decryption has to give bit for bit."""
    client, server = client_part(compiled.client), server_part(compiled.server)
    weights, constants = np.array(server.weights), np.array(server.constants)
    parts = [inputs_of(client.questions, client.pairs, row[None]) @ weights.T + constants for row in rows]
    return np.asarray(np.ldexp(np.concatenate(parts).astype(np.float64), -client.scale_bits))


def encrypted(compiled: CompiledModel, rows: Floats) -> Floats:
    """Through both halves, as they come out of a package."""
    asker = AdditiveClient.from_part(parse_part(serialise_part(compiled.client)))
    node = AdditiveServer.from_part(parse_part(serialise_part(compiled.server)))
    secret = asker.make_keys().secret
    parts = []
    for start in range(0, len(rows), asker.rows_at_once):
        some = rows[start : start + asker.rows_at_once]
        parts.append(asker.decrypt(secret, node.evaluate(None, asker.encrypt(secret, some)), len(some)))
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def cancer() -> Served:
    """Thirty columns, ninety pairs."""
    frame = load_breast_cancer(as_frame=True)
    return served(ExplainableBoostingClassifier(**QUICK), frame.data, frame.target.to_numpy())


def test_an_explainable_boosting_machine_compiles_with_its_own_bins_and_pairs(cancer: Served) -> None:
    """Held-out rows under encryption have the class in the clear; scores exact to the bit; a few megabytes up."""
    client = client_part(cancer.compiled.client)
    assert choose_family(cancer.model) == "additive"
    assert len(client.pairs) == 90
    assert client.inputs > 300_000
    asked = campaigns.of(26, slice_of=5)
    got = encrypted(cancer.compiled, cancer.rows[:asked])
    np.testing.assert_array_equal(got, in_clear(cancer.compiled, cancer.rows[:asked]))
    np.testing.assert_array_equal(
        np.asarray(cancer.compiled.labels)[(got[:, 0] > 0).astype(int)], cancer.model.predict(cancer.table[:asked])
    )
    clear, own = in_clear(cancer.compiled, cancer.rows)[:, 0], cancer.model.decision_function(cancer.table)
    assert np.abs(clear - own).max() <= client.error_bound + 1e-6
    assert ((clear > 0) == (own > 0)).all()
    assert AdditiveClient(client).input_bytes(1) < 5_000_000
    assert (cancer.compiled.privacy.bits or 0) >= 40


def test_what_its_edges_tell_of_training_rows_is_said(cancer: Served) -> None:
    """With a bin for each value the public edges lie between any two values of a training column."""
    told = cancer.compiled.discloses["to_client"]
    assert "between values of the training rows" in told[0]
    assert "which pairs of columns act together" in told


def test_a_batch_of_it_is_refused_before_a_tree_is_made(cancer: Served) -> None:
    """With the limits, and the family that takes it."""
    started = time.process_time()
    with pytest.raises(ValueError, match=r"products of bits, expected at most 4096 bits.*family 'additive' takes more"):
        compile_trees_batch(cancer.model, cancer.table)
    assert time.process_time() - started < 5


@pytest.mark.filterwarnings("ignore:Missing values detected")
def test_categories_and_gaps_act_together_as_well() -> None:
    """In pairs of any two kinds of column."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"c": rng.choice(["a", "b", "c"], 600), "d": rng.choice(["x", "y"], 600)})
    table["n"], table["m"] = rng.normal(size=600), rng.normal(size=600)
    table.loc[rng.random(600) < 0.2, "m"] = np.nan
    target = ((table["c"] == "b") ^ (table["n"] > 0)) | (table["m"].isna() & (table["d"] == "x"))
    it = served(ExplainableBoostingClassifier(interactions=6, **QUICK), table, target.to_numpy())
    assert len(client_part(it.compiled.client).pairs) == 6
    got = encrypted(it.compiled, it.rows)
    np.testing.assert_array_equal(got, in_clear(it.compiled, it.rows))
    np.testing.assert_array_equal(got[:, 0] > 0, it.model.predict(it.table))


@pytest.mark.filterwarnings("ignore:.*interactions")
def test_numbers_and_several_classes_have_tables_of_their_own() -> None:
    """A regression within the bound that the part states; three classes, each with a score."""
    frame = load_diabetes(as_frame=True)
    it = served(ExplainableBoostingRegressor(**QUICK), frame.data, frame.target.to_numpy())
    assert client_part(it.compiled.client).inputs > 1 << 16
    asked = campaigns.of(40, slice_of=8)
    got = encrypted(it.compiled, it.rows[:asked])
    np.testing.assert_array_equal(got, in_clear(it.compiled, it.rows[:asked]))
    assert np.abs(got[:, 0] - it.model.predict(it.table[:asked])).max() <= it.compiled.client["error_bound"] + 1e-4
    flowers = load_iris(as_frame=True)
    it = served(ExplainableBoostingClassifier(**QUICK), flowers.data, flowers.target.to_numpy())
    got = encrypted(it.compiled, it.rows)
    np.testing.assert_array_equal(got.argmax(axis=1), it.model.predict(it.table))


def test_a_pair_with_a_column_that_is_never_cut_is_a_function_of_the_other() -> None:
    """A constant column has one cell, and nothing to ask."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "b": np.zeros(200)})
    target = table["a"] > 0
    it = served(ExplainableBoostingClassifier(interactions=[(0, 1)], **QUICK), table, target.to_numpy())
    assert it.compiled.client["pairs"] == []
    np.testing.assert_array_equal(encrypted(it.compiled, it.rows)[:, 0] > 0, it.model.predict(it.table))


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_sums_pair_by_pair_are_the_sums_of_all_products(kind: Any) -> None:
    """Gaps and rows past one portion included."""
    rng = np.random.default_rng(0)
    first = [Questions(column=0, kind="at_least", values=[-1.0, 0.0, 1.0])]
    second = [
        Questions(column=1, kind="is", values=[0.0, 1.0]),
        Questions(column=1, kind="is_missing", values=[]),
    ]
    pairs = [Pair(first=first, second=second), Pair(first=second, second=first)]
    rows = np.column_stack([rng.normal(size=3000), rng.integers(3, size=3000).astype(np.float64)])
    rows[rng.random(3000) < 0.3, 1] = np.nan
    weights = rng.integers(-(1 << 39), 1 << 39, (24, 2)).astype(kind)
    expected = inputs_of([*first, *second], pairs, rows) @ weights
    np.testing.assert_array_equal(summed([*first, *second], pairs, rows, weights), expected)

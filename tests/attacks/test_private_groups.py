"""What hides which groups of a category's values a private forest asks for: the same attacks as on its other questions.

A group is one condition, with one multiplier. See `test_private_forest`.
"""

import itertools
import os
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from blindgate_models.compilers.trees import compile_trees
from blindgate_models.package import serialise_part
from blindgate_models.product.spec import Need, Parameters, choose
from blindgate_models.trees.server import TreesServer
from blindgate_protocol.errors import PackageError
from private_forests import PrivateForest, Summed, one_sum, private_forest

CAMPAIGN = int(os.environ.get("BLINDGATE_CAMPAIGN", "1"))
UNLIKELY = 1e-8
"""How often chance alone may fail one check, of a hundred in each run. What leaks does so everywhere, and is far less likely."""
SMALL_MODULUS = 8
"""Bits of a plain modulus at which what happens once in t replies happens often."""

GROUPED = ((0, 1, 2), (1, 3), (2, 3, 4, 5))
"""Some of ten bits."""


@pytest.fixture(scope="module", params=[[251], [11, 13]], ids=["a flag a number", "two flags a number"])
def grouped(request: pytest.FixtureRequest) -> PrivateForest:
    """Six trees of depth 3 over ten bits and three groups of the first six."""
    return one_sum(6, 3, 10, seed=2, flag_moduli=request.param, groups=GROUPED)


def one_hot(rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Rows of ten bits, at most one of the first six a 1."""
    bits = rng.integers(0, 2, (rows, 10))
    bits[:, :6] = np.eye(7, 6, dtype=np.int64)[rng.integers(0, 7, rows)]
    return bits


def test_a_group_is_one_condition(grouped: PrivateForest) -> None:
    """Every category, and none of them: one leaf a tree answers, and the scores are the forest's."""
    bits = one_hot(np.random.default_rng(0), 60)
    result = grouped.server.evaluate(None, grouped.encrypt(bits))
    np.testing.assert_array_equal((grouped.raw(result, 60)[0][:, 0] == 0).sum(axis=1), 6)
    expected = grouped.expected(bits)
    assert len(np.unique(expected)) > 10
    got = grouped.client.decrypt(grouped.secret, result, 60)
    np.testing.assert_array_equal((got - expected) % grouped.modulus, 0)


def test_a_group_has_one_multiplier_and_shares_it_with_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """For flag and value: the same number at each of its bits, and at others one that has nothing to do with it."""
    leaves = [
        {"bits": [10, 11, 9], "wanted": list(wanted), "value": [0]} for wanted in itertools.product((0, 1), repeat=3)
    ]
    groups = ((0, 1, 2), (3, 4, 5))
    it = private_forest([Summed([leaves], [0], [0])], 10, plain_bits=SMALL_MODULUS, groups=groups)
    modulus, server = it.modulus, it.server
    seen: list[tuple[NDArray[np.int64], ...]] = []
    encode = server._product.sparse_multipliers

    def watched(*given: NDArray[np.int64]) -> Any:
        seen.append(given)
        return encode(*given)

    monkeypatch.setattr(server._product, "sparse_multipliers", watched)
    drawn = []
    for _ in range(40 * CAMPAIGN):
        server.draw()
        where, bits, numbers = seen.pop()
        rows = np.zeros((16, 10), dtype=np.int64)  # eight flags and eight values
        np.add.at(rows, (where, bits), numbers % modulus)
        drawn.append(rows)
    rows = np.concatenate(drawn)
    for group in groups:
        assert (rows[:, group] == rows[:, group[:1]]).all()
    for one, other in ((0, 3), (0, 9), (3, 9)):
        for sign in (1, -1):
            like = (rows[:, one] - sign * rows[:, other]) % modulus == 0
            assert stats.binomtest(int(like.sum()), len(like), 1 / modulus).pvalue > UNLIKELY
    values = rows.reshape(-1, 16, 10)[:, 8:, 0]
    assert len(np.unique(values)) > 0.5 * modulus  # r' is any number, another one at each leaf


def test_bits_of_two_categories_at_once_make_no_two_leaves_of_a_tree_answer(grouped: PrivateForest) -> None:
    """A sum of 2 is neither in the group nor outside of it: then no leaf fits, and what the others add up to is noise."""
    bits = np.array(list(itertools.product((0, 1), repeat=10)))[::5]
    result = grouped.server.evaluate(None, grouped.encrypt(bits))
    flags = grouped.raw(result, len(bits))[0][:, 0]
    contradict = bits[:, :6].sum(axis=1) > 1
    np.testing.assert_array_equal((flags[~contradict] == 0).sum(axis=1), 6)
    # Beside leaves that fit, chance finds zeros modulo 251 or 11: more than so many of the 42, in one of 183 rows, once in 10^9.
    most = 6 + (7 if min(grouped.flag_moduli) > 100 else 24)
    assert (flags[contradict] == 0).sum(axis=1).max() <= most
    assert (flags[contradict] == 0).sum(axis=1).min() < 6


def test_lengths_parameters_and_draws_tell_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forests, one of which asks for a small group and the other for the largest there may be: all the same."""
    table = pd.DataFrame({"town": [f"t{number:02}" for number in range(12)] * 20})
    codes = np.arange(240) % 12
    coded = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    few, many = (make_pipeline(coded, DecisionTreeClassifier(max_depth=1)).fit(table, codes >= cut) for cut in (2, 6))
    needs: list[Need] = []

    def watched(need: Need, **given: Any) -> Parameters:
        needs.append(need)
        return choose(need, **given)

    monkeypatch.setattr("blindgate_models.compilers.trees.choose", watched)
    first, second = compile_trees(few, table), compile_trees(many, table)
    assert needs[0] == needs[1]
    assert [len(group) for group in first.server["groups"]] == [3]
    assert [len(group) for group in second.server["groups"]] == [6]
    assert first.client["parameters"] == second.client["parameters"]
    assert first.client["questions"] == second.client["questions"]
    assert first.privacy == second.privacy
    assert [part["members"] for part in (first.server, second.server)] == [6, 6]
    assert len(serialise_part(first.server)) == len(serialise_part(second.server))
    drawn = []
    for compiled in (first, second):
        node = TreesServer.from_part(compiled.server)
        monkeypatch.setattr(
            node._product, "sparse_multipliers", lambda *given: drawn.append([len(each) for each in given])
        )
        node.draw()
    assert drawn[0] == drawn[1]


def test_a_node_reckons_with_as_many_bits_as_a_group_may_have() -> None:
    """A part whose parameters were chosen for fewer is refused when it is loaded, whatever its own groups are."""
    it = one_sum(6, 3, 10, plain_bits=20, groups=GROUPED)
    TreesServer.from_part(it.parts[1])
    with pytest.raises(PackageError, match="parameters: "):
        TreesServer.from_part(it.parts[1] | {"members": 4096})

"""What a category is asked, whatever the forest asks; and what a tree's question becomes."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.bits import Questions
from blindgate_models.compilers.category_questions import Condition, ask_category

TABLES = [
    pytest.param(4, np.eye(4), False, "is", 4, 1, id="one-hot"),
    pytest.param(4, np.eye(4, 5), True, "is", 4, 1, id="one-hot that takes others"),
    pytest.param(4, np.eye(4)[1:], False, "is", 4, 1, id="one-hot without the first"),
    pytest.param(3, [[0, 1, 2]], False, "is", 3, 1, id="three codes, of which either end is one"),
    pytest.param(5, [[0, 1, 2, 3, 4]], False, "at_least", 4, 1, id="ordinal"),
    pytest.param(5, [[4, 3, 2, 1, 0]], False, "at_least", 4, 1, id="ordinal, the other way around"),
    pytest.param(5, [[0, 1, 2, 3, 4, 9]], True, "at_least", 5, 1, id="ordinal, others last"),
    pytest.param(5, [[0, 1, 2, 3, 4, -1]], True, "is", 6, 3, id="ordinal, others first"),
    pytest.param(5, [[0.3, 0.1, 0.7, 0.2, 0.5]], False, "is", 5, 2, id="by the target"),
    pytest.param(5, [[0.3, 0.1, 0.7, 0.2, 0.5, 0.4]], True, "is", 6, 3, id="by the target, others at the mean"),
    pytest.param(5, [[1, 1, 0, 0, 0, 1]], True, "is", 6, 3, id="rare ones together, with others"),
    pytest.param(3, [[0, 0, 0]], False, "is", 3, 1, id="always the same"),
    pytest.param(3, np.zeros((0, 3)), False, "is", 3, 1, id="not read"),
    pytest.param(1, [[0, 1]], True, "is", 1, 1, id="a single category, and others"),
    pytest.param(2, [[0, 0, 1]], True, "at_least", 2, 1, id="all categories against others"),
]


@pytest.mark.parametrize(("categories", "tables", "others", "kind", "bits", "members"), TABLES)
def test_questions_follow_from_what_the_steps_give(  # noqa: PLR0917  (a case, and what is expected of it)
    categories: int, tables: NDArray[np.float64], others: bool, kind: str, bits: int, members: int
) -> None:
    """And any comparison with that is one condition over those bits, of as many as may be."""
    given = [np.asarray(table, dtype=np.float64) for table in tables]
    asked = ask_category(categories, given, others=others)
    assert (asked.kind, len(asked.values), asked.members) == (kind, bits, members)
    positions = np.arange(categories + others, dtype=np.float64)
    bits_of = dict(
        zip(asked.values, Questions(column=0, kind=asked.kind, values=asked.values).answer(positions).T, strict=True)
    )
    for table, threshold in itertools.product(given, np.unique(np.ravel(given)) - 0.05):
        right = table > threshold
        condition = asked.condition(0, right)
        if not isinstance(condition, Condition):
            assert (right == condition).all()
            continue
        assert len(condition.values) <= members
        total = sum(bits_of[value].astype(int) for value in condition.values)
        np.testing.assert_array_equal(total, (right == condition.right).astype(int))

"""What is asked of a category, and what that makes of a tree's question about it.

Questions are public, so they follow from the steps in front of the forest and never from what the forest asks. The steps give a
number for each value, and whatever a tree compares it with, it cuts the values in two. What is asked depends on the possible cuts:

- one value against all others, as of OneHotEncoder's numbers: whether it `is` each value;
- at a place in the list, as of an OrdinalEncoder's: whether it is `at_least` at each;
- anything else, a split by category among them, parts a *group* of values from the rest: whether it `is` each value, and where the
  column takes others, none of them. One bit of these is 1, so the sum of a group's bits is a bit. Of group and rest the smaller one
  is asked for, which has at most half of the positions, and parameters are chosen for so many.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Condition(NamedTuple):
    """Bits by what they answer, and what sends a row right: that one of them is 1, or that none is.

    Attributes:
        column: which is asked.
        kind: of the questions.
        values: what a bit answers, or each bit of a group.
        right: whether a 1 goes right.
    """

    column: int
    kind: str
    values: tuple[float, ...]
    right: bool


class AskedCategory(NamedTuple):
    """What is asked of a column of categories.

    Attributes:
        kind: one of the two.
        values: positions.
        missing: whether it `is_missing` is asked as well.
        members: how many bits a condition may have at most, whatever is asked.
    """

    kind: Literal["is", "at_least"]
    values: list[float]
    members: int
    missing: bool = False

    def condition(self, column: int, right: NDArray[np.bool_]) -> Condition | bool:
        """What sends a value right, given for each position whether it goes there; a truth where all go one way.

        A missing value comes last. Among the condition's values NaN stands for a missing one.
        """
        if right.all() or not right.any():
            return bool(right[0])
        if self.kind == "at_least":
            first = float(np.flatnonzero(np.diff(right))[0] + 1)
            return Condition(column, self.kind, (first,), right=bool(right[-1]))
        sides = [(np.flatnonzero(right == way), way) for way in (True, False)]
        values = [*self.values, *([np.nan] if self.missing else [])]
        asked = [side for side in sides if side[0][-1] < len(values)]
        places, way = min(asked, key=lambda side: len(side[0]))
        return Condition(column, self.kind, tuple(values[place] for place in places), right=way)


def ask_category(
    categories: int, tables: Sequence[Floats], *, others: bool, native: bool = False, missing: bool = False
) -> AskedCategory:
    """What to ask of a column.

    Args:
        categories: how many there are.
        tables: for each number that depends on the column, what it is at each position; `others` have one past the last.
        others: whether a value may be none of them.
        native: whether the forest parts values as it likes, and not by what they are compared with.
        missing: whether there may be none, of a native column.
    """
    positions = categories + others
    cuts = [cut for table in tables for cut in _cuts(table)]
    if all(_parts_one(cut, categories) for cut in cuts) and not native:
        return AskedCategory("is", _places(categories), 1)
    if all(np.diff(cut).sum() == 1 for cut in cuts) and not native:
        return AskedCategory("at_least", _places(positions)[1:], 1)
    return AskedCategory("is", _places(positions), max(1, (positions + missing) // 2), missing)


def _cuts(table: Floats) -> Iterator[NDArray[np.bool_]]:
    """What may go right when the numbers of a table are compared with anything."""
    for number in np.unique(table)[1:]:
        yield table >= number


def _parts_one(cut: NDArray[np.bool_], categories: int) -> bool:
    """Whether it parts one of the categories from all else."""
    return any((cut == way).sum() == 1 and np.argmax(cut == way) < categories for way in (True, False))


def _places(count: int) -> list[float]:
    return [float(place) for place in range(count)]

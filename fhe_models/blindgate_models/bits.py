"""Public questions about a row, answered with bits on the asker's machine.

A comparison is what encryption does worst and a client does for free. So columns are cut at public edges, or asked for public
categories, and what is encrypted are the answers: one bit a question. Everything here is public: the client part holds it,
the server part only knows how many bits there are.

Questions stand in the client part in this order, column by column; a bit's number is its place in it:

- `at_least`: one bit for each edge e, x ≥ e. A missing x has none of them.
- `at_least_or_missing`: likewise, and a missing x has all of them: a model may send missing values either way.
- `is`: one bit for each listed position in the column's categories; the position past the last is a value that is none of them.
- `is_missing`: one bit.

A column of numbers whose bits are all asked is a thermometer: its bits fall from 1 to 0 at one place.

**Groups.** At most one bit that says *is* or *is_missing* about a column is 1, so the sum of some of them is a bit as well: the
value is one of these. Which groups a forest asks for is the node's secret. The client sends the bits of all positions, and the node
adds up. A condition's number is a bit's, or past the last bit a group's.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blindgate_models.parts import Strict

MAX_BITS: Final = 4096
MAX_GROUPS: Final = 1 << 13
MAX_MEMBERS: Final = 1 << 20
"""Of all groups together."""

Group: TypeAlias = Annotated[list[Annotated[int, Field(ge=0, lt=MAX_BITS)]], Field(min_length=2, max_length=MAX_BITS)]
Groups: TypeAlias = Annotated[list[Group], Field(max_length=MAX_GROUPS)]


class Questions(Strict):
    """Questions of one kind about one column.

    Attributes:
        column: its place in the table.
        kind: see above.
        values: the edges, ascending, or the positions; none for `is_missing`.
    """

    column: Annotated[int, Field(ge=0, lt=MAX_BITS)]
    kind: Literal["at_least", "at_least_or_missing", "is", "is_missing"]
    values: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=MAX_BITS)]

    @property
    def bits(self) -> int:
        """How many bits they take."""
        return 1 if self.kind == "is_missing" else len(self.values)

    def answer(self, column: NDArray[np.float64]) -> NDArray[np.bool_]:
        """The answers for a column `(n,)`: `(n, bits)`."""
        missing = np.isnan(column)[:, None]
        if self.kind == "is_missing":
            return missing
        values = np.asarray(self.values)
        if self.kind == "is":
            return np.asarray(column[:, None] == values)
        reached = np.asarray(column[:, None] >= values)
        return reached | missing if self.kind == "at_least_or_missing" else reached


def count(questions: Sequence[Questions]) -> int:
    """How many bits a row has."""
    return sum(asked.bits for asked in questions)


def answers(questions: Sequence[Questions], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """All bits of `rows`, `(n, columns)`: `(n, bits)`."""
    return np.concatenate([asked.answer(rows[:, asked.column]) for asked in questions], axis=1)


def with_groups(bits: NDArray[np.bool_], groups: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """All conditions of rows of bits `(n, bits)`: the bits, and then whether one of each group's is 1."""
    return np.concatenate([bits, *(bits[:, list(group)].any(axis=1, keepdims=True) for group in groups)], axis=1)


def check_groups(groups: Sequence[Sequence[int]], bits: int, most: int) -> None:
    """Refuse groups of other than 2 to `most` of the first `bits` bits, ascending. Raises `ValueError` naming the field."""
    for number, group in enumerate(groups):
        if len(group) > most:
            msg = f"groups.{number}: got {len(group)} bits, expected at most {most}"
            raise ValueError(msg)
        if group[-1] >= bits or any(low >= high for low, high in pairwise(group)):
            msg = f"groups.{number}: expected bits below {bits}, ascending"
            raise ValueError(msg)
    if sum(map(len, groups)) > MAX_MEMBERS:
        msg = f"groups: got {sum(map(len, groups))} bits in all, expected at most {MAX_MEMBERS}"
        raise ValueError(msg)

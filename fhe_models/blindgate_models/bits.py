"""Public questions about a row, answered with bits on the asker's machine.

A comparison is what encryption does worst and a client does for free. So columns are cut at public edges, or asked for public
categories, and what is encrypted are the answers: one bit a question. Everything here is public: the client part holds it,
the server part only knows how many bits there are.

Questions stand in the client part in this order, column by column; a bit's number is its place in it:

- `at_least`: one bit for each edge e, x ≥ e. A missing x has none of them.
- `at_least_or_missing`: likewise, and a missing x has all of them: a model may send missing values either way.
- `is`: one bit for each listed position in the column's categories.
- `is_missing`: one bit.

A column of numbers whose bits are all asked is a thermometer: its bits fall from 1 to 0 at one place.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blindgate_models.parts import Strict

MAX_BITS = 4096


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

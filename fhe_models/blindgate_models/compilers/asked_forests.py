"""A fitted ensemble as a forest over the answers to public questions, seen to be what the estimator does.

The families `trees` and `trees-batch` begin alike:

1. **Read** the ensemble (`ensembles`).
2. **Ask**: public bins where the pipeline has them, own thresholds among decoys elsewhere (`questions`).
3. **Compare** the forest over bits with the one behind its steps, on rows with gaps wherever there may be some; and its answers and
   scores with the estimator's own, of values that are none of a column's categories too. Labels alone may agree by luck where
   scores do not.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import Questions, answers
from blindgate_models.compilers.bit_forests import BitForest
from blindgate_models.compilers.ensembles import read_forest
from blindgate_models.compilers.forests import Forest
from blindgate_models.compilers.pipelines import Steps, read_steps, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.questions import Asking, ask, over_bits
from blindgate_models.compilers.raw_scores import raw_scores
from blindgate_models.compilers.reading import Plain, check_reading

Floats = NDArray[np.float64]

_ROWS_WITH_GAPS: Final = 100  # or with other categories
_CLOSE: Final = 1e-9
_CLOSE_IN_SINGLE: Final = 1e-4  # XGBoost adds up thousands of trees in float32


class AskedForest(NamedTuple):
    """A forest over bits.

    Attributes:
        forest: the trees.
        asking: what the bits answer.
        plain: its scores of the calibration rows, which are the estimator's own.
    """

    forest: BitForest
    asking: Asking
    plain: Plain


def ask_forest(estimator: Any, prepared: Prepared) -> AskedForest:
    """Steps 1 to 3.

    Raises `TypeError` on an estimator that is no ensemble, or steps that mix columns; `ValueError` on one that the reading does not
    reproduce.
    """
    steps, model = split(estimator, prepared)
    read = read_forest(model)
    asking = ask(read, steps, read_steps(steps))
    forest = over_bits(read, asking, prepared.may_miss)
    scores = forest.scores(answers(asking.questions, prepared.rows))
    _require_steps_read(read, steps, asking.questions, forest)
    plain = check_reading(estimator, prepared.table, scores, read.labels, read.link)
    if read.labels is not None:
        rows = np.concatenate([prepared.rows, *_with_others(prepared)])
        _require_scores(estimator, prepared, rows, forest.scores(answers(asking.questions, rows)))
    return AskedForest(forest, asking, plain)


def _require_steps_read(forest: Forest, steps: Steps, questions: Sequence[Questions], over_bits: BitForest) -> None:
    """Raises `TypeError` where what the steps give is not what was found out about them."""
    prepared = steps.prepared
    tables = [prepared.rows]
    for position in np.flatnonzero(prepared.may_miss):
        table = prepared.rows[:_ROWS_WITH_GAPS].copy()
        table[:, position] = np.nan
        tables.append(table)
    rows = np.concatenate(tables)
    expected = forest.scores(steps(rows))
    difference = np.abs(over_bits.scores(answers(questions, rows)) - expected)
    if not (difference <= _CLOSE * np.abs(expected).max()).all():
        missing = ", or do something with missing values: put a SimpleImputer first" if any(prepared.may_miss) else ""
        msg = f"estimator: the steps before the model ({steps.names}) do not keep the columns apart{missing}"
        raise TypeError(msg)


def _with_others(prepared: Prepared) -> Iterator[Floats]:
    """Some rows for each column that may have a value that is none of its categories, with such a one there."""
    for position, column in enumerate(prepared.columns):
        if column["out_of_range"] == "other":
            rows = prepared.rows[:_ROWS_WITH_GAPS].copy()
            rows[:, position] = len(column["categories"])
            yield rows


def _require_scores(estimator: Any, prepared: Prepared, rows: Floats, scores: Floats) -> None:
    """Raises `ValueError` where a classifier's own scores are others, though its labels may be the same."""
    own = raw_scores(estimator, prepared).score(rows)
    if own.shape != scores.shape or not (np.abs(own - scores) <= _CLOSE_IN_SINGLE * np.abs(own).max()).all():
        msg = "estimator: its scores of the calibration rows, or of other categories, are not the sum of its trees"
        raise ValueError(msg)

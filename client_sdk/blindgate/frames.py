"""Columns ↔ numbers: the caller's table becomes the matrix that the model reads, or one clear error.

Columns are matched by name, in any order; only an array and a list of lists, which have no names, are taken by position.
Everything is checked before anything is encrypted: a missing or unknown column, a type that is no number, a missing value, a
value outside the declared range or list, each by the manifest's own rule for that column. An error names the column and the row (by
position, from 0) and never the value.
"""

from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import InputError
from blindgate_protocol.manifest import Column, Output

_MOST_EXPONENT = 600.0
"""A node may answer anything: beyond some 700, exp or the rounding after it overflows."""

_SHOWN_CATEGORIES = 8
_TRUTH = {"true": True, "false": False}
_NUMBERS = (bool, int, float, Decimal, np.integer, np.floating, np.bool_)

Table = Any
"""A pandas DataFrame, a two-dimensional numpy array, a dict of columns, or a list with a dict or a list for each row."""


def matrix(table: Table, schema: Sequence[Column]) -> NDArray[np.float64]:
    """Give `table` as `(rows, columns)` float64 in the manifest's order. Raises `InputError`."""
    columns = _columns(table, schema)
    checked = [_check(column, values) for column, values in zip(schema, columns, strict=True)]
    lengths = {len(values) for values in checked}
    if len(lengths) > 1:
        message = f"the columns have different lengths: {', '.join(str(length) for length in sorted(lengths))} rows"
        raise InputError(message)
    if lengths == {0}:
        message = "the table has no rows"
        raise InputError(message)
    return np.column_stack(checked)


def probabilities(scores: NDArray[np.float64], output: Output) -> NDArray[np.float64]:
    """Turn raw scores, `(n, scores)`, into `(n, classes)` probabilities, rounded as the manifest says.

    Raises `InputError` for a model whose scores are no probabilities.
    """
    if output.task == "search":
        message = "an index gives no probabilities; use search"
        raise InputError(message)
    if output.task == "lookup":
        message = "a table of records gives no probabilities; use fetch"
        raise InputError(message)
    if output.task != "classification" or output.link == "identity":
        message = "this model gives no probabilities; use predict"
        raise InputError(message)
    if output.link == "sigmoid":
        each = _sigmoid(scores)
        proba = np.column_stack([1 - each, each]) if output.scores < len(output.labels) else each
    elif output.link == "softmax":
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        proba = shifted / shifted.sum(axis=1, keepdims=True)
    else:
        each = np.clip(scores, 0, 1)
        proba = np.column_stack([1 - each, each]) if output.scores < len(output.labels) else _shares(each)
    return np.round(proba, output.decimals)


def require_predictions(output: Output) -> None:
    """Refuse to predict by a table of records. Raises `InputError`."""
    if output.task == "lookup":
        message = "a table of records predicts nothing; use fetch"
        raise InputError(message)


def predictions(scores: NDArray[np.float64], output: Output) -> NDArray[Any]:
    """Turn raw scores, `(n, scores)`, into `(n,)` labels of the model's own type, or rounded numbers for a regression.

    Raises `InputError` for a model whose scores are neither.
    """
    require_predictions(output)
    if output.task == "regression":
        numbers = np.exp(np.minimum(scores, _MOST_EXPONENT)) if output.link == "exp" else scores
        rounded = np.round(numbers, output.decimals)
        return rounded[:, 0] if output.scores == 1 else rounded
    if output.scores < len(output.labels):
        middle = 0.5 if output.link == "probability" else 0.0
        chosen = (scores[:, 0] > middle).astype(np.intp)
    else:
        chosen = np.argmax(scores, axis=1)
    return np.asarray(output.labels)[chosen]


def _shares(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of sum 1, or of equal shares where there is nothing to share: a quantised model's probabilities do not quite add up."""
    whole = parts.sum(axis=1, keepdims=True)
    return np.divide(parts, whole, out=np.full_like(parts, 1 / parts.shape[1]), where=whole > 0)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float64)


def _columns(table: Table, schema: Sequence[Column]) -> list[Any]:
    """Give the table's columns in the schema's order, unchecked."""
    if isinstance(table, np.ma.MaskedArray):
        cells: Any = table
        return _columns(cells.tolist(), schema)  # None where masked
    if isinstance(table, np.ndarray):
        return _by_position(table, schema)
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        names = [str(name) for name in table.columns]  # as the compiler calls them: a frame without names has 0, 1, …
        _check_names(names, schema)
        position = {name: index for index, name in enumerate(names)}
        return [table.iloc[:, position[column.name]].to_numpy() for column in schema]
    if isinstance(table, Mapping):
        _check_names(list(table), schema)
        return [_listed(table[column.name]) for column in schema]
    if isinstance(table, Sequence) and not isinstance(table, str | bytes):
        return _by_rows(table, schema)
    library = type(table).__module__.partition(".")[0]
    kind = type(table).__name__ if library == "builtins" else f"{library}.{type(table).__name__}"
    message = f"expected a pandas DataFrame, a two-dimensional array, a dict of columns or a list of rows, got {kind}"
    raise InputError(message)


def _by_position(table: NDArray[Any], schema: Sequence[Column]) -> list[NDArray[Any]]:
    if table.ndim != 2:  # noqa: PLR2004
        message = (
            f"expected a two-dimensional array, got {table.ndim} dimensions: reshape a single row with x.reshape(1, -1)"
        )
        raise InputError(message)
    if table.shape[1] != len(schema):
        message = f"the array has {table.shape[1]} columns, the model reads {len(schema)}"
        raise InputError(message)
    return list(table.T)


def _by_rows(rows: Sequence[Any], schema: Sequence[Column]) -> list[list[Any]]:
    if not rows:
        message = "the table has no rows"
        raise InputError(message)
    if _cells(rows[0]) is not None:
        return _by_lists(rows, schema)
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping):
            message = f"row {position}: expected a dict or a list, got {type(row).__name__}"
            raise InputError(message, row=position)
        _check_names(list(row), schema, position)
    return [[row[column.name] for row in rows] for column in schema]


def _by_lists(rows: Sequence[Any], schema: Sequence[Column]) -> list[list[Any]]:
    for position, row in enumerate(rows):
        cells = _cells(row)
        if cells != len(schema):
            got = type(row).__name__ if cells is None else f"{cells}"
            message = f"row {position}: expected {len(schema)} cells, got {got}"
            raise InputError(message, row=position)
    return [[row[column] for row in rows] for column in range(len(schema))]


def _cells(row: Any) -> int | None:
    """How many cells a row without names has, or None for what is no such row."""
    if isinstance(row, np.ndarray):
        return len(row) if row.ndim == 1 else None
    return len(row) if isinstance(row, Sequence) and not isinstance(row, str | bytes) else None


def _check_names(names: list[Any], schema: Sequence[Column], row: int | None = None) -> None:
    where = "" if row is None else f"row {row}: "
    wanted = {column.name for column in schema}
    given = set(names)
    for column in schema:
        if column.name not in given:
            message = f"{where}column {column.name!r} is missing"
            raise InputError(message, column=column.name, row=row)
    for name in names:
        if name not in wanted:
            message = f"{where}column {name!r} is unknown to this model"
            raise InputError(message, column=str(name), row=row)
    if len(given) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"{where}column {twice!r} occurs twice"
        raise InputError(message, column=str(twice), row=row)


def _listed(values: Any) -> Any:
    """A column of a dict: a sequence, or one number for a table of one row."""
    if isinstance(values, np.ndarray) or hasattr(values, "to_numpy"):
        array = values if isinstance(values, np.ndarray) else values.to_numpy()
        return array.reshape(1) if array.ndim == 0 else array
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return list(values)
    return [values]


def _check(column: Column, values: Any) -> NDArray[np.float64]:
    """Give one column as float64, by the manifest's rules: numbers, or positions in the list of categories."""
    numbers = _positions(column, values) if column.type == "category" else _numbers(column, values)
    missing = np.isnan(numbers)
    if missing.any() and column.missing != "model":
        if column.fill is None:
            raise _error(column, missing, "the value is missing (NaN), and the model has no rule for that")
        numbers = np.where(missing, column.fill, numbers)
    if column.minimum is None or column.maximum is None:
        return numbers
    if np.isinf(numbers).any():
        raise _error(column, np.isinf(numbers), "the value is infinite")
    broken = (numbers != np.rint(numbers)) & ~missing
    if column.type == "integer" and broken.any():
        raise _error(column, broken, "expected a whole number")
    outside = (numbers < column.minimum) | (numbers > column.maximum)
    if outside.any():
        if column.out_of_range == "refuse":
            rule = f"the value lies outside the model's declared range, {column.minimum:g} to {column.maximum:g}"
            raise _error(column, outside, rule)
        numbers = np.clip(numbers, column.minimum, column.maximum)
    return numbers


def _positions(column: Column, values: Any) -> NDArray[np.float64]:
    """The position of each value among the column's categories; one past the last where the model takes others too."""
    known = {category: position for position, category in enumerate(column.categories)}
    cells = [value.item() if isinstance(value, np.generic) else value for value in values]
    out = np.array([_position(known, value) for value in cells], dtype=np.float64)
    others = out == len(known)
    if others.any() and column.out_of_range != "other":
        shown = ", ".join(repr(category) for category in column.categories[:_SHOWN_CATEGORIES])
        more = ", …" if len(known) > _SHOWN_CATEGORIES else ""
        raise _error(column, others, f"the value is none of the model's categories, {shown}{more}")
    return out


def _position(known: Mapping[Any, int], value: Any) -> float:
    if _is_missing(value) or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    if (
        isinstance(value, str) and value not in known
    ):  # a file has text where the categories are numbers or truth values
        try:
            value = _TRUTH[value.lower()] if value.lower() in _TRUTH else float(value)
        except ValueError:
            return len(known)
    return known.get(value, len(known)) if isinstance(value, Hashable) else len(known)


def _numbers(column: Column, values: Any) -> NDArray[np.float64]:
    array = values if isinstance(values, np.ndarray) else None
    if array is not None and array.dtype.kind in "fiub":
        if array.ndim != 1:
            message = f"column {column.name!r}: expected one dimension, got {array.ndim}"
            raise InputError(message, column=column.name)
        return array.astype(np.float64)
    out = np.empty(len(values), dtype=np.float64)
    for row, value in enumerate(values):
        if _is_missing(value):
            out[row] = np.nan
        elif isinstance(value, _NUMBERS) and not isinstance(value, np.timedelta64):  # an integer, to numpy
            try:
                out[row] = float(value)
            except OverflowError:
                out[row] = np.inf
            except ValueError:  # a Decimal's signalling NaN
                out[row] = np.nan
        else:
            message = f"column {column.name!r}, row {row}: expected a number, got {type(value).__name__}"
            raise InputError(message, column=column.name, row=row)
    return out


def _is_missing(value: Any) -> bool:
    """Whether a cell is None or pandas' NA or NaT, which are neither numbers nor equal to themselves."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def _error(column: Column, wrong: NDArray[np.bool_], rule: str) -> InputError:
    row = int(np.argmax(wrong))
    more = int(wrong.sum()) - 1
    others = f" (and {more} more rows)" if more else ""
    message = f"column {column.name!r}, row {row}: {rule}{others}"
    return InputError(message, column=column.name, row=row)

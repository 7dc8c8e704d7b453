"""What the steps at the beginning of a pipeline say of raw columns: their categories, what to fill in, which are not read."""

from typing import Any

import numpy as np
import pandas as pd

from blindgate_models.compilers.compiled import Label


def encoded(estimator: Any, names: list[str]) -> dict[str, tuple[Label, ...]]:
    """The categories of the columns that an encoder takes, at the beginning of a pipeline or in a ColumnTransformer there."""
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else None
    found: dict[str, tuple[Label, ...]] = {}
    for step, columns in _transformers(first, names):
        parts = [each for _, each in step.steps] if hasattr(step, "steps") else [step]
        encoder: Any = next((part for part in parts if type(part).__name__ != "SimpleImputer"), None)
        if hasattr(encoder, "categories_"):
            for column, categories in zip(columns, encoder.categories_, strict=True):
                present = [value for value in np.asarray(categories).tolist() if not pd.isna(value)]
                found[column] = tuple(present)
    return found


def unread(estimator: Any, names: list[str]) -> set[str]:
    """The columns that a ColumnTransformer at the beginning of a pipeline drops."""
    first: Any = estimator.steps[0][1] if hasattr(estimator, "steps") else None
    if not (hasattr(first, "transformers_") and hasattr(first, "feature_names_in_")):
        return set()
    kept = [_chosen(columns, names) for _, step, columns in first.transformers_ if not _drops(step)]
    return set(names) - {name for columns in kept for name in columns}


def _drops(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


def _transformers(first: Any, names: list[str]) -> list[tuple[Any, list[str]]]:
    """What the first step does to which columns."""
    if first is None or not hasattr(first, "transformers_"):
        return [] if first is None else [(first, names)]
    found = []
    for _, step, columns in first.transformers_:
        if hasattr(step, "transform"):
            found.append((step, _chosen(columns, names)))
    return found


def _chosen(columns: Any, names: list[str]) -> list[str]:
    """The names of the columns that were chosen in one of scikit-learn's ways: by name, position, mask or slice."""
    table = pd.DataFrame(columns=names)
    if isinstance(columns, str | int):
        return [columns if isinstance(columns, str) else names[columns]]
    if isinstance(columns, slice) and any(isinstance(end, str) for end in (columns.start, columns.stop)):
        return list(table.loc[:, columns].columns)
    if isinstance(columns, slice) or not all(isinstance(name, str) for name in columns):
        return list(table.columns[columns])
    return list(columns)


def imputed(estimator: Any, names: list[str]) -> dict[str, float | str]:
    """What the SimpleImputer at the beginning of a pipeline fills in, by column."""
    steps = getattr(estimator, "steps", None)
    found: dict[str, float | str] = {}
    for step, columns in _transformers(steps[0][1] if steps else None, names):
        imputer = step.steps[0][1] if hasattr(step, "steps") else step
        if type(imputer).__name__ != "SimpleImputer":
            continue
        fills = np.asarray(imputer.statistics_).tolist()
        if imputer.add_indicator or not pd.isna(imputer.missing_values) or len(fills) != len(columns):
            msg = "SimpleImputer: expected one that fills NaN in and adds no column"
            raise ValueError(msg)
        if any(pd.isna(fill) for fill in fills):
            msg = "SimpleImputer: a column had no value to learn from"
            raise ValueError(msg)
        found |= dict(zip(columns, fills, strict=True))
    return found

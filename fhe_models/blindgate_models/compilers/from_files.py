"""From the files that a model's owner has to a compiled model and what is to be said of it: `blindgate models compile`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from blindgate_models.compilers.accuracy import plain_accuracy
from blindgate_models.compilers.comparing import compile_with_each
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.estimators import (
    WITHOUT_TOLERANCE,
    choose_family,
    compile_model,
    load_estimator,
    read_rows,
)
from blindgate_models.compilers.hidden_scores import compile_hidden_scores
from blindgate_models.compilers.prepared import Prepared, unwrapped
from blindgate_models.compilers.refitting import refit
from blindgate_models.compilers.rules import read_rules
from blindgate_models.compilers.search import compile_search, read_embeddings, read_ids

_WITHOUT_SETTINGS: Final = {".json", ".txt", ".ubj"}
"""Files that do not hold how their model was fitted."""
_WITHOUT_BINS: Final = ("linear", "network")
_OF_HIDDEN_SCORES: Final = ("linear", "network")


class Choices(NamedTuple):
    """What an owner chooses.

    Attributes:
        target: the column of the calibration rows with the right answers.
        columns: a file of rules.
        family: of the model; by the estimator where none is given.
        compare: whether to compile with every family that takes it.
        bins: fit again on so many public bins a column.
        trust_pickle: read a pickle, which runs what its author put into it.
        tolerance: how far an encrypted score may be from the model's; by the family where none is given.
        hide_scores: have the node apply a logistic model's sigmoid, so that its scores stay hidden.
    """

    target: str | None = None
    columns: Path | None = None
    family: str | None = None
    compare: bool = False
    bins: int | None = None
    tolerance: float | None = None
    trust_pickle: bool = False
    hide_scores: bool = False


class Compilation(NamedTuple):
    """A compiled model, and what is to be said of it.

    Attributes:
        compiled: the model.
        prepared: what it was calibrated with, which has its estimator.
        accuracy: in the clear, where there were answers: on the calibration rows, or over folds where it was fitted on those.
        refitted: the accuracies over folds, before and after public bins.
        compared: every family's model, or why it does not take this one.
    """

    compiled: CompiledModel
    prepared: Prepared | None
    accuracy: float | None
    refitted: Mapping[str, float]
    compared: Mapping[str, CompiledModel | str]


def compile_files(estimator: Path, calibration: Path, choices: Choices) -> Compilation:
    """Compile the model in the file `estimator`, on the rows in the CSV file `calibration`.

    Raises `ValueError`, `TypeError`, `ModuleNotFoundError`, `PackageError` or `CompilerError`, with what is wrong in which file or
    column.
    """
    if choices.hide_scores and choices.family not in {None, *_OF_HIDDEN_SCORES}:
        msg = f"hide_scores: a logistic model's sigmoid under encryption, got the family {choices.family!r:.40}"
        raise ValueError(msg)
    settings: dict[str, Any] = {} if choices.tolerance is None else {"tolerance": choices.tolerance}
    if choices.tolerance is not None and not 0 < choices.tolerance < 1:
        msg = f"tolerance: got {choices.tolerance:g}, expected a share between 0 and 1"
        raise ValueError(msg)
    fitted = unwrapped(load_estimator(estimator, trust_pickle=choices.trust_pickle))
    rows, answers = read_rows(calibration, choices.target)
    accuracies: dict[str, float] = {}
    if choices.bins is not None:
        if answers is None:
            msg = "bins: the model is fitted again, which needs the right answers: name their column as the target"
            raise ValueError(msg)
        if estimator.suffix.lower() in _WITHOUT_SETTINGS:
            msg = "bins: the model is fitted again, and this file does not hold how it was fitted: save it with skops"
            raise ValueError(msg)
        if choices.family in _WITHOUT_BINS:
            msg = f"bins: the family {choices.family} takes none; see additive, trees and trees-batch"
            raise ValueError(msg)
        again = refit(fitted, rows, answers, choices.bins)
        fitted = again.estimator
        accuracies = {"accuracy_over_folds": again.before, "accuracy_over_folds_on_bins": again.after}
    prepared = Prepared.of(fitted, rows, {} if choices.columns is None else read_rules(choices.columns))
    accuracy = None if answers is None else plain_accuracy(fitted, prepared.table, answers)
    family = choices.family or choose_family(fitted)
    if settings and family == WITHOUT_TOLERANCE and not choices.hide_scores:
        msg = f"tolerance: the family {family} takes none, it computes on whole numbers"
        raise ValueError(msg)
    compared = compile_with_each(fitted, prepared, **settings) if choices.compare else {}
    found: Any = None if choices.hide_scores else compared.get(family)
    if choices.hide_scores:
        compiled = compile_hidden_scores(fitted, prepared, **settings)
        compared = compared and {**compared, "scores hidden": compiled}
    else:
        compiled = (
            found if isinstance(found, CompiledModel) else compile_model(fitted, prepared, family=family, **settings)
        )
    return Compilation(
        compiled, prepared, accuracies.get("accuracy_over_folds_on_bins", accuracy), accuracies, compared
    )


def compile_index(embeddings: Path, ids: Path | None, privacy: str | None) -> Compilation:
    """Compile the embeddings in the file `embeddings`, with names from the text file `ids`; `model_private` by default.

    Raises `ValueError` or `PackageError`, with what is wrong in which file.
    """
    names = None if ids is None else read_ids(ids)
    numbers = read_embeddings(embeddings)
    if privacy is None or privacy == "model_private":
        return Compilation(compile_search(numbers, ids=names), None, None, {}, {})
    if privacy == "model_public":
        return Compilation(compile_search(numbers, ids=names, privacy="model_public"), None, None, {}, {})
    msg = f"privacy: got {privacy!r:.40}, expected model_private or model_public"
    raise ValueError(msg)

"""From a fitted scikit-learn model to a linear model package's parts.

1. **Read**: `coef_` and `intercept_` of the last step; steps before it that scale columns or encode categories are folded in
   (`pipelines`). An estimator that has its linear models inside, one for each target say, is asked instead, as such steps are.
2. **Test what was read** on the calibration rows, against `predict`, `decision_function` and `predict_proba`
   themselves: an estimator whose prediction is something else than its linear score or its exponential (a classifier of
   one class against each other) is refused here and not guessed at.
3. **Fold** the columns' declared ranges in, and choose the scales: the smallest modulus whose error bound is within
   `tolerance` of the calibration scores, and the split between input and weight that makes that bound least.
4. **Run** the two parts, under encryption, on the calibration rows, and report.

scikit-learn is needed to have a fitted model, and is not imported here: its objects are read by their public
attributes, never unpickled.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, Label, Link, Report, steepness
from blindgate_models.compilers.links import close, probability_link
from blindgate_models.compilers.pipelines import Steps, read_affine, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.compilers.reading import spread
from blindgate_models.features import Feature, expand, reach
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.packing import Packing
from blindgate_models.linear.server import LinearServer
from blindgate_models.linear.spec import (
    DEGREE,
    DETERMINISM,
    DISCLOSES_TO_CLIENT,
    DISCLOSES_TO_NODE,
    FAMILY,
    VERSION,
    Circuit,
    ClientPart,
    Parameters,
    ServerPart,
)
from blindgate_models.rows import middle_and_half
from blindgate_protocol.manifest import Encryption

Floats: TypeAlias = NDArray[np.float64]

DEFAULT_TOLERANCE: Final = 1e-5
_MODULI: Final = (40, 48, 56)
_BINARY: Final = 2
_MOST_SCALE_BITS: Final = 500
_MOST_EXPONENT: Final = 700.0
_MOST_ERROR: Final = 0.01
"""Of the span of the scores: beyond, answers would be those of the noise."""
_ONE_FOR_EACH: Final = ("OneVsRestClassifier", "MultiOutputRegressor")
"""A model of one output for each class or target."""


class _Affine(NamedTuple):
    """Scores as `x @ weights.T + intercept`: `(outputs, features)` and `(outputs,)`."""

    weights: Floats
    intercept: Floats

    def scores(self, rows: Floats) -> Floats:
        return np.asarray(rows @ self.weights.T + self.intercept)


def compile_linear(
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> CompiledModel:
    """Compile a fitted linear or logistic model, or a pipeline of scalers that ends in one.

    Args:
        estimator: fitted, with `coef_` and `intercept_`; or a `Pipeline` of steps and such a model, where the steps scale each
            column of numbers, or encode a category, by itself.
        calibration: `(n, columns)` rows like those to come, n ≥ 1. A DataFrame gives the columns their names.
        ranges: `(lo, hi)` for each column; by default those of `calibration`, widened by half of their width on both
            sides, but not below 0 where no value is. Ranges are public, and a value outside is refused, so choose them
            generously.
        tolerance: the largest error bound that is accepted for a smaller modulus, as a share of the largest calibration
            score; of a regression's numbers, of how far they spread; with a log link, of the number.

    Raises:
        TypeError: not a linear model, or a step that is not affine.
        ValueError: calibration rows or ranges that do not fit, ranges so wide that no score would be exact, or an estimator
            that does not predict by its linear score.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    rows = prepared.require_complete()
    features, affine = _folded(estimator, prepared)
    scores = affine.scores(expand(features, rows))
    labels, link = _tested(estimator, prepared, features, affine)
    span = _span(scores, link, classifies=labels is not None)
    limits = reach(features, prepared.limits)
    client, server = linear_parts(
        affine.weights, affine.intercept, limits, precision=tolerance * span, features=features
    )
    if (np.array(client.error_bound) > _MOST_ERROR * span).any() and span.all():
        raise ValueError(_too_wide(prepared, client, affine.weights * middle_and_half(limits)[1], span))
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=prepared.columns,
        task="regression" if labels is None else "classification",
        labels=labels,
        link=link,
        steepness=steepness(link, scores),
        encryption=encryption(client),
        privacy=PUBLIC,
        determinism=DETERMINISM,
        discloses=Disclosures(to_client=list(DISCLOSES_TO_CLIENT), to_node=list(DISCLOSES_TO_NODE)),
        report=_measured(client, server, scores, rows, classifies=labels is not None),
    )


def _span(scores: Floats, link: Link, *, classifies: bool) -> Floats:
    """What an error of each score has to be small against: the largest of a classification; of numbers, how far they spread.

    The logarithm of a number is as far off as the number is, as a share of it.
    """
    if link == "exp":
        return np.ones(scores.shape[1])
    return np.array([np.abs(scores).max() if classifies else spread(each) for each in scores.T])


def _too_wide(prepared: Prepared, client: ClientPart, reached: Floats, span: Floats) -> str:
    """Why a model is refused whose scores are `reached`, feature by feature, so far that one is not exact."""
    output = int((np.array(client.error_bound) / span).argmax())
    widest = int(np.abs(reached[output]).argmax())
    column = prepared.columns[client.features[widest].column]
    everything, of_column = float(np.abs(reached).sum(axis=1).max()), abs(float(reached[output, widest]))
    return (
        f"a score can be {client.error_bound[output]:.2g} off where {span[output]:.3g} is much: within the declared ranges scores "
        f"can be up to ±{everything:.3g}, and of this one ±{of_column:.3g} is column {column['name']!r:.60}: declare narrower "
        "ranges, or fit on scaled columns and targets"
    )


class Logistic(NamedTuple):
    """A logistic model of two classes: the sigmoid of x · weights + intercept, x being `features`, is `labels[1]`'s probability."""

    features: list[Feature]
    weights: Floats
    intercept: float
    labels: list[Label]


def read_logistic(estimator: Any, prepared: Prepared) -> Logistic:
    """Read one as `compile_linear` does, tested alike. Raises `TypeError` or `ValueError` on another model."""
    prepared.require_complete()
    features, affine = _folded(estimator, prepared)
    labels, link = _tested(estimator, prepared, features, affine)
    if labels is None or len(labels) != _BINARY or link != "sigmoid":
        kind = type(estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator).__name__
        msg = f"{kind}: expected a logistic model of two classes, whose probability is the sigmoid of its score"
        raise ValueError(msg)
    return Logistic(features, affine.weights[0], float(affine.intercept[0]), labels)


def _folded(estimator: Any, prepared: Prepared) -> tuple[list[Feature], _Affine]:
    """The model over features, with the steps before it folded in."""
    steps, model = split(estimator, prepared)
    try:
        affine = _read(model)
    except TypeError:
        whole = _asked(estimator, prepared)
        if whole is None:
            raise
        return whole
    features, factors, constants = read_affine(steps)
    if affine.weights.shape[1] != len(factors):
        msg = f"calibration: got {len(factors)} columns, expected {affine.weights.shape[1]}"
        raise ValueError(msg)
    return features, _Affine(affine.weights @ factors, affine.intercept + affine.weights @ constants)


class _Scores:
    """A whole estimator as a step that gives its scores."""

    def __init__(self, estimator: Any) -> None:
        self._ask: Any = estimator.decision_function if hasattr(estimator, "classes_") else estimator.predict

    def transform(self, rows: Any) -> Floats:
        """`(n, outputs)`."""
        return np.reshape(self._ask(rows), (len(rows), -1))


def _asked(estimator: Any, prepared: Prepared) -> tuple[list[Feature], _Affine] | None:
    """An estimator with linear models somewhere inside, by what it says of rows all over the ranges; `None` if it is not linear."""
    try:
        features, factors, constants = read_affine(Steps([_Scores(estimator)], prepared))
    except (AttributeError, TypeError, ValueError):  # no scores; no weighted sums; none of such rows
        return None
    return features, _Affine(factors, constants)


def _read(model: Any) -> _Affine:
    """A fitted model's weights and intercept. Raises `TypeError` on another, `ValueError` on numbers that are not finite."""
    if type(model).__name__ in _ONE_FOR_EACH and hasattr(model, "estimators_"):
        each = [_read(one) for one in model.estimators_]
        return _Affine(np.concatenate([one.weights for one in each]), np.concatenate([one.intercept for one in each]))
    centres = hasattr(model, "x_rotations_")  # PLSRegression's coef_ is of what it subtracted a mean of
    if centres or not (hasattr(model, "coef_") and hasattr(model, "intercept_")):
        msg = f"{type(model).__name__}: expected a fitted model with coef_ and intercept_"
        raise TypeError(msg)
    coefficients = model.coef_.toarray() if hasattr(model.coef_, "toarray") else np.asarray(model.coef_)
    weights = np.atleast_2d(coefficients.astype(np.float64))
    intercept = np.broadcast_to(np.ravel(model.intercept_).astype(np.float64), len(weights))
    if not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
        msg = f"{type(model).__name__}: a coefficient is not finite"
        raise ValueError(msg)
    return _Affine(weights, intercept)


def _tested(
    estimator: Any, prepared: Prepared, features: Sequence[Feature], affine: _Affine
) -> tuple[list[Label] | None, Link]:
    """Labels and link, once the estimator was seen to predict by its linear scores of the calibration rows."""

    def score(rows: Floats) -> Floats:
        return affine.scores(expand(features, rows))

    scores, calibration = score(prepared.rows), prepared.table
    predicted = np.asarray(estimator.predict(calibration))
    if not hasattr(estimator, "classes_"):
        numbers = predicted.reshape(len(scores), -1)
        if close(numbers, scores):
            return None, "identity"
        if float(scores.max()) < _MOST_EXPONENT and close(numbers, np.exp(scores)):
            return None, "exp"
        msg = f"{type(estimator).__name__}: predict is neither its linear score nor the exponential of it"
        raise ValueError(msg)
    if predicted.ndim > 1:
        msg = f"{type(estimator).__name__}: gives more than one label a row; compile a model for each"
        raise ValueError(msg)
    labels: list[Label] = np.asarray(estimator.classes_).tolist()
    decided = np.asarray(estimator.decision_function(calibration)).reshape(len(scores), -1)
    outputs = 1 if len(labels) == _BINARY else len(labels)
    if scores.shape[1] != outputs or not close(decided, scores):
        msg = f"{type(estimator).__name__}: decision_function is not its linear score for each class"
        raise ValueError(msg)
    if not (np.asarray(labels)[_decided(scores)] == predicted).all():
        msg = f"{type(estimator).__name__}: predict is not the class of the largest score"
        raise ValueError(msg)
    link = probability_link(estimator, calibration, scores)
    if link == "identity":  # or these rows tell of none
        asked = np.concatenate([prepared.rows, _telling(prepared, features, affine.weights, scores[0])])
        link = probability_link(estimator, prepared.ask(asked), score(asked))
    return labels, link


def _telling(prepared: Prepared, features: Sequence[Feature], weights: Floats, scores: Floats) -> Floats:
    """The first row, whose `scores` these are, moved by its numbers to where one score is 1 and others are 0: links differ there.

    It may lie outside of the declared ranges. No row where there are no numbers.
    """
    numbers = [place for place, feature in enumerate(features) if feature.kind == "number"]
    columns = [features[place].column for place in numbers]
    if not columns:
        return prepared.rows[:0]
    half = middle_and_half(prepared.limits)[1][columns]
    wanted = np.eye(len(scores))[0]
    step = np.linalg.lstsq(weights[:, numbers] * half, wanted - scores, rcond=None)[0]
    row = prepared.rows[:1].copy()
    row[0, columns] += step * half
    return row


def _decided(scores: Floats) -> NDArray[np.intp]:
    """The position of each row's label."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.intp)
    return np.asarray(scores.argmax(axis=1))


def linear_parts(
    weights: Floats,
    intercept: Floats,
    ranges: Floats,
    *,
    precision: float | Floats = 0.0,
    features: Sequence[Feature] | None = None,
) -> tuple[ClientPart, ServerPart]:
    """The two parts of a model that is given by its numbers: a score is weights · x + intercept.

    Args:
        weights: `(outputs, features)`.
        intercept: `(outputs,)`.
        ranges: lo and hi of each feature, `(features, 2)`.
        precision: the smallest modulus is taken whose error bounds are at most this, all or each, or else the largest.
        features: what they are; by default the columns, in order.

    Raises:
        ValueError: more columns or outputs than the family takes, or numbers beyond its fixed point.
    """
    read = list(features or []) or [Feature(column=column, kind="number", position=0) for column in range(len(ranges))]
    middle, half = middle_and_half(ranges)
    scaled = weights * half
    constant = intercept + weights @ middle
    rounding = 2.0**-45 * (np.abs(weights) @ np.abs(ranges).max(axis=1) + np.abs(intercept))
    for modulus_bits in _MODULI:
        circuit = _best_circuit(modulus_bits, scaled, constant)
        bound = circuit.error_bound + rounding
        if (bound <= precision).all():
            break
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=circuit.parameters,
        outputs=len(scaled),
        columns=1 + max(feature.column for feature in read),
        features=read,
        ranges=ranges.tolist(),
        error_bound=bound.tolist(),
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=circuit.parameters,
        weights=scaled.tolist(),
        intercept=constant.tolist(),
    )
    return client, server


def encryption(client: ClientPart) -> Encryption:
    """What the manifest says of a part's ciphertexts."""
    parameters = client.parameters
    return Encryption(
        scheme="ckks",
        security=128,
        degree=parameters.degree,
        modulus_bits=parameters.modulus_bits,
        levels=0,
        error_bound=max(client.error_bound),
    )


def _best_circuit(modulus_bits: Literal[40, 48, 56], weights: Floats, intercept: Floats) -> Circuit:
    """The scales with the least error bound of those that leave the modulus room."""
    largest = float((np.abs(weights).sum(axis=1) + np.abs(intercept)).max()) or 1.0
    together = min(modulus_bits - 1 - math.ceil(math.log2(largest)), _MOST_SCALE_BITS)
    circuits = []
    for input_scale_bits in range(8, modulus_bits - 8):
        for scale_bits in (together, together - 1):
            parameters = Parameters(
                scheme="ckks",
                degree=DEGREE,
                modulus_bits=modulus_bits,
                input_scale_bits=input_scale_bits,
                weight_scale_bits=scale_bits - input_scale_bits,
            )
            circuit = Circuit.of(parameters, weights, intercept)
            if circuit.headroom < 1:
                circuits.append(circuit)
                break
    return min(circuits, key=lambda circuit: float(circuit.error_bound.max()))


def _measured(client: ClientPart, server: ServerPart, scores: Floats, rows: Floats, *, classifies: bool) -> Report:
    """Run the calibration rows under encryption: `scores` are theirs in the clear."""
    asker, node = LinearClient.from_part(client.model_dump()), LinearServer.from_part(server.model_dump())
    rows = rows[: asker.rows_per_job]
    secret = asker.make_keys().secret
    blob = asker.encrypt(secret, rows)
    started = time.process_time()
    result = node.evaluate(None, blob)
    seconds = time.process_time() - started
    got, expected = asker.decrypt(secret, result, len(rows)), scores[: len(rows)]
    error = np.abs(got - expected)
    agrees = _decided(got) == _decided(expected) if classifies else (error <= client.error_bound).all(axis=1)
    packing = Packing(client.parameters, len(client.ranges), client.outputs)
    return Report(
        rows=len(rows),
        agreement_plain=float(agrees.mean()),
        max_error=float(error.max()),
        evaluation_key_bytes=0,
        ciphertext_bytes_per_row=packing.input_bytes(len(rows)) / len(rows),
        result_bytes_per_row=packing.result_bytes(len(rows)) / len(rows),
        expected_seconds_per_row=seconds / len(rows),
    )

"""What a compiler returns: everything that a model package needs to know about one model, as plain values.

A compiler reads a fitted estimator and calibration data, on the model owner's machine. It returns a `CompiledModel`;
writing the package, signing its manifest and choosing its name are the work of others (`blindgate_models.package`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Context
from typing import Final, Literal, NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import Part
from blindgate_protocol.manifest import Encryption, Privacy

Label: TypeAlias = bool | int | float | str
"""A class label as the manifest holds it."""

PUBLIC: Final = Privacy(mode="model_public")
"""Whoever examines a reply may learn the model."""

Link: TypeAlias = Literal["identity", "sigmoid", "softmax", "probability", "exp"]
"""From raw scores to what users see, as in `blindgate_protocol.manifest.Output`."""


class Column(TypedDict):
    """One input column of the model, in the order that the client half takes them.

    Members are those of `blindgate_protocol.manifest.Column`. Ranges and categories are public.
    """

    name: str
    type: Literal["number", "integer", "category"]
    minimum: NotRequired[float]
    maximum: NotRequired[float]
    categories: NotRequired[tuple[Label, ...]]
    out_of_range: NotRequired[Literal["refuse", "clip", "other"]]
    missing: NotRequired[Literal["refuse", "fill", "model"]]
    fill: NotRequired[float]


class Disclosures(TypedDict):
    """Who learns what beyond the score, in words that a manifest can show."""

    to_client: list[str]
    to_node: list[str]


class Report(TypedDict):
    """What was measured on the calibration rows, plain against compiled.

    Attributes:
        rows: how many calibration rows were compared.
        agreement_plain: share of rows, 0 to 1, whose label is the plaintext model's (1 minus the share of rows beyond
            the error bound for a regression).
        max_error: largest absolute difference between a raw score and the plaintext model's.
        evaluation_key_bytes: 0 where the scheme needs none.
        ciphertext_bytes_per_row: sent by the client, in the packing that it would choose for `rows` rows.
        result_bytes_per_row: sent back.
        expected_seconds_per_row: of evaluation on one core of this machine.
    """

    rows: int
    agreement_plain: float
    max_error: float
    evaluation_key_bytes: int
    ciphertext_bytes_per_row: float
    result_bytes_per_row: float
    expected_seconds_per_row: float


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """A model in two parts, with what its manifest has to say about it.

    Attributes:
        family: which halves run it: `linear`, `concrete`, …
        client: the client part.
        server: the server part.
        columns: the inputs, in order.
        task: what the raw scores are turned into.
        labels: the classes in the order of the scores; `None` for a regression.
        link: from raw scores to what `predict_proba` or `predict` returns. A binary classifier with `sigmoid` has one
            score; the label is `labels[1]` where it is positive.
        steepness: see `steepness`, on the calibration rows.
        encryption: the scheme and its parameters, and how exact a score is.
        privacy: whether replies hide the model from those who ask it.
        determinism: `bit-exact` where the same input bytes give the same result bytes, in any process.
        discloses: who learns what beyond the score.
        report: plain against compiled.
    """

    family: str
    client: Part
    server: Part
    columns: Sequence[Column]
    task: Literal["classification", "regression", "search", "lookup"]
    labels: Sequence[Label] | None
    link: Link
    steepness: float
    encryption: Encryption
    privacy: Privacy
    determinism: Literal["bit-exact", "varies"]
    discloses: Disclosures
    report: Report


def coarse(number: float) -> float:
    """`number`, not negative, rounded up to two significant digits.

    What is computed from a hidden model and stands in its manifest: all digits of one number check a guess of everything else.
    """
    return float(Context(prec=2, rounding=ROUND_UP).create_decimal(repr(number)))


def steepness(link: Link, scores: NDArray[np.float64]) -> float:
    """How much of an error in a score reaches what users see, at most, where scores are like `scores`."""
    if link == "exp":
        return math.exp(float(scores.max()))
    return {"identity": 1.0, "probability": 1.0, "sigmoid": 1 / 4, "softmax": 1 / 2}[link]

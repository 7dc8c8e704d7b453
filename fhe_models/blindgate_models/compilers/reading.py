"""Is what was read of an estimator what it does? Compilers ask before they go on, and compare with the same afterwards."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.compilers.links import probability_link

Floats = NDArray[np.float64]

_REGRESSION_TOLERANCE: Final = 0.01
_MOST_EXPONENT: Final = 700.0
_SAME: Final = 1e-6


class Plain(NamedTuple):
    """The model in the clear, for comparison.

    Attributes:
        reference: its scores of the calibration rows, `(n, outputs)`.
        labels: the classes, or `None` for a regression.
        link: from scores to probabilities or numbers.
        own: the positions of the estimator's own labels, `(n,)`, which on a tie of scores may be others; as scores say if `None`.
    """

    reference: Floats
    labels: tuple[Label, ...] | None
    link: Link
    own: NDArray[np.int64] | None = None

    @property
    def span(self) -> float:
        """What an error of a score has to be small against: the largest score, or the `spread` of a regression's."""
        return spread(self.reference) if self.labels is None else float(np.abs(self.reference).max())

    def decide(self, scores: Floats) -> NDArray[np.int64]:
        """The position of the label."""
        single = scores.shape[1] < len(self.labels or ())
        decided = (scores[:, 0] > 0).astype(np.int64) if single else scores.argmax(axis=1)
        return np.asarray(decided, dtype=np.int64)

    def agrees(self, scores: Floats) -> NDArray[np.bool_]:
        """Row by row: the same label, or a number within 1% of the reference's spread."""
        if self.labels is not None:
            return np.asarray(self.decide(scores) == (self.decide(self.reference) if self.own is None else self.own))
        tolerance = _REGRESSION_TOLERANCE * self.span
        near: NDArray[np.bool_] = np.abs(scores - self.reference).max(axis=1) <= tolerance
        return near


def spread(numbers: Floats) -> float:
    """How far numbers spread: years from 1900 to 2000 tell a hundred things apart, not 2000.

    Of numbers that are all the same but for float32's last digits, the largest.
    """
    largest, width = float(np.abs(numbers).max()), float(np.ptp(numbers))
    return width if width > _SAME * largest else largest


def check_reading(
    estimator: Any, calibration: Any, scores: Floats, labels: tuple[Label, ...] | None, link: Link
) -> Plain:
    """Compare `scores`, what was read of the estimator makes of the calibration rows, with its own answers.

    Raises `ValueError` for an estimator that predicts by something else: it is refused here, and not guessed at.
    """
    plain = Plain(scores, labels, link)
    predicted = np.asarray(estimator.predict(calibration))
    if labels is not None:
        own = predicted[:, None] == np.asarray(labels)
        plain = plain._replace(own=own.argmax(axis=1))
        same = bool((own & _may_be(plain)).any(axis=1).all())
        if link != "probability":
            plain = plain._replace(link=probability_link(estimator, calibration, scores))
    else:
        links: dict[Link, Floats] = {"identity": scores, "exp": np.exp(np.minimum(scores, _MOST_EXPONENT))}
        numbers = predicted.reshape(len(scores), -1)
        found = [
            name
            for name, expected in links.items()
            if numbers.shape == expected.shape and np.allclose(numbers, expected, rtol=1e-4, atol=1e-6)
        ]
        same = bool(found)
        plain = plain._replace(link=found[0] if same else link)
    if not same:
        msg = "estimator: does not predict by the sum of its trees or layers, nor by the exponential of it"
        raise ValueError(msg)
    return plain


def _may_be(plain: Plain) -> NDArray[np.bool_]:
    """The labels that the scores allow, `(n, labels)`: one, or several whose scores are the same but for float32's last digits.

    Half of an even number of trees for either class: which is taken depends on the order in which they were added up.
    """
    scores, labels = plain.reference, plain.labels or ()
    each = np.column_stack([-scores, scores]) if scores.shape[1] < len(labels) else scores
    return np.asarray(each >= each.max(axis=1, keepdims=True) - _SAME * np.abs(scores).max())

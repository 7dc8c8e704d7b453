"""A compiled model on rows that it has not seen: what users will get for them, beside what the plaintext model says.

It is what a user's job does, by the same code and in one process: the columns' own rules (`blindgate.frames`), encryption, the
node's half on the ciphertexts, decryption, labels, and numbers to as many decimals as may be published. So the figures that a
manifest states of such rows (`Accuracy`) are those of the product, and not of a model in the clear beside it.

A row that users would be refused for is counted and left out: it gets no answer, so there is none to compare.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate import frames
from blindgate_models.clients import client_half
from blindgate_models.compilers.accuracy import require_known, share_right
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.raw_scores import raw_scores
from blindgate_models.compilers.reading import spread
from blindgate_models.halves import ClientHalf
from blindgate_models.publishing import columns_of, finest_decimals, output_of
from blindgate_models.servers import server_half
from blindgate_protocol.errors import InputError
from blindgate_protocol.manifest import Accuracy

Floats = NDArray[np.float64]

_NEAR: Final = 0.01
_MOST_AT_ONCE: Final = 1024


class Trial(NamedTuple):
    """What came out.

    Attributes:
        rows: how many rows were answered.
        refused: how many were not, since users would be refused for them.
        why: what is wrong with the first of those; `None` where there is none.
        accuracy: what the manifest states.
        plain: the share of right labels of the plaintext model, or R²; `None` without answers to compare with.
        encrypted: the same of the encrypted model.
    """

    rows: int
    refused: int
    why: str | None
    accuracy: Accuracy
    plain: float | None
    encrypted: float | None


def try_out(
    compiled: CompiledModel,
    prepared: Prepared,
    table: pd.DataFrame,
    answers: "pd.Series[Any] | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trial:
    """Ask a compiled model about `table`, rows that it was neither trained nor calibrated on.

    Args:
        compiled: the model.
        prepared: what it was calibrated with, which has its estimator.
        table: the rows, with a user's columns.
        answers: the right ones, `(rows,)`.
        progress: called with `(done, total)` rows.

    Raises `InputError` for a table with other columns, or one that users could not ask a single row of, and for an estimator that
    does not predict, as torch's; `ValueError` for answers of which none is a label.
    """
    if not hasattr(prepared.estimator, "predict"):
        message = (
            f"held-out rows: a {type(prepared.estimator).__name__} has no predict to compare with; compile the SquareNetwork that "
            "read_sequential makes of it"
        )
        raise InputError(message)
    rows, places, why = _taken(table, compiled)
    half = client_half(compiled.family).from_part(compiled.client)
    scores = np.concatenate(list(_asked(compiled, half, rows, progress)))
    output = output_of(compiled, half.outputs, finest_decimals(half.error_bound * compiled.steepness))
    got = frames.predictions(scores, output)
    plain = np.asarray(prepared.estimator.predict(prepared.ask(rows))).reshape(got.shape)
    classifies = compiled.task == "classification"
    same = got == plain if classifies else np.abs(got - plain) <= _NEAR * _spreads(plain)
    right: list[float | None] = [None, None]
    if answers is not None:
        if classifies:
            require_known(answers, compiled.labels or ())
        wanted = answers.to_numpy()[places]
        right = [share_right(said, wanted=wanted, classifies=classifies) for said in (plain, got)]
    accuracy = Accuracy(
        rows=len(rows),
        held_out=True,
        plain=right[0],
        agreement=float(same.reshape(len(rows), -1).all(axis=1).mean()),
        max_error=_max_error(compiled, prepared, rows, scores),
    )
    return Trial(len(rows), len(table) - len(rows), why, accuracy, *right)


def _spreads(numbers: Floats) -> Floats:
    """How far each output of a regression spreads, `(outputs,)`."""
    return np.array([spread(each) for each in numbers.reshape(len(numbers), -1).T])


def _taken(table: pd.DataFrame, compiled: CompiledModel) -> tuple[Floats, list[int], str | None]:
    """The rows that users may ask about, their positions, and what is wrong with the others. Raises `InputError`."""
    schema = columns_of(compiled)
    try:
        return frames.matrix(table, schema), list(range(len(table))), None
    except InputError as error:
        why, of_a_row = str(error), error.row is not None
    rows, places = [], []
    for place in range(len(table)) if of_a_row else ():
        with suppress(InputError):
            rows.append(frames.matrix(table.iloc[place : place + 1], schema))
            places.append(place)
    if not rows:
        message = f"held-out rows: none can be asked about: {why}"
        raise InputError(message)
    return np.concatenate(rows), places, why


def _asked(
    compiled: CompiledModel, half: ClientHalf, rows: Floats, progress: Callable[[int, int], None] | None
) -> Iterator[Floats]:
    server: Any = server_half(compiled.family).from_part(compiled.server)
    keys = half.make_keys()
    compute = partial(server.evaluate, None) if keys.evaluation is None else server.direct(keys.evaluation)
    at_once = min(half.rows_at_once, half.rows_per_job, _MOST_AT_ONCE)
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        yield half.decrypt(keys.secret, compute(half.encrypt(keys.secret, some)), len(some))
        if progress is not None:
            progress(start + len(some), len(rows))


def _max_error(compiled: CompiledModel, prepared: Prepared, rows: Floats, scores: Floats) -> float:
    """That of the calibration rows where the estimator has no such scores, as a network that was trained further."""
    raw = raw_scores(prepared.estimator, prepared, logarithm=compiled.link == "exp")
    if (raw.link == "probability") == (compiled.link == "probability"):
        plain = raw.score(rows)
        if plain.shape == scores.shape:
            return float(np.abs(scores - plain).max())
    return compiled.report["max_error"]

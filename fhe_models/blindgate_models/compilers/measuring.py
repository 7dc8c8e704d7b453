"""What a model of an exact family comes to: a few rows really encrypted, all rows compared in the clear."""

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Report
from blindgate_models.compilers.reading import Plain
from blindgate_models.halves import ClientHalf, ServerHalf

_ENCRYPTED_ROWS: Final = 4


def measure(
    asker: ClientHalf, node: ServerHalf, rows: NDArray[np.float64], clear: NDArray[np.float64], plain: Plain
) -> Report:
    """Report on a model whose halves need no evaluation key and decrypt exactly.

    Args:
        asker: the client half.
        node: the server half.
        rows: calibration rows as the client gives them.
        clear: the scores that the parts compute of them in the clear, `(n, outputs)`.
        plain: the estimator's own.

    Raises `RuntimeError` when an encrypted row gives another score than in the clear.
    """
    few = rows[: min(_ENCRYPTED_ROWS, asker.rows_per_job)]
    secret = asker.make_keys().secret
    blob = asker.encrypt(secret, few)
    node.prepare()
    started = time.process_time()
    result = node.evaluate(None, blob)
    seconds = (time.process_time() - started) / len(few)
    if not np.array_equal(asker.decrypt(secret, result, len(few)), clear[: len(few)]):
        msg = "an encrypted row gives another score than the model in the clear"
        raise RuntimeError(msg)
    return Report(
        rows=len(rows),
        agreement_plain=float(plain.agrees(clear).mean()),
        max_error=float(np.abs(clear - plain.reference).max()),
        evaluation_key_bytes=0,
        ciphertext_bytes_per_row=float(asker.input_bytes(1)),
        result_bytes_per_row=float(asker.result_bytes(1)),
        expected_seconds_per_row=seconds,
    )

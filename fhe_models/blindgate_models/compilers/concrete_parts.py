"""From a circuit's text to the two parts, by running them.

The parts carry frames of every message that crosses the wire (`blindgate_models.concrete.spec`), and only messages show
them: so keys are made, a few rows are encrypted and evaluated, and the frames are taken from what came out. What the rows
decrypt to, and how long that took, goes back to the caller, who knows what to expect.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.runtime import SUPPORTED_VERSION
from blindgate_models.concrete.server import ConcreteServer, compile_circuit
from blindgate_models.concrete.spec import HEADER_BYTES, Frame, read_specs
from blindgate_models.features import Feature, columns_as_they_are
from blindgate_models.halves import Part

FEWEST_ROWS: Final = 2
"""A frame is what two messages have in common."""

ROWS_PER_JOB: Final = 64
"""A row takes seconds: more would outlast any deadline."""

_NOT_YET: Final = Frame(size=8, holes=[], sha256="0" * 64)


class Parts(NamedTuple):
    """Both parts, and what was seen when they ran.

    Attributes:
        client: the client part.
        server: the server part.
        scores: `(rows, outputs)` float64, decrypted.
        evaluation_key_bytes: 0 where the circuit has no bootstraps.
        ciphertext_bytes: for one row.
        result_bytes: for one row.
        seconds: of CPU time to evaluate one row, the key's preparation included.
    """

    client: Part
    server: Part
    scores: NDArray[np.float64]
    evaluation_key_bytes: int
    ciphertext_bytes: int
    result_bytes: int
    seconds: float


def make_parts(  # noqa: PLR0913  (what the parts hold)
    circuit: str,
    p_error: float,
    rows: NDArray[np.float64],
    *,
    quantiser: Part,
    scores: Part,
    features: Sequence[Feature] | None = None,
) -> Parts:
    """Make both parts of `circuit` and run `rows`, two or more, through them under encryption, one row a job.

    `quantiser` and `scores` stand in the client part as they are, and so do `features` that are not the columns, the default.
    Raises `PackageError` where the parts do not fit together.
    """
    columns = columns_as_they_are(rows.shape[1])
    read = columns if features is None else list(features)
    with tempfile.TemporaryDirectory(prefix="blindgate-") as folder:
        library = compile_circuit(circuit, p_error, folder)
        specs: Part = json.loads(library.get_program_info().serialize())
    client: Part = {
        "concrete_python": SUPPORTED_VERSION,
        "specs": specs,
        "features": len(read),
        "quantiser": quantiser,
        "scores": scores,
        "ciphertext_bytes": _NOT_YET.size,
        "result": _NOT_YET.model_dump(),
        "rows_per_job": ROWS_PER_JOB,
    }
    if read != columns:
        client["reads"] = {"columns": len(columns), "features": [feature.model_dump() for feature in read]}
    draft = ConcreteClient.from_part(client)
    keys, others = draft.make_keys(), draft.make_keys()
    samples = [draft.encrypt(keys.secret, rows[[i]]) for i in range(len(rows))]
    evaluation = [key.evaluation for key in (keys, others) if key.evaluation is not None]
    server: Part = {
        "concrete_python": SUPPORTED_VERSION,
        "specs": specs,
        "circuit": circuit,
        "p_error": p_error,
        "evaluation_key": _frame(evaluation, read_specs(specs).evaluation_keys) if evaluation else None,
        "ciphertext": _frame(samples, 1),
    }
    half = ConcreteServer.from_part(server)
    started = time.process_time()
    results = [half.evaluate(keys.evaluation, sample) for sample in samples]
    seconds = (time.process_time() - started) / len(samples)
    client = {**client, "ciphertext_bytes": len(samples[0]) - HEADER_BYTES, "result": _frame(results, 1)}
    finished = ConcreteClient.from_part(client)
    return Parts(
        client=client,
        server=server,
        scores=np.concatenate([finished.decrypt(keys.secret, result, 1) for result in results]),
        evaluation_key_bytes=len(keys.evaluation or b""),
        ciphertext_bytes=len(samples[0]),
        result_bytes=len(results[0]),
        seconds=seconds,
    )


def _frame(blobs: Sequence[bytes], holes: int) -> Part:
    return Frame.of([blob[HEADER_BYTES:] for blob in blobs], holes).model_dump()

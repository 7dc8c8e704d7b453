"""A model of tables that computes in the clear, inside a machine that was checked: `predict`, as with an encrypted one."""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from blindgate.chat import failure_in
from blindgate.decisions import Said
from blindgate.frames import Table
from blindgate.job import Job
from blindgate.model import Model
from blindgate.neighbours import SearchResult
from blindgate.sealed_job import SealedJob, Sealing
from blindgate_protocol.errors import InputError, MalformedError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.sealed_bodies import SCORE_BYTES, TableHead, read_line
from blindgate_protocol.signing import first_error

_NUMBER_BYTES = 8


class TableModel(Model):
    """A model of lane `tee` whose manifest was verified: a `Model`, but for what only encrypted ones do.

    Attributes:
        sealed_jobs: the jobs of the last prediction.
    """

    def __init__(self, sealing: Sealing) -> None:
        """Made by `Client.model`."""
        self.manifest = sealing.manifest
        self.last_jobs: tuple[Job, ...] = ()
        self.sealed_jobs: tuple[SealedJob, ...] = ()
        self._transport = sealing.transport
        self._sealing = sealing
        self._output = self.manifest.document.scores()

    def search(
        self,
        vectors: Table,  # noqa: ARG002
        k: int = 10,  # noqa: ARG002
        *,
        timeout: float | None = None,  # noqa: ARG002
        data_class: Said = None,  # noqa: ARG002
    ) -> SearchResult:
        """A model of this lane is no index. Raises `InputError`."""
        message = f"model {self.name!r} is no index: there is nothing to search"
        raise InputError(message)

    def submit(self, table: Table, *, data_class: Said = None) -> Job:  # noqa: ARG002
        """A sealed request is waited for by who has its key. Raises `InputError`: `predict` is what there is."""
        message = f"model {self.name!r} runs in lane 'tee', where the key of a request is not kept: use predict"
        raise InputError(message)

    def __repr__(self) -> str:
        document = self.manifest.document
        return f"TableModel({document.name!r}, version={document.version}, family={document.family!r})"

    def _scores(
        self, rows: NDArray[np.float64], timeout: float | None, data_class: str | None = None
    ) -> NDArray[np.float64]:
        until = None if timeout is None else time.monotonic() + timeout
        jobs: list[SealedJob] = []
        try:
            for chunk in self._chunks(rows):
                jobs.append(self._sealing.ask(chunk.astype("<f8").tobytes(), rows=len(chunk), data_class=data_class))  # noqa: PERF401  (kept when one fails)
            self.sealed_jobs = tuple(jobs)
            found = []
            for job, chunk in zip(jobs, self._chunks(rows), strict=True):
                left = None if until is None else max(0.0, until - time.monotonic())
                found.append(_read(job.answer(left), len(chunk), self._output.scores))
        finally:
            for job in jobs:  # those that were not read to their end: nobody will
                job.leave()
        return np.concatenate(found)

    def _chunks(self, rows: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        size = rows_at_once(self.manifest.document)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def rows_at_once(manifest: Manifest) -> int:
    """How many rows one job takes: half of what the sealed bytes may be, since padding to powers makes at most twice of it."""
    limits = manifest.limits
    return max(1, min(limits.rows_per_job, limits.input_bytes // (2 * row_bytes(manifest))))


def row_bytes(manifest: Manifest) -> int:
    """How many bytes one row is inside the seal: its numbers as float64."""
    return _NUMBER_BYTES * len(manifest.columns)


def _read(answer: bytes, rows: int, outputs: int) -> NDArray[np.float64]:
    """The scores in an answer, `(rows, outputs)`. Raises `InputError` where the node refused, `MalformedError` for what is none."""
    line, _, data = answer.partition(b"\n")
    value = read_line(line)
    if failed := failure_in(value):
        raise failed
    try:
        head = TableHead.model_validate(value)
    except ValidationError as error:
        message = f"the answer's shape is malformed: {first_error(error)}"
        raise MalformedError(message) from error
    if (head.rows, head.outputs) != (rows, outputs) or len(data) != rows * outputs * SCORE_BYTES:
        message = f"the answer is {head.rows} rows of {head.outputs} scores in {len(data)} bytes, expected {rows} of {outputs}"
        raise MalformedError(message)
    scores = np.frombuffer(data, dtype="<f4").reshape(rows, outputs).astype(np.float64)
    if not np.isfinite(scores).all():
        message = "the answer holds scores that are no finite numbers"
        raise MalformedError(message)
    return scores

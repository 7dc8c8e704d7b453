"""A model as scikit-learn's users know one: `predict`, `predict_proba`, and `submit` for those who do not want to wait.

What happens before anything leaves this machine, in this order:

1. the table is checked against the manifest's columns;
2. the policy is asked, for the classes of this table (`decisions`), and what follows goes by its answer;
3. where the policy names a log, the gateway is asked once which it serves;
4. keys are found or made;
5. the rows are encrypted;
6. the order is signed and its bundle kept.

`predict` splits a long table into several jobs, encrypts the next while the last is under way, by every core where that pays
(`blindgate.encryptors`), and decrypts only after the results of all of them were fetched and acknowledged: nothing that is sent
depends on what was decrypted.
"""

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate import frames
from blindgate.bundles import Bundles
from blindgate.decisions import Said, decide
from blindgate.encryptors import WORTH_SECONDS, Encryptors, cores
from blindgate.frames import Table
from blindgate.job import Job, Timings
from blindgate.keyring import KeyRing
from blindgate.logs import Logs
from blindgate.neighbours import SearchResult, check_count, index_half
from blindgate.policy import Policy
from blindgate.progress import working
from blindgate.transport import Transport
from blindgate.uploads import blob_ref, upload
from blindgate_models.halves import ClientHalf, IndexHalf, RecordHalf
from blindgate_models.search.hosted import HostedCorpus
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.errors import BlindgateError, InputError
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.messages import BudgetView, JobRequest, JobView
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import SMALL_BYTES, BlobRef

_UPLOADS_AT_ONCE = 2


class _Prepared(NamedTuple):
    """What one job sends."""

    ciphertexts: bytes
    rows: int
    evaluation: str | None
    secret: bytes
    policy: Policy
    timings: Timings


class Model:
    """A model whose manifest and client part were verified."""

    def __init__(  # noqa: PLR0913  (made by Client.model, which holds all of these)
        self,
        manifest: Signed[Manifest],
        half: ClientHalf,
        part: bytes,
        *,
        tenant: str,
        policy: Policy,
        keys: KeyRing,
        transport: Transport,
        bundles: Bundles,
        logs: Logs,
        deadline: float,
        show_progress: bool | None,
    ) -> None:
        """Made by `Client.model`."""
        self.manifest = manifest
        self.last_jobs: tuple[Job, ...] = ()
        self._half = half
        self._part = part
        self._tenant = tenant
        self._policy = policy
        self._keys = keys
        self._transport = transport
        self._bundles = bundles
        self._logs = logs
        self._deadline = deadline
        self._show_progress = show_progress

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.document.name

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, in the order of `predict_proba`'s columns. Empty for a regression."""
        return np.asarray(self.manifest.document.scores().labels)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """The names of the columns that the model reads."""
        return np.asarray([column.name for column in self.manifest.document.columns], dtype=object)

    @property
    def n_features_in_(self) -> int:
        """How many columns the model reads."""
        return len(self.manifest.document.columns)

    @property
    def corpus(self) -> HostedCorpus | None:
        """What makes this index somebody's corpus (`Client.corpus`); `None` where it is none."""
        return self._half.corpus if isinstance(self._half, IndexHalf) else None

    @property
    def rows_asked(self) -> int:
        """How many rows this tenant has asked of this model. Asks the gateway."""
        return self._transport.get(f"/v1/models/{self.name}/budget", BudgetView).rows_asked

    @property
    def rows_left(self) -> int | None:
        """How many more rows this tenant may ask of this model; `None` for as many as it likes. Asks the gateway."""
        asked, most = self.rows_asked, self.manifest.document.privacy.rows_per_tenant
        return None if most is None else max(0, most - asked)

    def predict(self, table: Table, *, timeout: float | None = None, data_class: str | None = None) -> NDArray[Any]:
        """Labels (numbers, for a regression; ids of the nearest entries, for an index), `(rows,)`, of the type that the model has.

        `timeout` is in seconds, for the whole call; what has not ended by then is cancelled. `data_class` is what kind of data this
        is, by the policy's name for it, beside what the policy and the manifest say of the columns; it is sent to nobody. Raises
        `InputError` before anything is encrypted when the table does not fit, and `PolicyError`, which names the rule.
        """
        output = self.manifest.document.scores()
        frames.require_predictions(output)
        if output.task == "search":
            return self.search(table, 1, timeout=timeout, data_class=data_class).ids[:, 0]
        rows = frames.matrix(table, self.manifest.document.columns)
        return frames.predictions(self._scores(rows, timeout, data_class), output)

    def search(
        self, vectors: Table, k: int = 10, *, timeout: float | None = None, data_class: Said = None
    ) -> SearchResult:
        """The `k` entries of an index nearest to each vector: ids and inner products, `(rows, k)`, the nearest first.

        Vectors travel as eight bits a number, each with a scale of its own, and the ranking is that of the exact inner products of
        those with the index's own eight bits; equal ones come in the index's order. Inner products leave rounded as the manifest
        says. Raises `InputError` before anything is encrypted when vectors or `k` do not fit, or the model is no index.
        """
        half = index_half(self._half, self.name)
        check_count(k, half)
        rows = frames.matrix(vectors, self.manifest.document.columns)
        found = [job.neighbours(k) for job in self._fetched(rows, timeout, data_class)]
        products = np.concatenate([each.scores for each in found]) * half.units(rows)[:, None]
        decimals = self.manifest.document.scores().decimals
        return SearchResult(np.concatenate([each.ids for each in found]), np.round(products, decimals))

    def score_ranges(
        self, vectors: Table, entries: NDArray[np.float32], *, within: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between which two numbers `search` gives an honest score of each vector with each of these entries: `(rows, m)` each.

        `entries` are `(m, width)`: what the index's owner had, each number to `within`. Asks nobody. Raises `InputError` as
        `search` does.
        """
        half = index_half(self._half, self.name)
        rows = frames.matrix(vectors, self.manifest.document.columns)
        least, most = half.score_ranges(rows, entries.astype(np.float64), within)
        decimals = self.manifest.document.scores().decimals
        return np.round(least, decimals), np.round(most, decimals)

    def fetch(self, positions: Sequence[int], *, timeout: float | None = None, data_class: Said = None) -> list[bytes]:
        """The records at these positions of a table, from 0, in their order, by one job; -1 fetches nothing, and gives zeros.

        How many there are is seen by gateway and node, and none of which. What comes back is what a node says. Raises `InputError`
        before anything is encrypted where a position is none of the table, there are more than one job takes, or the model is no
        table of records.
        """
        half = self._half
        if not isinstance(half, RecordHalf):
            message = f"model {self.name!r} is no table of records; use predict"
            raise InputError(message)
        job = self.submit(np.asarray(positions, dtype=np.float64).reshape(-1, 1), data_class=data_class)
        self.last_jobs = (job,)
        try:
            return half.records(job.scores(timeout))
        except BaseException:
            _cancel_quietly(self.last_jobs)
            raise

    def predict_proba(
        self, table: Table, *, timeout: float | None = None, data_class: str | None = None
    ) -> NDArray[np.float64]:
        """Probabilities, `(rows, classes)`, rounded as the manifest says. See `predict`."""
        rows = frames.matrix(table, self.manifest.document.columns)
        output = self.manifest.document.scores()
        frames.probabilities(np.zeros((1, output.scores)), output)  # refuse before anything is sent
        return frames.probabilities(self._scores(rows, timeout, data_class), output)

    def submit(self, table: Table, *, data_class: Said = None) -> Job:
        """Encrypt and submit the table as one job, without waiting for it.

        Raises `InputError` when it has more rows than one job takes; `predict` splits such a table.
        """
        rows = frames.matrix(table, self.manifest.document.columns)
        most = self.manifest.document.limits.rows_per_job
        if len(rows) > most:
            message = f"{len(rows)} rows are more than the {most} that one job of this model takes; predict splits them"
            raise InputError(message)
        return self._send(*self._prepare(rows, data_class))

    def __repr__(self) -> str:
        document = self.manifest.document
        return f"Model({document.name!r}, version={document.version}, family={document.family!r})"

    def _scores(
        self, rows: NDArray[np.float64], timeout: float | None, data_class: str | None = None
    ) -> NDArray[np.float64]:
        """The raw scores of what `frames.matrix` gave. Never of its own result: a category's position is no category."""
        jobs = self._fetched(rows, timeout, data_class)
        for job in jobs:
            job.decrypt()
        return np.concatenate([job.scores() for job in jobs])

    def _fetched(self, rows: NDArray[np.float64], timeout: float | None, data_class: Said) -> list[Job]:
        """Send `rows` as jobs and fetch their results; nothing is decrypted yet."""
        until = None if timeout is None else time.monotonic() + timeout
        sent: list[Future[Job]] = []
        try:
            with (
                _uploads() as pool,
                contextlib.closing(self._prepared(list(self._chunks(rows)), data_class)) as prepared,
            ):
                for each in prepared:
                    sent.append(pool.submit(copy_context().run, partial(self._send, *each)))  # noqa: PERF401  (kept when one fails)
                jobs = [future.result() for future in sent]
            self.last_jobs = tuple(jobs)
            with working(f"waiting for {self.name}", show=self._show_progress) as advance:
                for done, job in enumerate(jobs):
                    advance(done, len(jobs))
                    job.fetch(None if until is None else max(0.0, until - time.monotonic()))
        except BaseException:
            _cancel_quietly(future.result() for future in sent if not future.cancelled() and future.exception() is None)
            raise
        return jobs

    def _chunks(self, rows: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        size = min(self._half.rows_at_once, self.manifest.document.limits.rows_per_job)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _prepared(self, chunks: Sequence[NDArray[np.float64]], data_class: Said) -> Generator[_Prepared]:
        """Each chunk as `_prepare` gives it, in order: by this process, or by every core where the first one says that it pays."""
        first = self._prepare(chunks[0], data_class)
        yield first
        others, seconds = chunks[1:], first.timings.encrypt
        if seconds * len(others) < WORTH_SECONDS or cores() == 1:
            yield from (self._prepare(chunk, data_class) for chunk in others)
            return
        rows = sum(map(len, others))
        family = self.manifest.document.family
        with (
            working(f"encrypting {rows} rows", show=self._show_progress) as advance,
            Encryptors(self._half, family, self._part, first.secret, len(others)) as encryptors,
        ):
            for done, (chunk, found) in enumerate(zip(others, encryptors.encrypt(others), strict=True)):
                advance(done, len(others))
                timings = Timings()
                timings.encrypt = found.seconds
                yield first._replace(ciphertexts=found.ciphertexts, rows=len(chunk), timings=timings)

    def _prepare(self, rows: NDArray[np.float64], data_class: Said) -> _Prepared:
        """Check the policy, find the keys, encrypt: everything that may refuse, before anything is sent."""
        timings = Timings()
        now = int(time.time() * 1000)
        decision = decide(self._policy, self.manifest, said=data_class, client=self._keys.signer.id, now=now)
        policy = decision.require()
        policy.allowed_operators()
        self._logs.look(self._transport)
        start = time.monotonic()
        key = self._keys.key_for(self._half, show_progress=self._show_progress)
        timings.make_keys = time.monotonic() - start
        self._keep_key(key.evaluation)
        start = time.monotonic()
        with working(f"encrypting {len(rows)} rows", show=self._show_progress) as advance:
            ciphertexts = self._half.encrypt(key.secret, rows, advance)
        timings.encrypt = time.monotonic() - start
        return _Prepared(ciphertexts, len(rows), key.evaluation, key.secret, policy, timings)

    def _keep_key(self, evaluation: str | None) -> None:
        """Once for each key: it is large, and the same for many jobs."""
        kept = self._bundles.ciphertexts
        if kept is not None and evaluation is not None and kept.lacks(evaluation):
            key = self._keys.evaluation_key(self._half, evaluation)
            if key is not None:
                kept.keep(key, evaluation)

    def _send(  # noqa: PLR0913, PLR0917  (what `_Prepared` has)
        self,
        ciphertexts: bytes,
        rows: int,
        evaluation: str | None,
        secret: bytes,
        policy: Policy,
        timings: Timings,
    ) -> Job:
        start, job = time.monotonic(), new_job_id()
        small = len(ciphertexts) <= SMALL_BYTES
        with self._transport.traces.about(job, "submit"):
            blob = blob_ref(ciphertexts) if small else upload(self._transport, ciphertexts)
            bundle = Bundle(
                self.manifest,
                self._keys.signer.sign(self._order(job, blob, rows, evaluation, policy.allowed_operators())),
                classes=policy.met,
            )
            self._bundles.save(bundle)
            if self._bundles.ciphertexts is not None:
                self._bundles.ciphertexts.keep(ciphertexts, blob.digest)
            request = JobRequest(order=bundle.order.envelope, input_data=ciphertexts if small else None)
            self._transport.post("/v1/jobs", request, JobView)
        timings.upload = time.monotonic() - start
        timings.bytes_up = blob.size
        return Job(
            bundle,
            self._half,
            secret,
            transport=self._transport,
            bundles=self._bundles,
            policy=self._policy,
            logs=self._logs.under(policy),
            timings=timings,
        )

    def _order(self, job: str, blob: BlobRef, rows: int, evaluation: str | None, operators: tuple[str, ...]) -> Order:
        now = int(time.time() * 1000)
        return Order(
            job=job,
            tenant=self._tenant,
            model=model_ref(self.manifest),
            input=blob,
            evaluation_key=evaluation,
            rows=rows,
            operators=operators,
            client=self._keys.signer.id,
            issued=now,
            deadline=now + int(self._deadline * 1000),
        )


@contextlib.contextmanager
def _uploads() -> Iterator[ThreadPoolExecutor]:
    """Threads that send. After an error, what has not begun is not sent any more."""
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="blindgate-upload") as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cancel_quietly(jobs: Iterable[Job]) -> None:
    """Cancel what has not ended; the error that made us give up is the one to raise."""
    for job in jobs:
        try:
            job.cancel()
        except BlindgateError:
            return

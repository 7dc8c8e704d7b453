"""One job as its asker holds it: ask how it stands, wait, cancel, and open the result.

A `Job` can be made again in another process from its bundle (`Client.job`): the order that was signed is the memory, not what
the gateway says.
"""

import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindgate import frames
from blindgate.bundles import Bundles
from blindgate.logs import Logs
from blindgate.neighbours import SearchResult, check_count, index_half, nearest
from blindgate.opening import acknowledge, fetch_result, find_in_log, refuse_revoked, verify_receipt
from blindgate.policy import Policy
from blindgate.transport import Transport
from blindgate_models.halves import ClientHalf
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.errors import (
    GatewayError,
    JobCancelledError,
    JobDeadError,
    JobError,
    JobFailedError,
    JobTimeoutError,
)
from blindgate_protocol.inclusion import Standing
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRecord, JobView
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import SMALL_BYTES

LONG_POLL_SECONDS = 20.0
"""How long one request of a wait is held open by the gateway."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0
"""Between two requests of a wait, growing, where the gateway did not hold the first one open."""


@dataclass
class Timings:
    """Where a job's time went, in seconds, and its bytes.

    `evaluate` is the node's own statement; `wait` is what passed between submitting and the end, less `evaluate`.
    """

    make_keys: float = 0.0
    encrypt: float = 0.0
    upload: float = 0.0
    wait: float = 0.0
    evaluate: float = 0.0
    download: float = 0.0
    verify: float = 0.0
    decrypt: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0

    def __add__(self, other: "Timings") -> "Timings":
        return Timings(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


class Job:
    """One order, from submission to result."""

    def __init__(  # noqa: PLR0913  (a job is where everything about one order meets)
        self,
        bundle: Bundle,
        half: ClientHalf,
        secret: bytes,
        *,
        transport: Transport,
        bundles: Bundles,
        policy: Policy,
        logs: Logs,
        timings: Timings | None = None,
    ) -> None:
        """Made by `Model.submit` and `Client.job`."""
        self.id: str = bundle.order.document.job
        self.timings = timings or Timings()
        self._bundle = bundle
        self._half = half
        self._secret = secret
        self._transport = transport
        self._bundles = bundles
        self._policy = policy
        self._logs = logs
        self._submitted = time.monotonic()
        self._result: bytes | None = None
        self._scores: NDArray[np.float64] | None = None

    def status(self) -> JobState:
        """Where the job stands, in the gateway's words."""
        return self._view().state

    def result(self, timeout: float | None = None) -> NDArray[Any]:
        """Wait for the job, check its receipt, decrypt, and give labels (numbers, or the nearest entries' ids), `(rows,)`.

        `timeout` is in seconds; without one it waits until the order's deadline. Raises `JobTimeoutError` when there is no
        result in time, another `JobError` when there will be none, and a `ReceiptError` when the result is not to be believed.

        Where the policy names a log, it waits for the result to stand in it, for the policy's `log_within` seconds more at most,
        and raises a `LogError` when it does not; it may be called again then.
        """
        output = self._bundle.manifest.document.scores()
        if output.task == "search":
            return self.neighbours(1, timeout).ids[:, 0]
        return frames.predictions(self.scores(timeout), output)

    def neighbours(self, k: int = 10, timeout: float | None = None) -> SearchResult:
        """Like `result`, with the `k` entries of an index that are nearest to each row, and their scores as whole numbers.

        The scores of the other entries are not kept. Raises `InputError` for a model that is no index.
        """
        half = index_half(self._half, self._bundle.order.document.model.name)
        check_count(k, half)
        self.fetch(timeout)
        return nearest(self._decrypted() if self._scores is None else self._scores, k, half)

    def probabilities(self, timeout: float | None = None) -> NDArray[np.float64]:
        """Like `result`, with probabilities, `(rows, classes)`."""
        return frames.probabilities(self.scores(timeout), self._bundle.manifest.document.scores())

    def scores(self, timeout: float | None = None) -> NDArray[np.float64]:
        """Like `result`, with the model's raw scores, `(rows, scores)`.

        Do not pass them on unrounded: the last digits of a CKKS result carry the noise of the ciphertext.
        """
        if self._scores is None:
            self.fetch(timeout)
            self.decrypt()
        assert self._scores is not None  # noqa: S101
        return self._scores

    @property
    def receipt(self) -> Signed[Receipt] | None:
        """The node's receipt, once the result was fetched and the receipt checked."""
        return self._bundle.receipt

    @property
    def logged(self) -> Standing | None:
        """Where the receipt stands in the log; `None` where the policy names none or nothing was fetched. Raises `LogError`."""
        return self._logs.standing(self._bundle)

    @property
    def bundle(self) -> Bundle:
        """The job's signed documents."""
        return self._bundle

    def record(self) -> JobRecord:
        """Everything that the gateway says it stored about this job."""
        return self._transport.get(f"/v1/jobs/{self.id}/record", JobRecord)

    def cancel(self) -> JobState:
        """Stop the job. What has ended stays as it ended. Gives the state that it is in then."""
        try:
            return self._transport.post(f"/v1/jobs/{self.id}/cancel", None, JobView).state
        except GatewayError:
            view = self._view()
            if not view.state.ended:
                raise
            return view.state

    def fetch(self, timeout: float | None = None) -> None:
        """Wait for the result, verify the receipt, fetch, find it in the log and acknowledge, without decrypting."""
        if self._result is not None:
            return
        view = self._wait(timeout)
        seen = time.monotonic()
        self.timings.wait = seen - self._submitted
        with _clock(self.timings, "verify"):
            receipt = verify_receipt(view, self._bundle, operators=self._policy.named_operators())
        evaluated = (receipt.document.finished - receipt.document.started) / 1000
        self.timings.evaluate = min(evaluated, self.timings.wait)
        self.timings.wait -= self.timings.evaluate
        with _clock(self.timings, "download"):
            result = fetch_result(self._transport, view, receipt)
        self.timings.bytes_down += len(result)
        with _clock(self.timings, "verify"):
            complete = find_in_log(self._transport, self._logs, self._bundle, receipt, seen=seen)
            refuse_revoked(self._policy, self._logs, complete)
            if self._bundles.ciphertexts is not None:
                self._bundles.ciphertexts.keep(result, receipt.document.output.digest)
            acknowledge(self._transport, self._bundles, complete)
        self._bundle = complete
        self._result = result

    def decrypt(self) -> None:
        """Decrypt what `fetch` brought. Sends nothing."""
        if self._result is None or self._scores is not None:
            return
        self._scores = self._decrypted()

    def _decrypted(self) -> NDArray[np.float64]:
        assert self._result is not None  # noqa: S101
        with _clock(self.timings, "decrypt"):
            return self._half.decrypt(self._secret, self._result, self._bundle.order.document.rows)

    def __repr__(self) -> str:
        return f"Job({self.id}, model={self._bundle.order.document.model.name!r})"

    def _view(self, wait: float = 0.0) -> JobView:
        query = f"?wait={int(wait * 1000)}&inline={SMALL_BYTES}" if wait else ""
        return self._transport.get(f"/v1/jobs/{self.id}{query}", JobView, wait=wait)

    def _wait(self, timeout: float | None) -> JobView:
        deadline = self._bundle.order.document.deadline / 1000 - time.time()
        left = deadline if timeout is None else max(0.0, timeout)
        until = time.monotonic() + left
        pause = FIRST_PAUSE_SECONDS
        while True:
            asked = time.monotonic()
            wait = min(LONG_POLL_SECONDS, max(0.0, until - asked))
            view = self._view(wait)
            if view.state is JobState.SUCCEEDED:
                return view
            if view.state.ended:
                raise why_none(view)
            if time.monotonic() >= until:
                raise JobTimeoutError(late(view, left))
            if time.monotonic() - asked < wait / 2:  # the gateway has no thread to wait in
                time.sleep(min(pause, until - asked))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def why_none(view: JobView) -> JobError:
    """Why a job that ended has no result."""
    reason = view.reason or "no reason given"
    if view.state is JobState.FAILED:
        return JobFailedError(f"job {view.job}: a node refused it ({view.code}): {reason}")
    if view.state is JobState.DEAD:
        return JobDeadError(f"job {view.job}: all {len(view.attempts)} attempts were lost; the last: {reason}")
    if view.state is JobState.CANCELLED:
        return JobCancelledError(f"job {view.job} was cancelled")
    return JobTimeoutError(f"job {view.job}: its deadline passed before a node finished it")


def late(view: JobView, seconds: float) -> str:
    """What to say of a job that has not ended after so many seconds."""
    if view.state is JobState.LEASED:
        return f"job {view.job}: a node is working on it, and has not finished after {seconds:.1f} s"
    if view.attempts:
        return f"job {view.job}: no result after {seconds:.1f} s; {len(view.attempts)} attempts were lost so far"
    return (
        f"job {view.job}: no node took it in {seconds:.1f} s. Is a node running that serves this model's family, and does the "
        "policy name its operator?"
    )


class _clock:  # noqa: N801  (used like a function)
    def __init__(self, timings: Timings, name: str) -> None:
        self._timings, self._name = timings, name

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        spent = getattr(self._timings, self._name) + time.monotonic() - self._start
        setattr(self._timings, self._name, spent)

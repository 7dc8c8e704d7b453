"""One lease, from what came with it to the commit.

Everything that comes with a lease is hostile until checked, in this order, and only what passed is used in the next step:

1. the manifest: a publisher of this node's, in time (`packages`);
2. the order: signed by the client it names, for this model, in time; it is the job of the lease, allows this node's operator,
   fits the manifest's limits, and what its tenant may ask of the model in all (`budgets`);
3. the server part, the input and the key: sizes before and while they come, digests after (a small input came with the lease);
4. the evaluation, in a worker (`zygotes`): the node itself parses none of the three. Of a sealed job there is no key, the part is
   loaded already, and the request is opened and answered here (`sealed_jobs`);
5. the result: sealed, bounded, hashed, stored at the gateway;
6. the receipt: signed, on disk, then committed until an answer is known. A receipt whose result did not get to the gateway is
   worth nothing there, so a lease that comes back after a crash in between is released.

What goes wrong is said in one of two ways. **Refused**: these bytes can never be computed on, by anybody, so the job has failed.
**Released**: this attempt came to nothing, another may do better. A lost lease is neither: there is nobody to tell.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blindgate_node.blobs import BlobMismatchError, Result, SealedBlob
from blindgate_node.budgets import Budgets
from blindgate_node.families import Family
from blindgate_node.key_cache import KeyCache, KeyName
from blindgate_node.packages import Packages
from blindgate_node.pool import Pool
from blindgate_node.pulse import HeldLease
from blindgate_node.receipts import Commitments, Journal, make_receipt
from blindgate_node.settings import MEBI, Settings
from blindgate_node.transport import Gateway
from blindgate_node.zygotes import Bounds, Model
from blindgate_protocol.errors import (
    BackendError,
    BlindgateError,
    BudgetSpentError,
    CiphertextError,
    EvaluationKeyError,
    GatewayError,
    JobTimeoutError,
    KeySetGoneError,
    LeaseLostError,
    MalformedError,
    ManifestError,
    PolicyError,
    SandboxError,
    SignatureError,
    UntrustedSignerError,
)
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.messages import AnswerPart, Commit, Lease, Refusal, Release
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order, check_order
from blindgate_protocol.signing import Signed, SigningKey, open_signed
from blindgate_protocol.values import SMALL_BYTES, BlobRef, Millis
from blindgate_telemetry import NO_TRACES, Traces

if TYPE_CHECKING:
    from blindgate_node.sealed_jobs import SealedJobs

_REFUSED = (MalformedError, SignatureError, ManifestError, UntrustedSignerError, JobTimeoutError, BudgetSpentError)
_MAX_REASON = 500

Log = Callable[..., None]
TakenT = TypeVar("TakenT")


@dataclass(frozen=True)
class Work:
    """A job whose documents were checked."""

    lease: HeldLease
    order: Signed[Order]
    manifest: Signed[Manifest]
    family: Family
    input_data: bytes | None
    seal: bytes | None


@dataclass(frozen=True)
class Jobs:
    """What it takes to run jobs: the node's parts, joined."""

    settings: Settings
    key: SigningKey
    certificate: Signed[NodeCertificate]
    families: dict[str, Family]
    gateway: Gateway
    packages: Packages
    keys: KeyCache
    pool: Pool
    budgets: Budgets
    journal: Journal
    aside: Executor
    log: Log
    sealed: "SealedJobs | None" = None
    traces: Traces = NO_TRACES

    def run(self, offer: Lease, lease: HeldLease) -> str:
        """Run a leased job and give its outcome: `committed`, `refused`, `released` or `lost`. Raises nothing of Blindgate's."""
        started = time.monotonic()
        with self.traces.about(offer.job, "run"):
            outcome, said = self._attempt(offer, lease)
        told: dict[str, Any] = {} if said is None else {"code": said.code, "reason": str(said)[:_MAX_REASON]}
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        self.log(
            "job.ended", job=offer.job, generation=offer.generation, outcome=outcome, milliseconds=milliseconds, **told
        )
        return outcome

    def _attempt(self, offer: Lease, lease: HeldLease) -> tuple[str, BlindgateError | None]:
        try:
            repeated = self.journal.find(lease.name)
            if repeated is None:
                work = self._open(offer, lease)  # 1. and 2.
                begun, commitments = _now(), None
                if work.manifest.document.lane == "tee":
                    result, commitments = self._answer(work)  # 3. and 4.
                else:
                    result = self._evaluate(work)  # 3. and 4.
                self._finish(work, result, begun, commitments)  # 5. and 6.
            else:
                self.gateway.commit(lease.name, Commit(receipt=repeated), lease.go_on)
        except LeaseLostError as error:
            return "lost", error
        except _REFUSED as error:
            return self._tell(lease, error, refuse=True), error
        except KeySetGoneError as error:  # for good, unless another node has what it was sealed to
            return self._tell(lease, error, refuse=error.alone), error
        except BlindgateError as error:
            return self._tell(lease, error, refuse=False), error
        except Exception as error:  # noqa: BLE001  (a fault of the node's own must not end the node)
            fault = SandboxError(f"the node failed: {type(error).__name__}")
            self.log("job.fault", job=offer.job, error=type(error).__name__)
            return self._tell(lease, fault, refuse=False), fault
        return "committed", None

    def _open(self, offer: Lease, lease: HeldLease) -> Work:
        # 1.
        manifest = self.packages.open_manifest(offer.manifest, _now())
        document = manifest.document
        family = self.families.get(document.family)
        if family is None:
            message = f"this node does not compute family {document.family!r}"
            raise PolicyError(message)
        # 2.
        order = open_signed(offer.order, Order)
        check_order(order, model=model_ref(manifest), now=_now())
        wanted = order.document
        if wanted.job != offer.job:
            message = f"the order is for job {wanted.job}, and the lease for {offer.job}"
            raise PolicyError(message)
        if self.certificate.signer not in wanted.operators:
            message = f"the order does not allow operator {self.certificate.signer}"
            raise PolicyError(message)
        if (wanted.evaluation_key is not None) != document.evaluation_key:
            message = "the order names an evaluation key exactly where the model needs none"
            raise EvaluationKeyError(message)
        for name, got, most in (
            ("input bytes", wanted.input.size, document.limits.input_bytes),
            ("rows", wanted.rows, document.limits.rows_per_job),
        ):
            if got > most:
                message = f"{name}: got {got}, expected at most {most}"
                raise CiphertextError(message)
        if (wanted.nodes is not None) != (document.lane == "tee") or self.key.id not in (
            wanted.nodes or (self.key.id,)
        ):
            message = "the order's request is not sealed to this node"
            raise PolicyError(message)
        self.budgets.spend(order, manifest, _now())  # last: what is refused for another reason does not count
        return Work(lease, order, manifest, family, offer.input_data, offer.seal)

    def _evaluate(self, work: Work) -> Result:
        order, lease = work.order.document, work.lease
        # 3. A model whose zygote is there needs no look at its part.
        model = self._model(work)
        keeper = None if model.key is None else model.zygote
        # The key before the zygote that keeps it: what is in the cache is what can be dropped.
        with self._input(work) as given, self._evaluation_key(work, keeper) as key, self.pool.using(model) as zygote:
            lease.check()
            # 4.
            seconds = min(self.settings.job_seconds, (order.deadline - _now()) / 1000)
            try:
                with self.traces.about(order.job, "evaluate"):
                    return zygote.run(given, key, seconds=seconds, started=lease.started, rows=order.rows)
            except SandboxError:
                lease.check()  # it was killed because the job should not go on: say that
                raise

    def _answer(self, work: Work) -> tuple[Result, Commitments]:
        if self.sealed is None:
            message = "this node has no keys that a request could be sealed to"
            raise PolicyError(message)
        lease, most = work.lease, min(self.settings.job_seconds, (work.order.document.deadline - _now()) / 1000)
        until = time.monotonic() + most

        def check() -> None:
            lease.check()
            if time.monotonic() > until:
                message = f"the answer was not written in {most:.0f} s"
                raise BackendError(message)

        def send(part: AnswerPart) -> None:
            self.gateway.add_part(lease.name, part)

        with self._input(work) as given:
            request = os.pread(given.descriptor, given.ref.size, 0)
        with self.traces.about(work.order.document.job, "evaluate"):
            answered = self.sealed.answer(
                work.order, work.seal, request, send=send, check=check, corpus_blob=self._corpus_blobs(work, check)
            )
        return answered.result, answered.commitments

    def _finish(self, work: Work, result: Result, begun: Millis, commitments: Commitments | None) -> None:
        lease, deadline = work.lease, work.order.document.deadline
        receipt = make_receipt(
            order=work.order,
            manifest=work.manifest,
            lease=lease.name,
            output=result.ref,
            family=work.family,
            node=self.key.id,
            certificate=self.certificate.envelope,
            started=begun,
            finished=_now(),
            commitments=commitments,
        )
        envelope = self.key.sign(receipt).envelope
        # 5. and 6. at once: the disk and the gateway wait for each other otherwise. A small result goes with its receipt.
        kept = self.aside.submit(self.journal.keep, lease.name, envelope, deadline=deadline, now=_now())
        data = result.data if result.ref.size <= SMALL_BYTES else None
        if data is None:
            self.gateway.put_result(lease.name, result.data, result.ref.digest, lease.go_on)
        kept.result()
        # The lease may look lost from here while the commit went through: only an answer decides.
        commit = Commit(receipt=envelope, result_data=data)
        self.gateway.commit(lease.name, commit, lambda: not lease.abandoned and _now() < deadline)

    def _model(self, work: Work) -> Model:
        limits, settings = work.manifest.document.limits, self.settings
        largest = max(limits.input_bytes, limits.result_bytes, limits.evaluation_key_bytes)
        bounds = Bounds(
            memory=settings.memory_bytes,
            scratch=settings.scratch_bytes,
            start_seconds=settings.start_seconds,
            job_seconds=settings.job_seconds,
            file=largest + MEBI,
            result=limits.result_bytes,
        )
        server = work.manifest.document.server

        def part() -> Path:
            return self.packages.part(server, lambda store: self._download(work, server.digest, store))

        order, key = work.order.document, None
        if work.family.keyed and order.evaluation_key is not None:
            key = KeyName(order.tenant, order.evaluation_key)
        return Model(work.manifest.digest, work.manifest.document.family, work.family, part, bounds, key)

    def _input(self, work: Work) -> SealedBlob:
        wanted, most = work.order.document.input, work.manifest.document.limits.input_bytes

        def receive(chunks: Iterable[bytes]) -> SealedBlob:
            return SealedBlob.receive(chunks, digest=wanted.digest, size=wanted.size, most=most)

        with _mismatch_is(CiphertextError):
            if work.input_data is not None:
                return receive([work.input_data])
            return self._download(work, wanted.digest, receive)

    def _evaluation_key(self, work: Work, keeper: str | None) -> AbstractContextManager[SealedBlob | None]:
        order, most = work.order.document, work.manifest.document.limits.evaluation_key_bytes
        digest = order.evaluation_key
        if digest is None:
            return nullcontext()

        def receive(chunks: Iterable[bytes]) -> SealedBlob:
            return SealedBlob.receive(chunks, digest=digest, size=None, most=most)

        def fetch() -> SealedBlob:
            with _mismatch_is(EvaluationKeyError):
                return self._download(work, digest, receive)

        return self.keys.using(
            KeyName(order.tenant, digest),
            fetch,
            grows=work.family.grown,
            still_wanted=work.lease.check,
            keeper=keeper,
        )

    def _download(self, work: Work, digest: str, take: Callable[[Iterator[bytes]], TakenT]) -> TakenT:
        work.lease.check()
        return self.gateway.download(work.lease.name, digest, take, work.lease.go_on)

    def _corpus_blobs(self, work: Work, check: Callable[[], None]) -> Callable[[str, BlobRef], bytes]:
        def fetch(corpus: str, ref: BlobRef) -> bytes:
            def receive(chunks: Iterable[bytes]) -> bytes:
                with SealedBlob.receive(chunks, digest=ref.digest, size=ref.size, most=ref.size) as blob:
                    return os.pread(blob.descriptor, ref.size, 0)

            check()
            with _mismatch_is(BackendError):
                return self.gateway.download_of_corpus(work.lease.name, corpus, ref.digest, receive, work.lease.go_on)

        return fetch

    def _tell(self, lease: HeldLease, error: BlindgateError, *, refuse: bool) -> str:
        """Refuse or release the job. Where that fails too, the lease runs out, which is the same as a release."""
        # What a hostile package brought into a message must not make it one that cannot be sent.
        reason = str(error).encode(errors="replace").decode().replace("\0", "\ufffd")[:_MAX_REASON]
        code = "node-stopping" if lease.abandoned else error.code
        patience = time.monotonic() + min(lease.duration, 10.0)
        try:
            if refuse:
                self.gateway.refuse(lease.name, Refusal(code=code, reason=reason), lambda: time.monotonic() < patience)
                return "refused"
            self.gateway.release(lease.name, Release(code=code, reason=reason), lambda: time.monotonic() < patience)
        except (GatewayError, LeaseLostError, MalformedError):
            return "lost"
        return "released"


@contextmanager
def _mismatch_is(kind: type[BlindgateError]) -> Iterator[None]:
    """Bytes that are not those that were ordered are an error of this kind."""
    try:
        yield
    except BlobMismatchError as error:
        message = f"the gateway sent {error}"
        raise kind(message) from error


def _now() -> Millis:
    return time.time_ns() // 1_000_000

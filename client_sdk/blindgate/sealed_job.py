"""A request that is sealed to nodes that were believed, and its answer, read along and then held against what the node signed.

What happens before anything leaves this machine, in this order:

1. the policy is asked, for the classes of this request (`decisions`), and what follows goes by its answer;
2. where the policy names a log, the gateway is asked once which it serves;
3. nodes are asked what they prove, and each is judged (`admission`);
4. a fresh content key is drawn, and the request sealed under it;
5. the order is signed: it names the sealed bytes and the nodes; its bundle is kept;
6. the content key is wrapped for each of the nodes, under terms that name the order.

What comes back is a stranger's until it opens. A chunk that opens was sealed by somebody who has the content key, for this job and
order, under the keys and evidence of one recipient: it is authentic, and so far only a beginning. An answer is whole when

7. the final chunk opened;
8. the receipt answers the order, is signed by the node whose chunks were read, rests on the evidence for which it was believed, and
   names exactly the bytes that were read;
9. its commitments open to the request and to the answer;
10. it stands in the policy's log, and nobody it rests on was revoked.

Only then is anything acknowledged, and only then does `pieces` end without an error. Whoever shows pieces before shows a beginning.
An answer whose lease was lost is written anew: where nothing of it was given out yet, that is read; where something was, it is an
error.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from blindgate.admission import Admission
from blindgate.bundles import Bundles
from blindgate.decisions import Said, decide
from blindgate.job import FIRST_PAUSE_SECONDS, LONG_POLL_SECONDS, LONGEST_PAUSE_SECONDS, late, why_none
from blindgate.logs import Logs
from blindgate.opening import acknowledge, fetch_result, find_in_log, refuse_revoked, verify_receipt
from blindgate.policy import Policy
from blindgate.recipients import Candidate
from blindgate.transport import Transport
from blindgate.uploads import blob_ref, upload
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.chunks import Opener, RequestStream, Sealer
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import (
    CommitmentError,
    GatewayError,
    InterruptedAnswerError,
    JobDeadError,
    JobError,
    JobTimeoutError,
    MalformedError,
    ReceiptNodeError,
    ResultDigestError,
)
from blindgate_protocol.evidence import Recipient
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.messages import AnswerView, JobRequest, JobView
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.sealing import Terms, seal_key
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import SMALL_BYTES, Millis

_LAST: Final = SMALL_BYTES


@dataclass(frozen=True)
class Sealing:
    """What it takes to seal requests to one model: made by `Client`."""

    manifest: Signed[Manifest]
    tenant: str
    signer: SigningKey
    policy: Policy
    admission: Admission
    transport: Transport
    bundles: Bundles
    logs: Logs
    deadline: float

    def allowed(self, data_class: Said = None) -> Policy:
        """The policy as a request of this class has it. Raises `PolicyError`, which names the rule, where it may not be sent."""
        return decide(self.policy, self.manifest, said=data_class, client=self.signer.id, now=_now()).require()

    def ask(
        self, request: bytes, *, rows: int = 1, data_class: Said = None, redacted: Mapping[str, int] | None = None
    ) -> "SealedJob":
        """Seal and submit a request (steps 1 to 6 above).

        Args:
            request: the bytes.
            rows: how many rows it has, where it is a table's.
            data_class: what its caller says of it.
            redacted: how often something of a class was taken out of it, for the bundle.

        Raises `PolicyError` or `UntrustedEvidenceError` before anything is sealed, and what the transport does.
        """
        manifest = self.manifest
        # 1.
        policy = self.allowed(data_class)
        # 2.
        self.logs.look(self.transport)
        # 3.
        nodes = self.admission.recipients(manifest, policy)
        offers = [_offer(node) for node in nodes]
        # 4.
        job, key, padding = new_job_id(), ContentKey.generate(), policy.rules.padding
        now = _now()
        ends = min(now + int(self.deadline * 1000), *(offer.key_set.expires for offer in offers))
        sealed = Sealer(key, RequestStream(job=job, padding=padding)).finish(request)
        # 5.
        small = len(sealed) <= SMALL_BYTES
        order = self.signer.sign(
            Order(
                job=job,
                tenant=self.tenant,
                model=model_ref(manifest),
                input=blob_ref(sealed) if small else upload(self.transport, sealed),
                evaluation_key=None,
                rows=rows,
                operators=policy.allowed_operators(),
                nodes=tuple(node.node for node in nodes),
                client=self.signer.id,
                issued=now,
                deadline=ends,
            )
        )
        # 6.
        terms = Terms(
            job=job,
            order=order.digest,
            model=manifest.digest,
            policy=policy.digest,
            padding=padding,
            expires=ends,
        )
        seal = seal_key(key, terms, offers, now=now)
        bundle = Bundle(manifest, order, classes=policy.met, redacted=redacted or {})
        # Not past a power cut: with that goes the key that opens the answer.
        self.bundles.save(bundle, durable=False)
        if self.bundles.ciphertexts is not None:
            self.bundles.ciphertexts.keep(sealed, order.document.input.digest)
        asked = JobRequest(order=order.envelope, input_data=sealed if small else None, seal=seal.to_bytes())
        with self.transport.traces.about(job, "submit"):
            self.transport.post("/v1/jobs", asked, JobView)
        return SealedJob(self, bundle, logs=self.logs.under(policy), key=key, terms=terms, nodes=nodes, request=request)


class SealedJob:
    """A sealed request on its way, and its answer."""

    def __init__(  # noqa: PLR0913  (what was sealed, to whom, under which terms)
        self,
        sealing: Sealing,
        bundle: Bundle,
        *,
        logs: Logs,
        key: ContentKey,
        terms: Terms,
        nodes: tuple[Candidate, ...],
        request: bytes,
    ) -> None:
        """Made by `Sealing.ask`."""
        self.id: str = bundle.order.document.job
        self._sealing, self._bundle, self._key, self._terms, self._request = sealing, bundle, key, terms, request
        self._logs = logs
        self._nodes = {node.node: node for node in nodes}
        self._over = False

    @property
    def bundle(self) -> Bundle:
        """The job's signed documents; once the answer was read, with the receipt, the log's proof and the node's evidence."""
        return self._bundle

    def answer(self, timeout: float | None = None) -> bytes:
        """The whole answer, once everything held (steps 7 to 10). See `pieces`."""
        return b"".join(self.pieces(timeout))

    def pieces(self, timeout: float | None = None) -> Iterator[bytes]:
        """The answer as it is written; ends after everything held.

        `timeout` is in seconds; without one it waits until the order's deadline. Raises `JobError` where there is no answer,
        `SealError`, `ReceiptError`, `MalformedError` or `LogError` where there is one that is not to be believed,
        `InterruptedAnswerError` where its node was lost midway. Stopping to read cancels the job.
        """
        reading = _Reading(self._key, self._terms, self._nodes, self._sealing.manifest.document.limits.result_bytes)
        try:
            for part in self._parts(reading, timeout):
                yield from reading.take(part)
            view = self._ended()
            seen = time.monotonic()
            receipt, rest = self._check(view, reading)
            yield from rest
            self._settle(receipt, reading, seen)
            self._over = True
        finally:
            self.leave()

    def cancel(self) -> None:
        """Stop the job. What has ended stays as it ended."""
        self._sealing.transport.post(f"/v1/jobs/{self.id}/cancel", None, JobView)

    def _parts(self, reading: "_Reading", timeout: float | None) -> Iterator[AnswerView]:
        """What there is to read, until the job has ended."""
        transport, deadline = self._sealing.transport, self._bundle.order.document.deadline / 1000 - time.time()
        left = deadline if timeout is None else max(0.0, timeout)
        until, pause = time.monotonic() + left, FIRST_PAUSE_SECONDS
        while True:
            asked = time.monotonic()
            wait = min(LONG_POLL_SECONDS, max(0.0, until - asked))
            path = f"/v1/jobs/{self.id}/answer?begin={reading.size}&wait={int(wait * 1000)}"
            view = transport.get(path, AnswerView, wait=wait)
            if view.state.ended:
                return  # what was not read along stands in the result
            before = reading.place
            yield view
            if time.monotonic() >= until:  # also while it goes on: a gateway could let it come byte by byte
                if (
                    not reading.size
                ):  # perhaps nobody is there any more: those that were believed are asked before the next
                    self._sealing.admission.forget(self._sealing.manifest)
                raise JobTimeoutError(late(JobView(job=self.id, state=view.state, submitted=0), left))
            if reading.place != before:
                pause = FIRST_PAUSE_SECONDS
            elif (
                time.monotonic() - asked < wait / 2
            ):  # the gateway has no thread to wait in, or nothing that could be read
                time.sleep(min(pause, max(0.0, until - time.monotonic())))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _ended(self) -> JobView:
        view = self._sealing.transport.get(f"/v1/jobs/{self.id}?inline={_LAST}", JobView)
        if view.state is not JobState.SUCCEEDED:
            if not view.state.ended:
                message = f"the gateway called job {self.id} ended, and now calls it {view.state.value}"
                raise MalformedError(message)
            self._sealing.admission.forget(self._sealing.manifest)
            raise _why_none(view)
        return view

    def _check(self, view: JobView, reading: "_Reading") -> tuple[Signed[Receipt], list[bytes]]:
        """Do steps 7 and 8; gives the receipt and what of the answer was not read yet."""
        receipt = verify_receipt(view, self._bundle, operators=self._sealing.policy.named_operators())
        said = receipt.document
        node = self._nodes.get(said.node)
        if node is None or node.evidence is None or said.evidence != node.evidence.digest:
            message = (
                f"the receipt of node {said.node} rests on evidence {said.evidence}, for which it was not sealed to"
            )
            raise ReceiptNodeError(message)
        result = fetch_result(self._sealing.transport, view, receipt)
        rest = reading.finish(said.node, result)
        return receipt, rest

    def _settle(self, receipt: Signed[Receipt], reading: "_Reading", seen: float) -> None:
        sealing, said = self._sealing, receipt.document
        # 9.
        prompt = self._key.commitment("prompt", job=self.id, order=self._bundle.order.digest)
        prompt.add(self._request)
        answer = self._key.commitment("answer", job=self.id, order=self._bundle.order.digest)
        answer.add(bytes(reading.data))
        if said.prompt is None or said.answer is None:
            message = "the receipt commits to no prompt and no answer"
            raise CommitmentError(message)
        prompt.check(said.prompt)
        answer.check(said.answer)
        # 10.
        bundle = replace(self._bundle, evidence=self._nodes[said.node].shown)
        complete = find_in_log(sealing.transport, self._logs, bundle, receipt, seen=seen)
        refuse_revoked(sealing.policy, self._logs, complete)
        if sealing.bundles.ciphertexts is not None:
            sealing.bundles.ciphertexts.keep(reading.sealed(), said.output.digest)
        acknowledge(sealing.transport, sealing.bundles, complete)
        self._bundle = complete

    def leave(self) -> None:
        """Read no more: the node may stop, where it has not finished. What the gateway says to that changes nothing."""
        if self._over:
            return
        self._over = True
        try:
            self.cancel()
        except (GatewayError, MalformedError):
            return


def _why_none(view: JobView) -> JobError:
    """Why a sealed job has no result, and what to do where its nodes are gone: with a restart their keys are."""
    error = why_none(view)
    if view.state is not JobState.DEAD:
        return error
    return JobDeadError(f"{error}. Ask again: it is sealed anew then, to nodes that are there")


class _Reading:
    """The sealed bytes of an answer as they come, and what they open to.

    Attributes:
        size: how many sealed bytes were read, of the answer that is read now.
        data: what they opened to.
    """

    def __init__(self, key: ContentKey, terms: Terms, nodes: dict[str, Candidate], most: int) -> None:
        self._key, self._terms, self._nodes, self._most = key, terms, nodes, most
        self._generation = 0
        self._begin(None)

    @property
    def place(self) -> tuple[int, int]:
        """Which lease's answer is read, and how many bytes of it were: as long as this stays, nothing came."""
        return self._generation, self.size

    def take(self, view: AnswerView) -> list[bytes]:
        """What opens now. Raises `SealError`, `ReceiptNodeError`, `InterruptedAnswerError` or `MalformedError`."""
        moved = view.generation != self._generation
        if moved:
            self._move_on(view.generation)
        if not view.data or (moved and view.begin != self.size):
            return []  # what was asked for is of the lease before: ask again, from the beginning
        if view.begin != self.size:
            message = f"the gateway gives the answer from byte {view.begin} on, and was asked from byte {self.size} on"
            raise MalformedError(message)
        if self._opener is None:
            if view.node is None:
                return []  # the lease is over: there will be another, or none
            self._begin(view.node)
        return self._feed(view.data)

    def _move_on(self, generation: int) -> None:
        """Another lease than the one whose answer was read so far."""
        if generation < self._generation:
            message = f"the gateway went back from lease {self._generation} of the job to lease {generation}"
            raise MalformedError(message)
        if self.data:
            message = "the node that wrote this answer was lost midway, and another began anew: ask again"
            raise InterruptedAnswerError(message)
        self._generation = generation
        self._begin(None)

    def finish(self, node: str, result: bytes) -> list[bytes]:
        """Take the whole answer of `node`, of which some may have been read; gives what was not.

        Raises `SealError`, and `ResultDigestError` where what was read is not its beginning.
        """
        if self._node not in {None, node} or result[: self.size] != self.sealed():
            if self.data:
                message = "what was read along is not the beginning of the result that the receipt names"
                raise ResultDigestError(message)
            self._begin(None)
        if self._opener is None:
            self._begin(node)
        rest = self._feed(result[self.size :])
        assert self._opener is not None  # noqa: S101
        self._opener.finish()
        return rest

    def sealed(self) -> bytes:
        """The sealed bytes that were read."""
        return bytes(self._sealed)

    def _begin(self, node: str | None) -> None:
        self._node, self._opener = node, None
        self._sealed, self.data, self.size = bytearray(), bytearray(), 0
        if node is None:
            return
        found = self._nodes.get(node)
        if found is None or found.evidence is None or found.recipient is None:
            message = f"node {node} answers, to which the request was not sealed"
            raise ReceiptNodeError(message)
        offer = found.recipient.document
        response = self._terms.response(key_set=offer.key_set.digest, evidence=offer.evidence)
        self._opener = Opener(self._key, response, most_bytes=self._most)

    def _feed(self, sealed: bytes) -> list[bytes]:
        assert self._opener is not None  # noqa: S101
        self._sealed += sealed
        self.size += len(sealed)
        opened = [data for data in self._opener.feed(sealed) if data]
        for data in opened:
            self.data += data
        return opened


def _offer(node: Candidate) -> Recipient:
    assert node.recipient is not None  # noqa: S101  (it is admitted)
    return node.recipient.document


def _now() -> Millis:
    return time.time_ns() // 1_000_000

"""What a gateway may say of sealed jobs that is not so: lies about evidence, leases, answers and receipts, each as a function."""

from collections.abc import Callable
from typing import Any

from blindgate_node.attester.simulated import KEY_FILE
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.attestations import AttestationAnswer, AttestationView
from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import RequestStream, Sealer
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import KeySetGoneError
from blindgate_protocol.evidence import Evidence, KeySet, Recipient
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import Attempt, JobView, Lease
from blindgate_protocol.padding import Padding
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.sealing import RecipientKeys, Seal
from blindgate_protocol.signing import Envelope, SigningKey, open_signed
from blindgate_protocol.simulated_evidence import WARNING, SimulatedEvidence
from brokerage import now_ms
from sealed_stand import Stand


def _shown(view: AttestationView, recipient: Envelope, evidence: bytes) -> AttestationView:
    return view.model_copy(update={"answer": AttestationAnswer(recipient=recipient, evidence=evidence)})


def _answered(view: AttestationView) -> AttestationAnswer:
    assert view.answer is not None
    return view.answer


def own_keys(_stand: Stand, _old: AttestationView, view: AttestationView) -> AttestationView:
    """A key set whose secrets the gateway has, in an offer that it signs itself."""
    answer = _answered(view)
    offer, own = open_signed(answer.recipient, Recipient).document, SigningKey.generate()
    keys = RecipientKeys.generate(
        node=offer.key_set.node, receipt=own, issued=now_ms() - 1000, expires=now_ms() + 600_000
    )
    return _shown(view, own.sign(offer.model_copy(update={"key_set": keys.key_set})).envelope, answer.evidence)


def old_answer(_stand: Stand, old: AttestationView, view: AttestationView) -> AttestationView:
    """What the node answered to a question before."""
    return view.model_copy(update={"answer": old.answer})


def others_evidence(stand: Stand, _old: AttestationView, view: AttestationView) -> AttestationView:
    """This node's offer beside the other's evidence, which was asked for this question, by its own attester."""
    answer = _answered(view)
    evidence = Evidence.from_bytes(answer.evidence)
    said = SimulatedEvidence(warning=WARNING, report_data=evidence.binding.report_data(), time=now_ms())
    other = load_or_create_key(stand.world.folder / "other" / KEY_FILE).sign(said).envelope.to_bytes()
    return _shown(view, answer.recipient, evidence.model_copy(update={"platform": other}).to_bytes())


def ended_keys(stand: Stand, _old: AttestationView, view: AttestationView) -> AttestationView:
    """A key set that ended an hour ago, signed by the node, with evidence."""
    answer = _answered(view)
    offer, evidence = open_signed(answer.recipient, Recipient).document, Evidence.from_bytes(answer.evidence)
    ended: KeySet = offer.key_set.model_copy(update={"issued": now_ms() - 7_200_000, "expires": now_ms() - 3_600_000})
    bound = evidence.binding.model_copy(update={"key_set": ended.digest})
    said = SimulatedEvidence(warning=WARNING, report_data=bound.report_data(), time=now_ms())
    attester = load_or_create_key(stand.world.folder / "enclave" / KEY_FILE)
    made = evidence.model_copy(update={"binding": bound, "platform": attester.sign(said).envelope.to_bytes()})
    offered = Recipient(certificate=offer.certificate, key_set=ended, evidence=made.digest)
    return _shown(view, stand.key("enclave").sign(offered).envelope, made.to_bytes())


def other_terms(**changes: Any) -> Callable[[Lease, Lease], Lease]:
    """The seal under other terms."""

    def changed(lease: Lease, _other: Lease) -> Lease:
        seal = Seal.from_bytes(lease.seal or b"")
        return resealed(lease, Seal(terms=seal.terms.model_copy(update=changes), recipients=seal.recipients))

    return changed


def resealed(lease: Lease, seal: Seal | bytes | None) -> Lease:
    """The lease with this seal."""
    return lease.model_copy(update={"seal": seal.to_bytes() if isinstance(seal, Seal) else seal})


def flipped(data: bytes, at: int = -1) -> bytes:
    """With one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def flipped_key(lease: Lease, _other: Lease) -> Lease:
    """A bit of the wrapped key."""
    seal = Seal.from_bytes(lease.seal or b"")
    (one,) = seal.recipients
    bad = one.model_copy(update={"sealed": flipped(one.sealed)})
    return resealed(lease, Seal(terms=seal.terms, recipients=(bad,)))


def other_request(change: Callable[[bytes, bytes], bytes]) -> Callable[[Lease, Lease], Lease]:
    """The request, changed; `change` is given another job's, too."""
    return lambda lease, other: lease.model_copy(
        update={"input_data": change(lease.input_data or b"", other.input_data or b"")}
    )


def signed_anew(stand: Stand, view: JobView, signer: SigningKey | None = None, **changes: Any) -> JobView:
    """The job with a receipt that was changed, signed by its own node unless told otherwise."""
    assert view.receipt is not None
    receipt = open_signed(view.receipt, Receipt).document
    changed = Receipt(**({name: getattr(receipt, name) for name in Receipt.model_fields} | changes))
    return view.model_copy(update={"receipt": (signer or stand.key("enclave")).sign(changed).envelope})


def other_commitment(side: str) -> Callable[[Stand, JobView, JobView], JobView]:
    """The node commits to another prompt or answer."""
    committed = ContentKey(bytes(32)).commitment("prompt", job="0" * 32, order=digest(b"")).value()
    return lambda stand, view, _: signed_anew(stand, view, None, **{side: committed})


def swapped_payload(_stand: Stand, view: JobView, other: JobView) -> JobView:
    """Another job's receipt under this one's signature."""
    assert view.receipt is not None
    assert other.receipt is not None
    mixed = view.receipt.model_copy(update={"payload": other.receipt.payload})
    return view.model_copy(update={"receipt": mixed})


def own_answer(_nonce: bytes, _chunks: list[bytes]) -> bytes:
    """As good an answer as a gateway can make: under a content key of its own."""
    stream = RequestStream(job="0" * 32, padding=Padding(rule="powers"))
    return Sealer(ContentKey.generate(), stream).finish(b'{"choices": []}\n')


def keys_gone(view: JobView) -> JobView:
    """How a job ends whose node was started again."""
    attempt = Attempt(generation=1, node="enclave", outcome="refused", reason=f"{KeySetGoneError.code}: they are gone")
    return JobView(
        job=view.job,
        state=JobState.FAILED,
        submitted=view.submitted,
        attempts=(attempt,),
        code=KeySetGoneError.code,
        reason="they are gone",
    )

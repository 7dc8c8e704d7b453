"""One job, told again from its bundle alone: what is said, who signed it, and what nobody can know from it.

`replay` holds a bundle whose signatures were verified (`bundle.read_bundle`) against itself and the auditor's roots. It does
so in this order, and goes on where something does not hold, so that every fault is named:

1. the order is signed by the client that it names, and by one of the clients that were named, if any were;
2. the manifest is the one that the order names, was valid when the order was issued, and its publisher is one that is vouched for;
3. the receipt answers the order, and an operator that the order allowed, and that is vouched for, says so of its node at that time
   (`receipts.check_receipt`);
4. what its node had shown, where the request was sealed, is what the receipt rests on (`shown.check_shown`); what evidence proves
   by itself is an appraisal's to say;
5. the receipt's event stands in a log that is vouched for, cosigned as often as is wanted (`inclusion.check_logged`);
6. nobody whose signature is needed was revoked when it counts as made (`revocations.signatures`).

Where no key of a role was given, its signature holds under a key that nobody vouched for. Of a log nothing holds then but that
the entry leads to the root that is written there: a checkpoint does not bring its key along.

The verdict is one of three. `refused`: something contradicts. `unvouched`: nothing does, and somebody's key is only its own word.
`holds`: every signature holds, under keys that the auditor named. Even that leaves open what `unproven` lists.

No clock and no network: the same bundle and roots give the same answer in ten years.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from blindgate_audit.roots import Roots, name_of
from blindgate_audit.unproven import Known, Unproven, unproven
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.checkpoints import Checkpoint, EntryProof
from blindgate_protocol.errors import (
    BlindgateError,
    LogError,
    NotLoggedError,
    ReceiptModelError,
    ReceiptOrderError,
    SignatureError,
    UntrustedSignerError,
)
from blindgate_protocol.events import Event, leaf_of
from blindgate_protocol.evidence import Evidence
from blindgate_protocol.inclusion import check_logged
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.manifest import check_manifest, model_ref
from blindgate_protocol.merkle import verify_inclusion
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.notes import VerifierKey, parse_note
from blindgate_protocol.receipts import check_receipt
from blindgate_protocol.revocations import DatedSignature, Role, require_unrevoked, signatures
from blindgate_protocol.shown import check_shown
from blindgate_protocol.signing import Signed, open_signed

Document = Literal["manifest", "order", "receipt", "certificate", "evidence", "log", "bundle"]
"""What a statement stands in. `log`: the event, and the checkpoint that its proof leads to."""


class Verdict(StrEnum):
    """What came out, all in all."""

    HOLDS = "holds"
    UNVOUCHED = "unvouched"
    REFUSED = "refused"


@dataclass(frozen=True)
class Signer:
    """Somebody whose signature is in the bundle.

    Attributes:
        role: publisher, client, operator, node, log, or a witness.
        key: the key, in text; `None` for a log whose key nobody gave.
        name: the auditor's name for the key; for a node its operator's. `None` where there is none.
        vouched: whether the auditor named the key, or, of a node, whether an operator did whose key the auditor named.
    """

    role: str
    key: str | None
    name: str | None
    vouched: bool


@dataclass(frozen=True)
class Refusal:
    """Something that does not hold: which document is refused, and why.

    Attributes:
        code: the error's name in the one error tree.
    """

    document: Document
    code: str
    text: str


@dataclass(frozen=True)
class Place:
    """Where the receipt stands in a log.

    Attributes:
        log: the auditor's name for the log; `None` where it named none, and then no signature was verified.
        cosigned: when each trusted witness cosigned, in seconds since 1970, by the auditor's name for it.
    """

    log: str | None
    key: VerifierKey | None
    index: int
    event: Event
    checkpoint: Checkpoint
    cosigned: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """Everything that a bundle shows.

    Attributes:
        certificate: the operator's word for the node; `None` without a receipt, or where it does not open.
        place: `None` where the bundle shows none that holds.
        evidence: what the node had shown; `None` where the request was not sealed, or it does not hold.
        refusals: empty where nothing contradicts.
    """

    bundle: Bundle
    certificate: Signed[NodeCertificate] | None
    place: Place | None
    signers: tuple[Signer, ...]
    refusals: tuple[Refusal, ...]
    not_proven: tuple[Unproven, ...]
    evidence: Evidence | None = None

    @property
    def verdict(self) -> Verdict:
        """What came out, all in all."""
        if self.refusals:
            return Verdict.REFUSED
        if all(signer.vouched for signer in self.signers if signer.role in _ROOTS):
            return Verdict.HOLDS
        return Verdict.UNVOUCHED

    def holds(self, document: Document) -> bool:
        """Whether nothing contradicts this document."""
        return all(refusal.document != document for refusal in self.refusals)


_ROOTS: Final = ("publisher", "operator", "log")
"""Those whom an auditor must vouch for. A client is whoever it is, unless it was named."""

_SIGNED: Final[dict[Role, Document]] = {
    "publisher": "manifest",
    "client": "order",
    "operator": "certificate",
    "node": "receipt",
}


def replay(bundle: Bundle, roots: Roots) -> Replay:
    """Check a bundle against itself and `roots` (steps 1 to 6 above). What does not hold is in the answer, never raised."""
    refusals: list[Refusal] = []
    _check_order(bundle, roots, refusals)  # 1.
    _check_model(bundle, roots, refusals)  # 2.
    certificate = _check_receipt(bundle, roots, refusals)  # 3.
    evidence = _check_evidence(bundle, refusals)  # 4.
    place = _check_place(bundle, roots, refusals)  # 5.
    logged = None if place is None or place.log is None else place.event.time
    dated = tuple(signatures(bundle, logged=logged))
    _check_revoked(dated, roots, refusals)  # 6.
    signers = tuple(_signers(bundle, roots, certificate, place))
    known = Known(
        bundle=bundle,
        logged_at=None if place is None else place.event.time,
        log_known=place is not None and place.log is not None,
        logged=place is not None,
        cosigned=() if place is None else tuple(place.cosigned.values()),
        unvouched=tuple(signer.role for signer in signers if not signer.vouched),
        own_word=tuple(one.role for one in dated if one.own_word and one.key in roots.revoked),
    )
    return Replay(bundle, certificate, place, signers, tuple(refusals), tuple(unproven(known)), evidence)


def _check_order(bundle: Bundle, roots: Roots, refusals: list[Refusal]) -> None:
    order = bundle.order
    with _refused("order", refusals):
        if order.signer != order.document.client:
            message = f"the order names {order.document.client} as its client and is signed by {order.signer}"
            raise SignatureError(message)
    with _refused("order", refusals):
        _require("client", order.signer, roots.clients)


def _check_model(bundle: Bundle, roots: Roots, refusals: list[Refusal]) -> None:
    manifest, order = bundle.manifest, bundle.order.document
    with _refused("manifest", refusals):
        if model_ref(manifest) != order.model:
            message = (
                f"the order is for {order.model.name} version {order.model.version} ({order.model.manifest}); the bundle holds "
                f"the manifest of {manifest.document.name} version {manifest.document.version} ({manifest.digest})"
            )
            raise ReceiptModelError(message)
    with _refused("manifest", refusals):
        _require("publisher", manifest.signer, roots.publishers)
    with _refused("manifest", refusals, "when the order was issued: "):
        check_manifest(manifest, publishers=(manifest.signer,), now=order.issued)


def _check_receipt(bundle: Bundle, roots: Roots, refusals: list[Refusal]) -> Signed[NodeCertificate] | None:
    order = bundle.order
    if bundle.receipt is None:
        message = f"the bundle holds no receipt of job {order.document.job}: nothing in it says that the job ever ran"
        refusals.append(Refusal("receipt", ReceiptOrderError.code, message))
        return None
    certificate = None
    with _refused("receipt", refusals):
        certificate = check_receipt(bundle.receipt, order, bundle.manifest, operators=order.document.operators)
    if certificate is None:  # it is shown as long as it is one
        with suppress(BlindgateError):
            certificate = open_signed(bundle.receipt.document.certificate, NodeCertificate)
    if certificate is not None:
        with _refused("certificate", refusals):
            _require("operator", certificate.signer, roots.operators)
    return certificate


def _check_evidence(bundle: Bundle, refusals: list[Refusal]) -> Evidence | None:
    with _refused("evidence", refusals):
        return check_shown(bundle)
    return None


def _check_place(bundle: Bundle, roots: Roots, refusals: list[Refusal]) -> Place | None:
    if bundle.receipt is None:
        return None
    with _refused("log", refusals):
        if roots.logs:
            found = check_logged(bundle, roots.trusts())
            return Place(found.log, found.key, found.index, found.event, found.checkpoint, found.cosigned)
        if bundle.logged is not None:
            return _unsigned_place(bundle, bundle.logged)
    return None


def _unsigned_place(bundle: Bundle, logged: LoggedProof) -> Place:
    """Where the receipt stands by the log's own word: everything but the signature of a log that nobody named."""
    try:
        check_logged(bundle, {})
    except NotLoggedError:
        raise
    except LogError:  # as it must end without a trusted log; what does not parse is refused below
        pass
    event, proof = Event.from_bytes(logged.event.encode()), EntryProof.parse(logged.proof.encode())
    tree = Checkpoint.parse(parse_note(proof.checkpoint).text)
    verify_inclusion(
        index=proof.index,
        size=tree.size,
        leaf=leaf_of(logged.event.encode(), logged.salt),
        proof=proof.hashes,
        root=tree.root,
    )
    return Place(None, None, proof.index, event, tree)


def _check_revoked(dated: Iterable[DatedSignature], roots: Roots, refusals: list[Refusal]) -> None:
    for signature in dated:
        with _refused(_SIGNED[signature.role], refusals):
            require_unrevoked(signature, roots.revoked)


def _signers(
    bundle: Bundle, roots: Roots, certificate: Signed[NodeCertificate] | None, place: Place | None
) -> Iterator[Signer]:
    """Who signed what holds this together, the auditor's roots first."""
    publisher = name_of(bundle.manifest.signer, roots.publishers)
    yield Signer("publisher", bundle.manifest.signer, publisher, publisher is not None)
    if certificate is not None:
        operator = name_of(certificate.signer, roots.operators)
        yield Signer("operator", certificate.signer, operator, operator is not None)
    if place is not None:
        yield Signer("log", None if place.key is None else str(place.key), place.log, place.log is not None)
        for witness in place.cosigned:
            yield Signer("witness", str(roots.witnesses[witness]), witness, vouched=True)
    client = name_of(bundle.order.signer, roots.clients)
    yield Signer("client", bundle.order.signer, client, client is not None)
    if bundle.receipt is not None:
        vouched = certificate is not None and name_of(certificate.signer, roots.operators) is not None
        name = None if certificate is None else certificate.document.name
        yield Signer("node", bundle.receipt.signer, name, vouched)


def _require(role: str, key: str, trusted: Mapping[str, str]) -> None:
    """Refuse a key that is none of those that were named for its role, where any were."""
    if trusted and key not in trusted.values():
        named = ", ".join(name if name == known else f"{name} ({known})" for name, known in trusted.items())
        message = f"{role} {key} is none of those that were named: {named}"
        raise UntrustedSignerError(message)


@contextmanager
def _refused(document: Document, refusals: list[Refusal], when: str = "") -> Iterator[None]:
    """Write down what is raised, and go on."""
    try:
        yield
    except BlindgateError as error:
        refusals.append(Refusal(document, error.code, f"{when}{error}"))

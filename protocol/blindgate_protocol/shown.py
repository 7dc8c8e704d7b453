"""What a node had shown before a request was sealed to it, held against what it signed afterwards.

A bundle of a sealed job keeps the node's offer and its evidence as they came. `check_shown` establishes, years later and without
asking anybody:

1. they are there exactly where the receipt is of lane `tee`;
2. the offer is signed, and the evidence is one;
3. the offer was good when the order was issued: signed by the node of its key set, with an operator's certificate, in its time, and
   the evidence is the one that it names and binds this key set and this model (`evidence.check_recipient`);
4. it is the offer of the node that signed the receipt, and its evidence is the one that the receipt names.

What the evidence itself proves is not asked here: that is an appraisal's, by its platform's rules. Which nonce the client drew, and
which policy it had, the evidence says and nobody else.

Section 12 of docs/protocol.md.
"""

from blindgate_protocol.bundle import Bundle
from blindgate_protocol.errors import MalformedError, RecipientError, SealTermsError
from blindgate_protocol.evidence import Evidence, Recipient, check_recipient
from blindgate_protocol.signing import open_signed


def check_shown(bundle: Bundle) -> Evidence | None:
    """Decide whether a bundle's evidence is what its receipt rests on (steps 1 to 4 above); `None` for a job that was not sealed.

    Raises `MalformedError`, `SignatureError`, `RecipientError`, `SealExpiredError` or `SealTermsError`.
    """
    receipt, shown = bundle.receipt, bundle.evidence
    # 1.
    sealed = receipt is not None and receipt.document.lane == "tee"
    if sealed != (shown is not None):
        what = "lacks the evidence" if sealed else "holds evidence, and no receipt"
        message = f"the bundle {what} of a job whose request was sealed"
        raise MalformedError(message)
    if receipt is None or shown is None:
        return None
    # 2.
    recipient, evidence = open_signed(shown.recipient, Recipient), Evidence.from_bytes(shown.evidence)
    # 3.
    check_recipient(
        recipient,
        evidence,
        nonce=evidence.binding.nonce,
        model=bundle.manifest.digest,
        policy=evidence.binding.policy,
        operators=bundle.order.document.operators,
        now=bundle.order.document.issued,
    )
    # 4.
    if recipient.signer != receipt.document.node:
        message = f"the evidence is of node {recipient.signer}, and the receipt of node {receipt.document.node}"
        raise RecipientError(message)
    if evidence.digest != receipt.document.evidence:
        message = "the evidence is another than the one that the receipt names"
        raise SealTermsError(message)
    return evidence

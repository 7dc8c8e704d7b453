"""What a node asserts about a job, and what a client demands of it.

A receipt carries the node's certificate, so a stranger needs the operator's key and nothing else to check it.

`check_receipt` holds a receipt against the order *that the client itself signed and kept*; it establishes:

1. it answers this order: same job, same digest;
2. it names the order's model, the manifest's circuit, the order's input and key;
3. the node that signed it is the node that it names, one of those that the order names where it does, and an operator that the
   order allowed vouches for that node at that time;
4. it was not finished before the order was issued, nor after its deadline.

`check_result` then establishes that the bytes at hand are the ones that the receipt names. What neither establishes is that
the node computed what it claims: in the fhe lane, integrity is the node's word (docs/threat-model.md).

Section 8 of docs/protocol.md.
"""

from collections.abc import Container
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from blindgate_protocol.canonical import digest
from blindgate_protocol.content_key import Committed
from blindgate_protocol.errors import (
    BlindgateError,
    ReceiptModelError,
    ReceiptNodeError,
    ReceiptOrderError,
    ResultDigestError,
)
from blindgate_protocol.manifest import Lane, Manifest, ModelRef, Unstated
from blindgate_protocol.nodes import NodeCertificate, check_certificate
from blindgate_protocol.order import Order
from blindgate_protocol.signing import Document, Envelope, Signed, open_signed
from blindgate_protocol.values import BlobRef, Digest, JobId, KeyId, Millis, Name, Text

CLOCK_SKEW: Millis = 120_000
"""How far a node's clock may be off before its receipts are refused."""


class Receipt(Document):
    """A node's statement: I evaluated this circuit on this input under this key, and this came out.

    Attributes:
        order: the digest of the client's order.
        circuit: the digest of the model's server part.
        generation: which lease of the job this was, from 1.
        certificate: the operator's envelope for `node`.
        software: versions of what computed, by name.
        evidence: the digest of the evidence for which the node was sealed to; in lane `tee`, and there alone.
        prompt: the commitment to what the request says (`content_key`); likewise.
        answer: the commitment to what the answer says; likewise.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.receipt.v1+json"

    order: Digest
    job: JobId
    tenant: Name
    model: ModelRef
    circuit: Digest
    evaluation_key: Digest | None
    input: BlobRef
    output: BlobRef
    lane: Lane
    generation: Annotated[int, Field(ge=1)]
    node: KeyId
    certificate: Envelope
    software: dict[Name, Text]
    started: Millis
    finished: Millis
    evidence: Annotated[Digest | None, Unstated] = None
    prompt: Annotated[Committed | None, Unstated] = None
    answer: Annotated[Committed | None, Unstated] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("evidence", "prompt", "answer"):
            if (self.lane == "tee") != (getattr(self, name) is not None):
                message = f"{name} goes with lane tee, and with no other"
                raise ValueError(message)
        return self


def check_receipt(
    receipt: Signed[Receipt], order: Signed[Order], manifest: Signed[Manifest], *, operators: Container[str]
) -> Signed[NodeCertificate]:
    """Decide whether a verified receipt answers the client's own order (steps 1 to 4 above).

    `operators` are those that the client's policy trusts now. Gives the node's certificate.
    Raises `ReceiptOrderError`, `ReceiptModelError` or `ReceiptNodeError`.
    """
    got, wanted = receipt.document, order.document
    # 1.
    if (got.job, got.order, got.tenant) != (wanted.job, order.digest, wanted.tenant):
        message = f"the receipt answers order {got.order} of job {got.job}, not this client's order of job {wanted.job}"
        raise ReceiptOrderError(message)
    # 2.
    for name, theirs, ours in (
        ("model", got.model, wanted.model),
        ("manifest", got.model.manifest, manifest.digest),
        ("circuit", got.circuit, manifest.document.server.digest),
        ("evaluation key", got.evaluation_key, wanted.evaluation_key),
        ("input", got.input, wanted.input),
        ("lane", got.lane, manifest.document.lane),
    ):
        if theirs != ours:
            message = f"the receipt's {name} is not the order's"
            raise ReceiptModelError(message)
    # 3.
    if receipt.signer != got.node:
        message = f"the receipt names node {got.node} and is signed by {receipt.signer}"
        raise ReceiptNodeError(message)
    if wanted.nodes is not None and got.node not in wanted.nodes:
        message = f"the receipt is of node {got.node}, to which the order's request was not sealed"
        raise ReceiptNodeError(message)
    try:
        certificate = open_signed(got.certificate, NodeCertificate)
    except BlindgateError as error:
        message = f"the receipt's node certificate is refused: {error}"
        raise ReceiptNodeError(message) from error
    check_certificate(certificate, node=got.node, at=got.finished)
    if certificate.signer not in wanted.operators or certificate.signer not in operators:
        message = (
            f"node {certificate.document.name!r} belongs to operator {certificate.signer}, whom the order did not allow"
        )
        raise ReceiptNodeError(message)
    # 4.
    if not wanted.issued - CLOCK_SKEW <= got.started <= got.finished <= wanted.deadline + CLOCK_SKEW:
        message = "the receipt's times lie outside the order's"
        raise ReceiptOrderError(message)
    return certificate


def check_result(receipt: Signed[Receipt], result: bytes) -> None:
    """Decide whether `result` is what the receipt names. Raises `ResultDigestError`."""
    named = receipt.document.output
    if (len(result), digest(result)) != (named.size, named.digest):
        message = f"the result is not the {named.size} bytes that the receipt names"
        raise ResultDigestError(message)

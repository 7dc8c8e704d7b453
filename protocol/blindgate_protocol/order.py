"""What the client authorises: one model, on one input, under one key, by these operators, until then.

The client signs the order before the gateway sees it and keeps a copy. Everything that comes back is held against that copy,
never against what the gateway says the job was.

`check_order` is what the gateway and the node do with an order before they act on it; it establishes:

1. it was signed by the key that it names as the client's;
2. its deadline has not passed;
3. it is for this model.

Section 5 of docs/protocol.md.
"""

import secrets
from typing import Annotated, ClassVar, Final

from pydantic import Field

from blindgate_protocol.errors import JobTimeoutError, PolicyError, SignatureError
from blindgate_protocol.manifest import ModelRef, Unstated
from blindgate_protocol.signing import Document, Signed
from blindgate_protocol.values import BlobRef, Digest, JobId, KeyId, Millis, Name

MOST_NODES: Final = 16
"""How many nodes a request is sealed to at most."""


class Order(Document):
    """One job, as the client wants it.

    Attributes:
        job: 128 random bits: no two orders are the same, whatever they ask.
        evaluation_key: the digest of the key to compute with; `None` where the family needs none.
        rows: how many rows the input holds: it bounds the result's size, and is visible from the input's size anyway.
        operators: the operators whose nodes may run this job.
        nodes: the nodes to which the request is sealed: nobody else may run it. In lane `tee`, and there alone.
        client: the key that signs this order.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.order.v1+json"

    job: JobId
    tenant: Name
    model: ModelRef
    input: BlobRef
    evaluation_key: Digest | None
    rows: Annotated[int, Field(ge=1)]
    operators: Annotated[tuple[KeyId, ...], Field(min_length=1, max_length=64)]
    nodes: Annotated[tuple[KeyId, ...] | None, Field(min_length=1, max_length=MOST_NODES), Unstated] = None
    client: KeyId
    issued: Millis
    deadline: Millis


def new_job_id() -> str:
    """128 bits from the system's random source."""
    return secrets.token_hex(16)


def check_order(order: Signed[Order], *, model: ModelRef, now: Millis) -> None:
    """Decide whether a verified order may be acted on (steps 1 to 3 above).

    Raises `SignatureError`, `JobTimeoutError` or `PolicyError`.
    """
    document = order.document
    # 1.
    if order.signer != document.client:
        message = f"the order names {document.client} as its client and is signed by {order.signer}"
        raise SignatureError(message)
    # 2.
    if now >= document.deadline:
        passed, dated = (f"{abs(now - time) / 1000:,.0f} s" for time in (document.deadline, document.issued))
        when = "ago" if now >= document.issued else "ahead"
        message = f"the order's deadline passed {passed} ago by the clock here, where the order is dated {dated} {when}"
        raise JobTimeoutError(message)
    # 3.
    if document.model != model:
        message = f"the order is for {document.model.manifest}, not for {model.manifest}"
        raise PolicyError(message)

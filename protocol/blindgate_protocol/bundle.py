"""What is kept of one job: its signed documents and where its receipt stands in the log, in one file that a stranger can check.

    {"manifest": …, "order": …, "receipt": …, "logged": {"event": …, "salt": …, "proof": …}, "evidence": null}

Nothing in it is secret: no row, no key, no ciphertext. `receipt` is null until the job has one, `logged` where nobody asked for it.
`evidence` is what the node showed that answered a sealed request, as it came: its signed offer and the evidence that this names. Of
a job of lane `fhe`, and while there is no receipt, it is null. `classes` has the client's own names for the kinds of data that were
sent, and is left out where there are none: whatever process takes the job up judges it by them. So has `redacted` what was taken
out of a request, by class and count. No signature covers these two.

`read_bundle` establishes that each document is signed by the key that it names. It says nothing of whose keys these are, nor that
the documents are about one job: `receipts.check_receipt` and `inclusion.check_logged` do, for whoever has a policy.

Who keeps the bytes that these documents name by digest (input, result, evaluation key, the model's server part) lays them into the
folder `CIPHERTEXTS` beside the bundle, each as the file that `ciphertext_file` names. There an auditor looks for them.

Section 12 of docs/protocol.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import Field, ValidationError

from blindgate_protocol.attestations import AttestationAnswer
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.manifest import Manifest, Unstated
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Envelope, Signed, first_error, open_signed
from blindgate_protocol.values import Name, Value

MAX_BUNDLE_BYTES: Final = 8 << 20
"""Three envelopes, a proof and a node's evidence; what is larger is refused before it is parsed."""


CIPHERTEXTS: Final = "ciphertexts"
"""The folder beside bundles."""


def ciphertext_file(digest: str) -> str:
    """The name of the file that holds the bytes of this digest: its hexadecimal digits."""
    return digest.removeprefix(DIGEST_PREFIX)


class _BundleFile(Value):
    manifest: Envelope
    order: Envelope
    receipt: Envelope | None
    logged: LoggedProof | None = None
    evidence: AttestationAnswer | None = None
    classes: Annotated[tuple[Name, ...] | None, Unstated] = None
    redacted: Annotated[dict[Name, Annotated[int, Field(ge=1)]] | None, Unstated] = None


@dataclass(frozen=True)
class Bundle:
    """The signed documents of one job.

    Attributes:
        receipt: `None` until the job has one.
        logged: the event of the job's success and the proof that it is in the log, as the gateway gave it; `None` where the policy
            named no log. `inclusion.check_logged` decides what it is worth.
        evidence: what the node that answered had shown; of a sealed job that has its receipt. Nothing of it was checked here.
        classes: the classes of data that the client's policy had for the request.
        redacted: how often something of a class was taken out of what was sealed.
    """

    manifest: Signed[Manifest]
    order: Signed[Order]
    receipt: Signed[Receipt] | None = None
    logged: LoggedProof | None = None
    evidence: AttestationAnswer | None = None
    classes: tuple[str, ...] = ()
    redacted: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The bundle's file."""
        file = _BundleFile(
            manifest=self.manifest.envelope,
            order=self.order.envelope,
            receipt=None if self.receipt is None else self.receipt.envelope,
            logged=self.logged,
            evidence=self.evidence,
            classes=self.classes or None,
            redacted=dict(self.redacted) or None,
        )
        return file.model_dump_json(indent=1).encode()


def read_bundle(data: bytes) -> Bundle:
    """Parse a bundle and verify its signatures. Raises `MalformedError` or `SignatureError`."""
    if len(data) > MAX_BUNDLE_BYTES:
        message = f"a bundle of {len(data)} bytes: at most {MAX_BUNDLE_BYTES}"
        raise MalformedError(message)
    try:
        file = _BundleFile.model_validate_json(data)
    except ValidationError as error:
        message = f"not a bundle: {first_error(error)}"
        raise MalformedError(message) from error
    return Bundle(
        open_signed(file.manifest, Manifest),
        open_signed(file.order, Order),
        None if file.receipt is None else open_signed(file.receipt, Receipt),
        file.logged,
        file.evidence,
        file.classes or (),
        file.redacted or {},
    )

"""Who made a model's files, where that is somebody else than the publisher: the key that signed them first.

Whoever trained a model may sign its folder by OpenSSF Model Signing. The publisher verifies that signature, decides whom it is
from, and states it in the manifest. So a client has the publisher's word for the maker, and a node, which has the signature beside
the files, verifies it once more under the key that stands here.

Section 4 of docs/protocol.md.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from blindgate_protocol.values import BlobRef, Digest, Value

MAX_SIGNATURE_BYTES: Final = 4 << 20
"""The largest signature file."""

_MAX_KEY_BYTES: Final = 256

Algorithm = Literal["ecdsa-p256-sha256", "ecdsa-p384-sha384", "ecdsa-p521-sha512"]


class Maker(Value):
    """Who signed a model's files before its publisher did.

    Attributes:
        algorithm: the curve of the key, and the hash that goes with it.
        key: the public key, as DER of its SubjectPublicKeyInfo.
        subject: whom the key's certificate names (RFC 4514); only where a certificate vouches for the key.
        certificate: the digest of that certificate's DER; likewise.
        root: the digest of the root certificate that the publisher believed; likewise.
        signature: the signature's file, which lies in the package.
    """

    algorithm: Algorithm
    key: Annotated[bytes, Field(min_length=1, max_length=_MAX_KEY_BYTES)]
    subject: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    certificate: Digest | None = None
    root: Digest | None = None
    signature: BlobRef

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({value is None for value in (self.subject, self.certificate, self.root)}) != 1:
            message = "subject, certificate and root go together"
            raise ValueError(message)
        if self.signature.size > MAX_SIGNATURE_BYTES:
            message = f"a signature of {self.signature.size} bytes: at most {MAX_SIGNATURE_BYTES}"
            raise ValueError(message)
        return self

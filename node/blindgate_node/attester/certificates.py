"""Certificates as they are carried: out of PEM, into PEM, and not read.

A node hands certificates on and judges none. Parsing them would only be another way to fail: AMD gives the certificates of all
chips the serial number 0, which RFC 5280 forbids and libraries begin to refuse. So DER is told by its outermost tag and length.
"""

import base64
import binascii
import re
import ssl
from typing import Final

from blindgate_protocol.evidence import MAX_CERTIFICATE_BYTES

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_SEQUENCE: Final = b"\x30\x82"
"""A sequence whose length has two bytes: each certificate has more than 255 bytes, and fewer than 65,536."""
_HEADER: Final = 4


def from_pem(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a text in PEM, in DER, in their order. Raises `ValueError` where there is none, or one is spoilt."""
    try:
        found = tuple(base64.b64decode(b"".join(one.split()), validate=True) for one in _PEM.findall(data))
    except binascii.Error as error:
        message = "a certificate in PEM that is not base64"
        raise ValueError(message) from error
    if not found or not all(is_der(one) for one in found) or data.count(b"-----BEGIN") != len(found):
        message = "no certificates in PEM, or something else beside them"
        raise ValueError(message)
    return found


def to_pem(certificate: bytes) -> bytes:
    """A certificate in DER, in PEM."""
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


def is_der(data: bytes) -> bool:
    """Whether bytes are one value of the size of a certificate, with nothing behind it."""
    return (
        len(data) <= MAX_CERTIFICATE_BYTES
        and data[:2] == _SEQUENCE
        and int.from_bytes(data[2:_HEADER], "big") == len(data) - _HEADER
    )

"""The forms in which certificates lie beside evidence, and the certificates in them, in DER. Nothing is decided about them here.

- PEM, one certificate or several, in whatever order;
- DER, one certificate or several, one behind the other;
- base64 of PEM, as NVIDIA's tools write it;
- the table that a host gives its guests with AMD's reports (configfs-tsm's `auxblob`, or what follows an extended report):

      0   GUID      16 bytes: which certificate it is
      16  offset     4 bytes, little-endian, from the table's begin
      20  length     4 bytes, little-endian
      …   the next entry; one that is all zero ends the table, then come the blobs

  The host writes it, and is not believed: no offset or length is. Lists of revoked certificates and what nobody here knows are
  left out.

Source: AMD, SEV-ES Guest-Hypervisor Communication Block Standardization (56421), section 4.1.8.1 (SNP Extended Guest Request).
"""

from typing import Final
from uuid import UUID

from blindgate.attestation.chains import MAX_CERTIFICATE_BYTES, MOST_CERTIFICATES, ChainError, read_pem
from blindgate.attestation.texts import from_base64

_MOST_BYTES: Final = 2 * MAX_CERTIFICATE_BYTES * MOST_CERTIFICATES
_PEM: Final = b"-----BEGIN"
_PEM_IN_BASE64: Final = b"LS0tLS1CRUdJTi"
_ENTRY: Final = 24
_MOST_ENTRIES: Final = 32
_CERTIFICATES: Final = frozenset(
    UUID(one).bytes
    for one in (
        "63da758d-e664-4564-adc5-f4b93be8accd",  # VCEK
        "a8074bc2-a25a-483e-aae6-39c045a0b8a1",  # VLEK
        "4ab7b379-bbac-4fe4-a02f-05aef327c782",  # ASK, or ASVK
        "c0b406a4-a803-4952-9743-3fb6014cd0ae",  # ARK
    )
)
_REVOKED: Final = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes
_SEQUENCE: Final = b"\x30\x82"
"""How a certificate's DER begins: it has between 256 and 65535 bytes, and says in the next two how many follow."""


def read_certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a file, in DER. Raises `ChainError`, by the rule `form`."""
    if len(data) > _MOST_BYTES:
        raise _form(f"a file of certificates of {len(data)} bytes: at most {_MOST_BYTES}")
    if is_table(data):
        return read_table(data)
    text = data.strip()
    if text.startswith(_PEM_IN_BASE64):
        found = from_base64(b"".join(text.split()))
        if found is None:
            raise _form("certificates in PEM in base64, which is no base64")
        return read_pem(found)
    if _PEM in data or not data.startswith(_SEQUENCE):
        return read_pem(data)
    return _one_after_the_other(data)


def is_table(data: bytes) -> bool:
    """Whether this begins as AMD's table of certificates does."""
    return data[:16] in _CERTIFICATES | {_REVOKED}


def read_table(data: bytes) -> tuple[bytes, ...]:
    """The certificates of AMD's table. Raises `ChainError`."""
    found: list[bytes] = []
    for place in range(min(_MOST_ENTRIES, len(data) // _ENTRY)):
        entry = data[place * _ENTRY : (place + 1) * _ENTRY]
        if not any(entry):
            return tuple(found)
        offset, length = int.from_bytes(entry[16:20], "little"), int.from_bytes(entry[20:], "little")
        if offset + length > len(data):
            raise _form(f"the host's table: entry {place} lies at {offset} to {offset + length} of {len(data)} bytes")
        if entry[:16] in _CERTIFICATES and length:
            found.extend(read_pem(data[offset : offset + length]))
    raise _form(f"the host's table of certificates: {len(data)} bytes without an entry that ends it")


def _one_after_the_other(data: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    while data.startswith(_SEQUENCE):
        if len(found) == MOST_CERTIFICATES:
            raise _form(f"more than {MOST_CERTIFICATES} certificates")
        size = 4 + int.from_bytes(data[2:4])
        found.extend(read_pem(data[:size]))
        data = data[size:]
    if data:
        raise _form(f"{len(data)} bytes stand behind a certificate, and are none")
    return tuple(found)


def _form(message: str) -> ChainError:
    return ChainError(message, rule="form")

"""The certificates that an AMD host puts beside its guests' reports: a table of blobs, each named by a GUID.

    0   GUID      16 bytes, in the order in which it is written
    16  offset     4 bytes, little-endian, from the table's begin
    20  length     4 bytes, little-endian
    …   the next entry; one that is all zero ends the table, then come the blobs

The host writes it, and the host is not trusted: no offset or length is believed. What is cut out is handed on in DER, and whether
AMD signed it the reader decides. Lists of revoked certificates, and what nobody here knows, are left out.

Source: AMD, SEV-ES Guest-Hypervisor Communication Block Standardization (56421), section 4.1.8.1 (SNP Extended Guest Request).
"""

from typing import Final
from uuid import UUID

from blindgate_node.attester.certificates import from_pem, is_der
from blindgate_protocol.errors import AttesterError

_ENTRY: Final = 24
_MOST_ENTRIES: Final = 32
_NAMED: Final = {
    UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes: "VCEK",
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes: "VLEK",
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes: "ASK",
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes: "ARK",
}


def read_certificates(table: bytes) -> tuple[bytes, ...]:
    """The certificates of a table in DER: the signing key's own (VCEK, VLEK), ASK, ARK. An empty table has none.

    Raises `AttesterError`, which names the entry.
    """
    found: dict[str, bytes] = {}
    for place in range(min(_MOST_ENTRIES, len(table) // _ENTRY)):
        entry = table[place * _ENTRY : (place + 1) * _ENTRY]
        if not any(entry):
            break
        name = _NAMED.get(entry[:16])
        offset, length = int.from_bytes(entry[16:20], "little"), int.from_bytes(entry[20:], "little")
        if offset + length > len(table):
            raise AttesterError(
                f"the host's table of certificates: entry {place} lies at {offset} to {offset + length} of {len(table)} bytes"
            )
        if name is None or length == 0:
            continue
        if name in found:
            raise AttesterError(f"the host's table of certificates: {name} is there twice")
        found[name] = _to_der(name, table[offset : offset + length])
    else:
        if table:
            raise AttesterError(f"the host's table of certificates: {len(table)} bytes without an entry that ends it")
    return tuple(found[name] for name in _NAMED.values() if name in found)


def _to_der(name: str, blob: bytes) -> bytes:
    """A certificate in DER; hosts put PEM there, too."""
    if is_der(blob):
        return blob
    try:
        (found,) = from_pem(blob)
    except ValueError as error:
        raise AttesterError(f"the host's table of certificates: {name} is no certificate") from error
    return found

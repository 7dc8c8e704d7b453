"""NVIDIA's reference integrity manifests: which measurements a GPU must show that runs a certain driver, or a certain VBIOS.

A manifest is a SWID tag in XML, signed as a whole (XML-DSig, ECDSA with SHA-384, C14N 1.1). So:

1. it is XML without a document type, of a size that such files have (`form`), or that in base64 in the JSON of NVIDIA's service;
2. its own certificates lead from the pinned root of NVIDIA's manifests to the key that signed it, which is no authority's, at the
   time (`root`, `chain`, `validity`), by the one algorithm (`algorithm`), and the signature holds (`signature`); what is read below
   is what was signed;
3. it names product and version, and for each index whether it is active and which digests will do. Resources of another kind than
   measurements (NVIDIA's newest verifier knows least versions of firmware) are counted, so that nobody takes them for held.

`signxml` and `lxml` do the XML: canonical forms are not to be written twice. `lxml` is told to resolve nothing and to ask nobody.

Sources: TCG, Reference Integrity Manifest Information Model; ISO/IEC 19770-2 (SWID); W3C, XML Signature; NVIDIA's attestation SDK.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from blindgate.attestation.chains import ChainError, common_name, may_sign_messages, read_certificate, verify_chain
from blindgate.attestation.roots import NVIDIA_REFERENCES
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.values import Millis

MAX_BYTES: Final = 1 << 20
_SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_SIGNED: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_HASH: Final = re.compile(r"\{http://www\.w3\.org/2001/04/xmlenc#sha384\}Hash[0-9]{1,3}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{96}")
_INDEX: Final = re.compile(r"[0-9]{1,2}")
_ACTIVE: Final = {"True": True, "False": False}
_LONGEST: Final = 100


class ManifestError(MalformedError):
    """A reference manifest that is not believed.

    Attributes:
        rule: which rule does not hold.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class ReferenceManifest:
    """What a manifest says.

    Attributes:
        product: the chip, such as `GH100`.
        version: of the driver or VBIOS.
        references: for each active measurement, by its index from 0, the digests that will do.
        unread: how many resources it has that are no measurements.
    """

    product: str
    version: str
    references: Mapping[int, frozenset[bytes]]
    unread: int = 0


def read_manifest(data: bytes, *, at: Millis) -> ReferenceManifest:
    """A manifest that NVIDIA signed. Raises `ManifestError` and `ChainError`."""
    root = _parsed(data)
    leaf = _signer(root, at=at)
    methods = {element.get("Algorithm") for element in root.iter(f"{_SIGNED}SignatureMethod")}
    if methods != {SignatureMethod.ECDSA_SHA384.value}:
        message = f"signed by {', '.join(sorted(map(str, methods))) or 'nothing'}, not by ECDSA with SHA-384"
        raise ManifestError(message, rule="algorithm")
    configuration = SignatureConfiguration(
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
    )
    try:
        verified = XMLVerifier().verify(
            root, x509_cert=leaf.public_bytes(Encoding.PEM).decode(), expect_config=configuration
        )
    except Exception as error:  # whatever a verifier makes of hostile XML
        said = str(error)[:_LONGEST] if isinstance(error, SignXMLException) else type(error).__name__
        message = f"the manifest's signature does not verify: {said}"
        raise ManifestError(message, rule="signature") from error
    signed = None if isinstance(verified, list) else verified.signed_xml
    if signed is None or signed.tag != f"{_SWID}SoftwareIdentity":
        message = "what was signed is not the manifest"
        raise ManifestError(message, rule="signature")
    return _said(signed)


def _parsed(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        message = f"a manifest of {len(data)} bytes: at most {MAX_BYTES}"
        raise ManifestError(message, rule="form")
    if data.lstrip().startswith(b"{"):
        data = _served(data)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        message = f"a manifest is XML: {type(error).__name__}"
        raise ManifestError(message, rule="form") from error
    if root.getroottree().docinfo.doctype or root.tag != f"{_SWID}SoftwareIdentity":
        message = "a manifest is a SoftwareIdentity without a document type"
        raise ManifestError(message, rule="form")
    return root


def _served(data: bytes) -> bytes:
    try:
        return base64.b64decode(json.loads(data)["rim"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        message = "JSON, and no answer of NVIDIA's service with a manifest in base64 (`rim`)"
        raise ManifestError(message, rule="form") from error


def _signer(root: Any, *, at: Millis) -> x509.Certificate:
    """The certificate whose key is to have signed, at the end of its chain."""
    ders = []
    for element in root.iter(f"{_SIGNED}X509Certificate"):
        try:
            ders.append(base64.b64decode("".join((element.text or "").split()), validate=True))
        except (binascii.Error, ValueError) as error:
            message = "a certificate in the manifest is no base64"
            raise ChainError(message, rule="form") from error
    chain = [read_certificate(der) for der in reversed(ders)]
    verify_chain(chain, NVIDIA_REFERENCES, at=at)
    if not may_sign_messages(chain[-1]):
        message = f"{common_name(chain[-1])!r:.60} is not of a key that signs manifests"
        raise ChainError(message, rule="chain")
    return chain[-1]


def _said(root: Any) -> ReferenceManifest:
    meta = root.find(f"{_SWID}Meta")
    product, version = (None, None) if meta is None else (meta.get("product"), meta.get("colloquialVersion"))
    if not product or not version or len(product) > _LONGEST or len(version) > _LONGEST:
        message = "the manifest does not say of which product and version it is"
        raise ManifestError(message, rule="form")
    references: dict[int, frozenset[bytes]] = {}
    seen: set[int] = set()
    unread = 0
    for element in root.iterfind(f"{_SWID}Payload/{_SWID}Resource"):
        if element.get("type") != "Measurement":
            unread += 1
            continue
        index, active = element.get("index") or "", _ACTIVE.get(element.get("active") or "")
        if not _INDEX.fullmatch(index) or active is None or int(index) in seen:
            message = f"the manifest's measurement {index[:9]!r} has no index of its own, or does not say whether it is active"
            raise ManifestError(message, rule="form")
        seen.add(int(index))
        digests = frozenset(_digests(element))
        if active and not digests:
            message = f"the manifest's measurement {index} has no digest"
            raise ManifestError(message, rule="form")
        if active:
            references[int(index)] = digests
    if not references:
        message = "the manifest has no active measurement"
        raise ManifestError(message, rule="form")
    return ReferenceManifest(product, version, references, unread)


def _digests(element: Any) -> Iterator[bytes]:
    for name, value in element.attrib.items():
        if _HASH.fullmatch(name):
            if not _DIGEST.fullmatch(value):
                message = "a digest of the manifest is not one of SHA-384"
                raise ManifestError(message, rule="form")
            yield bytes.fromhex(value)

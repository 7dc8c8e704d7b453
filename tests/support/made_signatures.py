"""Signatures of model folders, as OpenSSF Model Signing 1.0 writes them, made here with keys and certificates of the tests' own."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PAYLOAD = "application/vnd.in-toto+json"
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(0x07E4, ec.SECP256R1())
_HASHES = {256: SHA256(), 384: SHA384(), 521: SHA512()}
_NOW = datetime.now(UTC)


def write_model(folder: Path) -> Path:
    """A folder of two levels that a node would take."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def statement(folder: Path, *, ignored: Sequence[str] = ("model.sig", ".git", ".gitattributes")) -> dict[str, Any]:
    """What a signer says of a folder."""
    names = sorted(
        (file.relative_to(folder) for file in folder.rglob("*") if file.is_file()), key=lambda path: path.parts
    )
    kept = [name for name in names if not any(name.is_relative_to(path) for path in ignored)]
    resources = [
        {
            "name": str(name),
            "algorithm": "sha256",
            "digest": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        }
        for name in kept
    ]
    return with_root(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": folder.name, "digest": {}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": list(ignored),
                },
                "resources": resources,
            },
        }
    )


def with_root(made: dict[str, Any]) -> dict[str, Any]:
    """A statement with the digest over its files' digests."""
    digests = b"".join(bytes.fromhex(one["digest"]) for one in made["predicate"]["resources"])
    made["subject"][0]["digest"] = {"sha256": hashlib.sha256(digests).hexdigest()}
    return made


def public_pem(key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """A key's public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(
    payload: dict[str, Any] | bytes,
    key: ec.EllipticCurvePrivateKey = KEY,
    *,
    chain: Sequence[x509.Certificate] = (),
    hint: str | None = "",
) -> dict[str, Any]:
    """A bundle, as JSON has it; by a bare key unless there is a `chain`, from the key's certificate upwards."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload, indent=2).encode()
    signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(PAYLOAD), PAYLOAD.encode(), len(data), data), _ecdsa(key))
    certificates = [{"rawBytes": base64.b64encode(one.public_bytes(Encoding.DER)).decode()} for one in chain]
    own = hashlib.sha256(public_pem(key)).hexdigest() if hint == "" else hint
    material: dict[str, Any] = (
        {"x509CertificateChain": {"certificates": certificates}} if certificates else {"publicKey": {"hint": own}}
    )
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material | {"tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(data).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def sign_folder(folder: Path, key: ec.EllipticCurvePrivateKey = KEY, **options: Any) -> bytes:
    """The bytes of `model.sig` for a folder."""
    return json.dumps(signed(statement(folder), key, **options)).encode()


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    days: tuple[int, int] = (-30, 300),
    digital_signature: bool = True,
    extended: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CODE_SIGNING,
    critical: x509.UnrecognizedExtension | None = None,
) -> x509.Certificate:
    """A certificate."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(_NOW + timedelta(days=days[0]))
        .not_valid_after(_NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=digital_signature and not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=not authority,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if extended is not None and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([extended]), critical=False)
    if critical is not None:
        builder = builder.add_extension(critical, critical=True)
    return builder.sign(issuer_key, SHA256())


def _ecdsa(key: ec.EllipticCurvePrivateKey) -> ec.ECDSA:
    return ec.ECDSA(_HASHES[key.curve.key_size])

"""Is a report from a genuine NVIDIA GPU, Hopper or Blackwell, and what does it say?

For each GPU, in this order:

1. the report has the lengths that it states (`form`), in SPDM 1.1 (`version`);
2. its certificates lead from the pinned root of NVIDIA's devices, at the time asked for (`root`, `chain`, `validity`), to a key
   that signs more than certificates and is a GPU's, not a switch's (`product`);
3. that key signed question and answer (`signature`). Only then is anything in them read;
4. what the report says of the firmware that its key was made for is what the certificate says (`firmware-id`), and the certificate
   does not call the device one for debugging (`debug`);
5. what is said beside the report is what it says: nonce, architecture, versions (`nonce`, `product`, `versions`);
6. the nonce is the one asked for (`nonce`);
7. where reference manifests are given, the firmware is one that NVIDIA vouches for (`measurement`): see `gpu_references`.

And for all together: no GPU is shown twice (`repeated`), and all answer one nonce.

Whether a certificate was revoked or is on hold only NVIDIA's responder (OCSP) knows, and it is not asked: its answers are held
where somebody captured them (`revocation`): see `gpu_revocation`.

What a report cannot show is left open: whether the firmware is one that NVIDIA vouches for, which takes its reference manifests
(RIM); whether this GPU is attached to the machine that hands the report over: a report says nothing of the virtual machine that the
GPU serves, so one can be fetched from a GPU elsewhere. A policy that asks for manifests has to be given them.

Sources: DMTF, DSP0274 (SPDM) 1.1.1; NVIDIA's attestation SDK, `gpu/evidence.cpp`, `gpu/verify.cpp`; NVIDIA's nvtrust for the root.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.chains import (
    ChainError,
    common_name,
    fingerprint,
    may_sign_messages,
    read_certificate,
    verify_chain,
)
from blindgate.attestation.dice import Firmware, firmware_of
from blindgate.attestation.gpu_files import GpuFile, GpuFileError, is_gpu_file, read_chain, read_gpu_file
from blindgate.attestation.gpu_references import References
from blindgate.attestation.gpu_revocation import Answers, is_answer
from blindgate.attestation.roots import NVIDIA
from blindgate.attestation.spdm import Field, Report, ReportError

PLATFORM: Final = "nvidia-gpu"

_PRODUCT: Final = re.compile(r"(G[HB][0-9]{2}[0-9X]) [A-Z0-9 ]{1,40}")
_ARCHITECTURES: Final = {"GH": "HOPPER", "GB": "BLACKWELL"}
_FEATURES: Final = {0: "multi-gpu-passthrough", 1: "single-gpu-passthrough", 2: "protected-pcie"}
_STATES: Final = {0xAA: "enabled", 0x55: "disabled"}


def is_evidence(data: bytes) -> bool:
    """Whether bytes look like evidence about NVIDIA's GPUs, or like a token in its place."""
    return is_gpu_file(data)


def appraise(data: bytes, asked: Asked) -> Appraisal:
    """Judge evidence about one GPU or several. A fact on which several GPUs differ is a list, in the order of the evidence.

    The report's certificates come with it in JSON; for a report alone they are `asked.chain`, in any order.
    """
    found = Appraisal(PLATFORM, asked.time)
    try:
        files = read_gpu_file(data)
    except (GpuFileError, ChainError) as error:
        found.disbelieve(error.rule, str(error))
        return found
    given = asked.references + (() if asked.collateral is None else (asked.collateral,))
    references = References(found, asked, [one for one in given if not is_answer(one)])
    answers = Answers(found, asked, [one for one in given if is_answer(one)])
    gpus = [_Gpu(found, asked, references, f"GPU {place}: " if len(files) > 1 else "") for place in range(len(files))]
    genuine = [gpu for gpu, file in zip(gpus, files, strict=True) if gpu.read(file)]
    found.facts = {"gpus": len(files), **_common([gpu.facts for gpu in genuine])}
    leaves = [gpu.facts["leaf"] for gpu in genuine]
    if len(set(leaves)) < len(leaves):
        found.refuse(
            Claim.INSTANCE_IDENTITY, "repeated", f"{len(leaves)} reports of {len(set(leaves))} GPUs: one is shown twice"
        )
    nonces = {gpu.nonce for gpu in genuine}
    if len(nonces) > 1:
        found.refuse(Claim.SOURCED_DATA, "nonce", f"{len(nonces)} nonces: the GPUs did not answer the same question")
    _hold_asked(found, asked, nonces)
    for gpu in genuine:
        answers.hold(found, gpu.who, gpu.chain)
    answers.close(found)
    references.leave_open(found)
    _leave_open(found)
    return found


def _common(each: list[dict[str, Any]]) -> dict[str, Any]:
    """What all say, and what each says where they differ."""
    made: dict[str, Any] = {}
    for name in dict.fromkeys(name for facts in each for name in facts):
        values = [facts.get(name) for facts in each]
        made[name] = values[0] if all(value == values[0] for value in values) else values
    return made


class _Gpu:
    """One GPU's part of an appraisal."""

    def __init__(self, appraisal: Appraisal, asked: Asked, references: References, who: str) -> None:
        self._appraisal, self._asked, self._references, self.who = appraisal, asked, references, who
        self.chain: list[x509.Certificate] = []
        self.facts: dict[str, Any] = {}
        self.nonce = b""

    def read(self, file: GpuFile) -> bool:
        """Appraise it. Gives whether its report is genuine."""
        try:
            self._read(file)
        except (GpuFileError, ChainError, ReportError) as error:
            self._appraisal.disbelieve(error.rule, self.who + str(error))
            return False
        return True

    def _read(self, file: GpuFile) -> None:
        # 1.
        report = Report.split(file.report)
        # 2.
        chain = self._chain(file)
        self.chain, leaf = chain, chain[-1]
        root = verify_chain(chain, NVIDIA, at=self._asked.time)
        product = _product_of(leaf)
        # 3.
        _verify_signature(leaf, report)
        measurements, fields = report.measurements(), report.fields()
        self.nonce = report.nonce
        self._affirm(Claim.INSTANCE_IDENTITY, "chain", f"the key is {_common_name(leaf)}'s, under {root}")
        self._affirm(Claim.INSTANCE_IDENTITY, "signature", "the GPU's key signed question and answer")
        self._affirm(Claim.HARDWARE, "product", f"a {product} of NVIDIA's")
        self.facts = {
            "product": product,
            "architecture": _ARCHITECTURES[product[:2]],
            "device": _device_of(leaf),
            "ueid": str(leaf.serial_number),
            "leaf": fingerprint(leaf),
            "nonce": report.nonce.hex(),
            **_facts_of(fields),
            "measurements": {str(one.index): one.value.hex() for one in measurements if any(one.value)},
            "measurements_digest": hashlib.sha384(report.record).hexdigest(),
        }
        # 4.
        self._hold_firmware(firmware_of(leaf), fields.get(Field.FIRMWARE_ID))
        # 5.
        self._hold_said(file)
        # 7.
        self._references.hold(self._appraisal, self.who, self.facts, measurements)

    def _chain(self, file: GpuFile) -> list[x509.Certificate]:
        """Root first."""
        ders = file.chain if file.chain is not None else read_chain(self._asked.chain)
        if not ders:
            message = "no certificates came with the report: the GPU's own chain has to stand beside it"
            raise ChainError(message, rule="chain")
        return _root_first([read_certificate(der) for der in ders])

    def _hold_firmware(self, firmware: Firmware | None, stated: bytes | None) -> None:
        named = b"" if firmware is None else firmware.digest
        self.facts["firmware_id"] = named.hex()
        if stated is None:
            text = f"{self.who}the report does not say for which firmware its key was made, as older drivers' do not"
            self._appraisal.leave_open("firmware-id", text)
        else:
            self._hold(
                Claim.HARDWARE,
                "firmware-id",
                holds=stated == named != b"",
                shows="the report is of the firmware that its key was made for",
                fails=f"the report names firmware {stated.hex()}, its key's certificate {named.hex() or 'none'}",
            )
        flags = None if firmware is None else firmware.flags
        if flags is None:
            self._appraisal.leave_open(
                "debug", f"{self.who}the certificate does not say whether the GPU is one for debugging"
            )
            return
        self.facts["flags"] = list(flags)
        self._hold(
            Claim.CONFIGURATION,
            "debug",
            holds=not set(flags) - {"not-configured"},
            shows="the certificate does not call the GPU one for debugging, recovery or insecure use",
            fails=f"the certificate calls the GPU {', '.join(flags)}",
        )

    def _hold_said(self, file: GpuFile) -> None:
        if file.nonce is not None and file.nonce != self.nonce:
            text = f"{self.who}the nonce beside the report is {file.nonce.hex()}, the report answers {self.nonce.hex()}"
            self._appraisal.refuse(Claim.SOURCED_DATA, "nonce", text)
        said = dict(file.said)
        for name, rule, fact in (
            ("arch", "product", "architecture"),
            ("driver_version", "versions", "driver_version"),
            ("vbios_version", "versions", "vbios_version"),
        ):
            if said.get(name, self.facts.get(fact)) != self.facts.get(fact):
                text = f"{self.who}{name} is {said[name]!r:.60} beside the report, and {self.facts.get(fact)!r} in it"
                self._appraisal.refuse(Claim.SOURCED_DATA, rule, text)

    def _affirm(self, claim: Claim, rule: str, text: str) -> None:
        self._appraisal.affirm(claim, rule, self.who + text)

    def _hold(self, claim: Claim, rule: str, *, holds: bool, shows: str, fails: str) -> None:
        self._appraisal.hold(claim, rule, holds=holds, shows=self.who + shows, fails=self.who + fails)


def _root_first(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    """The certificates from the pinned root down, each named by the next as its issuer. Raises `ChainError`."""
    rest = list(certificates)
    chain = [one for one in rest if fingerprint(one) in NVIDIA][:1] or rest[-1:]
    while chain[-1] in rest:
        rest.remove(chain[-1])
        chain += [one for one in rest if one.issuer == chain[-1].subject][:1]
    if rest and fingerprint(chain[0]) in NVIDIA:
        message = f"{_common_name(rest[0])} has no place in the chain below {_common_name(chain[0])}"
        raise ChainError(message, rule="chain")
    return chain


def _verify_signature(leaf: x509.Certificate, report: Report) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        message = "the key that should have signed the report is not one of ECDSA on P-384"
        raise ReportError(message, rule="signature")
    half = len(report.signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (report.signature[:half], report.signature[half:]))
    try:
        key.verify(encode_dss_signature(r, s), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        message = f"the report's signature does not verify under the key of {_common_name(leaf)} ({fingerprint(leaf)})"
        raise ReportError(message, rule="signature") from error


def _product_of(leaf: x509.Certificate) -> str:
    """The chip that the certificate is of. Raises `ChainError`."""
    found = _PRODUCT.fullmatch(_common_name(leaf))
    if found is None:
        message = f"{_common_name(leaf)!r:.60} is not a GPU of Hopper or Blackwell by its name"
        raise ChainError(message, rule="product")
    if not may_sign_messages(leaf):
        message = f"the last certificate, {_common_name(leaf)}, is not of a key that signs reports"
        raise ChainError(message, rule="chain")
    return found[1]


def _common_name(certificate: x509.Certificate) -> str:
    return _text(common_name(certificate).encode())


def _device_of(leaf: x509.Certificate) -> str:
    """The GPU's own name, by SPDM's alternative name, such as `NVIDIA:GH100:48B02DF44660DA06`; empty where it has none."""
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            for name in extension.value:
                if isinstance(name, x509.OtherName):
                    return _text(name.value[2:])  # a DER string: tag, length
    return ""


def _facts_of(fields: Mapping[int, bytes]) -> dict[str, Any]:
    """NVIDIA's fields, as a person reads them."""
    facts: dict[str, Any] = {}
    texts = {
        "driver_version": Field.DRIVER_VERSION,
        "chip_sku": Field.CHIP_SKU,
        "project": Field.PROJECT,
        "project_sku": Field.PROJECT_SKU,
    }
    facts |= {name: _text(fields[number]) for name, number in texts.items() if number in fields}
    if Field.VBIOS_VERSION in fields:
        facts["vbios_version"] = _vbios(fields[Field.VBIOS_VERSION])
    if Field.BOARD in fields:
        facts["board"] = fields[Field.BOARD].hex()
    for name, number in (("nvdec0", Field.NVDEC0), ("protected_pcie", Field.PROTECTED_PCIE)):
        if number in fields:
            facts[name] = _STATES.get(int.from_bytes(fields[number], "little"), fields[number].hex())
    if Field.FEATURE in fields:
        facts["feature"] = _FEATURES.get(int.from_bytes(fields[Field.FEATURE], "little"), fields[Field.FEATURE].hex())
    return facts


def _vbios(value: bytes) -> str:
    """As NVIDIA prints it: `00a50096 01000000` is 96.00.A5.00.01."""
    if len(value) != 8:  # noqa: PLR2004
        return value.hex()
    return ".".join(f"{byte:02X}" for byte in (*reversed(value[:4]), value[4]))


def _text(value: bytes) -> str:
    """What is printable, without its closing zeros; otherwise in hexadecimal."""
    text = value.rstrip(b"\0").decode("latin-1")
    return text if text.isascii() and text.isprintable() else value.hex()


def _hold_asked(appraisal: Appraisal, asked: Asked, nonces: set[bytes]) -> None:
    # 6.
    if asked.nonce is None:
        zero = " It is zero, and binds nothing." if any(not any(one) for one in nonces) else ""
        appraisal.leave_open(
            "freshness", f"nobody said which nonce the report has to answer: it may be an old one.{zero}"
        )
        text = "a report binds nothing but its nonce, and nobody said from what that has to be derived"
        appraisal.leave_open("binding", text)
    elif not any(asked.nonce):
        appraisal.refuse(Claim.SOURCED_DATA, "nonce", "the nonce asked for is empty or zero: it would bind nothing")
    elif nonces:
        appraisal.hold(
            Claim.SOURCED_DATA,
            "nonce",
            holds=nonces == {asked.nonce},
            shows="it answers the nonce asked for",
            fails=f"it answers {', '.join(sorted(one.hex() for one in nonces))}, and not {asked.nonce.hex()}",
        )
    if asked.report_data is not None:
        text = "report data was asked for, and a GPU's report has none: it binds nothing but its nonce"
        appraisal.refuse(Claim.SOURCED_DATA, "report-data", text)


def _leave_open(appraisal: Appraisal) -> None:
    for code, text in (
        ("tcb-policy", "whether driver and VBIOS are new enough is for a policy to say"),
        ("gpu-binding", "a report alone does not show that this GPU is attached to the machine that handed it over"),
        ("mode", "that confidential computing is on, and not in its mode for developers, only the measurements show"),
    ):
        appraisal.leave_open(code, text)

"""Whether NVIDIA took a GPU's certificates back, as far as its responder's answers (OCSP) say that somebody captured.

Nobody is asked. An answer is a signed file about one certificate, for a day or so, and is held as such:

1. it is an answer, and about a certificate of the chain, told by its serial number and the hashes of its issuer's name and key;
2. the issuer of that certificate signed it, or a responder that the issuer certified for signing such answers, and its certificate
   was valid at the time;
3. the time lies between when it was given and when the next was due;
4. it says that the certificate is good. One that was revoked, or is on hold, is refused whatever the time.

All by the rule `revocation`. NVIDIA's responder gives no answer about the key that signs reports (`unauthorized`), only about the
authorities above it; such an answer says nothing, and is passed over. For which certificates nothing was said stands under what is
not proven.

Sources: RFC 6960, sections 2.2, 3.2, 4.1.1, 4.2; RFC 5019, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.chains import ChainError, common_name, read_certificate, verify_chain
from blindgate.attestation.roots import NVIDIA
from blindgate_protocol.values import Millis

_MAX_BYTES: Final = 16 << 10
_MOST_ANSWERS: Final = 64
_LEAST_DIGEST: Final = 32
_SEQUENCE: Final = b"\x30"


def is_answer(data: bytes) -> bool:
    """Whether this is DER, as an answer is; a reference manifest is text."""
    return data.startswith(_SEQUENCE)


@dataclass(frozen=True, slots=True)
class _Status:
    """What an answer says of one certificate."""

    serial_number: int
    algorithm: hashes.HashAlgorithm
    issuer_name: bytes
    issuer_key: bytes
    status: ocsp.OCSPCertStatus
    reason: x509.ReasonFlags | None
    revoked: datetime | None
    begin: datetime
    end: datetime | None

    def is_about(self, one: x509.Certificate, issuer: x509.Certificate) -> bool:
        """By the certificate's number, and its issuer's name and key."""
        # 1.
        key = issuer.public_key()
        if self.serial_number != one.serial_number or not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        named = _digest(self.algorithm, issuer.subject.public_bytes())
        return (self.issuer_name, self.issuer_key) == (named, _digest(self.algorithm, point))


@dataclass(frozen=True, slots=True)
class _Answer:
    signed: bytes
    signature: bytes
    algorithm: hashes.HashAlgorithm | None
    certificates: tuple[x509.Certificate, ...]
    statuses: tuple[_Status, ...]

    def is_signed_by(self, signer: x509.Certificate) -> bool:
        key = signer.public_key()
        if (
            not isinstance(key, ec.EllipticCurvePublicKey)
            or self.algorithm is None
            or self.algorithm.digest_size < _LEAST_DIGEST
        ):
            return False
        try:
            key.verify(self.signature, self.signed, ec.ECDSA(self.algorithm))
        except InvalidSignature:
            return False
        return True


class Answers:
    """The answers that were given."""

    def __init__(self, found: Appraisal, asked: Asked, given: Sequence[bytes]) -> None:
        """Read them, and refuse what is none."""
        self._at = asked.time
        self._answers: list[_Answer] = []
        self._used: set[int] = set()
        self._unsaid: list[str] = []
        if len(given) > _MOST_ANSWERS:
            _refuse(found, f"{len(given)} answers: at most {_MOST_ANSWERS} are looked at")
        for data in given[:_MOST_ANSWERS]:
            try:
                answer = _read(data)
            except ValueError as error:
                _refuse(found, f"not an answer (OCSP): {error}")
            else:
                self._answers += [] if answer is None else [answer]

    def hold(self, found: Appraisal, who: str, chain: Sequence[x509.Certificate]) -> None:
        """Hold one GPU's certificates, root first, to them; `who` names it where there are several."""
        for place in range(1, len(chain)):
            above, one = chain[:place], chain[place]
            said = [
                (number, status)
                for number, answer in enumerate(self._answers)
                for status in answer.statuses
                if status.is_about(one, above[-1])
            ]
            for number, status in said:
                self._used.add(number)
                fault = self._fault(self._answers[number], status, above)
                if fault:
                    _refuse(found, f"{who}{common_name(one)}: {fault}")
                else:
                    text = f"{who}{common_name(one)} is good, by the answer of {status.begin:%Y-%m-%d %H:%M} UTC"
                    found.affirm(Claim.INSTANCE_IDENTITY, "revocation", text)
            if not said:
                self._unsaid.append(f"{who}{common_name(one)}")

    def close(self, found: Appraisal) -> None:
        """Say what was said of nothing, and of what nothing was said."""
        for number, answer in enumerate(self._answers):
            if number not in self._used:
                numbers = ", ".join(f"{one.serial_number:x}" for one in answer.statuses)
                _refuse(found, f"an answer about another certificate than those of the chain: number {numbers}")
        if not self._answers:
            text = "NVIDIA's responder was not asked: a certificate that is revoked, or on hold, reads the same"
            found.leave_open("revocation", text)
        elif self._unsaid:
            found.leave_open(
                "revocation",
                f"no answer says whether these are revoked, or on hold: {', '.join(self._unsaid)}",
            )

    def _fault(self, answer: _Answer, said: _Status, above: Sequence[x509.Certificate]) -> str:
        # 2.
        if not _is_signed(answer, above, self._at):
            return "the answer's signature does not verify under a key that its issuer certified for answers"
        # 4.
        if said.status is ocsp.OCSPCertStatus.REVOKED:
            done = "put it on hold" if said.reason is x509.ReasonFlags.certificate_hold else "revoked it"
            return f"NVIDIA {done} on {said.revoked:%Y-%m-%d}"
        if said.status is not ocsp.OCSPCertStatus.GOOD:
            return "NVIDIA's responder does not know it"
        # 3.
        if said.end is None or not said.begin.timestamp() * 1000 <= self._at <= said.end.timestamp() * 1000:
            until = f"to {said.end:%Y-%m-%d %H:%M}" if said.end else "and does not say until when"
            return f"the answer is from {said.begin:%Y-%m-%d %H:%M} {until}, and not of the time that it is judged for"
        return ""


def _read(data: bytes) -> _Answer | None:
    """An answer; `None`: the responder gave none. Raises `ValueError`."""
    if len(data) > _MAX_BYTES:
        message = f"{len(data)} bytes: at most {_MAX_BYTES}"
        raise ValueError(message)
    try:
        found = ocsp.load_der_ocsp_response(data)
        if found.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return None
        return _Answer(
            found.tbs_response_bytes,
            found.signature,
            found.signature_hash_algorithm,
            tuple(read_certificate(one.public_bytes(Encoding.DER)) for one in found.certificates),
            tuple(
                _Status(
                    one.serial_number,
                    one.hash_algorithm,
                    one.issuer_name_hash,
                    one.issuer_key_hash,
                    one.certificate_status,
                    one.revocation_reason,
                    one.revocation_time_utc,
                    one.this_update_utc,
                    one.next_update_utc,
                )
                for one in found.responses
            ),
        )
    except Exception as error:  # whatever a parser makes of hostile bytes
        raise ValueError(type(error).__name__) from error


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    made = hashes.Hash(algorithm)
    made.update(data)
    return made.finalize()


def _is_signed(answer: _Answer, above: Sequence[x509.Certificate], at: Millis) -> bool:
    return answer.is_signed_by(above[-1]) or any(
        _may_answer(one, above, at) and answer.is_signed_by(one) for one in answer.certificates
    )


def _may_answer(one: x509.Certificate, above: Sequence[x509.Certificate], at: Millis) -> bool:
    try:
        verify_chain([*above, one], NVIDIA, at=at)
        usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ChainError, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _refuse(found: Appraisal, text: str) -> None:
    found.refuse(Claim.INSTANCE_IDENTITY, "revocation", text)

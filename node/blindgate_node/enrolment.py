"""How a node becomes one of a gateway's: once, with what two people gave it.

Its operator signed its key (the certificate); the gateway's operator gave out a one-time token. The node signs a request that
names the gateway it was told to use and the token's digest, so the request is worth nothing elsewhere. From then on the gateway
hears what the node signs (`transport`). The node's folder notes that it was done, for that gateway and that key only: no secret.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, ValidationError

from blindgate_node.settings import Settings
from blindgate_node.signer import write_private
from blindgate_node.transport import Gateway
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, KeyStoreError, NotAuthorisedError, ReceiptNodeError
from blindgate_protocol.messages import EnrolmentBody
from blindgate_protocol.nodes import EnrolmentRequest, NodeCertificate, check_certificate
from blindgate_protocol.signing import MAX_ENVELOPE_BYTES, Signed, SigningKey, open_signed
from blindgate_protocol.values import KeyId, Millis, Value


class _Enrolment(Value):
    """Enrolments of before nodes signed their requests hold a token besides, and go on: gateways keep the key."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    gateway: str
    node: KeyId


def load_certificate(file: Path, key: SigningKey, now: Millis) -> Signed[NodeCertificate]:
    """The node's certificate, checked. Raises `ReceiptNodeError` that says what to do about it."""
    try:
        with file.open("rb") as opened:
            certificate = open_signed(opened.read(MAX_ENVELOPE_BYTES + 1), NodeCertificate)
        check_certificate(certificate, node=key.id, at=now)
    except FileNotFoundError as error:
        message = f"this node has no certificate: {file} does not exist. {_how_to_certify(key, file)}"
        raise ReceiptNodeError(message) from error
    except OSError as error:
        message = f"the certificate {file} cannot be read: {error.strerror}"
        raise ReceiptNodeError(message) from error
    except ReceiptNodeError as error:
        expired = str(error).replace("at the receipt's time", "now")
        told = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        message = f"{expired} (this machine's clock says {told} UTC). {_how_to_certify(key, file)}"
        raise ReceiptNodeError(message) from error
    except BlindgateError as error:
        message = f"the certificate {file} is refused: {error}. {_how_to_certify(key, file)}"
        raise ReceiptNodeError(message) from error
    return certificate


def enrol(settings: Settings, key: SigningKey, certificate: Signed[NodeCertificate], now: Millis) -> None:
    """See to it that the gateway knows this node: nothing is to be done when it was enrolled before.

    Raises `NotAuthorisedError` when there is no enrolment token either, and `GatewayError` when the gateway does not take it in.
    """
    if _is_enrolled(settings, key):
        return
    if settings.enrolment_token is None:
        message = (
            f"this node is not enrolled at {settings.gateway}: ask the gateway's operator for an enrolment token"
            " and set BLINDGATE_NODE_ENROLMENT_TOKEN"
        )
        raise NotAuthorisedError(message)
    enrol_anew(settings, key, certificate, now)


def enrol_anew(settings: Settings, key: SigningKey, certificate: Signed[NodeCertificate], now: Millis) -> None:
    """Spend the enrolment token, and note that it was done. Raises `GatewayError`, `NotAuthorisedError` or `KeyStoreError`."""
    if settings.enrolment_token is None:
        message = "no enrolment token: set BLINDGATE_NODE_ENROLMENT_TOKEN"
        raise NotAuthorisedError(message)
    token = settings.enrolment_token.get_secret_value()
    request = EnrolmentRequest(node=key.id, gateway=settings.gateway, challenge=digest(token.encode()), issued=now)
    try:
        body = EnrolmentBody(token=token, certificate=certificate.envelope, request=key.sign(request).envelope)
    except ValidationError as error:
        message = "the enrolment token must have 16 to 200 characters"
        raise NotAuthorisedError(message) from error
    gateway = Gateway(settings.gateway, ca=settings.ca)
    try:
        answer = gateway.enrol(body)
    finally:
        gateway.close()
    if answer.node != key.id:
        message = f"the gateway enrolled node {answer.node}, not {key.id}"
        raise NotAuthorisedError(message)
    enrolment = _Enrolment(gateway=settings.gateway, node=key.id)
    try:
        write_private(_file(settings), enrolment.model_dump_json().encode(), replace=True)
    except OSError as error:
        message = f"the enrolment cannot be kept in {settings.data}: {error.strerror}"
        raise KeyStoreError(message) from error


def _is_enrolled(settings: Settings, key: SigningKey) -> bool:
    try:
        enrolment = _Enrolment.model_validate_json(_file(settings).read_bytes())
    except (FileNotFoundError, ValidationError):
        return False
    return (enrolment.gateway, enrolment.node) == (settings.gateway, key.id)


def _file(settings: Settings) -> Path:
    return settings.data / "enrolment.json"


def _how_to_certify(key: SigningKey, file: Path) -> str:
    return (
        f"Ask the operator to run\n    blindgate operator certify {key.id} --name NAME -o certificate.json\n"
        f"and put the file it writes at {file}"
    )

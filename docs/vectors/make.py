"""Writes examples of every signed document and of signed requests, good and bad, to `protocol.json` beside this file.

Keys come from fixed seeds and times are fixed, so making them again changes nothing; `--check` compares instead of writing.
Another implementation reads the file and must come to each `verdict`: `ok`, or the code of the error.
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.http_signatures import SIGNATURE_INPUT, content_digest, sign_request, signed_fields
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.manifest import (
    Accuracy,
    Column,
    Disclosure,
    Encryption,
    Limits,
    Manifest,
    Output,
    Privacy,
    model_ref,
)
from blindgate_protocol.nodes import EnrolmentRequest, NodeCertificate
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Document, Envelope, Signed, SigningKey
from blindgate_protocol.values import BlobRef

FILE = Path(__file__).with_name("protocol.json")
T = 1_750_000_000_000
DAY = 86_400_000

PUBLISHER, CLIENT, OPERATOR, NODE, STRANGER = (SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 6))


def blob(text: str) -> BlobRef:
    """The reference of a blob that holds `text`."""
    return BlobRef(digest=digest(text.encode()), size=len(text))


MANIFEST = PUBLISHER.sign(
    Manifest(
        name="example",
        version=3,
        summary="An example.",
        family="linear",
        lane="fhe",
        issued=T,
        expires=T + 365 * DAY,
        columns=(Column(name="age", minimum=0.0, maximum=120.0),),
        output=Output(task="classification", labels=("no", "yes"), scores=1, link="sigmoid", decimals=4),
        client=blob("client part"),
        server=blob("server part"),
        key_parameters=digest(b"parameters"),
        evaluation_key=True,
        encryption=Encryption(scheme="ckks", security=128, degree=4096, modulus_bits=48, levels=0, error_bound=0.0001),
        determinism="bit-exact",
        limits=Limits(rows_per_job=4096, input_bytes=1 << 20, result_bytes=1 << 20, evaluation_key_bytes=1 << 20),
        privacy=Privacy(mode="model_public"),
        discloses=Disclosure(to_client=("the score",), to_node=("the weights",)),
        accuracy=Accuracy(rows=100, plain=0.95, agreement=1.0, max_error=0.0001),
    )
)
ORDER = CLIENT.sign(
    Order(
        job="00112233445566778899aabbccddeeff",
        tenant="hospital",
        model=model_ref(MANIFEST),
        input=blob("ciphertexts"),
        evaluation_key=digest(b"evaluation key"),
        rows=2,
        operators=(OPERATOR.id,),
        client=CLIENT.id,
        issued=T + DAY,
        deadline=T + DAY + 3_600_000,
    )
)
CERTIFICATE = OPERATOR.sign(
    NodeCertificate(node=NODE.id, name="node-1", operator=OPERATOR.id, issued=T, expires=T + 90 * DAY)
)
RECEIPT = NODE.sign(
    Receipt(
        order=ORDER.digest,
        job=ORDER.document.job,
        tenant="hospital",
        model=ORDER.document.model,
        circuit=MANIFEST.document.server.digest,
        evaluation_key=ORDER.document.evaluation_key,
        input=ORDER.document.input,
        output=blob("result"),
        lane="fhe",
        generation=1,
        node=NODE.id,
        certificate=CERTIFICATE.envelope,
        software={"blindgate": "0.1.0"},
        started=T + DAY + 1000,
        finished=T + DAY + 2000,
    )
)
ENROLMENT = NODE.sign(
    EnrolmentRequest(node=NODE.id, gateway="http://127.0.0.1:8080", challenge=digest(b"token"), issued=T)
)
STATEMENT = CLIENT.sign(
    KeyStatement(
        key=blob("evaluation key"),
        tenant="hospital",
        parameters=digest(b"parameters"),
        state=KeyState.ACTIVE,
        client=CLIENT.id,
        sequence=1,
        previous=None,
        issued=T,
    )
)


def changed(signed: Signed[Any], signer: SigningKey, **fields: Any) -> Envelope:
    """The same document with other fields, signed again."""
    document: Document = signed.document.model_copy(update=fields)
    return signer.sign(document).envelope


def tampered(signed: Signed[Any]) -> Envelope:
    """The same envelope with one byte of its payload changed and the signature as it was."""
    payload = bytearray(signed.document.payload())
    payload[-3] ^= 1
    return signed.envelope.model_copy(update={"payload": base64.b64encode(payload).decode()})


def unsorted(signed: Signed[Any], signer: SigningKey) -> Envelope:
    """The same document, well signed, but its payload is not the canonical form."""
    return signed_as(signed, signer, json.dumps(json.loads(signed.document.payload()), indent=1).encode())


def with_members(signed: Signed[Any], signer: SigningKey, **members: Any) -> Envelope:
    """The same document, well signed, with members in its payload that it would not write itself."""
    return signed_as(signed, signer, canonical(json.loads(signed.document.payload()) | members))


def signed_as(signed: Signed[Any], signer: SigningKey, payload: bytes) -> Envelope:
    """An envelope of the same type over other bytes."""

    class _As(type(signed.document)):  # type: ignore[misc]
        def payload(self) -> bytes:
            return payload

    return signer.sign(_As.model_validate(signed.document.model_dump())).envelope


def cases() -> Iterator[dict[str, Any]]:
    """Every vector: what it is, the envelope, and the verdict."""
    good: dict[str, tuple[Signed[Any], SigningKey]] = {
        "manifest": (MANIFEST, PUBLISHER),
        "order": (ORDER, CLIENT),
        "node-certificate": (CERTIFICATE, OPERATOR),
        "receipt": (RECEIPT, NODE),
        "enrolment": (ENROLMENT, NODE),
        "key-statement": (STATEMENT, CLIENT),
    }
    for kind, (signed, signer) in good.items():
        yield case(kind, "as it should be", signed.envelope, "ok", digest=signed.digest)
        yield case(kind, "one byte of the payload changed", tampered(signed), "bad-signature")
        yield case(kind, "not canonical", unsorted(signed, signer), "bad-envelope")
        other = signed.envelope.model_copy(update={"payloadType": "application/vnd.blindgate.other.v1+json"})
        yield case(kind, "another type", other, "bad-envelope")
    yield case("manifest", "of an unknown publisher", changed(MANIFEST, STRANGER), "untrusted-signer")
    yield case("manifest", "expired", changed(MANIFEST, PUBLISHER, expires=T + DAY), "manifest-expired")
    yield case("manifest", "an older version", changed(MANIFEST, PUBLISHER, version=2), "manifest-rolled-back")
    yield case("order", "signed by another key than it names", changed(ORDER, STRANGER), "bad-signature")
    yield case("order", "past its deadline", changed(ORDER, CLIENT, deadline=ORDER.document.issued + 1), "job-timeout")
    yield case("receipt", "of another job", changed(RECEIPT, NODE, job="f" * 32), "receipt-order")
    yield case("receipt", "of another order", changed(RECEIPT, NODE, order=digest(b"other")), "receipt-order")
    yield case("receipt", "of another tenant", changed(RECEIPT, NODE, tenant="bank"), "receipt-order")
    yield case("receipt", "of another input", changed(RECEIPT, NODE, input=blob("other")), "receipt-model")
    yield case("receipt", "of another circuit", changed(RECEIPT, NODE, circuit=digest(b"other")), "receipt-model")
    yield case("receipt", "of another key", changed(RECEIPT, NODE, evaluation_key=None), "receipt-model")
    yield case("receipt", "signed by another node", changed(RECEIPT, STRANGER), "receipt-node")
    minted = STRANGER.sign(CERTIFICATE.document.model_copy(update={"operator": STRANGER.id}))
    minted_receipt = changed(RECEIPT, NODE, certificate=minted.envelope)
    yield case("receipt", "of a node that nobody allowed vouches for", minted_receipt, "receipt-node")
    old = OPERATOR.sign(CERTIFICATE.document.model_copy(update={"expires": T + 1})).envelope
    yield case("receipt", "with an expired certificate", changed(RECEIPT, NODE, certificate=old), "receipt-node")
    early = changed(RECEIPT, NODE, started=T, finished=T + 1)
    yield case("receipt", "finished before the order was made", early, "receipt-order")
    reasoned = CLIENT.sign(STATEMENT.document.model_copy(update={"reason": "the study begins"}))
    yield case("key-statement", "with a reason", reasoned.envelope, "ok", digest=reasoned.digest)
    nothing = with_members(STATEMENT, CLIENT, reason=None)
    yield case("key-statement", "with a reason that is null", nothing, "bad-envelope")
    timed = changed(STATEMENT, CLIENT, destroy_at=T + DAY)
    yield case("key-statement", "with a time of destruction and no schedule", timed, "bad-envelope")


def key_chains() -> Iterator[dict[str, Any]]:
    """Lives of a key: what the owner said one after the other, and whether the last of it is taken."""
    active, suspended, deactivated = KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.DEACTIVATED
    compromised, scheduled, destroyed = KeyState.COMPROMISED, KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED
    for what, verdict, states in (
        ("suspended, resumed, destroyed", "ok", (active, suspended, active, destroyed)),
        ("a scheduled destruction, called off", "ok", (active, scheduled, active)),
        ("called off to where the key never stood", "malformed", (active, scheduled, suspended)),
        ("deactivated, and back by way of a schedule", "malformed", (active, deactivated, scheduled, active)),
        ("compromised, and trusted again", "malformed", (active, compromised, active)),
        ("destroyed, and back", "malformed", (active, destroyed, active)),
    ):
        yield {"case": what, "verdict": verdict, "statements": [each.model_dump(mode="json") for each in said(states)]}


def said(states: tuple[KeyState, ...]) -> Iterator[Envelope]:
    """One statement after the other about the same key, a day apart."""
    previous = None
    for number, state in enumerate(states, start=1):
        issued = T + number * DAY
        at = issued + 7 * DAY if state is KeyState.DESTRUCTION_SCHEDULED else None
        body = {"state": state, "sequence": number, "previous": previous, "issued": issued, "destroy_at": at}
        signed = CLIENT.sign(STATEMENT.document.model_copy(update=body))
        previous = signed.digest
        yield signed.envelope


def case(kind: str, what: str, envelope: Envelope, verdict: str, **more: str) -> dict[str, Any]:
    """One vector."""
    return {"document": kind, "case": what, "verdict": verdict, **more, "envelope": envelope.model_dump(mode="json")}


TARGET = "https://gateway.example/v1/leases/00112233445566778899aabbccddeeff/result"
LEASE = f"1.{'ab' * 16}"
BODY = b"a result"


def requests() -> Iterator[dict[str, Any]]:
    """Every signed request: what it is, what a gateway gets, and the verdict."""
    fields = signed_fields(content_digest(digest(BODY)), LEASE)

    def signed(**changes: Any) -> dict[str, str]:
        given: dict[str, Any] = {"method": "PUT", "target": TARGET, "fields": fields}
        return sign_request(NODE, created=T // 1000, nonce=bytes(range(16)), **(given | changes))

    def request(what: str, verdict: str, header: dict[str, str], **changes: Any) -> dict[str, Any]:
        given = {"method": "PUT", "target": TARGET, "fields": fields, "header": header}
        return {"case": what, "verdict": verdict} | given | changes

    good = signed()
    spaced = good[SIGNATURE_INPUT].replace(";created", "; created")
    yield request("as it should be", "ok", good)
    yield request("another method", "bad-signature", good, method="POST")
    yield request("another gateway", "bad-signature", good, target=TARGET.replace("gateway", "other"))
    yield request("another query", "bad-signature", good, target=f"{TARGET}?x=1")
    yield request("another body", "bad-signature", good, fields=signed_fields(content_digest(digest(b"")), LEASE))
    yield request("another lease", "bad-signature", good, fields=fields | {"blindgate-lease": f"2.{'ab' * 16}"})
    yield request("without a body's digest", "malformed", signed(fields=signed_fields(None, LEASE)))
    yield request("without the lease", "malformed", signed(fields=signed_fields(fields["content-digest"], None)))
    yield request(
        "in a form that the RFC allows and this protocol does not", "malformed", good | {SIGNATURE_INPUT: spaced}
    )


def vectors() -> dict[str, Any]:
    """The whole file."""
    return {
        "about": "Made by docs/vectors/make.py. docs/protocol.md says how each is checked.",
        "now": T + DAY + 1500,
        "seen_version": 3,
        "publishers": [PUBLISHER.id],
        "operators": [OPERATOR.id],
        "canonical": [
            {"value": value, "bytes": canonical(value).decode(), "digest": digest(canonical(value))}
            for value in ({"b": 1, "a": [1.0, 1e21, 0.1]}, "\u20ac\n", {}, [True, None], 2**53 - 1, -0.0)
        ],
        "cases": list(cases()),
        "key_chains": list(key_chains()),
        "requests": list(requests()),
    }


def main() -> None:
    """Write the file, or with `--check` compare it."""
    text = json.dumps(vectors(), indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit("docs/vectors/protocol.json is not what docs/vectors/make.py writes: run make vectors")


if __name__ == "__main__":
    main()

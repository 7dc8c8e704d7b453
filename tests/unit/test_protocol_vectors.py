"""The protocol's vectors: every document, good and bad, comes to the verdict that the file states."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from blindgate_protocol.canonical import canonical, digest, parse_canonical
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.http_signatures import read_signature
from blindgate_protocol.keys import KeyStatement, check_statement
from blindgate_protocol.manifest import Manifest, check_manifest, model_ref
from blindgate_protocol.nodes import EnrolmentRequest, NodeCertificate, check_certificate
from blindgate_protocol.order import Order, check_order
from blindgate_protocol.receipts import Receipt, check_receipt
from blindgate_protocol.signing import Envelope, Signed, open_signed

FILE = Path(__file__).parents[2] / "docs" / "vectors" / "protocol.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text())
CASES = VECTORS["cases"]


def _good(document: str) -> Envelope:
    case = next(case for case in CASES if case["document"] == document and case["verdict"] == "ok")
    return Envelope.model_validate_json(json.dumps(case["envelope"]))


MANIFEST = open_signed(_good("manifest"), Manifest)
ORDER = open_signed(_good("order"), Order)


def _check(document: str, envelope: Envelope) -> Signed[Any]:
    """What a reader does with a document of this kind."""
    signed: Signed[Any]
    if document == "manifest":
        signed = open_signed(envelope, Manifest)
        seen = VECTORS["seen_version"]
        check_manifest(signed, publishers=VECTORS["publishers"], now=VECTORS["now"] + 86_400_000, seen_version=seen)
    elif document == "order":
        signed = open_signed(envelope, Order)
        check_order(signed, model=model_ref(MANIFEST), now=VECTORS["now"])
    elif document == "node-certificate":
        signed = open_signed(envelope, NodeCertificate)
        check_certificate(signed, node=signed.document.node, at=VECTORS["now"])
    elif document == "receipt":
        signed = open_signed(envelope, Receipt)
        check_receipt(signed, ORDER, MANIFEST, operators=VECTORS["operators"])
    elif document == "enrolment":
        signed = open_signed(envelope, EnrolmentRequest)
    else:
        signed = open_signed(envelope, KeyStatement)
        check_statement(signed, None)
    return signed


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['document']}, {case['case']}")
def test_every_vector_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """Another implementation that follows docs/protocol.md must come to the same."""
    envelope = Envelope.model_validate_json(json.dumps(case["envelope"]))
    if case["verdict"] == "ok":
        assert _check(case["document"], envelope).digest == case["digest"]
        return
    with pytest.raises(BlindgateError) as caught:
        _check(case["document"], envelope)
    assert caught.value.code == case["verdict"]


@pytest.mark.parametrize("case", VECTORS["key_chains"], ids=lambda case: case["case"])
def test_every_life_of_a_key_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """All statements but the last are taken, and that one as the file says."""
    envelopes = [Envelope.model_validate_json(json.dumps(each)) for each in case["statements"]]
    chain: list[Signed[KeyStatement]] = []
    for envelope in envelopes:
        signed = open_signed(envelope, KeyStatement)
        last = len(chain) == len(envelopes) - 1
        with pytest.raises(BlindgateError) if last and case["verdict"] != "ok" else nullcontext() as caught:
            check_statement(signed, chain[-1] if chain else None, chain[-2] if len(chain) > 1 else None)
        assert caught is None or caught.value.code == case["verdict"]
        chain.append(signed)


@pytest.mark.parametrize("case", VECTORS["requests"], ids=lambda case: case["case"])
def test_every_signed_request_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """As a gateway reads it: the two header fields, and what else came."""
    signature = case["header"]["Signature-Input"], case["header"]["Signature"]
    if case["verdict"] == "ok":
        read_signature(*signature).verify(case["method"], [case["target"]], case["fields"])
        return
    with pytest.raises(BlindgateError) as caught:
        read_signature(*signature).verify(case["method"], [case["target"]], case["fields"])
    assert caught.value.code == case["verdict"]


@pytest.mark.parametrize("case", VECTORS["canonical"], ids=lambda case: str(case["value"]))
def test_canonical_bytes_are_those_of_the_vectors(case: dict[str, Any]) -> None:
    """Two programs that hold the same value sign the same bytes."""
    assert canonical(case["value"]).decode() == case["bytes"]
    assert digest(case["bytes"].encode()) == case["digest"]
    assert canonical(parse_canonical(case["bytes"].encode())).decode() == case["bytes"]

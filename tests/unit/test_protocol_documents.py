"""Signed documents: what is refused before anybody trusts it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from blindgate_protocol.canonical import canonical, parse_canonical
from blindgate_protocol.errors import EnvelopeError, MalformedError, SignatureError, TransitionError
from blindgate_protocol.jobs import TRANSITIONS, JobEvent, JobState, next_state, sources
from blindgate_protocol.keys import KeyState, KeyStatement, check_statement
from blindgate_protocol.manifest import Column, Encryption, Privacy
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order
from blindgate_protocol.signing import MAX_ENVELOPE_BYTES, Envelope, SigningKey, open_signed
from blindgate_protocol.values import BlobRef

KEY = SigningKey.from_seed(b"k" * 32)
CERTIFICATE = KEY.sign(NodeCertificate(node=KEY.id, name="n", operator=KEY.id, issued=1, expires=2))
BLOB = BlobRef(digest="sha256:" + "0" * 64, size=1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"a":1,"a":2}', id="a member twice"),
        pytest.param(b'{"b":1,"a":2}', id="members out of order"),
        pytest.param(b'{"a": 1}', id="white space"),
        pytest.param(b"[1.0]", id="a number in another form"),
        pytest.param(b"[NaN]", id="not a number"),
        pytest.param(b"[9007199254740993]", id="an integer past 2^53"),
        pytest.param(b"[" * 100_000, id="nested a hundred thousand deep"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'"\\ud800"', id="half a surrogate pair"),
        pytest.param(b'{"\\ud800":1}', id="half a surrogate pair in a name"),
        pytest.param(b'{"\xed\xa0\x80":1}', id="half a surrogate pair in a name, as bytes"),
    ],
)
def test_bytes_that_two_readers_could_read_differently_are_refused(data: bytes) -> None:
    """Only the canonical form of a value is a signed payload."""
    with pytest.raises(MalformedError):
        parse_canonical(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, 2**60, b"bytes"])
def test_a_value_without_a_canonical_form_is_not_signed(value: object) -> None:
    """Better no signature than one over bytes that nobody can make again."""
    with pytest.raises(MalformedError):
        canonical(value)


def test_every_bit_of_a_signed_envelope_counts() -> None:
    """A changed bit anywhere is an error that is named, and never another document."""
    whole = CERTIFICATE.envelope.to_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            with pytest.raises((EnvelopeError, SignatureError)):
                open_signed(bytes(changed), NodeCertificate)


def test_an_oversized_envelope_is_refused_before_it_is_parsed() -> None:
    """Nobody fills memory with a document."""
    with pytest.raises(EnvelopeError, match="at most"):
        Envelope.from_bytes(b" " * (MAX_ENVELOPE_BYTES + 1))


def test_a_signature_over_one_kind_of_document_is_none_over_another() -> None:
    """The type is inside the signature: a certificate cannot pass for an order."""
    relabelled = CERTIFICATE.envelope.model_copy(update={"payloadType": Order.media_type})
    with pytest.raises(SignatureError):
        open_signed(relabelled, Order)


def test_a_document_with_an_unknown_field_is_refused() -> None:
    """What one reader ignores, another might obey."""

    class Wider(NodeCertificate):
        extra: int = 1

    wider = KEY.sign(Wider(node=KEY.id, name="n", operator=KEY.id, issued=1, expires=2))
    with pytest.raises(EnvelopeError, match="extra"):
        open_signed(wider.envelope, NodeCertificate)


def test_a_signing_key_never_shows_its_secret() -> None:
    """Neither repr nor str holds the seed."""
    assert KEY.seed().hex() not in repr(KEY)
    assert KEY.id in repr(KEY)


def test_an_ended_job_stays_ended() -> None:
    """No event leads out of an end but the one that takes up a dead letter, and every state can be reached."""
    for state in JobState:
        if state.ended:
            for event in JobEvent:
                if (state, event) != (JobState.DEAD, JobEvent.RESEND):
                    with pytest.raises(TransitionError):
                        next_state(state, event)
    assert next_state(JobState.DEAD, JobEvent.RESEND) is JobState.QUEUED
    assert {JobState.QUEUED, *TRANSITIONS.values()} == set(JobState)
    assert sources(JobEvent.COMMIT) == {JobState.LEASED}


def _statement(state: KeyState, sequence: int, previous: str | None) -> KeyStatement:
    return KeyStatement(
        key=BLOB,
        tenant="hospital",
        parameters=BLOB.digest,
        state=state,
        client=KEY.id,
        sequence=sequence,
        previous=previous,
        issued=1,
    )


def test_a_dropped_key_statement_leaves_a_gap_that_shows() -> None:
    """A chain without one of its statements does not check."""
    first = KEY.sign(_statement(KeyState.ACTIVE, 1, None))
    second = KEY.sign(_statement(KeyState.SUSPENDED, 2, first.digest))
    third = KEY.sign(_statement(KeyState.ACTIVE, 3, second.digest))
    check_statement(first, None)
    check_statement(second, first)
    check_statement(third, second)
    with pytest.raises(MalformedError, match="follow"):
        check_statement(third, first)


def test_a_destroyed_key_does_not_come_back() -> None:
    """Destroyed is the end, whoever signs."""
    first = KEY.sign(_statement(KeyState.ACTIVE, 1, None))
    gone = KEY.sign(_statement(KeyState.DESTROYED, 2, first.digest))
    back = KEY.sign(_statement(KeyState.ACTIVE, 3, gone.digest))
    check_statement(gone, first)
    with pytest.raises(MalformedError, match="cannot become"):
        check_statement(back, gone)


@pytest.mark.parametrize("change", [{"parameters": "sha256:" + "1" * 64}, {"tenant": "bank"}])
def test_a_key_does_not_become_another_key(change: dict[str, str]) -> None:
    """A later statement changes the state and nothing else."""
    first = KEY.sign(_statement(KeyState.ACTIVE, 1, None))
    other = KEY.sign(_statement(KeyState.SUSPENDED, 2, first.digest).model_copy(update=change))
    with pytest.raises(MalformedError, match="another key"):
        check_statement(other, first)


def test_envelopes_survive_json() -> None:
    """What is stored and sent is what was signed."""
    stored = json.loads(CERTIFICATE.envelope.to_bytes())
    assert open_signed(json.dumps(stored).encode(), NodeCertificate).digest == CERTIFICATE.digest


CATEGORY: dict[str, Any] = {"name": "c", "type": "category", "categories": ("a", "b", "c")}
NUMBER: dict[str, Any] = {"name": "n", "minimum": 0.0, "maximum": 1.0}


@pytest.mark.parametrize(
    ("column", "says"),
    [
        pytest.param(CATEGORY | {"categories": ()}, "list of categories", id="no categories"),
        pytest.param(CATEGORY | {"categories": ("a", "b", "a")}, "twice", id="a category twice"),
        pytest.param(CATEGORY | {"categories": (1, True)}, "twice", id="two that are equal"),
        pytest.param(CATEGORY | {"categories": ("a",) * 1001}, "1000", id="too many categories"),
        pytest.param(CATEGORY | {"minimum": 0.0}, "minimum", id="a category with a range"),
        pytest.param(CATEGORY | {"out_of_range": "clip"}, "clipped", id="a category that is clipped"),
        pytest.param(CATEGORY | {"missing": "fill"}, "fill goes with", id="nothing to fill in"),
        pytest.param(CATEGORY | {"fill": 1.0}, "fill goes with", id="a filling without its rule"),
        pytest.param(CATEGORY | {"missing": "fill", "fill": 3.0}, "position", id="a filling past the last category"),
        pytest.param(CATEGORY | {"missing": "fill", "fill": 0.5}, "position", id="a filling between two"),
        pytest.param(CATEGORY | {"missing": "fill", "fill": -1.0}, "position", id="a filling before the first"),
        pytest.param(NUMBER | {"categories": ("a",)}, "no categories", id="a number with categories"),
        pytest.param(NUMBER | {"out_of_range": "other"}, "clipped", id="a number that is another"),
        pytest.param(NUMBER | {"minimum": None}, "minimum", id="a number without a range"),
        pytest.param(NUMBER | {"maximum": 0.0}, "minimum", id="a range of nothing"),
        pytest.param(NUMBER | {"missing": "fill", "fill": 2.0}, "range", id="a filling outside of the range"),
        pytest.param(NUMBER | {"type": "text"}, "type", id="another type"),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(column: dict[str, Any], says: str) -> None:
    """Whoever reads a manifest knows one rule for every value."""
    for good in (CATEGORY, CATEGORY | {"missing": "fill", "fill": 2.0}, NUMBER, NUMBER | {"missing": "model"}):
        Column(**good)
    with pytest.raises(ValidationError, match=says):
        Column(**column)


@pytest.mark.parametrize(
    "privacy",
    [
        pytest.param({"mode": "model_private"}, id="no bits"),
        pytest.param({"mode": "model_private", "bits": 39.0}, id="too few bits"),
        pytest.param({"mode": "model_public", "bits": 50.0}, id="bits of nothing"),
        pytest.param({"mode": "insecure"}, id="another mode"),
        pytest.param({"mode": "model_public", "rows_per_tenant": 0}, id="a budget of nothing"),
    ],
)
def test_a_manifest_claims_no_privacy_that_it_has_not(privacy: dict[str, Any]) -> None:
    """A model is public, or hidden to at least 2^-40."""
    Privacy(mode="model_public")
    Privacy(mode="model_private", bits=40.0, rows_per_tenant=1)
    with pytest.raises(ValidationError):
        Privacy(**privacy)


def test_encryption_below_128_bits_cannot_be_stated() -> None:
    """There is no number for it."""
    good: dict[str, Any] = {
        "scheme": "bfv",
        "security": 128,
        "degree": 4096,
        "modulus_bits": 104,
        "levels": 0,
        "error_bound": 0.0,
    }
    Encryption(**good)
    for change in ({"security": 80}, {"scheme": "plain"}, {"modulus_bits": 882}, {"error_bound": -1.0}):
        with pytest.raises(ValidationError):
            Encryption(**(good | change))

"""What an owner may say about its key, and which bytes it signs when it says so."""

import json
from typing import Any

import pytest

from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.errors import EnvelopeError, MalformedError
from blindgate_protocol.keys import KEY_TRANSITIONS, KeyState, KeyStatement, check_statement
from blindgate_protocol.signing import Document, Signed, SigningKey, open_signed
from blindgate_protocol.values import BlobRef

KEY = SigningKey.from_seed(b"k" * 32)
BLOB = BlobRef(digest="sha256:" + "0" * 64, size=1)
DAY = 86_400_000
OLD = {
    "payload": (
        "eyJjbGllbnQiOiJlZDI1NTE5OmdUbDNEcWg5RjE5V28xUm13MHgtek11TmlwRzA3amVpWGZZUFc0X0pzNVEiLCJpc3N1ZWQiOjE3NTAwMDAwMDAwMDAsImtl"
        "eSI6eyJkaWdlc3QiOiJzaGEyNTY6ZmE5NjRiY2Q5NWY0MzU0YWQzMjhjMDgwMjE2NDM0YzBiZTQ5MmJmZGJhZjVlNjFjNjc0YzMxNjQ5ZmI0NGQ4ZiIsInNp"
        "emUiOjE0fSwicGFyYW1ldGVycyI6InNoYTI1NjpmNTI4MjEyYTQ5NmRjN2EwZTlhNTdjMTI5YjU2MWFhNDYwOTM2NGQ3MGY4ODZjMDlkNjY4ZTAwNzk3NTIx"
        "ZWI1IiwicHJldmlvdXMiOm51bGwsInNlcXVlbmNlIjoxLCJzdGF0ZSI6ImFjdGl2ZSIsInRlbmFudCI6Imhvc3BpdGFsIn0="
    ),
    "payloadType": "application/vnd.blindgate.key-statement.v1+json",
    "signatures": [
        {
            "keyid": "ed25519:gTl3Dqh9F19Wo1Rmw0x-zMuNipG07jeiXfYPW4_Js5Q",
            "sig": "cRsmN7rsnelocauy7YKMnQkBwXU8fJAP/jE6tz1L3wa9UE7f6naxYYrrdKSWyJk9cU8ybb2+gwZnwqfud9/IBQ==",
        }
    ],
}
"""A statement that was signed before there were reasons and times of destruction."""
OLD_DIGEST = "sha256:7d3033711fe9f4cff3c8c664cbe601babc889b1d00cf777531dec9aeef0584c5"


def said(state: KeyState, previous: Signed[KeyStatement] | None = None, **changes: Any) -> Signed[KeyStatement]:
    """The next statement of a chain; a day passes between two of them."""
    number = 1 if previous is None else previous.document.sequence + 1
    given: dict[str, Any] = {
        "key": BLOB,
        "tenant": "hospital",
        "parameters": BLOB.digest,
        "state": state,
        "client": KEY.id,
        "sequence": number,
        "previous": None if previous is None else previous.digest,
        "issued": number * DAY,
    }
    if state is KeyState.DESTRUCTION_SCHEDULED:
        given["destroy_at"] = (number + 30) * DAY
    return KEY.sign(KeyStatement(**(given | changes)))


def chain(*states: KeyState) -> list[Signed[KeyStatement]]:
    """Statements that say these one after the other."""
    statements: list[Signed[KeyStatement]] = []
    for state in states:
        statements.append(said(state, statements[-1] if statements else None))
    return statements


def check(statements: list[Signed[KeyStatement]]) -> None:
    """Check each against those before it."""
    for place, statement in enumerate(statements):
        check_statement(
            statement, statements[place - 1] if place else None, statements[place - 2] if place > 1 else None
        )


def test_a_statement_of_before_there_were_reasons_is_what_it_was() -> None:
    """It opens, has its digest, and signing the same again gives the same bytes."""
    signed = open_signed(json.dumps(OLD).encode(), KeyStatement)
    assert signed.digest == OLD_DIGEST
    assert digest(signed.document.payload()) == OLD_DIGEST
    assert (signed.document.reason, signed.document.destroy_at) == (None, None)


def test_what_is_said_is_signed() -> None:
    """A reason and a time are in the payload, and survive the wire."""
    signed = said(KeyState.DESTRUCTION_SCHEDULED, said(KeyState.ACTIVE), reason="the study ended")
    opened = open_signed(signed.envelope.to_bytes(), KeyStatement)
    assert opened.digest == signed.digest
    assert (opened.document.reason, opened.document.destroy_at) == ("the study ended", 32 * DAY)


def test_the_key_that_took_its_place_is_signed() -> None:
    """Where the owner names it; a statement that names none has the bytes that it had before one could."""
    other = "sha256:" + "1" * 64
    before = said(KeyState.ACTIVE)
    signed = said(KeyState.SUPERSEDED, before, successor=other)
    check([before, signed])
    opened = open_signed(signed.envelope.to_bytes(), KeyStatement)
    assert opened.document.successor == other
    assert json.loads(opened.document.payload())["successor"] == other
    assert "successor" not in json.loads(said(KeyState.SUPERSEDED, before).document.payload())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"successor": "sha256:" + "1" * 64}, "belongs to superseded", id="a successor of an active key"),
        pytest.param({"state": "superseded", "successor": BLOB.digest}, "another key", id="its own successor"),
        pytest.param({"successor": None}, "successor is left out", id="an empty successor has another payload"),
        pytest.param(
            {"state": "superseded", "successor": "the next one"}, "successor", id="a successor that is no digest"
        ),
        pytest.param({"reason": None}, "reason is left out", id="an empty reason has another payload"),
        pytest.param({"destroy_at": None}, "destroy_at is left out", id="so has an empty time"),
        pytest.param({"destroy_at": 5 * DAY}, "belongs to destruction-scheduled", id="a time without a schedule"),
        pytest.param({"state": "destruction-scheduled"}, "belongs to destruction-scheduled", id="without its time"),
        pytest.param({"state": "destruction-scheduled", "destroy_at": DAY}, "later than issued", id="at once"),
        pytest.param({"reason": ""}, "reason", id="a reason that says nothing"),
        pytest.param({"reason": "x" * 301}, "reason", id="a reason that is a story"),
        pytest.param({"reason": "a\0b"}, "reason", id="a reason that no database holds"),
        pytest.param({"state": "resting"}, "state", id="no state"),
    ],
)
def test_a_statement_that_is_signed_and_malformed_is_refused(changes: dict[str, Any], rule: str) -> None:
    """Each has one form, and the error names the field."""

    class Raw(Document):
        media_type = KeyStatement.media_type
        members: dict[str, Any]

        def payload(self) -> bytes:
            return canonical(self.members)

    members = json.loads(said(KeyState.ACTIVE).document.payload()) | changes
    with pytest.raises(EnvelopeError, match=rule):
        open_signed(KEY.sign(Raw(members=members)).envelope, KeyStatement)


R, A, S = KeyState.REGISTERED, KeyState.ACTIVE, KeyState.SUSPENDED
P, D, C = KeyState.SUPERSEDED, KeyState.DEACTIVATED, KeyState.COMPROMISED
W, X = KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED


@pytest.mark.parametrize(
    "states",
    [
        pytest.param((R, A, S, A, P, X), id="from registration to destruction"),
        pytest.param((A, D, C, X), id="deactivated, and then known to others"),
        pytest.param((R, C, W, X), id="compromised before it was used"),
        *(
            pytest.param((*before, W, before[-1]), id=f"{before[-1].value}, called off")
            for before in ((R,), (A,), (A, S), (A, P), (A, D), (A, C))
        ),
        pytest.param((A, W, A, W, X), id="put off"),
        pytest.param((A, W, C, X), id="compromised while it waits"),
    ],
)
def test_a_key_may_live_so(states: tuple[KeyState, ...]) -> None:
    """Each statement follows on the one before."""
    check(chain(*states))


@pytest.mark.parametrize(
    "states",
    [
        pytest.param((D,), id="deactivated from the beginning"),
        pytest.param((R, S), id="suspended before it was active"),
        pytest.param((A, R), id="registered again"),
        pytest.param((A, P, A), id="superseded, and back"),
        pytest.param((A, D, A), id="deactivated, and back"),
        pytest.param((A, C, A), id="compromised, and trusted again"),
        pytest.param((A, C, D), id="compromised, and deactivated as if it were not"),
        pytest.param((A, D, W, A), id="deactivated, and back by way of a schedule"),
        pytest.param((A, C, W, A), id="compromised, and back by way of a schedule"),
        pytest.param((A, C, W, D), id="compromised, and washed by a schedule"),
        pytest.param((A, W, S), id="called off to where it never stood"),
        pytest.param((A, W, W), id="scheduled twice"),
        pytest.param((A, X, C), id="destroyed, and then compromised"),
        pytest.param((A, X, W), id="destroyed, and then again"),
    ],
)
def test_a_key_may_not_live_so(states: tuple[KeyState, ...]) -> None:
    """The last statement is refused, and all before it are taken."""
    statements = chain(*states)
    check(statements[:-1])
    with pytest.raises(MalformedError, match=r"cannot become|leads back"):
        check(statements)


def test_any_key_but_a_destroyed_one_can_be_compromised_or_destroyed() -> None:
    """Whatever happened to it before."""
    for state in KeyState:
        expected = set() if state is X else {X} if state is C else {C, X}
        assert expected <= KEY_TRANSITIONS[state]
    assert KEY_TRANSITIONS[X] == frozenset()


def test_nothing_but_destruction_follows_when_the_time_has_come() -> None:
    """A schedule is called off before its time, or not at all."""
    first = said(A)
    scheduled = said(W, first, destroy_at=2 * DAY + 1000)
    check_statement(said(A, scheduled, issued=2 * DAY + 999), scheduled, first)
    for late in (A, C):
        with pytest.raises(MalformedError, match="time of this key's destruction"):
            check_statement(said(late, scheduled, issued=2 * DAY + 1000), scheduled, first)
    check_statement(said(X, scheduled, issued=2 * DAY + 1000), scheduled, first)
    check_statement(said(X, scheduled, issued=2 * DAY + 1), scheduled, first)


def test_a_schedule_is_not_called_off_on_somebodys_word_for_where_the_key_stood() -> None:
    """The statement before it must be the one that it followed on."""
    first, other = said(D, said(A)), said(A)
    scheduled = said(W, first)
    back = said(A, scheduled)
    for earlier in (other, None):
        with pytest.raises(MalformedError, match="where the key stood"):
            check_statement(back, scheduled, earlier)

"""Events and their commitments: one form for one event, nobody's name in it, and nothing to guess from an entry."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blindgate_protocol.canonical import canonical
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.events import (
    ENTRY_BYTES,
    MAX_EVENT_BYTES,
    Action,
    Event,
    OtherAction,
    action_of,
    entry_of,
    leaf_of,
)
from blindgate_protocol.logged import MOST_EVENTS, Logged, LoggedPage, LoggedProof
from blindgate_protocol.merkle import leaf_hash
from blindgate_protocol.signing import SigningKey

CLIENT = SigningKey.from_seed(bytes(32))
TENANT = f"tenant-{'0f' * 16}"
KEY = f"key:sha256:{'ab' * 32}"
EVENT = Event(
    time=1_750_000_000_000,
    action=Action.KEY_ACTIVATED,
    actor=CLIENT.id,
    role="client",
    tenant=TENANT,
    object=KEY,
    digest=f"sha256:{'cd' * 32}",
    request="0123456789abcdef",
    before="registered",
    after="active",
    details={"client": CLIENT.id, "sequence": "2"},
    software="blindgate 0.1.0",
)
SALT = bytes(range(32))
BYTES = EVENT.to_bytes()


def test_an_event_has_one_form() -> None:
    """What is written is read again, and read only so."""
    assert Event.from_bytes(BYTES) == EVENT
    assert canonical(json.loads(BYTES)) == BYTES
    for other in (json.dumps(json.loads(BYTES)).encode(), BYTES + b"\n", BYTES[:-1], b"", b"null", b"[]"):
        with pytest.raises(MalformedError):
            Event.from_bytes(other)


@pytest.mark.parametrize("member", sorted(Event.model_fields))
def test_an_event_with_a_member_left_out_is_refused(member: str) -> None:
    """Null is said. Whoever filled it in would hold other bytes than were committed to."""
    members = json.loads(BYTES)
    del members[member]
    with pytest.raises(MalformedError, match=f"not an event: {member} is missing"):
        Event.from_bytes(canonical(members))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": 1}, "more: Extra inputs"),
        ({"version": 2}, "version"),
        ({"time": -1}, "time"),
        ({"time": "now"}, "time"),
        ({"time": 2**53}, "canonical|time"),
        ({"action": "Key borrowed"}, "action"),
        ({"action": "key"}, "action"),
        ({"action": "key.x" + "y" * 60}, "action"),
        ({"action": None}, "action"),
        ({"actor": "Mary Jones"}, "actor"),
        ({"actor": "mary@hospital.example"}, "actor"),
        ({"tenant": "hospital"}, "tenant"),
        ({"tenant": f"tenant-{'0F' * 16}"}, "tenant"),
        ({"object": "key"}, "object"),
        ({"object": "key:a b"}, "object"),
        ({"digest": "cd" * 32}, "digest"),
        ({"outcome": "maybe"}, "outcome"),
        ({"details": {"Client": "x"}}, "details"),
        ({"details": {"client": 1}}, "details.client"),
        ({"details": {f"d{n}": "" for n in range(17)}}, "details"),
        ({"reason": "x" * 2001}, "reason"),
    ],
    ids=lambda value: "" if isinstance(value, str) else json.dumps(value)[:40],
)
def test_what_is_no_event_is_refused(change: dict[str, Any], message: str) -> None:
    """By the field and its rule. A tenant's or a person's name is of no form that an event takes."""
    with pytest.raises(MalformedError, match=message) as caught:
        Event.from_bytes(canonical(json.loads(BYTES) | change))
    assert "mary" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "actor",
    ["gateway", "command-line", "unknown", CLIENT.id, TENANT, f"staff-{'00' * 16}", f"credential-{'00' * 16}"],
)
def test_whoever_acts_has_a_form(actor: str) -> None:
    """A pseudonym, a signing key's id, or one of the gateway's own words."""
    assert Event.from_bytes(EVENT.model_copy(update={"actor": actor}).to_bytes()).actor == actor


@pytest.mark.parametrize(
    "thing",
    [KEY, "job:00112233", CLIENT.id.replace("ed25519", "node:ed25519"), f"tenant:{TENANT}", "model:example/3",
     "log:127.0.0.1:8080/log", "event:17", "credential:bg_1"],
)  # fmt: skip
def test_whatever_it_is_about_has_a_form(thing: str) -> None:
    """Its kind and its id."""
    assert Event.from_bytes(EVENT.model_copy(update={"object": thing}).to_bytes()).object == thing


def test_an_event_that_says_too_much_is_none() -> None:
    """64 KiB, when it is made as when it is read."""
    large = EVENT.model_copy(update={"details": {f"d{n}": "\x01" * 2000 for n in range(16)}})
    with pytest.raises(MalformedError, match=f"at most {MAX_EVENT_BYTES}"):
        large.to_bytes()
    with pytest.raises(MalformedError, match=f"at most {MAX_EVENT_BYTES}"):
        Event.from_bytes(b" " * (MAX_EVENT_BYTES + 1))


def test_an_entry_commits_to_the_event_and_says_nothing_of_it() -> None:
    """A version and an HMAC under the salt: 33 bytes, whatever happened. The leaf is RFC 9162's hash of it."""
    entry = entry_of(BYTES, SALT)
    assert entry == b"\x01" + hmac.new(SALT, BYTES, hashlib.sha256).digest()
    assert len(entry) == ENTRY_BYTES == len(entry_of(b"", SALT))
    assert leaf_of(BYTES, SALT) == leaf_hash(entry) == hashlib.sha256(b"\0" + entry).digest()
    assert entry_of(BYTES, SALT[::-1]) != entry
    assert entry_of(EVENT.model_copy(update={"outcome": "failure"}).to_bytes(), SALT) != entry


@pytest.mark.parametrize("salt", [b"", SALT[:-1], SALT + b"\0"])
def test_a_salt_of_another_length_opens_nothing(salt: bytes) -> None:
    """HMAC pads short keys with zeros, so a shorter salt could stand for a longer one."""
    for function in (entry_of, leaf_of):
        with pytest.raises(LogError, match=f"a salt has 32 bytes, got {len(salt)}"):
            function(BYTES, salt)


def test_actions_are_named_as_they_are_filed() -> None:
    """What it happens to, a point, and what happened."""
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", action) for action in Action)


def test_an_action_of_a_later_version_is_read_by_its_own_name() -> None:
    """As the bytes that it was committed to; it is no action that this version acts on, nor can a known one be taken for it."""
    data = BYTES.replace(b"key.activated", b"key.borrowed-out")
    event = Event.from_bytes(data)
    assert isinstance(event.action, OtherAction)
    assert (event.action.value, event.to_bytes(), action_of("key.borrowed-out")) == (
        "key.borrowed-out",
        data,
        event.action,
    )
    assert Event.from_bytes(BYTES).action is action_of("key.activated") is Action.KEY_ACTIVATED
    with pytest.raises(ValidationError, match="name of an action that is known"):
        Event.model_validate(dict(EVENT) | {"action": "key.activated"})


@pytest.mark.parametrize("page", ["audit.md", "protocol.md"])
def test_every_action_is_explained(page: str) -> None:
    """An auditor finds no event in the log that the documents do not know."""
    text = (Path(__file__).resolve().parents[2] / "docs" / page).read_text()
    assert [action.value for action in Action if f"`{action.value}`" not in text] == []


SHOWN = {"index": 3, "event": BYTES.decode(), "salt": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}


def test_what_the_gateway_shows_is_read_again() -> None:
    """An erased event has neither body nor salt."""
    shown = Logged.model_validate_json(json.dumps(SHOWN))
    assert shown.salt == SALT
    assert json.loads(shown.model_dump_json()) == SHOWN
    erased = Logged(index=3, event=None, salt=None)
    page = LoggedPage(size=4, events=(shown, erased), after=None)
    assert LoggedPage.model_validate_json(page.model_dump_json()) == page


@pytest.mark.parametrize(
    "change",
    [{"event": None}, {"salt": None}, {"salt": "AAEC"}, {"salt": "*" * 44}, {"index": -1}, {"index": 2**53}],
    ids=json.dumps,
)
def test_half_an_erasure_and_other_odd_answers_are_refused(change: dict[str, Any]) -> None:
    """A gateway's answer is bytes from outside."""
    with pytest.raises(ValidationError):
        Logged.model_validate_json(json.dumps(SHOWN | change))


def test_a_page_and_a_proof_have_bounds() -> None:
    """So that a hostile gateway cannot fill an auditor's memory."""
    one = Logged(index=0, event=None, salt=None)
    with pytest.raises(ValidationError, match="at most 1000"):
        LoggedPage(size=2000, events=(one,) * (MOST_EVENTS + 1), after=None)
    with pytest.raises(ValidationError, match="proof"):
        LoggedProof(event="", salt=SALT, proof="x" * ((1 << 18) + 1))

"""The short way to an event's bytes and back gives what the long way gives: RFC 8785 by the library, and each rule by itself."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blindgate_protocol.canonical import canonical, parse_canonical
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.events import Action, Event, OtherAction
from campaigns import of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
EVENTS = st.builds(
    Event,
    time=st.integers(0, 2**53 - 1),
    action=st.sampled_from([*Action, OtherAction("key.lent")]),
    actor=st.sampled_from(["gateway", f"tenant-{'0f' * 16}"]),
    role=st.sampled_from(["tenant", "auditor"]),
    tenant=st.none() | st.just(f"tenant-{'0f' * 16}"),
    object=st.just("job:1"),
    outcome=st.sampled_from(["success", "failure"]),
    reason=st.none() | TEXTS,
    details=st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), TEXTS, max_size=3),
    software=TEXTS,
)
ODD = [
    "true",
    "1.0",
    "1e0",
    "-0",
    "01",
    "NaN",
    "Infinity",
    "9007199254740993",
    '"1"',
    "[]",
    '"\\ud800"',
    '"\\u00e9"',
    '"\\/"',
]
"""What may stand for a value, in JSON or nearly."""


def test_half_a_pair_has_no_form() -> None:
    """By either way."""
    event = Event(
        time=1, action=Action.LOG_READ, actor="gateway", role="gateway", object="log:1", software="a"
    ).model_copy(update={"reason": "\ud800"})
    with pytest.raises(MalformedError, match="no canonical JSON form"):
        event.to_bytes()


def the_long_way(data: bytes) -> Event | None:
    """Each rule by itself."""
    try:
        members = parse_canonical(data)
        if not isinstance(members, dict) or Event.model_fields.keys() - members:
            return None
        return Event.model_validate_json(data)
    except (MalformedError, ValidationError):
        return None


def the_short_way(data: bytes) -> Event | None:
    """As an auditor reads it."""
    try:
        return Event.from_bytes(data)
    except MalformedError:
        return None


@given(EVENTS)
@example(
    Event(
        time=2**53 - 1,
        action=Action.LOG_READ,
        actor="gateway",
        role="gateway",
        object="log:1",
        reason='\x00\x08\t\n\x0b\x0c\r\x1f"\\/\x7f\x80\u2028\ue000\U0001f600',
        details={"b-c": "", "b": "é", "a": "'<>&"},
        software="a",
    )
)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    """And its bytes are the canonical ones."""
    data = event.to_bytes()
    assert data == canonical(event.model_dump(mode="json"))
    assert the_short_way(data) == the_long_way(data) == event


@st.composite
def others(draw: st.DrawFn) -> bytes:
    """Bytes that are nearly those of an event: written otherwise, with something more, less or twice, or with a byte changed."""
    members = json.loads(draw(EVENTS).to_bytes())
    written = {name: json.dumps(one, ensure_ascii=draw(st.booleans())) for name, one in members.items()}
    for name in draw(st.lists(st.sampled_from(sorted(written)), max_size=2)):
        written[name] = draw(st.sampled_from(ODD))
    names = sorted(written)
    names += draw(st.lists(st.sampled_from([*names, "more"]), max_size=1))
    names = draw(st.permutations(names)) if draw(st.booleans()) else sorted(names)
    left_out = draw(st.none() | st.sampled_from(names))
    mark = draw(st.sampled_from([",", ", "]))
    text = mark.join(f'"{name}":{written.get(name, "null")}' for name in names if name != left_out)
    data = bytearray(f"{{{text}}}".encode(errors="replace"))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(data) - 1))
        data[place : place + draw(st.integers(0, 1))] = draw(st.binary(max_size=2))
    return bytes(data)


@settings(max_examples=of(400, slice_of=100))
@given(others() | st.binary(max_size=40))
@example(b"\xff\xfe{\x00}\x00")
@example(b"[" * 5000)
def test_what_is_written_otherwise_is_refused_by_both_ways(data: bytes) -> None:
    """None takes what the other does not."""
    assert the_short_way(data) == the_long_way(data)

"""A key's history as it is told, held against what its owner signed."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from blindgate_protocol.errors import (
    BlindgateError,
    GatewayUnreachableError,
    KeyHistoryError,
    MalformedError,
    NotFoundError,
)
from blindgate_protocol.events import Action
from blindgate_protocol.key_history import (
    SETTLE,
    Disagreement,
    chain_bytes,
    chain_key,
    chain_name,
    compare,
    compare_logged,
    read_chain,
    told_by_events,
    told_by_statements,
)
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.logged import Logged
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed
from key_events import BLOB, DAY, OWNER, STRANGER, life, log_of, logged, signed

NOW = 100 * DAY
LIFE = (
    KeyState.REGISTERED,
    KeyState.ACTIVE,
    KeyState.SUSPENDED,
    KeyState.ACTIVE,
    KeyState.DESTRUCTION_SCHEDULED,
)
OWN = life(*LIFE)


def erased(index: int) -> Logged:
    """An event whose body is gone."""
    return Logged(index=index, event=None, salt=None)


def judged(
    events: Sequence[Logged], own: Sequence[Signed[KeyStatement]] = OWN, **given: Any
) -> list[tuple[Disagreement, int]]:
    """What `compare` finds, in short. Every finding names the key."""
    found = compare(BLOB.digest, own, told_by_events(BLOB.digest, events), **({"now": NOW} | given))
    assert all(finding.key == BLOB.digest and finding.says for finding in found)
    return [(finding.disagreement, finding.sequence) for finding in found]


def test_a_history_that_is_whole_has_nothing_to_report() -> None:
    """As events, and as statements."""
    assert judged(log_of(OWN)) == []
    assert compare(BLOB.digest, OWN, told_by_statements(OWN), now=NOW) == []


@pytest.mark.parametrize("place", range(len(OWN)))
def test_a_statement_that_was_left_out_is_named(place: int) -> None:
    """Whichever it is: the first, one in the middle, the last; the others are as they were, numbered anew by the log or not."""
    assert judged(log_of([*OWN[:place], *OWN[place + 1 :]]) if place else log_of(OWN)[1:]) == [
        (Disagreement.MISSING, place + 1)
    ]


def test_a_history_that_is_not_told_at_all_is_missing_statement_by_statement() -> None:
    """A gateway that says that it knows nothing."""
    assert judged([]) == [(Disagreement.MISSING, number) for number in range(1, 6)]


def test_a_statement_that_the_owner_did_not_make_is_named() -> None:
    """Somebody has its key; or somebody else's key is said to be its."""
    forged = signed(KeyState.COMPROMISED, OWN[-1])
    assert judged(log_of([*OWN, forged])) == [(Disagreement.UNKNOWN, 6)]
    assert judged(log_of(OWN), own=()) == [(Disagreement.UNKNOWN, number) for number in range(1, 6)]


def test_what_was_put_in_the_place_of_a_statement_is_named_and_so_is_the_gap() -> None:
    """Signed with the same key, by somebody who has it: the next one still follows on the owner's."""
    other = signed(KeyState.ACTIVE, OWN[0], issued=2 * DAY + 1)
    assert judged(log_of([OWN[0], other, *OWN[2:]])) == [(Disagreement.OTHER, 2), (Disagreement.GAP, 3)]


DETAILS = {"sequence": "5", "client": OWNER.id, "previous": OWN[3].digest}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"after": "destroyed"}, id="another state"),
        pytest.param({"digest": "sha256:" + "0" * 64}, id="another digest"),
        pytest.param({"digest": None}, id="no digest"),
        pytest.param(
            {"details": {"sequence": "5", "client": STRANGER.id, "previous": OWN[3].digest}}, id="another signer"
        ),
        pytest.param({"details": {"sequence": "5", "previous": OWN[3].digest}}, id="no signer"),
        pytest.param(
            {"details": DETAILS | {"successor": "sha256:" + "0" * 64}},
            id="a successor that nobody named",
        ),
    ],
)
def test_an_event_that_tells_something_else_than_the_statement_is_named(changes: dict[str, Any]) -> None:
    """Its number alone does not make it the owner's."""
    events = [*log_of(OWN[:-1])[:-1], logged(OWN[-1], 50, **changes)]
    assert judged(events) == [(Disagreement.OTHER, 5)]


def test_events_out_of_order_or_twice_are_gaps() -> None:
    """The order of the log is the order of the chain."""
    first, second, *_ = OWN
    assert judged([logged(second, 0), logged(first, 1)], own=OWN[:2]) == [(Disagreement.GAP, 1)]
    assert judged([logged(first, 0), logged(second, 1), logged(second, 2)], own=OWN[:2]) == [(Disagreement.GAP, 2)]
    beyond = signed(KeyState.COMPROMISED, signed(KeyState.COMPROMISED, OWN[-1]))
    assert judged(log_of([*OWN, beyond])) == [(Disagreement.GAP, 7), (Disagreement.UNKNOWN, 7)]


def test_an_erased_event_stands_for_one_statement_at_its_place() -> None:
    """It says so, and does not excuse another that is missing."""
    whole = [logged(statement, 10 * place) for place, statement in enumerate(OWN)]
    assert judged([*whole[:2], erased(20), *whole[3:]]) == [(Disagreement.ERASED, 3)]
    assert judged([*whole[:2], erased(20), *whole[4:]]) == [(Disagreement.ERASED, 3), (Disagreement.MISSING, 4)]
    assert judged([erased(5), *whole[:3], *whole[4:]][1:], own=OWN) == [(Disagreement.MISSING, 4)]
    assert judged([whole[0], erased(5), *whole[1:3], whole[4]]) == [(Disagreement.MISSING, 4)]
    assert not Disagreement.ERASED.is_fault


def test_the_last_statement_may_be_on_its_way() -> None:
    """Not acknowledged, or a moment old: no fault yet. Later it is, and one that is not the last always is."""
    events = log_of(OWN[:-1])
    assert judged(events, unsent=OWN[-1].digest) == [(Disagreement.PENDING, 5)]
    assert judged(events, now=OWN[-1].document.issued + SETTLE - 1) == [(Disagreement.PENDING, 5)]
    assert judged(events, now=OWN[-1].document.issued + SETTLE) == [(Disagreement.MISSING, 5)]
    assert judged(log_of(OWN[:-2]), unsent=OWN[-1].digest) == [(Disagreement.MISSING, 4), (Disagreement.PENDING, 5)]
    assert not Disagreement.PENDING.is_fault


def test_a_scheduled_destruction_is_carried_out_on_the_owners_word_and_not_before() -> None:
    """The gateway's event has the schedule's number and digest; the owner may sign destroyed afterwards."""
    at = OWN[-1].document.destroy_at
    assert at is not None
    carried_out = {"action": Action.KEY_DESTROYED, "after": "destroyed", "actor": "gateway", "role": "gateway"}
    whole = log_of(OWN)[:-1]
    assert judged([*whole, logged(OWN[-1], 99, time=at - CLOCK_SKEW, **carried_out)]) == []
    assert judged([*whole, logged(OWN[-1], 99, time=at - CLOCK_SKEW - 1000, **carried_out)]) == [
        (Disagreement.EARLY, 5)
    ]
    last = signed(KeyState.DESTROYED, OWN[-1])
    assert judged([*whole, logged(OWN[-1], 99, time=at, **carried_out), logged(last, 100)], own=[*OWN, last]) == []


@pytest.mark.parametrize(
    ("events", "names"),
    [
        pytest.param([Logged(index=3, event="{", salt=bytes(32))], "event 3", id="no event"),
        pytest.param([logged(OWN[0], 3, object="key:sha256:" + "0" * 64)], "event 3 is about", id="another key's"),
        pytest.param([logged(OWN[0], 3, details={})], "event 3", id="without a number"),
        pytest.param([logged(OWN[0], 3, details={"sequence": "0"})], "event 3", id="number zero"),
        pytest.param([logged(OWN[0], 3), logged(OWN[1], 3)], "event 3", id="an index twice"),
    ],
)
def test_what_is_no_history_is_refused(events: list[Logged], names: str) -> None:
    """With the index that is at fault."""
    with pytest.raises(KeyHistoryError, match=names):
        list(told_by_events(BLOB.digest, events))


def test_a_chain_survives_its_file() -> None:
    """Every statement as it was signed."""
    read = read_chain(BLOB.digest, chain_bytes(OWN))
    assert [each.envelope for each in read] == [each.envelope for each in OWN]
    assert read_chain(BLOB.digest, b"") == ()
    assert chain_key(chain_name(BLOB.digest)) == BLOB.digest
    assert chain_key("notes.jsonl") is None
    assert chain_key(chain_name(BLOB.digest) + "\n") is None


DATA = chain_bytes(OWN)
LINES = DATA.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        pytest.param(DATA[:-1], "cut off", id="without its end"),
        pytest.param(b"".join([LINES[0], *LINES[2:]]), "line 2", id="without one of them"),
        pytest.param(b"".join([LINES[1], LINES[0]]), "line 1", id="out of order"),
        pytest.param(DATA.replace(b"sig", b"gis"), "line 1", id="no envelopes"),
        pytest.param(LINES[0].replace(b'"payload":"e', b'"payload":"f'), "line 1", id="altered"),
        pytest.param(b"\n", "line 1", id="an empty line"),
        pytest.param(b"x" * (8 << 20) + b"\n", "at most", id="too much"),
    ],
)
def test_a_damaged_file_is_refused_by_its_line(data: bytes, names: str) -> None:
    """It is what everything else is held against."""
    with pytest.raises(KeyHistoryError, match=names):
        read_chain(BLOB.digest, data)


def test_a_file_of_another_key_is_not_taken_for_this_ones() -> None:
    """The name says which it is."""
    with pytest.raises(KeyHistoryError, match="about key"):
        read_chain("sha256:" + "0" * 64, DATA)


def asked(*events: Logged, then: BlindgateError) -> Iterator[Logged]:
    """What a gateway lists, page by page, until it answers with something else."""
    yield from events
    raise then


def test_a_gateway_that_lists_no_history_is_a_finding_and_one_that_does_not_answer_is_none() -> None:
    """No such key is a history that lacks everything; what does not parse is another; a fault of the network is nobody's."""
    found = compare_logged(BLOB.digest, OWN, asked(then=NotFoundError("no such key")), now=NOW)
    assert [(each.disagreement, each.sequence) for each in found] == [
        (Disagreement.MISSING, number) for number in range(1, 6)
    ]
    for error in (MalformedError("junk"), KeyHistoryError("no end")):
        (one,) = compare_logged(BLOB.digest, OWN, asked(*log_of(OWN)[:2], then=error), now=NOW)
        assert (one.key, one.disagreement, one.says) == (BLOB.digest, Disagreement.OTHER, str(error))
    with pytest.raises(GatewayUnreachableError):
        compare_logged(BLOB.digest, OWN, asked(then=GatewayUnreachableError("no answer")), now=NOW)

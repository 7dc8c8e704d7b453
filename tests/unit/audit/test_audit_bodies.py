"""Events held against the entries of the tree: what was edited, what is missing, what was erased."""

import random
from collections.abc import Iterator

import pytest

from blindgate_audit.bodies import Bodies, Ranges
from blindgate_audit.findings import Findings
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.events import Action, Event, entry_of
from blindgate_protocol.logged import Logged
from static_logs import event, logged


def hold(entries: list[bytes], shown: list[Logged]) -> tuple[list[tuple[int | None, str]], Bodies]:
    """Index and rule of what is found."""
    found = Findings()
    bodies = Bodies(iter(shown), found)
    for first in range(0, len(entries), 256):
        bodies(first, entries[first : first + 256])
    bodies.finish()
    return [(one.index, one.rule) for one in found], bodies


def erasure(number: int, index: int, count: int = 1) -> Event:
    """An event that tells of an erasure."""
    return event(number, action=Action.EVENT_ERASED, object=f"event:{index}", details={"count": str(count)})


def gone(index: int) -> Logged:
    """An event without body and salt."""
    return Logged(index=index, event=None, salt=None)


def test_events_that_were_logged_hold() -> None:
    """All of them, and no more are waited for."""
    found, bodies = hold(*logged([event(number) for number in range(600)]))
    assert not found
    assert bodies.held == 600


def test_an_edited_event_is_named() -> None:
    """One word of it, or its salt."""
    entries, shown = logged([event(number) for number in range(300)])
    shown[256] = Logged(index=256, event=event(256, outcome="failure").to_bytes().decode(), salt=shown[256].salt)
    shown[7] = Logged(index=7, event=shown[7].event, salt=bytes(32))
    assert hold(entries, shown)[0] == [
        (7, "commitment"),
        (256, "commitment"),
    ]


def test_events_that_are_missing_are_one_gap_each_across_bundles() -> None:
    """An erased event is shown without a body; one that is not shown at all is a gap."""
    entries, shown = logged([event(number) for number in range(600)])
    del shown[200:300], shown[5]
    found = Findings()
    bodies = Bodies(iter(shown), found)
    for first in range(0, 600, 256):
        bodies(first, entries[first : first + 256])
    bodies.finish()
    assert [(one.index, one.rule) for one in found] == [(5, "gap"), (200, "gap")]
    assert "entries 200 to 299" in list(found)[1].message


def test_an_event_shown_twice_or_out_of_order_is_named() -> None:
    """Each entry has one event."""
    entries, shown = logged([event(number) for number in range(10)])
    assert hold(entries, [*shown[:4], *shown[3:]])[0] == [(3, "gap")]


def test_what_was_committed_to_and_is_no_event_is_named() -> None:
    """A gateway may log what it likes; it does not hold."""
    entries, shown = logged([event(number) for number in range(3)])
    text = '{"not": "canonical" }'
    entries[1] = entry_of(text.encode(), bytes(32))
    shown[1] = Logged(index=1, event=text, salt=bytes(32))
    assert hold(entries, shown)[0] == [(1, "event-form")]


def test_erased_events_are_explained_by_later_ones() -> None:
    """One by one, or several in a row."""
    events = [*(event(number) for number in range(300)), erasure(300, 10), erasure(301, 250, 20)]
    entries, shown = logged(events)
    for index in (10, *range(250, 270)):
        shown[index] = gone(index)
    found, bodies = hold(entries, shown)
    assert not found
    assert bodies.erased == 21


def test_what_is_gone_and_not_told_of_is_named() -> None:
    """Neither before nor behind what was."""
    entries, shown = logged([*(event(number) for number in range(30)), erasure(30, 12, 3)])
    for index in range(10, 17):
        shown[index] = gone(index)
    found, bodies = hold(entries, shown)
    assert found == [(10, "erasure"), (15, "erasure")]
    assert bodies.erased == 3


def test_an_erasure_that_did_not_happen_is_named() -> None:
    """Somebody was told that his data are gone."""
    entries, shown = logged([*(event(number) for number in range(30)), erasure(30, 12, 3)])
    shown[13] = gone(13)
    assert hold(entries, shown)[0] == [(12, "erasure")]


@pytest.mark.parametrize(
    "details",
    [{"count": "0"}, {"count": "6"}, {"count": "-1"}, {"count": "9" * 30}],
    ids=["none", "itself", "less", "many"],
)
def test_an_erasure_of_what_is_not_before_it_is_named(details: dict[str, str]) -> None:
    """It would explain what is still to be taken out."""
    bad = event(5, action=Action.EVENT_ERASED, object="event:0", details=details)
    assert hold(*logged([*(event(number) for number in range(5)), bad]))[0] == [(5, "erasure")]


def test_events_that_break_off_are_named_once() -> None:
    """Not once for every entry behind."""
    entries, shown = logged([event(number) for number in range(900)])

    def breaking() -> Iterator[Logged]:
        yield from shown[:300]
        raise MalformedError("a line that is none")

    found = Findings()
    bodies = Bodies(breaking(), found)
    for first in range(0, 900, 256):
        bodies(first, entries[first : first + 256])
    bodies.finish()
    assert [(one.index, one.rule) for one in found] == [(300, "gap")]


def test_ranges_are_the_set_of_what_was_put_in() -> None:
    """Whatever the order, and however they overlap."""
    for seed in range(300):
        drawn = random.Random(seed)
        ranges, put = Ranges(), set()
        for _ in range(drawn.randrange(1, 12)):
            begin = drawn.randrange(40)
            end = begin + drawn.randrange(1, 9)
            ranges.add(begin, end)
            put |= set(range(begin, end))
        assert {index for begin, end in ranges for index in range(begin, end)} == put
        flat = [bound for one in ranges for bound in one]
        assert flat == sorted(set(flat)), f"seed {seed}: ranges touch"
        assert {i for begin, end in ranges.within(10, 30) for i in range(begin, end)} == put & set(range(10, 30))

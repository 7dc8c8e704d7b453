"""A gateway that dates a thief's order back: the event of the result states another time than was logged when the order came.

Whoever is shown the bundle alone has to believe that time (`blindgate_protocol.revocations`). Whoever reads the log does not.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit_command import audit_verify
from audited_gateway import API_KEY, Audited, job_event, job_record, receipt, shown
from blindgate_protocol.events import Action, Event
from static_logs import SOME_DAY, event, findings, write_events, write_log

HOUR = 3_600_000
LATER = SOME_DAY + 12 * HOUR


def submitted(number: int, at: int, stated: object = None) -> Event:
    """An order came; a gateway of before `stated` no time of its database's."""
    details = {} if stated is None else {"submitted": str(stated)}
    return event(0, action=Action.JOB_SUBMITTED, object=f"job:{number:032x}", time=at, details=details)


def succeeded(number: int, at: int, stated: object) -> Event:
    """A result came, and with it the gateway says since when it had the order."""
    made = job_event(0, receipt(number))
    return made.model_copy(update={"time": at, "details": {"submitted": str(stated)}})


def gateway(*events: Event) -> Audited:
    """A gateway that began some hours before it took two orders, and told of them so."""
    begun = event(0, action=Action.LOG_STARTED, object="log:gateway.example/log")
    numbers = {int(one.object.removeprefix("job:"), 16) for one in events if one.action is Action.JOB_SUCCEEDED}
    return Audited(events=[begun, *events], jobs=[job_record(receipt(number)) for number in sorted(numbers)])


HONEST = (
    submitted(1, LATER),
    submitted(2, LATER + 5, LATER + 4),
    succeeded(2, LATER + HOUR, LATER + 4),  # the database's clock
    succeeded(1, LATER + HOUR, LATER),
)
BACK = LATER - 3 * HOUR


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Audited], tuple[int, str]]:
    """Audit it over HTTP with an auditor's key, and as an export: both find the same. Gives what the first said."""
    monkeypatch.setattr("blindgate_audit.commands.verify._LATEST_SECONDS", 0.1)

    numbers = itertools.count()

    def run(audited: Audited) -> tuple[int, str]:
        at = tmp_path / str(next(numbers))
        with shown(audited) as url:
            status, said = audit_verify(at / "memory", url, "--api-key", API_KEY, "--json")
        entries, logged = audited.entries()
        write_log(at / "export", entries)
        write_events(at / "export", logged)
        exported, told = audit_verify(at / "other", at / "export", "--json")
        assert (exported, findings(told)) == (status, findings(said))
        return status, said

    return run


def test_an_honest_gateway_states_what_it_logged(verify: Callable[[Audited], tuple[int, str]]) -> None:
    """And it is said that this was looked at."""
    status, said = verify(gateway(*HONEST))
    assert status == 0, said
    assert "when 2 orders came is said with their results as it was logged then" in said


@pytest.mark.parametrize(
    ("told", "index", "says"),
    [
        pytest.param(
            (*HONEST[:3], succeeded(1, LATER + HOUR, BACK)), 4, "10800 s apart", id="dated back before a revocation"
        ),
        pytest.param(
            (*HONEST[:3], succeeded(1, LATER + HOUR, LATER + HOUR)), 4, "3600 s apart", id="dated to the result"
        ),
        pytest.param(
            (submitted(2, LATER), HONEST[2], succeeded(1, LATER + HOUR, BACK)),
            3,
            "no event tells of that",
            id="never logged as submitted",
        ),
        pytest.param(
            (submitted(1, LATER, LATER - 2), *HONEST[1:3], succeeded(1, LATER + HOUR, LATER - 3)),
            4,
            "0.001 s apart",
            id="dated back by a millisecond",
        ),
        pytest.param((*HONEST[:3], succeeded(1, LATER + HOUR, "early")), 4, "states no time", id="no time at all"),
    ],
)
def test_a_gateway_that_dates_an_order_otherwise_is_named_with_job_and_index(
    verify: Callable[[Audited], tuple[int, str]], told: tuple[Event, ...], index: int, says: str
) -> None:
    """The log is whole, signed, and has each event's body; that one of them lies is all that is wrong."""
    status, said = verify(gateway(*told))
    assert (status, findings(said)) == (1, [(index, "submission")])
    assert f"job:{1:032x}: entry {index} states" in said
    assert says in said


def test_an_order_from_before_the_log_or_whose_words_were_erased_is_no_lie(
    verify: Callable[[Audited], tuple[int, str]],
) -> None:
    """Nobody can say more of it, and one event that was erased excuses one order, not two."""
    began = succeeded(3, LATER, SOME_DAY - HOUR)
    assert verify(gateway(*HONEST, began))[0] == 0
    erasing = event(0, action=Action.EVENT_ERASED, object="event:1", time=LATER + HOUR)
    assert verify(replace(gateway(*HONEST, erasing), erased={1}))[0] == 0
    both = replace(gateway(*HONEST[1:], erasing, succeeded(4, LATER + HOUR, LATER)), erased={1})
    status, said = verify(both)
    assert (status, findings(said)) == (1, [(2, "submission"), (3, "submission"), (5, "submission")])

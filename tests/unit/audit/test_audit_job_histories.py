"""Jobs on record, held against what the log tells of them: by values alone."""

from collections.abc import Callable
from typing import Any

import pytest

from audited_gateway import CLIENT, Audited, job_record, order, receipt, submission
from blindgate_audit.findings import Findings
from blindgate_audit.records import Records
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed, SigningKey
from static_logs import SOME_DAY, event

RECENT = SOME_DAY + CLOCK_SKEW + 1000
"""When the log was there already."""


def told(at: int, action: Action, number: int) -> Event:
    """An event of a job."""
    return event(at, action=action, object=f"job:{number:032x}")


def kept(number: int, state: JobState, signed: Signed[Order] | None = None, **members: Any) -> JobRecord:
    """A job on record that has no receipt."""
    given = job_record(receipt(number), (signed or order(number)).envelope).model_dump()
    return JobRecord(**{**given, "state": state, "receipt": None, **members})


def gateway() -> Audited:
    """Jobs 1 to 4: failed, dead and sent again, cancelled, waiting."""
    ends = [
        told(4, Action.JOB_LEASED, 1),
        told(5, Action.JOB_FAILED, 1),
        told(6, Action.JOB_DEAD, 2),
        told(7, Action.JOB_RESENT, 2),
        told(8, Action.JOB_CANCELLED, 3),
    ]
    states = (JobState.FAILED, JobState.QUEUED, JobState.CANCELLED, JobState.QUEUED)
    return Audited(
        events=[*(submission(number, number + 1) for number in range(4)), *ends],
        jobs=[kept(number, state) for number, state in enumerate(states, 1)],
    )


def held(audited: Audited, *later: Event, erased: int = 0) -> list[tuple[int | None, str]]:
    """What is found; `later` events are told once the records were read."""
    found = Findings()
    records = Records(found)
    for index, one in enumerate(audited.events):
        records.tell(index, one)
    records.begin()
    for job in audited.jobs:
        records.job(job)
    for index, one in enumerate(later, len(audited.events)):
        records.tell(index, one)
    records.finish(erased=erased)
    records.close()
    assert {one.rule for one in found} <= {"record"}
    return [(one.index, one.message) for one in found]


def test_jobs_that_are_on_record_as_the_log_tells_hold() -> None:
    """Ended in any way, sent again, waiting."""
    assert not held(gateway())


def _state(number: int, state: JobState) -> Callable[[Audited], None]:
    def change(audited: Audited) -> None:
        audited.jobs[number - 1] = kept(number, state)

    return change


def _order(number: int, signed: Signed[Order]) -> Callable[[Audited], None]:
    def change(audited: Audited) -> None:
        audited.jobs[number - 1] = kept(number, audited.jobs[number - 1].state, signed)

    return change


def _unlogged(audited: Audited) -> None:
    audited.jobs.append(kept(9, JobState.QUEUED, order(9, issued=RECENT)))


EDITS: dict[str, tuple[Callable[[Audited], object], int | None, str]] = {
    "a failed job is made to wait": (_state(1, JobState.QUEUED), 5, "on record is queued, and entry 5 tells of failed"),
    "a failed job is made a success": (_state(1, JobState.SUCCEEDED), 5, "on record is succeeded"),
    "a cancelled job is made a failure": (_state(3, JobState.FAILED), 8, "entry 8 tells of cancelled"),
    "a waiting job is made to end": (_state(4, JobState.EXPIRED), 3, "its end (expired) is on record, and no event"),
    "a job that was sent again is made dead": (_state(2, JobState.DEAD), 7, "its end (dead) is on record"),
    "a waiting job is deleted": (lambda audited: audited.jobs.pop(3), 3, "the job that entry 3 tells of is not on rec"),
    "a failed job is deleted": (
        lambda audited: audited.jobs.pop(0),
        0,
        "the job that entry 0 tells of is not on record",
    ),
    "a job is put in": (_unlogged, None, "its order is on record, and no event of the log tells of it"),
    "an order is exchanged": (_order(4, order(4, issued=7)), 3, f"on record is the order {order(4, issued=7).digest}"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_named_by_its_job_and_by_the_entry_that_says_otherwise(edit: str) -> None:
    """Whoever writes to the database cannot write to the log."""
    do, index, words = EDITS[edit]
    audited = gateway()
    do(audited)
    ((at, message),) = held(audited)
    assert at == index
    assert message.startswith("job:0000000000")
    assert words in message


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (order(3), f"its order is of job {3:032x} of bank"),
        (order(4, tenant="clinic"), "of clinic"),
        (SigningKey.from_seed(b"9" * 32).sign(order(4).document), "signed by"),
    ],
)
def test_an_order_of_another_job_tenant_or_signer_is_refused(signed: Signed[Order], words: str) -> None:
    """An order is worth its signature, for the job that it names."""
    audited = gateway()
    _order(4, signed)(audited)
    assert any(words in message for _, message in held(audited))


def test_an_order_whose_signature_does_not_verify_is_named() -> None:
    """A bit of the row was flipped."""
    audited = gateway()
    forged = order(4).envelope.model_copy(update={"signatures": CLIENT.sign(order(3).document).envelope.signatures})
    audited.jobs[3] = JobRecord(**{**audited.jobs[3].model_dump(), "order": forged})
    ((_, message),) = held(audited)
    assert "its order: the signature over this order does not verify" in message


def test_jobs_go_on_while_they_are_read() -> None:
    """What is told after the records were read contradicts none of them."""
    audited = gateway()
    audited.jobs.append(kept(5, JobState.CANCELLED, order(5, issued=RECENT)))
    later = (
        told(20, Action.JOB_LEASED, 2),
        told(21, Action.JOB_FAILED, 2),
        told(22, Action.JOB_CANCELLED, 4),
        event(23, action=Action.JOB_SUBMITTED, object=f"job:{5:032x}", digest=order(5, issued=RECENT).digest),
        told(24, Action.JOB_CANCELLED, 5),
        submission(25, 6),
    )
    assert not held(audited, *later)
    assert held(audited, *later[:3])  # the fifth was never told of


def test_a_first_job_that_comes_while_nothing_is_on_record_is_not_missed() -> None:
    """An honest gateway that has just begun is not accused."""
    empty = Audited(events=[event(0, action=Action.LOG_STARTED, object="log:x")])
    assert not held(empty, submission(1, 1), told(2, Action.JOB_LEASED, 1))


def test_jobs_of_before_the_log_and_of_erased_events_are_no_findings() -> None:
    """The first by their orders' time; of the others as many as were erased."""
    audited = gateway()
    audited.jobs.append(kept(7, JobState.FAILED, order(7)))
    assert not held(audited)
    audited.jobs.append(kept(8, JobState.FAILED, order(8, issued=RECENT)))
    assert len(held(audited)) == 1
    assert not held(audited, erased=2)


MEANT, OTHER = (f"tenant-{digit * 32}" for digit in "ab")


@pytest.mark.parametrize(
    ("listed", "told", "words"),
    [
        ({MEANT: "bank"}, (), ""),
        ({MEANT: "bank", OTHER: "clinic"}, (), ""),
        ({MEANT: "clinic"}, (), f"{MEANT}: it is said to be clinic, and its orders are bank's"),
        ({}, (), f"{MEANT}: no name is given for it, and no event tells that it was erased"),
        ({}, (event(40, action=Action.PSEUDONYM_ERASED, object=f"tenant:{MEANT}"),), ""),
    ],
)
def test_a_pseudonym_stands_for_whom_the_orders_of_its_jobs_name(
    listed: dict[str, str], told: tuple[Event, ...], words: str
) -> None:
    """The translation can be erased, and the log says so; nobody can turn it into another's."""
    found = Findings()
    records = Records(found)
    for index, one in enumerate((submission(0, 1, tenant=MEANT), submission(1, 2, tenant=MEANT), *told)):
        records.tell(index, one)
    for number in (1, 2):
        records.job(kept(number, JobState.QUEUED))
    records.names(listed)
    records.finish()
    records.close()
    assert [words in one.message for one in found] == ([True] if words else [])


def test_jobs_whose_time_was_over_are_explained_by_the_event_that_says_so() -> None:
    """As many as it says, of up to when it says."""
    audited = gateway()
    until = audited.events[1].time
    details = {"kind": "jobs", "count": "2", "until": str(until)}
    audited.events.append(event(30, action=Action.RECORDS_DELETED, object="records:jobs", details=details))
    del audited.jobs[0:2]
    assert not held(audited)
    del audited.jobs[0]
    ((index, _),) = held(audited)
    assert index == 2

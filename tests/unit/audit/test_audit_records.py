"""What the gateway has on record and what its log tells, held against each other: by values alone."""

import pytest

from audited_gateway import CLIENT, NODE, Audited, job_event, job_record, key_life, receipt, statement_record
from blindgate_audit.findings import Findings
from blindgate_audit.records import Records
from blindgate_protocol.events import Action
from blindgate_protocol.keys import KeyStatement
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.oversight import StatementRecord
from blindgate_protocol.signing import SigningKey
from static_logs import SOME_DAY, event


def held(gateway: Audited, *, erased: int = 0) -> Findings:
    """What is found."""
    found = Findings()
    records = Records(found)
    for index, one in enumerate(gateway.events):
        if index not in gateway.erased:
            records.tell(index, one)
    for statement in gateway.statements:
        records.statement(statement)
    for job in gateway.jobs:
        records.job(job)
    records.finish(erased=erased)
    records.close()
    return found


def only(found: Findings) -> tuple[int | None, str]:
    """The one finding's index and words."""
    (one,) = found
    assert one.rule == "record"
    return one.index, one.message


def test_records_that_all_have_their_events_hold() -> None:
    """And events that all have their records."""
    assert not held(Audited.whole()).count


def test_a_statement_without_its_event_is_named_by_key_and_sequence() -> None:
    """Its event was taken out, and the log built anew."""
    gateway = Audited.whole()
    taken = gateway.events.pop(7)
    index, message = only(held(gateway))
    assert index is None
    assert message.startswith(f"{taken.object}: statement 3 (suspended) of tenant bank is on record, and no event")


def test_a_receipt_without_its_event_is_named_by_job() -> None:
    """Likewise."""
    gateway = Audited.whole()
    del gateway.events[16]
    assert only(held(gateway))[1].startswith(f"job:{0:032x}: the receipt of node {NODE.id} is on record, and no event")


@pytest.mark.parametrize("kind", ["statement", "receipt"])
def test_an_event_without_its_record_is_named_by_index(kind: str) -> None:
    """A row was deleted from the gateway's tables, and the log was left."""
    gateway = Audited.whole()
    if kind == "statement":
        del gateway.statements[4]  # the last of its key: nothing follows on it
    else:
        del gateway.jobs[3]
    index, message = only(held(gateway))
    assert index == (4 if kind == "statement" else 22)
    assert "is not on record" in message


def test_a_statement_that_is_gone_leaves_a_gap_in_its_keys_chain() -> None:
    """Even where its event went with it: its owner signed the next one over it."""
    gateway = Audited.whole()
    del gateway.statements[2], gateway.events[2]
    assert "does not follow on the last one about this key; statement 2 stands before it" in only(held(gateway))[1]
    del gateway.statements[0:2], gateway.events[0:2]
    assert "is the first on record: those before it are gone" in only(held(gateway))[1]


def test_a_statement_or_receipt_that_somebody_else_signed_is_refused() -> None:
    """A record is worth its signature."""
    gateway = Audited.whole(keys=1, jobs=0)
    other = SigningKey.generate().sign(key_life("key 0")[0].document)
    gateway.statements[0] = statement_record(other)
    assert any(f"is signed by {other.signer}" in one.message for one in held(gateway))
    forged = gateway.statements[1].statement.model_copy(
        update={
            "signatures": CLIENT.sign(KeyStatement(**key_life("key 9")[1].document.model_dump())).envelope.signatures
        }
    )
    gateway.statements[1] = StatementRecord(tenant="bank", received=SOME_DAY, statement=forged)
    assert any("does not verify" in one.message for one in held(gateway))


def test_a_receipt_of_another_job_is_refused() -> None:
    """It is on record under a job that it does not name."""
    gateway = Audited.whole(keys=0, jobs=2)
    gateway.jobs[0] = JobRecord(**{**gateway.jobs[0].model_dump(), "receipt": gateway.jobs[1].receipt})
    messages = [one.message for one in held(gateway)]
    assert any(f"its receipt is of job {1:032x}" in one for one in messages)


def test_receipts_that_were_deleted_in_time_are_explained_and_no_others() -> None:
    """An event tells how many, and of up to when."""
    gateway = Audited.whole(keys=0, jobs=6)
    until = gateway.events[5].time
    del gateway.jobs[0:3]
    details = {"kind": "jobs", "count": "3", "until": str(until)}
    gateway.events.append(event(99, action=Action.RECORDS_DELETED, object="log:gateway", details=details))
    assert not held(gateway).count
    del gateway.jobs[0]  # of later
    assert only(held(gateway))[0] == 7
    gateway = Audited.whole(keys=0, jobs=6)
    del gateway.jobs[0:3]
    details = {"kind": "jobs", "count": "2", "until": str(until)}
    gateway.events.append(event(99, action=Action.RECORDS_DELETED, object="log:gateway", details=details))
    index, message = only(held(gateway))
    assert index == 5
    assert "the log tells of 2 that were deleted" in message


def test_a_deletion_that_does_not_say_what_was_deleted_explains_nothing() -> None:
    """It is a finding itself."""
    gateway = Audited.whole(keys=0, jobs=1)
    gateway.events.append(event(9, action=Action.RECORDS_DELETED, object="log:gateway", details={"count": "1"}))
    assert only(held(gateway)) == (
        2,
        "entry 2 tells of deleted records and does not say of which kind, how many, and up to when",
    )


def test_a_record_whose_event_was_erased_is_no_finding_as_long_as_enough_were() -> None:
    """Nobody can say what an erased event told of."""
    gateway = Audited.whole(keys=1, jobs=1)
    gateway.erased = {0, 6}
    assert not held(gateway, erased=2).count
    assert held(gateway, erased=1).count == 2


def test_an_event_behind_the_checkpoint_counts_for_a_late_record() -> None:
    """A record is there before its event has a place."""
    found = Findings()
    records = Records(found)
    signed = receipt(1)
    records.job(job_record(signed))
    assert records.unlogged()
    records.tell(10, job_event(10, signed))
    assert not records.unlogged()
    records.finish()
    records.close()
    assert not found.count

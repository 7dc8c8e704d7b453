"""The gateway's log: what is told, where it stands, who may read it."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from blindgate_gateway.identity import add_staff, add_tenant, revoke_api_key, rotate_api_key
from blindgate_gateway.identity.roles import Scope, StaffRole
from blindgate_gateway.log.erasing import erase_events, erase_name
from blindgate_gateway.log.keeper import LogKeeper
from blindgate_gateway.log.restarting import restart_log
from blindgate_gateway.nodes import dismiss_node
from blindgate_gateway.parts import connect
from blindgate_gateway.sweep import sweep_leases
from blindgate_gateway.tables import api_keys, attempts, events, log_head
from blindgate_protocol.canonical import digest
from blindgate_protocol.checkpoints import EntryProof, LogTrust, open_checkpoint
from blindgate_protocol.errors import ForkedLogError, LogError
from blindgate_protocol.events import Action, Event, commitment_to, leaf_of
from blindgate_protocol.keys import KeyState
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.logged import LoggedPage, LoggedProof, LogView, PseudonymPage
from blindgate_protocol.messages import EvictionReport, Release
from blindgate_protocol.nodes import Eviction
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import SigningKey, open_signed
from brokerage import Caller, now_ms
from desk import Desk
from whole_log import check_whole_log


def _trust(desk: Desk) -> LogTrust:
    view = LogView.model_validate_json(desk.http.get("/v1/log").content)
    return LogTrust(VerifierKey.parse(view.key))


def _told(desk: Desk, **query: Any) -> list[Event]:
    desk.parts.log.sequencer.advance()
    text = "&".join(f"{name}={value}" for name, value in {"most": 1000, **query}.items())
    page = LoggedPage.model_validate_json(desk.auditor.ask("GET", f"/v1/audit/events?{text}").content)
    return [Event.from_bytes(one.event.encode()) for one in page.events if one.event is not None]


def test_a_receipt_is_proven_at_once(desk: Desk) -> None:
    """The tenant gets the event of the job's success, with a proof under the log's key, without waiting for the next checkpoint."""
    lease = desk.leased()
    desk.worker.finish(lease, b"result")
    given = LoggedProof.model_validate_json(desk.tenant.ask("GET", f"/v1/jobs/{lease.job}/proof").content)
    proof = EntryProof.parse(given.proof.encode())
    proof.verify(leaf_of(given.event.encode(), given.salt), _trust(desk))
    event = Event.from_bytes(given.event.encode())
    receipt = desk.tenant.job(lease.job).receipt
    assert (event.action, event.object, event.outcome) == (Action.JOB_SUCCEEDED, f"job:{lease.job}", "success")
    assert event.actor == event.details["node"] == desk.worker.key.id
    assert receipt is not None
    assert (event.before, event.after) == ("leased", "succeeded")
    with pytest.raises(LogError):
        proof.verify(leaf_of(given.event.replace("leased", "queued").encode(), given.salt), _trust(desk))


def test_a_proof_with_cosignatures_is_not_given_without_them(desk: Desk) -> None:
    """Who wants witnesses and has none is told so, by its name."""
    lease = desk.leased()
    desk.worker.finish(lease, b"result")
    answer = desk.tenant.send("GET", f"/v1/jobs/{lease.job}/proof?cosignatures=1&wait=100")
    assert (answer.status_code, answer.json()["code"]) == (409, "not-logged")


@pytest.mark.parametrize("who", ["stranger", "before it ended", "another job"])
def test_there_is_no_proof_for(desk: Desk, who: str) -> None:
    """Another tenant's job, one that has not ended and one that never was are one answer."""
    lease = desk.leased()
    if who != "before it ended":
        desk.worker.finish(lease, b"result")
    caller = desk.stranger if who == "stranger" else desk.tenant
    job = "0" * 32 if who == "another job" else lease.job
    answer = caller.send("GET", f"/v1/jobs/{job}/proof")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no such receipt in the log")


def test_a_jobs_life_is_told(desk: Desk) -> None:
    """From the order to the receipt: who, what, under which signed document."""
    lease = desk.leased()
    desk.worker.finish(lease, b"result")
    desk.tenant.ask("POST", f"/v1/jobs/{lease.job}/acknowledge")
    life = _told(desk, object=f"job:{lease.job}")
    actions = [Action.JOB_SUBMITTED, Action.JOB_LEASED, Action.JOB_SUCCEEDED, Action.JOB_ACKNOWLEDGED]
    assert [event.action for event in life] == actions
    view, leased = desk.tenant.job(lease.job), {"node": desk.worker.key.id, "generation": "1"}
    budget = {"budget": f"{desk.manifest.signer}/{desk.manifest.document.name}", "rows": "1", "asked": "1"}
    assert life[0].details == {"submitted": str(view.submitted), "priority": "0"} | budget
    assert life[1].details == leased | {"token": digest(lease.token.encode())}
    assert life[2].details == leased | {"submitted": str(view.submitted), "ended": str(view.ended)}
    assert abs(int(life[3].details["acknowledged"]) - life[3].time) < CLOCK_SKEW
    assert len({event.tenant for event in life}) == 1
    assert "bank" not in "".join(event.to_bytes().decode() for event in life)


def test_every_way_to_end_is_told(desk: Desk) -> None:
    """A cancelled, a refused, an expired and a dead job: one event each, with the state that it came from."""
    cancelled = desk.submit().job
    desk.tenant.ask("POST", f"/v1/jobs/{cancelled}/cancel")
    expired = desk.submit().job
    desk.let_pass(expired, "deadline")
    desk.worker.lease()
    ends = {event.object: (event.action, event.before) for event in _told(desk) if event.outcome == "failure"}
    assert ends[f"job:{cancelled}"] == (Action.JOB_CANCELLED, "queued")
    assert ends[f"job:{expired}"] == (Action.JOB_EXPIRED, "queued")
    check_whole_log(desk.parts.settings)


def test_a_lease_that_ends_before_its_job_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given back in a node's words, which the log commits to and does not have; and lost."""
    monkeypatch.setitem(desk.parts.settings.__dict__, "attempts", 3)
    lease = desk.leased()
    said = Release(code="interrupted", reason="patient 4711 was too large for me")
    assert desk.worker.command(lease, "POST", "release", said).status_code == 200
    again = desk.worker.lease()
    assert again is not None
    desk.let_pass(lease.job)
    sweep_leases(desk.parts)
    released, lost = (one for one in _told(desk, object=f"job:{lease.job}") if one.action is Action.JOB_RETURNED)
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(attempts).order_by(attempts.c.generation)).all()
    assert [row.reason for row in rows] == [f"{said.code}: {said.reason}", lost.reason]
    assert [str(row.ended) for row in rows] == [one.details["ended"] for one in (released, lost)]
    assert [one.details["outcome"] for one in (released, lost)] == ["released", "lost"]
    assert (released.reason, released.before, released.after) == ("interrupted", "leased", "queued")
    assert released.details["words"] == commitment_to(rows[0].reason, rows[0].salt)
    assert "4711" not in released.to_bytes().decode()
    assert "words" not in lost.details
    assert rows[1].salt is None


def test_what_the_gateways_operator_does_is_told(desk: Desk) -> None:
    """Grants, rotations, revocations, enrolments and dismissals, by whoever works on the gateway's machine."""
    database = desk.parts.database
    key = add_tenant(database, "lab", [Scope.JOBS])
    new = rotate_api_key(database, key.id, staff=False, overlap=0)
    revoke_api_key(database, new.id, staff=False)
    staff = add_staff(database, "ann", StaffRole.AUDITOR)
    dismiss_node(database, desk.worker.key.id)
    told = {(event.action, event.object): event for event in _told(desk)}
    granted = told[Action.CREDENTIAL_GRANTED, f"credential:{key.id}"].details
    rotated, revoked = (
        told[action, f"credential:{new.id}"] for action in (Action.CREDENTIAL_ROTATED, Action.CREDENTIAL_REVOKED)
    )
    with database.read() as connection:
        rows = {row.id: row for row in connection.execute(select(api_keys)).all()}
    assert granted == {"scopes": "jobs", "secret": key.shown(), "created": str(rows[key.id].created)}
    assert key.hashed() not in key.shown()
    assert (rotated.details["replaces"], rotated.details["replaced-expires"]) == (key.id, str(rows[key.id].expires))
    assert (revoked.actor, revoked.details) == ("command-line", {"revoked": str(rows[new.id].revoked)})
    assert told[Action.CREDENTIAL_GRANTED, f"credential:{staff.id}"].details["staff"].startswith("staff-")
    assert told[Action.NODE_DISMISSED, f"node:{desk.worker.key.id}"].after == "dismissed"
    assert Action.NODE_ENROLLED in {action for action, _ in told}
    assert Action.MODEL_PUBLISHED in {action for action, _ in told}


def test_who_may_do_more_than_before_is_told(desk: Desk) -> None:
    """A first key is a grant; one that opens other doors besides is a change of role."""
    add_staff(desk.parts.database, "ann", StaffRole.AUDITOR)
    add_staff(desk.parts.database, "ann", StaffRole.AUDITOR)
    add_tenant(desk.parts.database, "lab", [Scope.READ])
    before = len(_told(desk, action="role.changed"))
    add_staff(desk.parts.database, "ann", StaffRole.OPERATOR)
    add_tenant(desk.parts.database, "lab", [Scope.JOBS])
    staff, tenant = _told(desk, action="role.changed")[before:]
    assert (staff.object.partition("-")[0], staff.details) == (
        "staff:staff",
        {"before": "auditor", "after": "auditor operator"},
    )
    assert tenant.details == {"before": "read", "after": "jobs read"}


def test_wrong_credentials_are_told_and_cannot_fill_the_log(desk: Desk) -> None:
    """A hundred wrong secrets are a handful of events, and none repeats what was sent."""
    before = len(_told(desk))
    for number in range(40):
        Caller(desk.http, f"bg_{number:016x}.wrong").send("GET", "/v1/jobs")
        Caller(desk.http, "bg_ffffffffffffffff.wrong").send("GET", "/v1/jobs")
    told = [event for event in _told(desk) if event.action is Action.LOGIN_FAILED]
    assert 0 < len(told) <= 40
    assert len(_told(desk)) - before <= 45
    assert {event.outcome for event in told} == {"failure"}
    assert "credential:ffffffffffffffff" in {event.object for event in told}
    assert "wrong" not in "".join(event.to_bytes().decode() for event in told)


def test_who_reads_the_log_is_in_it(desk: Desk) -> None:
    """Reading is an event: once a minute and reader."""
    for _ in range(3):
        desk.auditor.ask("GET", "/v1/audit/events")
    read = [event for event in _told(desk) if event.action is Action.LOG_READ]
    assert [event.role for event in read] == ["auditor"]


def test_an_auditor_learns_who_is_meant_until_that_is_erased(desk: Desk) -> None:
    """A translation that was erased is gone; the tree stands, and the tenant goes on under another pseudonym."""
    desk.submit()
    page = PseudonymPage.model_validate_json(desk.auditor.ask("GET", "/v1/audit/pseudonyms").content)
    meant = {one.name: one.pseudonym for one in page.pseudonyms}
    assert {event.tenant for event in _told(desk, tenant="bank")} == {meant["bank"]}
    assert erase_name(desk.parts.database, "tenant", "bank", reason="request 7") == meant["bank"]
    page = PseudonymPage.model_validate_json(desk.auditor.ask("GET", "/v1/audit/pseudonyms").content)
    assert meant["bank"] not in {one.pseudonym for one in page.pseudonyms}
    check_whole_log(desk.parts.settings)


def test_an_erased_event_keeps_its_place(desk: Desk) -> None:
    """The words are gone, the entry is not, every proof holds, and the log says that it was erased."""
    lease = desk.leased()
    desk.worker.finish(lease, b"result")
    proof = LoggedProof.model_validate_json(desk.tenant.ask("GET", f"/v1/jobs/{lease.job}/proof").content)
    index = EntryProof.parse(proof.proof.encode()).index
    assert erase_events(desk.parts.database, [index], reason="request 8") == 1
    desk.parts.log.sequencer.advance()
    page = LoggedPage.model_validate_json(desk.auditor.ask("GET", f"/v1/audit/events?after={index - 1}").content)
    assert (page.events[0].index, page.events[0].event, page.events[0].salt) == (index, None, None)
    assert [event.action for event in _told(desk, object=f"event:{index}")] == [Action.EVENT_ERASED]
    EntryProof.parse(proof.proof.encode()).verify(leaf_of(proof.event.encode(), proof.salt), _trust(desk))
    assert desk.tenant.send("GET", f"/v1/jobs/{lease.job}/proof").status_code == 404


def test_the_tree_is_served_as_tiles(desk: Desk) -> None:
    """What was served once is served again, for ever; what is not there is no tile."""
    desk.submit()
    head = desk.parts.log.sequencer.advance()
    trust = _trust(desk)
    assert open_checkpoint(desk.http.get("/log/checkpoint").content, trust).checkpoint.size == head.size
    tile = desk.http.get(f"/log/tile/0/000.p/{head.size}")
    assert len(tile.content) == 32 * head.size
    assert "immutable" in tile.headers["Cache-Control"]
    desk.submit()
    desk.parts.log.sequencer.advance()
    assert desk.http.get(f"/log/tile/0/000.p/{head.size}").content == tile.content
    for path in ("0/000", "0/000.p/255", "1/000.p/1", "entries/x000/000", "0/../checkpoint", "0/000.p/0"):
        assert desk.http.get(f"/log/tile/{path}").status_code == 404, path


def test_the_log_goes_on_over_many_tiles(desk: Desk) -> None:
    """Past a tile of tiles' edge the database, the files and the tree still say the same."""
    from blindgate_gateway.log.telling import GATEWAY, tell  # noqa: PLC0415

    for count in (250, 10, 300, 1, 700):
        with desk.parts.database.write() as connection:
            for number in range(count):
                tell(connection, Action.LOG_READ, f"log:{number}", by=GATEWAY)
        check_whole_log(desk.parts.settings)


def test_a_gateway_without_the_logs_key_leaves_signing_to_the_others(desk: Desk, tmp_path: Path) -> None:
    """It reads the same log, and does not begin another."""
    desk.parts.log.keep()
    other = desk.parts.settings.model_copy(update={"data": tmp_path / "other"})
    other.data.mkdir()
    database = connect(desk.parts.settings)
    keeper = LogKeeper(database, other)
    before = keeper.sequencer.head()
    desk.submit()
    assert not keeper.sequencer.signs()
    assert keeper.sequencer.advance() == before
    assert not other.log_key_file.exists()
    database.close()


def test_a_database_that_went_back_is_not_signed(desk: Desk) -> None:
    """Neither by the process that saw more, nor over the files of the larger tree."""
    desk.submit()
    keeper = desk.parts.log
    keeper.keep()
    with desk.parts.database.read() as connection:
        from sqlalchemy import select  # noqa: PLC0415

        old = connection.execute(select(log_head)).one()
    desk.submit()
    keeper.keep()
    with desk.parts.database.write() as connection:
        connection.execute(update(log_head).values(size=old.size, hashes=old.hashes, checkpoint=old.checkpoint))
        connection.execute(update(events).where(events.c.position >= old.size).values(position=None))
    with pytest.raises(ForkedLogError, match="older copy"):
        keeper.sequencer.advance()
    database = connect(desk.parts.settings)
    fresh = LogKeeper(database, desk.parts.settings)
    for duty in (fresh.sequencer.advance, fresh.keep, lambda: fresh.files.write(fresh.sequencer.head)):
        with pytest.raises(ForkedLogError, match="older copy"):
            duty()
    assert fresh.sequencer.head().size == old.size, "a process that begins anew signs nothing either"
    database.close()


@pytest.mark.parametrize("changed", ["size", "hashes", "another size with as many subtrees"])
def test_a_head_that_was_edited_is_not_signed_over(desk: Desk, changed: str) -> None:
    """Jobs go on, and their events wait; once the row is right again, so does the log."""
    desk.worker.finish(desk.leased(), b"result")
    head = desk.parts.log.sequencer.advance()
    with desk.parts.database.read() as connection:
        row = connection.execute(select(log_head)).one()
    other = {
        "size": {"size": row.size + 1000},
        "hashes": {"hashes": row.hashes[:-1] + bytes([row.hashes[-1] ^ 1])},
        "another size with as many subtrees": {"size": row.size << 1},
    }[changed]
    with desk.parts.database.write() as connection:
        connection.execute(update(log_head).values(**other))
    lease = desk.leased()
    with pytest.raises(ForkedLogError, match="the row `log_head` was changed"):
        desk.parts.log.sequencer.advance()
    desk.worker.finish(lease, b"another")
    with desk.parts.database.write() as connection:
        connection.execute(update(log_head).values(size=row.size, hashes=row.hashes))
    assert desk.parts.log.sequencer.advance().size > head.size
    desk.parts.log.keep()
    check_whole_log(desk.parts.settings)


def test_a_row_that_was_taken_out_is_missed_by_name(desk: Desk) -> None:
    """A tile over a hole is refused, and says which entry is missing."""
    if desk.parts.settings.database is not None:
        pytest.skip("one database is enough for a DELETE")
    desk.submit()
    desk.parts.log.sequencer.advance()
    driver = sqlite3.connect(desk.parts.settings.sqlite_file)
    driver.execute("DELETE FROM events WHERE position = 3")
    driver.commit()
    driver.close()
    size = desk.parts.log.sequencer.head().size
    answer = desk.http.get(f"/log/tile/entries/000.p/{size}")
    assert (answer.status_code, answer.json()["code"]) == (409, "log")
    assert "entry 3 is missing" in answer.json()["detail"]


def test_a_keys_statements_are_told(desk: Desk) -> None:
    """Each with its digest, its number and its client, to its owner and to nobody else."""
    key = desk.tenant.upload(b"evaluation key")
    first = desk.tenant.statement(key, KeyState.ACTIVE)
    desk.tenant.state(first)
    second = desk.tenant.statement(key, KeyState.SUSPENDED, first)
    desk.tenant.state(second)
    third = desk.tenant.statement(key, KeyState.ACTIVE, second)
    desk.tenant.state(third)
    desk.parts.log.sequencer.advance()
    answer = desk.tenant.ask("GET", f"/v1/keys/{key.digest}/events")
    told = [
        Event.from_bytes((one.event or "").encode()) for one in LoggedPage.model_validate_json(answer.content).events
    ]
    assert [event.action for event in told] == [
        Action.KEY_UPLOADED,
        Action.KEY_ACTIVATED,
        Action.KEY_SUSPENDED,
        Action.KEY_RESUMED,
    ]
    assert [event.digest for event in told[1:]] == [first.digest, second.digest, third.digest]
    assert [event.details["sequence"] for event in told[1:]] == ["1", "2", "3"]
    assert (told[2].before, told[2].after) == ("active", "suspended")
    assert desk.stranger.send("GET", f"/v1/keys/{key.digest}/events").status_code == 404


def test_a_log_that_went_back_begins_anew_under_another_name(desk: Desk) -> None:
    """The entries stay; the name and the key are others, and the first event says which log it follows."""
    desk.submit()
    desk.parts.log.keep()
    old = desk.parts.log.sequencer.head()
    settings = desk.parts.settings
    new = restart_log(desk.parts.database, settings.log_key_file, settings.data / "log", reason="a test")
    assert new.key != old.key
    assert new.size == old.size
    told = check_whole_log(settings)
    assert (told[-1].action, told[-1].details) == (
        Action.LOG_STARTED,
        {"follows": old.key.name, "entries": str(old.size)},
    )
    assert len(list(settings.data.glob("log.*"))) == 5  # both keys, the old ones, and the old log's files


def test_a_nodes_word_that_it_forgot_a_key_is_in_the_log_as_it_came(desk: Desk) -> None:
    """Signed, whole, and only from the node that it is about."""
    key = desk.tenant.upload(b"evaluation key")
    desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE))
    node = desk.worker.key

    def hand_in(**changes: Any) -> int:
        given: dict[str, Any] = {
            "node": node.id,
            "tenant": "bank",
            "key": key.digest,
            "reason": "unused",
            "issued": now_ms(),
        } | changes
        statement = node.sign(Eviction(**given))
        return desk.worker.send("POST", "/v1/evictions", EvictionReport(evictions=(statement.envelope,))).status_code

    assert hand_in() == 204
    (told,) = _told(desk, action="key.evicted")
    assert (told.object, told.reason, told.actor) == (f"key:{key.digest}", "unused", node.id)
    statement = open_signed(told.details["statement"].encode(), Eviction)
    assert (statement.signer, statement.digest) == (node.id, told.digest)
    assert hand_in(tenant="clinic") == 404
    assert hand_in(node=SigningKey.generate().id) == 422
    assert hand_in(issued=now_ms() + 10_000_000) == 422
    assert len(_told(desk, action="key.evicted")) == 1


def test_every_checkpoint_is_signed_by_ml_dsa_too(desk: Desk) -> None:
    """Who trusts both keys needs both lines, and they are there: from the first checkpoint on."""
    view = LogView.model_validate_json(desk.http.get("/v1/log").content)
    assert view.second is not None
    trust = LogTrust(VerifierKey.parse(view.key), second=VerifierKey.parse(view.second))
    assert open_checkpoint(desk.http.get("/log/checkpoint").content, trust).checkpoint.size == 0
    desk.submit()
    desk.parts.log.sequencer.advance()
    assert open_checkpoint(desk.http.get("/log/checkpoint").content, trust).checkpoint.size > 0
    stranger = LogKey.generate(VerifierKey.parse(view.key).name, KeyKind.ML_DSA_44).verifier
    with pytest.raises(LogError):
        open_checkpoint(desk.http.get("/log/checkpoint").content, LogTrust(trust.log, second=stranger))

"""Whose signatures count at a gateway: publishers and operators by its settings, clients until their tenants revoke them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from blindgate_gateway.check import Finding, State, examine
from blindgate_gateway.log.believed import LOST_AFTER, gateway_id, show
from blindgate_gateway.log.starting import tell_start, tell_stop
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.signers import revoke_signer
from blindgate_gateway.tables import events, gateways
from blindgate_protocol.errors import BlindgateError, NotFoundError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import JobRequest, KeyRequest
from blindgate_protocol.signing import SigningKey
from desk import OTHER_OPERATOR, Desk

NEW = SigningKey.generate().id
SIGNERS = (Action.SIGNER_ADDED, Action.SIGNER_REVOKED)


@dataclass
class Told:
    """What the log has told of signers, a start at a time."""

    settings: Settings
    seen: int = 0

    def start(self, gateway: int | None = None, **changes: object) -> set[tuple[str, str, str]]:
        """Start a gateway with other settings, another one where it has a number; gives what that told."""
        self._be(gateway)
        tell_start(self.settings.model_copy(update=changes))
        return self.told()

    def show(self, gateway: int, *, away: int = 0) -> set[tuple[str, str, str]]:
        """Let a gateway show itself, after the others did not for so many milliseconds; gives what that told."""
        self._be(gateway)
        database = connect(self.settings)
        try:
            with database.write() as connection:
                connection.execute(
                    update(gateways).where(gateways.c.id != f"{gateway:032x}").values(seen=gateways.c.seen - away)
                )
            show(database, self.settings)
        finally:
            database.close()
        return self.told()

    def stop(self, gateway: int, **changes: object) -> set[tuple[str, str, str]]:
        """Stop a gateway in order; gives what that told."""
        self._be(gateway)
        tell_stop(self.settings.model_copy(update=changes))
        return self.told()

    def long_here(self, gateway: int) -> None:
        """Let a gateway have shown itself for an hour without a gap."""
        self._change(gateway, since=gateways.c.since - 3_600_000)

    def cut_off(self, gateway: int) -> None:
        """Let a gateway not have shown itself for an hour."""
        self._change(gateway, seen=gateways.c.seen - 3_600_000)

    def told(self) -> set[tuple[str, str, str]]:
        """Action, kind and key of what was told of signers since this was last asked."""
        database = connect(self.settings)
        try:
            with database.read() as connection:
                rows = connection.execute(select(events.c.id, events.c.body).order_by(events.c.id)).all()
        finally:
            database.close()
        new = [Event.from_bytes(row.body.encode()) for row in rows if row.id > self.seen and row.body is not None]
        self.seen = rows[-1].id
        for event in new:
            if event.action in SIGNERS:
                assert event.object.startswith("signer:")
                assert event.after == ("believed" if event.action is Action.SIGNER_ADDED else "revoked")
        return {
            (event.action.value, event.details["kind"], event.object.removeprefix("signer:"))
            for event in new
            if event.action in SIGNERS
        }

    def _be(self, gateway: int | None) -> None:
        if gateway is not None:
            (self.settings.data / "gateway.id").write_text(f"{gateway:032x}\n")

    def _change(self, gateway: int, **values: object) -> None:
        database = connect(self.settings)
        try:
            with database.write() as connection:
                connection.execute(update(gateways).where(gateways.c.id == f"{gateway:032x}").values(**values))
        finally:
            database.close()


def test_who_is_added_to_the_settings_and_taken_out_is_told_at_the_next_start(desk: Desk) -> None:
    """Each change once; nothing where nothing changed."""
    settings = desk.parts.settings
    (publisher,), operators = settings.publishers, settings.operators
    told = Told(settings)
    assert told.start() == {
        ("signer.added", "publisher", publisher),
        *(("signer.added", "operator", key) for key in operators),
    }
    assert told.start() == set()
    left = tuple(key for key in operators if key != OTHER_OPERATOR.id)
    assert told.start(operators=left, publishers=(publisher, NEW)) == {
        ("signer.revoked", "operator", OTHER_OPERATOR.id),
        ("signer.added", "publisher", NEW),
    }
    assert told.start(operators=left, publishers=(publisher, NEW)) == set()
    assert told.start(operators=operators, publishers=()) == {
        ("signer.added", "operator", OTHER_OPERATOR.id),
        ("signer.revoked", "publisher", publisher),
        ("signer.revoked", "publisher", NEW),
    }


def test_one_key_in_two_roles_loses_one_of_them(desk: Desk) -> None:
    """The kind says which."""
    settings = desk.parts.settings
    (publisher,) = settings.publishers
    told = Told(settings)
    told.start(operators=(publisher,))
    assert told.start(operators=()) == {("signer.revoked", "operator", publisher)}


def test_gateways_whose_settings_differ_for_good_do_not_contradict_each_other(desk: Desk) -> None:
    """Each start tells nothing but what it changed; what only one believes counts for as long as that one does."""
    told = Told(desk.parts.settings)
    told.start(1)
    theirs = {"publishers": (NEW,), "retention": 5_000}
    assert told.start(2, **theirs) == {("signer.added", "publisher", NEW)}
    before = len(_events(desk, Action.RETENTION_CHANGED))
    for _ in range(3):
        assert told.start(1) == set()
        assert told.start(2, **theirs) == set()
    assert len(_events(desk, Action.RETENTION_CHANGED)) == before
    assert told.start(2) == {("signer.revoked", "publisher", NEW)}
    assert told.start(1) == set()


def test_a_change_that_is_rolled_over_several_gateways_is_told_once(desk: Desk) -> None:
    """What is new by the first that believes it, what is gone by the last that did."""
    settings = desk.parts.settings
    (publisher,) = settings.publishers
    told = Told(settings)
    for gateway in (1, 2, 3):
        told.start(gateway)
    now = {"publishers": (NEW,), "records": settings.records * 2}
    before = len(_events(desk, Action.RETENTION_CHANGED))
    assert told.start(1, **now) == {("signer.added", "publisher", NEW)}
    assert told.start(2, **now) == set()
    assert told.start(2, **now) == set()
    assert told.start(3, **now) == {("signer.revoked", "publisher", publisher)}
    assert told.start(1, **now) == set()
    assert len(_events(desk, Action.RETENTION_CHANGED)) == before + 1


def test_what_a_lost_gateway_alone_believed_is_told_as_revoked_by_one_that_was_there(desk: Desk) -> None:
    """Neither by one that has just begun, nor before its time; a gateway that comes back says again what it believes."""
    told = Told(desk.parts.settings)
    told.start(2, publishers=(NEW,))
    told.start(1)
    assert told.show(1, away=LOST_AFTER + 1000) == set()  # it has only begun itself
    told.long_here(1)
    told.cut_off(1)
    assert told.show(1) == set()  # it was away itself
    told.start(2, publishers=(NEW,))
    told.long_here(1)
    assert told.show(1, away=LOST_AFTER - 60_000) == set()
    assert told.show(1, away=120_000) == {("signer.revoked", "publisher", NEW)}
    assert _events(desk, Action.SIGNER_REVOKED)[-1].reason == (
        "no gateway that believed it has shown itself for 10 minutes"
    )
    told.settings = told.settings.model_copy(update={"publishers": (NEW, *told.settings.publishers)})
    assert told.show(2) == {("signer.added", "publisher", NEW)}
    assert told.show(1, away=1000) == set()


def test_a_gateway_that_will_not_come_back_is_forgotten_when_it_stops(desk: Desk) -> None:
    """A change that is rolled over pods ends with the last old one; what others believe, too, is told by nobody."""
    told = Told(desk.parts.settings)
    (old,) = told.settings.publishers
    for pod in (1, 2):
        told.start(pod)
    assert told.start(3, publishers=(NEW,)) == {("signer.added", "publisher", NEW)}
    assert told.stop(1, leaves=True) == set()
    assert told.start(4, publishers=(NEW,)) == set()
    assert told.stop(2, leaves=True) == {("signer.revoked", "publisher", old)}
    assert _events(desk, Action.SIGNER_REVOKED)[-1].reason == (
        "the last gateway that believed it has stopped and will not come back"
    )


def test_the_last_gateway_leaves_its_word_and_one_that_comes_back_is_waited_for(desk: Desk) -> None:
    """A service that is stopped and started again has revoked nobody."""
    told = Told(desk.parts.settings)
    told.start(1)
    told.start(2, publishers=(NEW,))
    assert told.stop(2, publishers=(NEW,)) == set()  # by its settings it comes back
    told.start(2, publishers=(NEW,))
    assert told.stop(1, leaves=True) == {("signer.revoked", "publisher", told.settings.publishers[0])}
    assert told.stop(2, publishers=(NEW,), leaves=True) == set()
    assert told.start(3, publishers=(NEW,)) == set()


def test_who_was_not_seen_for_minutes_is_not_taken_for_one_that_goes_on(desk: Desk) -> None:
    """Its pod was killed some time ago: then this one is the last."""
    told = Told(desk.parts.settings)
    told.start(1)
    told.start(2, publishers=(NEW,))
    told.cut_off(1)
    assert told.stop(2, publishers=(NEW,), leaves=True) == set()


def test_gateways_that_differ_are_told_of_where_people_look(desk: Desk) -> None:
    """A line when one starts, and `gateway check`; nothing once they agree."""
    settings = desk.parts.settings
    told = Told(settings)
    told.start(1)
    assert _checked(settings).state is State.OK
    with capture_logs() as lines:
        told.start(2, operators=settings.operators[:1])
    assert [line["differences"] for line in lines if line["event"] == "signers.differ"] == [
        [f"operator {OTHER_OPERATOR.id} is not believed by {2:032x}"]
    ]
    found = _checked(settings)
    assert found.state is State.WARNING
    assert found.examples == (f"operator {OTHER_OPERATOR.id} is not believed by {2:032x}",)
    told.start(1, operators=settings.operators[:1])
    assert _checked(settings).state is State.OK


def test_a_gateways_id_is_its_folders(tmp_path: Path) -> None:
    """Made once; what is none is refused by its name."""
    first = gateway_id(tmp_path)
    assert gateway_id(tmp_path) == first
    (tmp_path / "gateway.id").write_text("mine")
    with pytest.raises(BlindgateError, match=r"gateway\.id: expected 32 hexadecimal digits"):
        gateway_id(tmp_path)


def test_an_erased_event_of_a_signer_is_no_obstacle(desk: Desk) -> None:
    """What it said is told again, where it still counts."""
    settings = desk.parts.settings
    (publisher,) = settings.publishers
    told = Told(settings)
    told.start()
    with desk.parts.database.write() as connection:
        connection.execute(
            update(events)
            .where(events.c.object == f"signer:{publisher}", events.c.action == Action.SIGNER_ADDED.value)
            .values(body=None, salt=None)
        )
    assert told.start() == {("signer.added", "publisher", publisher)}


def test_nothing_new_is_begun_by_the_word_of_a_client_whose_key_its_tenant_revoked(desk: Desk) -> None:
    """No job and no evaluation key; what waits still runs, and another client of the tenant goes on."""
    tenant, key = desk.tenant, desk.tenant.keys.client.id
    waiting = desk.submit().job
    ref = tenant.upload(b"an evaluation key")
    registered = tenant.statement(ref, KeyState.REGISTERED)
    tenant.ask("POST", "/v1/keys", KeyRequest(statement=registered.envelope))
    order = tenant.order(desk.manifest, tenant.upload(b"input"))

    revoke_signer(desk.parts.database, tenant.name, key)
    revoke_signer(desk.parts.database, tenant.name, key)
    refused = tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope))
    assert (refused.status_code, refused.json()["code"]) == (403, "revoked-signer")
    active = tenant.statement(ref, KeyState.ACTIVE, registered)
    refused = tenant.send("POST", "/v1/keys", KeyRequest(statement=active.envelope))
    assert (refused.status_code, refused.json()["code"]) == (403, "revoked-signer")

    other = SigningKey.generate()
    tenant.submit(other.sign(order.document.model_copy(update={"client": other.id})))
    assert desk.state(waiting) is JobState.QUEUED
    theirs = desk.stranger
    theirs.submit(
        theirs.order(desk.manifest, theirs.upload(b"input"))
    )  # the same key in another tenant is not its business
    lost = tenant.statement(ref, KeyState.COMPROMISED, registered)
    assert tenant.send("POST", "/v1/keys", KeyRequest(statement=lost.envelope)).status_code == 200

    with desk.parts.database.read() as connection:
        rows = connection.execute(select(events.c.body).where(events.c.object == f"signer:{key}")).all()
    (told,) = [Event.from_bytes(row.body.encode()) for row in rows]
    assert (told.action, told.details, told.actor) == (Action.SIGNER_REVOKED, {"kind": "client"}, "command-line")
    assert told.tenant is not None


def test_a_clients_revoked_key_is_no_setting(desk: Desk) -> None:
    """The next start does not take it for a publisher's or an operator's."""
    told = Told(desk.parts.settings)
    told.start()
    revoke_signer(desk.parts.database, desk.tenant.name, NEW)
    told.start()
    assert told.start() == set()


def test_only_a_tenant_revokes(desk: Desk) -> None:
    """A name that was mistyped is told."""
    with pytest.raises(NotFoundError):
        revoke_signer(desk.parts.database, "nobody", NEW)


def _events(desk: Desk, action: Action) -> list[Event]:
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(events.c.body).where(events.c.action == action.value).order_by(events.c.id))
        return [Event.from_bytes(row.body.encode()) for row in rows.all()]


def _checked(settings: Settings) -> Finding:
    findings = examine(settings, read_data=False, progress=lambda *_: None)
    return next(one for one in findings if one.check == "signers")

"""Whose signatures count at a gateway: publishers and operators by its settings, clients until their tenants revoke them."""

from dataclasses import dataclass

import pytest
from sqlalchemy import select, update

from blindgate_gateway.log.starting import tell_start
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.signers import revoke_signer
from blindgate_gateway.tables import events
from blindgate_protocol.errors import NotFoundError
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

    def start(self, **changes: object) -> set[tuple[str, str, str]]:
        """Start a gateway with other settings; gives action, kind and key of what that told."""
        tell_start(self.settings.model_copy(update=changes))
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

"""What the log tells of the publishers and operators that a gateway's settings gain and lose."""

from dataclasses import dataclass

from sqlalchemy import select, update

from blindgate_gateway.log.starting import tell_start
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import events
from blindgate_protocol.events import Action, Event
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

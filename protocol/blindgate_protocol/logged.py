"""How the gateway shows what it logged: the messages of its log's routes.

The tree itself is public and says nothing (`tiles`, `events`); these are for those who may read.
"""

from typing import Annotated

from pydantic import Field, WithJsonSchema, model_validator

from blindgate_protocol.events import MAX_EVENT_BYTES, SALT_BYTES
from blindgate_protocol.values import Name, Size, Text, Value

MOST_EVENTS = 1000
"""On one page."""

EventText = Annotated[str, Field(max_length=MAX_EVENT_BYTES)]
"""An event's canonical JSON, as text. `events.Event.from_bytes` reads it."""

Salt = Annotated[
    bytes,
    Field(min_length=SALT_BYTES, max_length=SALT_BYTES),
    WithJsonSchema({"type": "string", "format": "base64url", "minLength": 44, "maxLength": 44}),
]
"""The salt of an event's commitment, in base64url."""


class Logged(Value):
    """An event with what shows that it is the one at its place.

    Attributes:
        index: where it stands in the log.
        event: its canonical JSON; `None` where it was erased.
        salt: the salt of its commitment; `None` where, and only where, the event was erased.
    """

    index: Size
    event: EventText | None
    salt: Salt | None

    @model_validator(mode="after")
    def _erased_together(self) -> "Logged":
        if (self.event is None) != (self.salt is None):
            message = "event and salt are erased together"
            raise ValueError(message)
        return self


class LoggedPage(Value):
    """Events in the order of the log.

    Attributes:
        size: how many entries the log has.
        after: the index to go on behind; `None` when nothing follows.
    """

    size: Size
    events: Annotated[tuple[Logged, ...], Field(max_length=MOST_EVENTS)]
    after: Size | None


class LoggedProof(Value):
    """An event and the proof that it is in the log.

    Attributes:
        proof: a C2SP tlog-proof, with the checkpoint that it leads to.
    """

    event: EventText
    salt: Salt
    proof: Annotated[str, Field(max_length=1 << 18)]


class PseudonymView(Value):
    """Who is meant by a pseudonym."""

    pseudonym: Name
    kind: Name
    name: Text


class PseudonymPage(Value):
    """Pseudonyms with their names, as far as those were not erased; `after` is where to go on."""

    pseudonyms: tuple[PseudonymView, ...]
    after: Name | None


class LogView(Value):
    """What there is to know about the log itself.

    Attributes:
        key: its verifier key, C2SP's `name+id+key`; the name is its origin.
        size: how many entries have an index.
        pending: how many events wait for one.
        witnesses: the witnesses that are asked, by their verifier keys.
    """

    key: Text
    size: Size
    pending: Size
    witnesses: tuple[Text, ...] = ()

"""How the gateway shows what it logged: the messages of its log's routes.

The tree itself is public and says nothing (`tiles`, `events`); these are for those who may read.
"""

from typing import Annotated

from pydantic import Field

from blindgate_protocol.values import Name, Size, Text, Value


class Logged(Value):
    """An event with what shows that it is the one at its place.

    Attributes:
        index: where it stands in the log.
        event: its canonical JSON, as text; `None` where it was erased.
        salt: the salt of its commitment, in base64url; `None` where it was erased.
    """

    index: Annotated[int, Field(ge=0)]
    event: Annotated[str, Field(max_length=1 << 16)] | None
    salt: bytes | None


class LoggedPage(Value):
    """Events in the order of the log.

    Attributes:
        size: how many entries the log has.
        after: the index to go on behind; `None` when nothing follows.
    """

    size: Size
    events: tuple[Logged, ...]
    after: int | None


class LoggedProof(Value):
    """An event and the proof that it is in the log.

    Attributes:
        proof: a C2SP tlog-proof, with the checkpoint that it leads to.
    """

    event: Annotated[str, Field(max_length=1 << 16)]
    salt: bytes
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

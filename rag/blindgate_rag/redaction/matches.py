"""What a recogniser finds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Match:
    """A stretch of a folded text that must not leave.

    Attributes:
        name: its class: lower-case letters, `_` between words.
        start: its first character.
        end: after its last.
        value: what it is without the marks between; two of the same class and value are the same thing.
    """

    name: str
    start: int
    end: int
    value: str = field(repr=False)


class Recogniser(Protocol):
    """Finds classes of what must not leave, in a folded text.

    Attributes:
        names: the classes that it may find.
        protects: of `redactor.UNPROTECTED`, what is protected where it is used.
    """

    names: frozenset[str]
    protects: frozenset[str]

    def find(self, text: str) -> Iterator[Match]:
        """Find all in a text, in any order; they may overlap.

        It is waited for, however long it takes: nothing here can stop it. Where it may hang, let it raise: nothing is sealed then.
        """
        ...

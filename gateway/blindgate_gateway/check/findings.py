"""What a check says: one line for people, with examples and what to do where something is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

MOST_EXAMPLES: Final = 5

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what long work is done, how much of it is over, and how much there is."""


class State(StrEnum):
    """How bad it is: `warning` will become worse, `fault` is something lost, altered or not usable."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result.

    Attributes:
        check: its name, which stays the same from version to version.
        detail: what was found, in one sentence.
        examples: a few of the objects that are concerned, by id.
        remedy: what to do about it; none where it is well.
    """

    check: str
    state: State
    detail: str
    examples: tuple[str, ...] = ()
    remedy: str | None = None


def well(check: str, detail: str) -> Finding:
    """A check that found nothing."""
    return Finding(check, State.OK, detail)


def warning(check: str, detail: str, remedy: str, *examples: str) -> Finding:
    """Something that wants looking after."""
    return Finding(check, State.WARNING, detail, examples[:MOST_EXAMPLES], remedy)


def fault(check: str, detail: str, remedy: str, *examples: str) -> Finding:
    """Something that is lost, altered or unusable."""
    return Finding(check, State.FAULT, detail, examples[:MOST_EXAMPLES], remedy)

"""A row of the gateway's tables, and how its columns are held against what was signed or logged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from blindgate_audit.findings import Findings
from blindgate_protocol.events import Event
from blindgate_protocol.receipts import CLOCK_SKEW

Value: TypeAlias = str | int | None
Columns: TypeAlias = Mapping[str, Value]
"""Values by their columns' names, as the database has them."""
_NUMBER: Final = re.compile(r"[0-9]{1,16}|-[0-9]{1,16}")


def number(text: object) -> int | None:
    """A number that an event states in digits; `None` for anything else."""
    return int(text) if isinstance(text, str) and _NUMBER.fullmatch(text) else None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row.

    Attributes:
        about: what it is of, as events name objects.
    """

    about: str
    table: str
    columns: Columns

    def get(self, name: str) -> Value:
        """A column's value; `None` also where there is no such column."""
        return self.columns.get(name)

    def hold(self, findings: Findings, said: Columns, source: str, *, index: int | None = None) -> None:
        """Note each column that is not as `source` has `said` it; `index` is the entry that says so."""
        for name, value in said.items():
            if self.get(name) != value:
                message = (
                    f"{self.about}: in its row of {self.table}, {name} is {self.get(name)!r}; {source} has {value!r}"
                )
                findings.add("row", message, index=index)

    def hold_time(self, findings: Findings, name: str, event: Event, *, index: int) -> None:
        """Note a time that is not as the event states it, or, where it states none, not about the event's own."""
        exact, has = stated(event, name), self.get(name)
        if exact is None and isinstance(has, int) and abs(has - event.time) <= CLOCK_SKEW:
            return
        said = {name: event.time if exact is None else exact}
        self.hold(findings, said, f"entry {index}", index=index)


def stated(event: Event, name: str) -> int | None:
    """The number that an event states under this name; `None` where it states none."""
    return number(event.details.get(name))


def named(told: str, has: Value, names: Mapping[str, str]) -> Value:
    """What a row must say where an event has the pseudonym `told`, and the row `has` one.

    A pseudonym that was erased is not among the `names`: whoever it was may be nameless now, or have another, and is somebody.
    """
    return told if told in names or has is None else has

"""Which rows may be there without an event: those that are older than what the log tells.

1. a row that says of itself that it was made after the log began has its event;
2. there are not more rows without one than a gateway counted when it started (`log.started`: `unlogged-tenants`,
   `unlogged-credentials`, `unlogged-tokens`, `unlogged-gateways`). So it helps nobody to let a row say that it is old.

Where there are too many, each of them is named: which one was put in, they do not say. Gateways of before count none, and then the
first rule alone is held; of enrolment tokens and of gateways they tell nothing, so those are held from the first count on.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from blindgate_audit.columns import TableRow, stated
from blindgate_audit.findings import Findings
from blindgate_protocol.events import Action, Event
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.values import Millis

Kind: TypeAlias = Literal["tenants", "credentials", "tokens", "sessions", "gateways"]

_LATE: Final[frozenset[Kind]] = frozenset({"tokens", "gateways"})


class Unlogged:
    """What the log says of one kind of rows that it does not tell of. `made` is the column that says since when a row is there."""

    def __init__(self, kind: Kind, *, made: str = "created") -> None:
        self._kind, self._made = kind, made
        self._since: Millis | None = None
        self._count: tuple[int, int] | None = None

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        count = stated(event, f"unlogged-{self._kind}") if event.action is Action.LOG_STARTED else None
        if count is not None and (self._count is None or count < self._count[0]):
            self._count = (count, index)
        if self._kind not in _LATE or count is not None:
            self._since = event.time if self._since is None else min(self._since, event.time)

    def hold(self, findings: Findings, rows: Sequence[TableRow], *, gone: int) -> None:
        """Hold the `rows` of which no event tells; the events of as many may be `gone`, erased or of whom nobody can name."""
        # 1.
        accused, why = [row for row in rows if self._is_young(row)], ""
        if len(accused) <= gone:
            accused = []
        # 2.
        if self._count is not None and len(rows) > self._count[0] + gone:
            accused = list(rows)
            count, index = self._count
            why = f"; there were {count} such when entry {index} was written" if count else ""
        for row in accused:
            message = f"{row.about}: it has a row of {row.table}, and no event of the log tells of it{why}"
            findings.add("row", message)

    def _is_young(self, row: TableRow) -> bool:
        created = row.get(self._made)
        return self._since is not None and (not isinstance(created, int) or created >= self._since + CLOCK_SKEW)

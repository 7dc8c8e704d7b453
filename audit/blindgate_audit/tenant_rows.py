"""Whether the gateway's tenants are those that were added, with the limits that were set for them and the signers they revoked.

1. a tenant's row is as old as its `tenant.added` says; a row has its event (`unlogged`), and a tenant that the log tells of has its
   row: tenants are not deleted;
2. it has the limits of the last `limits.changed`, or none of its own where no event sets one; and each such event found what was
   set before it;
3. its revoked signers are those of its `signer.revoked` of the kind `client`, and no others.

Events name a tenant by its pseudonym. Where that was erased, a row is its own by the time at which it was made, and its limits and
signers are not held. Rows are read before the last events: what these change may be older in the row. Gateways of before tell of no
limits: what a tenant has, of whose adding none states the time, is held from the first event that sets it.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from blindgate_audit.columns import Columns, TableRow, stated
from blindgate_audit.findings import Findings
from blindgate_audit.unlogged import Unlogged
from blindgate_protocol.events import Action, Event

_TABLE = "tenants"
_LIMITS: Final = {"quota": "quota", "in-flight": "in_flight"}


@dataclass
class _Told:
    """What the log tells of one pseudonym.

    Attributes:
        limits: by column, the entries that set it, the last one last.
        moved: columns that an event tells of after reading the rows began.
    """

    added: tuple[int, Event] | None = None
    is_new: bool = False
    limits: dict[str, list[tuple[int, Event]]] = field(default_factory=dict)
    signers: dict[str, int] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)


class TenantRows:
    """Both sides, as they come in: a gateway has thousands of tenants at most."""

    def __init__(self) -> None:
        self._unlogged = Unlogged("tenants")
        self._told: dict[str, _Told] = {}
        self._rows: dict[str, TableRow] = {}
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._unlogged.tell(index, event)
        if event.tenant is None:
            return
        column = ""
        if event.action is Action.TENANT_ADDED:
            told = self._told.setdefault(event.tenant, _Told())
            told.added, told.is_new = (index, event), self._reading
        elif event.action is Action.LIMITS_CHANGED:
            column = _LIMITS.get(event.details.get("limit", ""), "")
            if column:
                self._told.setdefault(event.tenant, _Told()).limits.setdefault(column, []).append((index, event))
        elif event.action is Action.SIGNER_REVOKED and event.details.get("kind") == "client":
            column = "revoked_signers"
            signer = event.object.partition(":")[2]
            self._told.setdefault(event.tenant, _Told()).signers.setdefault(signer, index)
        if column and self._reading:
            self._told[event.tenant].moved.add(column)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        name = str(columns.get("name"))
        self._rows[name] = TableRow(f"tenant {name}", _TABLE, columns)

    def finish(self, findings: Findings, *, erased: int, names: Mapping[str, str]) -> None:
        """Hold both sides against each other; `names` are the gateway's translations of pseudonyms."""
        nameless = {pseudonym: told for pseudonym, told in self._told.items() if pseudonym not in names}
        whose = {names[pseudonym]: told for pseudonym, told in self._told.items() if pseudonym in names}
        alone = []
        for name, row in self._rows.items():
            told = whose.get(name, _Told())
            if told.added is None:
                alone.append(row)
            else:
                # 1.
                row.hold_time(findings, "created", told.added[1], index=told.added[0])
            # 2. and 3.
            self._hold_limits(findings, row, told, erased=erased)
            self._hold_signers(findings, row, told, nameless, erased=erased)
        # 1.
        self._hold_all(findings, alone, nameless, erased=erased)
        for name, told in whose.items():
            if told.added is not None and name not in self._rows and not told.is_new:
                index = told.added[0]
                message = f"tenant {name}: the tenant that entry {index} tells of has no row of {_TABLE}"
                findings.add("row", message, index=index)
        # 2.
        for told in self._told.values() if not erased else ():
            _follow(findings, told)

    def _hold_all(
        self, findings: Findings, alone: list[TableRow], nameless: Mapping[str, _Told], *, erased: int
    ) -> None:
        """Hold the rows of which no event tells by name against the events that name nobody any more."""
        gone = erased
        for pseudonym, told in nameless.items():
            if told.added is None:
                continue
            index, event = told.added
            own = _of(event, alone)
            if own is not None:
                alone.remove(own)
            elif stated(event, "created") is None:
                gone += 1
            elif not told.is_new:
                message = f"tenant:{pseudonym}: no row of {_TABLE} was made when entry {index} says that it was added"
                findings.add("row", message, index=index)
        self._unlogged.hold(findings, alone, gone=gone)

    def _hold_limits(self, findings: Findings, row: TableRow, told: _Told, *, erased: int) -> None:
        for column in _LIMITS.values():
            if erased or column in told.moved:
                continue
            if column in told.limits:
                index, event = told.limits[column][-1]
                row.hold(findings, {column: stated(event, "after")}, f"entry {index}", index=index)
            elif told.added is not None and "created" in told.added[1].details and row.get(column) is not None:
                said = f"in its row of {_TABLE}, {column} is {row.get(column)!r}"
                findings.add("row", f"{row.about}: {said}; no event of the log tells that it was set")

    def _hold_signers(
        self, findings: Findings, row: TableRow, told: _Told, nameless: Mapping[str, _Told], *, erased: int
    ) -> None:
        if "revoked_signers" in told.moved:
            return
        has = str(row.get("revoked_signers") or "").split()
        for signer, index in told.signers.items():
            if signer not in has:
                message = (
                    f"{row.about}: in its row of {_TABLE}, revoked_signers has not {signer}; entry {index} revokes it"
                )
                findings.add("row", message, index=index)
        known = {*told.signers, *(signer for other in nameless.values() for signer in other.signers)}
        for signer in has if not erased else ():
            if signer not in known:
                said = f"in its row of {_TABLE}, revoked_signers has {signer}"
                findings.add("row", f"{row.about}: {said}; no event of the log tells that it was revoked")


def _of(event: Event, rows: list[TableRow]) -> TableRow | None:
    """Which of the rows was made when an event states."""
    created = stated(event, "created")
    return next((row for row in rows if created is not None and row.get("created") == created), None)


def _follow(findings: Findings, told: _Told) -> None:
    """Hold each event that sets a limit against the one before it; a tenant that was added has none of its own."""
    for column, sets in told.limits.items():
        is_whole = told.added is not None and "created" in told.added[1].details
        known = [told.added, *sets] if told.added is not None and is_whole else sets
        for (first, before), (index, event) in itertools.pairwise(known):
            left, found = stated(before, "after"), stated(event, "before")
            if left != found:
                message = f"{event.object}: entry {index} found its {column} at {found!r}; since entry {first} it was {left!r}"
                findings.add("row", message, index=index)

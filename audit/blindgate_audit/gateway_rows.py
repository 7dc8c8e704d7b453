"""Whether each gateway's row says what that gateway wrote when it began: whom it believes, and for how long it keeps things.

1. a row's columns are those of its last `gateway.entered`, which has a digest of each;
2. a row has its event (`unlogged`); and a gateway that entered has its row until the log tells that it was forgotten.

By these rows gateways tell the log which signers came and went (`signer.added`, `signer.revoked`). What a gateway believes is in
its own settings. Since when it showed itself without a gap, and when it last did, changes every few seconds, and is in no event.
Gateways of before tell of no entering: rows of theirs are held by how many there were of them once.
"""

from blindgate_audit.columns import Columns, TableRow
from blindgate_audit.findings import Findings
from blindgate_audit.unlogged import Unlogged
from blindgate_protocol.canonical import digest
from blindgate_protocol.events import Action, Event

_TABLE = "gateways"
_TOLD = ("publishers", "operators", "kept")


class GatewayRows:
    """Both sides, as they come in: there is a handful of gateways."""

    def __init__(self) -> None:
        self._unlogged = Unlogged("gateways", made="since")
        self._entered: dict[str, tuple[int, Event]] = {}
        self._forgotten: set[str] = set()
        self._moved: set[str] = set()
        self._rows: dict[str, TableRow] = {}
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._unlogged.tell(index, event)
        if event.action is Action.GATEWAY_ENTERED:
            self._entered[event.object] = (index, event)
            self._forgotten.discard(event.object)
        elif event.action is Action.GATEWAY_FORGOTTEN:
            self._forgotten.add(event.object)
        else:
            return
        if self._reading:
            self._moved.add(event.object)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        about = f"gateway:{columns.get('id')}"
        self._rows[about] = TableRow(about, _TABLE, columns)

    def finish(self, findings: Findings, *, erased: int) -> None:
        """Hold both sides against each other; `erased` events are gone."""
        for about, (index, event) in self._entered.items():
            if about in self._moved:
                continue
            row = self._rows.get(about)
            if row is None:
                if about not in self._forgotten and not erased:
                    message = f"{about}: the gateway that entry {index} tells of has no row of {_TABLE}"
                    findings.add("row", message, index=index)
                continue
            # 1.
            for name in _TOLD if not erased else ():
                told, has = event.details.get(name), row.get(name)
                if told is not None and digest(str(has).encode(errors="replace")) != told:
                    message = f"{about}: in its row of {_TABLE}, {name} is {has!r}; entry {index} has other ones"
                    findings.add("row", message, index=index)
        # 2.
        unlogged = [row for about, row in self._rows.items() if about not in self._entered]
        self._unlogged.hold(findings, unlogged, gone=erased)

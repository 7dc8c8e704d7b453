"""Whether the sessions at the auditors' console in the gateway's table are those that began, as the log tells.

1. a session's row has the API key, or the person with the grounds of their role, and the times of its `session.started`. The log
   calls it by the beginning of its token's hash;
2. a session that somebody ended has no row any more;
3. a row has its event (`unlogged`);
4. a session that the log tells of, and tells no end of, has its row until the moment at which it is over at the latest (`until`).

Gateways of before state no such moment, and tell of no session that was over because nobody used it: one of theirs that has no row
may be over. Rows are read before the last events: of a session that these end the row may have been there, or not.
"""

from collections.abc import Callable, Mapping

from blindgate_audit.columns import Columns, TableRow, Value, named, stated
from blindgate_audit.findings import Findings
from blindgate_audit.moments import now
from blindgate_audit.unlogged import Unlogged
from blindgate_protocol.events import Action, Event
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.values import Millis

_TABLE = "sessions"


class SessionRows:
    """Both sides, as they come in. Of a session that ended, its name is kept. `clock` is the auditor's."""

    def __init__(self, clock: Callable[[], Millis] = now) -> None:
        self._clock = clock
        self._moved: set[str] = set()
        self._unlogged = Unlogged("sessions")
        self._started: dict[str, tuple[int, Event]] = {}
        self._ended: dict[str, int] = {}
        self._rows: dict[str, TableRow] = {}
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._unlogged.tell(index, event)
        if event.action is Action.SESSION_STARTED:
            self._started[event.object] = (index, event)
            if self._reading:
                self._moved.add(event.object)
        elif event.action is Action.SESSION_ENDED and self._reading:
            self._moved.add(event.object)
        elif event.action is Action.SESSION_ENDED:
            self._ended[event.object] = index
            self._started.pop(event.object, None)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        about = f"session:{columns.get('name')}"
        self._rows[about] = TableRow(about, _TABLE, columns)

    def finish(self, findings: Findings, *, erased: int, names: Mapping[str, str]) -> None:
        """Hold both sides against each other; `names` are the gateway's translations of pseudonyms."""
        for about, row in self._rows.items():
            # 1.
            if about in self._started:
                _hold_start(findings, row, *self._started[about], names)
            # 2.
            elif about in self._ended:
                index = self._ended[about]
                message = f"{about}: it has a row of {_TABLE}, and entry {index} tells that it was ended"
                findings.add("row", message, index=index)
        # 4.
        latest = self._clock() + CLOCK_SKEW
        for about, (index, event) in self._started.items() if not erased else ():
            until = stated(event, "until")
            if about not in self._rows and about not in self._moved and until is not None and until > latest:
                message = f"{about}: the session that entry {index} tells of has no row of {_TABLE}, and nothing tells of its end"
                findings.add("row", message, index=index)
        # 3.
        told = self._started.keys() | self._ended.keys()
        self._unlogged.hold(findings, [row for about, row in self._rows.items() if about not in told], gone=erased)


def _hold_start(findings: Findings, row: TableRow, index: int, event: Event, names: Mapping[str, str]) -> None:
    credential = event.details.get("credential")
    said: dict[str, Value] = {"api_key": credential, "person": None}
    if credential == "token":
        said = {"api_key": None, "person": named(event.actor, row.get("person"), names)}
    if "created" in event.details:
        said |= {"grounds": event.details.get("grounds"), "expires": stated(event, "expires")}
    row.hold(findings, said, f"entry {index}", index=index)
    row.hold_time(findings, "created", event, index=index)

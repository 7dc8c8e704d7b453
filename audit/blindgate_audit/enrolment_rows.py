"""Whether the enrolment tokens in the gateway's table are those that were given out, and used up, as the log tells.

1. a token's row has the secret and the times of its `credential.granted`. The secret is known by the digest of what is stored of
   it;
2. it was used up by the node whose `node.enrolled` names it, and by no other;
3. a row has its event (`unlogged`), and a token that the log tells of has its row: tokens are not deleted.

Rows are read before the last events: a token that these use up may have been unused. Gateways of before tell of no tokens, and
their `node.enrolled` names none.
"""

from blindgate_audit.columns import Columns, TableRow, stated
from blindgate_audit.findings import Findings
from blindgate_audit.unlogged import Unlogged
from blindgate_protocol.events import Action, Event

_TABLE = "enrolment_tokens"
_KIND = "enrolment-token"


class EnrolmentRows:
    """Both sides, as they come in: there is a token for each node."""

    def __init__(self) -> None:
        self._unlogged = Unlogged("tokens")
        self._granted: dict[str, tuple[int, Event]] = {}
        self._spent: dict[str, tuple[int, str]] = {}
        self._again: list[tuple[str, int]] = []
        self._new: set[str] = set()
        self._moved: set[str] = set()
        self._rows: dict[str, TableRow] = {}
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._unlogged.tell(index, event)
        kind, _, about = event.object.partition(":")
        if kind == _KIND and event.action is Action.CREDENTIAL_GRANTED:
            self._granted.setdefault(about, (index, event))
            if self._reading:
                self._new.add(about)
        elif event.action is Action.NODE_ENROLLED and "token" in event.details:
            token = event.details["token"]
            if token in self._spent:
                self._again.append((token, index))
            self._spent.setdefault(token, (index, about))
            if self._reading:
                self._moved.add(token)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        token = str(columns.get("id"))
        self._rows[token] = TableRow(f"{_KIND}:{token}", _TABLE, columns)

    def finish(self, findings: Findings, *, erased: int) -> None:
        """Hold both sides against each other; `erased` events are gone."""
        for token, row in self._rows.items():
            # 1.
            if token in self._granted:
                index, event = self._granted[token]
                said = {"secret_hash": event.details.get("secret"), "expires": stated(event, "expires")}
                row.hold(findings, said, f"entry {index}", index=index)
                row.hold_time(findings, "created", event, index=index)
            # 2.
            if token in self._spent and token not in self._moved:
                index, node = self._spent[token]
                row.hold(findings, {"node": node}, f"entry {index}", index=index)
            elif token in self._granted and token not in self._spent and row.get("node") is not None and not erased:
                said_so = f"in its row of {_TABLE}, node is {row.get('node')!r}"
                findings.add("row", f"{row.about}: {said_so}; no event of the log tells of a node that came by it")
        for token, index in self._again:
            first, _ = self._spent[token]
            message = (
                f"{_KIND}:{token}: a node came by it as entry {index} tells, and before that one as entry {first} does"
            )
            findings.add("row", message, index=index)
        # 3.
        unlogged = [row for token, row in self._rows.items() if token not in self._granted]
        self._unlogged.hold(findings, unlogged, gone=erased)
        told = {token: index for token, (index, _) in (self._spent | self._granted).items()}
        for token, index in told.items():
            if token not in self._rows and token not in self._new:
                message = f"{_KIND}:{token}: the enrolment token that entry {index} tells of has no row of {_TABLE}"
                findings.add("row", message, index=index)

"""Whether the API keys in the gateway's table are those that were given out, as the log tells.

1. a key's row has the owner, the scopes, the secret and the times of its `credential.granted` or `credential.rotated`. The secret
   is known by the digest of what is stored of it;
2. it ends when the last `credential.rotated` that replaced it says, or when it was to end from the beginning;
3. it was revoked exactly where `credential.revoked` says so, and then;
4. a row has its event (`unlogged`), and a key that the log tells of has its row: keys are not deleted.

Rows are read before the last events. A key of which the log tells afterwards may have been ended since, and is not held to 2 and 3.
Events of gateways of before state no secret and no times: what they do not state is held by the event's own time, or not at all.
"""

from collections.abc import Mapping

from blindgate_audit.columns import Columns, TableRow, Value, named, stated
from blindgate_audit.findings import Findings
from blindgate_audit.unlogged import Unlogged
from blindgate_protocol.events import Action, Event

_TABLE = "api_keys"
_KIND = "credential"


class CredentialRows:
    """Both sides, as they come in: a gateway has thousands of API keys at most."""

    def __init__(self) -> None:
        self._unlogged = Unlogged("credentials")
        self._granted: dict[str, tuple[int, Event]] = {}
        self._replaced: dict[str, tuple[int, Event]] = {}
        self._revoked: dict[str, tuple[int, Event]] = {}
        self._new: set[str] = set()
        self._moved: set[str] = set()
        self._rows: dict[str, TableRow] = {}
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._unlogged.tell(index, event)
        kind, _, key = event.object.partition(":")
        if kind != _KIND:
            return
        if event.action in {Action.CREDENTIAL_GRANTED, Action.CREDENTIAL_ROTATED}:
            self._granted.setdefault(key, (index, event))
            if self._reading:
                self._new.add(key)
            if "replaces" in event.details:
                self._end(self._replaced, event.details["replaces"], index, event)
        elif event.action is Action.CREDENTIAL_REVOKED:
            self._end(self._revoked, key, index, event)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        key = str(columns.get("id"))
        self._rows[key] = TableRow(f"{_KIND}:{key}", _TABLE, columns)

    def finish(self, findings: Findings, *, erased: int, names: Mapping[str, str]) -> None:
        """Hold both sides against each other; `names` are the gateway's translations of pseudonyms."""
        for key, row in self._rows.items():
            if key in self._granted:
                self._hold_grant(findings, row, *self._granted[key], names)
            if key not in self._moved:
                self._hold_end(findings, key, row, erased=erased)
                self._hold_revocation(findings, key, row, erased=erased)
        # 4.
        unlogged = [row for key, row in self._rows.items() if key not in self._granted]
        self._unlogged.hold(findings, unlogged, gone=erased)
        told = self._replaced | self._revoked | self._granted
        for key, (index, _) in told.items():
            if key not in self._rows and key not in self._new:
                message = f"{_KIND}:{key}: the API key that entry {index} tells of has no row of {_TABLE}"
                findings.add("row", message, index=index)

    def _end(self, ends: dict[str, tuple[int, Event]], key: str, index: int, event: Event) -> None:
        ends[key] = (index, event)
        if self._reading:
            self._moved.add(key)

    def _hold_grant(
        self, findings: Findings, row: TableRow, index: int, event: Event, names: Mapping[str, str]
    ) -> None:
        # 1.
        staff = event.details.get("staff")
        said: dict[str, Value] = {
            "scopes": event.details.get("scopes"),
            "tenant": None if event.tenant is None else names.get(event.tenant, row.get("tenant")),
            "staff": None if staff is None else named(staff, row.get("staff"), names),
        }
        if "secret" in event.details:
            said["secret_hash"] = event.details["secret"]
        row.hold(findings, said, f"entry {index}", index=index)
        row.hold_time(findings, "created", event, index=index)

    def _hold_end(self, findings: Findings, key: str, row: TableRow, *, erased: int) -> None:
        # 2.
        has = row.get("expires")
        if key in self._replaced:
            index, event = self._replaced[key]
            until = stated(event, "replaced-expires")
            if until is None:
                return
        elif key in self._granted and "created" in self._granted[key][1].details:
            index, event = self._granted[key]
            until = stated(event, "expires")
        else:
            return
        # Its rotation may be among the events that are gone: that ends a key sooner, and never later.
        if not (erased and isinstance(has, int) and (until is None or has < until)):
            row.hold(findings, {"expires": until}, f"entry {index}", index=index)

    def _hold_revocation(self, findings: Findings, key: str, row: TableRow, *, erased: int) -> None:
        # 3.
        if key in self._revoked:
            index, event = self._revoked[key]
            row.hold_time(findings, "revoked", event, index=index)
        elif key in self._granted and row.get("revoked") is not None and not erased:
            said = f"in its row of {_TABLE}, revoked is {row.get('revoked')!r}"
            findings.add("row", f"{row.about}: {said}; no event of the log tells that it was revoked")

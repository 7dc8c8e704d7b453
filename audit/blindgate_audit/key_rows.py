"""Whether the keys in the gateway's tables are in the state that their owners' statements gave them.

1. each statement on record stands in `key_statements` under its own tenant, key, number and digest, and came when the log tells;
2. a key's row in `keys` has the state, number and end of the last statement about it, or is destroyed where the log tells that the
   destruction was carried out;
3. a key with statements has its row, and one without has none;
4. a key's blob has its row in `blobs`, of the size that the statements say, until the key is destroyed, and none from then on.

Rows are read before the statements. A key of which the log tells something afterwards may be ahead of its row, and is let be.

Both sides are laid into a database that SQLite keeps in a file without a name, as in `records`.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from blindgate_audit.columns import Columns, TableRow, number
from blindgate_audit.findings import Findings
from blindgate_protocol.events import Action, Event
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.oversight import StatementRecord
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed

_TABLES: Final = """
CREATE TABLE keys (tenant, digest, state, sequence, destroy_at, PRIMARY KEY (tenant, digest)) WITHOUT ROWID;
CREATE TABLE rows (tenant, key, sequence, digest, received, PRIMARY KEY (tenant, key, sequence)) WITHOUT ROWID;
CREATE TABLE blobs (tenant, digest, size, PRIMARY KEY (tenant, digest)) WITHOUT ROWID;
CREATE TABLE said (tenant, key, sequence, digest, state, destroy_at, received, size,
                   PRIMARY KEY (tenant, key, sequence)) WITHOUT ROWID;
CREATE TABLE told (key, digest, entry, time, apart, PRIMARY KEY (key, digest)) WITHOUT ROWID;
CREATE TABLE destroyed (key, tenant, entry, PRIMARY KEY (key, tenant)) WITHOUT ROWID;
CREATE TABLE names (tenant PRIMARY KEY, name) WITHOUT ROWID;
CREATE TABLE moved (key PRIMARY KEY) WITHOUT ROWID;
"""
_ELSEWHERE: Final = """
SELECT said.tenant, said.key, said.sequence FROM said LEFT JOIN rows USING (tenant, key, sequence)
WHERE rows.digest IS NOT said.digest AND said.key NOT IN moved ORDER BY 1, 2, 3
"""
_RECEIVED: Final = """
SELECT said.key, said.sequence, rows.received, told.entry, told.time FROM said JOIN rows USING (tenant, key, sequence)
JOIN told ON (told.key, told.digest) = (said.key, said.digest)
WHERE typeof(rows.received) != 'integer' OR abs(rows.received - told.time) > told.apart ORDER BY told.entry
"""
_LAST: Final = """
SELECT said.tenant, said.key, said.sequence, said.state, said.destroy_at, destroyed.entry,
       keys.tenant IS NOT NULL, keys.state, keys.sequence, keys.destroy_at
FROM (SELECT *, max(sequence) FROM said GROUP BY tenant, key) AS said
LEFT JOIN keys ON (keys.tenant, keys.digest) = (said.tenant, said.key)
LEFT JOIN destroyed ON destroyed.key = said.key
    AND coalesce((SELECT name FROM names WHERE names.tenant = destroyed.tenant), said.tenant) = said.tenant
WHERE said.key NOT IN moved ORDER BY 1, 2
"""
_BLOBS: Final = """
SELECT said.tenant, said.key, said.state, said.sequence, destroyed.entry, said.size,
       CASE WHEN blobs.tenant IS NULL THEN NULL ELSE coalesce(blobs.size, 'NULL') END
FROM (SELECT *, max(sequence) FROM said GROUP BY tenant, key) AS said
LEFT JOIN blobs ON (blobs.tenant, blobs.digest) = (said.tenant, said.key)
LEFT JOIN destroyed ON said.state = 'destruction-scheduled' AND destroyed.key = said.key
    AND coalesce((SELECT name FROM names WHERE names.tenant = destroyed.tenant), said.tenant) = said.tenant
WHERE said.key NOT IN moved ORDER BY 1, 2
"""
_ALONE: Final = """
SELECT tenant, digest FROM keys WHERE digest NOT IN moved
AND NOT EXISTS (SELECT 1 FROM said WHERE (said.tenant, said.key) = (keys.tenant, keys.digest)) ORDER BY 1, 2
"""


class KeyRows:
    """Both sides, as they come in. To be closed."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        kind, _, key = event.object.partition(":")
        if kind != "key" or event.after is None:
            return
        if self._reading:
            self._database.execute("INSERT OR IGNORE INTO moved VALUES (?)", (key,))
        if event.digest is not None:
            received = number(event.details.get("received"))
            when = (event.time, CLOCK_SKEW) if received is None else (received, 0)
            row = (key, event.digest, index, *when)
            self._database.execute("INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?, ?)", row)
        if event.action is Action.KEY_DESTROYED:
            self._database.execute("INSERT OR IGNORE INTO destroyed VALUES (?, ?, ?)", (key, event.tenant or "", index))

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def key(self, row: Columns) -> None:
        """Take in a row of `keys`."""
        columns = tuple(map(row.get, ("tenant", "digest", "state", "sequence", "destroy_at")))
        self._database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?, ?)", columns)

    def blob(self, row: Columns) -> None:
        """Take in a row of `blobs`."""
        columns = tuple(map(row.get, ("tenant", "digest", "size")))
        self._database.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", columns)

    def row(self, row: Columns) -> None:
        """Take in a row of `key_statements`."""
        columns = tuple(map(row.get, ("tenant", "key", "sequence", "digest", "received")))
        self._database.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?)", columns)

    def statement(self, record: StatementRecord, signed: Signed[KeyStatement]) -> None:
        """Take in a statement on record that was verified."""
        document = signed.document
        whose = (document.tenant, document.key.digest, document.sequence)
        said = (*whose, signed.digest, document.state.value, document.destroy_at, record.received, document.key.size)
        self._database.execute("INSERT OR IGNORE INTO said VALUES (?, ?, ?, ?, ?, ?, ?, ?)", said)

    def finish(self, *, erased: int, names: Mapping[str, str], blobs: bool) -> None:
        """Hold both sides against each other; `names` are the gateway's translations of pseudonyms.

        `erased` events are gone: those of destructions may be among them. `blobs` says whether these were read.
        """
        self._database.executemany("INSERT INTO names VALUES (?, ?)", names.items())
        # 1.
        for tenant, key, sequence in self._database.execute(_ELSEWHERE):
            what = f"statement {sequence} of tenant {tenant}"
            message = f"key:{key}: {what} does not stand in key_statements under this number and its digest"
            self._findings.add("row", message)
        for key, sequence, received, entry, time in self._database.execute(_RECEIVED):
            row = TableRow(f"key:{key}: statement {sequence}", "key_statements", {"received": received})
            row.hold(self._findings, {"received": time}, f"entry {entry}", index=entry)
        # 2. and 3.
        for tenant, key, sequence, state, destroy_at, destroyed, is_there, *has in self._database.execute(_LAST):
            if not is_there:
                self._findings.add("row", f"key:{key}: tenant {tenant} has statements about it, and no row of keys")
                continue
            columns = dict(zip(("state", "sequence", "destroy_at"), has, strict=True))
            source, index = f"statement {sequence}", None
            carried_out = {"state": KeyState.DESTROYED.value, "sequence": sequence, "destroy_at": None}
            said = {"state": state, "sequence": sequence, "destroy_at": destroy_at}
            if state == KeyState.DESTRUCTION_SCHEDULED.value and (
                destroyed is not None or (erased and columns == carried_out)
            ):
                said, source, index = carried_out, f"entry {destroyed}", destroyed
            TableRow(f"key:{key}", "keys", columns).hold(self._findings, said, source, index=index)
        for tenant, key in self._database.execute(_ALONE):
            self._findings.add("row", f"key:{key}: tenant {tenant} has a row of keys for it, and made no statement")
        if blobs:
            self._hold_blobs(erased=erased)

    def _hold_blobs(self, *, erased: int) -> None:
        # 4.
        for tenant, key, state, said, destroyed, size, has in self._database.execute(_BLOBS):
            if destroyed is None and state == KeyState.DESTRUCTION_SCHEDULED.value and erased:
                continue  # whether that was carried out may be among what is gone
            if destroyed is not None or state == KeyState.DESTROYED.value:
                if has is not None:
                    source = f"statement {said}" if destroyed is None else f"entry {destroyed}"
                    message = f"key:{key}: it has a row of blobs at tenant {tenant}, and was destroyed by {source}"
                    self._findings.add("row", message, index=destroyed)
            elif has is None:
                message = f"key:{key}: it has no row of blobs at tenant {tenant}, and was not destroyed"
                self._findings.add("row", message)
            else:
                row = TableRow(f"key:{key}", "blobs", {"size": has})
                row.hold(self._findings, {"size": size}, f"statement {said}")

    def close(self) -> None:
        """Delete both sides."""
        self._database.close()

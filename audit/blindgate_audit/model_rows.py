"""Whether the models in the gateway's table are those that were published, as the log tells.

1. a row's manifest is signed, and its columns say what the manifest says;
2. the manifest's `model.published` stands in the log, of the same tenant and time (as it states, or, of a gateway of before, up to
   what two clocks of one gateway may be apart);
3. a model that the log tells of has its row: models are not deleted.

A model that was published before the log began has no such event, and is none that is missed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from blindgate_audit.columns import Columns, TableRow, Value, number
from blindgate_audit.findings import Findings
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Envelope, Signed, open_signed
from blindgate_protocol.values import Millis

_TABLE = "manifests"


@dataclass(frozen=True)
class _Told:
    model: str
    entry: int
    time: Millis
    tenant: str | None
    published: Millis | None
    later: bool


class ModelRows:
    """Both sides, as they come in: a gateway has thousands of models at most.

    Attributes:
        families: of the models whose manifests were read, by their digests.
    """

    def __init__(
        self, findings: Findings, *, read: Callable[[Value, Signed[Manifest]], object] = lambda *_: None
    ) -> None:
        self._findings, self._read = findings, read
        self._told: dict[str, _Told] = {}
        self._rows: dict[str, TableRow] = {}
        self.families: dict[str, str] = {}
        self._began: Millis | None = None
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._began = event.time if self._began is None else min(self._began, event.time)
        if event.action is Action.MODEL_PUBLISHED and event.digest is not None:
            published = number(event.details.get("published"))
            told = _Told(event.object, index, event.time, event.tenant, published, later=self._reading)
            self._told.setdefault(event.digest, told)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        row = TableRow(f"model:{columns.get('name')}/{columns.get('version')}", _TABLE, columns)
        try:
            signed = open_signed(Envelope.from_bytes(str(row.get("envelope")).encode(errors="replace")), Manifest)
        except BlindgateError as error:
            self._findings.add("row", f"{row.about}: the manifest in its row of {_TABLE}: {error}")
            self._rows[str(row.get("digest"))] = row
            return
        row.hold(self._findings, _said(signed), "its manifest")
        self._rows[signed.digest] = row
        self.families[signed.digest] = signed.document.family
        self._read(row.get("tenant"), signed)

    def unlogged(self, erased: int) -> bool:
        """Whether a row has no event yet, erased ones apart."""
        return not erased and any(self._is_unlogged(digest) for digest in self._rows)

    def finish(self, *, erased: int, names: Mapping[str, str]) -> None:
        """Hold both sides against each other; `names` are the gateway's translations of pseudonyms."""
        for digest, row in self._rows.items():
            told = self._told.get(digest)
            if told is None:
                if self._is_unlogged(digest) and not erased:
                    self._findings.add(
                        "row", f"{row.about}: it has a row of {_TABLE}, and no event of the log tells of it"
                    )
                continue
            name = names.get(told.tenant or "", row.get("tenant"))
            source = f"entry {told.entry}"
            row.hold(self._findings, {"tenant": name}, source, index=told.entry)
            published = row.get("published")
            if told.published is not None:
                row.hold(self._findings, {"published": told.published}, source, index=told.entry)
            elif not isinstance(published, int) or abs(published - told.time) > CLOCK_SKEW:
                row.hold(self._findings, {"published": told.time}, source, index=told.entry)
        for digest, told in self._told.items():
            if digest not in self._rows and not told.later:
                message = f"{told.model}: the manifest {digest} that entry {told.entry} tells of has no row of {_TABLE}"
                self._findings.add("row", message, index=told.entry)

    def _is_unlogged(self, digest: str) -> bool:
        published = self._rows[digest].get("published")
        return digest not in self._told and (
            not isinstance(published, int) or published >= (self._began or 0) + CLOCK_SKEW
        )


def _said(signed: Signed[Manifest]) -> Columns:
    document = signed.document
    return {
        "digest": signed.digest,
        "name": document.name,
        "version": document.version,
        "client_digest": "" if document.client is None else document.client.digest,
        "server_digest": document.server.digest,
    }

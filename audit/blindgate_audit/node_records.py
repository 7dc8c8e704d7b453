"""Whether the nodes on record are those that the log tells of.

1. a node is on record with the certificate by which it was taken in: its operator signed it, it is of this node's key, name and
   end, and it is the one whose digest the node's last `node.enrolled` has. That also states when the node first came, but in a
   gateway of before;
2. a node is dismissed on record (it ends at 0) exactly where the log says so;
3. a node that the log tells of is on record: it is kept when it is dismissed.

A node that was taken in before the log began has no such event, and is none that is missed. Nodes are taken in while they are read:
what was told after reading them began may be ahead of the records.
"""

from dataclasses import dataclass, replace

from blindgate_audit.columns import stated
from blindgate_audit.findings import Findings
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.oversight import NodeRecord
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import open_signed
from blindgate_protocol.values import Millis


@dataclass(frozen=True)
class _Told:
    digest: str | None
    entry: int
    later: bool
    dismissed: bool = False
    enrolled: Millis | None = None


class NodeHistories:
    """Both sides, as they come in: a gateway has thousands of nodes at most."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._told: dict[str, _Told] = {}
        self._kept: dict[str, tuple[NodeRecord, str | None]] = {}
        self._began: Millis | None = None
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._began = event.time if self._began is None else min(self._began, event.time)
        before = self._told.get(event.object)
        if event.action is Action.NODE_ENROLLED:
            enrolled = stated(event, "enrolled")
            self._told[event.object] = _Told(event.digest, index, later=self._reading, enrolled=enrolled)
        elif event.action is Action.NODE_DISMISSED:
            so_far = _Told(None, index, later=True) if before is None else before
            self._told[event.object] = replace(so_far, entry=index, later=self._reading, dismissed=True)

    def begin(self) -> None:
        """From now on records are read: what is told is later."""
        self._reading = True

    def node(self, record: NodeRecord) -> None:
        """Take in a node on record."""
        about, digest = f"node:{record.key}", None
        try:
            signed = open_signed(record.certificate, NodeCertificate)
        except BlindgateError as error:
            self._findings.add("record", f"{about}: its certificate: {error}")
        else:
            digest = signed.digest
            certificate = signed.document
            named = (certificate.node, certificate.name, certificate.operator, signed.signer)
            if named != (record.key, record.name, record.operator, record.operator):
                message = (
                    f"{about}: on record is {record.name!r} of {record.operator}, and its certificate is of {certificate.node}, "
                    f"{certificate.name!r} of {certificate.operator}, signed by {signed.signer}"
                )
                self._findings.add("record", message)
            if record.expires not in {0, certificate.expires}:
                message = (
                    f"{about}: on record it ends at {record.expires}, and its certificate at {certificate.expires}"
                )
                self._findings.add("record", message)
        self._kept[about] = (record, digest)

    def unlogged(self, erased: int = 0) -> bool:
        """Whether a node on record has no event yet, erased ones apart."""
        return not erased and any(self._is_unlogged(about) for about in self._kept)

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other; `erased` events are gone, and any that is missing may be among them."""
        for about, (record, digest) in self._kept.items():
            told = self._told.get(about)
            if told is None:
                if self._is_unlogged(about) and not erased:
                    self._findings.add("record", f"{about}: it is on record, and no event of the log tells of it")
                continue
            # 1.
            if not told.later and None not in {told.digest, digest} and told.digest != digest:
                message = (
                    f"{about}: on record is the certificate {digest}, and entry {told.entry} tells of {told.digest}"
                )
                self._findings.add("record", message, index=told.entry)
            if told.enrolled is not None and record.enrolled != told.enrolled:
                message = f"{about}: on record it was taken in at {record.enrolled}, and the log says {told.enrolled}"
                self._findings.add("record", message)
            # 2.
            if record.expires == 0 and not told.dismissed and not erased:
                self._findings.add(
                    "record", f"{about}: it is dismissed on record, and no event of the log tells of that"
                )
            if record.expires and told.dismissed and not told.later:
                message = f"{about}: it is taken in on record, and entry {told.entry} tells that it was dismissed"
                self._findings.add("record", message, index=told.entry)
        # 3.
        for about, told in self._told.items():
            if about not in self._kept and not told.later:
                message = f"{about}: the node that entry {told.entry} tells of is not on record"
                self._findings.add("record", message, index=told.entry)

    def _is_unlogged(self, about: str) -> bool:
        record, _ = self._kept[about]
        return about not in self._told and record.enrolled >= (self._began or 0) + CLOCK_SKEW

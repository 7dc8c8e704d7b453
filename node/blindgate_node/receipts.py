"""What this node signed, and that it never signs two different receipts for one lease.

A receipt is on disk before it is committed. If the gateway hands out the same lease again (its answer was lost, or it wants to
catch the node), the node repeats the receipt that it has: recomputing could give other bytes, and two receipts for one lease
look like fraud. A receipt is kept until its order's deadline, after which no lease of the job can come.

One file, one line a receipt, appended and synced: a line that a crash cut off was never sent.
"""

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from blindgate_node.blobs import write_all
from blindgate_node.families import Family, software
from blindgate_node.signer import sync_folder
from blindgate_node.transport import LeaseName
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import CLOCK_SKEW, Receipt
from blindgate_protocol.signing import Envelope, Signed
from blindgate_protocol.values import BlobRef, Millis

_TIDY_EVERY = 4096


@dataclass(frozen=True)
class Commitments:
    """What the receipt of a sealed job says beside what every receipt does: see `Receipt`."""

    evidence: str
    prompt: str
    answer: str


def make_receipt(  # noqa: PLR0913
    *,
    order: Signed[Order],
    manifest: Signed[Manifest],
    lease: LeaseName,
    output: BlobRef,
    family: Family,
    node: str,
    certificate: Envelope,
    started: Millis,
    finished: Millis,
    commitments: Commitments | None = None,
) -> Receipt:
    """What the node asserts: it evaluated this order's model on this order's input, and `output` came out.

    `commitments` go with a sealed job.
    """
    document = order.document
    return Receipt(
        order=order.digest,
        job=document.job,
        tenant=document.tenant,
        model=document.model,
        circuit=manifest.document.server.digest,
        evaluation_key=document.evaluation_key,
        input=document.input,
        output=output,
        lane=manifest.document.lane,
        generation=lease.generation,
        node=node,
        certificate=certificate,
        software=software(family),
        started=started,
        finished=max(started, finished),
        evidence=None if commitments is None else commitments.evidence,
        prompt=None if commitments is None else commitments.prompt,
        answer=None if commitments is None else commitments.answer,
    )


class Journal:
    """The receipts that this node signed."""

    def __init__(self, file: Path, now: Millis) -> None:
        """Read `file`, leaving out what is over. Raises `OSError`."""
        self._file = file
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], tuple[Millis, Envelope]] = {}
        self._written = 0
        if file.exists():
            for line in file.read_bytes().splitlines():
                self._remember(line)
        self._descriptor = -1
        self._rewrite(now)

    def find(self, lease: LeaseName) -> Envelope | None:
        """The receipt that was signed for this lease, if one was."""
        with self._lock:
            kept = self._kept.get((lease.job, lease.generation))
        return None if kept is None else kept[1]

    def keep(self, lease: LeaseName, receipt: Envelope, *, deadline: Millis, now: Millis) -> None:
        """Put a receipt on disk; it is there when this returns. Raises `OSError`."""
        name = lease.job, lease.generation
        with self._lock:
            self._kept[name] = (deadline, receipt)
            try:
                if self._written >= _TIDY_EVERY:
                    self._rewrite(now)
                else:
                    self._append(_line(name, deadline, receipt))
            except OSError:
                del self._kept[name]
                raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._descriptor).st_size
        try:
            write_all(self._descriptor, line)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)  # half a line, on a full disk, would spoil the next one
            raise
        self._written += 1

    def _remember(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            lease = (str(entry["job"]), int(entry["generation"]))
            self._kept[lease] = (int(entry["deadline"]), Envelope.from_bytes(json.dumps(entry["receipt"]).encode()))
        except (ValueError, KeyError, TypeError, BlindgateError):
            return  # cut off by a crash before it was sent

    def _rewrite(self, now: Millis) -> None:
        self._kept = {lease: kept for lease, kept in self._kept.items() if kept[0] + CLOCK_SKEW > now}
        temporary = self._file.with_suffix(".new")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            for lease, kept in self._kept.items():
                write_all(descriptor, _line(lease, *kept))
            os.fsync(descriptor)
            temporary.replace(self._file)
        except OSError:
            os.close(descriptor)
            raise
        # Not closed before there is another: its number could be another file's by the next line.
        before, self._descriptor = self._descriptor, descriptor
        if before >= 0:
            os.close(before)
        self._written = 0
        sync_folder(self._file.parent)


def _line(lease: tuple[str, int], deadline: Millis, receipt: Envelope) -> bytes:
    job, generation = lease
    entry = {"job": job, "generation": generation, "deadline": deadline, "receipt": receipt.model_dump(mode="json")}
    return json.dumps(entry).encode() + b"\n"

"""What is kept of a job on the data owner's side: one file a job, enough to check it again years later.

A bundle is written before the order leaves, so a process that dies in between can find its job again. The receipt joins it
when the client has checked it. It holds signed documents only: no row, no key, no ciphertext.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from blindgate.keystore import write_durably
from blindgate_protocol.errors import MalformedError, NotFoundError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Envelope, Signed, first_error, open_signed
from blindgate_protocol.values import Value


class _BundleFile(Value):
    manifest: Envelope
    order: Envelope
    receipt: Envelope | None


@dataclass(frozen=True)
class Bundle:
    """The signed documents of one job."""

    manifest: Signed[Manifest]
    order: Signed[Order]
    receipt: Signed[Receipt] | None = None


class Bundles:
    """The bundles under one folder."""

    def __init__(self, folder: Path) -> None:
        """Keep bundles in `folder`, which is made on first use."""
        self._folder = folder

    def save(self, bundle: Bundle) -> None:
        """Write a bundle, in place of what was there."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = _BundleFile(
            manifest=bundle.manifest.envelope,
            order=bundle.order.envelope,
            receipt=None if bundle.receipt is None else bundle.receipt.envelope,
        )
        write_durably(self._path(bundle.order.document.job), file.model_dump_json(indent=1).encode())

    def load(self, job: str) -> Bundle:
        """Read a job's bundle and verify its signatures. Raises `NotFoundError` or `MalformedError`."""
        try:
            data = self._path(job).read_bytes()
        except FileNotFoundError:
            message = f"this client keeps nothing of job {job}"
            raise NotFoundError(message) from None
        return read_bundle(data)

    def jobs(self) -> list[str]:
        """The jobs that have a bundle, latest first."""
        if not self._folder.is_dir():
            return []
        files = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.stem for path in files]

    def _path(self, job: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{32}", job):
            message = f"not a job's id: {job!r}"
            raise MalformedError(message)
        return self._folder / f"{job}.json"


def read_bundle(data: bytes) -> Bundle:
    """Parse a bundle and verify its signatures. Raises `MalformedError` or `SignatureError`."""
    try:
        file = _BundleFile.model_validate_json(data)
    except ValidationError as error:
        message = f"not a bundle: {first_error(error)}"
        raise MalformedError(message) from error
    return Bundle(
        open_signed(file.manifest, Manifest),
        open_signed(file.order, Order),
        None if file.receipt is None else open_signed(file.receipt, Receipt),
    )

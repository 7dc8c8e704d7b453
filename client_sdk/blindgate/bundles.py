"""What is kept of a job on the data owner's side: one file a job, enough to check it again years later.

A bundle is written before the order leaves, so a process that dies in between can find its job again. The receipt joins it
when the client has checked it, with the proof of where it stands in the log. What a bundle holds: `blindgate_protocol.bundle`.

Where it was asked for, the bytes that the bundles name are kept beside them: see `ciphertexts`.
"""

import re
from pathlib import Path

from blindgate.ciphertexts import Ciphertexts
from blindgate.keystore import write_whole
from blindgate_protocol.bundle import CIPHERTEXTS, Bundle, read_bundle
from blindgate_protocol.errors import MalformedError, NotFoundError


class Bundles:
    """The bundles under one folder.

    Attributes:
        ciphertexts: where the bytes are kept that bundles name; `None` where they are not.
    """

    def __init__(self, folder: Path, *, ciphertexts: bool = False) -> None:
        """Keep bundles in `folder`, which is made on first use, and with `ciphertexts` the bytes that they name."""
        self._folder = folder
        self.ciphertexts: Ciphertexts | None = None
        self.keep_ciphertexts(wanted=ciphertexts)

    def keep_ciphertexts(self, *, wanted: bool = True) -> None:
        """Keep from now on the bytes that bundles name, or do not."""
        self.ciphertexts = Ciphertexts(self._folder / CIPHERTEXTS) if wanted else None

    def save(self, bundle: Bundle, *, durable: bool = True) -> None:
        """Write a bundle, in place of what was there; past a power cut, unless told otherwise."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._path(bundle.order.document.job), bundle.to_bytes(), durable=durable)

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

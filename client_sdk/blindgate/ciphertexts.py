"""The bytes that bundles name by digest, kept where their owner asked for it: inputs, results, and each evaluation key once.

An input that was sent cannot be had again: no gateway gives it back, and the same rows encrypt to other bytes. Who wants a job
evaluated a second time, by an auditor or by themselves, keeps its ciphertexts from the beginning.

Each is a file that has its digest's name (`blindgate_protocol.bundle.ciphertext_file`), for its owner's account only, whole or not
there at all. What is there already is not written again. Nothing here is secret by itself: gateway and node had the same bytes.

The copy is never worth more than the job. A disk that is full, or a folder that cannot be written, is a warning and a missing
file; the prediction goes on. A file that could not be kept is not tried again by the same client.
"""

import threading
import warnings
from pathlib import Path

from blindgate.keystore import write_whole
from blindgate_protocol.bundle import ciphertext_file


class Ciphertexts:
    """The kept ciphertexts under one folder. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`, which is made on first use."""
        self.folder = folder
        self._lost: set[str] = set()
        self._counting = threading.Lock()

    @property
    def lost(self) -> int:
        """How many files could not be kept."""
        return len(self._lost)

    def lacks(self, digest: str) -> bool:
        """Whether bytes of this digest are still to be kept: they are not here, and nobody has failed to write them."""
        if digest in self._lost:
            return False
        try:
            return not self._path(digest).exists()
        except OSError:  # a folder that may not be entered: `keep` finds out why
            return True

    def keep(self, data: bytes, digest: str) -> None:
        """Write `data`, whose digest is `digest`. Where that does not work it warns, and raises nothing."""
        if not self.lacks(digest):
            return
        try:
            for folder in (self.folder.parent, self.folder):  # `parents` would make the first one for everybody
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._path(digest), data)
        except OSError as error:
            with self._counting:
                self._lost.add(digest)
            message = (
                f"{self._path(digest)}: this ciphertext could not be kept, so the job cannot be evaluated again from here: "
                f"{error.strerror or error}"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _path(self, digest: str) -> Path:
        return self.folder / ciphertext_file(digest)

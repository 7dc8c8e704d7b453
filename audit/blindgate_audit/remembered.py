"""What was seen of each log: its key, and the largest checkpoint that held. It never goes back.

A log that signs two trees can show each to somebody else. Whoever remembers what he saw notices when he is shown the other; so this
is kept on the auditor's own machine, a file a log, named by the origin's digest, and written only after a verification that held.
The note is kept as it was signed: two that contradict each other convict the log before anybody.

The first time, nothing is remembered: a key that was not given is then believed because the log says so (trust on first use).
"""

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from blindgate_audit.files import write_whole
from blindgate_protocol.checkpoints import Checkpoint, LogTrust, open_checkpoint
from blindgate_protocol.errors import BlindgateError, LogError
from blindgate_protocol.notes import VerifierKey
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Millis, Value


class _Kept(Value):
    """The file."""

    key: str
    checkpoint: str
    seen: Millis


@dataclass(frozen=True)
class Remembered:
    """A log as it was when it was seen last.

    Attributes:
        seen: when, in milliseconds since 1970.
    """

    key: VerifierKey
    checkpoint: Checkpoint
    seen: int


class Memory:
    """A folder of what was seen."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep it in `folder`, which is made on first use; by default in the user's own data folder."""
        self.folder = folder or platformdirs.user_data_path("blindgate") / "audit"

    def file(self, origin: str) -> Path:
        """Where what was seen of a log lies."""
        return self.folder / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.json"

    def log_at(self, place: str) -> str | None:
        """The origin of the log that was seen at an address or in a folder. Another one there is another log, not a new one."""
        try:
            return self._place(place).read_text()
        except FileNotFoundError:
            return None

    def recall(self, origin: str) -> Remembered | None:
        """What was seen of the log. Raises `LogError` for a damaged file."""
        file = self.file(origin)
        try:
            kept = _Kept.model_validate_json(file.read_bytes())
            key = VerifierKey.parse(kept.key)
            opened = open_checkpoint(kept.checkpoint.encode(), LogTrust(key))
        except FileNotFoundError:
            return None
        except (ValidationError, BlindgateError) as error:
            reason = first_error(error) if isinstance(error, ValidationError) else str(error)
            message = f"{file}: what was remembered of the log is damaged: {reason}"
            raise LogError(message) from error
        if key.name != origin:
            message = f"{file}: what was remembered is of the log {key.name!r}, expected {origin!r}"
            raise LogError(message)
        return Remembered(key, opened.checkpoint, kept.seen)

    def remember(self, key: VerifierKey, note: str, *, place: str, now: int) -> None:
        """Remember the log as `note`, which was seen at `place` and verified under `key`, `now` in milliseconds since 1970.

        What is larger stays. Raises `LogError` when the two contradict each other: somebody else saw another log meanwhile.
        """
        tree = open_checkpoint(note.encode(), LogTrust(key)).checkpoint
        with self._locked():
            before = self.recall(key.name)
            if before is not None and before.key != key:
                message = f"{self.file(key.name)}: the log is remembered under another key"
                raise LogError(message)
            if before is not None and before.checkpoint.size == tree.size and before.checkpoint.root != tree.root:
                message = f"{self.file(key.name)}: the log of {tree.size} entries is remembered with another root"
                raise LogError(message)
            if before is None or before.checkpoint.size <= tree.size:
                kept = _Kept(key=str(key), checkpoint=note, seen=now)
                write_whole(self.file(key.name), kept.model_dump_json().encode(), durable=True)
            write_whole(self._place(place), key.name.encode(), durable=True)

    def _place(self, place: str) -> Path:
        return self.folder / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.place"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

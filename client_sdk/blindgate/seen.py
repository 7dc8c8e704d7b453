"""Which version of each model this client has seen, so that a gateway cannot bring an older one back.

Kept by (publisher, model), because a version number means something only within one publisher's own.
"""

import fcntl
import json
from pathlib import Path

from blindgate.keystore import write_durably
from blindgate_protocol.errors import MalformedError


class SeenVersions:
    """A small file of numbers that only grow."""

    def __init__(self, path: Path) -> None:
        """Keep them in `path`, which is made on first use."""
        self._path = path

    def version(self, publisher: str, model: str) -> int:
        """The latest version that was seen; 0 when none was. Raises `MalformedError` when the file is damaged."""
        return self._read().get(f"{publisher} {model}", 0)

    def remember(self, publisher: str, model: str, version: int) -> None:
        """Remember that `version` was seen."""
        if self.version(publisher, model) >= version:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen = self._read()
            name = f"{publisher} {model}"
            seen[name] = max(version, seen.get(name, 0))
            write_durably(self._path, json.dumps(seen, indent=1).encode())

    def _read(self) -> dict[str, int]:
        try:
            seen = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            message = f"{self._path} is damaged: it guards against old versions of models, so it is not ignored"
            raise MalformedError(message) from error
        if not isinstance(seen, dict) or not all(isinstance(version, int) for version in seen.values()):
            message = f"{self._path} is damaged: it guards against old versions of models, so it is not ignored"
            raise MalformedError(message)
        return seen

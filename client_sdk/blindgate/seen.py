"""What this client has seen, so that a gateway cannot bring back what was before.

- `SeenVersions`: which version of each model. Kept by (publisher, model), because a version number means something only within one
  publisher's own.
- `SeenTrees`: the largest tree of each log. A smaller one, or another of the same size, is not the log that was seen before.
  Whether a larger one *continues* what was seen is not asked here: auditors and witnesses check that (`merkle.verify_consistency`),
  and a policy that wants cosignatures relies on it.
"""

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from blindgate.keystore import write_whole
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import ForkedLogError, MalformedError
from blindgate_protocol.values import Size, Value


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
            write_whole(self._path, json.dumps(seen, indent=1).encode())

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


class SeenTree(Value):
    """A tree that a log signed.

    Attributes:
        size: how many entries.
        root: over them, in hexadecimal digits.
    """

    size: Size
    root: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    def require_not_another(self, checkpoint: Checkpoint) -> None:
        """Refuse another tree of the same size. Raises `ForkedLogError`."""
        if checkpoint.size == self.size and checkpoint.root.hex() != self.root:
            message = (
                f"the log {checkpoint.origin!r} signed two trees of {self.size} entries: this client was shown the other one "
                "before. Tell the gateway's auditors, and with which job it was: no honest log does that"
            )
            raise ForkedLogError(message)

    def require_not_smaller(self, checkpoint: Checkpoint) -> None:
        """Refuse a tree that was outgrown. Raises `ForkedLogError`."""
        if checkpoint.size < self.size:
            message = (
                f"the log {checkpoint.origin!r} is shown with {checkpoint.size} entries; "
                f"this client has seen {self.size} of it"
            )
            raise ForkedLogError(message)


class SeenTrees:
    """The largest tree of each log that this client relied on, by the log's verifier key."""

    _FILE = TypeAdapter(dict[str, SeenTree])

    def __init__(self, path: Path) -> None:
        """Keep them in `path`, which is made on first use."""
        self._path = path

    def trees(self) -> Mapping[str, SeenTree]:
        """All of them. Raises `MalformedError` when the file is damaged."""
        try:
            seen = self._FILE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            message = (
                f"{self._path} is damaged: it guards against logs that were forked or set back, so it is not ignored"
            )
            raise MalformedError(message) from error
        return seen

    def remember(self, log: str, checkpoint: Checkpoint) -> None:
        """Remember that this tree was relied on. Raises `ForkedLogError` where another of its size was in the meantime."""
        tree = SeenTree(size=checkpoint.size, root=checkpoint.root.hex())
        if self.trees().get(log) == tree:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen = dict(self.trees())
            if log in seen:
                seen[log].require_not_another(checkpoint)
                if seen[log].size >= tree.size:  # another process of this client went further
                    return
            seen[log] = tree
            write_whole(self._path, self._FILE.dump_json(seen, indent=1))

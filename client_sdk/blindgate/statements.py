"""What this client has signed about its own keys, kept by itself: nobody who shows a key's history is believed without it.

One file a key, in the form of `blindgate_protocol.key_history`. The order of things, so that a crash at any point leaves a record
that says everything that was ever signed:

1. the statement is written down, past a power cut, and marked as unsent;
2. it is sent;
3. the mark is taken away when the gateway has acknowledged it.

What is still marked is sent again before anything else is said about the key. What a gateway has refused for good was never part of
the chain: it is moved to a file beside it, and the next statement follows on the one before.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from blindgate.keystore import write_whole
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.key_history import UNSENT_SUFFIX, chain_bytes, chain_key, chain_name, read_chain
from blindgate_protocol.keys import KeyStatement
from blindgate_protocol.signing import Signed

Chain = tuple[Signed[KeyStatement], ...]


class OwnStatements:
    """The statements under one folder."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`, which is made on first use."""
        self.folder = folder

    def keys(self) -> list[str]:
        """The digests of the keys about which something was signed, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(key for path in self.folder.iterdir() if (key := chain_key(path.name)) is not None)

    def chain(self, key: str) -> Chain:
        """Everything that was signed about a key, verified; empty where that is nothing. Raises `KeyHistoryError`."""
        try:
            return read_chain(key, self._file(key).read_bytes())
        except FileNotFoundError:
            return ()

    def unsent(self, key: str) -> str | None:
        """The digest of the last statement, where no gateway has acknowledged it."""
        try:
            marked = self._mark(key).read_text().strip()
        except FileNotFoundError:
            return None
        chain = self.chain(key)
        return marked if chain and chain[-1].digest == marked else None

    def append(self, statement: Signed[KeyStatement]) -> None:
        """Step 1."""
        key = statement.document.key.digest
        self._make()
        write_whole(self._mark(key), statement.digest.encode())
        self._write(key, (*self.chain(key), statement))

    def acknowledged(self, key: str) -> None:
        """Step 3."""
        self._mark(key).unlink(missing_ok=True)

    def withdraw(self, statement: Signed[KeyStatement]) -> None:
        """Take the last statement, which was refused, out of its chain."""
        key = statement.document.key.digest
        chain = self.chain(key)
        if not chain or chain[-1].digest != statement.digest:
            message = f"statement {statement.digest} is not the last one about key {key}"
            raise MalformedError(message)
        refused = self._file(key).with_suffix(".refused")
        before = refused.read_bytes() if refused.exists() else b""
        write_whole(refused, before + chain_bytes([statement]))
        self._write(key, chain[:-1])
        self.acknowledged(key)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process out while the next statement is made and sent."""
        self._make()
        with (self.folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _write(self, key: str, chain: Chain) -> None:
        if chain:
            write_whole(self._file(key), chain_bytes(chain))
        else:
            self._file(key).unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        name = chain_name(key)
        if chain_key(name) != key:
            message = f"not a key's digest: {key!r}"
            raise MalformedError(message)
        return self.folder / name

    def _mark(self, key: str) -> Path:
        return self._file(key).with_suffix(UNSENT_SUFFIX)

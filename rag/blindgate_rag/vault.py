"""A corpus at rest: a folder of sealed files, read as of one moment and replaced as a whole.

    notes.bgc/corpus.json          what the corpus is called, and its key, sealed with one that comes from a passphrase
    notes.bgc/current              which generation there is, and its files by digest
    notes.bgc/17-records, …        its files
    notes.bgc/lock                 held by whoever writes

Every file but `corpus.json` and `lock` is sealed under a key of its own, bound to corpus, name and generation (`corpus_keys`): one
that was cut, changed, or put in another's place does not open. `current` names the digests of its files, so that they belong
together. What this does not notice is a folder that was put back as a whole to what it was: a copy of yesterday is a true one.

*One writes, others read.* A generation's files are written first, then `current` is replaced in one step, then the files of the one
before are deleted. A process that dies on the way leaves the old generation or the new one. A reader takes all files of one
generation into memory; where a writer was quicker, it begins again with the new `current`. So nobody waits for anybody but a
writer for another.

*The passphrase* (`corpus_keys`) can be changed without writing the corpus anew. Without one, a random one is made and kept beside
the folder, for its owner alone (`notes.bgc.passphrase`): that protects copies and backups of the folder, and not from somebody who
reads all of the owner's files.

What else somebody puts into the folder stays there. Deleted files are unlinked; what a disk or a snapshot keeps of them is sealed.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

from pydantic import Field

from blindgate_protocol.canonical import digest
from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.content_key import SECRET_BYTES, ContentKey
from blindgate_protocol.errors import CorpusBusyError, CorpusError, InputError, MalformedError
from blindgate_protocol.values import Digest, Name, Value
from blindgate_rag.corpus_keys import (
    CorpusKey,
    KeyHeader,
    own_passphrase,
    own_passphrase_file,
    require_passphrase,
    without_passphrase,
    write_whole,
)

_HEADER: Final = "corpus.json"
_CURRENT: Final = "current"
_LOCK: Final = "lock"
_OURS: Final = re.compile(r"[0-9]+-[a-z]+|\.([0-9]+-[a-z]+|corpus\.json|current)\.[0-9a-f]+")
"""The files of a generation, and what is being written (`write_whole`)."""
_MOST_SMALL_BYTES: Final = 1 << 16
_READS: Final = 50
"""How often a reader begins again where writers are quicker, before it says so."""


class _FileRef(Value):
    digest: Digest
    size: Annotated[int, Field(ge=0)]


class _Current(CanonicalValue):
    most_bytes = _MOST_SMALL_BYTES

    generation: Annotated[int, Field(ge=1)]
    files: dict[Name, _FileRef]


@dataclass(frozen=True)
class Snapshot:
    """A corpus's files as of one moment.

    Attributes:
        generation: which one, from 1; it only grows.
        files: their bytes, by name.
    """

    generation: int
    files: Mapping[str, bytes]


class Vault:
    """The sealed files of one corpus."""

    def __init__(self, folder: Path, header: KeyHeader, key: CorpusKey) -> None:
        """Made by `create` and `open`."""
        self.folder = folder
        self._header = header
        self._key = key

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether there is one in `folder`."""
        try:
            return (folder / _HEADER).exists()
        except OSError:  # nobody may look, or the name is too long: opening it, or making it, says so
            return False

    @classmethod
    def create(cls, folder: Path, passphrase: str | None = None, *, key: bytes | None = None) -> "Vault":
        """Make an empty one in `folder`, which must not be there yet or be empty. Raises `CorpusError`.

        Args:
            folder: where.
            passphrase: what its key is sealed with; without one and without `key`, a random one beside the folder.
            key: 32 secret bytes in place of a passphrase, for whoever keeps them in a key store.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            message = f"{folder} is a file: a corpus is a folder"
            raise CorpusError(message) from None
        except OSError as error:
            message = f"{folder} cannot be made: {error.strerror}"
            raise CorpusError(message) from error
        with _lock(folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if cls.exists(folder):  # another process was quicker
                return cls.open(folder, passphrase, key=key)
            if any(path.name != _LOCK and not _OURS.fullmatch(path.name) for path in folder.iterdir()):
                message = f"{folder} is no corpus, and not empty: a new corpus needs a folder of its own"
                raise CorpusError(message)
            own = ContentKey.generate()
            header = KeyHeader.fresh("passphrase" if key is None else "key")
            header = header.around(own, _outer_key(folder, header, passphrase, key, make=True))
            write_whole(folder / _HEADER, header.to_bytes())
        return cls(folder, header, CorpusKey(header.corpus, own))

    @classmethod
    def open(cls, folder: Path, passphrase: str | None = None, *, key: bytes | None = None) -> "Vault":
        """Open the one in `folder`. Raises `CorpusError`, also where passphrase or key are not its own."""
        try:
            header = KeyHeader.from_bytes(_read(folder / _HEADER, KeyHeader.most_bytes))
        except FileNotFoundError:
            message = f"{folder} is no corpus: `blindgate rag add` makes one"
            raise CorpusError(message) from None
        except MalformedError as error:
            message = f"{folder}: {_HEADER} is damaged: {error}"
            raise CorpusError(message) from error
        outer = _outer_key(folder, header, passphrase, key, make=False)
        return cls(
            folder, header, header.opened(outer, where=str(folder), else_try=without_passphrase(folder, passphrase))
        )

    def generation(self) -> int:
        """The number of the generation that is there; 0 before the first."""
        current = self._current()
        return 0 if current is None else current.generation

    def read(self) -> Snapshot | None:
        """All files, as of one moment; `None` before the first were written. Raises `CorpusError` for what does not open."""
        for _ in range(_READS):
            current = self._current()
            if current is None:
                return None
            try:
                files = {name: self._file(name, ref, current.generation) for name, ref in current.files.items()}
            except FileNotFoundError:  # a writer was quicker
                time.sleep(0.01)
                continue
            return Snapshot(current.generation, files)
        message = f"{self.folder}: the files that {_CURRENT} names are not there"
        raise CorpusError(message)

    @contextlib.contextmanager
    def writing(self, *, wait: float = 10.0) -> Iterator[None]:
        """Keep every other writer out. Raises `CorpusBusyError` where another one does not end within `wait` seconds."""
        until = time.monotonic() + wait
        with _lock(self.folder) as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        message = f"{self.folder}: another process is writing to this corpus; try again when it is done"
                        raise CorpusBusyError(message) from None
                    time.sleep(0.05)
            self._clear()
            yield

    def write(self, files: Mapping[str, bytes]) -> int:
        """Replace all files with these, and give their generation. Only inside `writing`."""
        generation = self.generation() + 1
        refs = {}
        try:
            for name, data in files.items():
                sealed = self._key.seal(name, generation, data)
                write_whole(self._path(name, generation), sealed)
                refs[name] = _FileRef(digest=digest(sealed), size=len(sealed))
            current = _Current(generation=generation, files=refs)
            write_whole(self.folder / _CURRENT, self._key.seal(_CURRENT, 0, current.to_bytes()))
        finally:
            self._clear()  # where a disk was full, too: what was written so far is in everybody's way
        return generation

    def change_passphrase(self, passphrase: str) -> None:
        """Seal the corpus's key with another passphrase; inside `writing`. Copies of before open with the one of before."""
        header = self._header.salted()
        outer = header.outer_key(require_passphrase(passphrase))
        self._header = header.around(self._key.content, outer)
        write_whole(self.folder / _HEADER, self._header.to_bytes())
        if (own := own_passphrase_file(self.folder)).is_file():
            own.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"Vault({str(self.folder)!r})"

    def _path(self, name: str, generation: int) -> Path:
        return self.folder / f"{generation}-{name}"

    def _opened(self, name: str, sealed: bytes, generation: int) -> bytes:
        return self._key.open(name, generation, sealed, where=str(self.folder))

    def _current(self) -> _Current | None:
        try:
            sealed = _read(self.folder / _CURRENT, 2 * _MOST_SMALL_BYTES)
        except FileNotFoundError:
            if not self.exists(self.folder):
                message = f"{self.folder}: the corpus is not there any more; it was moved, deleted, or its disk is gone"
                raise CorpusError(message) from None
            return None
        try:
            return _Current.from_bytes(self._opened(_CURRENT, sealed, 0))
        except MalformedError as error:
            message = f"{self.folder}: {_CURRENT} is of another release: {error}"
            raise CorpusError(message) from error

    def _file(self, name: str, ref: _FileRef, generation: int) -> bytes:
        sealed = _read(self._path(name, generation), ref.size)
        if digest(sealed) != ref.digest:
            message = f"{self.folder}: {self._path(name, generation).name} is not the file that {_CURRENT} names"
            raise CorpusError(message)
        return self._opened(name, sealed, generation)

    def _clear(self) -> None:
        """Delete of our own what no generation names: of the one before, and what a process that died left."""
        current = self._current()
        kept = set() if current is None else {self._path(name, current.generation).name for name in current.files}
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in kept and path.is_file():
                path.unlink(missing_ok=True)


def _lock(folder: Path) -> BinaryIO:
    """The file that a writer holds. Raises `CorpusError` where nobody can write there."""
    try:
        return (folder / _LOCK).open("ab")
    except OSError as error:
        message = f"{folder}: the corpus cannot be written: {error.strerror}"
        raise CorpusError(message) from error


def _outer_key(folder: Path, header: KeyHeader, passphrase: str | None, key: bytes | None, *, make: bool) -> bytes:
    """The key that seals the corpus's own."""
    if key is not None:
        if not isinstance(key, bytes):
            message = f"key is a {type(key).__name__}: expected {SECRET_BYTES} bytes"
            raise InputError(message)
        if len(key) != SECRET_BYTES:
            message = f"a corpus's key has {SECRET_BYTES} bytes, got {len(key)}"
            raise CorpusError(message)
        if header.key_from != "key":
            message = f"{folder} was made with a passphrase, and opens with it"
            raise CorpusError(message)
        return key
    if header.key_from == "key":
        message = f"{folder} was made with a key of a key store, and opens with it"
        raise CorpusError(message)
    if passphrase is None:
        return header.outer_key(own_passphrase(folder, make=make))
    return header.outer_key(require_passphrase(passphrase) if make else passphrase)


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= most else b""
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise CorpusError(message) from error
    if size > most:
        message = f"{path} has {size} bytes, and at most {most} are expected"
        raise CorpusError(message)
    return data

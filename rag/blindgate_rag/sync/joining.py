"""Coming to a corpus that lies elsewhere: finding its key, or making it.

The key's header comes with the head, so that a passphrase is all that another machine needs; here it is kept beside the cache, so
that the corpus opens without asking anybody. A new corpus is put before it is used, empty: of two machines that make one of the
same name at once, one finds the other's.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import CorpusError, MalformedError, NotFoundError
from blindgate_rag.corpus_keys import (
    CorpusKey,
    KeyHeader,
    own_passphrase,
    own_passphrase_file,
    require_passphrase,
    without_passphrase,
    write_whole,
)
from blindgate_rag.sync.exchange import fetched_head, first_head
from blindgate_rag.sync.heads import header_of
from blindgate_rag.sync.remote import Remote

_HEADER: Final = "key.json"
_LOCK: Final = ".lock"  # no corpus is called so
_TRIES: Final = 3


@dataclass(frozen=True)
class Joining:
    """A corpus, by name, that is to be opened with a passphrase; `None` for its own, which lies beside the folder."""

    folder: Path
    name: str
    remote: Remote
    passphrase: str | None

    def known(self) -> tuple[KeyHeader, CorpusKey]:
        """Header and key, of what is here alone. Raises `CorpusError`."""
        header = kept_header(self.folder)
        if header is None:
            message = f"nothing of the corpus {self.name!r} is on this machine yet: open it once with its gateway"
            raise CorpusError(message)
        return header, self._opened(header)

    def found(self, *, create: bool) -> tuple[KeyHeader, CorpusKey]:
        """Header and key, of what is here or there; or of a new corpus. Raises `CorpusError`."""
        if (kept := kept_header(self.folder)) is None:
            with self._alone():
                if (kept := kept_header(self.folder)) is None:  # no other process was quicker
                    return self._joined(create=create)
        try:
            return kept, self._opened(kept)
        except CorpusError:
            there = self._there()  # another machine may have changed the passphrase
            if there is None or there == kept or there.corpus != kept.corpus:
                raise
            return self._keep(there)

    def keep(self, header: KeyHeader) -> None:
        """Keep the header that the key rests in from now on."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.folder / _HEADER, header.to_bytes())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep out every other process that comes to a corpus here: each would make a passphrase, and the last one's would stay."""
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder.parent / _LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _joined(self, *, create: bool) -> tuple[KeyHeader, CorpusKey]:
        """Header and key, of what is there; or of a new corpus."""
        for _ in range(_TRIES):
            if (there := self._there()) is not None:
                return self._keep(there)
            if not create:
                message = (
                    f"the gateway has no corpus {self.name!r}: `blindgate rag add gateway:{self.name} …` makes one"
                )
                raise CorpusError(message)
            if (made := self._made()) is not None:
                return made
        message = f"corpus {self.name!r}: the gateway says that there is one, and shows none"
        raise CorpusError(message)

    def _there(self) -> KeyHeader | None:
        for _ in range(_TRIES):
            if (ref := self.remote.head()) is None:
                return None
            with contextlib.suppress(NotFoundError):  # replaced in between
                return header_of(fetched_head(self.remote, ref))
        message = f"corpus {self.name!r}: the gateway names a head, and does not have it"
        raise CorpusError(message)

    def _keep(self, header: KeyHeader) -> tuple[KeyHeader, CorpusKey]:
        key = self._opened(header)
        self.keep(header)
        return header, key

    def _made(self) -> tuple[KeyHeader, CorpusKey] | None:
        own, header = ContentKey.generate(), KeyHeader.fresh("passphrase")
        passphrase = (
            own_passphrase(self.folder, make=True) if self.passphrase is None else require_passphrase(self.passphrase)
        )
        header = header.around(own, header.outer_key(passphrase))
        key = CorpusKey(header.corpus, own)
        if not first_head(self.remote, self.name, key, header):
            return None
        self.keep(header)
        return header, key

    def _opened(self, header: KeyHeader) -> CorpusKey:
        what, file = f"corpus {self.name!r}", own_passphrase_file(self.folder)
        if self.passphrase is not None:
            hint = without_passphrase(self.folder, self.passphrase)
            return header.opened(header.outer_key(self.passphrase), where=what, else_try=hint)
        if not file.exists():
            message = (
                f"{what}: it is sealed with a passphrase that this machine does not have: give it, or set "
                "BLINDGATE_CORPUS_PASSPHRASE. If none was given when it was made, a random one lies on that machine, as "
                f"{file.name} in a folder of `corpora` in Blindgate's home: copy that file from there to {file}. Or choose one "
                f"there, by `blindgate rag passphrase gateway:{self.name}`"
            )
            raise CorpusError(message)
        return header.opened(header.outer_key(own_passphrase(self.folder, make=False)), where=f"{what}, by {file}")


def kept_header(folder: Path) -> KeyHeader | None:
    """The key's header that is kept in a cache's folder. Raises `CorpusError` where it is damaged."""
    path = folder / _HEADER
    try:
        return KeyHeader.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except MalformedError as error:
        message = f"{path} is damaged: {error}"
        raise CorpusError(message) from error

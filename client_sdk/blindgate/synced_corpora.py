"""Corpora of one's own that rest, sealed, at the gateway: `blindgate_rag.sync`, over the wire.

    corpus = client.corpus("notes", passphrase=…)
    corpus.add("reports/")
    hits = corpus.search("…", k=8)

The gateway keeps blobs that it cannot read, and a name for them. What it gives is held to digests, seals and what this client has
seen (`SeenCorpora`) before any of it is used. The cache lies in the client's home, one folder for each gateway and name.
"""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from blindgate.attested_corpus import AttestedCorpus
from blindgate.transport import Transport
from blindgate.uploads import AT_ONCE, upload
from blindgate_protocol.errors import CorpusError, GatewayError, InputError, MalformedError, NotFoundError
from blindgate_protocol.messages import CorpusList, CorpusRequest, CorpusView, ModelOffer
from blindgate_protocol.values import NAME, BlobRef, Digest, Size, Value
from blindgate_rag.corpus_keys import ENDING, own_passphrase_file, write_whole
from blindgate_rag.sync.corpus import SyncedCorpus
from blindgate_rag.sync.exchange import fetched_head
from blindgate_rag.sync.heads import SeenHead, header_of
from blindgate_rag.sync.joining import kept_header
from blindgate_rag.sync.remote import Traffic

_CHANGED: Final = "corpus-changed"
_T = TypeVar("_T")
_R = TypeVar("_R")


class GatewayBlobs:
    """One corpus at a gateway, by its name: what `blindgate_rag.sync` calls a `Remote`."""

    def __init__(self, transport: Transport, name: str) -> None:
        """Reach it by `transport`."""
        self._transport, self._path = transport, f"/v1/corpora/{name}"
        self.traffic = Traffic()

    def head(self) -> BlobRef | None:
        """Which head there is now."""
        try:
            return self._transport.get(self._path, CorpusView).head
        except NotFoundError:
            return None

    def fetch(self, blobs: Sequence[BlobRef]) -> list[bytes]:
        """Blobs of the present head, each of its size."""
        found = _at_once(lambda ref: self._transport.download(f"{self._path}/blobs/{ref.digest}", ref.size), blobs)
        told = self.traffic
        size = told.fetched_bytes + sum(map(len, found))
        self.traffic = replace(told, fetched=told.fetched + len(found), fetched_bytes=size)
        return found

    def store(self, blobs: Sequence[bytes]) -> None:
        """Upload blobs."""
        _at_once(lambda blob: upload(self._transport, blob), blobs)
        told = self.traffic
        self.traffic = replace(told, put=told.put + len(blobs), put_bytes=told.put_bytes + sum(map(len, blobs)))

    def replace(self, head: BlobRef, shards: Sequence[BlobRef], *, instead_of: str | None) -> bool:
        """Put a head in place of the one that is named."""
        request = CorpusRequest(head=head, shards=tuple(shards), instead_of=instead_of)
        try:
            self._transport.put_message(self._path, request, CorpusView)
        except GatewayError as error:
            if error.problem == _CHANGED:
                return False
            raise
        return True


class _Seen(Value):
    generation: Size
    digest: Digest


class SeenCorpora:
    """The newest head of each corpus that this client took in or put, by the corpus's own id, which no gateway chooses."""

    _FILE = TypeAdapter(dict[str, _Seen])

    def __init__(self, path: Path) -> None:
        """Keep them in `path`, which is made on first use."""
        self._path = path

    def newest(self, corpus: str) -> SeenHead | None:
        """The newest head of the corpus with this id. Raises `MalformedError` when the file is damaged."""
        seen = self._read().get(corpus)
        return None if seen is None else SeenHead(seen.generation, seen.digest)

    def remember(self, corpus: str, head: SeenHead) -> None:
        """Remember a head, unless a newer one is remembered. Raises `CorpusError` where that cannot be written down."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen = self._read()
            if corpus not in seen or seen[corpus].generation < head.generation:
                seen[corpus] = _Seen(generation=head.generation, digest=head.digest)
                write_whole(self._path, self._FILE.dump_json(seen, indent=1))

    def forget(self, corpus: str) -> None:
        """Forget what was seen of a corpus: whatever its gateway shows next is taken."""
        if corpus not in self._read():
            return
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen = self._read()
            seen.pop(corpus, None)
            write_whole(self._path, self._FILE.dump_json(seen, indent=1))

    def _read(self) -> dict[str, _Seen]:
        try:
            return self._FILE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            message = f"{self._path} is damaged: it guards against corpora that are set back, so it is not ignored"
            raise MalformedError(message) from error


class SyncedCorpora:
    """The tenant's corpora that rest at the gateway."""

    def __init__(self, transport: Transport, home: Path) -> None:
        """Reach them by `transport`, with caches under `home`."""
        self._transport, self._home = transport, home
        self._seen = SeenCorpora(home / "corpora.json")

    def open(self, name: str, **options: Any) -> SyncedCorpus:
        """One of them, or a new one. `options` are those of `SyncedCorpus.join`."""
        folder, remote = self._folder(name), GatewayBlobs(self._transport, name)
        return SyncedCorpus.join(folder, name, remote, self._seen, **options)

    def attested(self, name: str, **options: Any) -> AttestedCorpus:
        """One of them, to be searched inside of a node that was judged. `options` are those of `AttestedCorpus.join`."""
        folder, remote = self._folder(name), GatewayBlobs(self._transport, name)
        return AttestedCorpus.join(folder, name, remote, self._seen, **options)

    def is_here(self, name: str) -> bool:
        """Whether this machine has opened one that is called so."""
        return kept_header(self._folder(name)) is not None

    def generation(self, name: str) -> int | None:
        """The newest that this machine has seen of one: what to tell another machine, beside the passphrase. `None` before that."""
        header = kept_header(self._folder(name))
        seen = None if header is None else self._seen.newest(header.corpus)
        return None if seen is None else seen.generation

    def passphrase_file(self, name: str) -> Path:
        """Where on this machine the random passphrase lies of one that was made without; it need not be there."""
        return own_passphrase_file(self._folder(name))

    def is_there(self, name: str) -> bool:
        """Whether the tenant has one that is called so, by the gateway's word."""
        self._folder(name)  # which refuses what is no name
        return GatewayBlobs(self._transport, name).head() is not None

    def is_hosted(self, name: str) -> bool:
        """Whether somebody hosts one that is called so, by the gateway's word."""
        self._folder(name)
        try:
            self._transport.get(f"/v1/models/{name}", ModelOffer)
        except NotFoundError:
            return False
        return True

    def list(self) -> tuple[CorpusView, ...]:
        """What the gateway has, by name."""
        return self._transport.get("/v1/corpora", CorpusList).corpora

    def delete(self, name: str) -> bool:
        """Delete one at the gateway, for every machine, and what this machine has of it.

        What this machine has of a name stays where that is not what lies there, or nobody can tell: another was made under the name
        of one that the gateway had lost, and this may be the last copy (`SyncedCorpus.put_back`).

        Gives whether nothing of the name is here any more. Raises `NotFoundError`.
        """
        folder = self._folder(name)
        keeps = self._has_another(folder, name)
        self._transport.delete(f"/v1/corpora/{name}")
        if not keeps:
            self._drop(folder)
            own_passphrase_file(folder).unlink(missing_ok=True)
        return not keeps

    def forget(self, name: str) -> Path | None:
        """Delete what this machine has of one, and what it has seen of it: it is fetched again, as if for the first time.

        Changes that did not go up are lost. A passphrase that was made for it stays: without it nobody opens what is fetched.

        Returns where that lies; `None` where there is none. Raises `CorpusError` where there is nothing.
        """
        folder = self._folder(name)
        if not folder.exists():
            message = f"nothing of the corpus {name!r} is on this machine"
            raise CorpusError(message)
        self._drop(folder)
        made = own_passphrase_file(folder)
        return made if made.exists() else None

    def _has_another(self, folder: Path, name: str) -> bool:
        """Whether this machine has something of the name that is not, for all that can be told, what lies there."""
        kept, remote = kept_header(folder), GatewayBlobs(self._transport, name)
        if kept is None or (ref := remote.head()) is None:
            return False
        try:
            return header_of(fetched_head(remote, ref)).corpus != kept.corpus
        except (NotFoundError, CorpusError):
            return True

    def _drop(self, folder: Path) -> None:
        if (header := kept_header(folder)) is not None:
            self._seen.forget(header.corpus)
        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, name: str) -> Path:
        """Where its cache lies. The gateway's word (its tenant's name, say) is not in it."""
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            expected = "1 to 64 of a to z, 0 to 9, and dots, dashes and underscores inside"
            message = f"not a corpus's name: {name!a:.100}; it has {expected}"
            raise InputError(message)
        gateway = hashlib.sha256(self._transport.url.encode()).hexdigest()[:16]
        # the passphrase of a corpus `a` lies as `a.passphrase` beside it; no name has a `~`
        return self._home / "corpora" / gateway / (name + "~" if name.endswith(ENDING) else name)


def _at_once(do: Callable[[_T], _R], things: Sequence[_T]) -> list[_R]:
    """What comes of each, in order, several at the same time. The first error is raised, once what had begun is over."""
    if len(things) <= 1:
        return [do(thing) for thing in things]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="corpus") as pool:
        doing = [pool.submit(do, thing) for thing in things]
        try:
            return [future.result() for future in doing]
        finally:
            for future in doing:
                future.cancel()

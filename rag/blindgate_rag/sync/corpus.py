"""A corpus that lies elsewhere, sealed, and is searched here: its cache is a corpus of this machine.

*Before* anything is read or changed it is asked which head there is. A newer one is fetched, opened and held to what was seen
(`heads`), then the shards that are new, and each of those; only when all of it holds, the cache becomes that (`state`).

*A change* is made in the cache first, which rests as every corpus does. Then the shards that are others now go up, and a head that
names all, in place of the one that was taken in. Where somebody else was quicker, theirs is taken in and this is tried again. So
whoever is killed on the way leaves the old head or the new one, and loses nothing: what did not go up goes up with the next change.

A search sends nothing of the question, and fetches the same for every question.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, Self, cast

from blindgate_protocol.content_key import SECRET_BYTES
from blindgate_protocol.errors import CorpusBusyError, CorpusError, GatewayError
from blindgate_rag.corpus import Corpus
from blindgate_rag.corpus_keys import own_passphrase_file, require_passphrase
from blindgate_rag.embedding import Embedder
from blindgate_rag.hits import Hits, Leakage, Learned
from blindgate_rag.records import DocumentRecord, PassageRecord, Where
from blindgate_rag.searching import Ranking, checked_ranking
from blindgate_rag.state import State
from blindgate_rag.sync.exchange import Exchange
from blindgate_rag.sync.heads import Seen
from blindgate_rag.sync.joining import Joining
from blindgate_rag.sync.remote import Remote, Traffic
from blindgate_rag.sync.state import SyncedState
from blindgate_rag.vault import Vault

PROFILE: Final = "sealed-sync"
_CACHE: Final = "cache"
_QUOTA: Final = "quota"
_MOMENT: Final = 0.5
_LONG: Final = 10.0


class SyncedCorpus(Corpus):
    """Documents, found by what they say; kept, sealed, elsewhere. Used as a `Corpus` is; `join` makes one."""

    _state_type: ClassVar[type[State]] = SyncedState

    def __init__(
        self,
        vault: Vault,
        embedder: Embedder | None,
        *,
        exchange: Exchange,
        offline: bool = False,
        show_progress: bool | None = None,
    ) -> None:
        """Made by `join`."""
        super().__init__(vault, embedder, show_progress=show_progress)
        self._exchange = exchange
        self._offline = offline
        self._told = Traffic()

    @classmethod
    def join(  # noqa: PLR0913
        cls,
        folder: Path,
        name: str,
        remote: Remote,
        seen: Seen,
        *,
        passphrase: str | None = None,
        embedder: Embedder | None = None,
        ranking: Ranking | None = None,
        create: bool = True,
        offline: bool = False,
        at_least: int = 0,
        show_progress: bool | None = None,
    ) -> Self:
        """Open the corpus that lies at `remote`, with a cache in `folder`, or make an empty one there.

        Args:
            folder: of the cache, for this corpus alone.
            name: what it is called there.
            remote: where it lies.
            seen: what this client has seen of its corpora.
            passphrase: what its key is sealed with, everywhere; without one, a random one that is kept beside the folder.
            embedder: what gives texts their vectors, MiniLM by default.
            ranking: from now on, by what passages are ranked.
            create: make one where there is none.
            offline: ask nobody: what is in the cache is searched, and changes stay there until it is opened otherwise.
            at_least: take no older generation than this, which another machine has seen (`generation`): a machine that has seen
                nothing cannot tell an old state from the newest.
            show_progress: of adding.

        Raises `InputError` for an unknown ranking, `CorpusError`, `RolledBackCorpusError` among them, and `GatewayError` where
        nobody can be asked.
        """
        if ranking is not None:
            checked_ranking(ranking)  # before anything is made: every machine would have it
        joining = Joining(folder, name, remote, passphrase)
        header, key = joining.known() if offline else joining.found(create=create)
        outer, cache = key.content.derive(b"blindgate corpus cache v1", length=SECRET_BYTES), folder / _CACHE
        vault = Vault.open(cache, key=outer) if Vault.exists(cache) else Vault.create(cache, key=outer)
        exchange = Exchange(name, key, header, remote, seen, joining.keep, at_least)
        corpus = cls(vault, embedder, exchange=exchange, offline=offline, show_progress=show_progress)
        corpus._look()
        exchange.check_recent(corpus.generation)
        if ranking is not None and ranking != corpus.ranking:
            with corpus._writing() as state:
                state.set("ranking", ranking)
        return corpus

    @property
    def name(self) -> str:
        """What it is called where it lies."""
        return self._exchange.name

    @property
    def generation(self) -> int:
        """Of what was last taken in or put; 0 before that."""
        with self._turn:
            base = self._here().base
            return 0 if base is None else base.head.generation

    def search(
        self,
        query: str,
        k: int | None = None,
        *,
        where: Where | None = None,
        ranking: Ranking | None = None,
        tokens: int | None = None,
    ) -> Hits:
        """The passages that fit a question best, as `Corpus.search`; what is newer is fetched first.

        Raises also what `join` does.
        """
        with self._turn:
            self._look()
            hits = super().search(query, k, where=where, ranking=ranking, tokens=tokens)
            return Hits(hits.found, self._leakage())

    def documents(self, where: Where | None = None) -> list[DocumentRecord]:
        """The documents that are there now, or those whose metadata is so."""
        with self._turn:
            self._look()
            return super().documents(where)

    def document(self, source: str) -> tuple[DocumentRecord, list[PassageRecord]] | None:
        """The document that is called so, as it is now, and all of its passages; `None` where there is none."""
        with self._turn:
            self._look()
            return super().document(source)

    def sync(self) -> int:
        """Take in what is newer, and put what was changed here and did not go up. Gives the generation that there is now."""
        with self._turn:
            with self._writing():
                pass
            return self.generation

    def put_back(self) -> int:
        """Put what this machine has in place of what lies there, where that is older, or gone. Gives its generation.

        For a gateway that was restored from a backup, or lost it: open with `offline`. Machines that know a newer state than this
        one refuse it. Raises `CorpusError` where another corpus lies there.
        """
        with self._turn:
            with self._vault.writing(), self._undone():
                state = self._here()
                self._exchange.put_back(state)
                state.write(self._vault)
            return self.generation

    def change_passphrase(self, passphrase: str) -> None:
        """Seal the corpus's key with another passphrase from now on, here and where it lies.

        The corpus's own key stays: whoever kept an old head, and has the old passphrase, opens with them whatever follows.
        """
        if self._offline:
            message = f"corpus {self.name!r} is open offline: its passphrase is changed where it lies"
            raise CorpusError(message)
        require_passphrase(passphrase)
        with self._turn, self._header_or_before(), self._writing():
            header = self._exchange.header.salted()
            header = header.around(self._exchange.key.content, header.outer_key(passphrase))
            self._exchange.change_header(header)
        if self._exchange.header != header:
            message = f"corpus {self.name!r}: another machine changed the passphrase at this moment, and that one holds"
            raise CorpusError(message)
        own_passphrase_file(self.path.parent).unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"SyncedCorpus({self.name!r})"

    def _here(self) -> SyncedState:
        """What is in the cache."""
        return cast("SyncedState", self._fresh())  # by `_state_type`

    def _look(self) -> None:
        """Take in what is newer, if anything is. Where another process of this machine writes to the cache now, that one has."""
        if self._offline or self._exchange.is_newest(self._here()):
            return
        is_known = self._here().base is not None
        try:
            with self._vault.writing(wait=_MOMENT if is_known else _LONG), self._undone():
                state = self._here()
                self._exchange.pull(state)
                state.write(self._vault)
        except CorpusBusyError:
            if not is_known:
                raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[State]:
        with self._vault.writing(), self._undone():
            state = self._here()
            if not self._offline:
                self._exchange.pull(state)
            yield state
            state.write(self._vault)
            if not self._offline:
                with self._kept_here():
                    self._exchange.push(state)
                state.write(self._vault)

    @contextlib.contextmanager
    def _kept_here(self) -> Iterator[None]:
        """Where the gateway takes no change, say what becomes of it."""
        try:
            yield
        except GatewayError as error:
            what = (
                "; delete what nobody needs, or ask the gateway's operator for more" if error.problem == _QUOTA else ""
            )
            kept = "nothing is lost: what was changed is on this machine, and goes up with the next change, or the same again"
            error.args = (f"{str(error).rstrip('.')}{what}. Corpus {self.name!r}: {kept}",)
            raise

    @contextlib.contextmanager
    def _header_or_before(self) -> Iterator[None]:
        """Where it fails, the key rests as before: a passphrase that was not changed does not come up with a later change."""
        before = self._exchange.header
        try:
            yield
        except BaseException as error:
            self._exchange.change_header(before)
            if isinstance(error, CorpusError | GatewayError):
                error.args = (f"{str(error).rstrip('.')}. The passphrase stays as it was: change it again",)
            raise

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Where it fails, what is in memory is forgotten: the cache is as it was last written."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _leakage(self) -> Leakage:
        """Who learnt what by this search, and by what went to and fro since the one before."""
        if self._offline:
            return Leakage(PROFILE)
        before, now = self._told, self._exchange.remote.traffic
        self._told, what = now, ["that this corpus was looked at, and when"]
        if blobs := now.fetched - before.fetched:
            what.append(f"that {blobs} blobs of {now.fetched_bytes - before.fetched_bytes} bytes together were fetched")
        if blobs := now.put - before.put:
            what.append(f"that {blobs} blobs of {now.put_bytes - before.put_bytes} bytes together were put")
        return Leakage(
            PROFILE, (Learned("the gateway", f"{'; '.join(what)}. Nothing of the question, nor of what was found"),)
        )

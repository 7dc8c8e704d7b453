"""A corpus of one's own that is searched elsewhere: in the memory of a node that proved what it is.

    corpus = client.corpus("notes", passphrase=…, profile="attested", model="minilm-search")
    hits = corpus.search("…", k=8)

For a corpus that is too large to fetch. It rests, sealed, at the gateway, and is written as `synced_corpora` writes it. Here

1. the policy is asked, for the classes of the question, before anything else;
2. the head is fetched, which is small, and held to what this client has seen, as by whoever fetches all of it: a gateway that
   brings back an old one is found out here;
3. it must be embedded by the model's own files, by digest;
4. its digest, the corpus's key and the question are sealed to nodes that were judged (`sealed_job`). The node fetches what the head
   names, and nothing else opens;
5. what comes back is read strictly, once everything about the answer held.

Neither the index nor the embedding model is needed on this machine. What it costs is said with each search: the node has the
corpus, the question and what was found in its memory, and in which pattern it reads that is not hidden inside of it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from blindgate.chat import failure_in
from blindgate.decisions import Said, beside
from blindgate.sealed_job import SealedJob, Sealing
from blindgate_protocol.corpus_search import CorpusHit, CorpusHits, CorpusQuery
from blindgate_protocol.errors import (
    CorpusError,
    ForkedCorpusError,
    InputError,
    MalformedError,
    NotFoundError,
    StaleCorpusError,
)
from blindgate_protocol.sealed_bodies import Failure, failure_of, read_line
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import BlobRef
from blindgate_rag.corpus_keys import CorpusKey
from blindgate_rag.hits import Hit, Hits, Leakage, Learned
from blindgate_rag.records import Where, choices
from blindgate_rag.searching import FOUND, Ranking, check_question, checked_ranking
from blindgate_rag.sync.exchange import fetched_head
from blindgate_rag.sync.heads import Placed, Seen, opened_head, require_recent
from blindgate_rag.sync.joining import Joining
from blindgate_rag.sync.remote import Remote

PROFILE: Final = "attested"
_TRIES: Final = 3
"""How often the head is asked for again where others change it meanwhile."""

SealingOf = Callable[[], Sealing]


class AttestedCorpus:
    """Documents, found by what they say, inside of a node that was judged. Searched as a `Corpus` is; `join` makes one.

    Attributes:
        job: of the last search; its bundle has order, receipt, the log's proof and the node's evidence.
    """

    def __init__(  # noqa: PLR0913  (what it takes to find it, to open it and to ask)
        self,
        name: str,
        key: CorpusKey,
        remote: Remote,
        seen: Seen,
        sealing: SealingOf,
        *,
        ranking: Ranking | None = None,
        at_least: int = 0,
        data_class: Said = None,
    ) -> None:
        """Made by `join`."""
        self.name = name
        self.job: SealedJob | None = None
        self._key, self._remote, self._seen, self._sealing = key, remote, seen, sealing
        self._ranking, self._at_least, self._data_class = ranking, at_least, data_class
        self._known: tuple[BlobRef, Placed] | None = None

    @classmethod
    def join(  # noqa: PLR0913
        cls,
        folder: Path,
        name: str,
        remote: Remote,
        seen: Seen,
        *,
        sealing: SealingOf,
        passphrase: str | None = None,
        ranking: Ranking | None = None,
        at_least: int = 0,
        data_class: Said = None,
    ) -> Self:
        """Open the corpus that lies at `remote`.

        Args:
            folder: where its key's header is kept on this machine, and the passphrase of one whose owner gave none.
            name: what it is called there.
            remote: where it lies.
            seen: what this client has seen of its corpora.
            sealing: gives what it takes to seal to the model that searches it.
            passphrase: what its key is sealed with.
            ranking: by what passages are ranked; by default what the corpus has.
            at_least: take no older generation than this, which another machine has seen.
            data_class: what kind of data the corpus and its questions are, by the policy's name for it.

        Raises `CorpusError` where there is none, and for another passphrase; `RolledBackCorpusError` for an older one than there
        has to be; `InputError` for an unknown ranking.
        """
        if ranking is not None:
            checked_ranking(ranking)
        _, key = Joining(folder, name, remote, passphrase).found(create=False)
        corpus = cls(name, key, remote, seen, sealing, ranking=ranking, at_least=at_least, data_class=data_class)
        corpus._head()
        return corpus

    @property
    def generation(self) -> int:
        """Of the head that was looked at last."""
        return 0 if self._known is None else self._known[1].head.generation

    def search(  # noqa: PLR0913  (what a corpus is asked with)
        self,
        query: str,
        k: int | None = None,
        *,
        where: Where | None = None,
        ranking: Ranking | None = None,
        tokens: int | None = None,
        data_class: Said = None,
        timeout: float | None = None,
    ) -> Hits:
        """The passages that fit a question best, as `Corpus.search`, found by a node that was judged.

        Args:
            query: the question, or words.
            k: how many, 1 to 1,000, and 8 where it is not said; fewer are given where there are no more.
            where: only documents whose metadata is so.
            ranking: by what; by default what was said when it was opened, or what the corpus has.
            tokens: no more text than this, in the embedding model's tokens.
            data_class: what kind of data this is, in place of what was said when it was opened.
            timeout: seconds for the answer; without it, until the order's deadline.

        Raises `InputError` for what cannot be asked, `PolicyError` or `UntrustedEvidenceError` before anything is sealed,
        `CorpusError` for a head that does not hold and for a corpus that the node does not take, and what `SealedJob.pieces` does.
        """
        k = FOUND if k is None else k
        check_question(query, k, where, ranking, tokens)
        sealing, said = self._sealing(), self._data_class if data_class is None else data_class
        # 1.
        sealing.allowed(said)
        stale: StaleCorpusError | None = None
        for _ in range(_TRIES):
            before = None if self._known is None else self._known[0]
            # 2.
            ref, placed = self._head()
            if (
                stale is not None and before == ref
            ):  # the head that the node was not given is still the one that is shown
                raise stale
            # 3.
            self._require_embedder(placed, sealing)
            asked = self._query(ref, query, k, where=where, ranking=ranking or self._ranking, tokens=tokens)
            # 4.
            self.job = sealing.ask(asked.model_dump_json(exclude_none=True).encode(), data_class=said)
            # 5.
            try:
                return Hits(_read(self.job.answer(timeout), k), _leakage(sealing.manifest.document.name))
            except StaleCorpusError as error:
                stale = error
        assert stale is not None  # noqa: S101
        raise stale

    @property
    def classes(self) -> Mapping[str, str]:
        """The classes of data that were said when it was opened, each with what has it."""
        return beside(self._data_class)

    def of_class(self, data_class: str | None) -> "AttestedCorpus":
        """The same corpus, whose questions are of this class of data, beside what was said when it was opened."""
        classes = beside(self._data_class, data_class)
        given = (self.name, self._key, self._remote, self._seen, self._sealing)
        return AttestedCorpus(*given, ranking=self._ranking, at_least=self._at_least, data_class=classes or None)

    def close(self) -> None:
        """Nothing is held that would have to be given back: what the node keeps open, it closes by itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"AttestedCorpus({self.name!r})"

    def _head(self) -> tuple[BlobRef, Placed]:
        """Step 2."""
        for _ in range(_TRIES):
            ref = self._remote.head()
            if ref is None:
                message = f"the gateway has no corpus {self.name!r} any more: it was deleted, or the gateway lost it"
                raise CorpusError(message)
            if self._known is not None and self._known[0] == ref:
                return self._known
            try:
                blob = fetched_head(self._remote, ref)
            except NotFoundError:  # replaced in between
                continue
            placed = opened_head(self._key, self.name, blob, seen=(self._seen.newest(self._key.corpus),))
            require_recent(self.name, placed.head.generation, self._at_least)
            self._seen.remember(self._key.corpus, placed.seen)
            self._known = ref, placed
            return self._known
        message = f"corpus {self.name!r}: the gateway names a head, and does not have it"
        raise CorpusError(message)

    def _require_embedder(self, placed: Placed, sealing: Sealing) -> None:
        document, settings = sealing.manifest.document, placed.head.settings
        found = settings.get("embedder", document.server.digest)
        if found != document.server.digest:
            message = (
                f"corpus {self.name!r} was embedded by {settings.get('embedder-name')} ({found}), and model {document.name!r} "
                f"embeds by {document.server.digest}: vectors of two do not compare. Take a model of the files of the first"
            )
            raise CorpusError(message)

    def _query(  # noqa: PLR0913
        self,
        head: BlobRef,
        query: str,
        k: int,
        *,
        where: Where | None,
        ranking: Ranking | None,
        tokens: int | None,
    ) -> CorpusQuery:
        given = {
            "corpus": self._key.corpus,
            "name": self.name,
            "head": head,
            "key": self._key.content.secret().hex(),
            "query": query,
            "k": k,
            "where": None if where is None else {name: choices(wanted) for name, wanted in where.items()},
            "ranking": ranking,
            "tokens": tokens,
        }
        try:
            return CorpusQuery.model_validate(given)
        except ValidationError as error:
            raise InputError(first_error(error)) from None


def _read(answer: bytes, k: int) -> tuple[Hit, ...]:
    """The hits in an answer. Raises what the node refused, `MalformedError` for what is no answer to `k`."""
    line, _, rest = answer.partition(b"\n")
    if rest:
        message = "the answer has bytes behind what was found"
        raise MalformedError(message)
    value = read_line(line)
    if (failed := failure_of(value)) is not None:
        raise _refused(failed, value)
    try:
        hits = CorpusHits.model_validate_json(line).hits
    except ValidationError as error:
        message = f"what was found is malformed: {first_error(error)}"
        raise MalformedError(message) from error
    if len(hits) > k or len({one.passage for one in hits}) != len(hits):
        message = f"{len(hits)} passages were given, expected at most {k}, each once"
        raise MalformedError(message)
    return tuple(map(_hit, hits))


def _refused(failed: Failure, value: Mapping[str, object]) -> Exception:
    for kind in (CorpusError, StaleCorpusError, ForkedCorpusError):
        if failed.code == kind.code:
            return kind(f"the node refuses the corpus: {failed.message}")
    return failure_in(dict(value)) or InputError(failed.message)


def _hit(one: CorpusHit) -> Hit:
    return Hit(
        text=one.text,
        source=one.source,
        page=one.page,
        score=one.score,
        metadata=one.metadata,
        passage=one.passage,
        tokens=one.tokens,
    )


def _leakage(model: str) -> Leakage:
    enclave = (
        "the question, what was found, and the whole corpus, which it has open in its memory: which of it a search reads, and how "
        "long that takes, is hidden from nobody who can watch that memory"
    )
    gateway = (
        f"that there was a search by model {model!r}, when, how large question and answer are, padded as the policy has it, and "
        "which blobs of which corpus the node fetched for it. Nothing of the question, nor of what was found"
    )
    return Leakage(PROFILE, (Learned("the enclave", enclave), Learned("the gateway", gateway)))

"""A corpus that somebody else owns and hosts, searched without telling anybody what for.

    corpus = client.corpus("pubmed")
    hits = corpus.search("contraindications of …", k=8)

It is two models of one publisher: an index of its passages' vectors (`search`), and a table of the passages (`lookup`). Taking it:

1. both manifests and client parts are checked as those of any model (`Client.model`);
2. the index's client part says which table is its own, by the digest of that manifest, and that very version is taken: a gateway
   cannot pair it with another, and while an owner publishes both anew the one of before goes on;
3. it says by which model the passages were embedded. A question is embedded by that very model, on this machine, or not at all.

Searching, always in the same steps and with the same sizes, whatever is asked, found or wanted:

4. the gateway is asked how many searches are left, of index and of table: where the fetch would be refused, no search is spent
   on scores. Then the question's vector goes encrypted to a node, and the exact score of every passage comes back;
5. the best are picked here, among those that `where` allows; as many records as the owner fixed are fetched by positions that are
   encrypted, too, those that are not wanted as nothing;
6. each record is held against its digest in the client part, and the score that it was picked by against its text, which is
   embedded for that (`hosted_scores`). What does not hold is left out (`Hits.missing`);
7. of passages that say the same the best one stays, as in a corpus of one's own.

Step 5 is sent whatever step 4 decrypted to, and nothing is sent once a record was looked at: a node that alters a score or a
record sees no difference. What *you* then do could be one: see `Hits.missing` in docs/adr/0033-hosted-indexes.md. A node can still
keep a passage from being found, by a score that is too low: nobody sees that.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from blindgate.decisions import Said, beside
from blindgate.hosted_filters import Offered
from blindgate.hosted_records import opened
from blindgate.hosted_scores import are_true
from blindgate.model import Model
from blindgate_models.lookup.spec import NOTHING
from blindgate_models.search.hosted import EmbedderRef, HostedCorpus
from blindgate_protocol.errors import BudgetSpentError, CorpusError, InputError, PackageError
from blindgate_rag.cleaning import cleaned
from blindgate_rag.embedding import MINILM_DIGEST, Embedder
from blindgate_rag.fusion import distinct, within_budget
from blindgate_rag.hits import Hits, Leakage, Learned
from blindgate_rag.records import Where
from blindgate_rag.searching import FOUND, Ranking, check_count, check_query, check_tokens

PROFILE: Final = "encrypted-query"


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """How many searches of a corpus a tenant may make in all.

    Attributes:
        asked: how many it has made, in the gateway's words.
        allowed: how many there are, in the owner's; `None` for as many as it likes.
    """

    asked: int
    allowed: int | None

    @property
    def left(self) -> int | None:
        """How many more; `None` for as many as it likes."""
        return None if self.allowed is None else max(0, self.allowed - self.asked)

    def __str__(self) -> str:
        if self.allowed is None:
            return f"{self.asked} searches were made, and no number is set"
        return f"{self.left} of {self.allowed} searches are left"


class EncryptedCorpus:
    """A hosted corpus, as its asker holds it: a `blindgate_rag.Searchable`. Made by `Client.corpus`."""

    def __init__(  # noqa: PLR0913  (made by open_corpus)
        self,
        index: Model,
        passages: Model,
        hosted: HostedCorpus,
        digests: Sequence[bytes],
        *,
        embedder: Embedder | None,
        data_class: Said,
        timeout: float | None,
    ) -> None:
        """Made by `open_corpus`. Raises `PackageError` where what the owner offers to filter by does not hold."""
        self._index = index
        self._passages = passages
        self._hosted = hosted
        self._digests = digests
        self._offered = Offered.of(hosted.filters, len(digests))
        self._embedder = embedder
        self._data_class = data_class
        self._timeout = timeout

    @property
    def name(self) -> str:
        """Its name at the gateway."""
        return self._index.name

    @property
    def most_found(self) -> int:
        """The most passages that a search may ask for: as many as every search fetches."""
        return self._hosted.fetches

    @property
    def filter_by(self) -> tuple[str, ...]:
        """The fields of documents' metadata that `where` may name, as its owner offers them. Every asker reads their values."""
        return self._offered.fields

    @property
    def embedder(self) -> Embedder:
        """What gives questions their vectors; opened when it is asked for first."""
        if self._embedder is None:
            self._embedder = Embedder.default()
        return self._embedder

    @property
    def budget(self) -> SearchBudget:
        """How many searches this tenant has made, and how many it may. Asks the gateway."""
        most = [
            rows // each
            for model, each in self._each
            if (rows := model.manifest.document.privacy.rows_per_tenant) is not None
        ]
        asked = max(math.ceil(model.rows_asked / each) for model, each in self._each)
        return SearchBudget(asked, min(most, default=None))

    def search(
        self,
        query: str,
        k: int | None = None,
        *,
        where: Where | None = None,
        ranking: Ranking | None = None,
        tokens: int | None = None,
    ) -> Hits:
        """The passages whose vectors are nearest to the question's, by exact inner products of eight bits; the best first.

        Args:
            query: the question. What is longer than the embedding model reads is represented by how it begins.
            k: how many, 1 to `most_found`, and 8 or that where it is not said; fewer are given where there are no more, and where
                some say the same.
            where: only passages of documents whose metadata is so; by fields of `filter_by`. Nobody learns of it, so that a search
                that allows no passage is made as any other.
            ranking: is refused: words cannot be looked for under encryption.
            tokens: no more text than this, in the embedding model's tokens.

        Raises `InputError` for what cannot be asked, before anything is sent; `BudgetSpentError`; and what `Model.search` does.
        """
        check_query(query)
        k = min(FOUND, self.most_found) if k is None else k
        check_count(k, self.most_found, ", as its owner fixed it")
        check_tokens(tokens)
        if ranking is not None:
            message = f"ranking: corpus {self.name!r} is ranked as its owner made it, by vectors"
            raise InputError(message)
        allowed = None if where is None else self._offered.allowed(where, self.name)
        until = math.inf if self._timeout is None else time.monotonic() + self._timeout
        vector = self.embedder.embed_questions([cleaned(query)])
        # 4.
        left = self._with_one_more()
        nearest = self._index.search(vector, len(self), timeout=_left(until), data_class=self._data_class)
        # 5.
        ranked, scores = nearest.ids[0], nearest.scores[0]
        if allowed is not None:
            ranked, scores = ranked[allowed[ranked]], scores[allowed[ranked]]
        places = [int(place) for place in ranked[:k]]
        wanted = places + [NOTHING] * (self._hosted.fetches - len(places))
        records = self._passages.fetch(wanted, timeout=_left(until), data_class=self._data_class)
        # 6.
        found = [
            hit
            for record, place, score in zip(records, places, scores, strict=False)
            if (hit := opened(record, self._digests[place], float(score))) is not None
        ]
        vectors = self.embedder.embed([hit.text for hit in found], truncate=True)
        true = are_true(self._index, vector, np.array([hit.score for hit in found]), vectors)
        held = [number for number in range(len(found)) if true[number]]
        # 7.
        texts = {number: found[number].text for number in held}
        best = distinct(held, texts, {number: vectors[number] for number in held})
        if tokens is not None:
            best = within_budget(best, lambda number: found[number].tokens, tokens)
        leakage = self._leakage(len(places), left)
        return Hits(tuple(found[one] for one in best), leakage, missing=len(places) - len(held))

    @property
    def classes(self) -> Mapping[str, str]:
        """The classes of data that were said when it was opened, each with what has it."""
        return beside(self._data_class)

    def of_class(self, data_class: str | None) -> Self:
        """The same corpus, whose questions are of this class of data, beside what was said when it was opened."""
        return type(self)(
            self._index,
            self._passages,
            self._hosted,
            self._digests,
            embedder=self._embedder,
            data_class=beside(self._data_class, data_class) or None,
            timeout=self._timeout,
        )

    def close(self) -> None:
        """Give back nothing: the client's connections are the client's."""

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self._digests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EncryptedCorpus({self.name!r}, version={self._index.manifest.document.version})"

    @property
    def _each(self) -> tuple[tuple[Model, int], tuple[Model, int]]:
        """Both models, and how many rows of each a search takes."""
        return (self._index, 1), (self._passages, self._hosted.fetches)

    def _with_one_more(self) -> SearchBudget:
        """What is left once this search was made. Raises `BudgetSpentError` where it may not be."""
        budget = self.budget
        if budget.left == 0:
            message = (
                f"corpus {self.name!r} gives a tenant {budget.allowed} searches in all, and {budget.asked} were made, each by "
                f"{self.most_found} rows of {self._passages.name!r} as well: nothing was sent"
            )
            raise BudgetSpentError(message)
        return SearchBudget(budget.asked + 1, budget.allowed)

    def _leakage(self, count: int, left: SearchBudget) -> Leakage:
        asked = "that a question was asked, and when, and how many"
        learned = [
            Learned("the gateway", f"{asked}, and by which tenant"),
            Learned(
                "the node",
                f"{asked}, and by which tenant; it can keep a passage from being found, and nobody sees that",
            ),
            Learned("the corpus's owner, who may run either", asked),
            Learned("you", f"the exact scores of all {len(self)} passages, and the text of {count}: {left}"),
        ]
        if self.filter_by:
            learned.append(Learned("everybody who may ask", f"{', '.join(self.filter_by)} of every passage's document"))
        return Leakage(PROFILE, tuple(learned))


def open_corpus(
    take: Callable[[str, str | None], Model],
    name: str,
    *,
    embedder: Embedder | None = None,
    data_class: str | None = None,
    timeout: float | None = None,
) -> EncryptedCorpus:
    """Take a hosted corpus (steps 1 to 3). See `Client.corpus`.

    `take` gives a model that was checked, by its name: the latest version, or the one whose manifest has a digest. Raises
    `InputError`, `PackageError`, `CorpusError`, and what it does.
    """
    index = take(name, None)  # 1.
    hosted = index.corpus
    if hosted is None:
        message = f"model {name!r} is no corpus that could be searched by text: 'blindgate rag host' makes one"
        raise InputError(message)
    passages = take(hosted.passages, hosted.manifest)  # 2.
    if passages.manifest.signer != index.manifest.signer:
        message = (
            f"corpus {name!r} is signed by {index.manifest.signer}, and its passages by {passages.manifest.signer}"
        )
        raise PackageError(message)
    digests = hosted.record_digests(index.manifest.document.scores().scores)
    _require_table(passages, len(digests), hosted.fetches)
    _require_embedder(name, hosted.embedder, MINILM_DIGEST if embedder is None else embedder.digest)  # 3.
    return EncryptedCorpus(index, passages, hosted, digests, embedder=embedder, data_class=data_class, timeout=timeout)


def _require_table(passages: Model, entries: int, fetches: int) -> None:
    document = passages.manifest.document
    if document.scores().task != "lookup" or document.columns[0].maximum != entries - 1:
        message = f"passages {passages.name!r}: expected a table of {entries} records, one for each entry of the index"
        raise PackageError(message)
    if document.limits.rows_per_job < fetches:
        message = (
            f"passages {passages.name!r}: a job fetches at most {document.limits.rows_per_job}, and a search {fetches}"
        )
        raise PackageError(message)


def _require_embedder(name: str, wanted: EmbedderRef, digest: str) -> None:
    if digest != wanted.digest:
        message = (
            f"corpus {name!r} was embedded by {wanted.name} ({wanted.digest}), and this is {digest}: open that model, with "
            "Embedder.open(folder) or --embedder"
        )
        raise CorpusError(message)


def _left(until: float) -> float | None:
    return None if math.isinf(until) else max(0.0, until - time.monotonic())

"""A corpus as LangChain knows such things: `CorpusRetriever`, `CorpusVectorStore`, `CorpusEmbeddings`. Needs the extra `langchain`.

    retriever = CorpusRetriever(corpus=corpus, k=8, where={"ward": "3B"})
    store = CorpusVectorStore(corpus)
    store.add_texts(["Aspirin must not be combined with warfarin."], [{"ward": "3B"}], ids=["blood"])

*The retriever* gives passages, as `Corpus.search` ranks them, each with where it is from (`metadata`). What else a search says, who
could have learnt what and how many passages came back spoilt, is the custom event `blindgate_search` of its run (`told`), for a
handler's `on_custom_event` and for `astream_events`. A store's searches have no run, so nobody is told of theirs.

*The store* is for code that adds and deletes by id. An id is what the corpus calls a document, a text that was added or a file.
A document that is one passage is found as it was added: its id, its text, its own metadata and nothing else. Of a longer one the
passages are found, one by one, as the retriever gives them: `metadata["source"]` is the id of the whole, and they have none
themselves, so that a piece that is added again never takes the place of the document that it is from. `get_by_ids` gives the whole.

A corpus embeds with the model that it was made with, and nobody hands it vectors: a store is not searched by a vector. What says
the same as something better is left out, as in every search of a corpus. Texts come back with runs of white space as one.

Nothing here opens a socket. LangChain itself does where it is told to trace: with `LANGSMITH_TRACING` set, it sends questions and
passages to LangSmith.
"""

import functools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import numpy as np
from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from blindgate_protocol.errors import InputError
from blindgate_rag.adapters.given import checked_corpus
from blindgate_rag.adapters.metadata import passage_metadata
from blindgate_rag.adapters.told import EVENT, search_told
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from blindgate_rag.hits import Hit, Hits
from blindgate_rag.records import Where
from blindgate_rag.searchable import Searchable
from blindgate_rag.searching import Ranking, check_count

_T = TypeVar("_T")
_SEARCH: Final = ("filter", "ranking", "tokens")


class CorpusRetriever(BaseRetriever):
    """Passages of a corpus, the best first. Each field may also be given to `invoke`, for that call.

    Attributes:
        corpus: an open one, wherever it lives: `Corpus.open(…)`, or `client.corpus(…)`.
        k: how many passages, 1 to 1,000; of one that somebody hosts, 1 to its `most_found`. 8, or those, where it is not said.
        where: only documents whose metadata is so.
        ranking: by what; `None` is what the corpus has.
        tokens: no more text than this, in the embedding model's tokens.
    """

    corpus: Searchable
    k: int | None = None
    where: Where | None = None
    ranking: Ranking | None = None
    tokens: int | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, **asked: Any
    ) -> list[Document]:
        hits = self._search(query, asked)
        told = search_told(self.corpus.name, hits)
        if run_manager is not None:
            dispatch_custom_event(EVENT, told, config={"callbacks": run_manager.get_child()})
        return [_passage(hit) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **asked: Any
    ) -> list[Document]:
        hits = await run_in_executor(None, self._search, query, asked)
        told = search_told(self.corpus.name, hits)
        if run_manager is not None:
            await adispatch_custom_event(EVENT, told, config={"callbacks": run_manager.get_child()})
        return [_passage(hit) for hit in hits]

    def _search(self, query: str, asked: dict[str, Any]) -> Hits:
        own = {"k": self.k, "where": self.where, "ranking": self.ranking, "tokens": self.tokens}
        _check_names(asked, own)
        return self.corpus.search(query, **{**own, **asked})


class CorpusEmbeddings(Embeddings):
    """The model that a corpus embeds with. It runs here, and opens no socket."""

    def __init__(self, corpus: Corpus) -> None:
        """Of an open corpus. The model is opened when something is embedded."""
        self.corpus = corpus

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, of unit length. Raises `InputError` for one that is longer than the model reads."""
        return [[float(number) for number in vector] for vector in self.corpus.embedder.embed(texts)]

    def embed_query(self, text: str) -> list[float]:
        """A question's vector; one that is longer than the model reads is represented by how it begins."""
        return [float(number) for number in self.corpus.embedder.embed_questions([text])[0]]


class CorpusVectorStore(VectorStore):
    """A corpus whose documents are added, found and deleted by id; see this module's beginning."""

    def __init__(self, corpus: Corpus) -> None:
        """Over an open corpus, whatever is in it already. Raises `InputError` for what is none."""
        self.corpus = checked_corpus(corpus, Corpus)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        corpus: Corpus | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add texts to `corpus`, which must be given. `embedding` is its own: `CorpusEmbeddings(corpus)`."""
        corpus = checked_corpus(corpus, Corpus)
        if not isinstance(embedding, CorpusEmbeddings) or embedding.corpus.embedder.digest != corpus.embedder.digest:
            message = f"embedding: {corpus.path} was made with {corpus.embedder.name}: give CorpusEmbeddings(corpus)"
            raise InputError(message)
        store = cls(corpus)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @property
    def embeddings(self) -> CorpusEmbeddings:
        """The model that the corpus embeds with."""
        return CorpusEmbeddings(self.corpus)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,  # noqa: ARG002  (see below)
    ) -> list[str]:
        """Add texts, all in one write, and give their ids; one whose id is there takes its place.

        Args:
            texts: each with some text in it.
            metadatas: one a text: texts, numbers, true or false by name.
            ids: one a text; a random one is made where it is `None`, or none are given. Of one that is given twice the last counts.
            kwargs: not looked at; LangChain's `index` gives a batch size.

        Raises `InputError` and `DocumentError`; nothing of what was given is added then, unless it was minutes of work.
        """
        given = _listed("texts", texts)
        said = [{}] * len(given) if metadatas is None else _listed("metadatas", metadatas)
        names = [None] * len(given) if ids is None else _listed("ids", ids)
        if not len(given) == len(said) == len(names):
            message = f"there are {len(given)} texts, {len(said)} metadatas and {len(names)} ids: one of each is needed a text"
            raise InputError(message)
        kept = [str(uuid.uuid4()) if name is None else _checked(name) for name in names]
        if given:
            self.corpus.add_texts(map(Text, kept, given, said))
        return kept

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents, their text and their vectors, in one write; `None` stands for all. What is not there is no error."""
        _check_names(kwargs, ())
        gone = [one.source for one in self.corpus.documents()] if ids is None else _listed("ids", ids)
        if gone:
            self.corpus.remove(*gone)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Whole documents, in this order, each once; those that are not there are left out. Passages begin on new lines."""
        found = ((name, self.corpus.document(name)) for name in dict.fromkeys(map(_checked, _listed("ids", ids))))
        return [
            Document(id=name, page_content="\n".join(one.text for one in passages), metadata=dict(record.metadata))
            for name, (record, passages) in ((name, one) for name, one in found if one is not None)
        ]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """What fits a question best, the best first.

        Args:
            query: the question, or words.
            k: how many, 1 to 1,000.
            kwargs: `filter`: only documents whose metadata is so, as `where` of `Corpus.search`; `ranking` and `tokens`, as there.

        Raises `InputError` for what cannot be asked.
        """
        return [self._document(hit) for hit in self._search(query, k, kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """`similarity_search` with scores, higher is better: cosines where `ranking="dense"`, else only good for the order."""
        return [(self._document(hit), hit.score) for hit in self._search(query, k, kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Of the `fetch_k` that fit best, `k` that also differ from each other: the less `lambda_mult`, 0 to 1, the more."""
        check_count(k)
        check_count(fetch_k, name="fetch_k")
        if not isinstance(lambda_mult, int | float) or not 0 <= lambda_mult <= 1:
            message = f"lambda_mult is {lambda_mult!a:.100}: expected a number from 0 to 1"
            raise InputError(message)
        hits = self._search(query, max(k, fetch_k), kwargs)
        vectors = self.corpus.embedder.embed([hit.text for hit in hits], truncate=True)
        asked = np.array(self.embeddings.embed_query(query), dtype=np.float32)
        chosen = maximal_marginal_relevance(asked, list(vectors), lambda_mult=lambda_mult, k=k) if hits else []
        return [self._document(hits[one]) for one in chosen]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        # A share from 0 to 1 is asked for, and of all scores only a cosine says as much of two searches.
        if kwargs.get("ranking") not in (None, "dense"):
            message = (
                f"ranking: {kwargs['ranking']!a:.100} gives no relevance from 0 to 1: leave it out, or say 'dense'"
            )
            raise InputError(message)
        found = self.similarity_search_with_score(query, k, **{**kwargs, "ranking": "dense"})
        return [(document, min(max(score, 0.0), 1.0)) for document, score in found]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        ask = functools.partial(self._similarity_search_with_relevance_scores, query, k, **kwargs)
        return await run_in_executor(None, ask)

    def _search(self, query: str, k: int, asked: dict[str, Any]) -> Hits:
        _check_names(asked, _SEARCH)
        rest = {name: value for name, value in asked.items() if name != "filter"}
        return self.corpus.search(query, k, where=asked.get("filter"), **rest)

    def _document(self, hit: Hit) -> Document:
        whole = self.corpus.document(hit.source)
        if whole is None or len(whole[1]) > 1:
            return _passage(hit)
        return Document(id=hit.source, page_content=hit.text, metadata=dict(hit.metadata))


def _passage(hit: Hit) -> Document:
    return Document(page_content=hit.text, metadata=passage_metadata(hit))


def _listed(what: str, given: Iterable[_T]) -> list[_T]:
    """What was given, as a list. A text would be taken for its letters: each would be added, or none deleted."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        message = f"{what}: got a {type(given).__name__}, expected a list"
        raise InputError(message)
    return list(given)


def _checked(name: object) -> str:
    if not isinstance(name, str) or not name:
        message = f"ids: {name!a:.100}: an id is a text that is not empty, or None"
        raise InputError(message)
    return name


def _check_names(asked: Iterable[str], known: Iterable[str]) -> None:
    """Refuse what a misspelt filter would otherwise do: find, or delete, everything."""
    for name in asked:
        if name not in known:
            message = f"{name}: there is no such argument; known are {', '.join(known) or 'none'}"
            raise InputError(message)

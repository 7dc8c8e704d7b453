"""A corpus as LlamaIndex's retriever. Needs the extra `llamaindex`.

    nodes = CorpusRetriever(corpus, k=8, where={"ward": "3B"}).retrieve("contraindications of …")

A node is a passage, with where it is from in its metadata (`metadata`). A model that is given nodes reads `source`, `page` and what
their documents' owners said of them; `score` and `passage` are for citations, and are kept from it.

What else a search says, who could have learnt what and how many passages came back spoilt, is a `CorpusSearchEvent` of LlamaIndex's
instrumentation (`get_dispatcher().add_event_handler(…)`).
"""

import asyncio
from typing import Any, Final

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # as LlamaIndex documents it
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from blindgate_rag.adapters.given import checked_corpus
from blindgate_rag.adapters.metadata import OURS, passage_metadata
from blindgate_rag.adapters.told import search_told
from blindgate_rag.hits import Hit
from blindgate_rag.records import Where
from blindgate_rag.searchable import Searchable
from blindgate_rag.searching import Ranking

_FOR_CITATIONS = ["score", "passage"]
_DISPATCHER: Final = get_dispatcher(__name__)


class CorpusSearchEvent(BaseEvent):
    """A corpus was searched.

    Attributes:
        corpus: what it is called.
        profile: where its index lives: `local`, or one of the remote profiles.
        learned: who could have learnt what: each has `who` and `what`. Empty where nobody could.
        missing: how many more were found whose text did not come back as its owner wrote it.
    """

    corpus: str
    profile: str
    learned: list[dict[str, str]]
    missing: int

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "CorpusSearchEvent"


class CorpusRetriever(BaseRetriever):
    """Passages of a corpus, the best first."""

    def __init__(  # noqa: PLR0913
        self,
        corpus: Searchable,
        *,
        k: int | None = None,
        where: Where | None = None,
        ranking: Ranking | None = None,
        tokens: int | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Over an open corpus.

        Args:
            corpus: an open one, wherever it lives: `Corpus.open(…)`, or `client.corpus(…)`.
            k: how many passages, 1 to 1,000; of one that somebody hosts, 1 to its `most_found`. 8, or those, where it is not said.
            where: only documents whose metadata is so.
            ranking: by what; `None` is what the corpus has.
            tokens: no more text than this, in the embedding model's tokens.
            callback_manager: LlamaIndex's.

        Raises `InputError` for what is no corpus; retrieving, for what cannot be asked.
        """
        super().__init__(callback_manager=callback_manager)
        self._corpus = checked_corpus(corpus, Searchable)  # type: ignore[type-abstract]  # a protocol
        self._k, self._where, self._ranking, self._tokens = k, where, ranking, tokens

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._corpus.search(
            query_bundle.query_str, self._k, where=self._where, ranking=self._ranking, tokens=self._tokens
        )
        told: dict[str, Any] = search_told(self._corpus.name, hits)
        _DISPATCHER.event(CorpusSearchEvent(**told))
        return [NodeWithScore(node=self._node(hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Hit) -> TextNode:
        return TextNode(
            # passages of two corpora may meet in one answer, and nodes of one id count as one
            id_=f"{self._corpus.name}/{hit.source}#{hit.passage}",
            text=hit.text,
            metadata=passage_metadata(hit),
            excluded_llm_metadata_keys=_FOR_CITATIONS,
            excluded_embed_metadata_keys=list(OURS),
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.source)},
        )

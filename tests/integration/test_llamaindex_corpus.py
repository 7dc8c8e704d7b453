"""A corpus as LlamaIndex's retriever: MiniLM's real weights, no socket, nothing downloaded."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # as LlamaIndex documents it
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import MetadataMode, QueryBundle
from pydantic import Field

from blindgate_protocol.errors import InputError
from blindgate_rag.adapters.llamaindex import CorpusRetriever, CorpusSearchEvent
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from local_sockets import LocalSocket

NOTES = [
    Text("cough", "The patient of bed 4 has had a cough for three weeks. Tea with honey was given.", {"ward": "3B"}),
    Text("blood", "Aspirin must not be combined with warfarin: both thin the blood.", {"ward": "3B", "page": 7}),
    Text("visits", "Visiting hours are from two to four.", {"ward": "4A"}),
    Text("diary", "\n\n".join(f"Day {day}: the patient slept well and ate {day} apples." for day in range(80))),
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Which event loop asynchronous tests run in."""
    return "asyncio"


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """A corpus with documents."""
    with Corpus.open(tmp_path_factory.mktemp("corpora") / "notes.bgc", key=bytes(32)) as made:
        made.add_texts(NOTES)
        yield made


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a socket to anywhere else fails."""
    monkeypatch.setattr(socket, "socket", LocalSocket)


@pytest.mark.anyio
async def test_nodes_are_the_passages_that_a_search_finds(notes: Corpus) -> None:
    """With their scores, and with where they are from; both ways of calling."""
    retriever = CorpusRetriever(notes, k=3)
    hits = notes.search("what goes badly with blood thinners?", k=3)
    for found in (
        retriever.retrieve("what goes badly with blood thinners?"),
        await retriever.aretrieve(QueryBundle("what goes badly with blood thinners?")),
    ):
        assert [(one.text, one.score) for one in found] == [(hit.text, hit.score) for hit in hits]
        assert (found[0].metadata["source"], found[0].metadata["passage"]) == ("blood", hits[0].passage)
        assert found[0].node.ref_doc_id == "blood"


def test_a_model_reads_where_a_passage_is_from_and_its_owner_cannot_say_otherwise(notes: Corpus) -> None:
    """The document's own `page` has another name; what only citations need is not read."""
    (found,) = CorpusRetriever(notes, k=1).retrieve("warfarin")
    assert (found.metadata["page"], found.metadata["document.page"]) == (None, 7)
    read = found.node.get_content(MetadataMode.LLM)
    assert NOTES[1].text in read
    assert "source: blood" in read
    assert "ward: 3B" in read
    assert "score" not in read
    assert "passage" not in read


def test_every_passage_of_a_long_document_is_a_node_of_its_own(notes: Corpus) -> None:
    """LlamaIndex drops nodes of one id."""
    found = CorpusRetriever(notes, k=8, ranking="bm25").retrieve("the patient slept and ate apples")
    diary = [one for one in found if one.metadata["source"] == "diary"]
    assert len(diary) > 1
    assert len({one.node_id for one in diary}) == len(diary)


def test_a_retriever_keeps_to_what_it_was_told(notes: Corpus) -> None:
    """Where it may look, how much it may give, and what cannot be asked."""
    (found,) = CorpusRetriever(notes, where={"ward": "4A"}, ranking="dense").retrieve("warfarin")
    assert found.metadata["source"] == "visits"
    assert CorpusRetriever(notes, tokens=1).retrieve("warfarin") == []
    with pytest.raises(InputError, match="k is 0"):
        CorpusRetriever(notes, k=0).retrieve("warfarin")


class Listener(BaseEventHandler):
    """Keeps what LlamaIndex tells."""

    told: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **_: Any) -> None:
        """Keep it."""
        self.told.append(event)


def test_whoever_listens_is_told_who_could_learn_what_of_a_search(
    notes: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an event of LlamaIndex's instrumentation."""
    dispatcher, listener = get_dispatcher(), Listener()
    monkeypatch.setattr(dispatcher, "event_handlers", [*dispatcher.event_handlers, listener])
    CorpusRetriever(notes, k=1).retrieve("warfarin")
    (told,) = (one for one in listener.told if isinstance(one, CorpusSearchEvent))
    assert (told.corpus, told.profile, told.learned, told.missing) == ("notes.bgc", "local", [], 0)

"""A corpus under LangChain's own standard tests, and what they do not ask. MiniLM's real weights, no socket.

Asynchronous tests run by anyio's plugin, which langchain-core brings.
"""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from blindgate_protocol.errors import DocumentError, InputError
from blindgate_rag.adapters.langchain import CorpusEmbeddings, CorpusRetriever, CorpusVectorStore
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from blindgate_rag.embedding import Embedder
from blindgate_rag.hits import Hits, Leakage, Learned
from local_sockets import LocalSocket

NOTES = [
    Text("cough", "The patient of bed 4 has had a cough for three weeks. Tea with honey was given.", {"ward": "3B"}),
    Text(
        "blood", "Aspirin must not be combined with warfarin: both thin the blood.", {"ward": "3B", "source": "Dr. Who"}
    ),
    Text("visits", "Visiting hours are from two to four.", {"ward": "4A", "year": 2024}),
]
LONG = "\n\n".join(
    f"Day {day}: the patient slept well, ate {day} apples and walked to the window." for day in range(60)
)


class RememberingEmbedder(Embedder):
    """Embeds a text once: the same few stand in most of these tests, and MiniLM takes a tenth of a second for each."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._known: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}

    def _encode(self, texts: list[str], *, question: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
        if new := [text for text in texts if text not in self._known]:
            self._known |= zip(new, super()._encode(new, question=question), strict=True)
        return np.stack([self._known[text] for text in texts])


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    return RememberingEmbedder.default()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Which event loop asynchronous tests run in."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a socket to anywhere else fails."""
    monkeypatch.setattr(socket, "socket", LocalSocket)


@pytest.fixture
def corpus(tmp_path: Path, embedder: Embedder) -> Iterator[Corpus]:
    """One without documents."""
    with Corpus.open(tmp_path / "notes.bgc", key=bytes(32), embedder=embedder) as made:
        yield made


@pytest.fixture
def notes(corpus: Corpus) -> Corpus:
    """The same with documents."""
    corpus.add_texts(NOTES)
    return corpus


class HostedCorpus:
    """One whose searches somebody learns of, and which spoils one passage of each."""

    def __init__(self, notes: Corpus) -> None:
        self._notes, self.name = notes, "pubmed"

    def search(self, query: str, k: int | None = None, **asked: Any) -> Hits:
        """As of the notes, without the second."""
        hits = self._notes.search(query, k, **asked)
        return Hits(hits.found[:1], Leakage("encrypted", (Learned("the node", "that a query was made"),)), missing=1)

    def close(self) -> None:
        """Nothing to close."""


class Listener(BaseCallbackHandler):
    """Keeps custom events."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        """Keep it."""
        self.told.append((name, data))


@pytest.mark.anyio
async def test_whoever_listens_is_told_who_could_learn_what_and_what_was_spoilt(
    notes: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    """As an event of the retriever's run, both ways of calling; what is missing is in the log as well."""
    retriever, listener = CorpusRetriever(corpus=HostedCorpus(notes), k=2), Listener()
    assert len(retriever.invoke("warfarin", {"callbacks": [listener]})) == 1
    assert len(await retriever.ainvoke("warfarin", {"callbacks": [listener]})) == 1
    told = {"learned": [{"who": "the node", "what": "that a query was made"}], "profile": "encrypted", "missing": 1}
    assert listener.told == [("blindgate_search", {"corpus": "pubmed", **told})] * 2
    assert [
        event["name"] async for event in retriever.astream_events("tea") if event["event"] == "on_custom_event"
    ] == ["blindgate_search"]
    assert "pubmed: 1 more were found" in caplog.text
    caplog.clear()
    CorpusRetriever(corpus=notes).invoke("warfarin", {"callbacks": [listener]})
    assert listener.told[-1][1] == {"corpus": "notes.bgc", "profile": "local", "learned": [], "missing": 0}
    assert caplog.text == ""


@pytest.fixture
def store(notes: Corpus) -> CorpusVectorStore:
    """That one as a store."""
    return CorpusVectorStore(notes)


@pytest.mark.anyio
class TestStandardRetriever(RetrieversIntegrationTests):
    """LangChain's tests of a retriever."""

    @pytest.fixture(autouse=True)
    def _corpus(self, notes: Corpus) -> None:
        self._notes = notes

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        """What is tested."""
        return CorpusRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """What it is made with."""
        return {"corpus": self._notes}

    @property
    def retriever_query_example(self) -> str:
        """A question."""
        return "what goes badly with blood thinners?"


@pytest.mark.anyio
class TestStandardVectorStore(VectorStoreIntegrationTests):
    """LangChain's tests of a vector store."""

    @pytest.fixture
    def vectorstore(self, corpus: Corpus) -> VectorStore:
        """A store without documents. Their embedding of random numbers is not used: a corpus has its own."""
        return CorpusVectorStore(corpus)


def test_a_passage_says_where_it_is_from_and_its_owner_cannot_say_otherwise(notes: Corpus) -> None:
    """A document's own `source` is there under another name."""
    hit = notes.search("warfarin", k=1)[0]
    notes.add_texts([Text("twice", "Ibuprofen and lithium.", {"source": "a", "document.source": "b", "page": 7})])
    (found,) = CorpusRetriever(corpus=notes, k=1).invoke("warfarin")
    assert found.page_content == NOTES[1].text
    assert found.metadata == {
        "source": "blood",
        "page": None,
        "score": pytest.approx(hit.score),
        "passage": hit.passage,
        "ward": "3B",
        "document.source": "Dr. Who",
    }
    (twice,) = CorpusRetriever(corpus=notes, k=1).invoke("lithium")
    own = {name: value for name, value in twice.metadata.items() if name.startswith("document.")}
    assert own == {"document.source": "b", "document.document.source": "a", "document.page": 7}
    assert (twice.metadata["source"], twice.metadata["page"]) == ("twice", None)


@pytest.mark.anyio
async def test_a_retriever_keeps_to_its_fields_and_a_call_to_its_own(notes: Corpus) -> None:
    """Both ways of calling; what is misspelt is refused, since it would otherwise find everything."""
    retriever = CorpusRetriever(corpus=notes, where={"ward": "4A"}, ranking="dense")
    for found in (retriever.invoke("warfarin"), await retriever.ainvoke("warfarin")):
        assert [one.metadata["source"] for one in found] == ["visits"]
    wards = {"ward": ["3B", "4A"]}
    for found in (retriever.invoke("warfarin", where=wards), await retriever.ainvoke("warfarin", where=wards)):
        assert len(found) == 3
    assert len(await retriever.ainvoke("warfarin", where=wards, k=2)) == 2
    assert CorpusRetriever(corpus=notes, where={"year": 2024}).invoke("warfarin")[0].metadata["year"] == 2024
    assert CorpusRetriever(corpus=notes, tokens=1).invoke("warfarin") == []
    with pytest.raises(InputError, match="were: there is no such argument"):
        retriever.invoke("warfarin", were={"ward": "4A"})
    with pytest.raises(InputError, match="k is 0"):
        retriever.invoke("warfarin", k=0)


def test_a_store_finds_only_what_its_filter_lets_it(store: CorpusVectorStore) -> None:
    """Also through `as_retriever`; and a misspelt filter is refused."""
    assert {one.id for one in store.similarity_search("warfarin", filter={"ward": "3B"})} == {"cough", "blood"}
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"ward": ["4A"]}})
    assert [one.id for one in retriever.invoke("warfarin")] == ["visits"]
    with pytest.raises(InputError, match="where: there is no such argument; known are filter, ranking, tokens"):
        store.similarity_search("warfarin", where={"ward": "3B"})


@pytest.mark.anyio
async def test_relevance_is_from_0_to_1_and_can_be_asked_for(store: CorpusVectorStore) -> None:
    """By cosine, whatever the corpus ranks by."""
    found = store.similarity_search_with_relevance_scores("Aspirin with warfarin thins the blood", k=3)
    assert found == await store.asimilarity_search_with_relevance_scores("Aspirin with warfarin thins the blood", k=3)
    assert found[0][0].id == "blood"
    assert found[0][1] > 0.7 > found[1][1] >= found[2][1] >= 0
    sure = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.7})
    assert [one.id for one in sure.invoke("Aspirin with warfarin thins the blood")] == ["blood"]
    with pytest.raises(InputError, match="gives no relevance"):
        store.similarity_search_with_relevance_scores("warfarin", ranking="bm25")


@pytest.mark.anyio
async def test_what_is_found_may_be_asked_to_differ(store: CorpusVectorStore) -> None:
    """The second that is found is another subject than the first."""
    store.add_texts(["Warfarin must not be taken with aspirin, which thins blood."], ids=["again"])
    near = store.similarity_search("aspirin and warfarin", k=2, ranking="dense")
    assert {one.id for one in near} == {"blood", "again"}
    apart = store.max_marginal_relevance_search("aspirin and warfarin", k=2, lambda_mult=0.1, ranking="dense")
    assert apart[0] == near[0]
    assert apart[1].id in {"cough", "visits"}
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.1, "ranking": "dense"})
    assert await retriever.ainvoke("aspirin and warfarin") == apart


def test_of_a_long_text_its_passages_are_found_and_it_is_given_and_deleted_whole(store: CorpusVectorStore) -> None:
    """A piece has no id, so that what is added back never takes the place of the whole."""
    assert store.add_texts([LONG], [{"ward": "5"}], ids=["diary"]) == ["diary"]
    found = store.similarity_search("the patient ate 31 apples", k=2, filter={"ward": "5"}, ranking="bm25")
    assert len(found) == 2
    assert "31 apples" in found[0].page_content
    assert all(one.id is None and one.page_content in LONG for one in found)
    assert all(one.metadata["source"] == "diary" and one.metadata["ward"] == "5" for one in found)
    assert len({one.metadata["passage"] for one in found}) == 2
    (whole,) = store.get_by_ids(["diary", "diary", "nowhere"])
    assert whole.id == "diary"
    assert whole.page_content.split() == LONG.split()
    assert whole.metadata == {"ward": "5"}
    assert store.delete(["diary", "nowhere"]) is True
    assert store.get_by_ids(["diary"]) == []
    assert store.similarity_search("apples", filter={"ward": "5"}) == []
    assert store.delete() is True
    assert len(store.corpus) == 0


def test_a_file_is_no_text_to_be_replaced(store: CorpusVectorStore, tmp_path: Path) -> None:
    """It can be asked for and deleted by the name that it has in the corpus."""
    (tmp_path / "tea.txt").write_text("Camomile tea calms.")
    store.corpus.add(tmp_path / "tea.txt", {"ward": "6"})
    assert store.get_by_ids(["tea.txt"]) == [
        Document(id="tea.txt", page_content="Camomile tea calms.", metadata={"ward": "6"})
    ]
    with pytest.raises(InputError, match="name the text otherwise"):
        store.add_texts(["Green tea wakes."], ids=["tea.txt"])
    store.delete(["tea.txt"])
    assert store.get_by_ids(["tea.txt"]) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"texts": ["a", "b"], "ids": ["1"]}, "2 texts, 2 metadatas and 1 ids"),
        ({"texts": ["a"], "metadatas": [{}, {}]}, "1 texts, 2 metadatas and 1 ids"),
        ({"texts": ["a"], "ids": [""]}, "ids: ''"),
        ({"texts": ["a"], "ids": [7]}, "ids: 7"),
        ({"texts": ["a"], "metadatas": [{"beds": [1, 2]}]}, "'beds' is a list"),
        ({"texts": ["fine", " \n"], "ids": ["8", "9"]}, "there is no text in it"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_added(
    store: CorpusVectorStore, given: dict[str, Any], said: str
) -> None:
    """By name."""
    with pytest.raises((InputError, DocumentError), match=said):
        store.add_texts(**given)
    assert {one.source for one in store.corpus.documents()} == {"cough", "blood", "visits"}


def test_of_one_id_the_last_text_counts(store: CorpusVectorStore) -> None:
    """Also where it is the one that was there before."""
    assert store.add_texts(["Something else.", NOTES[0].text], ids=["cough", "cough"]) == ["cough", "cough"]
    assert store.get_by_ids(["cough"])[0].page_content == NOTES[0].text
    assert store.add_texts([]) == []


def test_a_store_is_made_of_texts_only_with_its_corpus_and_its_own_model(corpus: Corpus) -> None:
    """Vectors of another model would not compare."""
    documents = [Document(id="tea", page_content="Camomile tea calms.")]
    own = CorpusEmbeddings(corpus)
    made = CorpusVectorStore.from_documents(documents, own, corpus=corpus)
    assert made.similarity_search("tea") == documents
    assert made.embeddings.embed_query("tea") == pytest.approx(own.embed_documents(["tea"])[0], abs=1e-6)
    with pytest.raises(InputError, match="corpus: got a NoneType, expected an open one"):
        CorpusVectorStore.from_texts(["tea"], own)
    with pytest.raises(InputError, match="was made with"):
        CorpusVectorStore.from_texts(["tea"], DeterministicFakeEmbedding(size=6), corpus=corpus)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda store: store.add_texts("tea"), "texts: got a str, expected a list"),
        (lambda store: store.add_texts(["tea"], {"ward": "3B"}), "metadatas: got a dict"),
        (lambda store: store.add_texts(["tea"], ids="a"), "ids: got a str"),
        (lambda store: store.delete("cough"), "ids: got a str"),
        (lambda store: store.get_by_ids(["cough", []]), r"ids: \[\]: an id is a text"),
        (lambda store: store.max_marginal_relevance_search("tea", fetch_k="9"), "fetch_k is '9': 1 to 1000"),
        (lambda store: store.max_marginal_relevance_search("tea", 0), "k is 0"),
        (lambda store: store.max_marginal_relevance_search("tea", lambda_mult=float("nan")), "lambda_mult is nan"),
        (lambda _store: CorpusVectorStore("notes.bgc"), "corpus: got a str, expected an open one"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_list_or_number_is_refused_by_name(
    store: CorpusVectorStore, ask: Callable[[CorpusVectorStore], Any], says: str
) -> None:
    """A text is not taken for its letters: each was added, and of an id none was deleted, and all seemed well."""
    with pytest.raises(InputError, match=says):
        ask(store)
    assert len(store.corpus.documents()) == len(NOTES)


def test_langchains_index_adds_what_is_new_and_deletes_what_is_gone(store: CorpusVectorStore) -> None:
    """Its bookkeeping works on a corpus: the second time nothing is added, and what it no longer sees is deleted."""
    kept = InMemoryRecordManager("notes")
    kept.create_schema()
    documents = [Document(page_content=text, metadata={"from": "a"}) for text in ("Green tea.", "Black coffee.")]

    def indexed(those: list[Document]) -> tuple[int, int, int]:
        done = index(those, kept, store, cleanup="full", source_id_key="from", key_encoder="sha256")
        return done["num_added"], done["num_skipped"], done["num_deleted"]

    assert indexed(documents) == (2, 0, 0)
    assert indexed(documents) == (0, 2, 0)
    assert indexed(documents[:1]) == (0, 1, 1)
    assert [one.page_content for one in store.similarity_search("drinks", filter={"from": "a"})] == ["Green tea."]

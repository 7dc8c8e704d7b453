"""A corpus of somebody else's, through a real gateway and node: by the SDK, by commands alone, and in an answer with citations."""

import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import campaigns
from blindgate import Client
from blindgate.hosted_corpus import EncryptedCorpus
from blindgate_models.publishing import open_package
from blindgate_protocol.errors import BudgetSpentError, InputError
from blindgate_rag.adapters.langchain import CorpusRetriever
from blindgate_rag.adapters.llamaindex import CorpusRetriever as NodeRetriever
from blindgate_rag.adapters.metadata import passage_metadata
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from blindgate_rag.records import Where
from blindgate_rag.searchable import Searchable
from hosted import TEXTS, exact_places, hosted_corpus, packages
from scripted_model import ScriptedModel, package_scripted
from sealed_world import CHAT, offer_model, sealed_client, start_sealed_node
from shared import shared
from signed_packages import PUBLISHER
from typed import blindgate
from world import World

QUESTIONS = ["What must not be given with aspirin?", "頭痛", "Note Note Note"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Which event loop asynchronous tests run in."""
    return "asyncio"


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """The corpus, at its owner's."""
    with hosted_corpus(tmp_path_factory.mktemp("owner")) as corpus:
        yield corpus


@pytest.fixture(scope="module")
def hosting(world: World, owned: Corpus) -> World:
    """The shared world, with the corpus hidden and public, and once with a budget of two searches."""
    for made in (
        packages(owned, filter_by=("ward", "year")),
        packages(owned, name="known", public=True, queries_per_tenant=None, fetches=3),
        packages(owned, name="scarce", queries_per_tenant=2, fetches=2),
    ):
        world.publish(made.passages)
        world.publish(made.index)
    return world


@pytest.fixture
def client(hosting: World, tmp_path: Path) -> Iterator[Client]:
    """Whoever asks."""
    with hosting.client(home=tmp_path) as made:
        yield made


@pytest.mark.parametrize(("name", "k", "asked"), [("pubmed", 8, QUESTIONS), ("known", 3, QUESTIONS[:1])])
def test_what_is_found_is_the_exact_ranking_and_the_owners_text(
    client: Client, owned: Corpus, name: str, k: int, asked: list[str]
) -> None:
    """Every passage as its owner has it, ties in the index's order, and of those that say the same the best."""
    corpus: Searchable = client.corpus(name, embedder=owned.embedder)
    contents = owned.contents().passages
    for question in asked:
        hits = corpus.search(question, k=k)
        expected = [contents[place] for place in exact_places(owned, question, k)]
        assert hits.missing == 0
        for hit, passage in zip(hits, expected, strict=True):
            assert (hit.text, hit.source, hit.page) == (passage.text, passage.source, passage.page)
            assert (hit.metadata, hit.passage, hit.tokens) == (passage.metadata, passage.passage, passage.tokens)
        vector = owned.embedder.embed([question])[0]
        true = [float(vector @ owned.contents().vectors[hit.passage - contents[0].passage]) for hit in hits]
        assert np.allclose([hit.score for hit in hits], true, atol=0.02)


def test_fewer_are_the_first_of_more_and_no_more_text_than_was_asked_for(client: Client, owned: Corpus) -> None:
    """By number, and by the embedding model's tokens."""
    corpus, contents = client.corpus("pubmed", embedder=owned.embedder), owned.contents().passages
    few = [contents[place] for place in exact_places(owned, QUESTIONS[0], 4)]
    assert len(few) == 3  # of four, one says what a better one says
    assert [hit.passage for hit in corpus.search(QUESTIONS[0], k=4)] == [one.passage for one in few]
    budget = sum(one.tokens for one in few) - 1
    found = corpus.search(QUESTIONS[0], k=4, tokens=budget)
    assert [hit.passage for hit in found] == [one.passage for one in few[:2]]


@pytest.mark.parametrize(
    "where",
    [
        pytest.param({"ward": "1B"}, id="a text"),
        pytest.param({"ward": ["0B", "2B"], "year": (2021, 2022.0)}, id="one of several, and a number"),
        pytest.param({"year": True}, id="no document's"),
        pytest.param({}, id="anything"),
    ],
)
def test_a_filter_finds_the_best_of_what_it_allows(client: Client, owned: Corpus, where: Where) -> None:
    """As in a corpus of one's own: the exact ranking, among those passages alone; nothing where none is so."""
    corpus, contents = client.corpus("pubmed", embedder=owned.embedder), owned.contents().passages
    hits = corpus.search(QUESTIONS[0], k=8, where=where)
    expected = [contents[place].passage for place in exact_places(owned, QUESTIONS[0], 8, where)]
    assert ([hit.passage for hit in hits], hits.missing) == (expected, 0)
    assert {one.source for one in owned.documents(where)} >= {hit.source for hit in hits}
    assert bool(hits) == bool(owned.documents(where))


def test_what_a_filter_needs_is_disclosed_and_said_to_be(client: Client, owned: Corpus) -> None:
    """In the manifest, in the leakage of a search; a corpus without one says nothing of the kind."""
    corpus = client.corpus("pubmed", embedder=owned.embedder)
    assert isinstance(corpus, EncryptedCorpus)
    assert corpus.filter_by == ("ward", "year")
    said = client.model("pubmed").manifest.document.discloses.to_client[-1]
    assert said == "of every passage, the values of its document's ward, year"
    learned = {one.who: one.what for one in corpus.search("tea", k=1).leakage.learned}
    assert learned["everybody who may ask"] == "ward, year of every passage's document"
    assert "ward" not in str(client.model("known").manifest.document.discloses)


def test_a_search_says_who_could_learn_what_and_what_is_left(client: Client, owned: Corpus) -> None:
    """The budget is the owner's, counted by the gateway, over both models; spent, nothing more is answered."""
    corpus = client.corpus("scarce", profile="encrypted-query", embedder=owned.embedder)
    assert (corpus.budget.asked, corpus.budget.allowed, corpus.budget.left) == (0, 2, 2)
    hits = corpus.search("aspirin", k=1)
    assert hits.leakage.profile == "encrypted-query"
    learned = {one.who: one.what for one in hits.leakage.learned}
    assert learned["you"] == "the exact scores of all 24 passages, and the text of 1: 1 of 2 searches are left"
    for who in ("the node", "the gateway"):
        assert learned[who].startswith("that a question was asked, and when, and how many, and by which tenant")
    assert learned["the node"].endswith("it can keep a passage from being found, and nobody sees that")
    assert corpus.budget.left == 1
    corpus.search("tea", k=2)
    with pytest.raises(BudgetSpentError, match="'scarce' gives a tenant 2 searches in all, and 2 were made"):
        corpus.search("tea", k=2)
    assert corpus.budget.left == 0
    assert str(client.corpus("known", profile="encrypted-query", embedder=owned.embedder).budget).endswith(
        "no number is set"
    )


def test_as_many_come_as_there_may_be_where_nobody_says_how_many(client: Client, owned: Corpus) -> None:
    """8, or as many as the owner lets a search fetch; by whatever asks without a number."""
    corpus, contents = client.corpus("known", embedder=owned.embedder), owned.contents().passages
    expected = [contents[place].passage for place in exact_places(owned, QUESTIONS[0], 3)]
    assert [hit.passage for hit in corpus.search(QUESTIONS[0])] == expected
    assert [one.metadata["passage"] for one in CorpusRetriever(corpus=corpus).invoke(QUESTIONS[0])] == expected
    assert [one.metadata["passage"] for one in NodeRetriever(corpus).retrieve(QUESTIONS[0])] == expected


@pytest.mark.anyio
async def test_frameworks_are_given_what_a_search_finds_and_each_time_is_one_search(
    client: Client, owned: Corpus
) -> None:
    """LangChain and LlamaIndex, waiting or not: text, whence it is, what its owner said; the filter; the budget."""
    corpus, contents = client.corpus("pubmed", embedder=owned.embedder), owned.contents().passages
    assert isinstance(corpus, EncryptedCorpus)
    where = {"ward": "1B"}
    retriever, nodes = CorpusRetriever(corpus=corpus, k=2, where=where), NodeRetriever(corpus, k=2, where=where)
    given: list[list[tuple[str, dict[str, Any]]]] = []
    left = [corpus.budget.left or 0]
    for ask in (retriever.invoke, retriever.ainvoke, nodes.retrieve, nodes.aretrieve):
        answer: Any = ask(QUESTIONS[0])
        found = await answer if inspect.isawaitable(answer) else answer
        given.append([(getattr(one, "page_content", None) or one.text, one.metadata) for one in found])
        left.append(corpus.budget.left or 0)
    expected = [contents[place] for place in exact_places(owned, QUESTIONS[0], 2, where)]
    assert [text for text, _ in given[0]] == [one.text for one in expected]
    for (_, metadata), one in zip(given[0], expected, strict=True):
        assert metadata == passage_metadata(one) | {"score": metadata["score"]}
        assert (metadata["ward"], metadata["score"] > 0) == ("1B", True)
    assert given[1:] == given[:1] * 3
    assert left == [left[0] - searches for searches in range(5)]


def test_a_search_that_could_not_fetch_is_refused_before_it_counts(
    hosting: World, client: Client, owned: Corpus
) -> None:
    """Of an owner who let searches fetch more before: the passages that a tenant may have are spent sooner than its searches."""
    for version, fetches in ((1, 4), (2, 2)):
        made = packages(owned, name="fewer", queries_per_tenant=2, fetches=fetches, version=version)
        hosting.publish(made.passages)
        hosting.publish(made.index)
        corpus = client.corpus("fewer", embedder=owned.embedder)
        if version == 1:
            corpus.search("tea")
    with pytest.raises(BudgetSpentError, match="each by 2 rows of 'fewer-passages' as well: nothing was sent"):
        corpus.search("tea")
    assert client.model("fewer").rows_asked == 1


@pytest.mark.parametrize(
    ("question", "k", "where", "says"),
    [
        pytest.param(" ", 1, None, "the question is empty", id="no question"),
        pytest.param("a\udcff", 1, None, r"the question is no text: 'a\\udcff'", id="no text"),
        pytest.param("a", 0, None, "k is 0: 1 to 3 passages", id="none"),
        pytest.param("a", 4, None, "k is 4: 1 to 3 passages may be asked for, as its owner fixed it", id="too many"),
        pytest.param("a", 1, {"ward": "3B"}, "'known' cannot be filtered by 'ward': .* offers nothing", id="a filter"),
        pytest.param("a", 1, ["ward"], "where is a list: expected names of metadata", id="no filter"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    client: Client, owned: Corpus, *, question: str, k: int, where: Any, says: str
) -> None:
    """One clear error; not a byte to the gateway."""
    corpus = client.corpus("known", embedder=owned.embedder)
    sent = client.transport.bytes_sent
    with pytest.raises(InputError, match=says):
        corpus.search(question, k, where=where)
    assert client.transport.bytes_sent == sent


def test_another_model_is_no_corpus_and_a_table_predicts_nothing(client: Client) -> None:
    """Each says what it is asked by."""
    with pytest.raises(InputError, match="model 'small' is no corpus"):
        client.corpus("small")
    with pytest.raises(InputError, match="no table of records; use predict"):
        client.model("small").fetch([0])
    table = client.model("known-passages")
    with pytest.raises(InputError, match="predicts nothing; use fetch"):
        table.predict([[0]])
    with pytest.raises(InputError, match="no probabilities; use fetch"):
        table.predict_proba([[0]])
    sent = client.transport.bytes_sent
    with pytest.raises(InputError, match="position"):
        table.fetch([24])
    assert client.transport.bytes_sent == sent


def test_on_financial_reports_the_ten_nearest_are_the_exact_ten(world: World, tmp_path: Path) -> None:
    """TAT-QA's first paragraphs, its own questions: ranking and text, of every question that is asked."""
    reports = json.loads(shared("data/tatqa_test_gold.json").read_bytes())
    paragraphs = [one for report in reports for one in report["paragraphs"]][: campaigns.of(400, slice_of=24)]
    asked = [one["question"] for report in reports for one in report["questions"]][: campaigns.of(100, slice_of=2)]
    with Corpus.open(tmp_path / "owner.bgc", "pass", show_progress=False) as owner:
        owner.add_texts(Text(one["uid"], one["text"]) for one in paragraphs)
        made = packages(owner, name="reports", fetches=10)
        world.publish(made.passages)
        world.publish(made.index)
        contents = owner.contents().passages
        with world.client(home=tmp_path / "asker") as client:
            corpus = client.corpus("reports", embedder=owner.embedder)
            for question in asked:
                hits = corpus.search(question, k=10)
                expected = [contents[place] for place in exact_places(owner, question, 10)]
                assert [(hit.passage, hit.text) for hit in hits] == [(one.passage, one.text) for one in expected]


def test_from_notes_to_somebody_elses_answer_by_commands(tmp_path: Path) -> None:
    """Add, host, publish; search and ask at a gateway. What is wrong is told by name, before anything is written or sent."""
    notes = tmp_path / "notes"
    notes.mkdir()
    for text in TEXTS[:8]:
        (notes / Path(text.name).name).write_text(text.text.replace("\0", ""))
    (tmp_path / "models").mkdir()
    package_scripted(tmp_path / "models" / "chat")
    (tmp_path / "models" / "chat.files").rename(tmp_path / "chat.files")
    environment = os.environ | {
        "BLINDGATE_HOME": str(tmp_path / "owner"),
        "BLINDGATE_CORPUS_PASSPHRASE": "pass",
    }

    def run(*command: str, fails: bool = False) -> str:
        return blindgate(*command, folder=tmp_path, environment=environment, fails=fails)

    publisher = json.loads(run("publisher", "key", "--json"))["publisher_key"]
    run("rag", "add", "notes.bgc", "notes", "--metadata", "ward=3B")
    hosts = ("rag", "host", "notes.bgc", "out")
    assert "queries per tenant: expected a number" in run(*hosts, "--name", "ward", fails=True)
    assert "name: got 'Ward'" in run(*hosts, "--name", "Ward", "--public", fails=True)
    assert not (tmp_path / "out").exists()
    assert "filter by 'year': no document's metadata has it; there is ward" in run(
        *hosts, "--name", "ward", "--public", "--filter-by", "year", fails=True
    )
    rest = ("--name", "ward", "--queries-per-tenant", "9", "--fetches", "4", "--filter-by", "ward", "--json")
    made = json.loads(run(*hosts, *rest))
    assert (made["passages"], made["searches_a_tenant"], made["filter_by"]) == (8, 9, ["ward"])
    assert "of every passage, the values of its document's ward" in run("models", "show", made["packages"][1])
    passages, index = (open_package(tmp_path / file).manifest.document for file in made["packages"])
    assert (passages.name, passages.privacy.rows_per_tenant) == ("ward-passages", 36)
    assert (index.name, index.privacy.rows_per_tenant) == ("ward", 9)
    shown = run("models", "show", made["packages"][0])
    assert "the record at a position" in shown
    assert "all records, in clear" in shown

    with ScriptedModel() as model, World(tmp_path / "world", gateway={"QUESTIONS": 1000}) as world:
        world.trust("tests", PUBLISHER.id)
        world.trust("owner", publisher)
        world.start_gateway()
        offer_model(world, tmp_path / "models" / "chat")
        start_sealed_node(world, "enclave", tmp_path / "models", UPSTREAM=model.url)
        environment |= {"BLINDGATE_URL": world.url, "BLINDGATE_API_KEY": world.api_key("owner", publish=True)}
        for file in made["packages"]:
            run("models", "publish", file)

        with sealed_client(world, tmp_path / "asker", "enclave"):
            pass  # its policy is what is wanted
        environment |= {"BLINDGATE_HOME": str(tmp_path / "asker"), "BLINDGATE_API_KEY": world.api_key("hospital")}
        asked_for = ("gateway:ward", "May I visit?", "--where", "ward=3B", "--json")
        found = json.loads(run("rag", "search", *asked_for))
        assert found[0]["text"] == TEXTS[2].text.strip()
        assert found[0]["metadata"] == {"ward": "3B"}
        words = ("gateway:ward", "x", "-k", "2", "--ranking", "bm25")
        assert "ranking: corpus 'ward' is ranked as its owner made it" in run("rag", "search", *words, fails=True)
        assert "where: corpus 'ward' cannot be filtered by 'a': its owner offers ward" in run(
            "rag", "search", "gateway:ward", "x", "-k", "1", "--where", "a=b", fails=True
        )
        asked = json.loads(run("rag", "ask", "gateway:ward", "When may I visit?", "--model", CHAT, "--json"))
        assert asked["leakage"].startswith("encrypted-query: the gateway: that a question was asked")
        assert "7 of 9 searches are left" in asked["leakage"]
        assert asked["missing"] == 0
        assert TEXTS[2].text.split(". ")[0] in model.asked[-1].decode()

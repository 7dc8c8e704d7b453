"""A corpus that rests sealed at a real gateway and is searched in the memory of a real node, which proved what it is.

The way between node and gateway leads through a proxy, which hears what the node fetches, and may lie.
"""

import dataclasses
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import planted
from between import Answer, Proxy, honest
from blindgate import Client
from blindgate.attested_corpus import AttestedCorpus
from blindgate.policy import ClassRules, Policy
from blindgate_protocol.errors import (
    CorpusError,
    InputError,
    JobDeadError,
    PolicyError,
    RolledBackCorpusError,
    StaleCorpusError,
)
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from blindgate_rag.adapters.langchain import CorpusRetriever
from blindgate_rag.adapters.llamaindex import CorpusRetriever as NodeRetriever
from blindgate_rag.adding import Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.sync.corpus import SyncedCorpus
from runs import SOON_IN_THE_LOG
from scripted_model import ScriptedModel, package_scripted
from sealed_world import CHAT, SEARCH, offer_model, package_search, sealed_client, start_sealed_node
from signed_packages import PUBLISHER
from typed import FreshWorld, blindgate

NOTES = [
    Text("dose", "Aspirin must not be combined with warfarin: both thin the blood.", {"ward": "3B", "year": 2024}),
    Text("tea", "The patient of bed 4 has had a cough for three weeks. Tea with honey was given.", {"ward": "4A"}),
    Text("visit", "Visiting hours are from two to four, on every ward.", {"ward": "3B", "open": True}),
    Text("diet", "Who takes warfarin should eat the same amount of spinach every day.", {"ward": "4A", "year": 2025}),
]
ASKED: list[dict[str, Any]] = [
    {"query": "what goes badly with blood thinners?"},
    {"query": "warfarin", "ranking": "bm25"},
    {"query": "when may I come?", "ranking": "dense", "k": 2},
    {"query": "what must nobody take with aspirin?", "ranking": "blended", "where": {"ward": ["3B", "4A"]}},
    {"query": "warfarin", "where": {"ward": "4A"}},
    {"query": "warfarin", "where": {"year": [2023, 2024], "ward": ["3B", "4A"]}},
    {"query": "hours", "where": {"open": True}, "k": 1},
    {"query": "cough", "tokens": 30},
    {"query": "cough", "where": {"ward": "nowhere"}},
]


class Ground(NamedTuple):
    """What the questions meet. `fetched` are the digests that the node asked for."""

    world: FreshWorld
    node: Proxy
    model: ScriptedModel
    embedder: Embedder

    def fetched(self) -> list[str]:
        """And forget them."""
        found = [said.path.rpartition("/")[2] for said in self.node.heard if "/corpora/" in said.path]
        self.node.heard.clear()
        return found


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A gateway that gives a job one lease, and a node with a model that searches, and a chat."""
    folder = tmp_path_factory.mktemp("attested")
    models = folder / "models"
    models.mkdir()
    package_search(models / "search")
    package_scripted(models / "chat")
    (models / "chat.files").rename(folder / "chat.files")
    settings: dict[str, Any] = dict(SOON_IN_THE_LOG) | {"QUESTIONS": 1000, "ATTEMPTS": 1}
    with ExitStack() as stack:
        model = stack.enter_context(ScriptedModel())
        world = stack.enter_context(FreshWorld(folder / "world", gateway=settings))
        proxy = stack.enter_context(Proxy(world.url))
        settings["ADDRESSES"] = f"{world.url},{proxy.url}"
        world._gateway_settings = settings
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        for name in ("search", "chat"):
            offer_model(world, models / name)
        start_sealed_node(world, "enclave", models, GATEWAY=proxy.url, UPSTREAM=model.url)
        yield Ground(world, proxy, model, Embedder.default())


@pytest.fixture
def client(ground: Ground, tmp_path: Path) -> Iterator[Client]:
    """A machine of the owner's that has neither the corpus nor an embedding model of its own."""
    with sealed_client(ground.world, tmp_path / "asker", "enclave") as made:
        yield made
    ground.node.lie = honest


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A corpus's name that no other test has."""
    return f"c{abs(hash(request.node.name)):x}"


@pytest.fixture
def owner(ground: Ground, tmp_path: Path, name: str) -> Iterator[SyncedCorpus]:
    """The corpus, where it is written."""
    with ground.world.client(home=tmp_path / "owner", log=False, progress=False) as made:
        corpus = made.corpus(name, passphrase="pass", embedder=ground.embedder)
        corpus.add_texts(NOTES)
        yield corpus


def opened(
    client: Client, name: str, *, model: Any = SEARCH, passphrase: str = "pass", data_class: str | None = None
) -> AttestedCorpus:
    """The corpus, as a machine has it that has the passphrase."""
    return client.corpus(name, profile="attested", model=model, passphrase=passphrase, data_class=data_class)


def test_hits_are_those_of_the_owners_own_machine(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """Text, source, page, score, metadata and order; a head is fetched once, and later what changed alone."""
    corpus = opened(client, name)
    ground.fetched()
    for asked in ASKED:
        found = corpus.search(**asked)
        assert found.found == owner.search(**asked).found, asked
    assert (found.leakage.profile, [one.who for one in found.leakage.learned]) == (
        "attested",
        ["the enclave", "the gateway"],
    )
    assert "memory" in found.leakage.learned[0].what
    assert corpus.job is not None
    receipt: Signed[Receipt] | None = corpus.job.bundle.receipt
    assert receipt is not None
    assert receipt.document.lane == "tee"
    fetched = ground.fetched()
    assert len(fetched) == len(set(fetched)) == 2
    owner.add_texts([Text("new", "Honey is not for infants.")])
    owner.remove("dose")
    for asked in ASKED:
        assert corpus.search(**asked).found == owner.search(**asked).found, asked
    assert len(ground.fetched()) == 2
    kept = {path.name: path.stat().st_size for path in (client.home / "corpora").rglob("*") if path.is_file()}
    assert kept.pop(".lock") == 0
    assert list(kept) == ["key.json"]


def test_frameworks_are_given_what_a_search_finds(client: Client, owner: SyncedCorpus, name: str) -> None:
    """LangChain and LlamaIndex, as over the owner's own machine."""
    corpus, asked = opened(client, name), "what goes badly with blood thinners?"
    for where in (None, {"ward": "4A"}):
        there, here = (CorpusRetriever(corpus=one, k=2, where=where).invoke(asked) for one in (corpus, owner))
        assert there == here
        assert there
    found, mine = (NodeRetriever(one, k=2).retrieve(asked) for one in (corpus, owner))
    assert [(one.node_id, one.text, one.metadata) for one in found] == [
        (one.node_id, one.text, one.metadata) for one in mine
    ]


def test_a_question_is_answered_from_it(ground: Ground, client: Client, owner: SyncedCorpus, name: str) -> None:
    """By `ask`, as from a local corpus."""
    ground.model.words = ("Warfarin [1].",)
    answer = client.ask("What must not be given with aspirin?", corpus=opened(client, name), model=CHAT, k=1)
    assert [one.hit.source for one in answer.citations] == ["dose"]
    assert answer.leakage.profile == "attested"


def test_it_is_searched_by_a_command(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str, tmp_path: Path
) -> None:
    """As by the SDK; a folder of this machine cannot be searched so."""
    environment = os.environ | {
        "BLINDGATE_HOME": str(client.home),
        "BLINDGATE_URL": ground.world.url,
        "BLINDGATE_API_KEY": ground.world.api_key("hospital"),
        "BLINDGATE_CORPUS_PASSPHRASE": "pass",
    }
    options = ("--searched-by", SEARCH, "-k", "1")
    told = blindgate(
        "rag", "search", f"gateway:{name}", "warfarin", *options, "--json", folder=tmp_path, environment=environment
    )
    assert [hit["source"] for hit in json.loads(told)] == [owner.search("warfarin", k=1)[0].source]
    refused = blindgate(
        "rag", "search", "notes.bgc", "warfarin", *options, folder=tmp_path, environment=environment, fails=True
    )
    assert "--searched-by: notes.bgc is a folder of this machine" in refused
    recent = (*options, "--at-least", "9")
    assert "at least 9 was said to be there" in blindgate(
        "rag", "search", f"gateway:{name}", "x", *recent, folder=tmp_path, environment=environment, fails=True
    )


def test_what_cannot_be_asked_is_said(ground: Ground, client: Client, owner: SyncedCorpus, name: str) -> None:
    """By the client, and where only the node can know, inside the seal: the gateway sees a job that succeeded."""
    corpus = opened(client, name)
    with pytest.raises(InputError, match="the question is empty"):
        corpus.search(" ")
    with pytest.raises(InputError, match="k is 1001"):
        corpus.search("tea", 1001)
    with pytest.raises(InputError, match="where 'ward' is a NoneType"):
        corpus.search("tea", where={"ward": None})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="where is a function"):
        corpus.search("tea", where=lambda: None)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="the passphrase is not this corpus's"):
        opened(client, name, passphrase="wrong")
    with pytest.raises(CorpusError, match="the gateway has no corpus"):
        opened(client, "nothing")
    with pytest.raises(InputError, match="name the model that searches"):
        opened(client, name, model=None)
    with pytest.raises(InputError, match="is asked by chat, not by corpus"):
        opened(client, name, model=CHAT).search("tea")


def test_another_key_opens_nothing_of_what_the_node_has_open(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """Whoever knows the corpus's id and head, and lacks its key, gets an error, and its owner goes on."""
    corpus = opened(client, name)
    wanted = corpus.search("tea").found
    key = corpus._key
    corpus._key = type(key)(key.corpus, type(key.content)(secrets.token_bytes(32)))
    with pytest.raises(CorpusError, match=r"the node refuses the corpus: .* head was altered"):
        corpus.search("tea")
    corpus._key = key
    assert corpus.search("tea").found == wanted


def test_a_policy_that_keeps_the_class_from_the_lane_lets_nothing_leave(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """By the class that was said when the corpus was opened, or with the question: no node is even asked what it proves."""
    classes = {"phi": ClassRules(lanes=("fhe",)), "public": ClassRules()}
    policy = dataclasses.replace(Policy.load(client.home / "policy.toml"), classes=classes)
    with (
        Proxy(ground.world.url) as proxy,
        Client(proxy.url, ground.world.api_key("hospital"), policy=policy, home=client.home) as asker,
    ):
        corpus = opened(asker, name, data_class="phi")
        proxy.heard.clear()
        with pytest.raises(PolicyError, match=r"classes\.phi\.lanes"):
            corpus.search("tea")
        with pytest.raises(PolicyError, match=r"classes\.phi\.lanes"):
            opened(asker, name, data_class="public").search("tea", data_class="phi")
        for other in ("public", None):  # as `ask` says of its question: the corpus stays what it is
            with pytest.raises(PolicyError, match=r"classes\.phi\.lanes"):
                corpus.of_class(other).search("tea")
            with pytest.raises(PolicyError, match=r"classes\.phi\.lanes"):
                corpus.of_class(other).of_class("public").search("tea")
        assert [said for said in proxy.heard if said.method != "GET"] == []
        assert corpus.search("tea", 1, data_class="public")[0].source == "tea"
        ground.model.words = ("Tea [1].",)
        answer = asker.ask("Tea?", corpus=opened(asker, name, data_class="public"), model=CHAT, k=1)
        assert answer.turn.classes == ("public",)  # what was said of the corpus holds for what is quoted of it


def test_a_gateway_that_shows_an_old_head_is_found_out_before_anything_is_sealed(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """By whoever has seen a newer one; and by the node, for whoever has not."""
    with (
        Proxy(ground.world.url) as proxy,
        sealed_client(ground.world, client.home, "enclave", url=proxy.url) as asker,
    ):
        kept: dict[str, Answer] = {}

        def keep(method: str, path: str, answer: Answer) -> Answer:
            if method == "GET" and path.startswith(f"/v1/corpora/{name}"):
                kept[path] = answer
            return answer

        proxy.lie = keep
        opened(asker, name)
        proxy.lie = honest
        owner.remove("tea")
        corpus = opened(asker, name)
        assert "tea" not in [hit.source for hit in corpus.search("tea")]
        proxy.heard.clear()
        proxy.lie = lambda method, path, answer: kept.get(path, answer) if method == "GET" else answer
        with pytest.raises(RolledBackCorpusError, match="brought back what was before"):
            corpus.search("tea")
        assert [said for said in proxy.heard if said.method != "GET" and "jobs" in said.path] == []
        corpus._seen.forget(corpus._key.corpus)  # type: ignore[attr-defined]
        with pytest.raises(StaleCorpusError):
            corpus.search("tea")
        asker.corpora.forget(name)
        with pytest.raises(RolledBackCorpusError, match="generation 2 was given, and at least 3 was said to be there"):
            asker.corpus(name, model=SEARCH, passphrase="pass", at_least=3)


def test_a_node_searches_what_the_head_names_or_nothing(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """Other bytes end the job, whose reason says no word of the question; then it is searched as if nothing had been."""
    told: dict[str, bytes] = {}

    def keep(_method: str, path: str, answer: Answer) -> Answer:
        if "/corpora/" in path:
            told[path] = answer.body
        return answer

    ground.node.lie = keep
    other = client.corpus(f"{name}-other", passphrase="pass", embedder=ground.embedder)
    other.add_texts([Text("x", "Another corpus.")])
    opened(client, f"{name}-other").search("x")
    strange = list(told.values())[-1]
    corpus = opened(client, name)
    corpus.search("tea")
    old = list(told.values())[-1]
    ground.node.lie = honest
    owner.add_texts([Text("one", "First.")])
    lies: dict[str, Callable[[bytes], bytes]] = {
        "an older head's": lambda _body: old,
        "another corpus's": lambda _body: strange,
        "cut": lambda body: body[:-1],
        "with a byte more": lambda body: body + b"x",
        "with a bit turned": lambda body: body[:-1] + bytes([body[-1] ^ 1]),
    }
    for what, lie in lies.items():
        head = corpus._head()[0].digest

        def lying(_method: str, path: str, answer: Answer, lie: Any = lie, head: str = head) -> Answer:
            is_shard = "/corpora/" in path and not path.endswith(head)
            return Answer(200, lie(answer.body)) if is_shard else answer

        ground.node.lie = lying
        with pytest.raises(JobDeadError, match="the gateway sent") as failed:
            corpus.search("has anybody coughed?")
        assert "coughed" not in str(failed.value), what
    ground.node.lie = lambda _method, path, answer: Answer(200, answer.body[::-1]) if "/corpora/" in path else answer
    with pytest.raises(JobDeadError, match="the gateway sent"):
        corpus.search("tea")
    ground.node.lie = honest
    assert corpus.search("tea", tokens=200).found == owner.search("tea", tokens=200).found


def test_a_corpus_that_the_gateway_keeps_back_is_an_error_that_says_so(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """As of what was replaced meanwhile, which is asked for again."""
    corpus = opened(client, name)
    gone = Answer(404, b'{"type":"about:blank","title":"x","status":404,"detail":"no such blob","code":"not-found"}')
    ground.node.lie = lambda _method, path, answer: gone if "/corpora/" in path else answer
    with pytest.raises(StaleCorpusError, match="keeps it back"):
        corpus.search("tea")
    once: list[str] = []

    def told(_method: str, path: str, answer: Answer) -> Answer:
        if "/corpora/" in path and not once:
            once.append(path)
            owner.remove("diet")
            return gone
        return answer

    ground.node.lie = told
    assert "diet" not in [hit.source for hit in corpus.search("spinach")]


def test_another_tenants_corpus_is_not_there_even_with_its_key(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str, tmp_path: Path
) -> None:
    """A lease opens the corpora of the job's own tenant."""
    corpus = opened(client, name)
    ref, placed = corpus._head()
    policy = Policy.load(client.home / "policy.toml")
    with Client(ground.world.url, ground.world.api_key("clinic"), policy=policy, home=tmp_path / "clinic") as clinic:
        thief = AttestedCorpus(
            name, corpus._key, corpus._remote, corpus._seen, lambda: clinic._sealing(SEARCH, "corpus")
        )
        thief._known = ref, placed
        with pytest.raises(StaleCorpusError, match="gives this node no corpus"):
            thief.search("tea")
    assert corpus.search("tea", 1)[0].source == "tea"


def test_question_and_passages_are_in_the_nodes_memory_alone(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """Not in the gateway's database, blobs, logs or memory, nor on the node's disk, nor on the asker's; and not the key."""
    text, question = secrets.token_hex(20), secrets.token_hex(20)
    owner.add_texts([Text("planted", f"The word is {text}.", {"secret": text})])
    corpus = opened(client, name)
    assert corpus.search(f"What is {question} of the word?", where={"secret": text}, k=1)[0].text.endswith(f"{text}.")
    search = planted.Search([needle("text", text), needle("question", question)])
    world = ground.world

    def family(of: str) -> list[int]:
        return planted.family(world.processes[of].pid)

    assert any("text" in one for one in search.in_processes(family("enclave")))
    assert search.in_processes(family("gateway")) == []
    key = planted.Search(
        [planted.Needle("key", (corpus._key.content.secret(), corpus._key.content.secret().hex().encode()))]
    )
    for one in (search, key):
        assert one.in_processes(family("gateway")) == []
        assert one.in_files([world.gateway_folder, world.folder / "enclave", client.home]) == []


def needle(name: str, text: str) -> planted.Needle:
    """A text, as UTF-8 and as UTF-16."""
    return planted.Needle(name, tuple(text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")))


def test_a_model_of_other_files_is_refused_before_anything_is_sealed(
    ground: Ground, client: Client, owner: SyncedCorpus, name: str
) -> None:
    """Vectors of two models do not compare; one that embeds texts searches nothing."""
    corpus = opened(client, name)
    ref, placed = corpus._head()
    settings = placed.head.settings | {"embedder": "sha256:" + "0" * 64, "embedder-name": "another"}
    other = dataclasses.replace(placed, head=placed.head.model_copy(update={"settings": settings}))
    corpus._known = ref, other
    with pytest.raises(CorpusError, match="embedded by another"):
        corpus.search("tea")

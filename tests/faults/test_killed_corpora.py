"""A corpus while somebody is killed: the gateway, the node, or the one who asks or publishes, at each request of what is done.

Gateway and node are started again at once, as an init system would. Then what was begun goes on by itself: who searches finds what
there is, and each search costs one of the budget. Who is killed himself begins anew, and finds whatever he had sent. Every request
of each, and its answer, is a moment; `make test` has one of each (of `put` by its owner see `test_synced_corpora`).
"""

import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

import campaigns
from between import Answer, Proxy, honest
from blindgate import Client
from blindgate.attested_corpus import AttestedCorpus
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from hosted import exact_places, hosted_corpus, packages
from runs import SOON_IN_THE_LOG
from sealed_world import SEARCH, offer_model, package_search, sealed_client, start_sealed_node
from signed_packages import PUBLISHER
from typed import Typed
from world import World

QUESTION, K = "What must not be given with aspirin?", 4
NOTES = [
    Text("dose", "Aspirin must not be combined with warfarin: both thin the blood."),
    Text("tea", "The patient of bed 4 has had a cough. Tea with honey was given."),
]
KILLED = {-signal.SIGKILL, 0}
"""How a command ended that was to be killed at a request: there may have been fewer than before, where it had to wait for less."""
Side = Literal["asked", "answered"]


@dataclass
class Stage:
    """A gateway, a node, and the wires to the gateway of whoever asks and of the node."""

    world: World
    near: Proxy
    far: Proxy
    models: Path
    starting: list[threading.Thread] = field(default_factory=list)

    def strike(self, who: str) -> None:
        """Kill it, and start it again meanwhile."""
        self.world.kill(who)
        self.starting.append(threading.Thread(target=self.start, args=(who,)))
        self.starting[-1].start()

    def start(self, who: str) -> None:
        """Start it, for the first time or again."""
        if who == "gateway":
            self.world.start_gateway()
        else:
            start_sealed_node(self.world, "node", self.models, GATEWAY=self.far.url, POLL_SECONDS=1)

    def wait(self) -> None:
        """Until everybody is back."""
        while self.starting:
            self.starting.pop().join()


@contextmanager
def at(wire: Proxy, number: int, side: Side, blow: Callable[[], object]) -> Iterator[list[str]]:
    """Strike when a request with this number comes by, or its answer does. Gives what it was."""
    counting, met, struck = threading.Lock(), [0], list[str]()

    def pass_by(method: str, path: str) -> None:
        with counting:
            met[0] += 1
            hit = met[0] == number + 1
        if hit:
            struck.append(f"{method} {path}")
            blow()

    def answered(method: str, path: str, answer: Answer) -> Answer:
        pass_by(method, path)
        return answer

    wire.heard.clear()
    if side == "asked":
        wire.overhear = pass_by
    else:
        wire.lie = answered
    try:
        yield struck
    finally:
        wire.overhear, wire.lie = (lambda _method, _path: None), honest


def moments(count: int) -> list[tuple[int, Side]]:
    """Every request of so many, and its answer."""
    return [(number, side) for number in range(count) for side in ("asked", "answered")]


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """A corpus that is hosted, at its owner's."""
    with hosted_corpus(tmp_path_factory.mktemp("owner")) as corpus:
        yield corpus


@pytest.fixture(scope="module")
def stage(owned: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A node that computes on what is encrypted, and searches what is sealed to it."""
    campaigns.leave_to_nightly()
    folder = tmp_path_factory.mktemp("killed")
    (folder / "models").mkdir()
    package_search(folder / "models" / "search")
    settings: dict[str, Any] = SOON_IN_THE_LOG | {"LEASE": 1500, "ATTEMPTS": 5, "QUESTIONS": 10_000}
    with ExitStack() as stack:
        world = stack.enter_context(World(folder / "world", gateway=settings))
        near, far = (stack.enter_context(Proxy(world.url)) for _ in range(2))
        world._gateway_settings = settings | {"ADDRESSES": f"{world.url},{near.url},{far.url}"}
        world.trust("tests", PUBLISHER.id)
        made = Stage(world, near, far, folder / "models")
        made.start("gateway")
        offer_model(world, folder / "models" / "search")
        made.start("node")
        for package in (
            packages(owned, queries_per_tenant=1000),
            packages(owned, name="other", queries_per_tenant=1000),
        ):
            world.publish(package.passages)
            world.publish(package.index)
        yield made


@pytest.fixture
def asker(stage: Stage, tmp_path: Path) -> Iterator[Client]:
    """Whoever searches, by the near wire."""
    with sealed_client(stage.world, tmp_path / "asker", "node", url=stage.near.url) as made:
        yield made


def typed(
    stage: Stage,
    home: Path,
    *command: str,
    tenant: str = "hospital",
    kill_at: tuple[int, Side] | None = None,
    listen: bool = True,
) -> int:
    """Type a command of a machine's, and let it be killed at one of its requests. Gives how it ended."""
    assert Typed.preloaded is not None
    environment = os.environ | {
        "BLINDGATE_URL": stage.near.url,
        "BLINDGATE_API_KEY": stage.world.api_key(tenant, publish=tenant == "models"),
        "BLINDGATE_HOME": str(home),
        "BLINDGATE_CORPUS_PASSPHRASE": "pass",
    }
    started = threading.Event()
    process: Any = None

    def kill() -> None:
        started.wait(10)
        os.kill(process.pid, signal.SIGKILL)

    number, side = kill_at or (-1, "asked")
    with tempfile.TemporaryFile() as output, at(stage.near, number, side, kill) if listen else nullcontext():
        process = Typed.preloaded.start(list(command), environment, output, errors=output)
        started.set()
        status: int = process.wait(120)
    return status


@pytest.mark.slow
@pytest.mark.parametrize("who", ["gateway", "node"])
def test_a_search_of_a_hosted_corpus_outlives_gateway_and_node(
    stage: Stage, owned: Corpus, asker: Client, who: str
) -> None:
    """It finds what there is, and costs one search."""
    wire, contents = (stage.near if who == "gateway" else stage.far), owned.contents().passages
    expected = [contents[place].passage for place in exact_places(owned, QUESTION, K)]
    corpus = asker.corpus("pubmed", embedder=owned.embedder, profile="encrypted-query")
    wire.heard.clear()
    corpus.search(QUESTION, K)
    for number, side in moments(len(wire.heard)):
        before = corpus.budget.asked
        with at(wire, number, side, lambda: stage.strike(who)) as struck:
            hits = corpus.search(QUESTION, K)
        stage.wait()
        assert ([hit.passage for hit in hits], hits.missing) == (expected, 0), (struck, side)
        assert corpus.budget.asked == before + 1, (struck, side)


@pytest.mark.slow
def test_an_asker_who_is_killed_has_lost_one_search_at_most(
    stage: Stage, owned: Corpus, asker: Client, tmp_path: Path
) -> None:
    """What an order asked for is counted, whatever became of whoever sent it; the next search finds what there is."""
    contents = owned.contents().passages
    expected = [contents[place].passage for place in exact_places(owned, QUESTION, K)]
    corpus = asker.corpus("pubmed", embedder=owned.embedder, profile="encrypted-query")
    search = ("rag", "search", "gateway:pubmed", QUESTION, "-k", str(K))
    assert typed(stage, asker.home, *search) == 0
    for number, side in moments(len(stage.near.heard)):
        before = corpus.budget.asked
        assert typed(stage, asker.home, *search, kill_at=(number, side)) in KILLED
        lost = corpus.budget.asked - before
        assert lost in {0, 1}, (number, side)
        hits = corpus.search(QUESTION, K)
        assert ([hit.passage for hit in hits], hits.missing) == (expected, 0)
        assert corpus.budget.asked == before + lost + 1


@pytest.mark.slow
def test_an_attested_search_outlives_the_gateway_and_its_asker(
    stage: Stage, owned: Corpus, asker: Client, tmp_path: Path
) -> None:
    """It finds what there is; whoever was killed asks again."""
    corpus = sealed_corpus(stage, owned, asker, tmp_path / "owner")
    corpus.search("warfarin", 1)
    stage.near.heard.clear()
    corpus.search("warfarin", 1)
    for number, side in moments(len(stage.near.heard)):
        with at(stage.near, number, side, lambda: stage.strike("gateway")) as struck:
            assert [hit.source for hit in corpus.search("warfarin", 1)] == ["dose"], (struck, side)
        stage.wait()
    search = ("rag", "search", "gateway:sealed", "warfarin", "--searched-by", SEARCH, "-k", "1")
    assert typed(stage, asker.home, *search) == 0
    for number, side in moments(len(stage.near.heard)):
        assert typed(stage, asker.home, *search, kill_at=(number, side)) in KILLED
        assert [hit.source for hit in corpus.search("warfarin", 1)] == ["dose"], (number, side)


@pytest.mark.slow
def test_an_attested_search_outlives_a_node_and_its_keys(
    stage: Stage, owned: Corpus, asker: Client, tmp_path: Path
) -> None:
    """They live for one boot: what was sealed to them is sealed anew, at whatever moment it was killed."""
    corpus = sealed_corpus(stage, owned, asker, tmp_path / "owner")
    corpus.search("warfarin", 1)
    stage.far.heard.clear()
    corpus.search("warfarin", 1)
    for number, side in moments(len(stage.far.heard)):
        with at(stage.far, number, side, lambda: stage.strike("node")):
            assert [hit.source for hit in corpus.search("warfarin", 1)] == ["dose"], (number, side)
        stage.wait()
        assert [hit.source for hit in corpus.search("warfarin", 1)] == ["dose"], (number, side)


def sealed_corpus(stage: Stage, owned: Corpus, asker: Client, home: Path) -> AttestedCorpus:
    """A corpus that rests sealed at the gateway, made by another machine, as its asker has it searched."""
    with stage.world.client(home=home, log=False, progress=False) as owner:
        owner.corpus("sealed", passphrase="pass", embedder=owned.embedder).add_texts(NOTES)
    return asker.corpus("sealed", profile="attested", model=SEARCH, passphrase="pass")


@pytest.mark.slow
@pytest.mark.parametrize("who", ["gateway", "publisher"])
def test_a_corpus_that_is_published_anew_is_searched_throughout(
    stage: Stage, owned: Corpus, asker: Client, tmp_path: Path, who: str
) -> None:
    """Passages, then index: whoever was killed on the way publishes again, and of two versions one whole one is there."""
    version = 1 if who == "gateway" else 100
    files = [tmp_path / name for name in ("passages.bgmodel", "index.bgmodel")]

    def publish(file: Path, **given: Any) -> int:
        return typed(stage, tmp_path / "owner", "models", "publish", str(file), tenant="models", **given)

    def host() -> None:
        nonlocal version
        version += 1
        made = packages(owned, name="other", queries_per_tenant=1000, version=version)
        for file, package in zip(files, (made.passages, made.index), strict=True):
            file.write_bytes(package)

    def found() -> int:
        corpus = asker.corpus("other", embedder=owned.embedder, profile="encrypted-query")
        assert (len(corpus.search(QUESTION, K)) > 0, corpus.search(QUESTION, K).missing) == (True, 0)
        return int(re.findall(r"version=(\d+)", repr(corpus))[0])

    host()
    counts = [(publish(file), len(stage.near.heard)) for file in files]
    assert found() == version
    for killed_at, (status, count) in zip(files, counts, strict=True):
        assert status == 0
        for number, side in moments(count):
            host()
            for file in files:
                if file != killed_at:
                    assert publish(file) == 0
                elif who == "gateway":
                    with at(stage.near, number, side, lambda: stage.strike("gateway")):
                        assert publish(file, listen=False) == 0, (file.name, number, side)
                    stage.wait()
                else:
                    assert publish(file, kill_at=(number, side)) in KILLED
                    assert found() in {version - 1, version}
                    assert publish(file) == 0
            assert found() == version


@pytest.mark.slow
def test_a_put_outlives_the_gateway(stage: Stage, owned: Corpus, tmp_path: Path) -> None:
    """Nothing is lost and nothing is there twice."""
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(stage.world.client(home=tmp_path / home, url=url, log=False, progress=False)).corpus(
                "put", passphrase="pass", embedder=owned.embedder
            )
            for home, url in (("one", stage.near.url), ("two", stage.world.url))
        )
        stage.near.heard.clear()
        one.add_texts(NOTES)
        count, there = len(stage.near.heard), {"dose", "tea"}
        for number, side in moments(count):
            with at(stage.near, number, side, lambda: stage.strike("gateway")) as struck:
                one.add_texts([Text(f"{number} {side}", f"Note {number} of the ward, {side}.")])
            stage.wait()
            there.add(f"{number} {side}")
            assert {each.source for each in two.documents()} == there, struck

"""A node that is started again has other keys: what was sealed to those of before is sealed anew, once, and nobody notices.

Real processes, ended by SIGKILL and by SIGTERM. Each client asked before the restart, so it seals its next request to keys that are
gone by then.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from between import Proxy
from blindgate import Client
from blindgate_protocol.errors import InterruptedAnswerError, KeySetGoneError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobView
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from openai_proxy import OpenAIProxy, environment_of
from scripted_model import WORDS, ScriptedModel, package_scripted
from sealed_world import (
    CHAT,
    EMBEDDER,
    end_node,
    offer_model,
    sealed_client,
    start_sealed_node,
)
from signed_packages import PUBLISHER
from world import World

TEXT = "".join(WORDS)
ASKED: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "the patient has a cough"}]}
SOON: dict[str, Any] = {"QUESTIONS": 1000, "LEASE": 3000, "CHECKPOINT": 200}
"""A lease whose node was killed is over after some seconds, and not half a minute."""


class Ground(NamedTuple):
    """The processes, and what is asked of."""

    world: World
    models: Path
    model: ScriptedModel
    corpus: Corpus

    def start_node(self) -> None:
        """Start the node, again where it was there before."""
        start_sealed_node(self.world, "enclave", self.models, UPSTREAM=self.model.url, POLL_SECONDS=5)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A gateway, a node with two models, and documents."""
    folder = tmp_path_factory.mktemp("restarted")
    models = folder / "models"
    models.mkdir()
    package_scripted(models / "chat")
    package_scripted(models / "embedder", name=EMBEDDER, api="embeddings")
    for leftover in models.glob("*.files"):
        leftover.rename(folder / leftover.name)
    with (
        ScriptedModel() as model,
        World(folder / "world", gateway=SOON) as world,
        Corpus.open(folder / "notes.bgc", "pass") as corpus,
    ):
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        for name in ("chat", "embedder"):
            offer_model(world, models / name)
        corpus.add_texts([Text("notes/tea.txt", "Tea was given with honey.")])
        made = Ground(world, models, model, corpus)
        made.start_node()
        yield made


def whole(client: Client, _ground: Ground) -> Any:
    """A chat in one piece."""
    return client.chat.completions.create(**ASKED).choices[0].message.content


def streamed(client: Client, _ground: Ground) -> Any:
    """A chat as it is written."""
    stream = client.chat.completions.create(stream=True, **ASKED)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert stream.job.bundle.receipt is not None
    assert client.bundles.load(stream.job.id) == stream.job.bundle
    return text


def embedded(client: Client, _ground: Ground) -> Any:
    """A vector."""
    return client.embeddings.create(model=EMBEDDER, input=TEXT).data[0].embedding


def answered(client: Client, ground: Ground) -> Any:
    """An answer from documents."""
    return client.ask("Was tea given?", corpus=ground.corpus, model=CHAT).text


VERBS: tuple[Callable[[Client, Ground], Any], ...] = (whole, streamed, embedded, answered)
TOLD = [TEXT, TEXT, [float(len(TEXT)), 0.0], TEXT, TEXT]
"""What all of them give, and the proxy behind them."""


def jobs(client: Client) -> list[JobView]:
    """What became of a client's jobs, as its gateway says, the first one first."""
    found = [
        client._transport.get(f"/v1/jobs/{file.stem}", JobView) for file in (client.home / "bundles").glob("*.json")
    ]
    return sorted(found, key=lambda view: view.submitted)


@pytest.mark.parametrize("cleanly", [False, True], ids=["SIGKILL", "SIGTERM"])
def test_nobody_notices_that_a_node_was_started_again(ground: Ground, tmp_path: Path, cleanly: bool) -> None:
    """Whatever is asked, and whether the node is up yet, in the SDK and through the proxy: one answer, of a second job."""
    with ExitStack() as stack:
        homes = [tmp_path / verb.__name__ for verb in VERBS]
        clients = [stack.enter_context(sealed_client(ground.world, home, "enclave")) for home in homes]
        with sealed_client(ground.world, tmp_path / "proxy", "enclave"):
            environment = environment_of(ground.world.url, ground.world.api_key("hospital"))
        proxy = stack.enter_context(OpenAIProxy(tmp_path / "proxy", **environment))
        asker = stack.enter_context(proxy.openai())
        threads = stack.enter_context(ThreadPoolExecutor(8))

        def ask() -> list[Any]:
            told = [threads.submit(verb, client, ground) for verb, client in zip(VERBS, clients, strict=True)]
            through = asker.chat.completions.create(**ASKED)
            said.append(through._request_id)
            return [*(one.result(30) for one in told), through.choices[0].message.content]

        said: list[Any] = []
        assert ask() == TOLD
        end_node(ground.world, "enclave", cleanly=cleanly)
        meanwhile = threads.submit(ask)  # while the gateway may still hold the node's requests for work open
        ground.start_node()
        assert meanwhile.result(60) == TOLD
        for client in clients:
            first, refused, last = jobs(client)
            assert [first.state, refused.state, last.state] == [
                JobState.SUCCEEDED,
                JobState.FAILED,
                JobState.SUCCEEDED,
            ]
            # One attempt: nothing was given to the node that was killed while it waited for work.
            assert (refused.code, len(refused.attempts)) == (KeySetGoneError.code, 1)
            assert refused.receipt is None
            assert client.bundles.load(refused.job).receipt is None
        kept = {file.stem for file in (tmp_path / "proxy" / "bundles").glob("*.json")}
        assert len(kept) == 3
        assert set(said) < kept
        assert [line["status"] for line in proxy.lines if line.get("event") == "answered"] == [200, 200]
        assert clients[0]._transport.get(f"/v1/jobs/{said[-1]}", JobView).state is JobState.SUCCEEDED
        assert ask() == TOLD  # at once: it is sealed to the new keys
        assert [len(jobs(client)) for client in clients] == [4] * 4


def test_those_that_ask_at_once_ask_for_evidence_once(ground: Ground, tmp_path: Path) -> None:
    """Each finds out by itself that its node's keys are gone; the first asks what the node proves now, for all of them."""
    with Proxy(ground.world.url) as between, ThreadPoolExecutor(6) as threads:
        with sealed_client(ground.world, tmp_path, "enclave", url=between.url) as client:
            assert whole(client, ground) == TEXT
            end_node(ground.world, "enclave", cleanly=False)
            ground.start_node()
            between.heard.clear()
            told = [threads.submit(whole, client, ground) for _ in range(6)]
            assert [one.result(30) for one in told] == [TEXT] * 6
        posted = [said.path for said in between.heard if said.method == "POST"]
        assert posted.count("/v1/attestations") == 1
        assert 7 <= posted.count("/v1/jobs") <= 12  # who came late sealed to the new keys at once


def test_a_restart_in_the_middle_of_a_stream_is_said(ground: Ground, tmp_path: Path) -> None:
    """There is a beginning: asking again is left to whoever has it. Of an answer in one piece there is none: it is written anew."""
    begun, more = threading.Semaphore(0), threading.Event()

    def midway() -> None:
        begun.release()
        more.wait(30)

    with sealed_client(ground.world, tmp_path, "enclave") as client, ThreadPoolExecutor(1) as threads:
        assert whole(client, ground) == TEXT
        ground.model.midway = midway
        try:
            stream = client.chat.completions.create(stream=True, **ASKED)
            given = [next(stream).choices[0].delta.content or ""]
            other = threads.submit(whole, client, ground)
            assert begun.acquire(timeout=20)
            assert begun.acquire(timeout=20)
            end_node(ground.world, "enclave", cleanly=False)
        finally:
            ground.model.midway = lambda: None
            more.set()
        ground.start_node()
        with pytest.raises(InterruptedAnswerError, match=r"ask again|asking again is safe"):
            given.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert TEXT.startswith("".join(given))
        assert other.result(30) == TEXT
        assert [view.state for view in jobs(client)].count(JobState.SUCCEEDED) == 2
        assert len(jobs(client)) == 4

"""The `openai` package, unchanged, through `blindgate proxy`, a gateway and a node: real processes, real models, real seals."""

import dataclasses
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from between import Answer, Proxy, honest
from blindgate import Client
from blindgate_protocol.bundle import read_bundle
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobView
from openai_proxy import OpenAIProxy, environment_of
from sealed_world import (
    CHAT,
    EMBEDDER,
    offer_model,
    package_chat,
    package_embedder,
    sealed_client,
    start_sealed_node,
)
from signed_packages import PUBLISHER
from world import World

PLANTED = "planted: Aurelia Quince has a cough"
ASKED: dict[str, Any] = {
    "model": CHAT,
    "messages": [{"role": "user", "content": PLANTED}],
    "temperature": 0,
    "max_completion_tokens": 24,
}
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway, and one node with a chat model and MiniLM."""
    folder = tmp_path_factory.mktemp("sealed")
    models = folder / "models"
    models.mkdir()
    package_chat(models / "chat")
    package_embedder(models / "minilm")
    for leftover in models.glob("*.files"):
        leftover.rename(folder / leftover.name)
    with World(folder / "world", gateway={"QUESTIONS": 1000}) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        for name in ("chat", "minilm"):
            offer_model(world, models / name)
        start_sealed_node(world, "enclave", models)
        yield world


@pytest.fixture(scope="module")
def client(sealed: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client that takes the node's simulated evidence, knowingly."""
    with sealed_client(sealed, tmp_path_factory.mktemp("client"), "enclave") as made:
        yield made


def started(world: World, client: Client, *options: str, url: str | None = None) -> OpenAIProxy:
    """A proxy with this client's policy and keys."""
    return OpenAIProxy(client.home, *options, **environment_of(url or world.url, world.api_key("hospital")))


@pytest.fixture(scope="module")
def proxy(sealed: World, client: Client) -> Iterator[OpenAIProxy]:
    """A proxy for that client."""
    with started(sealed, client) as running:
        yield running


@pytest.fixture(scope="module")
def sdk(sealed: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Another client of the same tenant, in this process: key stores of tests open no others."""
    with sealed_client(sealed, tmp_path_factory.mktemp("sdk"), "enclave") as made:
        yield made


@pytest.fixture(scope="module")
def asker(proxy: OpenAIProxy) -> Iterator[openai.OpenAI]:
    """The package's own client."""
    with proxy.openai() as made:
        yield made


@pytest.fixture
def middle(sealed: World) -> Iterator[Proxy]:
    """Somebody between the proxy and its gateway, who may lie."""
    with Proxy(sealed.url) as between:
        yield between


def words(chunks: list[Any]) -> str:
    """The text of chunks."""
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_a_chat_is_answered_whole_and_as_a_stream(asker: openai.OpenAI, client: Client, sdk: Client) -> None:
    """With the text that the SDK gets; the request's id is the job's, and its bundle has receipt, proof and evidence."""
    wanted = sdk.chat.completions.create(**ASKED).choices[0].message.content
    whole = asker.chat.completions.create(**ASKED)
    assert whole.choices[0].message.content == wanted
    assert whole.choices[0].finish_reason in {"stop", "length"}
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 3
    assert whole._request_id is not None
    bundle = client.bundles.load(whole._request_id)
    assert bundle.receipt is not None
    assert bundle.receipt.document.lane == "tee"
    assert bundle.logged is not None
    assert read_bundle(bundle.to_bytes()).evidence is not None

    stream = asker.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ASKED)
    chunks = list(stream)
    assert words(chunks) == wanted
    assert len(chunks) > 3
    assert chunks[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in {"stop", "length"}


def test_embeddings_are_those_of_the_sdk(asker: openai.OpenAI, sdk: Client) -> None:
    """The package asks for base64 by itself; numbers are the same."""
    texts = ["the patient has a fever", "the sick man is hot", "the bank lends money"]
    got = np.array([entry.embedding for entry in asker.embeddings.create(model=EMBEDDER, input=texts).data])
    wanted = np.array([entry.embedding for entry in sdk.embeddings.create(model=EMBEDDER, input=texts).data])
    assert got.shape == (3, 384)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert got[0] @ got[1] > got[0] @ got[2]


def test_models_are_those_that_the_policy_believes(
    sealed: World, asker: openai.OpenAI, client: Client, tmp_path: Path
) -> None:
    """By its name for their publisher. A policy that trusts nobody lists none, and its proxy seals nothing."""
    assert {model.id: model.owned_by for model in asker.models.list()} == {CHAT: "tests", EMBEDDER: "tests"}
    assert asker.models.retrieve(CHAT).id == CHAT
    with pytest.raises(openai.NotFoundError) as missing:
        asker.models.retrieve("nothing-like/Its-name")
    assert missing.value.code == "model_not_found"
    with sealed_client(sealed, tmp_path, "enclave") as other:
        dataclasses.replace(other.policy, publishers={}).save()
        with started(sealed, other) as proxy, proxy.openai() as stranger:
            assert list(stranger.models.list()) == []
            with pytest.raises(openai.PermissionDeniedError, match="does not name as a publisher") as refused:
                stranger.chat.completions.create(**ASKED)
            assert refused.value.code == "untrusted-signer"


def test_errors_are_those_of_the_package(sealed: World, asker: openai.OpenAI, tmp_path: Path) -> None:
    """What the model cannot do, a model of another kind, one that is not there, and a node that does not prove enough."""
    with pytest.raises(openai.BadRequestError, match="tools") as cannot:
        asker.chat.completions.create(tools=[TOOL], **ASKED)
    assert (cannot.value.code, cannot.value.param) == ("bad-input", "tools")
    with pytest.raises(openai.BadRequestError, match="response_format") as in_a_stream:
        list(asker.chat.completions.create(response_format={"type": "json_object"}, stream=True, **ASKED))
    assert in_a_stream.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="maximum context length is 256") as long:
        asker.chat.completions.create(**(ASKED | {"messages": [{"role": "user", "content": "word " * 1000}]}))
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.BadRequestError, match="asked by embeddings, not by chat"):
        asker.chat.completions.create(**(ASKED | {"model": EMBEDDER}))
    with pytest.raises(openai.NotFoundError):
        asker.embeddings.create(model="nothing-like-it", input=["a"])
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as tokens:
        asker.embeddings.create(model=EMBEDDER, input=[[1, 2, 3]])
    assert tokens.value.param == "input"
    with pytest.raises(openai.BadRequestError, match="timeout"):
        asker.chat.completions.create(extra_body={"timeout": 1}, **ASKED)
    with (
        sealed_client(sealed, tmp_path, "gateway") as other,
        started(sealed, other) as proxy,
        proxy.openai() as refused,
        pytest.raises(openai.PermissionDeniedError, match="nothing was sealed or sent") as unproven,
    ):
        refused.chat.completions.create(**ASKED)
    assert unproven.value.code == "untrusted-evidence"


def test_what_programs_send_without_meaning_it_changes_nothing(asker: openai.OpenAI, sdk: Client) -> None:
    """Null, lists without a tool, bookkeeping, an answer's message sent back as it came: here and in the SDK, one answer to all."""
    nulls = dict.fromkeys(
        ("tools", "tool_choice", "logprobs", "logit_bias", "reasoning_effort", "response_format", "n")
    )
    usual: dict[str, Any] = {
        "tools": [],
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "metadata": {"a": "b"},
        "logprobs": False,
    }
    first = asker.chat.completions.create(**ASKED)
    again = ASKED | {"messages": [*ASKED["messages"], first.choices[0].message, {"role": "user", "content": "and?"}]}
    wanted = asker.chat.completions.create(**again).choices[0].message.content
    parts = [*again["messages"][:-1], {"role": "user", "content": [{"type": "text", "text": "and?"}]}]
    for said in (nulls, usual, {"messages": parts}):
        got = asker.chat.completions.create(**{**again, "extra_body": said})
        assert got.choices[0].message.content == wanted
    own = sdk.chat.completions.create(**ASKED)
    own_again = ASKED | {"messages": [*ASKED["messages"], own.choices[0].message, {"role": "user", "content": "and?"}]}
    assert sdk.chat.completions.create(**own_again, **usual).choices[0].message.content == wanted
    vector = asker.embeddings.create(model=EMBEDDER, input="a", extra_body={"dimensions": None, "user": "u"})
    assert len(vector.data[0].embedding) == 384


def test_a_stream_that_is_buffered_counts_tokens_only_where_it_was_asked(sealed: World, tmp_path: Path) -> None:
    """Its node is asked for a whole answer, which counts them always: a chunk without a choice surprises who asked for none."""
    with sealed_client(sealed, tmp_path, "enclave", buffered=True) as buffered:
        plain = list(buffered.chat.completions.create(stream=True, **ASKED))
        counted = list(buffered.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ASKED))
    assert all(chunk.choices for chunk in plain)
    assert counted[-1].usage is not None
    assert words(plain) == words(counted)


def test_curl_reads_events_that_end_in_done(proxy: OpenAIProxy) -> None:
    """Each a chunk in JSON, after `data: `."""
    headers = ["-H", f"Authorization: Bearer {proxy.token}", "-H", "Content-Type: application/json"]
    done = subprocess.run(
        ["curl", "-sN", f"{proxy.url}/chat/completions", *headers, "-d", json.dumps(ASKED | {"stream": True})],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *events, last, rest = done.stdout.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    assert len(events) > 3
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events)


def test_many_ask_at_once(asker: openai.OpenAI) -> None:
    """More than the node answers at a time: all are answered, and alike."""
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: asker.chat.completions.create(**ASKED), range(12)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert len({answer._request_id for answer in answers}) == 12


def spoil_receipt(_method: str, path: str, answer: Answer) -> Answer:
    """An answer whose receipt has another signature."""
    if "?inline=" not in path or answer.status != 200:
        return answer
    said = json.loads(answer.body)
    signature = said["receipt"]["signatures"][0]
    signature["sig"] = ("A" if signature["sig"][0] != "A" else "B") + signature["sig"][1:]
    return Answer(answer.status, json.dumps(said).encode())


def test_an_answer_that_does_not_hold_is_never_whole(sealed: World, client: Client, middle: Proxy) -> None:
    """A stream ends in an error, without the chunk that says why the answer ended and without [DONE]; a whole one is an error."""
    middle.lie = spoil_receipt
    with started(sealed, client, url=middle.url) as proxy, proxy.openai() as asker:
        shown: list[Any] = []
        with pytest.raises(openai.APIError, match="no answer that holds") as broken:
            shown.extend(asker.chat.completions.create(stream=True, **ASKED))
        assert broken.value.code == "bad-signature"
        with pytest.raises(openai.InternalServerError) as whole:
            asker.chat.completions.create(**ASKED)
        assert whole.value.code == "bad-signature"
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        headers = {"Authorization": f"Bearer {proxy.token}", "Content-Type": "application/json"}
        long = ASKED | {"stream": True, "max_completion_tokens": 150}
        connection.request("POST", "/v1/chat/completions", json.dumps(long), headers)
        said = connection.getresponse().read().decode()
        connection.close()
    assert '"content"' in said  # a beginning was shown
    assert said.split("\n\n")[-2].startswith('data: {"error":')
    assert "[DONE]" not in said
    assert '"finish_reason":"' not in said


def test_a_caller_that_hangs_up_cancels_its_job(sealed: World, client: Client, middle: Proxy) -> None:
    """In the middle of a stream, whose next part does not come; the gateway is told."""
    held, parts, cancelled = threading.Event(), [0], threading.Event()

    def hold(_method: str, path: str, answer: Answer) -> Answer:
        if "/answer?" in path and json.loads(answer.body)["data"]:
            parts[0] += 1
            if parts[0] > 1:
                held.wait(20)
        return answer

    def hear(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/cancel"):
            cancelled.set()

    middle.lie, middle.overhear = hold, hear
    with started(sealed, client, url=middle.url) as proxy, proxy.openai() as asker:
        with asker.chat.completions.create(stream=True, **ASKED | {"max_completion_tokens": 150}) as stream:
            next(stream)
        assert cancelled.wait(15)
        held.set()


def test_a_caller_that_hangs_up_before_the_answer_cancels_its_job(
    sealed: World, client: Client, proxy: OpenAIProxy, asker: openai.OpenAI
) -> None:
    """While the node has not begun: it never will. It is believed already, so it is not asked for evidence."""
    asker.chat.completions.create(**ASKED)
    before = set(client.bundles.jobs())
    group = os.getpgid(sealed.processes["enclave"].pid)
    os.killpg(group, signal.SIGSTOP)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        headers = {"Authorization": f"Bearer {proxy.token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(ASKED), headers)
        until = time.monotonic() + 20
        while not (new := set(client.bundles.jobs()) - before) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        connection.close()
        (job,) = new
        while (
            state := client.transport.get(f"/v1/jobs/{job}", JobView).state
        ) is not JobState.CANCELLED and time.monotonic() < until:
            time.sleep(0.05)
        assert state is JobState.CANCELLED
    finally:
        os.killpg(group, signal.SIGCONT)


def keep_waiting(_method: str, path: str, answer: Answer) -> Answer:
    """An answer of which nothing ever comes."""
    if "/answer?" not in path or answer.status != 200:
        return answer
    return Answer(200, json.dumps(json.loads(answer.body) | {"data": "", "state": "leased"}).encode())


def test_an_answer_that_takes_too_long_is_a_timeout(sealed: World, client: Client, middle: Proxy) -> None:
    """504, after which the package does not ask again, and the job is cancelled. The next asks nodes anew."""
    middle.lie = keep_waiting
    with started(sealed, client, "--timeout", "1", url=middle.url) as proxy, proxy.openai(retries=2) as asker:
        for _ in range(2):
            with pytest.raises(openai.InternalServerError) as late:
                asker.chat.completions.create(**ASKED)
            assert (late.value.status_code, late.value.code) == (504, "job-timeout")
    said = [each.path.rpartition("/")[2] for each in middle.heard if each.method == "POST"]
    assert [said.count(what) for what in ("jobs", "cancel", "attestations")] == [2, 2, 2]


def test_a_proxy_that_is_told_to_end_lets_nobody_wait(sealed: World, client: Client, middle: Proxy) -> None:
    """Who waits is told that it ends, the job is cancelled, and the process leaves in order."""
    middle.lie = keep_waiting
    with started(sealed, client, url=middle.url) as proxy, ThreadPoolExecutor(1) as threads, proxy.openai() as asker:
        waiting = threads.submit(lambda: asker.chat.completions.create(**ASKED))
        until = time.monotonic() + 30
        while not any("/answer?" in each.path for each in middle.heard) and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
        middle.lie = honest
        assert proxy.stop() == 0
        assert time.monotonic() - began < 20
        told = waiting.exception(timeout=10)
    assert told is None or isinstance(told, openai.InternalServerError)


def test_prompts_are_not_in_the_log(sealed: World, proxy: OpenAIProxy, asker: openai.OpenAI) -> None:
    """Neither the proxy's nor the gateway's; routes, statuses and jobs are."""
    answer = asker.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content
    for log in (proxy.log, sealed.log("gateway")):
        assert "planted" not in log
        assert "Aurelia" not in log
        assert answer.choices[0].message.content not in log
    last = [line for line in proxy.lines if line["event"] == "answered"][-1]
    assert (last["route"], last["status"], last["job"]) == ("/v1/chat/completions", 200, answer._request_id)

"""How much later a sealed answer's first token comes than the runtime's own, and how long the whole answer takes.

The `openai` package, unchanged, asks `blindgate proxy`, which seals to a real node with the simulated attester and a tiny causal
model, through a real gateway with SQLite, under a policy that names the log. The floor is the same package, asking the same runtime
behind a bare HTTP server on loopback. Beside them, the SDK without the proxy, against the runtime called in this process. All of it
is on this machine, so what is spent in between is spent here. Each with its floor in turn; what is told is the difference, against
the 30 ms that were asked for.

Evidence was asked for before and is judged again for each request, as the policy has it by default; how long it takes to ask is
told apart.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import openai
from bench.rows import Row, row
from bench.runtime_server import runtime_server

from blindgate import Client
from blindgate_node.backends.causal import CausalModel
from blindgate_node.backends.requests import read_chat
from openai_proxy import OpenAIProxy, environment_of
from sealed_world import CHAT, offer_model, package_chat, sealed_client, start_sealed_node
from signed_packages import PUBLISHER
from world import World

RUNS: Final = 40
ASKED_MS: Final = 30.0
BODY: Final[dict[str, Any]] = {
    "messages": [{"role": "user", "content": "the patient has a cough"}],
    "temperature": 0,
    "max_completion_tokens": 32,
}


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        package_chat(models / "chat")
        (models / "chat.files").rename(Path(folder) / "files")
        with World(Path(folder) / "world", gateway={"QUESTIONS": 1000}) as world:
            world.trust("bench", PUBLISHER.id)
            world.start_gateway()
            offer_model(world, models / "chat")
            start_sealed_node(world, "enclave", models)
            model = CausalModel(Path(folder) / "files", device="cpu")
            with sealed_client(world, Path(folder) / "client", "enclave") as client:
                alone = _measured(client, model)
            environment = environment_of(world.url, world.api_key("hospital"))
            with (
                OpenAIProxy(Path(folder) / "client", **environment) as proxy,
                proxy.openai() as asker,
                runtime_server(Path(folder) / "files") as address,
                openai.OpenAI(base_url=address, api_key="none") as floor,
            ):
                return [*_through_proxy(asker, floor), *alone]


def _through_proxy(asker: openai.OpenAI, floor: openai.OpenAI) -> list[Row]:
    _asked(asker)
    _asked(floor)
    proxied, direct = [], []
    for _ in range(RUNS):
        proxied.append(_asked(asker))
        direct.append(_asked(floor))
    later = [ours[0] - theirs[0] for ours, theirs in zip(proxied, direct, strict=True)]
    return [
        row(
            "openai: first token later through the proxy than from the runtime on loopback",
            later,
            ASKED_MS,
            target=1,
            unit="ms",
        ),
        row(
            "openai through the proxy: first token",
            [ours[0] for ours in proxied],
            _of(direct, 0),
            target=None,
            unit="ms",
        ),
        row(
            "openai through the proxy: all 32 tokens",
            [ours[1] for ours in proxied],
            _of(direct, 1),
            target=None,
            unit="ms",
        ),
    ]


def _asked(asker: openai.OpenAI) -> tuple[float, float]:
    """Milliseconds until the first piece of text, and the end of the stream."""
    begun = time.perf_counter()
    first = 0.0
    for chunk in asker.chat.completions.create(model=CHAT, stream=True, **BODY):
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter()
    return 1000 * (first - begun), 1000 * (time.perf_counter() - begun)


def _measured(client: Client, model: CausalModel) -> list[Row]:
    asking = _milliseconds(lambda: client.recipients(CHAT, enough=1).admitted[0])
    _sealed(client)  # asks for evidence, opens connections
    _direct(model)
    sealed, direct = [], []
    for _ in range(RUNS):
        sealed.append(_sealed(client))
        direct.append(_direct(model))
    later = [ours[0] - theirs[0] for ours, theirs in zip(sealed, direct, strict=True)]
    return [
        row("sealed chat: first token later than the runtime's own", later, ASKED_MS, target=1, unit="ms"),
        row("sealed chat: first token", [ours[0] for ours in sealed], _of(direct, 0), target=None, unit="ms"),
        row("sealed chat: last of 32 tokens", [ours[1] for ours in sealed], _of(direct, 1), target=None, unit="ms"),
        row(
            "sealed chat: receipt checked and logged",
            [ours[2] for ours in sealed],
            _of(direct, 1),
            target=None,
            unit="ms",
        ),
        row("sealed chat: a node asked what it proves", [asking], ASKED_MS, target=None, unit="ms"),
    ]


def _sealed(client: Client) -> tuple[float, float, float]:
    """Milliseconds until the first piece of text, the last chunk, and the end of the stream, when everything held."""
    begun = time.perf_counter()
    first = last = 0.0
    for chunk in client.chat.completions.create(model=CHAT, stream=True, **BODY):
        last = time.perf_counter()
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = last
    return tuple(1000 * (at - begun) for at in (first, last, time.perf_counter()))  # type: ignore[return-value]


def _direct(model: CausalModel) -> tuple[float, float]:
    begun = time.perf_counter()
    first = 0.0
    for chunk in model.chat(read_chat(json.dumps({"model": CHAT, "stream": True, **BODY}).encode())):
        if not first and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
            first = time.perf_counter()
    return 1000 * (first - begun), 1000 * (time.perf_counter() - begun)


def _of(runs: list[tuple[float, float]], place: int) -> float:
    found = sorted(run[place] for run in runs)
    return found[len(found) // 2]


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)

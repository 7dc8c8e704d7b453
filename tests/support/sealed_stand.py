"""A client, a gateway and two nodes that are sealed to, with a proxy on every way to the gateway: each may be made to lie."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from between import Answer, Proxy, honest
from blindgate import Client
from blindgate.chat import Stream
from blindgate.transport import Transport
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.attestations import AttestationView
from blindgate_protocol.chunks import HEADER_BYTES, STREAM_NONCE_BYTES
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import AnswerView, JobView, Lease
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import SMALL_BYTES
from runs import wait_until
from scripted_model import WORDS, ScriptedModel, package_scripted
from sealed_world import CHAT, offer_model, sealed_client, start_sealed_node
from signed_packages import PUBLISHER
from world import World

NODES = ("enclave", "other")
MESSAGES = [{"role": "user", "content": "the patient has a cough"}]
ASKED: dict[str, Any] = {"messages": MESSAGES, "temperature": 0, "max_completion_tokens": 24}
TEXT = "".join(WORDS)
_PIECE = 700


@dataclass
class Ground:
    """The processes, and the proxies between the nodes and the gateway."""

    world: World
    nodes: dict[str, Proxy]


@contextmanager
def sealed_ground(folder: Path) -> Iterator[Ground]:
    """A gateway that gives a job one lease, and two nodes with one chat model, whose every answer is `TEXT`."""
    models = folder / "models"
    models.mkdir()
    package_scripted(models / "chat")
    (models / "chat.files").rename(folder / "chat.files")
    settings: dict[str, object] = {"QUESTIONS": 1000, "ATTEMPTS": 1, "CHECKPOINT": 200}
    with World(folder / "world") as world, ExitStack() as stack:
        model = stack.enter_context(ScriptedModel())
        ground = Ground(world, {name: stack.enter_context(Proxy(world.url)) for name in NODES})
        # A node signs where it sends to: this gateway takes what was sent to its proxies.
        settings["ADDRESSES"] = ",".join([world.url, *(proxy.url for proxy in ground.nodes.values())])
        world._gateway_settings = settings
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        offer_model(world, models / "chat")
        for name, proxy in ground.nodes.items():
            start_sealed_node(world, name, models, GATEWAY=proxy.url, POLL_SECONDS=1, UPSTREAM=model.url)
        yield ground


def whole(client: Client, **changes: Any) -> str:
    """An answer in one piece."""
    return client.chat.completions.create(model=CHAT, **(ASKED | changes)).choices[0].message.content or ""


@dataclass
class Stand:
    """One client behind a proxy of its own.

    Attributes:
        leases: what the nodes were given, as it came.
    """

    ground: Ground
    client: Client
    proxy: Proxy
    direct: Transport
    leases: list[Lease] = field(default_factory=list)

    @property
    def world(self) -> World:
        """The processes."""
        return self.ground.world

    def key(self, name: str) -> SigningKey:
        """A node's own key."""
        return load_or_create_key(self.world.folder / name / "node.key")

    def stream(self, **changes: Any) -> Stream:
        """Ask, and read along."""
        return self.client.chat.completions.create(model=CHAT, stream=True, **(ASKED | changes))

    def result(self, job: str) -> tuple[JobView, bytes]:
        """How a job ended in truth, and its sealed answer."""
        wait_until(lambda: self.direct.get(f"/v1/jobs/{job}", JobView).state.ended, seconds=30)
        view = self.direct.get(f"/v1/jobs/{job}?inline={SMALL_BYTES}", JobView)
        return view, view.result_data or b""

    def posted(self) -> set[str]:
        """The paths of all that the client sent, each without its question or job."""
        return {said.path.split("/")[2].partition("?")[0] for said in self.proxy.heard if said.method != "GET"}

    def orders(self) -> int:
        """How many orders the client sent."""
        return sum((said.method, said.path) == ("POST", "/v1/jobs") for said in self.proxy.heard)

    def acknowledged(self) -> bool:
        """Whether the client said of any result that it had arrived."""
        return any(said.path.endswith("/acknowledge") for said in self.proxy.heard)

    def lie_to_the_client(self, about: str, change: Callable[[str, bytes], bytes]) -> None:
        """Change each good answer to a GET whose path, without its query, ends with `about`; `*` stands for an id."""

        def told(method: str, path: str, answer: Answer) -> Answer:
            place = path.partition("?")[0].split("/")
            hit = about.split("/") == ["*" if len(part) == 32 else part for part in place[2:]]
            if method != "GET" or not hit or answer.status != 200:
                return answer
            return Answer(200, change(path, answer.body))

        self.proxy.lie = told

    def lie_about_evidence(self, change: Callable[[AttestationView], AttestationView]) -> None:
        """Change each answer to a question."""

        def changed(_path: str, body: bytes) -> bytes:
            view = AttestationView.model_validate_json(body)
            return body if view.answer is None else change(view).model_dump_json().encode()

        self.lie_to_the_client("attestations/*", changed)

    def lie_about_the_end(self, change: Callable[[JobView], JobView]) -> None:
        """Change what the client is told of how its jobs ended."""

        def changed(_path: str, body: bytes) -> bytes:
            view = JobView.model_validate_json(body)
            return change(view).model_dump_json().encode() if view.state is JobState.SUCCEEDED else body

        self.lie_to_the_client("jobs/*", changed)

    def lie_about_parts(
        self, change: Callable[[bytes, list[bytes]], bytes], *, named: Mapping[str, str] | None = None
    ) -> None:
        """Show the client in place of each answer's parts what `change` makes of its nonce and its chunks, then that it ended.

        `named`: under which names nodes are shown.
        """

        def changed(path: str, body: bytes) -> bytes:
            view = AnswerView.model_validate_json(body)
            true, sealed = self.result(view.job)
            forged = change(*cut(sealed))
            begin = int(path.partition("begin=")[2].partition("&")[0])
            data = forged[begin : begin + _PIECE]
            node = (named or {}).get(view.node or "", view.node)
            state = JobState.LEASED if data else true.state
            told = AnswerView(job=view.job, state=state, generation=1, node=node, begin=begin, data=data)
            return told.model_dump_json().encode()

        self.lie_to_the_client("jobs/*/answer", changed)

    def lie_to_the_node(self, change: Callable[[Lease], Lease], name: str = "enclave") -> None:
        """Change each lease that a node is given."""

        def told(method: str, path: str, answer: Answer) -> Answer:
            if (method, path, answer.status) != ("POST", "/v1/leases", 200):
                return answer
            lease = Lease.model_validate_json(answer.body)
            self.leases.append(lease)
            return Answer(200, change(lease).model_dump_json().encode())

        self.ground.nodes[name].lie = told

    def hand_out(self, lease: Lease, name: str) -> None:
        """Give a node this lease, the next time that it asks."""
        proxy = self.ground.nodes[name]

        def told(method: str, path: str, answer: Answer) -> Answer:
            if (method, path) != ("POST", "/v1/leases"):
                return answer
            proxy.lie = honest
            return Answer(200, lease.model_dump_json().encode())

        proxy.lie = told

    def ended(self, name: str, job: str, generation: int = 1) -> dict[str, Any]:
        """What a node logged of a job's end."""

        def found() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in self.world.log(name).splitlines() if '"job.ended"' in line]
            return [line for line in lines if (line["job"], line["generation"]) == (job, generation)]

        wait_until(lambda: bool(found()), seconds=20)
        return found()[-1]


@contextmanager
def sealed_stand(
    ground: Ground, home: Path, *names: str, deadline: float | None = None, **rules: Any
) -> Iterator[Stand]:
    """A fresh client that seals to `names`, "enclave" where there are none; no proxy lies yet."""
    world = ground.world
    for proxy in ground.nodes.values():
        proxy.lie = honest
    with (
        Proxy(world.url) as proxy,
        sealed_client(world, home, *(names or ("enclave",)), url=proxy.url, **rules) as client,
        closing(Transport(world.url, world.api_key("hospital"))) as direct,
    ):
        if deadline is not None:
            client._deadline = deadline
        yield Stand(ground, client, proxy, direct)
    for proxy in ground.nodes.values():
        proxy.lie = honest


def read(stream: Stream) -> tuple[str, BlindgateError | None]:
    """What a stream gave, and what it raised in the end."""
    text = ""
    try:
        for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    except BlindgateError as error:
        return text, error
    return text, None


def cut(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """A sealed stream's nonce, and its chunks with their headers."""
    nonce, rest, chunks = sealed[:STREAM_NONCE_BYTES], sealed[STREAM_NONCE_BYTES:], []
    while rest:
        length = HEADER_BYTES + int.from_bytes(rest[:HEADER_BYTES], "big") % (1 << 31)
        chunks.append(rest[:length])
        rest = rest[length:]
    return nonce, chunks


def until_late(seconds: float) -> Callable[[Lease], Lease]:
    """Hold a lease back for so long."""

    def held(lease: Lease) -> Lease:
        time.sleep(seconds)
        return lease

    return held

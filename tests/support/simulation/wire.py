"""The network between callers and gateways: it delays, loses, cuts, and brings answers to nobody.

`Line` stands where the SDK's and the node's transports have their HTTP client, so what they do about a lost answer is theirs. A
request goes to one of the gateways, as a load balancer would send it; there a thread of its own answers it, and goes on whether
or not the caller still waits. A tenant's request may be delivered twice, by a proxy that tries again; a node's is signed and good
once.

Every request about a job is noted in the job's history, each attempt for itself: with its answer, or none.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx2

from blindgate_protocol.messages import LEASE_HEADER
from histories import LATE, OK, UNKNOWN, Operation
from simulation.scheduler import SECOND, Process, Signal

if TYPE_CHECKING:
    from simulation.world import World

OVER: Final = "over"
"""A node was told that its lease is over, at a time when it may have run out without anybody having noticed."""
_ABOUT: Final = re.compile(r"/v1/(jobs|leases)/([0-9a-f]{32})(?:/(\w+))?(?:\?|$)")
_STATE: Final = re.compile(rb'"state":"(\w+)"')
_LOSE: Final = ("request lost", "answer lost", "answer late", "body cut", "delivered twice", "network slow")
_CONFLICT, _FAULT = 409, 500
LATEST: Final = 30 * SECOND
"""After which time what a proxy sends again arrives."""


class Answer(NamedTuple):
    """What a gateway answered: as much of an `httpx2.Response` as transports look at."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it is a good one."""
        return self.status_code < 300

    def iter_raw(self, _size: int = 0) -> Iterator[bytes]:
        """The bytes, in two pieces."""
        half = len(self.body) // 2
        yield from filter(None, (self.body[:half], self.body[half:]))


class Asked(NamedTuple):
    """A request on its way."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    cut: int | None
    caller: Any


class Line:
    """One caller's way to the gateways: as much of an `httpx2.Client` as transports use.

    Attributes:
        idempotency: the `Idempotency-Key` of what is sent next, if any.
        submitting: the job of the order that is sent next.
        cut_until: until when nothing gets through.
    """

    def __init__(self, world: "World", process: Process, caller: Any, *, twice: bool) -> None:
        self._world, self._process, self._caller, self._twice = world, process, caller, twice
        self.idempotency: str | None = None
        self.submitting: str | None = None
        self.cut_until = 0

    @contextmanager
    def stream(
        self, method: str, path: str, *, content: Any, headers: Mapping[str, str] | None, timeout: Any
    ) -> Iterator[Answer]:
        """Send a request and give its answer. Raises `httpx2.TransportError`."""
        world, sent = self._world, dict(headers or {})
        if self.idempotency is not None:
            sent["Idempotency-Key"] = self.idempotency
        begun = world.scheduler.steps
        wait = int(timeout.read * SECOND)
        body = content if isinstance(content, bytes) else b"".join(content or ())
        try:
            answer = self._send(method, path, sent, body, wait)
        except BaseException:  # also where the caller dies before it could hear
            self._note(method, path, sent, None, begun)
            raise
        self._note(method, path, sent, answer, begun)
        if self.idempotency is not None and answer.is_success:
            world.ledger.answered_once(self._caller, self.idempotency, path, answer)
        yield answer

    def close(self) -> None:
        """Nothing is open."""

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes, wait: int) -> Answer:
        world, scheduler = self._world, self._world.scheduler
        scheduler.pause(self._delay())
        what = world.faults.strike(*_LOSE)
        gateway = world.some_gateway()
        if scheduler.now < self.cut_until or what == "request lost":
            scheduler.pause(5 * SECOND)
            raise httpx2.ConnectTimeout("nothing comes back")
        if gateway is None:
            raise httpx2.ConnectError("nobody listens")
        cut = int(scheduler.chance.random() * len(body)) if what == "body cut" and body else None
        asked = Asked(method, path, headers, body, cut, self._caller)
        arrived = Signal(scheduler)
        answers: list[Answer | None] = []

        def deliver(*, heard: bool) -> None:
            answer: Answer | None = None
            try:
                answer = gateway.answer(asked)
            finally:
                if heard:
                    answers.append(answer)
                    arrived.set()

        if what == "network slow":
            scheduler.pause(int(scheduler.chance.random() * 20 * SECOND))
        scheduler.spawn(gateway.process, lambda: deliver(heard=True))
        if what == "delivered twice" and self._twice:
            later = int(scheduler.chance.random() * LATEST)
            scheduler.spawn(gateway.process, lambda: deliver(heard=False), delay=later)
        return self._hear(gateway.process, arrived, answers, what=what, wait=wait, cut=cut is not None)

    def _hear(
        self, process: Process, arrived: Signal, answers: list[Answer | None], *, what: str, wait: int, cut: bool
    ) -> Answer:
        """Wait for the answer, if it can come."""
        scheduler = self._world.scheduler
        if what == "answer lost":
            scheduler.pause(int(scheduler.chance.random() * SECOND))
            raise httpx2.ReadError("the connection was reset")
        if not process.alive or not arrived.wait(wait):
            raise httpx2.ReadTimeout("no answer came in time")
        answer = answers[0]
        if answer is None or cut:
            raise httpx2.RemoteProtocolError("the connection was closed before there was an answer")
        if what == "answer late":
            scheduler.pause(int(scheduler.chance.random() * 30 * SECOND))
        scheduler.pause(self._delay())
        return answer

    def _delay(self) -> int:
        return int(self._world.scheduler.chance.random() * 4000) + 100

    def _note(self, method: str, path: str, headers: Mapping[str, str], answer: Answer | None, begun: int) -> None:
        world = self._world
        bad = "" if answer is None or answer.is_success else f" {_shown(answer)}"
        world.tally[f"answer {'none' if answer is None else answer.status_code}{bad}"] += 1
        if world.say is not None:
            told = "no answer" if answer is None else f"{answer.status_code} {_shown(answer)}"
            world.say(f"{self._process.name}: {method} {_short(path)}: {told}")
        job, kind, generation = _about(method, path, headers, self.submitting)
        if job is None or kind is None:
            return
        status = 0 if answer is None else answer.status_code
        if answer is None or status >= _FAULT:
            said, ended = UNKNOWN, None
        elif status in {200, 201} or (status == _CONFLICT and kind != "submit"):
            ended = world.scheduler.steps
            said = OK if status != _CONFLICT else LATE
            if kind == "view":
                found = _STATE.search(answer.body)
                said = found[1].decode() if found else UNKNOWN
            elif said == LATE and generation and world.audit.until.get((job, generation), 0) <= world.clock():
                said = OVER
        else:
            return
        operation = Operation(job, kind, said, float(begun), generation=generation)  # type: ignore[arg-type]
        if ended is not None:
            operation = Operation(job, kind, said, float(begun), float(ended), generation)  # type: ignore[arg-type]
        world.ledger.note(operation)


def _about(
    method: str, path: str, headers: Mapping[str, str], submitting: str | None
) -> tuple[str | None, str | None, int]:
    """Which job a request is about, what it is, and which generation it names."""
    if path == "/v1/jobs" and method == "POST":
        return submitting, "submit", 0
    found = _ABOUT.match(path)
    if found is None:
        return None, None, 0
    room, job, what = found.groups()
    if room == "jobs":
        return job, {None: "view", "cancel": "cancel"}.get(what), 0
    if what not in {"heartbeat", "commit", "release", "refuse"}:
        return None, None, 0
    return job, what, int(headers[LEASE_HEADER].partition(".")[0])


def _short(path: str) -> str:
    return re.sub(r"([0-9a-f]{6})[0-9a-f]{26,}", r"\1…", path)


def _shown(answer: Answer) -> str:
    for pattern in (rb'"code":"([\w-]+)"', rb'"state":"(\w+)"', rb'"status":"(\w+)"', rb'"generation":(\d+)'):
        found = re.search(pattern, answer.body[:8000])
        if found:
            return found[1].decode()
    return f"{len(answer.body)} bytes"

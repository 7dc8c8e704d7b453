"""To whom a request may be sealed now: nodes that were asked, believed, and are believed still.

Asking takes a node's hardware some time, so an answer serves for more than one request, for as long as the policy says
(`evidence_within`). It is not believed for as long: before each request everything about it is judged again, at that moment's time,
to the second. A certificate, a key set or a collateral that has expired since, or a key that was revoked, ends it.

What a request's classes allow is narrower than the policy, and nodes are judged by that (`decisions`): a node on a platform that
this request's classes may not use is no recipient of it, though it may be one of another request.

Which of those that are believed are taken is drawn anew for each request, so that no gateway learns from our choice.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blindgate.policy import Policy
from blindgate.recipients import Candidate, Candidates, Question, find_recipients, judge_answer
from blindgate.transport import Transport
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.errors import NoNodeError, UntrustedEvidenceError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.revocations import Revocation
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Millis

_TO_THE_SECOND: Millis = 1000
"""For so long a judgement stands: those of some platforms take as long as the rest of a request."""

_PATIENCE = 15.0
"""For so many seconds nodes are waited for."""

_SOON: Millis = 60_000
"""A key set that ends sooner is as good as over: a request has to be answered before."""


@dataclass(frozen=True)
class _Asked:
    """What was answered to a question, and when it was asked, on the monotonic clock."""

    question: Question
    candidates: tuple[Candidate, ...]
    at: float


@dataclass(frozen=True)
class _Judged:
    """Who was believed at a time, by what was revoked then."""

    good: tuple[Candidate, ...]
    at: Millis
    revoked: frozenset[tuple[str, Revocation]]


@dataclass(frozen=True)
class _Nobody:
    """That nobody was believed, why, and when that was known. No exception is kept: its frames hold a request."""

    kind: type[UntrustedEvidenceError]
    why: str
    at: float


class Admission:
    """The nodes that one client believes. Safe to use from several threads."""

    def __init__(
        self, transport: Transport, *, now: Callable[[], Millis] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        """Ask through `transport`, judge at the times that `now` gives."""
        self._transport, self._now = transport, now
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._judged: dict[tuple[str, str], _Judged] = {}
        self._nobody: dict[tuple[str, str], _Nobody] = {}
        self._asking = threading.Lock()

    def recipients(
        self,
        manifest: Signed[Manifest],
        policy: Policy,
        *,
        instead_of: tuple[Candidate, ...] = (),
        within: float | None = None,
    ) -> tuple[Candidate, ...]:
        """1 to `rules.recipients` nodes to which a request to this model may be sealed now, under what was decided of it.

        Asks nodes where it has to, and waits `_PATIENCE` seconds for them, or what `within` leaves of that. What was shown for the
        keys of `instead_of` is forgotten first (`forget`). Raises `UntrustedEvidenceError`, which says why, where none is believed,
        `NoNodeError` where none answered, and what `find_recipients` does.
        """
        wanted, key = policy.rules.recipients, (manifest.digest, _narrowness(policy))
        came = time.monotonic()
        with self._turn(within):  # who comes meanwhile has the same answer, also that there is nobody
            self._drop(instead_of)
            seconds = _PATIENCE if within is None else max(0.0, min(_PATIENCE, came + within - time.monotonic()))
            good = self._believed(key, policy)
            if good is None:
                nobody = self._nobody.get(key)
                if nobody is not None and nobody.at > came:
                    raise nobody.kind(nobody.why)
                found = find_recipients(self._transport, policy, manifest.digest, enough=wanted, seconds=seconds)
                if not found.admitted:
                    nobody = self._nobody[key] = _nobody(manifest, found)
                    raise nobody.kind(nobody.why)
                self._asked[key] = _Asked(found.question, found.admitted, time.monotonic())
                self._judged.pop(key, None)
                good = found.admitted
        return tuple(random.SystemRandom().sample(good, min(wanted, len(good))))

    def forget(self, nodes: tuple[Candidate, ...]) -> None:
        """Ask anew next time: these were believed, and did not answer.

        That ends what was shown for their key sets, of every model, and nothing else: whoever finds out later than others, after
        nodes were asked anew, has that answer.
        """
        with self._asking:
            self._drop(nodes)

    def _drop(self, nodes: tuple[Candidate, ...]) -> None:
        over = set(filter(None, map(_key_set, nodes)))
        for key in [key for key, asked in self._asked.items() if not over.isdisjoint(map(_key_set, asked.candidates))]:
            del self._asked[key]

    @contextmanager
    def _turn(self, within: float | None) -> Iterator[None]:
        """One asks, and the others wait for it. Raises `NoNodeError` for whoever cannot wait for so long."""
        if not self._asking.acquire(timeout=-1 if within is None else within):
            message = f"nothing was sealed or sent: nodes were still being asked what they prove after {within:.1f} s"
            raise NoNodeError(message)
        try:
            yield
        finally:
            self._asking.release()

    def _believed(self, key: tuple[str, str], policy: Policy) -> tuple[Candidate, ...] | None:
        """Who of those that were asked is believed still; `None` where nodes have to be asked."""
        asked = self._asked.get(key)
        if asked is None or time.monotonic() - asked.at >= policy.rules.evidence_within:
            return None
        operators, now, revoked = policy.allowed_operators(), self._now(), frozenset(policy.revoked.items())
        judged = self._judged.get(key)
        if judged is not None and 0 <= now - judged.at < _TO_THE_SECOND and judged.revoked == revoked:
            return judged.good
        again = [
            judge_answer(one.shown, asked.question, policy, node=one.node, operators=operators, now=now)
            for one in asked.candidates
            if one.shown is not None
        ]
        good = tuple(
            one
            for one in again
            if one.admitted and one.recipient is not None and one.recipient.document.key_set.expires > now + _SOON
        )
        if not good:
            return None
        self._judged[key] = _Judged(good, now, revoked)
        return good


def _key_set(node: Candidate) -> str | None:
    return None if node.recipient is None else node.recipient.document.key_set.digest


def _narrowness(policy: Policy) -> str:
    """What of a narrowed policy decides who is believed: requests that agree in it share their nodes."""
    platforms = {name: rules.model_dump(mode="json") for name, rules in policy.platforms.items()}
    return digest(canonical({"platforms": platforms, "operators": policy.operators}))


def _nobody(manifest: Signed[Manifest], found: Candidates) -> _Nobody:
    document = manifest.document
    what = f"nothing was sealed or sent: no node that may be sealed to offers model {document.name!r} version {document.version}"
    if not found.answers:
        took = (
            f"{found.taken or 'no'} node{'s' if found.taken != 1 else ''} took the question, and none answered in time"
        )
        return _Nobody(NoNodeError, f"{what}; {took}", time.monotonic())
    why = "; ".join(
        f"{one.name or one.node}: {', '.join(f'{reason.rule}: {reason.text}' for reason in one.reasons) or 'no reason'}"
        for one in found.answers
    )
    shows = f"`blindgate trust check all --model {document.name}` shows what they prove"
    return _Nobody(UntrustedEvidenceError, f"{what}. {shows}. {why}", time.monotonic())

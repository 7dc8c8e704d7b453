"""Whether what concurrent callers saw of a job can be explained by one order of what they did.

A history is linearisable when its operations can be put in an order that keeps real time (what had ended before another began
comes before it) and in which each has the answer that a job, alone, would have given. An operation without an answer, since
whoever asked hung up, may have happened at any time after it began, or never. The search is Wing and Gong's, with Lowe's memory of
what was tried.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

Kind = Literal["submit", "lease", "heartbeat", "commit", "release", "refuse", "cancel", "view"]
UNKNOWN = "unknown"
OK, LATE = "ok", "late"
"""A command did what it says, or was told that its lease, or the job, is over."""


@dataclass(frozen=True)
class Operation:
    """What a caller did, and what it was told.

    Attributes:
        generation: of the lease that a node's command names or that a lease gave.
        answer: `OK`, `LATE`, `UNKNOWN`, or the state that was shown.
        began, ended: seconds; without an answer it never ended.
    """

    job: str
    kind: Kind
    answer: str
    began: float
    ended: float = inf
    generation: int = 0


class State(NamedTuple):
    """Where a job stands: `none` before it was submitted."""

    name: str = "none"
    generation: int = 0


_ENDS = {"commit": "succeeded", "refuse": "failed"}


def after(state: State, done: Operation) -> Iterator[tuple[str, State]]:
    """What a job in `state` may answer, and where it stands then."""
    holds = state.name == "leased" and state.generation == done.generation
    ended = state.name not in {"none", "queued", "leased"}
    match done.kind:
        case "submit":
            yield OK, State("queued") if state.name == "none" else state
        case "lease":
            if state.name == "queued" and done.generation == state.generation + 1:
                yield OK, State("leased", done.generation)
        case "view":
            yield state.name, state
        case "cancel":
            yield (OK, state._replace(name="cancelled")) if not ended or state.name == "cancelled" else (LATE, state)
        case "heartbeat":
            yield (OK, state) if holds else (LATE, state)
        case "release":
            yield (OK, state._replace(name="queued")) if holds else (LATE, state)
        case "commit" | "refuse":
            repeated = done.kind == "commit" and state == State("succeeded", done.generation)
            yield (OK, state._replace(name=_ENDS[done.kind])) if holds or repeated else (LATE, state)


def explained(
    history: Sequence[Operation], after: Callable[[State, Operation], Iterator[tuple[str, State]]] = after
) -> bool:
    """Whether one job's history is linearisable."""
    tried: set[tuple[frozenset[int], State]] = set()

    def search(left: frozenset[int], state: State) -> bool:
        if all(history[one].answer == UNKNOWN for one in left):
            return True
        if (left, state) in tried:
            return False
        tried.add((left, state))
        first_end = min(history[one].ended for one in left)
        for one in left:
            done = history[one]
            if done.began > first_end:
                continue
            for answer, then in after(state, done):
                if done.answer in {answer, UNKNOWN} and search(left - {one}, then):
                    return True
        return False

    return search(frozenset(range(len(history))), State())

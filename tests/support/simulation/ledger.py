"""What callers were told, and whether one order of what was done explains it.

The audit knows when each change of a job was committed: that is the one order there is. So a job's history (`histories`) consists
of those changes, each at its moment, and of what callers were told between asking and hearing: how the job stood, that a lease
goes on, or that it is over. Whoever was told that they changed something must find that change among the audit's, made while they
waited; for what may be asked twice (a submission, a commit, a cancellation), made before they heard.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

from blindgate_gateway.identity import Account
from blindgate_protocol.order import Order
from histories import OK, UNKNOWN, Operation, State, explained
from histories import after as of_callers
from simulation.audit import DONE
from simulation.wire import OVER, Answer

_ONCE: Final = frozenset({"release", "refuse"})
_TWICE: Final = frozenset({"submit", "commit", "cancel"})
_THEN: Final = {
    "submit": "queued",
    "lose": "queued",
    "resend": "queued",
    "commit": "succeeded",
    "refuse": "failed",
    "bury": "dead",
    "cancel": "cancelled",
    "expire": "expired",
}


class Ledger:
    """One schedule's ledger.

    Attributes:
        orders: every order that anybody ever sent.
        accepted: the jobs whose submission was answered well.
        doomed: keys that their owners wanted destroyed; `destroyed`: those that they were told are.
        age: raised by a power failure: answers that were not durable may have been forgotten.
    """

    def __init__(self, broken: Callable[[str], None]) -> None:
        self._broken = broken
        self.told: dict[str, list[Operation]] = defaultdict(list)
        self.orders: dict[str, Order] = {}
        self.accepted: dict[str, None] = {}
        self.doomed: set[tuple[str, str]] = set()
        self.destroyed: set[tuple[str, str]] = set()
        self.age = 0
        self._once: dict[tuple[str, str, int], bytes] = {}

    def note(self, done: Operation) -> None:
        """A request about a job was answered, or was not."""
        if done.answer != UNKNOWN:
            self.told[done.job].append(done)
        if done.kind == "submit" and done.answer == OK:
            self.accepted[done.job] = None

    def answered_once(self, caller: Any, key: str, path: str, answer: Answer) -> None:
        """A request with an Idempotency-Key was answered well: the same each time, as long as that is remembered."""
        who = caller.tenant if isinstance(caller, Account) else caller.key
        name = who, f"{path} {key}", self.age
        first = self._once.setdefault(name, answer.body)
        if first != answer.body:
            self._broken(f"the same request of {who} ({key}) was answered differently")


def after(state: State, done: Operation) -> Iterator[tuple[str, State]]:
    """What a job in `state` may answer to `done`, and where it stands then."""
    if done.answer != DONE:
        yield OVER, state
        yield from ((answer, then) for answer, then in of_callers(state, done) if then == state)
        return
    kind, is_open = str(done.kind), state.name in {"queued", "leased"}
    holds = state.name == "leased" and state.generation == done.generation
    possible = {
        "submit": state.name == "none",
        "resend": state.name == "dead",
        "cancel": is_open,
        "expire": is_open,
        "lease": state.name == "queued" and done.generation == state.generation + 1,
    }
    if not possible.get(kind, holds):
        return
    if kind == "lease":
        yield DONE, State("leased", done.generation)
    elif kind == "release":
        yield DONE, state._replace(name="queued")
        yield DONE, state._replace(name="dead")
    else:
        yield DONE, state._replace(name=_THEN[kind])


def is_explained(changes: list[Operation], told: list[Operation]) -> bool:
    """Whether what was told about a job is explained by the `changes` that were made to it."""
    seen = []
    for one in told:
        if one.answer == OK and one.kind in _ONCE | _TWICE:
            since = one.began if one.kind in _ONCE else 0.0
            if not any(_is(change, one) and since <= change.began <= one.ended for change in changes):
                return False
        else:
            seen.append(one)
    return explained(sorted((*changes, *seen), key=lambda done: done.began), after)


def _is(change: Operation, told: Operation) -> bool:
    return change.kind == told.kind and told.generation in {change.generation, 0}

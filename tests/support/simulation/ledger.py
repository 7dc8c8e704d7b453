"""What callers were told, to be held against what is there in the end.

`after` is what a job may answer in each state: `histories` has it for callers; here are the clock's events, the dead letter and the
operator's besides.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from blindgate_gateway.identity import Account
from blindgate_protocol.order import Order
from histories import OK, Operation, State, explained
from histories import after as of_callers
from simulation.wire import OVER, Answer


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
        self.histories: dict[str, list[Operation]] = defaultdict(list)
        self.orders: dict[str, Order] = {}
        self.accepted: dict[str, None] = {}
        self.doomed: set[tuple[str, str]] = set()
        self.destroyed: set[tuple[str, str]] = set()
        self.age = 0
        self._once: dict[tuple[str, str, int], bytes] = {}

    def note(self, _caller: Any, done: Operation, answer: Answer | None) -> None:
        """A request about a job was answered, or was not."""
        self.histories[done.job].append(done)
        if done.kind == "submit" and answer is not None and done.answer == OK:
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
    holds = state.name == "leased" and state.generation == done.generation
    is_open = state.name in {"queued", "leased"}
    match str(done.kind):
        case "lose" if holds:
            yield OK, state._replace(name="queued")
        case "bury" if state.name == "leased":
            yield OK, state._replace(name="dead")
        case "expire" if is_open:
            yield OK, state._replace(name="expired")
        case "resend" if state.name == "dead":
            yield OK, state._replace(name="queued")
        case "lose" | "bury" | "expire" | "resend":
            return
        case "release" if holds:
            yield OK, state._replace(name="queued")
            yield OK, state._replace(name="dead")
            yield OVER, state
        case "heartbeat" | "commit" | "release" | "refuse":
            yield OVER, state
            yield from of_callers(state, done)
        case _:
            yield from of_callers(state, done)


def is_explained(history: list[Operation]) -> bool:
    """Whether one order of what was done explains what everybody was told."""
    return explained(history, after)

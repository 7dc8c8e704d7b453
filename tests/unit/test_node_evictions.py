"""What a node says about keys that it forgot."""

import pytest

from blindgate_node.evictions import MOST_WAITING, Evictions
from blindgate_node.key_cache import KeyName
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import GatewayError, GatewayUnreachableError
from blindgate_protocol.messages import EvictionReport
from blindgate_protocol.nodes import Eviction
from blindgate_protocol.signing import SigningKey, open_signed

NAME = KeyName("hospital", digest(b"a key"))


class Gateway:
    """Takes reports, or raises what it was told to."""

    def __init__(self) -> None:
        self.taken: list[Eviction] = []
        self.failure: GatewayError | None = None

    def report(self, report: EvictionReport) -> None:
        """Take one."""
        if self.failure is not None:
            raise self.failure
        self.taken += [open_signed(envelope, Eviction).document for envelope in report.evictions]


def test_a_statement_waits_until_the_gateway_takes_it() -> None:
    """A gateway that is away loses nothing; one that is back gets each statement once, in order."""
    gateway, key = Gateway(), SigningKey.generate()
    evictions = Evictions(key, gateway.report)
    gateway.failure = GatewayUnreachableError("away")
    evictions.note(NAME, "room")
    with pytest.raises(GatewayUnreachableError):
        evictions.hand_in()
    for _ in range(100):
        evictions.note(NAME, "unused")
    gateway.failure = None
    evictions.hand_in()
    evictions.hand_in()
    assert [one.reason for one in gateway.taken] == ["room"] + 100 * ["unused"]
    assert {(one.node, one.tenant, one.key) for one in gateway.taken} == {(key.id, *NAME)}


def test_what_is_never_taken_does_not_wait_for_ever() -> None:
    """A statement that the gateway refuses is dropped; so are the oldest of very many."""
    gateway = Gateway()
    evictions = Evictions(SigningKey.generate(), gateway.report)
    evictions.note(NAME, "room")
    gateway.failure = GatewayError("no such key", status=404)
    evictions.hand_in()
    gateway.failure = None
    evictions.note(KeyName("nobody", NAME.digest), "room")
    evictions.note(NAME, "stopping")

    def take(report: EvictionReport) -> None:
        if any(open_signed(envelope, Eviction).document.tenant == "nobody" for envelope in report.evictions):
            message = "no such key"
            raise GatewayError(message, status=404)
        gateway.report(report)

    evictions._report = take
    evictions.hand_in()
    assert [one.reason for one in gateway.taken] == ["stopping"], "one that is refused takes no other with it"
    gateway.taken.clear()
    for _ in range(MOST_WAITING + 10):
        evictions.note(NAME, "unused")
    evictions.hand_in()
    assert len(gateway.taken) == MOST_WAITING

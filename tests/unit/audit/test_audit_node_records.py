"""Nodes on record, held against what the log tells of them: by values alone."""

from collections.abc import Callable
from typing import Any

import pytest

from audited_gateway import NODE, OPERATOR
from blindgate_audit.findings import Findings
from blindgate_audit.records import Records
from blindgate_protocol.events import Action, Event
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.oversight import NodeRecord
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed, SigningKey
from static_logs import SOME_DAY, event

OTHER = SigningKey.from_seed(b"7" * 32)
RECENT = SOME_DAY + CLOCK_SKEW + 1000
EXPIRES = SOME_DAY + 10**9
ABOUT = f"node:{NODE.id}"


def certificate(signer: SigningKey = OPERATOR, **members: Any) -> Signed[NodeCertificate]:
    """An operator's word for the node."""
    given: dict[str, Any] = {
        "node": NODE.id,
        "name": "node-1",
        "operator": OPERATOR.id,
        "issued": SOME_DAY,
        "expires": EXPIRES,
    }
    return signer.sign(NodeCertificate(**(given | members)))


def record(signed: Signed[NodeCertificate] | None = None, **members: Any) -> NodeRecord:
    """The node as it is on record."""
    given: dict[str, Any] = {
        "key": NODE.id,
        "name": "node-1",
        "operator": OPERATOR.id,
        "enrolled": RECENT,
        "expires": EXPIRES,
        "certificate": (signed or certificate()).envelope,
    }
    return NodeRecord(**(given | members))


def enrolled(signed: Signed[NodeCertificate] | None = None) -> Event:
    """It was taken in."""
    return event(1, action=Action.NODE_ENROLLED, object=ABOUT, digest=(signed or certificate()).digest)


def dismissed() -> Event:
    """It was dismissed."""
    return event(2, action=Action.NODE_DISMISSED, object=ABOUT)


def held(kept: list[NodeRecord], *told: Event, later: tuple[Event, ...] = (), erased: int = 0) -> list[str]:
    """What is found; `later` events are told once the records were read."""
    found = Findings()
    records = Records(found)
    for index, one in enumerate((event(0, action=Action.LOG_STARTED, object="log:x"), *told)):
        records.tell(index, one)
    records.begin()
    for node in kept:
        records.node(node)
    for index, one in enumerate(later, 10):
        records.tell(index, one)
    records.finish(erased=erased)
    records.close()
    assert {one.rule for one in found} <= {"record"}
    return [one.message for one in found]


def test_nodes_that_are_on_record_as_the_log_tells_hold() -> None:
    """Taken in, dismissed, taken in again with another certificate."""
    newer = certificate(issued=SOME_DAY + 1)
    assert not held([record()], enrolled())
    assert not held([record(expires=0)], enrolled(), dismissed())
    assert not held([record(newer)], enrolled(), dismissed(), enrolled(newer))


EDITS: dict[str, tuple[Callable[[], list[str]], str]] = {
    "put in": (lambda: held([record()]), "it is on record, and no event of the log tells of it"),
    "deleted": (lambda: held([], enrolled()), "the node that entry 1 tells of is not on record"),
    "named otherwise": (lambda: held([record(name="node-2")], enrolled()), "on record is 'node-2' of"),
    "given another operator": (
        lambda: held([record(operator=OTHER.id)], enrolled()),
        f"on record is 'node-1' of {OTHER.id}",
    ),
    "given another end": (
        lambda: held([record(expires=EXPIRES + 9)], enrolled()),
        f"on record it ends at {EXPIRES + 9}",
    ),
    "given another certificate": (
        lambda: held([record(certificate(issued=SOME_DAY + 1))], enrolled()),
        f"entry 1 tells of {certificate().digest}",
    ),
    "vouched for by a stranger": (lambda: held([record(certificate(OTHER))], enrolled()), f"signed by {OTHER.id}"),
    "dismissed": (lambda: held([record(expires=0)], enrolled()), "it is dismissed on record, and no event"),
    "taken in again": (lambda: held([record()], enrolled(), dismissed()), "entry 2 tells that it was dismissed"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_named_by_its_node(edit: str) -> None:
    """Whoever writes to the database cannot write to the log."""
    do, words = EDITS[edit]
    messages = do()
    assert any(words in message for message in messages), messages
    assert all(message.startswith(ABOUT) for message in messages)


def test_a_certificate_whose_signature_does_not_verify_is_named() -> None:
    """A bit of the row was flipped."""
    forged = certificate().envelope.model_copy(update={"signatures": certificate(issued=1).envelope.signatures})
    (message,) = held([record(certificate=forged)], enrolled())
    assert "its certificate: the signature over this nodecertificate does not verify" in message


def test_nodes_come_and_go_while_they_are_read() -> None:
    """What is told after the records were read contradicts none of them; nor do nodes of before the log, or erased events."""
    assert not held([record()], enrolled(), later=(dismissed(),))
    assert not held([record()], later=(enrolled(),))
    assert not held([], later=(enrolled(),))
    assert not held([record(enrolled=SOME_DAY)])
    assert not held([record()], erased=1)

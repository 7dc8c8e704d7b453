"""A key's life as its owner signs it and as a gateway's log tells of it: real documents, without a gateway."""

from collections.abc import Sequence
from typing import Any, Final

from blindgate_protocol.events import Action, Event
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.logged import Logged
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import BlobRef

OWNER, STRANGER = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2))
BLOB: Final = BlobRef(digest="sha256:" + "ab" * 32, size=1)
DAY: Final = 86_400_000
ACTIONS: Final = {
    KeyState.REGISTERED: Action.KEY_REGISTERED,
    KeyState.ACTIVE: Action.KEY_ACTIVATED,
    KeyState.SUSPENDED: Action.KEY_SUSPENDED,
    KeyState.SUPERSEDED: Action.KEY_SUPERSEDED,
    KeyState.DEACTIVATED: Action.KEY_DEACTIVATED,
    KeyState.COMPROMISED: Action.KEY_COMPROMISED,
    KeyState.DESTRUCTION_SCHEDULED: Action.KEY_DESTRUCTION_SCHEDULED,
    KeyState.DESTROYED: Action.KEY_DESTROYED,
}


def signed(
    state: KeyState, previous: Signed[KeyStatement] | None = None, signer: SigningKey = OWNER, **changes: Any
) -> Signed[KeyStatement]:
    """The next statement of a chain; a day passes between two of them."""
    number = 1 if previous is None else previous.document.sequence + 1
    given: dict[str, Any] = {
        "key": BLOB,
        "tenant": "hospital",
        "parameters": BLOB.digest,
        "state": state,
        "client": signer.id,
        "sequence": number,
        "previous": None if previous is None else previous.digest,
        "issued": number * DAY,
    }
    if state is KeyState.DESTRUCTION_SCHEDULED:
        given["destroy_at"] = (number + 7) * DAY
    return signer.sign(KeyStatement(**(given | changes)))


def life(*states: KeyState) -> list[Signed[KeyStatement]]:
    """A chain of statements."""
    chain: list[Signed[KeyStatement]] = []
    for state in states:
        chain.append(signed(state, chain[-1] if chain else None))
    return chain


def logged(statement: Signed[KeyStatement], index: int, **changes: Any) -> Logged:
    """A statement's event, as the gateway logs it."""
    document = statement.document
    given: dict[str, Any] = {
        "time": document.issued + 20,
        "action": ACTIONS[document.state],
        "actor": "tenant-" + "0" * 32,
        "role": "tenant",
        "object": f"key:{document.key.digest}",
        "digest": statement.digest,
        "after": document.state.value,
        "details": {"client": document.client, "sequence": str(document.sequence)}
        | ({} if document.previous is None else {"previous": document.previous})
        | ({} if document.successor is None else {"successor": document.successor}),
        "software": "0.1.0",
    }
    return Logged(index=index, event=Event(**(given | changes)).to_bytes().decode(), salt=bytes(32))


def log_of(chain: Sequence[Signed[KeyStatement]]) -> list[Logged]:
    """What the gateway tells of a chain, and that the key was sent somewhere meanwhile."""
    events = [logged(statement, 10 * place) for place, statement in enumerate(chain)]
    sent = {"job": "0" * 32, "node": STRANGER.id}
    return [*events, logged(chain[0], 999, action=Action.KEY_SENT, digest=None, after=None, details=sent)]

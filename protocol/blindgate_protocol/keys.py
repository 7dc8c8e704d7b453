"""An evaluation key's life, as its owner signs it.

The client signs each event in the life of its own keys with a sequence number and the digest of the event before, so a gateway
that drops or reorders one leaves a gap that anybody with the chain can see (`key_history`).

The states are those of NIST SP 800-57, part 1, section 7, as far as they apply to a key that encrypts nothing, and the two that
say more about how a key ends:

- `registered` is its *pre-activation*: the key is there and nobody may use it;
- `active`, `suspended`, `deactivated`, `compromised`, `destroyed` are its states of the same names;
- `superseded` is its *deactivated* too, for the reason that another key took this one's place;
- `destruction-scheduled` is a key that nobody may use any more and that is destroyed at a time. It is there so that whoever still
  needs the key has a while to be noticed.

What may follow on what:

1. No state but `registered` leads to `active` for the first time, and only `suspended` and `destruction-scheduled` lead back to it.
   A key that was superseded, deactivated or compromised is never used for anything new.
2. Any key that is not destroyed may be found to be compromised, and any may be destroyed. Nothing follows on destroyed.
3. Nothing leads from compromised but destruction, now or at a time: a key that somebody else may have does not get better.
4. A scheduled destruction may be called off before its time, and leads back to where the key stood before and nowhere else:
   otherwise it would be a way round rules 1 and 3. It is put off by calling it off and scheduling it again.
5. From its time on nothing but `destroyed` follows on a scheduled destruction. The gateway does not wait for that statement: the
   owner has signed when the bytes are to go.

`reason`, `destroy_at` and `successor` are members of a statement only where they say something. So a statement without them has the
bytes, and the digest, that it had before there were such members.

Section 9 of docs/protocol.md.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, StringConstraints, ValidationInfo, model_validator

from blindgate_protocol.canonical import canonical
from blindgate_protocol.errors import MalformedError, SignatureError
from blindgate_protocol.signing import Document, Signed
from blindgate_protocol.values import WITHOUT_NUL, BlobRef, Digest, KeyId, Millis, Name

MAX_REASON: Final = 300
KeyReason = Annotated[str, StringConstraints(min_length=1, max_length=MAX_REASON, pattern=WITHOUT_NUL)]
"""Why an owner says so, in a sentence. The gateway's staff and auditors read it."""


class KeyState(StrEnum):
    """Where an evaluation key stands at the gateway."""

    REGISTERED = "registered"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    SUPERSEDED = "superseded"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTRUCTION_SCHEDULED = "destruction-scheduled"
    DESTROYED = "destroyed"


HOLDING: Final = frozenset({KeyState.SUSPENDED, KeyState.DESTRUCTION_SCHEDULED})
"""While a key is one of these, nobody leases what needs it."""

_ENDS = frozenset({KeyState.COMPROMISED, KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED})
KEY_TRANSITIONS: dict[KeyState | None, frozenset[KeyState]] = {
    None: frozenset({KeyState.REGISTERED, KeyState.ACTIVE}),
    KeyState.REGISTERED: _ENDS | {KeyState.ACTIVE},
    KeyState.ACTIVE: _ENDS | {KeyState.SUSPENDED, KeyState.SUPERSEDED, KeyState.DEACTIVATED},
    KeyState.SUSPENDED: _ENDS | {KeyState.ACTIVE, KeyState.SUPERSEDED, KeyState.DEACTIVATED},
    KeyState.SUPERSEDED: _ENDS,
    KeyState.DEACTIVATED: _ENDS,
    KeyState.COMPROMISED: frozenset({KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED}),
    # Of these but one leads from any one key's schedule: rule 4.
    KeyState.DESTRUCTION_SCHEDULED: frozenset(KeyState) - {KeyState.DESTRUCTION_SCHEDULED},
    KeyState.DESTROYED: frozenset(),
}


class KeyStatement(Document):
    """The owner of a key says which state it is in from now on.

    Attributes:
        key: the evaluation key's blob; its digest names the key.
        parameters: the digest of the key parameters, as manifests name them.
        sequence: 1 for a client's first statement about this key, then one more each time.
        previous: the digest of the statement before; `None` for the first.
        destroy_at: when the bytes are to go, after `issued`. There exactly in a statement of `destruction-scheduled`.
        reason: why, in a sentence. Not there where there is nothing to say.
        successor: the key that took this one's place. In a statement of `superseded` and in no other; not there where its owner had
            none yet.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.key-statement.v1+json"

    key: BlobRef
    tenant: Name
    parameters: Digest
    state: KeyState
    client: KeyId
    sequence: Annotated[int, Field(ge=1)]
    previous: Digest | None
    issued: Millis
    destroy_at: Millis | None = None
    reason: KeyReason | None = None
    successor: Digest | None = None

    @model_validator(mode="after")
    def _says_by_what(self) -> Self:
        if self.successor is not None and self.state is not KeyState.SUPERSEDED:
            message = f"successor belongs to {KeyState.SUPERSEDED.value} and to no other state"
            raise ValueError(message)
        if self.successor == self.key.digest:
            message = "successor must be another key"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _says_when_and_nothing_empty(self, info: ValidationInfo) -> Self:
        if (self.destroy_at is not None) != (self.state is KeyState.DESTRUCTION_SCHEDULED):
            message = f"destroy_at belongs to {KeyState.DESTRUCTION_SCHEDULED.value} and to no other state"
            raise ValueError(message)
        if self.destroy_at is not None and self.destroy_at <= self.issued:
            message = "destroy_at must be later than issued"
            raise ValueError(message)
        if info.mode == "json":  # one statement, one payload
            for name in _ABSENT:
                if name in self.model_fields_set and getattr(self, name) is None:
                    message = f"{name} is left out where it says nothing"
                    raise ValueError(message)
        return self

    def payload(self) -> bytes:
        """The document's canonical bytes, without the members that say nothing."""
        silent = {name for name in _ABSENT if getattr(self, name) is None}
        return canonical(self.model_dump(mode="json", exclude=silent))


_ABSENT: Final = ("destroy_at", "reason", "successor")


def check_statement(
    statement: Signed[KeyStatement],
    previous: Signed[KeyStatement] | None,
    earlier: Signed[KeyStatement] | None = None,
) -> None:
    """Decide whether a verified statement follows on `previous`. Raises `SignatureError` or `MalformedError`.

    Args:
        statement: the one in question.
        previous: the last one before it; `None` when it is the first.
        earlier: the one that `previous` followed on. Needed where `previous` schedules a destruction: it says where calling
            that off leads back to.
    """
    document = statement.document
    before = None if previous is None else previous.document
    if statement.signer != document.client or (before is not None and before.client != document.client):
        message = f"a statement about client {document.client}'s key is signed by {statement.signer}"
        raise SignatureError(message)
    if document.previous != (None if previous is None else previous.digest):
        message = "the statement does not follow on the last one about this key"
        raise MalformedError(message)
    if document.sequence != (1 if before is None else before.sequence + 1):
        message = f"statement {document.sequence} about this key is out of sequence"
        raise MalformedError(message)
    if before is not None and _about(document) != _about(before):
        message = "the statement is about another key"
        raise MalformedError(message)
    if document.state not in KEY_TRANSITIONS[None if before is None else before.state]:
        came_from = "new" if before is None else before.state.value
        message = f"a key that is {came_from} cannot become {document.state.value}"
        raise MalformedError(message)
    if before is not None and before.destroy_at is not None and document.state is not KeyState.DESTROYED:
        _check_called_off(document, before, earlier)


def _check_called_off(document: KeyStatement, before: KeyStatement, earlier: Signed[KeyStatement] | None) -> None:
    # 5.
    if before.destroy_at is not None and document.issued >= before.destroy_at:
        message = f"the time of this key's destruction has come: it cannot become {document.state.value}"
        raise MalformedError(message)
    # 2.
    if document.state is KeyState.COMPROMISED:
        return
    # 4.
    stood = None if earlier is None or earlier.digest != before.previous else earlier.document.state
    if document.state is not stood:
        message = f"calling off a destruction leads back to where the key stood, not to {document.state.value}"
        raise MalformedError(message)


def _about(statement: KeyStatement) -> tuple[BlobRef, str, str]:
    """What no later statement about the same key may change."""
    return statement.key, statement.tenant, statement.parameters

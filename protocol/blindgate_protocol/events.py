"""What the log tells: one event for each change of state, and the commitment to it that stands in the tree.

An *entry* of the tree is a version byte and HMAC-SHA-256 of the event's canonical JSON under 32 random bytes, its *salt*. The entry
says nothing by itself, not even of a guessable event. Whoever is shown event and salt can check that this, and nothing else, was
logged; once event and salt are erased, nobody can, and the tree stands as before.

An event holds no body of a request and no name of a person or a tenant: those are *pseudonyms*, random texts that the gateway can
translate until it erases the translation. Values that can be guessed never occur bare: digests are of signed documents and
ciphertexts, which hold random bits.

Gateways are updated before auditors are, and an event outlives every version. So what an event has, its members, is fixed by its
`version`, and the list of actions is not: a reader takes an action that it has no name for by the name that it gives itself
(`OtherAction`), holds it to every proof, and concludes nothing from it.

Section 12 of docs/protocol.md.
"""

import hmac
from collections.abc import Mapping
from enum import StrEnum
from json.encoder import encode_basestring as quoted  # RFC 8785's escapes, and no others
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetCoreSchemaHandler, StringConstraints, ValidationError
from pydantic_core import CoreSchema, core_schema

from blindgate_protocol.canonical import parse_canonical
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.merkle import leaf_hash
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Digest, Millis, Name, Text, Value

SALT_BYTES: Final = 32
ENTRY_VERSION: Final = b"\x01"
ENTRY_BYTES: Final = 33
MAX_EVENT_BYTES: Final = 1 << 16
"""An event that says more is none; `logged` carries it as text."""

Pseudonym = Annotated[str, StringConstraints(pattern=r"^(?:tenant|staff|person|credential)-[0-9a-f]{32}$")]
"""Stands for somebody whom only the gateway can name, and only for as long as it keeps the translation."""

Actor = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,31}(?:[-:][A-Za-z0-9_-]{1,64})?$")]
"""A pseudonym, a signing key's id, `gateway` for what it does by itself, `command-line` for who works on its machine, `unknown`."""

ObjectId = Annotated[str, StringConstraints(pattern=r"^[a-z-]{1,32}:[A-Za-z0-9:._/-]{1,160}$")]
"""What an event is about: its kind and its id, such as `key:sha256:…`, `job:…`, `node:ed25519:…`."""


class Action(StrEnum):
    """What happened. An evaluation key's life in the words of NIST SP 800-57, and what happens around it."""

    KEY_REGISTERED = "key.registered"
    KEY_ACTIVATED = "key.activated"
    KEY_SUSPENDED = "key.suspended"
    KEY_RESUMED = "key.resumed"
    KEY_SUPERSEDED = "key.superseded"
    KEY_DEACTIVATED = "key.deactivated"
    KEY_COMPROMISED = "key.compromised"
    KEY_DESTRUCTION_SCHEDULED = "key.destruction-scheduled"
    KEY_DESTROYED = "key.destroyed"
    KEY_UPLOADED = "key.uploaded"
    KEY_SENT = "key.sent"
    KEY_EVICTED = "key.evicted"
    JOB_SUBMITTED = "job.submitted"
    JOB_LEASED = "job.leased"
    JOB_RETURNED = "job.returned"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_DEAD = "job.dead"
    JOB_CANCELLED = "job.cancelled"
    JOB_EXPIRED = "job.expired"
    JOB_RESENT = "job.resent"
    JOB_ACKNOWLEDGED = "job.acknowledged"
    CORPUS_STORED = "corpus.stored"
    CORPUS_DELETED = "corpus.deleted"
    MODEL_PUBLISHED = "model.published"
    NODE_ENROLLED = "node.enrolled"
    NODE_DISMISSED = "node.dismissed"
    EVIDENCE_SHOWN = "evidence.shown"
    TENANT_ADDED = "tenant.added"
    CREDENTIAL_GRANTED = "credential.granted"
    CREDENTIAL_ROTATED = "credential.rotated"
    CREDENTIAL_REVOKED = "credential.revoked"
    LOGIN_FAILED = "login.failed"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    ROLE_CHANGED = "role.changed"
    LIMITS_CHANGED = "limits.changed"
    BUDGET_COUNTED = "budget.counted"
    RETENTION_CHANGED = "retention.changed"
    SIGNER_ADDED = "signer.added"
    SIGNER_REVOKED = "signer.revoked"
    RECORDS_DELETED = "records.deleted"
    GATEWAY_ENTERED = "gateway.entered"
    GATEWAY_FORGOTTEN = "gateway.forgotten"
    LOG_STARTED = "log.started"
    LOG_PAUSED = "log.paused"
    LOG_READ = "log.read"
    LOG_EXPORTED = "log.exported"
    EVENT_ERASED = "event.erased"
    PSEUDONYM_ERASED = "pseudonym.erased"


class OtherAction(str):
    """An action that this version has no name for: a later gateway wrote the event.

    The event is as well proven as any other, and is shown by the name that it gives itself. Nothing follows from it here.
    """

    __slots__ = ()

    @property
    def value(self) -> str:
        """The name, as an `Action` has it."""
        return str(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A name that an action could have, and none has here."""
        text = core_schema.str_schema(
            pattern=r"^[a-z]{1,32}\.[a-z]+(?:-[a-z]+)*$", max_length=_MOST_ACTION, strict=True
        )
        return core_schema.no_info_after_validator_function(cls._unknown, text)

    @classmethod
    def _unknown(cls, name: str) -> "OtherAction":
        if name in _ACTIONS:
            message = "this is the name of an action that is known, in place of the action"
            raise ValueError(message)
        return cls(name)


_ACTIONS: Final = frozenset(Action)
_MOST_ACTION: Final = 64

AnyAction = Annotated[Action | OtherAction, Field(union_mode="left_to_right")]
"""What happened, where it may be of a kind that came later than this version."""


def action_of(name: str) -> Action | OtherAction:
    """The action of this name."""
    return Action(name) if name in _ACTIONS else OtherAction(name)


class Event(Value):
    """One thing that happened.

    Attributes:
        time: when, by the clock of the gateway's process, in milliseconds since 1970.
        action: what. A gateway writes only those that it knows; whoever reads may meet others.
        actor: who did it.
        role: as what.
        tenant: whose object it is, by pseudonym; `None` for what is of no tenant.
        object: what it was done to.
        digest: of the signed document that says so: a key's statement, a receipt, a certificate; `None` where there is none.
        reason: in words, where there is something to say. Never of a tenant's data.
        request: the gateway's name of the request.
        before: the object's state before; `None` where it has none, or was not there.
        after: its state from now on.
        details: what else belongs to this action, by name.
        software: the gateway's version.
    """

    action: AnyAction
    actor: Actor
    after: Name | None = None
    before: Name | None = None
    details: Annotated[dict[Name, Text], Field(max_length=16)] = Field(default_factory=dict)
    digest: Digest | None = None
    object: ObjectId
    outcome: Literal["success", "failure"] = "success"
    reason: Text | None = None
    request: Name | None = None
    role: Name
    software: Text
    tenant: Pseudonym | None = None
    time: Millis
    version: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """The event's canonical bytes, as they are committed to. Raises `MalformedError` for more than 64 KiB."""
        return event_bytes(self.__dict__)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Event":
        """Read an event, which must have every member, also those that are null. Raises `MalformedError`."""
        _check_size(data)
        # Bytes that come out again, each of them, are the canonical form of the event that was read from them: nothing is missing,
        # twice, in another order or otherwise written. Whatever is wrong with others is named by the longer way.
        try:
            event = cls.model_validate_json(data)
            if event.to_bytes() == data:
                return event
        except (ValidationError, MalformedError):
            pass
        members = parse_canonical(data)
        # A reader who fills in what is missing would write other bytes than were committed to.
        missing = cls.model_fields.keys() - members if isinstance(members, dict) else ()
        if missing:
            message = f"not an event: {min(missing)} is missing"
            raise MalformedError(message)
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            message = f"not an event: {first_error(error)}"
            raise MalformedError(message) from error


def event_bytes(members: Mapping[str, Any]) -> bytes:
    """The canonical bytes of the event with these members, each of them, as `Event` has them; they are not checked here.

    Written out by hand, since the gateway tells events inside a job's transaction, between a hundred other things: there a general
    writer of JSON costs ten times what it costs in a loop, and whatever must first be fetched into the processor's cache is what
    counts. Raises `MalformedError` for half a surrogate pair, and for more than 64 KiB.
    """
    details = ",".join([f"{quoted(name)}:{quoted(text)}" for name, text in sorted(members["details"].items())])
    text = (
        f'{{"action":{quoted(members["action"].value)},"actor":{quoted(members["actor"])},'
        f'"after":{_or_null(members["after"])},"before":{_or_null(members["before"])},'
        f'"details":{{{details}}},"digest":{_or_null(members["digest"])},'
        f'"object":{quoted(members["object"])},"outcome":{quoted(members["outcome"])},'
        f'"reason":{_or_null(members["reason"])},"request":{_or_null(members["request"])},'
        f'"role":{quoted(members["role"])},"software":{quoted(members["software"])},'
        f'"tenant":{_or_null(members["tenant"])},"time":{members["time"]:d},"version":{members["version"]:d}}}'
    )
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        message = f"no canonical JSON form: {type(error).__name__}"
        raise MalformedError(message) from error
    _check_size(data)
    return data


def entry_of(event: bytes, salt: bytes) -> bytes:
    """What stands in the tree for an event. Raises `LogError` for a salt of another length."""
    if len(salt) != SALT_BYTES:
        message = f"a salt has {SALT_BYTES} bytes, got {len(salt)}"
        raise LogError(message)
    return ENTRY_VERSION + hmac.digest(salt, event, "sha256")


def leaf_of(event: bytes, salt: bytes) -> bytes:
    """The leaf hash of an event. Raises `LogError` for a salt of another length."""
    return leaf_hash(entry_of(event, salt))


def commitment_to(words: str, salt: str) -> str:
    """What an event has for words that it does not tell: HMAC-SHA-256 of their UTF-8 under `salt`, both hexadecimal.

    Whoever is shown words and salt can check that these, and no others, were said; without the salt nobody can guess at them.
    Raises `MalformedError` for a salt that is not hexadecimal.
    """
    try:
        key = bytes.fromhex(salt)
    except ValueError as error:
        message = "the salt of a commitment is not hexadecimal"
        raise MalformedError(message) from error
    return hmac.digest(key, words.encode(errors="surrogatepass"), "sha256").hex()


def _or_null(text: str | None) -> str:
    return "null" if text is None else quoted(text)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_EVENT_BYTES:
        message = f"an event of {len(data)} bytes: at most {MAX_EVENT_BYTES}"
        raise MalformedError(message)

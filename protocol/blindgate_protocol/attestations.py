"""Questions for evidence: what a client asks nodes through a gateway, and what each answers.

A client asks, for one model and under one policy, with a nonce that nobody could know before. Each node that has an attester
takes the question once, and answers with a `Recipient` that it signed and the `Evidence` that it names; or says why it does not.
The gateway carries both. It knows sizes and who calls, and nothing here tells it, or asks it, whether anything holds: whoever reads
an answer has it from a stranger until `evidence.check_recipient` and the appraisal have passed.

A question lives for as long as whoever asks waits, a minute at most. What answers its nonce is of no use to a later one.

Sections 10 and 13 of docs/protocol.md.
"""

from typing import Annotated, Final

from pydantic import Field, StringConstraints, WithJsonSchema

from blindgate_protocol.evidence import Evidence, Nonce
from blindgate_protocol.messages import Refusal
from blindgate_protocol.signing import Envelope
from blindgate_protocol.values import Digest, KeyId, Millis, Value

QUESTION_LIVES: Final[Millis] = 60_000
"""How long a question may be answered at most, from when it was asked."""

MOST_TAKERS: Final = 16
"""How many nodes take one question: as many as a job can be sealed to."""

MAX_RECIPIENT_BYTES: Final = 1 << 16
"""The most that a recipient's envelope has, in canonical bytes. An honest one has about 8,000."""

AttestationId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""128 random bits, chosen by the gateway."""

EvidenceBytes = Annotated[
    bytes,
    Field(min_length=1, max_length=Evidence.most_bytes),
    WithJsonSchema({"type": "string", "format": "base64url", "minLength": 1}),
]
"""An `Evidence`'s canonical bytes, unread, in base64url."""


class AttestationRequest(Value):
    """A client asks what nodes prove.

    Attributes:
        model: the digest of the manifest of the model that they are to have.
        policy: by which digest the client calls its policy.
        nonce: 32 bytes that nobody could know before.
        node: the key of the one node that is asked; `None`: every node that takes questions, up to `MOST_TAKERS`.
        lives: for how many milliseconds it is waited for: no node is troubled for who has left.
    """

    model: Digest
    policy: Digest
    nonce: Nonce
    node: KeyId | None = None
    lives: Annotated[int, Field(ge=1, le=QUESTION_LIVES)] = QUESTION_LIVES


class AttestationPoll(Value):
    """A node asks for a question.

    Attributes:
        wait: how long to hold the request open when there is none, in milliseconds.
    """

    wait: Annotated[int, Field(ge=0, le=60_000)] = 0


class AttestationWork(Value):
    """A question, for a node: it gets each once.

    Attributes:
        until: from when on an answer is taken no more, by the gateway's clock.
        manifest: the model's, by the gateway's word; the node verifies it.
    """

    attestation: AttestationId
    model: Digest
    policy: Digest
    nonce: Nonce
    until: Millis
    manifest: Envelope


class AttestationAnswer(Value):
    """What a node answers.

    Attributes:
        recipient: a `Recipient`, signed by the node.
        evidence: the bytes of the `Evidence` that it names.
    """

    recipient: Envelope
    evidence: EvidenceBytes


class AttestationView(Value):
    """How a question stands, and at most one answer: the one behind the place that the asker named.

    Attributes:
        until: from when on it is not there any more.
        taken: how many nodes took it.
        ended: how many of those answered, or said why they do not.
        place: where `node` stands among those, from 1; where nobody is shown, the place that the asker named.
        node: who said it, by the gateway's word. `None`: nobody has, behind that place.
        answer: what that node answered.
        refusal: why it does not answer, in its words. Unsigned: it proves nothing.
    """

    attestation: AttestationId
    until: Millis
    taken: Annotated[int, Field(ge=0)] = 0
    ended: Annotated[int, Field(ge=0)] = 0
    place: Annotated[int, Field(ge=0)] = 0
    node: KeyId | None = None
    answer: AttestationAnswer | None = None
    refusal: Refusal | None = None

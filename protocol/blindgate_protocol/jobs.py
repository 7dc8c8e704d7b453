"""A job's states, and the only ways between them.

    queued ──lease──▶ leased ──commit──▶ succeeded
      ▲                 │ ├──refuse───▶ failed       the node says these bytes can never be computed on
      └──release, lose──┘ └──bury─────▶ dead         the last attempt was lost too: the dead letter
    queued, leased ──cancel──▶ cancelled
    queued, leased ──expire──▶ expired               the order's deadline passed
    dead ──resend──▶ queued                          the gateway's operator sends it again, with fresh attempts

A state machine of values: who may cause an event, and how it is written down atomically, is the gateway's `jobs` and `leases`.
Section 7 of docs/protocol.md.
"""

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum

from blindgate_protocol.errors import TransitionError


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to the job any more, unless somebody takes the dead letter up again."""
        return self not in {JobState.QUEUED, JobState.LEASED}


class JobEvent(StrEnum):
    """What can happen to a job."""

    LEASE = "lease"
    RELEASE = "release"
    LOSE = "lose"
    BURY = "bury"
    COMMIT = "commit"
    REFUSE = "refuse"
    CANCEL = "cancel"
    EXPIRE = "expire"
    RESEND = "resend"


TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (JobState.QUEUED, JobEvent.LEASE): JobState.LEASED,
    (JobState.LEASED, JobEvent.RELEASE): JobState.QUEUED,
    (JobState.LEASED, JobEvent.LOSE): JobState.QUEUED,
    (JobState.LEASED, JobEvent.BURY): JobState.DEAD,
    (JobState.LEASED, JobEvent.COMMIT): JobState.SUCCEEDED,
    (JobState.LEASED, JobEvent.REFUSE): JobState.FAILED,
    (JobState.QUEUED, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.LEASED, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.QUEUED, JobEvent.EXPIRE): JobState.EXPIRED,
    (JobState.LEASED, JobEvent.EXPIRE): JobState.EXPIRED,
    (JobState.DEAD, JobEvent.RESEND): JobState.QUEUED,
}


def sources(event: JobEvent) -> frozenset[JobState]:
    """The states in which `event` can happen."""
    return frozenset(state for state, possible in TRANSITIONS if possible is event)


def next_state(state: JobState, event: JobEvent) -> JobState:
    """Where `event` takes a job that is in `state`. Raises `TransitionError`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        message = f"a job that is {state.value} cannot {event.value}"
        raise TransitionError(message) from None


def queue_id(tenant: str, family: str, takers: Iterable[str]) -> str:
    """The id of the queue of a tenant's jobs of one family of models, which these operators or nodes may compute: 32 hex digits."""
    return hashlib.sha256(json.dumps([tenant, family, sorted(takers)]).encode()).hexdigest()[:32]

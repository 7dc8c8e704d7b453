"""Questions for evidence, and what nodes answer: carried, and not looked into.

A tenant asks with a nonce, for a model, under the name that it has for its policy. Each node that pulls questions takes it once; or
the one node that the tenant named does. Answers are shown in the order in which they came.

To attest is slow, and hardware limits how often it can be done. So questions are few, and short-lived:

1. a tenant asks for a model that is in the catalogue, at most `questions` times a minute (setting), which is also how many of its
   questions there are at once, since each lives for a minute at most (`QUESTION_LIVES`), and no longer than its asker waits;
2. at most `MOST_TAKERS` nodes take a question, each once;
3. a node gets first the question of the tenant of whom it took fewest in that minute, so that one who asks much delays one who asks
   little by no more than what the node is at. How many a node answers is its own to limit, and it does.

An answer is taken when

4. the node that signed the request took the question, has not answered it, and its time is not over;
5. the recipient's envelope names that same node as its signer, and is no larger than any honest one;
6. the evidence has at most `evidence` bytes (setting).

An answer that is taken is an event, `evidence.shown`: node, model, and the digest of the offer, by which a receipt's evidence is
found again; neither nonce nor policy. A question is none: what nobody answered, nobody can have relied on.

Whether anything holds is the tenant's to find out. Here no signature is verified and no evidence is parsed: a gateway that knew
what nodes prove would soon be asked to say so.
"""

import base64
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sqlalchemy import and_, bindparam, delete, exists, func, or_, select, update

from blindgate_gateway.database import Database, Row, Transaction, clock, prepared, upsert
from blindgate_gateway.hangups import is_gone
from blindgate_gateway.identity import Account, Node, Role
from blindgate_gateway.log.objects import node_object
from blindgate_gateway.log.telling import node_actor, tell
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import attestation_answers, attestations, manifests
from blindgate_gateway.wakeups import QUESTIONS
from blindgate_protocol.attestations import (
    MAX_RECIPIENT_BYTES,
    MOST_TAKERS,
    QUESTION_LIVES,
    AttestationAnswer,
    AttestationPoll,
    AttestationRequest,
    AttestationView,
    AttestationWork,
)
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import MalformedError, RecipientError
from blindgate_protocol.events import Action
from blindgate_protocol.messages import Refusal
from blindgate_protocol.signing import Envelope

routes = Routes("attestations")
LONGEST_WAIT: Final = 30_000
_ID_BYTES: Final = 16

_ALIVE = attestations.c.until > clock()
_OF_LAST_MINUTE = attestations.c.asked > clock() - QUESTION_LIVES
_OFFERED = prepared(select(manifests.c.digest).where(manifests.c.digest == bindparam("digest")))
_ASKED = prepared(
    select(func.count().label("count"), func.min(attestations.c.asked).label("first"), clock().label("now")).where(
        attestations.c.tenant == bindparam("tenant"), _OF_LAST_MINUTE
    )
)
_ADD = prepared(
    upsert(
        attestations,
        lambda statement: statement.values(
            asked=clock(), until=clock() + bindparam("lives", type_=attestations.c.until.type)
        ).returning(attestations.c.until),
    ),
    "id",
    "tenant",
    "model",
    "policy",
    "nonce",
    "node",
)
_OF_QUESTION = attestation_answers.c.attestation == attestations.c.id
_TAKEN = select(func.count()).where(_OF_QUESTION).correlate(attestations).scalar_subquery()
_ENDED = (
    select(func.count())
    .where(_OF_QUESTION, attestation_answers.c.place.is_not(None))
    .correlate(attestations)
    .scalar_subquery()
)
# 3.
_TAKEN_OF_TENANT = (
    select(func.count())
    .where(
        attestation_answers.c.node == bindparam("node"),
        attestation_answers.c.tenant == attestations.c.tenant,
        attestation_answers.c.taken > clock() - QUESTION_LIVES,
    )
    .correlate(attestations)
    .scalar_subquery()
)
_NEXT = prepared(
    select(
        attestations.c.id,
        attestations.c.tenant,
        attestations.c.model,
        attestations.c.policy,
        attestations.c.nonce,
        attestations.c.until,
        manifests.c.envelope,
    )
    .join(manifests, manifests.c.digest == attestations.c.model)
    .where(
        _ALIVE,
        or_(attestations.c.node.is_(None), attestations.c.node == bindparam("node")),
        ~exists().where(_OF_QUESTION, attestation_answers.c.node == bindparam("node")),
        _TAKEN < MOST_TAKERS,
    )
    .order_by(_TAKEN_OF_TENANT, attestations.c.asked, attestations.c.id)
    .limit(1)
)
_TAKERS = prepared(select(func.count()).where(attestation_answers.c.attestation == bindparam("question")))
_TAKE = prepared(
    upsert(attestation_answers, lambda statement: statement.values(taken=clock()).on_conflict_do_nothing()),
    "attestation",
    "node",
    "tenant",
)
_ENDED_SO_FAR = prepared(
    select(func.coalesce(func.max(attestation_answers.c.place), 0)).where(
        attestation_answers.c.attestation == bindparam("question")
    )
)
_END = prepared(
    update(attestation_answers)
    .where(
        attestation_answers.c.attestation == bindparam("question"),
        attestation_answers.c.node == bindparam("of_node"),
        attestation_answers.c.place.is_(None),
        exists().where(attestations.c.id == bindparam("question"), _ALIVE),
    )
    .values(
        place=bindparam("at"),
        recipient=bindparam("envelope"),
        evidence=bindparam("shown"),
        code=bindparam("named"),
        reason=bindparam("said"),
    )
)
_SHOWN = prepared(
    select(
        attestations.c.id,
        attestations.c.until,
        _TAKEN.label("taken"),
        _ENDED.label("ended"),
        attestation_answers.c.place,
        attestation_answers.c.node,
        attestation_answers.c.recipient,
        attestation_answers.c.evidence,
        attestation_answers.c.code,
        attestation_answers.c.reason,
    )
    .outerjoin(attestation_answers, and_(_OF_QUESTION, attestation_answers.c.place == bindparam("after") + 1))
    .where(attestations.c.id == bindparam("question"), attestations.c.tenant == bindparam("tenant"), _ALIVE)
)
_QUESTION = prepared(
    select(attestations.c.tenant, attestations.c.model).where(attestations.c.id == bindparam("question"))
)
# A question of a time that has not come was asked before the clock was set back.
_OVER = or_(~_OF_LAST_MINUTE, attestations.c.asked > clock() + QUESTION_LIVES)
_ANY_OVER = prepared(select(exists().where(_OVER).label("any")))
_FORGET = prepared(delete(attestations).where(_OVER))
_FORGET_ANSWERS = prepared(
    delete(attestation_answers).where(~exists().where(attestations.c.id == attestation_answers.c.attestation))
)


@routes.post("/v1/attestations", roles={Role.TENANT}, body=AttestationRequest, answers={201: AttestationView})
def ask(call: Call[Account, AttestationRequest]) -> Answer:
    """Ask nodes what they prove, for a model, with a nonce. Their answers are there for as long as the question is."""
    body, most = call.body, call.parts.settings.questions
    question, tenant = secrets.token_hex(_ID_BYTES), call.caller.tenant
    with call.parts.database.write(durable=False) as connection:
        # 1.
        connection.alone("attestations", tenant)
        if connection.execute(_OFFERED, {"digest": body.model}).first() is None:
            raise not_found("model")
        asked = connection.execute(_ASKED, {"tenant": tenant}).one()
        if asked.count >= most:
            message = f"this tenant asked {asked.count} questions in the last minute, and may ask {most}"
            wait = (asked.first + QUESTION_LIVES - asked.now) / 1000
            raise refusal("too-many-questions", message, retry_after=max(wait, 1.0))
        row = {"id": question, "tenant": tenant, **body.model_dump()}
        until = connection.execute(_ADD, row).scalar()
    call.parts.wakeups.wake(QUESTIONS)
    return AttestationView(attestation=question, until=until)


@routes.get(
    "/v1/attestations/<attestation>",
    roles={Role.TENANT, Role.READER},
    answers={200: AttestationView},
    parameters={
        "after": ("query", "the place behind which an answer is wanted; 0 for the first"),
        "wait": ("query", f"how long to wait for that answer, in milliseconds, at most {LONGEST_WAIT}"),
    },
)
def show(call: Call[Account, None], attestation: str) -> Answer:
    """Show how a question stands and the next answer, if it is there."""
    until = time.monotonic() + call.query("wait", default=0, most=LONGEST_WAIT) / 1000
    after = call.query("after", default=0, most=MOST_TAKERS)
    this = {"question": attestation, "tenant": call.caller.tenant, "after": after}
    with call.parts.wakeups.watch(attestation) as watch:
        while True:
            row = call.parts.database.look(_SHOWN, this)
            if row is None:
                raise not_found("question: each is there for a minute at most")
            if row.place is not None or not watch.wait(until):
                break
    return AttestationView(
        attestation=row.id,
        until=row.until,
        taken=row.taken,
        ended=row.ended,
        place=after if row.place is None else row.place,
        node=row.node,
        answer=None
        if row.recipient is None
        else AttestationAnswer(
            recipient=Envelope.from_bytes(row.recipient.encode()),
            evidence=bytes(row.evidence),
        ),
        refusal=None if row.code is None else Refusal(code=row.code, reason=row.reason),
    )


@routes.post("/v1/questions", roles={Role.NODE}, body=AttestationPoll, answers={200: AttestationWork, 204: None})
def pull(call: Call[Node, AttestationPoll]) -> Answer:
    """Take a question; with `wait`, hold the request open until there is one. 204 when there is none."""
    until = time.monotonic() + call.body.wait / 1000
    with call.parts.wakeups.watch(QUESTIONS) as watch:
        while True:
            work = _take(call)
            if work is not None or not watch.wait(until) or is_gone(call.request.environ):
                return work


def _most_bytes(settings: Settings) -> int:
    return settings.evidence * 4 // 3 + 2 * MAX_RECIPIENT_BYTES


@routes.post(
    "/v1/questions/<attestation>/answer",
    roles={Role.NODE},
    body=AttestationAnswer,
    answers={204: None},
    most=_most_bytes,
)
def answer(call: Call[Node, AttestationAnswer], attestation: str) -> Answer:
    """Answer a question that this node took, once."""
    body = call.body
    envelope = body.recipient.to_bytes()
    # 5.
    if body.recipient.signatures[0].keyid != call.caller.key:
        message = "the recipient's envelope names another signer than the node that sent it"
        raise RecipientError(message)
    if len(envelope) > MAX_RECIPIENT_BYTES:
        raise refusal("too-large", f"a recipient of {len(envelope)} bytes: at most {MAX_RECIPIENT_BYTES}")
    # 6.
    if len(body.evidence) > (most := call.parts.settings.evidence):
        raise refusal("too-large", f"evidence of {len(body.evidence)} bytes: this gateway takes at most {most}")
    given = {"envelope": body.recipient.model_dump_json(), "shown": body.evidence, "named": None, "said": None}
    with _ending(call, attestation, given) as (connection, question):
        tell(
            connection,
            Action.EVIDENCE_SHOWN,
            node_object(call.caller.key),
            by=node_actor(call.caller.key),
            tenant=question.tenant,
            digest=_payload_digest(body.recipient),
            details={"model": question.model},
        )
    return None


@routes.post("/v1/questions/<attestation>/refuse", roles={Role.NODE}, body=Refusal, answers={204: None})
def refuse(call: Call[Node, Refusal], attestation: str) -> Answer:
    """Say why this node does not answer a question that it took."""
    given = {"envelope": None, "shown": None, "named": call.body.code, "said": call.body.reason}
    with _ending(call, attestation, given):
        return None


def sweep_attestations(database: Database) -> None:
    """Forget the questions whose minute is over, and what was answered."""
    if not database.look(_ANY_OVER, {}).any:
        return
    with database.write(durable=False) as connection:
        connection.execute(_FORGET)
        connection.execute(_FORGET_ANSWERS)


def _take(call: Call[Node, AttestationPoll]) -> AttestationWork | None:
    database, node = call.parts.database, call.caller.key
    while True:
        row = database.look(_NEXT, {"node": node})
        if row is None:
            return None
        with database.write(durable=False) as connection:
            # 2.
            connection.alone("attestation", row.id)
            if connection.execute(_TAKERS, {"question": row.id}).scalar() >= MOST_TAKERS:
                continue  # others were faster: look again
            taken = connection.execute(_TAKE, {"attestation": row.id, "node": node, "tenant": row.tenant})
            if taken.rowcount == 1:
                break
    call.parts.wakeups.wake(row.id)
    return AttestationWork(
        attestation=row.id,
        model=row.model,
        policy=row.policy,
        nonce=bytes(row.nonce),
        until=row.until,
        manifest=Envelope.from_bytes(row.envelope.encode()),
    )


@contextmanager
def _ending(
    call: Call[Node, AttestationAnswer] | Call[Node, Refusal], attestation: str, given: Mapping[str, object]
) -> Iterator[tuple[Transaction, Row]]:
    """Write down what a node answered; the block is in the same transaction, and is given the question's tenant and model."""
    with call.parts.database.write() as connection:
        connection.alone("attestation", attestation)
        at = connection.execute(_ENDED_SO_FAR, {"question": attestation}).scalar() + 1
        this = {"question": attestation, "of_node": call.caller.key, "at": at}
        # 4.
        if connection.execute(_END, {**this, **given}).rowcount != 1:
            raise not_found("question that this node took and has not answered, or its time is over")
        yield connection, connection.execute(_QUESTION, {"question": attestation}).one()
    call.parts.wakeups.wake(attestation)


def _payload_digest(envelope: Envelope) -> str:
    """The digest of what an envelope says that it holds, which is the document's where it is one."""
    try:
        return digest(base64.b64decode(envelope.payload, validate=True))
    except ValueError as error:
        message = "the recipient's envelope holds what is not base64"
        raise MalformedError(message) from error

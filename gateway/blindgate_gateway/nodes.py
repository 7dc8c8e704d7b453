"""Nodes are taken in: once each, by a token that the gateway's operator gave out and a key that a node operator signed.

An enrolment holds when

1. the certificate's signer is among the settings' operators and vouches for this key now;
2. the request is signed by that same key, names this gateway and this token, and is fresh;
3. the token is good, and is used up in the same transaction that stores the node.

So a request that was overheard is useless elsewhere, and a token that was overheard is useless without a certified key.
From then on the node signs every request with that key (`identity.signatures`): the gateway gives it no secret and keeps none.
"""

from dataclasses import dataclass

from sqlalchemy import insert, select, update

from blindgate_gateway.database import Database, clock
from blindgate_gateway.identity import check_clock, spend_enrolment_token
from blindgate_gateway.log.objects import node_object
from blindgate_gateway.log.telling import COMMAND_LINE, node_actor, tell
from blindgate_gateway.problems import not_found
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.tables import nodes
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import NotAuthorisedError, PolicyError, SignatureError, UntrustedSignerError
from blindgate_protocol.events import Action
from blindgate_protocol.messages import EnrolmentAnswer, EnrolmentBody
from blindgate_protocol.nodes import EnrolmentRequest, NodeCertificate, check_certificate
from blindgate_protocol.signing import open_signed
from blindgate_protocol.values import Millis

routes = Routes("nodes")


@routes.post("/v1/nodes", body=EnrolmentBody, answers={201: EnrolmentAnswer})
def enrol(call: Call[None, EnrolmentBody]) -> Answer:
    """Take a node in. Needs no credential but the enrolment token in the body."""
    with call.parts.rates.watch(call.request):
        return _enrol(call)


def _enrol(call: Call[None, EnrolmentBody]) -> EnrolmentAnswer:
    settings = call.parts.settings
    certificate = open_signed(call.body.certificate, NodeCertificate)
    request = open_signed(call.body.request, EnrolmentRequest)
    node = request.document.node
    with call.parts.database.write() as connection:
        now = connection.execute(select(clock())).scalar()
        # 1.
        check_certificate(certificate, node=node, at=now)
        if certificate.signer not in settings.operators:
            message = f"operator {certificate.signer} is not among those that this gateway takes nodes of"
            raise UntrustedSignerError(message)
        # 2.
        if request.signer != node:
            message = f"the request is for node {node} and is signed by {request.signer}"
            raise SignatureError(message)
        if not settings.known_as(request.document.gateway):
            message = "the node was told to use another gateway than this one (see the setting `addresses`)"
            raise PolicyError(message)
        if request.document.challenge != digest(call.body.token.encode()):
            message = "the request was made for another enrolment token"
            raise NotAuthorisedError(message, status=401)
        check_clock(request.document.issued, now)
        # 3.
        spent = spend_enrolment_token(connection, call.body.token, node=node)
        document = certificate.document
        stored = {
            "name": document.name,
            "operator": certificate.signer,
            "expires": document.expires,
            "certificate": certificate.envelope.model_dump_json(),
        }
        again = update(nodes).where(nodes.c.key == node).values(**stored).returning(nodes.c.enrolled)
        enrolled = connection.execute(again).scalar()
        if enrolled is None:
            first = insert(nodes).values(key=node, enrolled=clock(), **stored).returning(nodes.c.enrolled)
            enrolled = connection.execute(first).scalar()
        tell(
            connection,
            Action.NODE_ENROLLED,
            node_object(node),
            by=node_actor(node),
            digest=certificate.digest,
            after="enrolled",
            details={
                "name": document.name,
                "operator": certificate.signer,
                "expires": str(document.expires),
                "token": spent,
                "enrolled": str(enrolled),
            },
        )
    return EnrolmentAnswer(node=node, name=document.name)


@dataclass(frozen=True)
class EnrolledNode:
    """A node, as its gateway's operator sees it."""

    key: str
    name: str
    operator: str
    expires: Millis
    enrolled: Millis


def list_nodes(database: Database) -> tuple[EnrolledNode, ...]:
    """Every enrolled node."""
    columns = (nodes.c.key, nodes.c.name, nodes.c.operator, nodes.c.expires, nodes.c.enrolled)
    with database.read() as connection:
        return tuple(
            EnrolledNode(*row) for row in connection.execute(select(*columns).order_by(nodes.c.enrolled)).all()
        )


def dismiss_node(database: Database, key: str) -> None:
    """Hear a node no longer, from now on; its leases run out. Raises `NotFoundError`."""
    with database.write() as connection:
        replaced = update(nodes).where(nodes.c.key == key).values(expires=0)
        if connection.execute(replaced).rowcount != 1:
            raise not_found(f"node: {key}")
        tell(connection, Action.NODE_DISMISSED, node_object(key), by=COMMAND_LINE, before="enrolled", after="dismissed")

"""What nodes say about keys that they forgot: their signed word, put into the log as it came.

A statement is taken when

1. it is signed by the node that hands it in, and is about that node;
2. its tenant has, or had, a key of that digest;
3. it is not dated ahead of this gateway by more than `CLOCK_SKEW`.

The event holds the whole statement, so that whoever reads the log can check the node's signature. What it proves is that the node
said so.
"""

import time

from sqlalchemy import bindparam, select

from blindgate_gateway.database import prepared
from blindgate_gateway.identity import Node, Role
from blindgate_gateway.log.objects import key_object
from blindgate_gateway.log.telling import node_actor, tell
from blindgate_gateway.problems import not_found
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.tables import keys
from blindgate_protocol.errors import ClockSkewError, SignatureError
from blindgate_protocol.events import Action
from blindgate_protocol.messages import EvictionReport
from blindgate_protocol.nodes import Eviction
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import open_signed

routes = Routes("evictions")
_KNOWN = prepared(
    select(keys.c.digest).where(keys.c.tenant == bindparam("tenant"), keys.c.digest == bindparam("digest"))
)


@routes.post("/v1/evictions", roles={Role.NODE}, body=EvictionReport, answers={204: None})
def report(call: Call[Node, EvictionReport]) -> Answer:
    """Put a node's statements about keys that it forgot into the log. All of them are taken, or none."""
    statements = [open_signed(envelope, Eviction) for envelope in call.body.evictions]
    for statement in statements:
        document = statement.document
        # 1.
        if (statement.signer, document.node) != (call.caller.key, call.caller.key):
            message = (
                f"an eviction of node {document.node} is signed by {statement.signer}, and comes from {call.caller.key}"
            )
            raise SignatureError(message)
        # 3.
        if document.issued > time.time_ns() // 1_000_000 + CLOCK_SKEW:
            message = "an eviction is dated ahead of the gateway's clock"
            raise ClockSkewError(message, status=422, problem=ClockSkewError.code)
    with call.parts.database.write() as connection:
        for statement in statements:
            document = statement.document
            # 2.
            if connection.execute(_KNOWN, {"tenant": document.tenant, "digest": document.key}).first() is None:
                raise not_found("key of this tenant")
            tell(
                connection,
                Action.KEY_EVICTED,
                key_object(document.key),
                by=node_actor(call.caller.key),
                tenant=document.tenant,
                digest=statement.digest,
                reason=document.reason,
                details={"node": document.node, "statement": statement.envelope.model_dump_json()},
            )
    return None

"""Enrolment tokens: one a node, given out by the gateway's operator, used up by the enrolment."""

from sqlalchemy import insert, update

from blindgate_gateway.database import Database, Transaction, clock
from blindgate_gateway.identity.credentials import Credential
from blindgate_gateway.log.objects import enrolment_token_object
from blindgate_gateway.log.telling import COMMAND_LINE, tell
from blindgate_gateway.tables import enrolment_tokens
from blindgate_protocol.errors import NotAuthorisedError
from blindgate_protocol.events import Action
from blindgate_protocol.values import Millis


def add_enrolment_token(database: Database, *, lasts: Millis) -> Credential:
    """Make a token for one enrolment within `lasts` milliseconds."""
    credential = Credential.generate("be")
    with database.write() as connection:
        added = insert(enrolment_tokens).values(
            id=credential.id, secret_hash=credential.hashed(), created=clock(), expires=clock() + lasts
        )
        times = connection.execute(added.returning(enrolment_tokens.c.created, enrolment_tokens.c.expires)).one()
        details = {"secret": credential.shown(), "created": str(times.created), "expires": str(times.expires)}
        what = enrolment_token_object(credential.id)
        tell(connection, Action.CREDENTIAL_GRANTED, what, by=COMMAND_LINE, after="active", details=details)
    return credential


def spend_enrolment_token(connection: Transaction, token: str, *, node: str) -> str:
    """Use `token` up for `node`, as part of a caller's transaction. Gives its id. Raises `NotAuthorisedError`."""
    credential = Credential.parse(token)
    if credential is not None and credential.kind == "be":
        spent = (
            update(enrolment_tokens)
            .where(
                enrolment_tokens.c.id == credential.id,
                enrolment_tokens.c.secret_hash == credential.hashed(),
                enrolment_tokens.c.node.is_(None),
                enrolment_tokens.c.expires > clock(),
            )
            .values(node=node)
        )
        if connection.execute(spent).rowcount == 1:
            return credential.id
    message = "the enrolment token is unknown, used, or too old"
    raise NotAuthorisedError(message, status=401)

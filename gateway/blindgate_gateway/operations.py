"""What an operator's machinery asks: is it alive, can it work, how much has it done, what is its interface."""

import hmac

from flask import Response
from sqlalchemy import select

from blindgate_gateway import metrics
from blindgate_gateway.database import clock
from blindgate_gateway.problems import refusal
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_protocol.errors import NotAuthorisedError

routes = Routes("operations")


@routes.get("/healthz", answers={200: Raw("text/plain")})
def healthz(_call: Call[None, None]) -> Answer:
    """Say that the process answers."""
    return Response("ok\n", mimetype="text/plain")


@routes.get("/readyz", answers={200: Raw("text/plain")})
def readyz(call: Call[None, None]) -> Answer:
    """Say that the database and the store of blobs can be written; 503 when not, and when this gateway is about to stop."""
    if call.parts.leaving.told:
        raise refusal("busy", "this gateway is about to stop")
    with call.parts.database.write(durable=False) as connection:
        connection.execute(select(clock().label("now")))
    if not call.parts.blobs.writable():
        raise refusal("busy", "the store of blobs cannot be written")
    return Response("ready\n", mimetype="text/plain")


@routes.get("/metrics", answers={200: Raw("text/plain")})
def show_metrics(call: Call[None, None]) -> Answer:
    """Give the counts in Prometheus's text format. Asks for a bearer token where the setting `metrics_token` is set."""
    token = call.parts.settings.metrics_token
    if token is not None:
        given = call.request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
            message = "the metrics need their own bearer token"
            raise NotAuthorisedError(message, status=401)
    return Response(metrics.exposition(call.parts.database), content_type=metrics.CONTENT_TYPE)

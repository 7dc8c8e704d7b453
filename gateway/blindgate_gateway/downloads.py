"""Blobs go out: whole, by sendfile, with their digest beside them."""

from typing import Any

from flask import Response
from werkzeug.wsgi import wrap_file

from blindgate_gateway.routing import Call
from blindgate_protocol.messages import DIGEST_HEADER


def send_blob(call: Call[Any, Any], tenant: str, digest: str) -> Response:
    """Answer with the bytes of a stored blob. Raises `NotFoundError`."""
    file = call.parts.blobs.open(tenant, digest)
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    response = Response(
        wrap_file(call.request.environ, file, 1 << 18), mimetype="application/octet-stream", direct_passthrough=True
    )
    response.content_length = size
    response.headers[DIGEST_HEADER] = digest
    return response

"""What a witness answers over HTTP. C2SP's tlog-witness.

    POST /add-checkpoint    200 and cosignature lines; 400, 403, 404, 409 (with the size that was cosigned last), 422
    GET  /healthz           200 while the record can be read, else 503

A body is refused by its length before it is read, and one without a length when it gets too long. Nobody is asked who they are: the
log's signature is what counts.
"""

import sqlite3
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from blindgate_witness.submissions import MAX_SUBMISSION_BYTES, RefusedError
from blindgate_witness.witness import Witness, log

SIZE_TYPE: Final = "text/x.tlog.size"
_TEXT: Final = "text/plain; charset=utf-8"


def create_app(witness: Witness) -> Flask:
    """The WSGI application of one witness."""
    app = Flask(__name__, static_folder=None)
    # One more: of a body in chunks, werkzeug reads so many bytes and says nothing of the rest.
    app.config["MAX_CONTENT_LENGTH"] = MAX_SUBMISSION_BYTES + 1

    @app.post("/add-checkpoint")
    def add_checkpoint() -> Response:
        data = request.get_data(cache=False)
        if len(data) > MAX_SUBMISSION_BYTES:
            raise RequestEntityTooLarge
        return Response(witness.add_checkpoint(data), content_type=_TEXT)

    @app.get("/healthz")
    def healthz() -> Response:
        witness.records.logs()
        return Response("ok\n", content_type=_TEXT)

    @app.errorhandler(RefusedError)
    def refused(error: RefusedError) -> Response:
        log.info("refused", status=error.status.value, why=str(error))
        if error.size is not None:
            return Response(f"{error.size}\n", error.status, content_type=SIZE_TYPE)
        return Response(f"{error}\n", error.status, content_type=_TEXT)

    @app.errorhandler(sqlite3.Error)
    def unwritten(error: sqlite3.Error) -> Response:
        log.error("record", why=str(error))
        message = "the witness's record cannot be read or written now: nothing was cosigned\n"
        return Response(message, HTTPStatus.SERVICE_UNAVAILABLE, content_type=_TEXT)

    @app.errorhandler(HTTPException)
    def plain(error: HTTPException) -> Response:
        response = Response(f"{error.name}\n", error.code, content_type=_TEXT)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    return app

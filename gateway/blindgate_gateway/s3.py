"""An S3-compatible store, as far as this gateway talks to it: how to reach it, bodies that stream, errors in this gateway's words.

Bodies are not signed, since that would mean to have read them before they are sent; nor are they sent twice, for there is no second
reading. boto3 is imported here, and this room only where the settings name a bucket.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from blindgate_gateway.blobs import Source, chunks
from blindgate_gateway.logs import log
from blindgate_gateway.problems import refusal
from blindgate_protocol.errors import BlindgateError

_CONNECT_SECONDS, _READ_SECONDS = 5, 60
_ATTEMPTS = 3
_GONE = {"NoSuchKey", "NoSuchUpload", "NotFound", "404"}
_NOT_NOW = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504", "429"}
_NO_VERSIONS = {"NotImplemented", "MethodNotAllowed", "501", "405"}


@dataclass(frozen=True)
class Bucket:
    """Which store, and how to reach it.

    Attributes:
        prefix: how every key begins; empty, or with a slash at the end.
        endpoint: the store's URL; `None` for Amazon's own.
        credentials: key id and secret; `None` to look where boto3 does.
        public: the store's URL as clients know it, where they may send parts to it; `None` where they may not.
        lifetime: how long a URL for a part is good, in milliseconds.
        connections: how many connections a process keeps.
    """

    name: str
    prefix: str
    endpoint: str | None
    region: str | None
    credentials: tuple[str, str] | None
    public: str | None
    lifetime: int
    connections: int

    def connect(self, endpoint: str | None) -> Any:
        """Make a client. A session is made for it, since those are for one thread."""
        key_id, secret = self.credentials or (None, None)
        config = Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=self.connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # What is asked for by address has no bucket in its host name.
            s3={"payload_signing_enabled": False, "addressing_style": "path" if endpoint else "auto"},
        )
        own = botocore.session.get_session()
        own.register_component("data_loader", _descriptions())
        session = boto3.session.Session(
            aws_access_key_id=key_id, aws_secret_access_key=secret, region_name=self.region, botocore_session=own
        )
        return session.client("s3", endpoint_url=endpoint, config=config)


@cache
def _descriptions() -> Any:
    """What botocore knows of Amazon's services: megabytes of JSON, read once for all sessions of this process."""
    return botocore.session.get_session().get_component("data_loader")


class Body:
    """A body on its way through. What its source raised is kept, since botocore turns it into an error of its own."""

    def __init__(self, source: Source, length: int, *, hashing: bool) -> None:
        self._chunks = chunks(source, length)
        self._rest = b""
        self.sha256 = hashlib.sha256()
        self._hashing = hashing
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Give up to `size` bytes, none at the end."""
        if not self._rest:
            try:
                self._rest = next(self._chunks, b"")
            except Exception as error:
                self.error = error
                raise
            if self._hashing:
                self.sha256.update(self._rest)
        given, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return given


class GoneError(Exception):
    """The store knows no such object or upload."""


class NoVersionsError(Exception):
    """The store does not keep versions, and does not know the question."""


@contextmanager
def told(body: Body | None = None) -> Iterator[None]:
    """Say what the store answered in this gateway's words: `GoneError`, `NoVersionsError`, or `GatewayError` for "not now".

    What the source of `body` raised is raised again.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in _GONE:
            raise GoneError(code) from error
        if code in _NO_VERSIONS:
            raise NoVersionsError(code) from error
        if code not in _NOT_NOW:
            raise
        raise _busy(code) from error
    except BotoCoreError as error:
        if body is not None and body.error is not None:
            raise body.error from None
        raise _busy(type(error).__name__) from error


def _busy(what: str) -> BlindgateError:
    log.warning("store.busy", error=what)
    return refusal("busy", "the store of blobs cannot take this now; try again")


def time_of(answer: Mapping[str, Any]) -> datetime:
    """The store's own time."""
    said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(said) if said else datetime.now(UTC)


def reach(bucket: Bucket) -> None:
    """See that the bucket is there. Raises `BlindgateError`."""
    try:
        client = bucket.connect(bucket.endpoint)
        client.head_bucket(Bucket=bucket.name)
        client.close()
    except (BotoCoreError, ClientError) as error:
        message = f"the bucket {bucket.name} cannot be used: {error}"
        raise BlindgateError(message) from error

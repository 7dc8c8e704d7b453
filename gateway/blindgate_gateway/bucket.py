"""Blobs in an S3-compatible store.

    s3://bucket/prefix/blobs/<tenant>/<object>      a stored object; unfinished multipart uploads have the same keys

The store says which parts have come, so an upload goes on through any process. Bytes stream through, in pieces of `CHUNK`; they
are not signed on the way, since that would mean to have read them before.

A bucket may keep versions. What is deleted here is deleted in every version, and asked for again until the store knows none.

boto3 alone does all of it (`s3`): obstore has neither multipart uploads that outlive a process nor presigned parts. Clients are
made on first use, so that a process may fork before.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from blindgate_gateway.blobs import Opened, Parted, Source, StoredObject, Stray, chunks, name_prefix, new_name
from blindgate_gateway.problems import not_found
from blindgate_gateway.s3 import Body, Bucket, GoneError, NoVersionsError, reach, time_of, told
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import BlindgateError, GatewayError


class _Answer:
    """An object on its way out: without the `fileno` of its connection, from which nobody should send a file."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int = -1, /) -> bytes:
        """Give up to `size` bytes, none at the end."""
        with told():
            data: bytes = self._body.read(size if size >= 0 else None)
            return data

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()


class IncomingObject:
    """See `blobs.Incoming`."""

    def __init__(self, blobs: "BucketBlobs", tenant: str, name: str) -> None:
        self._blobs, self._tenant, self._name = blobs, tenant, name
        self._sha256 = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The digest of what came."""
        return DIGEST_PREFIX + self._sha256.hexdigest()

    def fill(self, source: Source, length: int) -> None:
        """Send `length` bytes on to the store."""
        body = Body(source, length, hashing=True)
        self._blobs.put(self._tenant, self._name, body, length)
        self._sha256 = body.sha256

    def settle(self) -> str:
        """Give the name of what the store has said it holds."""
        return self._name


class BucketBlobs:
    """See `blobs.Blobs`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """See that the bucket is there. Keeps no client: the caller is about to fork."""
        reach(self._bucket)

    def drop_incoming_of(self, process: int) -> None:
        """Nothing: an object whose bytes did not all come never was."""

    @contextmanager
    def incoming(self, tenant: str, digest: str) -> Iterator[IncomingObject]:
        """Begin a new object of a blob."""
        name = new_name(digest)
        try:
            yield IncomingObject(self, tenant, name)
        except BlindgateError:
            self.remove(tenant, name)
            raise

    def begin(self, tenant: str, digest: str) -> tuple[str, str | None]:
        """Begin a multipart upload."""
        name = new_name(digest)
        answer = self._ask("create_multipart_upload", Key=self._key(tenant, name))
        return name, answer["UploadId"]

    def arrived(self, upload: Parted) -> frozenset[int]:
        """Ask the store which parts came whole."""
        return frozenset(number for number, _ in self._parts(upload))

    def take(self, upload: Parted, number: int, source: Source) -> None:
        """Send a part on to the store."""
        length = upload.length(number)
        try:
            have = self._ask(
                "list_parts",
                Key=self._key_of(upload),
                UploadId=upload.multipart,
                PartNumberMarker=number - 1,
                MaxParts=1,
            ).get("Parts", ())
            if any(part["PartNumber"] == number and part["Size"] == length for part in have):
                for _ in chunks(source, length):
                    pass
                return
            body = Body(source, length, hashing=False)
            this = {"Key": self._key_of(upload), "UploadId": upload.multipart, "PartNumber": number}
            self._ask("upload_part", body, ContentLength=length, **this)
        except GoneError:
            if not self.holds(upload.tenant, upload.object, upload.size):
                what = "upload"
                raise not_found(what) from None

    def urls(self, upload: Parted, numbers: Sequence[int]) -> tuple[str, ...]:
        """Sign a URL for each part, good for one PUT of exactly its length."""
        if self._bucket.public is None:
            return ()
        client = self._client(self._bucket.public)
        return tuple(
            client.generate_presigned_url(
                "upload_part",
                Params={
                    "Bucket": self._bucket.name,
                    "Key": self._key_of(upload),
                    "UploadId": upload.multipart,
                    "PartNumber": number,
                    "ContentLength": upload.length(number),
                },
                ExpiresIn=max(1, self._bucket.lifetime // 1000),
            )
            for number in numbers
        )

    def finish(self, upload: Parted) -> None:
        """Complete the multipart upload with the parts that the store itself names."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in self._parts(upload) if tag]
        if not parts:
            return  # it is an object already
        this: dict[str, Any] = {"Key": self._key_of(upload), "UploadId": upload.multipart}
        try:
            self._ask("complete_multipart_upload", MultipartUpload={"Parts": parts}, **this)
        except (GoneError, GatewayError) as error:
            # Another may have been quicker, or the answer to an attempt of ours was lost.
            if self.holds(upload.tenant, upload.object, upload.size):
                return
            if isinstance(error, GatewayError):
                raise
            what = "upload"
            raise not_found(what) from None

    def end(self, upload: Parted) -> None:
        """Abort the multipart upload, and delete the object if it was made."""
        self.drop(Stray(upload.tenant, upload.object, upload.multipart))
        self.remove(upload.tenant, upload.object)

    def open(self, tenant: str, name: str) -> tuple[Opened, int]:
        """Open an object."""
        try:
            answer = self._ask("get_object", Key=self._key(tenant, name))
        except GoneError:
            what = "blob"
            raise not_found(what) from None
        return _Answer(answer["Body"]), answer["ContentLength"]

    def holds(self, tenant: str, name: str, size: int) -> bool:
        """Whether the object is there, in full length."""
        try:
            return bool(self._ask("head_object", Key=self._key(tenant, name))["ContentLength"] == size)
        except GoneError:
            return False

    def remove(self, tenant: str, name: str) -> None:
        """Delete an object in every version."""
        self._erase(self._key(tenant, name))

    def purge(self, tenant: str, digest: str) -> None:
        """Delete all that was ever stored of a blob, in every version, and abort what is unfinished."""
        prefix = self._key(tenant, name_prefix(digest))
        for upload in self._pages("list_multipart_uploads", "Uploads", Prefix=prefix):
            self._abort(upload["Key"], upload["UploadId"])
        self._erase(prefix)

    def listing(self, tenant: str) -> Iterator[StoredObject]:
        """Every object of a tenant; a store lists keys in their order."""
        root = self._key(tenant, "")
        for found in self._pages("list_objects_v2", "Contents", Prefix=root):
            yield StoredObject(found["Key"].removeprefix(root), found["Size"])

    def strays(self, *, grace: int) -> Iterator[Stray]:
        """Objects and unfinished multipart uploads that are older than `grace` milliseconds."""
        root = f"{self._bucket.prefix}blobs/"
        now = time_of(self._ask("list_objects_v2", Prefix=root, MaxKeys=1))
        for kind, listed, changed in (
            ("list_objects_v2", "Contents", "LastModified"),
            ("list_multipart_uploads", "Uploads", "Initiated"),
        ):
            for found in self._pages(kind, listed, Prefix=root):
                tenant, _, name = found["Key"].removeprefix(root).partition("/")
                if (now - found[changed]).total_seconds() * 1000 >= grace:
                    yield Stray(tenant, name, found.get("UploadId"))

    def drop(self, stray: Stray) -> None:
        """Delete a stray."""
        key = self._key(stray.tenant, stray.object)
        if stray.multipart is None:
            self._erase(key)
        else:
            self._abort(key, stray.multipart)

    def writable(self) -> bool:
        """Whether the bucket answers. Nothing is written: that would leave a version each time."""
        try:
            self._ask("head_bucket")
        except BlindgateError:
            return False
        return True

    def put(self, tenant: str, name: str, body: Body, length: int) -> None:
        """Stream an object to the store."""
        self._ask("put_object", body, Key=self._key(tenant, name), ContentLength=length)

    def _parts(self, upload: Parted) -> Iterator[tuple[int, str]]:
        """The parts that came whole, with the store's tags; without tags where they are an object already."""
        try:
            for part in self._pages("list_parts", "Parts", Key=self._key_of(upload), UploadId=upload.multipart):
                number = part["PartNumber"]
                if number <= upload.count and part["Size"] == upload.length(number):
                    yield number, part["ETag"]
        except GoneError:
            if not self.holds(upload.tenant, upload.object, upload.size):
                what = "upload"
                raise not_found(what) from None
            yield from ((number, "") for number in upload.whole())

    def _erase(self, prefix: str) -> None:
        """Delete every version of every key that begins so, until the store knows none."""
        while True:
            try:
                page = self._ask("list_object_versions", Prefix=prefix)
                found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            except NoVersionsError:
                found = self._ask("list_objects_v2", Prefix=prefix).get("Contents", [])
            if not found:
                return
            for one in found:
                version = {"VersionId": one["VersionId"]} if one.get("VersionId") else {}
                self._ask("delete_object", Key=one["Key"], **version)

    def _abort(self, key: str, multipart: str) -> None:
        try:
            self._ask("abort_multipart_upload", Key=key, UploadId=multipart)
        except GoneError:
            return

    def _pages(self, call: str, listed: str, **parameters: Any) -> Iterator[Mapping[str, Any]]:
        with told():
            pages = self._client(self._bucket.endpoint).get_paginator(call)
            for page in pages.paginate(Bucket=self._bucket.name, **parameters):
                yield from page.get(listed, ())

    def _ask(self, call: str, body: Body | None = None, **parameters: Any) -> Mapping[str, Any]:
        if body is not None:
            parameters["Body"] = body
        with told(body):
            asked: Callable[..., Mapping[str, Any]] = getattr(self._client(self._bucket.endpoint), call)
            return asked(Bucket=self._bucket.name, **parameters)

    def _client(self, endpoint: str | None) -> Any:
        client = self._clients.get(endpoint or "")
        if client is None:
            with self._lock:
                client = self._clients.get(endpoint or "") or self._bucket.connect(endpoint)
                self._clients[endpoint or ""] = client
        return client

    def _key(self, tenant: str, name: str) -> str:
        return f"{self._bucket.prefix}blobs/{tenant}/{name}"

    def _key_of(self, upload: Parted) -> str:
        return self._key(upload.tenant, upload.object)

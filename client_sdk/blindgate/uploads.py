"""Blobs up: by digest, in parts, resumed where they stopped.

What is small does not come here: it goes along inside a message.

The gateway is asked first; what it has already is not sent again. Only missing parts are sent, so an upload that broke off in
this process or in another goes on from there. A part that the gateway refuses is an error; a connection that breaks is the
transport's to try again.
"""

from blindgate.transport import Transport
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.messages import Upload, UploadRequest
from blindgate_protocol.values import BlobRef


def blob_ref(blob: bytes) -> BlobRef:
    """The name of `blob`."""
    return BlobRef(digest=digest(blob), size=len(blob))


def upload(transport: Transport, blob: bytes) -> BlobRef:
    """Store `blob` under this tenant and give its reference. Raises `GatewayError` or `MalformedError`."""
    ref = blob_ref(blob)
    state = transport.post("/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest), Upload)
    view = memoryview(blob)
    while state.status == "parts":
        if state.upload is None or not state.missing or state.part_size < 1:
            message = "the gateway's answer to an upload names no parts"
            raise MalformedError(message)
        part = state.missing[0]
        start = (part - 1) * state.part_size
        if not 0 <= start < ref.size:
            message = f"the gateway asks for part {part} of a blob of {ref.size} bytes"
            raise MalformedError(message)
        before = state
        state = transport.put(f"/v1/uploads/{state.upload}/parts/{part}", view[start : start + state.part_size], Upload)
        if state.status == "parts" and len(state.missing) >= len(before.missing):
            message = "the gateway does not count the parts that it was sent"
            raise MalformedError(message)
    return ref

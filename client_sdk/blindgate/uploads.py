"""Blobs up: by digest, in parts, several at once, resumed where they stopped.

What is small does not come here: it goes along inside a message.

The gateway is asked first; what it has already is not sent again. Only missing parts are sent, so an upload that broke off in
this process or in another goes on from there. Where the gateway names URLs, parts go straight to its store; a part that the store
does not take (a firewall between, a URL that is too old) goes through the gateway instead. Neither is believed: an upload is over
when the gateway says that the blob is stored, and what it later serves under that digest is checked by whoever reads it.

A connection that breaks, or a server that is busy, is the transport's to try again. A part that is refused is an error.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from blindgate.transport import Transport
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import MalformedError, NotFoundError
from blindgate_protocol.messages import Upload, UploadRequest
from blindgate_protocol.values import BlobRef

AT_ONCE = 4
"""How many parts of a blob are on their way at the same time."""

_BEGINNINGS = 3
_READ_BACK = 50e6  # bytes a second: the gateway reads a blob of several parts once before it says that it is stored


def blob_ref(blob: bytes) -> BlobRef:
    """The name of `blob`."""
    return BlobRef(digest=digest(blob), size=len(blob))


def upload(transport: Transport, blob: bytes) -> BlobRef:
    """Store `blob` under this tenant and give its reference. Raises `GatewayError` or `MalformedError`."""
    ref = blob_ref(blob)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload") as pool:
        for beginning in range(_BEGINNINGS):
            try:
                _Sending(transport, pool, ref, memoryview(blob)).run()
                break
            except NotFoundError:  # the gateway has forgotten the upload, as it may when that was asked for long ago
                if beginning == _BEGINNINGS - 1:
                    raise
    return ref


class _Sending:
    """One upload, from asking for it to its end."""

    def __init__(self, transport: Transport, pool: ThreadPoolExecutor, ref: BlobRef, blob: memoryview) -> None:
        self._transport, self._pool, self._ref, self._blob = transport, pool, ref, blob
        self._wait = ref.size / _READ_BACK

    def run(self) -> None:
        """Send what is missing until the blob is stored."""
        state = self._transport.post("/v1/uploads", UploadRequest(size=self._ref.size, sha256=self._ref.digest), Upload)
        left = None
        while state.status == "parts":
            path = self._check(state)
            if left is not None and len(state.missing) >= left:
                message = "the gateway does not count the parts that it was sent"
                raise MalformedError(message)
            left = len(state.missing)
            state = (
                self._round(path, state)
                if left
                else self._transport.post(f"{path}/complete", None, Upload, wait=self._wait)
            )

    def _check(self, state: Upload) -> str:
        """See that the gateway's words make sense; gives the upload's path."""
        count = -(-self._ref.size // state.part_size) if state.part_size else 0
        if state.upload is None or not count:
            message = "the gateway's answer to an upload names no parts"
            raise MalformedError(message)
        for part in state.missing:
            if not 1 <= part <= count:
                message = f"the gateway asks for part {part} of a blob of {self._ref.size} bytes"
                raise MalformedError(message)
        return f"/v1/uploads/{state.upload}"

    def _round(self, path: str, state: Upload) -> Upload:
        """Send parts, by their URLs as far as those go, and learn what is missing then."""
        numbers = state.missing[: len(state.urls)] if state.urls else state.missing
        urls: Sequence[str | None] = state.urls or [None] * len(numbers)

        def send(number: int, url: str | None) -> Upload | None:
            start = (number - 1) * state.part_size
            data = self._blob[start : start + state.part_size]
            if url is not None and self._transport.put_elsewhere(url, data):
                return None
            # The last that arrives is answered when the whole was read.
            wait = self._wait if number in numbers[-AT_ONCE:] else 0.0
            return self._transport.put(f"{path}/parts/{number}", data, Upload, wait=wait)

        sent = [self._pool.submit(send, number, url) for number, url in zip(numbers, urls, strict=False)]
        try:
            said = [answer for future in sent if (answer := future.result()) is not None]
        finally:
            for future in sent:
                future.cancel()
            sent.clear()  # what failed knows this frame, and would keep the blob until somebody collects circles
        done = [answer for answer in said if answer.status != "parts"]
        if done:
            return done[0]
        return said[0] if said and len(numbers) == 1 else self._transport.get(path, Upload)

"""Sealed streams: what goes to the recipient, and what comes back, chunk by chunk.

    stream = nonce chunk… final chunk
    nonce  = 32 random bytes, drawn by whoever seals
    chunk  = header sealed
    header = 4 bytes, big-endian: 2^31 where this is the final chunk, plus the length of `sealed`
    sealed = AES-256-GCM(key, base XOR place, additional data = header, plaintext = padded data)
    key || base = HKDF-SHA256(content key, salt = nonce, info = the stream's context), 32 and 12 bytes

Chunks are counted from 0. The form is that of chunked Oblivious HTTP (draft-ietf-ohai-chunked-ohttp) with one change: there, the
final chunk is marked by a length of zero and runs to the end of the connection; here it has a length like every other, so that its
end is seen without waiting for a connection to close, and bytes behind it are noticed.

`Opener` refuses, before it gives out a byte of the chunk at fault:

1. a length that no chunk of this padding has, before anything is buffered; more chunks than 1,048,576; more data than was allowed;
2. a chunk that was changed, left out, put in, doubled or moved, or that is of another stream, job, direction or node: its key, its
   place or its header is another, so it does not open. Nobody is told which;
3. padding that is not the rule's (`padding`), and an empty chunk that is not the final one;
4. an end without a final chunk, and a byte behind it.

Whoever was refused once is refused always: a stream does not recover. What an opener gave out before is authentic, and the
*beginning* of what was sealed. Only after `finish` is it the whole.

Memory is flat: a sealer keeps nothing, an opener at most one chunk and what it was fed.

Section 13 of docs/protocol.md.
"""

import secrets
from collections.abc import Iterator
from typing import ClassVar, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.content_key import ContentKey, Draw
from blindgate_protocol.errors import ChunkError, PaddingError, SealError, TruncatedError
from blindgate_protocol.padding import LENGTH_BYTES, Padding
from blindgate_protocol.values import Digest, JobId, Name

MOST_CHUNKS: Final = 1 << 20
STREAM_NONCE_BYTES: Final = 32
HEADER_BYTES: Final = 4
TAG_BYTES: Final = 16
_FINAL: Final = 1 << 31
_KEY_BYTES: Final = 32
_BASE_BYTES: Final = 12
_MOST_CONTEXT_BYTES: Final = 4096


class RequestStream(CanonicalValue):
    """What a request's key is bound to.

    The order is not in it, since the order names the digest of the sealed request. The terms bind both (`sealing`).
    """

    most_bytes: ClassVar[int] = _MOST_CONTEXT_BYTES

    purpose: Literal["blindgate request v1"] = "blindgate request v1"
    job: JobId
    padding: Padding


class ResponseStream(CanonicalValue):
    """What a response's key is bound to: the job, the client's order, and which node's keys and evidence it was sealed to."""

    most_bytes: ClassVar[int] = _MOST_CONTEXT_BYTES

    purpose: Literal["blindgate response v1"] = "blindgate response v1"
    job: JobId
    order: Digest
    key_set: Digest
    evidence: Digest
    padding: Padding


class CorpusStream(CanonicalValue):
    """What the key of a file of a corpus at rest is bound to: which corpus, which file, which generation of it."""

    most_bytes: ClassVar[int] = _MOST_CONTEXT_BYTES

    purpose: Literal["blindgate corpus v1"] = "blindgate corpus v1"
    corpus: JobId
    file: Name
    generation: int
    padding: Padding = Padding()


Stream = RequestStream | ResponseStream | CorpusStream


class _ChunkKey:
    """The key of one stream, and a nonce for each place."""

    def __init__(self, content_key: ContentKey, stream: Stream, nonce: bytes) -> None:
        derived = content_key.derive(stream.to_bytes(), length=_KEY_BYTES + _BASE_BYTES, salt=nonce)
        self._aead = AESGCM(derived[:_KEY_BYTES])
        self._base = int.from_bytes(derived[_KEY_BYTES:], "big")

    def seal(self, place: int, header: bytes, padded: bytes) -> bytes:
        return self._aead.encrypt(self._nonce(place), padded, header)

    def open(self, place: int, header: bytes, sealed: bytes) -> bytes:
        return self._aead.decrypt(self._nonce(place), sealed, header)

    def _nonce(self, place: int) -> bytes:
        return (self._base ^ place).to_bytes(_BASE_BYTES, "big")


class Sealer:
    """Seals one stream. Its outputs, one after the other, are the stream.

    Attributes:
        chunks: how many chunks there are so far.
    """

    def __init__(self, content_key: ContentKey, stream: Stream, *, draw: Draw = secrets.token_bytes) -> None:
        """Begin a stream with a nonce from `draw`, which must never give the same twice."""
        self._nonce = draw(STREAM_NONCE_BYTES)
        self._key = _ChunkKey(content_key, stream, self._nonce)
        self._padding = stream.padding
        self._finished = False
        self.chunks = 0

    def seal(self, data: bytes) -> bytes:
        """Seal `data`, as one chunk where it fits into one, and as several where not. Nothing is held back.

        Raises `SealError` once the stream was finished or holds too many chunks.
        """
        return b"".join(self._seal(data, final=False))

    def finish(self, data: bytes = b"") -> bytes:
        """Seal what is left and end the stream. Raises `SealError` as `seal` does."""
        return b"".join(self._seal(data, final=True))

    def _seal(self, data: bytes, *, final: bool) -> Iterator[bytes]:
        if self._finished:
            message = "this stream was finished: begin another"
            raise SealError(message)
        self._finished = final
        yield self._nonce
        self._nonce = b""  # it stands at the beginning, once
        view, capacity = memoryview(data), self._padding.capacity
        for begin in range(0, max(len(view), 1 if final else 0), capacity):
            if self.chunks == MOST_CHUNKS:
                self._finished = True
                message = f"a stream has at most {MOST_CHUNKS} chunks: seal more data at once, or in several jobs"
                raise SealError(message)
            padded = self._padding.pad(view[begin : begin + capacity])
            header = _header(len(padded) + TAG_BYTES, final=final and begin + capacity >= len(view))
            yield header
            yield self._key.seal(self.chunks, header, padded)
            self.chunks += 1


class Opener:
    """Opens one stream, fed in whatever pieces it comes.

    Attributes:
        chunks: how many chunks were opened.
        done: whether the final chunk was opened.
    """

    def __init__(self, content_key: ContentKey, stream: Stream, *, most_bytes: int | None = None) -> None:
        """Wait for a stream with at most `most_bytes` of data; `None`: as many as a stream can have."""
        self._content_key = content_key
        self._stream = stream
        self._key: _ChunkKey | None = None
        self._pending = bytearray()
        self._left = most_bytes
        self._refused: SealError | None = None
        self.chunks = 0
        self.done = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and give the data of every chunk that is now whole.

        Raises `ChunkError` or `PaddingError`, then and ever after (rules 1 to 4).
        """
        if self._refused is not None:
            raise self._refused
        self._pending += data
        try:
            return list(self._opened())
        except SealError as error:
            self._refuse(error)
            raise

    def finish(self) -> None:
        """Say that nothing more comes. Raises `TruncatedError` where the final chunk did not, and whatever `feed` raised."""
        if self._refused is None and not self.done:
            message = f"the stream ends behind {self.chunks} chunks, without its final one: what came is not the whole"
            self._refuse(TruncatedError(message, place=self.chunks))
        if self._refused is not None:
            raise self._refused

    def _refuse(self, error: SealError) -> None:
        self._refused = error
        self._pending.clear()

    def _opened(self) -> Iterator[bytes]:
        pending = self._pending
        if self._key is None:
            if len(pending) < STREAM_NONCE_BYTES:
                return
            self._key = _ChunkKey(self._content_key, self._stream, self._take(STREAM_NONCE_BYTES))
        while pending:
            # 4.
            if self.done:
                message = "there are bytes behind the final chunk"
                raise ChunkError(message, place=self.chunks)
            if len(pending) < HEADER_BYTES:
                return
            # 1.
            final, length = self._read_header()
            if len(pending) < HEADER_BYTES + length:
                return
            header = self._take(HEADER_BYTES)
            yield self._open(self._key, header, self._take(length), final=final)

    def _read_header(self) -> tuple[bool, int]:
        word = int.from_bytes(self._pending[:HEADER_BYTES], "big")
        final, length = word >= _FINAL, word % _FINAL
        padding = self._stream.padding
        size = length - LENGTH_BYTES - TAG_BYTES
        if not 0 <= size <= padding.capacity or size != padding.size_of(size):
            message = f"chunk {self.chunks} has a length that no chunk of this stream has"
            raise ChunkError(message, place=self.chunks)
        if self.chunks == MOST_CHUNKS:
            message = f"a stream has at most {MOST_CHUNKS} chunks"
            raise ChunkError(message, place=self.chunks)
        return final, length

    def _open(self, key: _ChunkKey, header: bytes, sealed: bytes, *, final: bool) -> bytes:
        # 2.
        try:
            padded = key.open(self.chunks, header, sealed)
        except InvalidTag as error:
            message = f"chunk {self.chunks} does not open: it was changed, belongs elsewhere, or is of another stream"
            raise ChunkError(message, place=self.chunks) from error
        # 3.
        data = self._stream.padding.unpad(padded)
        if not data and not final:
            message = f"chunk {self.chunks} is empty and not the final one"
            raise PaddingError(message)
        # 1.
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                message = f"with chunk {self.chunks} the stream holds more data than is allowed"
                raise ChunkError(message, place=self.chunks)
        self.chunks += 1
        self.done = final
        return data

    def _take(self, length: int) -> bytes:
        with memoryview(self._pending) as view:
            taken = bytes(view[:length])
        del self._pending[:length]
        return taken


def _header(length: int, *, final: bool) -> bytes:
    return ((_FINAL if final else 0) + length).to_bytes(HEADER_BYTES, "big")

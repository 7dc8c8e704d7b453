"""A sealed job, from the request as it came to the answer as it goes: opened, computed, sealed; and what the receipt says of both.

The order and the manifest were checked (`jobs`), the request has the digest that the order names. Then

1. the model is loaded here, the one of this manifest (`plain_models`);
2. the seal is opened, once (`enclave`), and the request with it;
3. the model answers, under the manifest's limits; what the client got wrong is part of the answer, and no gateway's business;
4. the answer is sealed as it is written, and sent along where the client asked for a stream (`relay`);
5. prompt and answer are committed to, under keys that only the client can open.

What fails before 3 refuses or releases the job, in words that say nothing of the request. What the runtime fails at releases it.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from blindgate_node.backends.interface import ChatBackend, CorpusBackend, CorpusSource, EmbeddingBackend, TableBackend
from blindgate_node.backends.requests import read_chat, read_embedding, read_query
from blindgate_node.blobs import Result
from blindgate_node.enclave import Enclave
from blindgate_node.plain_models import PlainModel
from blindgate_node.receipts import Commitments
from blindgate_node.relay import Relay
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.chunks import Sealer
from blindgate_protocol.errors import BackendError, CorpusError, InputError, PolicyError, SealTermsError
from blindgate_protocol.messages import AnswerPart
from blindgate_protocol.order import Order
from blindgate_protocol.sealed_bodies import NUMBER_BYTES, Failure, FailureLine, TableHead, line_of
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef

_MAX_TEXT: Final = 1900


@dataclass(frozen=True)
class SealedAnswer:
    """A sealed answer, whole."""

    result: Result
    commitments: Commitments


@dataclass(frozen=True)
class SealedJobs:
    """What it takes to answer sealed requests.

    Attributes:
        models: what is loaded, by the manifests' digests.
    """

    enclave: Enclave
    models: Mapping[str, PlainModel]

    def answer(  # noqa: PLR0913  (what came with the lease, and the ways out of here)
        self,
        order: Signed[Order],
        seal: bytes | None,
        request: bytes,
        *,
        send: Callable[[AnswerPart], None],
        check: Callable[[], None],
        corpus_blob: Callable[[str, BlobRef], bytes] | None = None,
    ) -> SealedAnswer:
        """Answer a job; `send` carries parts of the answer, `check` raises when the job should not go on.

        `corpus_blob` gives blobs of the tenant's corpora, as `CorpusSource.fetch`.

        Raises `PolicyError` for a model that is not here, what `Enclave.open` does, `BackendError`, and what `check` does.
        """
        # 1.
        model = self.models.get(order.document.model.manifest)
        if model is None:
            message = f"model {order.document.model.name!r} is not loaded on this node"
            raise PolicyError(message)
        if seal is None:
            message = "no seal came with the job"
            raise SealTermsError(message)
        manifest = model.manifest.document
        # 2.
        opened = self.enclave.open(seal, request, order=order, most_bytes=manifest.limits.input_bytes)
        unsealed = opened.unsealed
        key, response = unsealed.content_key, unsealed.response
        prompt, answer = (
            key.commitment(side, job=order.document.job, order=order.digest) for side in ("prompt", "answer")
        )
        prompt.add(opened.request)
        source = None if corpus_blob is None else CorpusSource(order.document.tenant, corpus_blob, check)
        pieces = _Pieces(model, order.document.rows, opened.request, check, source)
        sealer, relay = Sealer(key, response), Relay(send)
        written, last, most = bytearray(), b"", manifest.limits.result_bytes
        try:
            # 3.
            for piece in pieces:
                # 5.
                answer.add(piece)
                if not pieces.streams:  # there is one
                    last = piece
                    continue
                # 4.
                sealed = sealer.seal(piece)
                written += sealed
                _keep_within(written, most)
                relay.add(sealed)
            final = sealer.finish(last)
            written += final
            _keep_within(written, most)
            if pieces.streams:
                relay.add(final)
        finally:
            relay.finish()
        check()
        data = bytes(written)
        result = Result(data, BlobRef(digest=DIGEST_PREFIX + hashlib.sha256(data).hexdigest(), size=len(data)))
        return SealedAnswer(result, Commitments(unsealed.wrapped.evidence, prompt.value(), answer.value()))


def _keep_within(written: bytearray, most: int) -> None:
    if len(written) > most:
        message = f"the answer has more than the {most} bytes that the model's manifest allows"
        raise BackendError(message)


class _Pieces:
    """What is answered, piece by piece: the last one says what the client got wrong, if it did.

    Attributes:
        streams: whether the client reads along; known from the first piece on. Otherwise there is one piece.
    """

    def __init__(
        self, model: PlainModel, rows: int, request: bytes, check: Callable[[], None], source: CorpusSource | None
    ) -> None:
        self._backend, self._manifest = model.backend, model.manifest.document
        self._rows, self._request, self._check, self._source = rows, request, check, source
        self.streams = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answered()
        except (InputError, CorpusError) as error:
            yield line_of(FailureLine(error=Failure(code=error.code, message=str(error)[:_MAX_TEXT])))

    def _answered(self) -> Iterator[bytes]:
        backend: Any = self._backend
        if self._manifest.api == "chat":
            return self._chat(backend)
        if self._manifest.api == "embeddings":
            return self._embed(backend)
        if self._manifest.api == "corpus":
            return self._search(backend)
        return self._predict(backend)

    def _chat(self, backend: ChatBackend) -> Iterator[bytes]:
        request = read_chat(self._request)
        self.streams = bool(request.stream)
        chunks = self._watched(backend.chat(request))
        if self.streams:  # the first chunk says who speaks, and nothing yet: it goes with the one behind it
            yield b"".join(map(line_of, itertools.islice(chunks, 2)))
            yield from map(line_of, chunks)
        else:  # one chunk, so that its length is all that its length tells
            yield b"".join(map(line_of, chunks))

    def _watched(self, chunks: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for chunk in chunks:
            self._check()
            yield chunk

    def _embed(self, backend: EmbeddingBackend) -> Iterator[bytes]:
        yield line_of(backend.embed(read_embedding(self._request)))

    def _search(self, backend: CorpusBackend) -> Iterator[bytes]:
        if self._source is None:
            message = "this job brought no way to its corpus"
            raise BackendError(message)
        line = line_of(backend.search(read_query(self._request), self._source))
        most = self._manifest.limits.result_bytes // 2  # padding to powers makes at most twice of it
        if len(line) > most:
            message = f"what was found has {len(line)} bytes, and this model's answers at most {most}: ask for less (k, tokens)"
            raise InputError(message)
        yield line

    def _predict(self, backend: TableBackend) -> Iterator[bytes]:
        columns = len(self._manifest.columns)
        if len(self._request) != self._rows * columns * NUMBER_BYTES:
            message = (
                f"the order says {self._rows} rows of {columns} numbers; the request has {len(self._request)} bytes"
            )
            raise InputError(message)
        rows = np.frombuffer(self._request, dtype="<f8").reshape(self._rows, columns)
        scores = backend.predict(rows)
        head = TableHead(rows=len(scores), outputs=scores.shape[1])
        yield line_of(head) + scores.astype("<f4").tobytes()

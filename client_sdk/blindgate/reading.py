"""The sealed bytes of an answer as they come, and what they open to.

Where each stands is the gateway's word, and so is who wrote it: only what opens counts (`sealed_job`, steps 7 and 8). Leases have
answers of their own, and go forward. As long as nothing of one opened, the next is begun; two are never put together.
"""

from collections.abc import Mapping

from blindgate.recipients import Candidate
from blindgate_protocol.chunks import Opener
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import InterruptedAnswerError, MalformedError, ReceiptNodeError, ResultDigestError
from blindgate_protocol.messages import AnswerView
from blindgate_protocol.sealing import Terms


class Reading:
    """The sealed bytes of an answer as they come, and what they open to.

    Attributes:
        size: how many sealed bytes were read, of the answer that is read now.
        data: what they opened to.
    """

    def __init__(self, key: ContentKey, terms: Terms, nodes: Mapping[str, Candidate], most: int) -> None:
        """Of a request that was sealed to `nodes`; `most`: how many bytes it may open to."""
        self._key, self._terms, self._nodes, self._most = key, terms, nodes, most
        self._generation = 0
        self._begin(None)

    @property
    def place(self) -> tuple[int, int]:
        """Which lease's answer is read, and how many bytes of it were: as long as this stays, nothing came."""
        return self._generation, self.size

    def take(self, view: AnswerView) -> list[bytes]:
        """What opens now. Raises `SealError`, `ReceiptNodeError`, `InterruptedAnswerError` or `MalformedError`."""
        moved = view.generation != self._generation
        if moved:
            self._move_on(view.generation)
        if not view.data or (moved and view.begin != self.size):
            return []  # what was asked for is of the lease before: ask again, from the beginning
        if view.begin != self.size:
            message = f"the gateway gives the answer from byte {view.begin} on, and was asked from byte {self.size} on"
            raise MalformedError(message)
        if self._opener is None:
            if view.node is None:
                return []  # the lease is over: there will be another, or none
            self._begin(view.node)
        return self._feed(view.data)

    def _move_on(self, generation: int) -> None:
        """Another lease than the one whose answer was read so far."""
        if generation < self._generation:
            message = f"the gateway went back from lease {self._generation} of the job to lease {generation}"
            raise MalformedError(message)
        if self.data:
            message = "the node that wrote this answer was lost midway, and another began anew: ask again"
            raise InterruptedAnswerError(message)
        self._generation = generation
        self._begin(None)

    def finish(self, node: str, result: bytes) -> list[bytes]:
        """Take the whole answer of `node`, of which some may have been read; gives what was not.

        Raises `SealError`, and `ResultDigestError` where what was read is not its beginning.
        """
        if self._node not in {None, node} or result[: self.size] != self.sealed():
            if self.data:
                message = "what was read along is not the beginning of the result that the receipt names"
                raise ResultDigestError(message)
            self._begin(None)
        if self._opener is None:
            self._begin(node)
        rest = self._feed(result[self.size :])
        assert self._opener is not None  # noqa: S101
        self._opener.finish()
        return rest

    def sealed(self) -> bytes:
        """The sealed bytes that were read."""
        return bytes(self._sealed)

    def _begin(self, node: str | None) -> None:
        self._node, self._opener = node, None
        self._sealed, self.data, self.size = bytearray(), bytearray(), 0
        if node is None:
            return
        found = self._nodes.get(node)
        if found is None or found.evidence is None or found.recipient is None:
            message = f"node {node} answers, to which the request was not sealed"
            raise ReceiptNodeError(message)
        offer = found.recipient.document
        response = self._terms.response(key_set=offer.key_set.digest, evidence=offer.evidence)
        self._opener = Opener(self._key, response, most_bytes=self._most)

    def _feed(self, sealed: bytes) -> list[bytes]:
        assert self._opener is not None  # noqa: S101
        self._sealed += sealed
        self.size += len(sealed)
        opened = [data for data in self._opener.feed(sealed) if data]
        for data in opened:
            self.data += data
        return opened

"""What a backend is: it answers chats, embeds texts, computes on tables, or searches corpora. The first two as `openai` has them.

A backend is handed opened requests and gives answers back. What was sealed, to whom, and what a receipt says of it, is not
known here.

**What stays in memory.** A backend keeps no request and no answer after the answer was given, writes none to disk, and puts
none into an error or a log. What it made itself and can overwrite, it overwrites with zeros when the answer ends, is cancelled
or fails: the rows of a table, token numbers, the last state of the attention's cache. What cannot be overwritten is let go of,
and stays until the allocator uses the memory again: Python's `str` and `bytes` (the prompt, its pieces, the answer), the
tokeniser's and the layers' intermediate results, earlier copies of the cache (it grows by copying), numpy arrays that were
handed to the caller, what was on the device when torch failed, and CUDA's cached blocks. Who can read this process's memory, or
the GPU's, can read them. Keeping others out of it is what the trusted environment is for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_node.backends.requests import ChatRequest, EmbeddingRequest
from blindgate_protocol.corpus_search import CorpusHits, CorpusQuery
from blindgate_protocol.values import BlobRef

Chunk: TypeAlias = dict[str, Any]
"""A `chat.completion.chunk`, as JSON."""

Cancelled: TypeAlias = Callable[[], bool]
"""Asked between tokens whether nobody waits for the answer any more. Closing the iterator of chunks does the same."""


class ChatBackend(Protocol):
    """Answers chats."""

    def chat(self, request: ChatRequest, cancelled: Cancelled = ...) -> Iterator[Chunk]:
        """The answer as it is written. `answers.gather` makes one `chat.completion` of it.

        The request is checked when this is called; the chunks come as they are asked for. Raises `InputError` for a request
        that the model cannot answer, `BackendError` when the runtime fails.
        """


class EmbeddingBackend(Protocol):
    """Embeds texts."""

    def embed(self, request: EmbeddingRequest) -> dict[str, Any]:
        """The list of embeddings, as JSON, in the order of the texts. Raises `InputError`, `BackendError`."""


class TableBackend(Protocol):
    """Computes on rows of numbers."""

    columns: int
    outputs: int

    def predict(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """`rows`: `(n, columns)`, finite; the answer is `(n, outputs)` float32. Raises `InputError`, `BackendError`."""


@dataclass(frozen=True)
class CorpusSource:
    """Where a job's corpora are to be had.

    Attributes:
        tenant: the job's; two tenants share nothing.
        fetch: gives a blob of the tenant's corpus of this name, its size and digest checked. Raises `BackendError` for other bytes
            than those, `NotFoundError` for a blob that is not there, and what `check` does.
        check: raises when the job should not go on.
    """

    tenant: str
    fetch: Callable[[str, BlobRef], bytes]
    check: Callable[[], None]


class CorpusBackend(Protocol):
    """Searches corpora of those who ask."""

    def search(self, query: CorpusQuery, source: CorpusSource) -> CorpusHits:
        """What is found. Raises `InputError` or `CorpusError` for the asker, `BackendError`, and what the source does."""


Backend: TypeAlias = ChatBackend | EmbeddingBackend | TableBackend | CorpusBackend


def never() -> bool:
    """Nobody cancels."""
    return False

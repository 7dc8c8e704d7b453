"""Embeddings by sentence-transformers, from a folder whose files were checked (`weights.opened_weights`).

What may lie in the folder, and how it is opened, is `blindgate_rag.sentence_models`: the same for a node as for a corpus.

A text that is longer than the model reads is refused. The library would cut it without a word, and two texts that begin alike
would be the same. A node answers several requests at once, and the library's tokeniser keeps in itself whether it cuts: one that
encodes for another request would count a cut text. So it is for one at a time.
"""

import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from blindgate_node.backends import answers
from blindgate_node.backends.requests import EmbeddingRequest
from blindgate_protocol.errors import BackendError, ContextLengthError
from blindgate_rag.sentence_models import open_sentence_model

_BATCH_TEXTS: Final = 32


class SentenceEmbeddings:
    """An embedding model, on one device. Safe to use from several threads."""

    def __init__(self, folder: Path, *, device: str = "auto", batch_texts: int = _BATCH_TEXTS) -> None:
        """Open the model in `folder`.

        Raises `PackageError` naming the file and the rule, `BackendError` where the library or the device is missing.
        """
        self._model, self._device = open_sentence_model(folder, device)
        self._batch_texts = batch_texts
        self._turn = threading.Lock()
        self.width = int(self._model.get_embedding_dimension())

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self._device

    def embed(self, request: EmbeddingRequest) -> dict[str, Any]:
        """One vector of `width` float32 for each text, in their order.

        Raises `ContextLengthError` naming the text that is too long, by its position, and `BackendError` when the runtime fails.
        """
        texts = list(request.texts)
        tokens = self._count(texts)
        try:
            with self._turn:
                vectors = self._model.encode(
                    texts, batch_size=self._batch_texts, convert_to_numpy=True, show_progress_bar=False
                )
        except RuntimeError as error:
            message = f"the embedding failed on {self._device}: {type(error).__name__}"
            raise BackendError(message) from None
        answer = answers.embeddings(
            np.asarray(vectors, dtype=np.float32), model=request.model, tokens=tokens, form=request.encoding_format
        )
        vectors.fill(0)
        return answer

    def _count(self, texts: list[str]) -> int:
        most = int(self._model.max_seq_length)
        with self._turn:
            counts = [len(ids) for ids in self._model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
        for position, count in enumerate(counts):
            if count > most:
                message = f"input {position}: has {count} tokens; this model's maximum context length is {most}"
                raise ContextLengthError(message, row=position)
        return sum(counts)

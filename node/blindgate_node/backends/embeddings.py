"""Embeddings by sentence-transformers, from a folder whose files were checked (`weights.opened_weights`).

In this order:

1. `modules.json` names a transformer, a pooling and perhaps a normalisation, and nothing else: the library imports what stands
   there;
2. nothing in the folder asks for code of its own, or for weights that lie elsewhere (adapters);
3. the library opens the folder, offline, safetensors only.

A text that is longer than the model reads is refused. The library would cut it without a word, and two texts that begin alike
would be the same.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from blindgate_models.weights import read_json
from blindgate_node.backends import answers, libraries
from blindgate_node.backends.requests import EmbeddingRequest
from blindgate_protocol.errors import BackendError, ContextLengthError, PackageError

_BATCH_TEXTS: Final = 32
_ADAPTER: Final = "adapter_config.json"
_MODULES: Final = frozenset({"Transformer", "Pooling", "Normalize"})


class SentenceEmbeddings:
    """An embedding model, on one device."""

    def __init__(self, folder: Path, *, device: str = "auto", batch_texts: int = _BATCH_TEXTS) -> None:
        """Open the model in `folder` (steps 1 to 3).

        Raises `PackageError` naming the file and the rule, `BackendError` where the library or the device is missing.
        """
        _check_modules(folder)  # 1.
        check_transformer(folder)  # 2.
        self._device = libraries.device_of(device)
        library = libraries.sentence_transformers()
        try:
            self._model: Any = library.SentenceTransformer(  # 3.
                str(folder),
                device=self._device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": "float32"},
            )
        except libraries.unopened() as error:
            message = f"sentence-transformers cannot open the model: {type(error).__name__}"
            raise PackageError(message) from error
        self._model.eval()
        self._batch_texts = batch_texts
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
        counts = [len(ids) for ids in self._model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
        for position, count in enumerate(counts):
            if count > most:
                message = f"input {position}: has {count} tokens; this model's maximum context length is {most}"
                raise ContextLengthError(message, row=position)
        return sum(counts)


def check_transformer(folder: Path) -> None:
    """What `transformers` would follow out of the folder is not there. Raises `PackageError`."""
    if (folder / _ADAPTER).exists():
        message = f"{_ADAPTER}: the weights of an adapter lie elsewhere; expected a whole model"
        raise PackageError(message)
    if not isinstance(read_json(folder, "config.json"), dict):
        message = "config.json: expected an object that says which architecture this is"
        raise PackageError(message)
    if not list(folder.glob("*.safetensors")):
        message = "expected weights as *.safetensors in the folder"
        raise PackageError(message)


def _check_modules(folder: Path) -> None:
    modules = read_json(folder, "modules.json")
    if not isinstance(modules, list) or not modules:
        message = "modules.json: expected the list of the model's modules"
        raise PackageError(message)
    for position, module in enumerate(modules):
        given = module if isinstance(module, dict) else {}
        kind, path = str(given.get("type")), str(given.get("path"))
        package, _, name = kind.rpartition(".")
        if (
            not (package == "sentence_transformers" or package.startswith("sentence_transformers."))
            or name not in _MODULES
        ):
            message = (
                f"modules.json: module {position} is none of {', '.join(sorted(_MODULES))} of sentence_transformers"
            )
            raise PackageError(message)
        inside = (folder / path).resolve()
        if not inside.is_relative_to(folder.resolve()):
            message = f"modules.json: module {position} lies outside the folder"
            raise PackageError(message)

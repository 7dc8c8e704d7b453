"""What a client does with documents: ask them, and open corpora that lie elsewhere. `Client` is one.

None of it is imported before it is asked for: who predicts tables waits for no FAISS.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from blindgate.chat import Chat
from blindgate.model import Model
from blindgate.policy import Policy
from blindgate.sealed_job import Sealing
from blindgate.transport import Transport
from blindgate_protocol.manifest import Api

if TYPE_CHECKING:
    from blindgate.answer import Answer, Turn
    from blindgate.answer_stream import AnswerStream
    from blindgate.attested_corpus import AttestedCorpus
    from blindgate.hosted_corpus import EncryptedCorpus
    from blindgate.remote_corpora import RemoteCorpus
    from blindgate.synced_corpora import SyncedCorpora
    from blindgate_rag.embedding import Embedder
    from blindgate_rag.records import Where
    from blindgate_rag.redaction import Recogniser, Rules
    from blindgate_rag.searchable import Searchable
    from blindgate_rag.searching import Ranking
    from blindgate_rag.sync.corpus import SyncedCorpus


class Documents(ABC):
    """The verbs of a client that are about documents.

    Attributes:
        chat: the sealed models that answer questions.
    """

    chat: Chat
    _policy: Policy
    _transport: Transport
    _home: Path
    _progress: bool | None

    @abstractmethod
    def _model(self, name: str, digest: str | None = None) -> Model:
        """A model of lane `fhe`: the latest version, or the one whose manifest has this digest."""

    @abstractmethod
    def _sealing(self, name: str, api: Api) -> Sealing:
        """What it takes to seal requests to a model of lane `tee`, which is asked by `api`."""

    @overload
    def ask(
        self,
        question: str,
        *,
        corpus: "Searchable",
        model: str,
        stream: Literal[True],
        k: int | None = ...,
        where: "Where | None" = ...,
        tokens: int | None = ...,
        history: "Sequence[Turn | Answer]" = ...,
        instructions: str | None = ...,
        redaction: "Rules | None" = ...,
        recognisers: "Sequence[Recogniser]" = ...,
        data_class: str | None = ...,
        timeout: float | None = ...,
        **parameters: Any,
    ) -> "AnswerStream": ...
    @overload
    def ask(
        self,
        question: str,
        *,
        corpus: "Searchable",
        model: str,
        stream: Literal[False] | None = ...,
        k: int | None = ...,
        where: "Where | None" = ...,
        tokens: int | None = ...,
        history: "Sequence[Turn | Answer]" = ...,
        instructions: str | None = ...,
        redaction: "Rules | None" = ...,
        recognisers: "Sequence[Recogniser]" = ...,
        data_class: str | None = ...,
        timeout: float | None = ...,
        **parameters: Any,
    ) -> "Answer": ...
    def ask(  # noqa: PLR0913  (what a question is asked with)
        self,
        question: str,
        *,
        corpus: "Searchable",
        model: str,
        stream: bool | None = None,
        k: int | None = None,
        where: "Where | None" = None,
        tokens: int | None = None,
        history: "Sequence[Turn | Answer]" = (),
        instructions: str | None = None,
        redaction: "Rules | None" = None,
        recognisers: "Sequence[Recogniser]" = (),
        data_class: str | None = None,
        timeout: float | None = None,
        **parameters: Any,
    ) -> "Answer | AnswerStream":
        """Answer a question from a corpus: retrieve, redact, seal, ask a node that was judged, and put back what was redacted.

        Args:
            question: the question. The corpus is searched for it as it stands, without the history.
            corpus: where to look: a `blindgate_rag.Corpus`, or one that lives elsewhere.
            model: a chat's name at the gateway.
            stream: give the answer's text in parts, as it is written; its `answer` is there once everything held.
            k: how many passages are sent at most; 8 where it is not said, or as many as the corpus gives at most.
            where: only documents whose metadata is so.
            tokens: no more text than this, in the tokens of the corpus's embedding model.
            history: earlier answers of this conversation, the oldest first, or `Turn`s made from what was kept of them. They are
                redacted with the rest, so that a value has one placeholder throughout, and their classes of data are this
                request's, too.
            instructions: words of yours for the model, behind what it is told anyway: the language, the form. Redacted as well.
            redaction: what must not leave; without it, what the policy's `[redaction]` says.
            recognisers: further ones, of names for instance.
            data_class: what kind of data the question is. Documents say theirs in their metadata, under `data_class`.
            timeout: seconds for the whole answer.
            parameters: what else a chat takes: `temperature`, `max_completion_tokens` or `max_tokens`, `seed`, `stop`, `top_p`.
                Texts in them are redacted.

        Raises `InputError` where nothing is found, `ContextLengthError` where passages and history are more than the model reads,
        `PolicyError` or `UntrustedEvidenceError` before anything is sealed, and what a chat does.
        """
        from blindgate.ask import ask  # noqa: PLC0415  (who asks no corpus waits for none of it)

        asked = ask(
            self.chat.completions,
            question,
            corpus=corpus,
            model=model,
            k=k,
            where=where,
            tokens=tokens,
            history=history,
            instructions=instructions,
            rules=self._policy.redaction_rules() if redaction is None else redaction,
            recognisers=recognisers,
            data_class=data_class,
            default_class=self._policy.rules.data_class,
            timeout=timeout,
            parameters={**parameters, "stream": bool(stream)},
        )
        if stream:
            return asked
        with asked:
            return asked.read()

    @property
    def corpora(self) -> "SyncedCorpora":
        """The tenant's corpora that rest, sealed, at the gateway: `list`, `delete`, `forget`; `corpus` opens one."""
        from blindgate.synced_corpora import SyncedCorpora  # noqa: PLC0415  (who asks no corpus waits for none of it)

        return SyncedCorpora(self._transport, self._home)

    @overload
    def corpus(
        self,
        name: str,
        *,
        profile: Literal["sealed-sync"],
        passphrase: str | None = ...,
        embedder: "Embedder | None" = ...,
        ranking: "Ranking | None" = ...,
        create: bool = ...,
        offline: bool = ...,
        at_least: int = ...,
    ) -> "SyncedCorpus": ...
    @overload
    def corpus(
        self,
        name: str,
        *,
        passphrase: str | None,
        embedder: "Embedder | None" = ...,
        ranking: "Ranking | None" = ...,
        create: bool = ...,
        offline: bool = ...,
        at_least: int = ...,
    ) -> "SyncedCorpus": ...
    @overload
    def corpus(
        self,
        name: str,
        *,
        profile: Literal["encrypted-query"],
        embedder: "Embedder | None" = ...,
        data_class: str | None = ...,
        timeout: float | None = ...,
    ) -> "EncryptedCorpus": ...
    @overload
    def corpus(
        self,
        name: str,
        *,
        profile: Literal["attested"] = ...,
        model: str,
        passphrase: str | None = ...,
        ranking: "Ranking | None" = ...,
        at_least: int = ...,
        data_class: str | None = ...,
    ) -> "AttestedCorpus": ...
    @overload
    def corpus(
        self,
        name: str,
        *,
        embedder: "Embedder | None" = ...,
        data_class: str | None = ...,
        timeout: float | None = ...,
    ) -> "SyncedCorpus | EncryptedCorpus": ...
    def corpus(self, name: str, *, profile: Any = None, **options: Any) -> "RemoteCorpus":
        """A corpus that does not rest on this machine: one's own, or one that somebody hosts.

        Args:
            name: what it is called at the gateway.
            profile: `sealed-sync`: one's own, which the gateway cannot read; fetched, cached and searched here. `attested`: the
                same, searched in a node that proved what it is. `encrypted-query`: somebody else's, searched on ciphertexts.
                Without one, see `blindgate.remote_corpora`.
            options: `passphrase`, that its key is sealed with, on every machine; without one, a random one that is kept in `home`.
                `embedder`, what gives texts their vectors, MiniLM by default. `ranking`, from now on, by what passages are ranked.
                `create=False`: open one that is there. `offline=True`: ask nobody; search what is cached, and keep changes there
                until it is opened otherwise. `at_least`: take no older generation than this, which another machine has seen.
                `model`, of lane tee, by which an attested one is searched. `data_class`, what kind of data questions are, by the
                policy's name for it, where they leave this machine. `timeout`, seconds for each search.

        Raises `InputError` for an option that the profile does not have, `CorpusError` where there is no such corpus, for another
        passphrase or embedder, and for whatever the gateway shows that does not hold.
        """
        from blindgate.remote_corpora import open_remote  # noqa: PLC0415  (who asks no corpus waits for none of it)

        return open_remote(
            name,
            profile,
            options,
            own=self.corpora,
            take=self._model,
            sealing=self._sealing,
            show_progress=self._progress,
        )

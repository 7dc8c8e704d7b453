"""An answer out of documents, what it rests on, and what a next question takes from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from blindgate.sealed_job import SealedJob
from blindgate.shapes import Usage
from blindgate_protocol.errors import InputError
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from blindgate_rag.hits import Hit, Hits, Leakage


@dataclass(frozen=True)
class Citation:
    """A passage that an answer names.

    Attributes:
        number: what stands in brackets in the answer's text.
        hit: the passage: its text as it is here, its source and page, and its id in the corpus.
    """

    number: int
    hit: Hit


@dataclass(frozen=True)
class Turn:
    """A question that was asked before, and its answer, as they were: nothing of them is redacted yet.

    Attributes:
        question: as it was asked.
        answer: its text. Citations in it name passages of then, and are not sent.
        classes: the classes of data that both have, from the question and from what was quoted to answer it.
        values: what redaction found in the documents and stands in either: class and value. In a next request it is taken out also
            where no word beside it tells what it is. Keep it with a turn that you keep.
    """

    question: str
    answer: str
    classes: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse what was kept otherwise than it was. Raises `InputError` naming the field; lists, as JSON has them, will do."""
        for name, said in (("question", self.question), ("answer", self.answer)):
            if not isinstance(said, str):
                message = f"{name} of a Turn: got a {type(said).__name__}, expected a text"
                raise InputError(message, member="history")
        if not _is_list(self.classes) or not all(isinstance(one, str) for one in self.classes):
            message = "classes of a Turn: expected a list of names of classes of data"
            raise InputError(message, member="history")
        if not _is_list(self.values) or not all(map(_is_pair, self.values)):
            message = "values of a Turn: expected a list of pairs, a class and a value, as they were kept"
            raise InputError(message, member="history")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and [isinstance(one, str) for one in value] == [True, True]


@dataclass(frozen=True, repr=False)
class Answer:
    """An answer, and what it rests on.

    Attributes:
        text: with what was redacted in its place again, and no citation that names nothing.
        citations: the passages that it names, in the order in which it does.
        unresolved: numbers that it named and that no passage has; they are not in the text any more.
        hits: all passages that were sent, and who could have learnt what of the search.
        withheld: placeholders that it has inside of an address, where no value was put back: whoever shows an answer may ask there.
        redacted: how often something of a class was taken out of what was sent.
        not_protected: what was not looked for, `names` among it where nothing recognises them.
        messages: what was sealed, word by word.
        turn: question and answer, for the `history` of a next question.
        finish_reason: `stop` where the model was done, `length` where it came to the most tokens that it may write.
        usage: how many tokens were read and written, where the node says it.
        job: the job; its bundle has order, receipt, the log's proof and the node's evidence.
    """

    text: str
    citations: tuple[Citation, ...]
    unresolved: tuple[int, ...]
    hits: Hits
    withheld: tuple[str, ...]
    redacted: Mapping[str, int]
    not_protected: tuple[str, ...]
    messages: tuple[Mapping[str, str], ...]
    turn: Turn
    finish_reason: str | None
    usage: Usage | None
    job: SealedJob

    def __str__(self) -> str:
        """The text."""
        return self.text

    def __repr__(self) -> str:
        """What there is of it, and no word of it or of what was asked: an answer ends up in logs."""
        cited, redacted = [one.number for one in self.citations], dict(self.redacted)
        size, ended = f"{len(self.text)} characters", self.finish_reason
        return f"<Answer of job {self.job.id}: {size}, cites {cited}, redacted {redacted}, {ended}>"

    @property
    def receipt(self) -> Signed[Receipt]:
        """The receipt of the node that answered; everything about it held."""
        receipt = self.job.bundle.receipt
        if receipt is None:
            message = "an answer has a receipt"
            raise AssertionError(message)
        return receipt

    @property
    def leakage(self) -> Leakage:
        """Who could have learnt what of the search."""
        return self.hits.leakage

"""What a framework hands on as a corpus, and may be a path, or nothing."""

from typing import TypeVar

from blindgate_protocol.errors import InputError

_T = TypeVar("_T")


def checked_corpus(corpus: object, kind: type[_T]) -> _T:
    """An open corpus of this kind. Raises `InputError` for anything else."""
    if not isinstance(corpus, kind):
        message = f"corpus: got a {type(corpus).__name__}, expected an open one, such as Corpus.open('notes.bgc', passphrase=…)"
        raise InputError(message)
    return corpus

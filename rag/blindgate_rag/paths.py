"""A path that somebody gives, looked at before anything is looked for there.

An empty one would be the folder that the process happens to be in, and what no file system can have is an error of Python's that
does not say whose it is.
"""

import os
from pathlib import Path

from blindgate_protocol.errors import CorpusError, InputError


def path_of(given: str | os.PathLike[str], what: str) -> Path:
    """The path. Raises `InputError` for what is none, and `CorpusError` for one that there cannot be; `what` names it."""
    try:
        text = os.fspath(given)
    except TypeError:
        text = None
    if not isinstance(text, str):
        message = f"{what} is a {type(given).__name__}: expected a path, as a text or a Path"
        raise InputError(message)
    if not text:
        message = f"{what} is empty"
        raise CorpusError(message)
    try:
        impossible = "\0" in text or not os.fsencode(text)
    except UnicodeEncodeError:
        impossible = True
    if impossible:
        message = f"{what} is {text!a:.200}, which no file can be called"
        raise CorpusError(message)
    return Path(given)

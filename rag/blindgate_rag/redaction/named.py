"""Recognisers by a text that names them, as a policy and a command line have them: `presidio:MODEL`.

MODEL is a folder with a pipeline of spaCy's, written with a `/`, or the name of a package that is installed. What is not there is
no mistake of the text: it is an error when it is opened, before anything is sealed.
"""

from pathlib import Path
from typing import Final

from blindgate_protocol.errors import PolicyError
from blindgate_rag.redaction.matches import Recogniser
from blindgate_rag.redaction.presidio import PresidioRecogniser

_KINDS: Final = ("presidio",)


def checked(text: str, key: str) -> str:
    """The text, if it may stand in a policy: which is read in any folder, so that a path begins at the root or with `~/`.

    Args:
        text: what names a recogniser.
        key: where it stands, for the message.

    Raises:
        PolicyError: it is none; names the key and the rule.
    """
    model = _model(text, key)
    if not (model.isidentifier() or model.startswith(("/", "~/"))):
        raise PolicyError(
            f"{key}: {model!r} is neither a folder, from / or ~/ on, nor the name of an installed package of letters, digits and _"
        )
    return text


def opened(text: str, key: str) -> Recogniser:
    """The recogniser that a text names; a folder may be a relative one.

    Raises:
        CorpusError: it is not there, or cannot be read.
        PolicyError: the text names none, or it recognises no names.
    """
    model = _model(text, key)
    return PresidioRecogniser.open(Path(model).expanduser() if "/" in model else model)


def _model(text: str, key: str) -> str:
    kind, _, model = text.partition(":")
    if kind not in _KINDS or not model or "\0" in model:
        raise PolicyError(
            f"{key}: {text!r} is no recogniser; write presidio:MODEL, with a folder or an installed package"
        )
    return model

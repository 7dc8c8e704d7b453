"""Blindgate's SDK: predictions that only the asker can read.

`Client` is the way in. `Policy` says whom you trust. Errors are in `blindgate.errors`.

What is named here is imported once it is asked for: a command that asks no gateway does not wait for all of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from blindgate_protocol import errors
from blindgate_protocol.errors import BlindgateError

if TYPE_CHECKING:
    from blindgate.client import Client
    from blindgate.explanation import Explanation
    from blindgate.job import Job
    from blindgate.model import Model
    from blindgate.neighbours import SearchResult
    from blindgate.policy import Policy

__all__ = ["BlindgateError", "Client", "Explanation", "Job", "Model", "Policy", "SearchResult", "errors"]

_IN: Final = {
    "Client": "client",
    "Explanation": "explanation",
    "Job": "job",
    "Model": "model",
    "Policy": "policy",
    "SearchResult": "neighbours",
}


def __getattr__(name: str) -> Any:
    if name not in _IN:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_IN[name]}"), name)

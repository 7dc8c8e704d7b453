"""Retrieval from documents of one's own: local by default, and nothing in it opens a socket.

    from blindgate_rag import Corpus

What it names is imported when it is asked for: the process that parses documents, and a policy that reads rules of redaction, want
neither FAISS nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from blindgate_rag.adding import Added, Text
    from blindgate_rag.corpus import Corpus
    from blindgate_rag.embedding import Embedder
    from blindgate_rag.hits import Hit, Hits, Leakage
    from blindgate_rag.searchable import Searchable

__all__ = ["Added", "Corpus", "Embedder", "Hit", "Hits", "Leakage", "Searchable", "Text"]

_ROOMS: Final = {
    "Added": "adding",
    "Corpus": "corpus",
    "Embedder": "embedding",
    "Hit": "hits",
    "Hits": "hits",
    "Leakage": "hits",
    "Searchable": "searchable",
    "Text": "adding",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)

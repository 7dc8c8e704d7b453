"""What a framework's document says of the passage that it is: four names of ours, and what its document's owner said.

Ours are `source`, `page`, `score` and `passage`: citations rest on them, so nothing that came with a document takes their place.
What an owner called by one of these names is there as `document.source`, and so on.
"""

from typing import Any, Final

from blindgate_rag.hits import Hit

OURS: Final = ("source", "page", "score", "passage")
_OWNERS: Final = "document."


def passage_metadata(hit: Hit) -> dict[str, Any]:
    """Of a passage: `source`, `page` (`None` where its document has no pages), `score`, `passage`, and its document's metadata."""
    said: dict[str, Any] = {name: getattr(hit, name) for name in OURS}
    clashing = [name for name in hit.metadata if name in OURS]
    said |= {name: value for name, value in hit.metadata.items() if name not in OURS}
    for name in clashing:
        free = _OWNERS + name
        while free in said:
            free = _OWNERS + free
        said[free] = hit.metadata[name]
    return said

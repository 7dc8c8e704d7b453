"""What a search says beside its passages, as frameworks are told of it: who could have learnt what, and what did not come back.

Frameworks know passages and nothing else, so it goes the way that each has for more: LangChain's custom events, LlamaIndex's
instrumentation. Whoever does not listen has the log of Python for what is missing, since a node that spoils a passage is news.
It is no error and no `warnings.warn`, which some make an error of: one that follows what was decrypted would tell that node whether
the passage was fetched (ADR 0033).
"""

import logging
from typing import Any, Final

from blindgate_rag.hits import Hits

EVENT: Final = "blindgate_search"
"""What the event is called."""

_LOG: Final = logging.getLogger(__name__)


def search_told(corpus: str, hits: Hits) -> dict[str, Any]:
    """Of a search of the corpus that is called so: `corpus`, `profile`, `learned` (each with `who` and `what`), `missing`."""
    if hits.missing:
        _LOG.warning(
            "%s: %d more were found, and their text did not come back as its owner wrote it", corpus, hits.missing
        )
    learned = [{"who": one.who, "what": one.what} for one in hits.leakage.learned]
    return {"corpus": corpus, "profile": hits.leakage.profile, "learned": learned, "missing": hits.missing}

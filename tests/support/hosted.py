"""A small corpus that its owner hosts for others, embedded by MiniLM."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from blindgate.hosting import HostedPackages, host
from blindgate_models.search.spec import quantised_entries, quantised_queries
from blindgate_rag.adding import Text
from blindgate_rag.corpus import Corpus
from blindgate_rag.fusion import distinct
from blindgate_rag.records import Where, is_so
from signed_packages import DAY, NOW, PUBLISHER

_SAID: Final = [
    "Aspirin must not be given with warfarin.",
    "Warfarin thins the blood, and so does aspirin.",
    "Visiting hours are from two to four.",
    "The bill was paid by card in March.",
    "Übelkeit und Schwindel sind häufig. 頭痛 もあります。 \u0000 🩺",
    "Revenue grew by nine percent, driven by services.",
    "Operating leases end within five years.",
    "Tea is served in the hall at five.",
]
TEXTS: Final = [
    Text(f"notes/{place}.txt", f"{said} {'Note ' * (place % 7)}", {"ward": f"{place % 3}B", "year": 2020 + place % 4})
    for place, said in enumerate(_SAID * 3)
]
"""Some differ by a word, so that scores are close; some are the same, so that they tie."""


def hosted_corpus(folder: Path) -> Corpus:
    """The corpus, as its owner has it."""
    corpus = Corpus.open(folder / "notes.bgc", "pass", show_progress=False)
    corpus.add_texts(TEXTS)
    return corpus


def packages(corpus: Corpus, **changes: Any) -> HostedPackages:
    """What its owner publishes."""
    given: dict[str, Any] = {
        "name": "pubmed",
        "version": 1,
        "summary": "For tests.",
        "issued": NOW,
        "expires": NOW + 3650 * DAY,
        "queries_per_tenant": 100,
    }
    return host(corpus, PUBLISHER, **(given | changes))


def exact_places(corpus: Corpus, question: str, k: int, where: Where | None = None) -> list[int]:
    """Where the k nearest passages are, by exact inner products of eight bits; of equal ones the first, of the same one.

    As a search gives them that fetches k: those that say the same are among the k.
    """
    contents = corpus.contents()
    entries = quantised_entries(contents.vectors.astype(np.float64))[0].astype(np.int64)
    query = quantised_queries(corpus.embedder.embed_questions([question]).astype(np.float64))[0][0]
    ranked: list[int] = np.argsort(-(entries @ query), kind="stable").tolist()
    found = [place for place in ranked if where is None or is_so(contents.passages[place].metadata, where)][:k]
    return distinct(
        found,
        {place: contents.passages[place].text for place in found},
        {place: contents.vectors[place] for place in found},
    )

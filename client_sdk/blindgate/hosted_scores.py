"""Whether a score that a node gave is the score of the text that was fetched for it.

Scores come from a node, which may make them up. Records hold by their digests, so that the text is the owner's; and whoever asks
has the embedder, which was checked by the digest of its files. So a fetched text's vector is known here, and with it its score.

Not to the last bit: the owner's machine added up in another order, or on another chip. A number of a vector is taken to be within
`WITHIN` of what it is here. A number's eight bits are then between those of both ends, and a score between two sums, which no
honest node leaves (`score_ranges` of `blindgate_models.search.spec`). docs/adr/0033-hosted-indexes.md has the measurements.

**A score that is too low for a passage to be fetched is not seen here**: a node can leave out what it likes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindgate.model import Model
from blindgate_protocol.errors import CorpusError
from blindgate_rag.corpus import Contents
from blindgate_rag.embedding import Embedder

WITHIN: Final = 1e-3
"""Of a number of a vector of length 1, on any machine. 32-bit floats differ by some 1e-7, products in TF32 by 3e-4."""

_TRIED: Final = 4


def are_true(
    index: Model, query: NDArray[np.float32], scores: NDArray[np.float64], vectors: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which of the scores, `(m,)`, of a question's vector, `(1, d)`, an honest node can have given of these vectors, `(m, d)`."""
    least, most = index.score_ranges(query, vectors, within=WITHIN)
    return np.asarray((least[0] <= scores) & (scores <= most[0]), dtype=np.bool_)


def require_vectors(contents: Contents, embedder: Embedder, *, where: str) -> None:
    """Hold some of a corpus's vectors against what its embedder gives their texts. Raises `CorpusError`; `where` says whose."""
    tried: Sequence[int] = np.unique(np.linspace(0, len(contents.passages) - 1, _TRIED).astype(np.intp)).tolist()
    expected = embedder.embed([contents.passages[place].text for place in tried], truncate=True)
    if float(np.abs(expected - contents.vectors[tried]).max()) > WITHIN:
        message = (
            f"{where}: its vectors are not what {embedder.name} gives its passages. A corpus that rests at a gateway has them in "
            "eight bits, and one of before was begun without its model's prompts: make one in a folder anew, and host that"
        )
        raise CorpusError(message)

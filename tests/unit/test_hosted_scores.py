"""Which scores are believed of a text whose vector is known: those that an honest machine can have made, and no better ones."""

from typing import cast

import numpy as np
import pytest

from blindgate.hosted_scores import WITHIN, are_true, require_vectors
from blindgate.model import Model
from blindgate_models.compilers.search import compile_search
from blindgate_models.search.client import SearchClient
from blindgate_protocol.errors import CorpusError
from blindgate_rag.corpus import Contents
from blindgate_rag.embedding import Embedder
from blindgate_rag.hits import Hit

SAID = ["Aspirin must not be given with warfarin.", "Tea is served in the hall at five.", "May I have aspirin?"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM."""
    return Embedder.default()


def test_a_lie_of_more_than_two_hundredths_is_none_that_a_machine_could_tell(embedder: Embedder) -> None:
    """What an honest node's score may be of MiniLM's vectors: some 0.016 to either side, in cosines."""
    vectors = embedder.embed(SAID).astype(np.float64)
    half = SearchClient.from_part(compile_search(vectors[:2]).client)
    least, most = half.score_ranges(vectors[2:], vectors[:2], WITHIN)
    true = vectors[2:] @ vectors[:2].T
    assert ((true - 0.02 < least) & (least < true) & (true < most) & (most < true + 0.02)).all()
    index, query = cast("Model", half), vectors[2:].astype(np.float32)
    for lie, believed in ((0.0, True), (0.02, False), (-0.02, False)):
        assert (are_true(index, query, true[0] + lie, vectors[:2].astype(np.float32)) == believed).all()


def test_vectors_that_are_not_the_embedders_are_not_hosted(embedder: Embedder) -> None:
    """Nobody would find anything: whole numbers, as a corpus at a gateway keeps them, or another model's."""
    vectors = embedder.embed(SAID)
    passages = tuple(Hit(said, "notes.txt", None, 0.0, {}, place, 1) for place, said in enumerate(SAID))
    require_vectors(Contents(passages, vectors), embedder, where="notes.bgc")
    rounded, last = np.rint(vectors * 100) / np.float32(100), np.concatenate([vectors[:-1], vectors[:1]])
    for wrong in (np.rint(vectors * 400).astype(np.float32), vectors[::-1], rounded, last):
        with pytest.raises(CorpusError, match=r"notes.bgc: its vectors are not what all-MiniLM-L6-v2 gives"):
            require_vectors(Contents(passages, wrong), embedder, where="notes.bgc")

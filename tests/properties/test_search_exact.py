"""Exact scores for every index and every query, whatever the packing."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blindgate_models.compilers.search import search_parts
from blindgate_models.product.spec import Privacy
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import quantised_entries, quantised_queries, score_ranges
from campaigns import CAMPAIGN, of

Bytes = NDArray[np.int8]


def scores_of(
    index: Bytes, queries: NDArray[np.float64], privacy: Privacy
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The scores under encryption, and the exact ones."""
    client_part, server_part = search_parts(index, privacy=privacy)
    client, server = SearchClient.from_part(client_part.model_dump()), SearchServer.from_part(server_part.model_dump())
    secret = client.make_keys().secret
    got = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, queries)), len(queries))
    return got, quantised_queries(queries)[0] @ index.astype(np.int64).T


@settings(max_examples=of(60 * CAMPAIGN, slice_of=15), suppress_health_check=list(HealthCheck))
@given(
    entries=st.one_of(st.sampled_from([1, 2, 127, 128, 129, 255, 256, 257]), st.integers(1, 3000)),
    width=st.one_of(st.sampled_from([1, 2, 3, 63, 64, 65, 383, 384]), st.integers(1, 500)),
    loudest=st.sampled_from([1, 5, 127, 128]),
    privacy=st.sampled_from(["model_private", "model_public"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_scores_are_exact_for_every_shape(entries: int, width: int, loudest: int, privacy: Privacy, seed: int) -> None:
    """One entry or thousands, a width that no group divides, small numbers and the largest."""
    rng = np.random.default_rng(seed)
    index = rng.integers(-loudest, min(loudest, 127) + 1, (entries, width)).astype(np.int8)
    queries = rng.normal(size=(rng.integers(1, 4), width)) * 10.0 ** rng.integers(-30, 30)
    got, expected = scores_of(index, queries, privacy)
    assert (got == expected).all()


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
@pytest.mark.parametrize(
    ("entries", "width"),
    [
        pytest.param(40, 4096, id="the widest"),
        pytest.param(1, 4096, id="the widest of one entry"),
        pytest.param(1, 1, id="one number"),
        pytest.param(20_000, 1, id="the narrowest"),
        pytest.param(2049, 33, id="an entry more than fills a block"),
    ],
)
def test_the_largest_scores_of_both_signs_are_told_apart(entries: int, width: int, privacy: Privacy) -> None:
    """All numbers at their largest: no sum wraps around, at either end."""
    signs = np.where(np.random.default_rng(entries).random((entries, width)) < 0.5, -127, 127).astype(np.int8)
    signs[0] = 127
    if entries > 1:
        signs[1] = -128
    queries = np.stack([np.full(width, 127.0), signs[-1].astype(np.float64)])
    got, expected = scores_of(signs, queries, privacy)
    assert (got == expected).all()
    assert abs(expected).max() == 127 * (128 if entries > 1 else 127) * width


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
def test_an_index_of_zeros_and_a_query_of_zeros_score_zero(privacy: Privacy) -> None:
    """Nothing transparent stands in the way, and nothing is refused that is harmless."""
    got, _ = scores_of(np.zeros((300, 20), dtype=np.int8), np.stack([np.ones(20), np.zeros(20)]), privacy)
    assert (got == 0).all()
    mixed = np.zeros((300, 20), dtype=np.int8)
    mixed[7, 3] = 1
    got, expected = scores_of(mixed, np.stack([np.ones(20), np.zeros(20)]), privacy)
    assert (got == expected).all()


@given(
    entries=st.integers(1, 20),
    width=st.integers(1, 400),
    within=st.sampled_from([0.0, 1e-7, 1e-3, 0.1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_true_score_lies_in_its_range_and_a_range_is_no_wider_than_it_says(
    entries: int, width: int, within: float, seed: int
) -> None:
    """Whatever another machine makes of each number, up to `within`: eight bits differ by that, and by one for the rounding."""
    rng = np.random.default_rng(seed)
    owners = rng.normal(size=(entries, width))
    theirs = owners + rng.choice([-1, 0, 1], owners.shape) * within * rng.random()
    index, scale = quantised_entries(owners)
    queries = quantised_queries(rng.normal(size=(3, width)))[0]
    exact = queries @ index.astype(np.int64).T
    least, most = score_ranges(theirs, scale, queries, within)
    assert ((least <= exact) & (exact <= most)).all()
    assert (most - least <= (2 * within * scale + (within > 0)) * np.abs(queries).sum(axis=1)[:, None]).all()

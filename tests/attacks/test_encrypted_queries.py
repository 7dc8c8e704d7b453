"""What a node learns of an encrypted query besides that there was one: nothing, to everything that is tried here.

The node is curious and knows much: the index, all queries that are ever asked, and of half of its jobs which one. It holds
bytes, residues and replies against each other and against every query in the clear (`query_guesses`), under one key that is kept
and under fresh ones. Its hits stay within what one who knows nothing has. The same attacks find each of three planted mistakes.

The lengths of a half's blobs are in `test_search_privacy.py`, whole jobs in `test_encrypted_query_jobs.py`.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import campaigns
from blindgate_models.bitpacking import packed_bytes
from blindgate_models.compilers.search import search_parts
from blindgate_models.native.kernel import Kernel
from blindgate_models.product.spec import HEADER_BYTES, Privacy
from blindgate_models.randomness import SYSTEM, centred_binomial
from blindgate_models.seal import serial
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Secret, Seeded, Words
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.security import SEED_BYTES
from query_guesses import Known, View, Views, chance, guesses, learned, view

ENTRIES, WIDTH = 64, 16
QUERIES = 8
MODES: list[Privacy] = ["model_private", "model_public"]
EACH: dict[Privacy, int] = {
    "model_private": campaigns.of(60, slice_of=8),
    "model_public": campaigns.of(60, slice_of=12),
}
"""Jobs of each query; half of them are learned from."""

Whole = NDArray[np.int64]


class Heard(NamedTuple):
    """What a node got, in any order.

    Attributes:
        server: the node's half.
        known: what may have been asked.
        labels: what was, `(n,)`.
        blobs: the bytes in, of each job.
        views: all that attacks use of bytes in and out.
    """

    server: SearchServer
    known: Known
    labels: Whole
    blobs: list[bytes]
    views: Views

    def halves(self) -> tuple[Views, Whole, Views, Whole]:
        """What is learned from, its labels, what is guessed, its labels."""
        seen, rest = np.split(np.arange(len(self.labels)), 2)
        return self.views.some(seen), self.labels[seen], self.views.some(rest), self.labels[rest]


def halves(entries: int, width: int, privacy: Privacy) -> tuple[SearchClient, SearchServer, NDArray[np.int8]]:
    """Both sides of a random index."""
    index = np.random.default_rng(1).integers(-127, 128, (entries, width)).astype(np.int8)
    client, server = search_parts(index, privacy=privacy)
    return SearchClient.from_part(client.model_dump()), SearchServer.from_part(server.model_dump()), index


def asked() -> Whole:
    """Queries as unlike as queries get, two that are nearly the same, and typical ones."""
    rng = np.random.default_rng(2)
    typical = rng.integers(-127, 128, (QUERIES - 4, WIDTH))
    near = typical[-1] + (np.arange(WIDTH) == 0)
    every = np.stack([np.zeros(WIDTH), np.full(WIDTH, 127), np.eye(WIDTH)[3], near, *typical])
    return np.asarray(every.clip(-127, 127).astype(np.int64))


def heard(privacy: Privacy, *, fresh: bool, each: int) -> Heard:
    """Jobs of every query, `each` many, mixed; `fresh`: every one under a key of its own."""
    client, server, index = halves(ENTRIES, WIDTH, privacy)
    queries = asked()
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(QUERIES), each))
    secret = client.make_keys().secret
    blobs, views = [], list[View]()
    for label in labels:
        blob = client.encrypt(client.make_keys().secret if fresh else secret, queries[label][None].astype(float))
        views.append(view(server, blob, server.evaluate(None, blob)))
        blobs.append(blob)
    modulus = server._product._parameters.plain_modulus
    known = Known(queries, queries @ index.astype(np.int64).T, modulus)
    return Heard(server, known, labels, blobs, Views.of(views))


@pytest.fixture(scope="module", params=[(mode, fresh) for mode in MODES for fresh in (False, True)], ids=str)
def jobs(request: pytest.FixtureRequest) -> Heard:
    """In both privacies, under one key and under fresh ones."""
    privacy, fresh = request.param
    return heard(privacy, fresh=fresh, each=EACH[privacy])


def alike(it: Heard) -> int:
    """The most places at which eight bytes of two jobs are the same, of seeds and of words."""
    rows = np.stack([np.frombuffer(blob[HEADER_BYTES:], "<u8") for blob in it.blobs])
    return max(int((rows[one] == rows[one + 1 :]).sum(axis=1).max()) for one in range(len(rows) - 1))


def test_two_encryptions_of_one_query_share_no_part(jobs: Heard) -> None:
    """No eight bytes at one place, no seed anywhere: of one query as little as of two. Single bytes are alike by chance alone."""
    assert alike(jobs) == 0
    count = jobs.server._product._shape.polynomials(1)
    starts = range(HEADER_BYTES, HEADER_BYTES + count * SEED_BYTES, SEED_BYTES)
    assert len({blob[start : start + SEED_BYTES] for blob in jobs.blobs for start in starts}) == len(jobs.blobs) * count
    order = np.argsort(jobs.labels, kind="stable")
    pairs = [(one, other) for one, other in pairwise(order) if jobs.labels[one] == jobs.labels[other]]
    rows = [np.frombuffer(blob[HEADER_BYTES:], np.uint8) for blob in jobs.blobs]
    same = sum(int((rows[one] == rows[other]).sum()) for one, other in pairs)
    low, high = chance(len(pairs) * len(rows[0]), 1 / 256)
    assert low <= same <= high


def test_a_query_is_told_from_seven_others_as_often_as_by_chance(jobs: Heard) -> None:
    """One in eight, within `chance`: at most 19 of 48 for a public index, 15 of 32 for a private one; nightly 8 to 58 of 240."""
    seen, labels, rest, truth = jobs.halves()
    low, high = chance(len(truth), 1 / QUERIES)
    for what, guess in guesses(jobs.known, seen, labels, rest).items():
        assert low <= int((guess == truth).sum()) <= high, what


def test_whether_a_query_is_of_a_set_is_told_as_often_as_by_chance(jobs: Heard) -> None:
    """Membership of half of the queries, whose replies are known too: 8 to 40 of 48, 3 to 29 of 32; nightly 82 to 158 of 240."""
    seen, labels, rest, truth = jobs.halves()
    inside = np.arange(QUERIES) % 2 == 0
    told = {what: inside[guess] for what, guess in guesses(jobs.known, seen, labels, rest).items()}
    told |= {f"{what}, of sets": guess for what, guess in learned(seen, inside[labels], rest).items()}
    low, high = chance(len(truth), 1 / 2)
    for what, guess in told.items():
        assert low <= int((guess == inside[truth]).sum()) <= high, what


def transformed(ring: Ring, words: Words) -> Words:
    """Coefficients, `(primes, degree)`, in NTT form."""
    message = serial.load_ciphertext(ring._data, np.stack([words, words]), ntt=False)
    ring.evaluator.transform_to_ntt_inplace(message)
    return np.asarray(serial.ciphertext_words(message, len(ring.primes), ring.degree)[0])


def in_the_clear(ring: Ring, coefficients: Whole) -> Words:
    """A query's polynomial with its noise, without anything that would hide it."""
    noise = centred_binomial(ring.degree, SYSTEM)
    primes = np.array(ring.primes, dtype=np.int64)[:, None]
    scaled = ring.scaled(np.pad(coefficients, (0, ring.degree - len(coefficients)))).astype(np.int64)
    return transformed(ring, ((scaled + noise) % primes).astype(np.uint64))


Encrypt = Callable[[Ring, Secret, Whole], Seeded]


def one_encryption(honest: Encrypt) -> Encrypt:
    """The mistake that a query is always encrypted alike."""
    kept: dict[bytes, Seeded] = {}

    def encrypt(ring: Ring, secret: Secret, coefficients: Whole, *, like_any: bool = False) -> Seeded:
        return kept.setdefault(coefficients.tobytes(), honest(ring, secret, coefficients))

    return encrypt


def one_seed(honest: Encrypt) -> Encrypt:
    """The mistake that c1 comes from the same seed every time, though noise is fresh."""
    kept: dict[int, Seeded] = {}

    def encrypt(ring: Ring, secret: Secret, coefficients: Whole, *, like_any: bool = False) -> Seeded:
        first = kept.setdefault(len(coefficients), honest(ring, secret, np.zeros(1, dtype=np.int64)))
        primes = np.array(ring.primes, dtype=np.uint64)[:, None]
        return first._replace(words=(first.words + in_the_clear(ring, coefficients)) % primes)

    return encrypt


def no_key(honest: Encrypt) -> Encrypt:
    """The mistake that the secret is zero: noise alone hides nothing."""

    def encrypt(ring: Ring, secret: Secret, coefficients: Whole, *, like_any: bool = False) -> Seeded:
        return honest(ring, secret, coefficients)._replace(words=in_the_clear(ring, coefficients))

    return encrypt


LEARNED = {"the nearest centroid", "a logistic regression", "the nearest residues"}


@pytest.mark.parametrize(
    ("mistake", "found", "parts"),
    [
        pytest.param(one_encryption, LEARNED, True, id="one encryption"),
        pytest.param(one_seed, {"the nearest residues"}, True, id="one seed"),
        pytest.param(no_key, {"a residue near a query", "a residue like a query"}, False, id="no key"),
    ],
)
def test_the_same_attacks_find_a_mistake(
    mistake: Callable[[Encrypt], Encrypt], found: set[str], monkeypatch: pytest.MonkeyPatch, *, parts: bool
) -> None:
    """So that silence means something: with any of these, guesses are right far more often than chance is."""
    monkeypatch.setattr(Ring, "encrypt", mistake(Ring.encrypt))
    it = heard("model_public", fresh=False, each=8)
    assert (alike(it) > 0) == parts
    seen, labels, rest, truth = it.halves()
    high = chance(len(truth), 1 / QUERIES)[1]
    right = {what: int((guess == truth).sum()) for what, guess in guesses(it.known, seen, labels, rest).items()}
    assert found <= {what for what, hits in right.items() if hits > high}, right


Work = list[tuple[Any, ...]]


def watched(server: SearchServer, blob: bytes) -> tuple[Work, int]:
    """All that is asked of SEAL and of the kernel for a job, in order, with which part of the index; and the reply's length."""
    work: Work = []
    index = server._multipliers
    if isinstance(index, list):  # SEAL's: a plaintext for each block and part of a query
        places = {id(each): f"part {place}" for place, each in enumerate(each for block in index for each in block)}
    else:
        places = {id(index): "the index"}

    def heard_as(one: Any) -> Any:
        kind = one.shape if isinstance(one, np.ndarray) else type(one).__name__
        return places.get(id(one), kind)

    def listening(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            work.append((name, *map(heard_as, given)))
            return call(*given)

        return called

    class Evaluator:
        """SEAL's, with somebody who listens."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return listening(name, getattr(self._real, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server._product._ring, "evaluator", Evaluator(server._product._ring.evaluator))
        for name in ("transform", "add_products", "finish"):
            patch.setattr(Kernel, name, listening(name, getattr(Kernel, name)))
        return work, len(server.evaluate(None, blob))


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("privacy", MODES)
def test_a_node_computes_the_same_whatever_is_asked(privacy: Privacy) -> None:
    """Every block of the index with every part of the query, in the same order, by the same calls, to as many bytes."""
    client, server, _ = halves(600, 100, privacy)
    shape, secret = server._product._shape, client.make_keys().secret
    rng = np.random.default_rng(4)
    queries = [np.zeros(100), np.eye(100)[99], np.full(100, 1e9), *(rng.normal(size=(3, 100)))]
    first, *others = [watched(server, client.encrypt(secret, query[None])) for query in queries]
    work, length = first
    assert all(each == first for each in others)
    assert length == shape.result_bytes(1)
    assert length > HEADER_BYTES + packed_bytes(shape.blocks * shape.parameters.degree, 1)
    read = [
        each
        for _, *given in work
        for each in given
        if isinstance(each, str) and each.startswith(("part ", "the index"))
    ]
    if isinstance(server._multipliers, list):
        assert read == [f"part {place}" for place in range(shape.blocks * shape.groups)]
    else:
        assert read == ["the index"]
        assert server._multipliers.shape[2:4] == (shape.blocks, shape.groups)

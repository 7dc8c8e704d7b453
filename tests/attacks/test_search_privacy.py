"""What an asker reads from replies besides scores: everything it can of a public index, nothing of a private one.

The attack of MEASURED.md ("An unflooded reply hides the row, not the model"), on real replies: the asker knows the noise e of its
own ciphertexts, since it knows the key, and the noise of a reply at an output is a sum of products of e with entries. It solves for
the entries. Everything here is what an asker has: its key, its query, its upload, the reply.
"""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.bitpacking import packed_bytes, unpack
from blindgate_models.compilers.search import search_parts
from blindgate_models.product.server import Cover, ProductServer
from blindgate_models.product.spec import HEADER_BYTES, Privacy
from blindgate_models.seal import serial
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import DISCLOSES_TO_CLIENT, quantised_queries
from blindgate_protocol.errors import PackageError

ENTRIES, WIDTH = 16, 8
REPLIES = 6

Whole = NDArray[np.int64]


class World(NamedTuple):
    """An index with its halves and a key."""

    entries: NDArray[np.int8]
    client: SearchClient
    server: SearchServer
    secret: bytes


def world(privacy: Privacy, **changes: object) -> World:
    """A small random index; `changes` are of its parameters."""
    index = np.random.default_rng(1).integers(-127, 128, (ENTRIES, WIDTH)).astype(np.int8)
    client, server = search_parts(index, privacy=privacy)
    changed = client.parameters.model_copy(update=changes)
    parts = [part.model_copy(update={"parameters": changed}).model_dump() for part in (client, server)]
    halves = SearchClient.from_part(parts[0]), SearchServer.from_part(parts[1])
    return World(index, *halves, halves[0].make_keys().secret)


def negacyclic(a: NDArray[np.uint64], ternary: Whole) -> list[int]:
    """The product modulo X^N + 1, exact."""
    size = len(ternary)
    limbs = []
    for limb in (a & np.uint64((1 << 27) - 1), a >> np.uint64(27)):
        full = np.convolve(limb.astype(np.int64), ternary)
        folded = full[:size].copy()
        folded[: size - 1] -= full[size:]
        limbs.append(folded.tolist())
    return [low + (high << 27) for low, high in zip(*limbs, strict=True)]


def centred(numbers: list[int], modulus: int) -> Whole:
    """Numbers modulo `modulus`, nearest to 0."""
    return np.array([(number + modulus // 2) % modulus - modulus // 2 for number in numbers])


def key_of(it: World) -> Whole:
    """The secret key's coefficients."""
    product = it.client._product
    ring, degree = product._ring, product._parameters.degree
    prime = ring.secret_primes[0]
    start = len(it.secret) - sum(packed_bytes(degree, each.bit_length()) for each in ring.secret_primes)
    row = unpack(it.secret[start : start + packed_bytes(degree, prime.bit_length())], degree, prime.bit_length())
    only = serial.load_ciphertext(ring._last, np.stack([row, row]), ntt=True)
    ring.evaluator.transform_from_ntt_inplace(only)
    return centred([int(word) for word in serial.ciphertext_words(only, 1, degree)[0, 0]], prime)


def upload_noise(it: World, key: Whole, blob: bytes, query: Whole) -> list[Whole]:
    """The noise of each polynomial of a query."""
    product: ProductServer = it.server._product
    ring, parameters, shape = product._ring, product._parameters, product._shape
    scale = int(np.prod([int(prime) for prime in ring.primes], dtype=object))
    padded = np.pad(query, (0, shape.groups * parameters.group - len(query))).reshape(shape.groups, -1)
    found = []
    for seeded, numbers in zip(
        list(product._seeded(memoryview(blob)[HEADER_BYTES:], 1))[shape.zeros :], padded, strict=True
    ):
        loaded = ring.expand(seeded)
        ring.evaluator.transform_from_ntt_inplace(loaded)
        c0, c1 = serial.ciphertext_words(loaded, len(ring.primes), parameters.degree)[:, 0]
        turned = negacyclic(c1, key)
        modulus = parameters.plain_modulus
        message = [(scale * (int(number) % modulus) + (modulus + 1) // 2) // modulus for number in numbers]
        message += [0] * (parameters.degree - len(message))
        noise = centred(
            [int(word) + product_ - sent for word, product_, sent in zip(c0, turned, message, strict=True)],
            ring.primes[0],
        )
        assert abs(noise).max() <= 22  # it is noise: the key, the format and the scale are understood
        found.append(noise)
    return found


def reply_noise(it: World, key: Whole, result: bytes, scores: Whole) -> NDArray[np.float64]:
    """The noise of the first block's words at the outputs."""
    product = it.client._product
    parameters, shape, prime = product._parameters, product._shape, product._ring.primes[0]
    reply, bits = memoryview(result)[HEADER_BYTES:], parameters.data_bits[0]
    cut = packed_bytes(shape.blocks * parameters.degree, bits - parameters.dropped_c1)
    c1 = product._restored(
        unpack(reply[:cut], shape.blocks * parameters.degree, bits - parameters.dropped_c1), parameters.dropped_c1
    )
    c0 = product._restored(
        unpack(reply[cut:], shape.blocks * parameters.block, bits - parameters.dropped_c0), parameters.dropped_c0
    )
    turned = negacyclic(c1[: parameters.degree], key)[parameters.group - 1 :: parameters.group]
    modulus = parameters.plain_modulus
    message = [
        (prime * (int(score) % modulus) + modulus // 2) // modulus
        for score in np.pad(scores, (0, parameters.block - len(scores)))
    ]
    return centred(
        [
            int(word) + product_ - sent
            for word, product_, sent in zip(c0[: parameters.block], turned, message, strict=True)
        ],
        prime,
    ).astype(np.float64)


def equations(it: World, noise: list[Whole]) -> NDArray[np.float64]:
    """How each entry's number counts in the noise of each output: `(block, entries · width)`."""
    parameters = it.client._product._parameters
    degree, group = parameters.degree, parameters.group
    places = np.arange(group - 1, degree, group)
    table = np.empty((parameters.block, ENTRIES, WIDTH))
    for entry in range(ENTRIES):
        for column in range(WIDTH):
            which, offset = divmod(column, group)
            shift = places - (entry * group + group - 1 - offset)
            table[:, entry, column] = noise[which][shift % degree] * np.where(shift < 0, -1, 1)
    return table.reshape(parameters.block, -1)


def one_reply(it: World, key: Whole, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a query lets its asker write down: equations, and the noise that solves them."""
    query = rng.normal(size=(1, WIDTH))
    blob = it.client.encrypt(it.secret, query)
    whole = quantised_queries(query)[0][0]
    result = it.server.evaluate(None, blob)
    table = equations(it, upload_noise(it, key, blob, whole))
    return table, reply_noise(it, key, result, it.entries.astype(np.int64) @ whole)


def correlation(it: World) -> float:
    """How well the index is recovered from `REPLIES` replies: 1 is entirely, 0 not at all."""
    rng, key = np.random.default_rng(2), key_of(it)
    left, right = zip(*(one_reply(it, key, rng) for _ in range(REPLIES)), strict=True)
    solved = np.linalg.lstsq(np.concatenate(left), np.concatenate(right), rcond=None)[0]
    return float(np.corrcoef(solved, it.entries.ravel())[0, 1])


ALL_BITS = {"dropped_c0": 0, "dropped_c1": 0}
"""For the attack to read: rounding, too, hides a little, but nobody has bounds for that."""


def test_one_asker_reads_a_public_index_from_its_replies() -> None:
    """So the manifest says that the index may be known: this is what the word `model_public` stands for."""
    assert correlation(world("model_public", **ALL_BITS)) > 0.999


@pytest.mark.parametrize("changes", [pytest.param({}, id="as sent"), pytest.param(ALL_BITS, id="with all low bits")])
def test_the_same_attack_reads_nothing_of_a_private_index(changes: dict[str, object]) -> None:
    """Chance: 128 numbers correlate by 0.09 with anything."""
    assert abs(correlation(world("model_private", **changes))) < 0.35


def test_it_is_the_flood_that_hides_a_private_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second prime, whose switch would shrink all noise: read at no flood, nothing at one of 2^32.

    The server refuses both for being short of its bounds; here it is made to take them.
    """
    bare = {**ALL_BITS, "data_bits": [55]}
    with pytest.raises(PackageError, match=r"an advantage of 2\^-.* expected 2\^-40 or less"):
        world("model_private", **bare, flood_bits=32)
    monkeypatch.setattr("blindgate_models.search.server.require_fitting", lambda *_: None)
    assert correlation(world("model_private", **bare, flood_bits=0)) > 0.95
    assert abs(correlation(world("model_private", **bare, flood_bits=32))) < 0.35


@pytest.mark.parametrize("privacy", ["model_public", "model_private"])
def test_the_noise_is_what_the_margin_was_computed_from(privacy: Privacy) -> None:
    """Eight standard deviations of room are eight of the noise that there is, flood apart; and the flood is there."""
    it = world(privacy)
    rng, key = np.random.default_rng(3), key_of(it)
    noise = np.concatenate([one_reply(it, key, rng)[1] for _ in range(REPLIES)])
    parameters = it.client._product._parameters
    half = 2.0 ** parameters.data_bits[0] / parameters.plain_modulus / 2
    width = 2.0 ** (parameters.flood_bits - sum(parameters.data_bits[1:])) if privacy == "model_private" else 0.0
    heaviest = float((it.entries.astype(np.int64) ** 2).sum(axis=1).max())
    rest = (half - 4 * width) / parameters.margin(heaviest)
    expected = (rest**2 + width**2 * 4 / 3) ** 0.5
    assert 0.8 * expected < noise.std() < 1.2 * expected
    assert abs(noise).max() < half
    assert privacy == "model_public" or width > rest / 2


def test_the_random_half_of_a_private_reply_is_drawn_anew() -> None:
    """Of a public reply it is the upload's times the index, every time; of a private one every word differs between two replies."""
    for privacy in ("model_public", "model_private"):
        it = world(privacy)
        parameters, shape = it.client._product._parameters, it.client._product._shape
        blob = it.client.encrypt(it.secret, np.ones((1, WIDTH)))
        first, second = (it.server.evaluate(None, blob) for _ in range(2))
        bits = parameters.data_bits[0] - parameters.dropped_c1
        cut = HEADER_BYTES + packed_bytes(shape.blocks * parameters.degree, bits)
        words = [unpack(reply[HEADER_BYTES:cut], shape.blocks * parameters.degree, bits) for reply in (first, second)]
        alike = float((words[0] == words[1]).mean())
        assert alike == 1 if privacy == "model_public" else alike < 0.01
        got = [it.client.decrypt(it.secret, reply, 1).tolist() for reply in (first, second)]
        assert got[0] == got[1] == [it.entries.astype(int).sum(axis=1).tolist()]


def test_a_modified_client_reads_two_numbers_of_each_entry_at_once() -> None:
    """No node can see that a query does not keep to eight bits: so the manifest says that fewer queries do than columns."""
    it = world("model_private")
    query = np.zeros((1, WIDTH), dtype=np.int64)
    query[0, :2] = 1, 256
    product = it.client._product
    result = it.server.evaluate(None, product.encrypt(it.secret, query))
    numbers = product.decrypt(it.secret, result, 1)[0]
    modulus = product._parameters.plain_modulus
    numbers = np.where(2 * numbers > modulus, numbers - modulus, numbers)
    low = (numbers + 128) % 256 - 128
    assert low.tolist() == it.entries[:, 0].tolist()
    assert ((numbers - low) // 256).tolist() == it.entries[:, 1].tolist()
    told = " ".join(DISCLOSES_TO_CLIENT["model_private"])
    assert "as many queries as columns read the whole index, about a third of that from a modified client" in told


@pytest.mark.parametrize("privacy", ["model_public", "model_private"])
def test_lengths_tell_nothing_of_a_query(privacy: Privacy) -> None:
    """Zeros, ones, one number, noise: as many bytes up and as many down."""
    it = world(privacy)
    queries = [np.zeros(WIDTH), np.ones(WIDTH), np.eye(WIDTH)[3], np.random.default_rng(0).normal(size=WIDTH) * 1e9]
    blobs = [it.client.encrypt(it.secret, query[None]) for query in queries]
    lengths = {(len(blob), len(it.server.evaluate(None, blob))) for blob in blobs}
    assert lengths == {(it.client.input_bytes(1), it.client.result_bytes(1))}


def test_a_cover_serves_one_reply() -> None:
    """What hides two replies alike hides neither: the second use finds nothing left."""
    it = world("model_private")
    product = it.server._product
    zeros, (query,) = product.open_input(it.client.encrypt(it.secret, np.ones((1, WIDTH))), 1)
    cover = product.cover()
    product.reply(zeros, query, it.server._multipliers, it.server._constants, cover)
    with pytest.raises(RuntimeError, match="spent already"):
        product.reply(zeros, query, it.server._multipliers, it.server._constants, cover)


def test_no_cover_is_drawn_before_workers_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half that was built holds none: two workers forked from it would hide two replies alike. A worker prepares one."""
    drawn: list[Cover] = []
    cover = ProductServer.cover

    def counted(product: ProductServer) -> Cover:
        drawn.append(cover(product))
        return drawn[-1]

    monkeypatch.setattr(ProductServer, "cover", counted)
    it = world("model_private")
    blob = it.client.encrypt(it.secret, np.ones((3, WIDTH)))
    assert not drawn
    it.server.prepare()
    it.server.prepare()
    assert len(drawn) == 1
    it.server.evaluate(None, blob)
    assert len(drawn) == 3
    it.server.evaluate(None, blob)
    assert len(drawn) == 6
    for each in drawn:
        with pytest.raises(RuntimeError, match="spent already"):
            each.spend()

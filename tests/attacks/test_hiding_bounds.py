"""The bounds that manifests claim, against what they are about: noise that is measured, and the best test that there is.

An advantage is computed from how large the noise of a reply is without its flood, and how wide the flood is. A formula that forgot
half of the noise would pass every other test here.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batch_forests import QUESTIONS, random_forest, random_rows
from blindgate_models.compilers.tree_batches import compile_tree_batch
from blindgate_models.flooding import FISHER_WIDTH, distinguishing_bits, flood
from blindgate_models.native.kernel import SETTING
from blindgate_models.product import server as product_server
from blindgate_models.product import spec as product_spec
from blindgate_models.product.spec import Need, Shape, choose, prime_below
from blindgate_models.seal import serial
from blindgate_models.seal.bfv import Ring
from blindgate_models.trees.spec import row_square
from blindgate_models.trees_batch import spec as batch_spec
from blindgate_models.trees_batch.circuit import deviation
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_protocol.errors import PackageError
from phases import noise, secret_words
from private_forests import Summed, private_forest
from products import Asker, product

Floats = NDArray[np.float64]


def shift_of(bits: float, flood_bits: int, words: float) -> float:
    """The noise that an advantage of 2^-bits was computed from."""
    return float(2.0 ** (flood_bits + 1 - bits) * FISHER_WIDTH / math.sqrt(words))


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What replies are before their switch, without a flood: the words of each block. SEAL's, whose bits are the kernel's."""
    monkeypatch.setenv(SETTING, "sealapi")
    kept: list[Any] = []
    switch = Ring.to_last_prime

    def watched(ring: Any, ciphertext: Any) -> Any:
        kept.append(serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree))
        return switch(ring, ciphertext)

    monkeypatch.setattr(Ring, "to_last_prime", watched)
    monkeypatch.setattr(
        product_server, "flood", lambda _bits, count, primes, _: np.zeros((len(primes), count), dtype=np.uint64)
    )
    return kept


def noise_of(sums: list[Any], shape: Shape, secret: bytes, numbers: NDArray[np.int64]) -> Floats:
    """The noise of all outputs of one reply that decrypts to `numbers`, from its blocks."""
    asker, block, group = Asker(shape, secret), shape.parameters.block, shape.parameters.group
    full = np.zeros(shape.blocks * block, dtype=np.int64)
    full[: shape.outputs] = numbers
    found = []
    for words, expected in zip(sums, full.reshape(-1, block), strict=True):
        message = np.zeros(shape.parameters.degree, dtype=np.int64)
        places = slice(group - 1, block * group, group)
        message[places] = expected
        found.append(asker.noise(words, message)[places])
    return np.concatenate(found)


def test_the_noise_of_a_product_is_what_its_bound_is_computed_from(sums: list[Any]) -> None:
    """Of all blocks, over all outputs that share one."""
    it = product(300, 400, plain_bits=20)
    parameters, shape = it.shape.parameters, it.shape
    assert parameters.block > 20
    bits = np.random.default_rng(0).integers(0, 2, (1, 300))
    got = noise_of((it.ask(bits), sums)[1], shape, it.secret, it.expected(bits)[0])[: shape.outputs]
    square = float((it.matrix.astype(np.float64) ** 2).sum(axis=1).mean())
    claimed = shift_of(parameters.distinguishing_bits(square, 400, 1), parameters.flood_bits, 400)
    full = shape.outputs // parameters.block * parameters.block  # the last block has fewer rows of W
    assert 0.9 * claimed < np.sqrt((got[:full] ** 2).mean()) < 1.1 * claimed


@pytest.mark.parametrize(("moduli", "least"), [([1048573], 0.9), ([1009, 1039], 0.7)])
def test_the_noise_of_a_forest_is_what_its_bound_is_computed_from(
    moduli: list[int], least: float, sums: list[Any]
) -> None:
    """Full trees, whose masks are as many and as large as the bound takes them to be; it takes values for flags."""
    leaves = [
        {"bits": [0, 1, 2, 3], "wanted": list(wanted), "value": [5]} for wanted in itertools.product((0, 1), repeat=4)
    ]
    shifted = [[leaf | {"bits": [bit + 4 * tree for bit in range(4)]} for leaf in leaves] for tree in range(16)]
    it = private_forest([Summed(shifted, [0], [0])], 64, flag_moduli=moduli)
    given = np.random.default_rng(0).integers(0, 2, (1, 64))
    result = it.server.evaluate(None, it.encrypt(given))
    shape = it.server._product._shape
    numbers = it.client._product.decrypt(it.secret, result, 1)[0]
    got = noise_of(sums, shape, it.secret, numbers)[: shape.outputs]
    square = row_square(4, len(moduli), math.prod(moduli))
    bits = shape.parameters.distinguishing_bits(square, shape.outputs, 1)
    claimed = shift_of(bits, shape.parameters.flood_bits, shape.outputs)
    assert least * claimed < np.sqrt((got**2).mean()) < 1.1 * claimed


def test_the_noise_of_a_circuit_is_what_its_bound_is_computed_from() -> None:
    """Of all coefficients; the bound allows for eight deviations of a reply's own mean square."""
    rows = random_rows(np.random.default_rng(3), 100)
    batch = compile_tree_batch(random_forest(np.random.default_rng(2), 8, 3), QUESTIONS, rows, classifies=False)
    client = TreesBatchClient.from_part(batch.client.model_dump())
    node = TreesBatchServer.from_part(batch.server.model_dump())
    secret = client.make_keys().secret
    (total,) = node._evaluation.run(node.open_input(client.encrypt(secret, rows)).bits)
    got = noise(client._ring, secret_words(client._ring, secret), total)
    parameters = batch.server.parameters
    claimed = deviation(batch.server.circuit.polynomials(), parameters.degree, parameters.plain_modulus)
    assert 0.5 * claimed < np.sqrt((got**2).mean()) < claimed
    bits = parameters.distinguishing_bits(claimed, 1, 1)
    assert shift_of(bits, parameters.flood_bits, parameters.degree) == pytest.approx(claimed)


@pytest.mark.parametrize("spec", [product_spec, batch_spec], ids=["product", "batch"])
def test_the_bounds_are_those_of_the_manifest(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """2^-40 over a million, and eight standard deviations: a hair less is refused, by compilers and nodes alike."""
    if spec is product_spec:
        parameters: Any = choose(Need(4, 8, prime_below(16), 4 * 2.0**32 / 12, "model_private"))
    else:
        forest = random_forest(np.random.default_rng(0), 2, 2)
        parameters = compile_tree_batch(forest, QUESTIONS, random_rows(np.random.default_rng(1), 20)).server.parameters
    assert parameters.distinguishing_bits(2.0**20, 7) == parameters.distinguishing_bits(2.0**20, 7, 10**6)
    for advantage, margin, says in ((40.0, 8.0, None), (39.99, 8.0, "an advantage"), (40.0, 7.99, "deviations")):
        monkeypatch.setattr(spec.Parameters, "distinguishing_bits", lambda *_, advantage=advantage: advantage)
        monkeypatch.setattr(spec.Parameters, "margin", lambda *_, margin=margin: margin)
        if says is None:
            parameters.require_bounds(1.0, 1)
            continue
        with pytest.raises(PackageError, match=says):
            parameters.require_bounds(1.0, 1)


def density(numbers: Floats) -> Floats:
    """Of a sum of four uniform numbers on [-1, 1]."""
    x = np.clip(numbers / 2 + 2, 0, 4)
    terms = [(-1) ** k * math.comb(4, k) * np.maximum(x - k, 0) ** 3 for k in range(5)]
    return np.asarray(np.maximum(sum(terms), 0) / 12)


def test_the_best_test_of_two_models_is_no_better_than_the_bound() -> None:
    """The likelihood ratio, by somebody who knows all but which of two models it is, where the bound is 0.3 and so can be measured.

    It comes to most of the bound, too: a formula that promised less than there is would be seen as well.
    """
    flood_bits, words, trials = 16, 2000, 3000
    rng = np.random.default_rng(0)
    shift = 0.3 * 2 * FISHER_WIDTH * 2.0**flood_bits / math.sqrt(words)
    assert 2 ** -distinguishing_bits(shift, flood_bits, words) == pytest.approx(0.3)
    prime = (1 << 40) - 87

    def says_second(second: bool) -> bool:
        own = np.rint(rng.normal(size=words) * shift)
        drawn = flood(flood_bits, words, [prime])[0].astype(np.int64)
        seen = np.where(drawn > prime // 2, drawn - prime, drawn) + second * own
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(density((seen - own) / 2.0**flood_bits)) - np.log(density(seen / 2.0**flood_bits))
        return bool(np.nansum(np.clip(ratio, -1e3, 1e3)) > 0)

    right = np.mean([says_second(second=True) for _ in range(trials)])
    wrong = np.mean([says_second(second=False) for _ in range(trials)])
    error = 4 / math.sqrt(2 * trials)
    assert 0.3 * 0.7 - error < right - wrong < 0.3 + error / 2


def test_nothing_of_a_batch_is_drawn_before_workers_are_forked() -> None:
    """A half that was built holds no cover: two workers forked from it would hide two replies alike."""
    forest = random_forest(np.random.default_rng(0), 2, 2)
    batch = compile_tree_batch(forest, QUESTIONS, random_rows(np.random.default_rng(1), 20))
    assert not TreesBatchServer.from_part(batch.server.model_dump())._ready

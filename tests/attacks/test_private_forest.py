"""What hides a private model, attack by attack: each of these worked against an earlier design, or on paper.

The attacker is whoever may ask: it knows its own secret key and noise, and may send any bits. Or it is a node, which may answer
anything. A name here says what must not come of it.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from blindgate_models import randomness
from blindgate_models.compilers.trees import compile_trees
from blindgate_models.native.kernel import SETTING, Kernel, kernel
from blindgate_models.package import serialise_part
from blindgate_models.product import arithmetic
from blindgate_models.product import server as product_server
from blindgate_models.product.client import ProductClient
from blindgate_models.product.server import ProductServer
from blindgate_models.product.spec import HEADER_BYTES, INPUT, header
from blindgate_models.public_bins import PublicBins
from blindgate_models.seal import serial
from blindgate_models.security import SEED_BYTES
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from blindgate_models.trees.spec import server_part
from blindgate_protocol.errors import CiphertextError
from campaigns import CAMPAIGN, of
from private_forests import PrivateForest, Summed, fits, one_sum, private_forest
from products import Asker, Product, product
from worker_pool import workers

REPLIES = of(400 * CAMPAIGN, slice_of=200)
UNLIKELY = 1e-8
"""How often chance alone may fail one check, of a hundred in each run. What leaks does so everywhere, and is far less likely."""

SMALL_MODULUS = 8
"""Bits of a plain modulus at which what happens once in t replies happens often."""


@pytest.fixture(scope="module", params=[[251], [11, 13]], ids=["a flag a number", "two flags a number"])
def forest(request: pytest.FixtureRequest) -> PrivateForest:
    """Eight trees of depth 3 over ten bits."""
    return one_sum(8, 3, 10, flag_moduli=request.param)


def primes_of(forest: PrivateForest, leaves: int) -> NDArray[np.int64]:
    """The prime that each leaf's flag is modulo."""
    return np.resize(np.array(forest.flag_moduli), leaves)


@pytest.fixture(scope="module")
def replies(forest: PrivateForest) -> NDArray[np.int64]:
    """Many replies to one and the same row, decrypted: `(replies, flag and value, leaves)`."""
    bits = np.tile(np.arange(10) % 2, (REPLIES, 1))
    found = forest.raw(forest.server.evaluate(None, forest.encrypt(bits)), REPLIES)
    return found[0]


# The node plants an output whose flag depends on one bit, and waits for "ask again".


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(lambda leaves, _: np.zeros(leaves), id="every leaf answers"),
        pytest.param(lambda leaves, _: np.ones(leaves), id="no leaf answers"),
        pytest.param(lambda _, primes: primes - 1, id="the largest flags"),
        pytest.param(lambda leaves, _: np.arange(leaves) % 2, id="half of them"),
    ],
)
def test_a_planted_outcome_makes_the_client_do_nothing_else(
    forest: PrivateForest, flags: Callable[[int, NDArray[np.int64]], NDArray[np.float64]]
) -> None:
    """Whatever stands at the flags, decrypting gives a score of the usual shape: no error, no refusal, nothing to ask again for."""
    leaves = forest.parts[0]["sums"][0]["leaves"]
    chosen = flags(leaves, primes_of(forest, leaves)).astype(np.int64)
    together = [
        next(n for n in range(forest.modulus) if all(n % np.array(forest.flag_moduli) == some))
        for some in chosen.reshape(-1, len(forest.flag_moduli))
    ]
    planted = np.concatenate([together, np.full(leaves, 3)]).astype(np.int64)
    node = forest.server._product
    zeros, rows = node.open_input(forest.encrypt(np.zeros((1, 10), dtype=np.int64)), 1)
    nothing = node.multipliers(np.zeros((len(planted), 10), dtype=np.int64))
    result = node.result([node.reply(zeros, rows[0], nothing, node.cover(node.constants(planted)))])
    score = forest.client.decrypt(forest.secret, result, 1)
    assert score.shape == (1, 1)
    assert np.isfinite(score).all()
    centred = int(3 * (chosen == 0).sum()) % forest.modulus
    assert score[0, 0] % forest.modulus == centred


def test_what_the_client_decrypts_decides_nothing_that_it_sends() -> None:
    """The half has no door for it: `decrypt` gives numbers, and no method takes a result to make another input of it."""
    doors = {name for name in dir(TreesClient) if not name.startswith("_")}
    assert doors == {
        "decrypt",
        "encrypt",
        "error_bound",
        "from_part",
        "input_bytes",
        "key_parameters",
        "make_keys",
        "outputs",
        "result_bytes",
        "rows_at_once",
        "rows_per_job",
    }


# The client sends unseeded ciphertexts, or a key of its own making, and reads mask weights.


def test_a_second_polynomial_of_the_clients_choice_has_no_place(forest: PrivateForest) -> None:
    """With a c1 of its own a client reads the paths from one reply. An input is seeds and c0, at one exact length."""
    blob = forest.encrypt(np.zeros((1, 10), dtype=np.int64))
    shape = forest.server._product._shape
    count = shape.polynomials(1)
    words = blob[HEADER_BYTES + count * SEED_BYTES :]
    assert count == 2
    for crafted in (
        blob + words,  # c1 behind c0
        blob[:HEADER_BYTES] + words + words,  # c1 in place of the seeds
        blob[:HEADER_BYTES] + bytes(count) + words,  # no seeds
        header(INPUT, shape, 2) + blob[HEADER_BYTES:] + words,  # c1 as another row
    ):
        with pytest.raises(CiphertextError, match="length"):
            forest.server.evaluate(None, crafted)


def test_the_second_polynomial_is_what_the_seed_gives(forest: PrivateForest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever c0 says, c1 is the node's own expansion of the seed: an encryption of zero is not of the client's making."""
    seen: list[NDArray[np.uint64]] = []
    ring = forest.server._product._ring
    expand = type(ring).expand

    def watched(self: Any, seeded: Any) -> Any:
        ciphertext = expand(self, seeded)
        seen.append(serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree)[1])
        return ciphertext

    monkeypatch.setattr(type(ring), "expand", watched)
    blob = forest.encrypt(np.zeros((1, 10), dtype=np.int64))
    body = HEADER_BYTES + 2 * SEED_BYTES
    forest.server.evaluate(None, blob)
    forest.server.evaluate(None, blob[:body] + bytes(len(blob) - body))
    first, second = seen[:2], seen[2:]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
        assert stats.kstest(one[0] / float(ring.primes[0]), "uniform").pvalue > UNLIKELY


# Bits that contradict each other make two leaves of a tree match: an exact difference of leaves in three queries.


@pytest.mark.parametrize("kind", ["of a compiled model", "with repeated conditions"])
def test_contradictory_bits_match_one_leaf_a_tree(kind: str) -> None:
    """Bits of a thermometer that rise and fall again: every condition stayed on its path, so each tree answers once."""
    if kind == "with repeated conditions":
        it = one_sum(6, 4, 3, seed=5)
        client, node, secret, bits, trees = it.client, it.server, it.secret, 3, 6
    else:
        rows, target = load_iris(return_X_y=True)
        model = make_pipeline(PublicBins(5), RandomForestClassifier(7, max_depth=4, random_state=0)).fit(rows, target)
        compiled = compile_trees(model, rows)
        client, node = TreesClient.from_part(compiled.client), TreesServer.from_part(compiled.server)
        secret, bits, trees = client.make_keys().secret, compiled.server["bits"], 7
    rng = np.random.default_rng(1)
    given = rng.integers(0, 2, (40, bits)) if bits > 3 else np.array(list(itertools.product((0, 1), repeat=3)))
    result = node.evaluate(None, client._product.encrypt(secret, given))
    numbers = client._product.decrypt(secret, result, len(given))
    leaves, moduli = client._part.sums[0].leaves, np.array(client._part.flag_moduli)
    flags = (numbers[:, : -(-leaves // len(moduli)), None] % moduli).reshape(len(given), -1)[:, :leaves]
    np.testing.assert_array_equal((flags == 0).sum(axis=1), trees)


# False zeros; shared multipliers; a mask set that is used twice.


def test_dummy_leaves_and_unselected_leaves_never_answer(replies: NDArray[np.int64]) -> None:
    """At a modulus of 8 bits, chance alone would give a false zero in every other reply."""
    np.testing.assert_array_equal((replies[:, 0] == 0).sum(axis=1), 8)
    assert replies.shape == (REPLIES, 2, 8 << 3)


def test_masks_that_a_subset_cancels_are_drawn_again() -> None:
    """A source that first gives a, -a and b to every leaf: without the check, two mismatches would look like none."""
    modulus, leaves = 251, 64
    planted = [np.tile([17 - 1, modulus - 17 - 1, 99 - 1], leaves).astype("<u4").tobytes()]

    def source(size: int) -> bytes:
        return planted.pop().ljust(size, b"\x07")[:size] if planted else os.urandom(size)

    it = one_sum(8, 3, 10, plain_bits=SMALL_MODULUS)
    server = TreesServer(server_part(it.parts[1]), source)
    masks = server._flag_masks((leaves, 3), modulus)
    assert not planted
    for row in masks.tolist():
        for size in range(1, len(row) + 1):
            assert all(sum(some) % modulus for some in itertools.combinations(row, size))


def test_flags_of_other_leaves_are_uniform(forest: PrivateForest, replies: NDArray[np.int64]) -> None:
    """Over all numbers but 0: nothing tells a leaf with one mismatch from one with three, or from a dummy."""
    primes = primes_of(forest, replies.shape[2])
    for prime in forest.flag_moduli:
        flags = replies[:, 0, primes == prime]
        counts = np.bincount(flags[flags != 0], minlength=prime)
        assert len(counts) == prime
        assert stats.chisquare(counts[1:]).pvalue > UNLIKELY


def test_flags_in_one_number_are_independent() -> None:
    """Leaves that share a number share nothing else: each pair of remainders is as likely as any other."""
    first, second = 11, 13
    it = one_sum(8, 3, 10, flag_moduli=[first, second])
    found = it.raw(it.server.evaluate(None, it.encrypt(np.zeros((REPLIES, 10), dtype=np.int64))), REPLIES)[0]
    pairs = found[:, 0].reshape(-1, 2)
    neither = pairs[(pairs != 0).all(axis=1)]
    table = np.zeros((first - 1, second - 1))
    np.add.at(table, (neither[:, 0] - 1, neither[:, 1] - 1), 1)
    assert stats.chisquare(table.ravel()).pvalue > UNLIKELY


@pytest.mark.parametrize("mismatches", [1, 2, 3, 4])
def test_a_flag_tells_nothing_of_how_many_conditions_fail(mismatches: int) -> None:
    """One leaf alone, whose path fails in so many places: its flag is as uniform as with one."""
    leaves = [
        {"bits": [0, 1, 2, 3], "wanted": list(wanted), "value": [1]} for wanted in itertools.product((0, 1), repeat=4)
    ]
    it = one_sum(1, 4, 4, plain_bits=5)
    server = TreesServer.from_part(it.parts[1] | {"sums": [{"depth": 4, "bias": [0], "trees": [leaves]}]})
    draws = [server._flag_masks((16, 4), it.modulus) for _ in range(40 * CAMPAIGN)]
    flags = np.concatenate([draw[:, :mismatches].sum(axis=1) % it.modulus for draw in draws])
    counts = np.bincount(flags, minlength=it.modulus)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > UNLIKELY


def test_values_are_uniform_at_every_leaf(forest: PrivateForest, replies: NDArray[np.int64]) -> None:
    """Also at the leaf that was reached: one value by itself is noise, only the sum over the forest is the score."""
    for chosen in (replies[:, 0] == 0, replies[:, 0] != 0):
        counts = np.bincount(replies[:, 1][chosen], minlength=forest.modulus)
        assert stats.chisquare(counts).pvalue > UNLIKELY
    hits = np.where(replies[:, 0] == 0, replies[:, 1], 0).sum(axis=1) % forest.modulus
    assert set(hits.tolist()) == {int(forest.expected(np.array([np.arange(10) % 2]))[0, 0]) % forest.modulus}


def test_the_leaf_that_answers_stands_anywhere(replies: NDArray[np.int64]) -> None:
    """The order is drawn afresh: neither a place nor its neighbour tells the leaf, or the tree."""
    places = np.nonzero(replies[:, 0] == 0)[1].reshape(len(replies), -1)
    assert stats.chisquare(np.bincount(places.ravel(), minlength=replies.shape[2])).pvalue > UNLIKELY
    gaps = np.diff(places, axis=1).ravel()
    other = np.sort([np.random.default_rng(seed).permutation(replies.shape[2])[:8] for seed in range(2000)], axis=1)
    assert stats.ks_2samp(gaps, np.diff(other, axis=1).ravel()).pvalue > UNLIKELY


def test_no_two_leaves_outputs_or_levels_share_a_multiplier(forest: PrivateForest, replies: NDArray[np.int64]) -> None:
    """Shared ones would make numbers of one reply equal, or one a multiple of the other, more often than chance does."""
    modulus = forest.modulus
    rng = np.random.default_rng(3)
    primes = primes_of(forest, replies.shape[2])
    counted: Counter[tuple[str, int]] = Counter()
    pairs: Counter[int] = Counter()
    for flags, values in replies:
        for prime in forest.flag_moduli:
            order = rng.permutation(np.flatnonzero((flags != 0) & (primes == prime)))
            one, other = order[: len(order) // 2], order[len(order) // 2 : len(order) // 2 * 2]
            pairs[prime] += len(one)
            counted["flags equal", prime] += int((flags[one] == flags[other]).sum())
            counted["flags opposite", prime] += int(((flags[one] + flags[other]) % prime == 0).sum())
            counted["value and flag", prime] += int((values[one] % prime == flags[one]).sum())
            counted["values equal", prime] += int((values[one] == values[other]).sum())
            counted["values opposite", prime] += int(((values[one] + values[other]) % modulus == 0).sum())
    for (what, prime), count in counted.items():
        among = {"flags": prime - 1, "value": prime, "values": modulus}[what.split()[0]]
        assert stats.binomtest(count, pairs[prime], 1 / among).pvalue > UNLIKELY, what


def test_bare_masks_are_related_in_no_way() -> None:
    """A tree whose leaves are all 0 shows nothing but sums of masks: equal, proportional or additive ones stand out at once."""
    leaves = [
        {"bits": [0, 1, 2], "wanted": list(wanted), "value": [0, 0]} for wanted in itertools.product((0, 1), repeat=3)
    ]
    it = private_forest([Summed([leaves], [0, 1], [0, 0])], 3, plain_bits=SMALL_MODULUS)
    modulus = it.modulus
    words = it.raw(it.server.evaluate(None, it.encrypt(np.zeros((REPLIES, 3), dtype=np.int64))), REPLIES)[0]
    counted: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for reply in words:
        rows = reply[:, reply[0] != 0]
        for one, other in itertools.combinations(range(3), 2):  # flags and both outputs
            tried["equal"] += rows.shape[1]
            counted["equal"] += int((rows[one] == rows[other]).sum())
            cross = np.outer(rows[one], rows[other]) % modulus
            above = np.triu_indices(rows.shape[1], 1)
            tried["proportional"] += len(above[0])
            counted["proportional"] += int((cross == cross.T)[above].sum())
        for row in rows:
            sums = (row[:, None] + row)[np.triu_indices(len(row), 1)] % modulus
            tried["additive"] += len(sums) * (len(row) - 2)
            counted["additive"] += sum(
                int((sum_ == np.delete(row, [i, j])).sum())
                for sum_, i, j in zip(sums, *np.triu_indices(len(row), 1), strict=True)
            )
    for what, count in counted.items():
        # Each of these relations, if there is one, holds everywhere: twice what chance gives, or more where it gives little.
        expected = tried[what] / modulus
        assert count < max(2 * expected, stats.poisson.isf(UNLIKELY, expected)), what


def test_levels_of_a_path_have_multipliers_of_their_own() -> None:
    """A modified client encrypts 2 and 0, so that one mismatch counts -1 and another 1: shared masks would cancel each other.

    What it learns is which bits a path asks, by flags; that a leaf's value stood in clear would be another thing.
    """
    leaves = [{"bits": [0, 1], "wanted": list(wanted), "value": [7]} for wanted in itertools.product((0, 1), repeat=2)]
    it = private_forest([Summed([leaves], [0], [3])], 2, plain_bits=SMALL_MODULUS)
    words = it.raw(it.server.evaluate(None, it.encrypt(np.tile([2, 0], (REPLIES, 1)))), REPLIES)[0]
    assert stats.chisquare(np.bincount(words[:, 1].ravel(), minlength=it.modulus)).pvalue > UNLIKELY
    zeros = int((words[:, 0] == 0).sum())
    assert stats.binomtest(zeros, words[:, 0].size, 1 / it.modulus, alternative="greater").pvalue > UNLIKELY


def test_several_outputs_have_multipliers_of_their_own() -> None:
    """With shared ones the difference of two classes would stand in clear at every leaf of a tree."""
    it = one_sum(4, 2, 6, outputs=3, plain_bits=SMALL_MODULUS)
    rows = 150 * CAMPAIGN
    words = it.raw(it.server.evaluate(None, it.encrypt(np.zeros((rows, 6), dtype=np.int64))), rows)[0]
    for chosen in (words[:, 0] == 0, words[:, 0] != 0):
        for first, second in ((1, 2), (1, 3), (2, 3)):
            difference = (words[:, first] - words[:, second])[chosen] % it.modulus
            assert stats.chisquare(np.bincount(difference, minlength=it.modulus)).pvalue > UNLIKELY


def test_a_draw_serves_one_row(forest: PrivateForest) -> None:
    """What `prepare` drew answers the first row; the second, and a redelivered input, meet another. Both decrypt alike."""
    blob = forest.encrypt(np.zeros((2, 10), dtype=np.int64))
    forest.server.prepare()
    forest.server.prepare()
    assert len(forest.server._ready) == 1
    results = [forest.server.evaluate(None, blob) for _ in range(3)]
    assert not forest.server._ready
    raw = [row for result in results for row in forest.raw(result, 2)[0]]
    for first, second in itertools.combinations(raw, 2):
        assert (first == second).mean() < 0.25  # hits at the same place, and chance at 8 bits
    expected = forest.expected(np.zeros((2, 10), dtype=np.int64))
    for result in results:
        np.testing.assert_array_equal(forest.client.decrypt(forest.secret, result, 2), expected)


def test_nothing_is_drawn_before_workers_are_forked(forest: PrivateForest) -> None:
    """A half that was built holds no draw: two workers forked from it would hide two replies alike."""
    assert not TreesServer.from_part(forest.parts[1])._ready


def test_a_redelivered_job_meets_other_masks_on_a_real_node(tmp_path: Path) -> None:
    """Workers are forked from one zygote: each draws after the fork, so no two replies are under one draw."""
    it = one_sum(8, 3, 10)
    blob = it.encrypt(np.zeros((1, 10), dtype=np.int64))
    with workers(tmp_path / "node", memory=2 << 30, file=64 << 20) as rig:
        model = rig.model("trees", serialise_part(it.parts[1]))
        results = [rig.run(model, blob) for _ in range(4)]
    raw = [it.raw(result, 1)[0][0] for result in results]
    for (one, first), (other, second) in itertools.combinations(zip(results, raw, strict=True), 2):
        assert (np.frombuffer(one[44:], np.uint8) == np.frombuffer(other[44:], np.uint8)).mean() < 0.05
        assert (first == second).mean() < 0.1
    for result in results:
        np.testing.assert_array_equal(
            it.client.decrypt(it.secret, result, 1), it.expected(np.zeros((1, 10), dtype=np.int64))
        )


# Noise tells the weights.


def recovered(it: Product, monkeypatch: pytest.MonkeyPatch, queries: int) -> tuple[NDArray[np.float64], float]:
    """The weights of one row of W by least squares on the asker's own noise, and the deviation of the replies' noise.

    The attacker is given more than a reply holds: all words before the switch, at the full modulus.
    """
    asker, group = Asker(it.shape, it.secret), it.shape.parameters.group
    ring, sums = it.server._ring, []
    switch = type(ring).to_last_prime

    def watched(self: Any, ciphertext: Any) -> Any:
        sums.append(serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree))
        return switch(self, ciphertext)

    monkeypatch.setattr(type(ring), "to_last_prime", watched)
    inputs = it.shape.inputs
    own, seen = [], []
    for _ in range(queries):
        blob = it.client.encrypt(it.secret, np.zeros((1, inputs), dtype=np.int64))
        it.answer(blob)
        zero = np.zeros(ring.degree, dtype=np.int64)
        own.append(asker.own_noise(blob, 1, zero)[:inputs])
        message = zero.copy()
        message[group - 1] = it.constants[0]
        seen.append(asker.noise(sums.pop(), message)[group - 1])
    assert np.abs(own).max() <= 22
    weights = np.linalg.lstsq(np.array(own), np.array(seen), rcond=None)[0]
    return weights, float(np.std(seen))


@pytest.mark.parametrize("flooded", [False, True], ids=["without flooding", "with flooding"])
def test_the_noise_of_replies_tells_no_weight(flooded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the flood a hundred replies give every weight; with it, the same regression finds nothing."""
    monkeypatch.setenv(SETTING, "sealapi")  # what is watched is SEAL
    it = product(32, 1, plain_bits=20)
    assert it.shape.parameters.group >= 32
    if not flooded:
        monkeypatch.setattr(
            product_server,
            "flood",
            lambda _bits, count, primes, _source: np.zeros((len(primes), count), dtype=np.uint64),
        )
    got, deviation = recovered(it, monkeypatch, 100)
    correlation = abs(np.corrcoef(got, it.matrix[0])[0, 1])
    if flooded:
        assert correlation < 0.8  # 32 numbers of pure noise: a deviation is 0.18
        assert deviation == pytest.approx(2.0**it.shape.parameters.flood_bits * np.sqrt(4 / 3), rel=0.4)
    else:
        assert correlation > 0.999
        assert np.abs(got - it.matrix[0]).max() < 0.01 * np.abs(it.matrix[0]).max()


def test_the_second_polynomial_of_a_reply_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without u and e1, c1 is a sum of known polynomials times W: the same in every reply. With them it is uniform."""
    monkeypatch.setenv(SETTING, "sealapi")  # what is watched is SEAL
    it = product(32, 1, plain_bits=20)
    blob = it.client.encrypt(it.secret, np.zeros((1, 32), dtype=np.int64))
    ring, sums = it.server._ring, []
    switch = type(ring).to_last_prime

    def watched(self: Any, ciphertext: Any) -> Any:
        sums.append(serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree)[1])
        return switch(self, ciphertext)

    monkeypatch.setattr(type(ring), "to_last_prime", watched)
    for _ in range(3):
        it.answer(blob)
    for one, other in itertools.combinations(sums, 2):
        for row, prime in enumerate(ring.primes):
            difference = (one[row].astype(object) - other[row].astype(object)) % prime
            assert stats.kstest(difference.astype(np.float64) / prime, "uniform").pvalue > UNLIKELY
    monkeypatch.setattr(randomness, "ternary", lambda size, _: np.eye(1, size, dtype=np.int64)[0])
    monkeypatch.setattr(randomness, "centred_binomial", lambda size, _: np.ones(size, dtype=np.int64))
    sums.clear()
    for _ in range(2):
        it.answer(blob)
    np.testing.assert_array_equal(*sums)  # what the test above would have seen


# The length of a response, or the time that it takes, tells unused bits or the number of leaves.


def test_the_length_of_a_response_tells_neither_leaves_nor_bits_nor_the_row() -> None:
    """Forests of one declared size, from single leaves to full trees, that ask one bit or all of them."""
    rng = np.random.default_rng(0)
    lengths = set()
    for bits_asked, depth in ((1, 1), (20, 2), (20, 3), (3, 3)):
        it = one_sum(6, depth, bits_asked, seed=bits_asked, plain_bits=20)
        server = it.parts[1] | {"bits": 20, "sums": [it.parts[1]["sums"][0] | {"depth": 3}]}
        padded = one_sum(6, 3, 20, seed=1, plain_bits=20)
        node = TreesServer.from_part(server | {"parameters": padded.parts[1]["parameters"]})
        for _ in range(2):
            blob = padded.encrypt(rng.integers(0, 2, (2, 20)))
            result = node.evaluate(None, blob)
            lengths.add((len(blob), len(result)))
            flags = padded.raw(result, 2)[0][:, 0]
            np.testing.assert_array_equal((flags == 0).sum(axis=1), 6)
    assert lengths == {(padded.client.input_bytes(2), padded.client.result_bytes(2))}


def test_every_block_is_multiplied_by_every_group_also_where_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of an answer would say which columns the forest never asks for."""
    monkeypatch.setenv(SETTING, "sealapi")  # what is watched is SEAL
    counted = []
    for depth in (1, 3):
        it = one_sum(60, depth, 300 if depth == 3 else 1, plain_bits=20)
        wide = one_sum(60, 3, 300, plain_bits=20)
        server = it.parts[1] | {"bits": 300, "parameters": wide.parts[1]["parameters"]}
        node = TreesServer.from_part(server | {"sums": [it.parts[1]["sums"][0] | {"depth": 3}]})
        calls = [0]
        ring = type(node._product._ring)
        times = ring.times

        def watched(self: Any, *given: Any, calls: list[int] = calls, times: Any = times) -> Any:
            calls[0] += 1
            return times(self, *given)

        with monkeypatch.context() as patched:
            patched.setattr(ring, "times", watched)
            node.evaluate(None, wide.encrypt(np.zeros((1, 300), dtype=np.int64)))
        shape = node._product._shape
        assert shape.groups > 1
        assert shape.blocks > 1
        counted.append(calls[0])
        assert calls[0] == shape.blocks * (shape.groups + 1) + 1  # one to begin what is not used
    assert counted[0] == counted[1]


def test_drawing_and_adding_up_are_as_much_work_for_any_forest_of_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a job but its first are drawn for while the client waits, and receipts say how long that took.

    Forests of one declared shape: full trees over all bits, two leaves a tree, full trees over few bits. Before, eight rows took
    307, 262 and 223 ms.
    """
    monkeypatch.setenv(SETTING, "sealapi")  # what is watched is SEAL
    shape = one_sum(50, 3, 300, plain_bits=20)
    others = [one_sum(50, 1, 300, plain_bits=20), one_sum(50, 3, 10, plain_bits=20)]
    blob = shape.encrypt(np.zeros((2, 300), dtype=np.int64))
    seen = []
    for it in (shape, *others):
        part = shape.parts[1] | {"sums": [it.parts[1]["sums"][0] | {"depth": 3}]}
        node = TreesServer.from_part(part)
        ring, added = node._product._ring, [0]
        encoded: list[tuple[tuple[int, ...], int]] = []
        multipliers, evaluator = ring.multipliers, ring.evaluator

        class Adding:
            def __getattr__(self, name: str, evaluator: Any = evaluator, added: list[int] = added) -> Any:
                added[0] += name == "add_inplace"
                return getattr(evaluator, name)

        def watched(
            polynomials: NDArray[np.int64], multipliers: Any = multipliers, encoded: list[Any] = encoded
        ) -> Any:
            encoded.append((polynomials.shape, int((polynomials != 0).sum())))
            return multipliers(polynomials)

        with monkeypatch.context() as patched:
            patched.setattr(ring, "multipliers", watched)
            patched.setattr(ring, "evaluator", Adding())
            node.evaluate(None, blob)
        seen.append(([shape for shape, _ in encoded], added[0], sum(numbers for _, numbers in encoded)))
    assert seen[0][:2] == seen[1][:2] == seen[2][:2]
    numbers = [each[2] for each in seen]
    assert max(numbers) < 1.05 * min(numbers), "a transform of polynomials takes a few ns longer for each that is not 0"


def test_the_kernel_is_called_alike_for_any_forest_of_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often, for arrays of the same shapes; what it does with them depends on nothing else (`kernel.c` has no such branch)."""
    if kernel() is None:
        pytest.skip("no kernel was compiled here")
    monkeypatch.setattr(arithmetic, "FEWEST_BLOCKS", 1)
    shape = one_sum(50, 3, 300, plain_bits=20)
    blob = shape.encrypt(np.zeros((2, 300), dtype=np.int64))
    seen: list[list[tuple[str, list[tuple[int, ...]]]]] = []
    for it in (shape, one_sum(50, 1, 300, plain_bits=20), one_sum(50, 3, 10, plain_bits=20)):
        part = shape.parts[1] | {"sums": [it.parts[1]["sums"][0] | {"depth": 3}]}
        node, calls = TreesServer.from_part(part), list[tuple[str, list[tuple[int, ...]]]]()
        with monkeypatch.context() as patched:
            for name in ("transform", "add_products", "finish"):
                function = getattr(Kernel, name)

                def watched(*given: Any, function: Any = function, name: str = name, calls: Any = calls) -> Any:
                    calls.append((name, [each.shape for each in given if isinstance(each, np.ndarray)]))
                    return function(*given)

                patched.setattr(Kernel, name, watched)
            node.evaluate(None, blob)
        seen.append(calls)
    assert {name for name, _ in seen[0]} == {"transform", "add_products", "finish"}
    assert seen[0] == seen[1] == seen[2]


def test_whether_columns_cancel_each_other_does_not_show() -> None:
    """One seed for two polynomials: where W has opposite columns, the sum of both lost its random half, and SEAL said so."""
    it = product(8, 1, plain_bits=20)
    shape = it.shape._replace(parameters=it.shape.parameters.model_copy(update={"group": 4}))
    client, server = ProductClient.of(shape), ProductServer.of(shape)
    blob = client.encrypt(it.secret, np.ones((1, 8), dtype=np.int64))
    zero, first = (blob[HEADER_BYTES + each * SEED_BYTES :][:SEED_BYTES] for each in range(2))
    same = blob[:HEADER_BYTES] + zero + first + first + blob[HEADER_BYTES + 3 * SEED_BYTES :]
    with pytest.raises(CiphertextError, match="one comes twice"):  # before there is a W to multiply with
        server.open_input(same, 1)


def test_a_leaf_fits_as_the_test_itself_says() -> None:
    """The reference that these tests compare with."""
    assert fits({"bits": [0, 2], "wanted": [1, 0], "value": [1]}, np.array([1, 1, 0]))
    assert not fits({"bits": [0, 2], "wanted": [1, 0], "value": [1]}, np.array([1, 1, 1]))

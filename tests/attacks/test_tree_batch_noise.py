"""What a client's own noise could tell it of a forest, and no longer does.

A client knows the phases of what it encrypted. The reply's phase is the forest's polynomial in them, so without a flood the right
forest among any number of guesses is the one whose noise is the reply's: one reply decides. These tests play that client, with a
reply over all primes, which holds more than any that is sent.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from batch_forests import QUESTIONS, Floats, random_forest, random_rows
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.tree_batches import compile_tree_batch
from blindgate_models.halves import Part
from blindgate_models.seal import serial
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import Opened, TreesBatchServer
from blindgate_models.trees_batch.spec import HEADER_BYTES, Parameters
from phases import noise, secret_words


class Asked(NamedTuple):
    """A client that examines replies, the true forest's node, and that of a guess with one leaf changed."""

    client: TreesBatchClient
    secret: bytes
    node: TreesBatchServer
    guess: TreesBatchServer
    blob: bytes

    def reply_noise(self) -> NDArray[np.float64]:
        """The noise of a reply."""
        reply = memoryview(self.node.evaluate(None, self.blob))[HEADER_BYTES:]
        ring = self.client._ring
        ciphertext = serial.load_ciphertext(ring._top, self.client._words(reply), ntt=True)
        return noise(ring, secret_words(ring, self.secret), ciphertext)

    def noise_of(self, node: TreesBatchServer) -> NDArray[np.float64]:
        """The noise that a client computes for a forest that it guesses, from its own phases."""
        opened: Opened = node.open_input(self.blob)
        (total,) = node._evaluation.run(opened.bits)
        return noise(self.client._ring, secret_words(self.client._ring, self.secret), total)


def asked(monkeypatch: pytest.MonkeyPatch, *, flood_bits: int | None) -> Asked:
    """With the flood that the compiler chose, or another."""
    forest = random_forest(np.random.default_rng(2), 8, 3)
    changed = BitForest(tuple(map(_changed, forest.trees)), forest.bits, forest.bias)
    rows = random_rows(np.random.default_rng(3), 100)
    compiled, other = (compile_tree_batch(each, QUESTIONS, rows, classifies=False) for each in (forest, changed))
    parameters = compiled.server.parameters.model_dump()
    parameters |= {"kept": len(parameters["data_bits"])}
    if flood_bits is not None:
        parameters |= {"flood_bits": flood_bits}
        monkeypatch.setattr(Parameters, "require_bounds", lambda *_: None)

    def under(part: Part) -> Part:
        return part | {"parameters": parameters}

    client = TreesBatchClient.from_part(under(compiled.client.model_dump()))
    secret = client.make_keys().secret
    node, guess = (TreesBatchServer.from_part(under(each.server.model_dump())) for each in (compiled, other))
    return Asked(client, secret, node, guess, client.encrypt(secret, rows))


def _changed(tree: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    """With another value at the end of its longest path."""
    deepest = max(tree, key=lambda leaf: len(leaf.bits))
    return tuple(leaf._replace(value=(leaf.value[0] + 0.1,)) if leaf is deepest else leaf for leaf in tree)


def correlation(one: Floats, other: Floats) -> float:
    """Between the coefficients of two polynomials."""
    return float(np.corrcoef(one, other)[0, 1])


def test_without_a_flood_one_reply_gives_the_forest_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack works: what is left of the reply's noise after the right guess is nothing, and after a wrong one it is not."""
    it = asked(monkeypatch, flood_bits=1)
    reply, right, wrong = it.reply_noise(), it.noise_of(it.node), it.noise_of(it.guess)
    assert correlation(reply, right) > 0.999999
    assert np.abs(reply - right).std() < np.abs(reply - wrong).std() / 100


def test_under_the_flood_no_guess_is_better_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all coefficients, right and wrong guess are as little like the reply as chance makes them."""
    it = asked(monkeypatch, flood_bits=None)
    reply, right, wrong = it.reply_noise(), it.noise_of(it.node), it.noise_of(it.guess)
    chance = 5 / np.sqrt(len(reply))
    assert abs(correlation(reply, right)) < chance
    assert abs(correlation(reply, wrong)) < chance
    assert reply.std() > 2.0**50 * right.std()


def test_the_flood_is_within_its_hard_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the room: no draw, however unlucky, makes a score wrong."""
    it = asked(monkeypatch, flood_bits=None)
    parameters = it.node._parameters
    most = 4 * 2.0**parameters.flood_bits
    assert 0.3 * most < np.abs(it.reply_noise()).max() < most * (1 + 2.0**-30)
    assert most <= math.prod(parameters.primes) / parameters.plain_modulus / 4

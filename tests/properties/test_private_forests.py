"""A forest under encryption is the integer forest, number for number, whatever its trees look like."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_models.bits import Questions, answers, count
from campaigns import of
from private_forests import PrivateForest, Summed, private_forest, random_tree


@st.composite
def forests(draw: st.DrawFn) -> PrivateForest:
    """Sums of any trees: single leaves, repeated conditions, several outputs, outputs shared by two sums, padded depths."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = draw(st.integers(1, 12) | st.integers(1, 600))
    outputs = draw(st.integers(1, 3))
    sums = []
    for number in range(draw(st.integers(1, 3))):
        own = list(range(outputs)) if number == 0 else [int(rng.integers(outputs))]
        depth = draw(st.integers(0, 6))
        trees = [
            random_tree(rng, bits, int(rng.integers(depth + 1)), len(own)) for _ in range(draw(st.integers(1, 10)))
        ]
        sums.append(Summed(trees, own, rng.integers(-50, 51, len(own)).tolist()))
    deepest = max(each.depth for each in sums)
    return private_forest(
        sums, bits, plain_bits=draw(st.sampled_from([16, 20, 24])), depth=draw(st.sampled_from([None, deepest + 1]))
    )


@settings(max_examples=of(40, slice_of=12))
@given(forest=forests(), rows=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_an_encrypted_forest_is_the_integer_forest(forest: PrivateForest, rows: int, seed: int) -> None:
    """Exactly, for any bits at all, with one zero flag a tree."""
    bits = np.random.default_rng(seed).integers(0, 2, (rows, forest.bits))
    forest.server.prepare()
    result = forest.server.evaluate(None, forest.client.encrypt(forest.secret, bits.astype(np.float64)))
    np.testing.assert_array_equal(forest.client.decrypt(forest.secret, result, rows), forest.expected(bits))
    flags = [words[:, 0] for words in forest.raw(result, rows)]
    for each, found in zip(forest.sums, flags, strict=True):
        np.testing.assert_array_equal((found == 0).sum(axis=1), len(each.trees))


FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=100)
@given(edges=st.lists(FLOATS, min_size=1, max_size=20, unique=True), value=FLOATS | st.just(float("nan")))
def test_the_bits_of_a_number_are_a_thermometer(edges: list[float], value: float) -> None:
    """They fall from 1 to 0 at one place, x's; a missing number has none of them, or all."""
    edges = sorted(edges)
    asked = [Questions(column=0, kind=kind, values=edges) for kind in ("at_least", "at_least_or_missing")]
    both = answers([*asked, Questions(column=0, kind="is_missing", values=[])], np.array([[value]]))[0]
    assert count(asked) == 2 * len(edges) == len(both) - 1
    plain, other = both[: len(edges)].tolist(), both[len(edges) : -1].tolist()
    assert plain == sorted(plain, reverse=True) == [value >= edge for edge in edges]
    missing = bool(np.isnan(value))
    assert other == ([True] * len(edges) if missing else plain)
    assert both[-1] == missing

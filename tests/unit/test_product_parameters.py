"""Parameters of a secret product: chosen by code, held against three bounds, and refused by whoever loads weaker ones."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_models.additive.server import AdditiveServer
from blindgate_models.product.server import ProductServer
from blindgate_models.product.spec import (
    MARGIN,
    PRIVATE_BITS,
    QUERIES,
    Need,
    Parameters,
    Privacy,
    Shape,
    choose,
    prime_below,
)
from blindgate_models.security import MODULUS_BITS_AT_128
from blindgate_models.trees.server import TreesServer
from blindgate_protocol.errors import PackageError
from products import product


@settings(max_examples=60)
@given(
    inputs=st.integers(1, 4096),
    outputs=st.integers(1, 20_000),
    plain_bits=st.integers(8, 32),
    depth=st.integers(1, 10),
    privacy=st.sampled_from(["model_private", "model_public"]),
)
def test_what_is_chosen_keeps_every_bound(
    inputs: int, outputs: int, plain_bits: int, depth: int, privacy: Privacy
) -> None:
    """The 128-bit table, 2^-40 over a million queries, eight standard deviations; or nothing is chosen at all."""
    modulus = prime_below(plain_bits)
    need = Need(inputs, outputs, modulus, depth * modulus**2 / 12, privacy)
    try:
        chosen = choose(need)
    except PackageError:
        assert plain_bits > 24
        return
    assert sum(chosen.data_bits) <= MODULUS_BITS_AT_128[chosen.degree]
    assert chosen.margin(need.row_square) >= MARGIN == 8
    assert chosen.plain_modulus == modulus
    assert chosen.privacy == privacy
    if privacy == "model_private":
        assert chosen.distinguishing_bits(need.row_square, outputs) >= PRIVATE_BITS == 40
        assert len(chosen.data_bits) > 1
        # The flood's hard maximum is at most a quarter of what a coefficient of the message is scaled by.
        assert 4 * 2.0**chosen.flood_bits <= 2.0 ** sum(chosen.data_bits) / modulus / 4
    else:
        assert chosen.flood_bits == 0


def test_the_bounds_are_over_a_million_queries() -> None:
    """The claim of the manifest."""
    assert QUERIES == 10**6
    chosen = choose(Need(450, 2000, prime_below(20), 4 * 2.0**40 / 12, "model_private"))
    one = chosen.distinguishing_bits(4 * 2.0**40 / 12, 2000, queries=1)
    assert one - chosen.distinguishing_bits(4 * 2.0**40 / 12, 2000) == pytest.approx(math.log2(10**6) / 2)


def test_a_need_that_nothing_meets_is_refused_with_the_bound_that_is_short() -> None:
    """A publisher reads what to change."""
    with pytest.raises(PackageError, match=r"a plain modulus of 40 bits: .*(advantage|room|standard deviations)"):
        choose(Need(4096, 1 << 17, prime_below(40), 2.0**160, "model_private"))


def test_decryption_has_the_margin_that_is_computed() -> None:
    """The computed deviation is the measured one within a quarter, for the noise that is not the flood."""
    it = product(64, 8, privacy="model_public")
    parameters = it.shape.parameters
    square = float((it.matrix.astype(np.float64) ** 2).sum(axis=1).mean())
    # As many bits dropped as the margin allows: one or two more would not be within it.
    more = parameters.model_copy(
        update={"dropped_c1": parameters.dropped_c1 + 1, "dropped_c0": parameters.dropped_c0 + 1}
    )
    assert parameters.margin(square) >= MARGIN > more.margin(square)
    far = parameters.model_copy(
        update={"dropped_c1": parameters.dropped_c1 + 4, "dropped_c0": parameters.dropped_c0 + 4}
    )
    shape = it.shape._replace(parameters=far)
    broken = it._replace(shape=shape, client=type(it.client).of(shape), server=ProductServer.of(shape))
    bits = np.random.default_rng(1).integers(0, 2, (20, 64))
    np.testing.assert_array_equal(it.ask(bits), it.expected(bits))
    assert (broken.ask(bits) != broken.expected(bits)).any()


def good_parameters(**changes: Any) -> dict[str, Any]:
    """What a small forest or additive model would be given."""
    parameters = choose(Need(4, 8, prime_below(16), 4 * 2.0**32 / 12, "model_private"))
    return parameters.model_dump() | changes


def forest_part(parameters: dict[str, Any]) -> dict[str, Any]:
    """A forest of one tree with two leaves."""
    leaves = [{"bits": [0], "wanted": [answer], "value": [answer]} for answer in (0, 1)]
    sums = [{"depth": 1, "bias": [0], "trees": [leaves]}]
    moduli = [prime_below(16)]
    return {
        "family": "trees",
        "version": 1,
        "parameters": parameters,
        "bits": 4,
        "flag_moduli": moduli,
        "sums": sums,
    }


def additive_part(parameters: dict[str, Any]) -> dict[str, Any]:
    """An additive model of four bits."""
    weights = [[100, -200, 300, 30_000]]
    return {"family": "additive", "version": 1, "parameters": parameters, "weights": weights, "constants": [5]}


def load_forest(parameters: dict[str, Any]) -> None:
    """Build the node's half of the forest."""
    TreesServer.from_part(forest_part(parameters))


def load_additive(parameters: dict[str, Any]) -> None:
    """Build the node's half of the additive model."""
    AdditiveServer.from_part(additive_part(parameters))


FLOOD = good_parameters()["flood_bits"]


@pytest.mark.parametrize("load", [load_forest, load_additive], ids=["trees", "additive"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"degree": 2048}, "128-bit", id="a degree below the table"),
        pytest.param({"degree": 1024}, "parameters.degree", id="a degree that is none"),
        pytest.param({"data_bits": [55, 55]}, "128-bit", id="a modulus above the table"),
        pytest.param({"data_bits": []}, "parameters.data_bits", id="no modulus"),
        pytest.param({"group": 4097}, "group", id="a group longer than a polynomial"),
        pytest.param({"group": 0}, "group", id="no group"),
        pytest.param({"flood_bits": FLOOD - 30}, "advantage", id="a flood too low"),
        pytest.param({"flood_bits": 0}, "advantage", id="no flood"),
        pytest.param({"flood_bits": FLOOD + 3}, "standard deviations", id="a flood too high"),
        pytest.param({"dropped_c1": 37}, "standard deviations", id="too many bits dropped of c1"),
        pytest.param({"dropped_c0": 37}, "standard deviations", id="too many bits dropped of c0"),
        pytest.param({"dropped_c0": 50}, "dropped", id="more dropped than there are"),
        pytest.param(
            {"plain_modulus": 1 << 39}, "standard deviations|advantage|flag_moduli", id="a plain modulus too large"
        ),
        pytest.param({"privacy": "insecure"}, "privacy", id="another privacy"),
        pytest.param({"scheme": "ckks"}, "scheme", id="another scheme"),
        pytest.param({"security": 80}, "security", id="a field that there is none of"),
        pytest.param({"degree": "4096"}, "degree", id="text for a number"),
    ],
)
def test_weak_parameters_are_refused_by_the_half_that_loads_them(load: Any, changes: dict[str, Any], says: str) -> None:
    """Whoever signed them: what hides the model and the row is held against the bounds before anything is built."""
    load(good_parameters())
    with pytest.raises(PackageError, match=says):
        load(good_parameters(**changes))


def test_weights_that_the_flood_does_not_cover_are_refused() -> None:
    """The bound is computed from the weights that are there, not from what the part says of them."""
    part = additive_part(good_parameters())
    part["weights"] = [[(1 << 38) + 1] * 4]
    with pytest.raises(PackageError, match=r"advantage|standard deviations"):
        AdditiveServer.from_part(part)


def test_a_forest_is_never_public() -> None:
    """Its masks are numbers as large as the modulus: an unflooded reply would give paths away with the first row."""
    parameters = choose(Need(4, 8, prime_below(16), 4 * 2.0**32 / 12, "model_public")).model_dump()
    with pytest.raises(PackageError, match="model_private"):
        load_forest(parameters)


@pytest.mark.parametrize("bits", [2, 3, 8, 16, 20, 24, 28, 32, 36, 40])
def test_plain_moduli_are_prime(bits: int) -> None:
    """The largest below a power of two, by trial division."""
    number = prime_below(bits)
    assert number < 1 << bits
    assert all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
    for between in range(number + 1, min(1 << bits, number + 60)):
        assert any(between % divisor == 0 for divisor in range(2, math.isqrt(between) + 1))


def test_a_digest_ties_a_blob_to_everything_that_it_was_made_for() -> None:
    """Any parameter, the shape, the purpose."""
    shape = Shape(Parameters.model_validate(good_parameters()), 4, 8, "trees")
    others = [shape._replace(inputs=5), shape._replace(outputs=9), shape._replace(purpose="additive")]
    for name, value in {"group": 1, "flood_bits": 1, "dropped_c1": 0, "plain_modulus": 7}.items():
        others.append(shape._replace(parameters=shape.parameters.model_copy(update={name: value})))
    assert len({each.digest for each in [shape, *others]}) == 1 + len(others)

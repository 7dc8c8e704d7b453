"""Parts of private forests and of additive models: data from somebody else, refused by name before anything is built from it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.bits import Questions
from blindgate_models.halves import ClientHalf, ServerHalf
from blindgate_models.product.spec import Need, choose, prime_below
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from blindgate_protocol.errors import EvaluationKeyError, InputError, PackageError
from private_forests import PrivateForest, one_sum

Part = dict[str, Any]
Spoil = Callable[[Part], object]

MODULI = [prime_below(16)]
PARAMETERS = choose(Need(4, 8, prime_below(16), 4 * 2.0**32 / 12, "model_private")).model_dump()
SMALL_PRIMES = {
    "flag_moduli": [2, 32_749],
    "parameters": choose(Need(4, 8, 2 * 32_749, 4 * 2.0**32 / 12, "model_private")).model_dump(),
}
QUESTIONS = [Questions(column=0, kind="at_least", values=[1.0, 2.0, 3.0, 4.0]).model_dump()]


def halves_are_the_protocols(
    halves: tuple[TreesClient, TreesServer, AdditiveClient, AdditiveServer],
) -> tuple[ClientHalf, ServerHalf, ClientHalf, ServerHalf]:
    """The type checker compares each half with its protocol here."""
    return halves


def trees_client() -> Part:
    """A good client part."""
    common = {"family": "trees", "version": 1, "parameters": dict(PARAMETERS), "columns": 1, "scale_bits": 3}
    common |= {"flag_moduli": list(MODULI)}
    sums = [{"leaves": 4, "outputs": [0]}]
    return common | {"questions": copy.deepcopy(QUESTIONS), "sums": sums, "error_bound": 0.1}


def trees_server() -> Part:
    """A good server part: one tree of three leaves."""
    leaves = [
        {"bits": [0], "wanted": [0], "value": [5]},
        {"bits": [0, 2], "wanted": [1, 0], "value": [-7]},
        {"bits": [0, 2], "wanted": [1, 1], "value": [9]},
    ]
    sums = [{"depth": 2, "bias": [1], "trees": [leaves]}]
    common = {"family": "trees", "version": 1, "parameters": dict(PARAMETERS), "flag_moduli": list(MODULI)}
    return common | {"bits": 4, "sums": sums}


def grouped_server() -> Part:
    """A good server part that asks for a group of two bits."""
    part = trees_server() | {"members": 2, "groups": [[1, 3]]}
    part["parameters"] = choose(Need(4, 8, prime_below(16), 8 * 2.0**32 / 12, "model_private")).model_dump()
    leaf(part)["bits"] = part["sums"][0]["trees"][0][2]["bits"] = [0, 4]
    return part


def additive_client() -> Part:
    """A good client part with a pair."""
    pairs = [{"first": copy.deepcopy(QUESTIONS), "second": copy.deepcopy(QUESTIONS)}]
    pairs[0]["second"][0]["column"] = 1
    common = {"family": "additive", "version": 1, "parameters": dict(PARAMETERS), "columns": 2, "scale_bits": 3}
    return common | {"questions": copy.deepcopy(QUESTIONS), "pairs": pairs, "outputs": 1, "error_bound": 0.1}


def additive_server() -> Part:
    """A good server part."""
    weights = [[1, -2, 3, 4]]
    return {
        "family": "additive",
        "version": 1,
        "parameters": dict(PARAMETERS),
        "weights": weights,
        "constants": [5],
    }


def leaf(part: Part) -> Part:
    """One of the forest's leaves."""
    found: Part = part["sums"][0]["trees"][0][1]
    return found


def many(part: Part, bits: int) -> Part:
    """The additive client part `part` with so many bits besides its products."""
    part["questions"] = [Questions(column=0, kind="at_least", values=[0.0] * 500).model_dump()] * (bits // 500)
    return part


ALONE: Part = {"parameters": PARAMETERS | {"group": 1}}
"""A polynomial of its own for every bit: few bytes of a part, and much memory."""

CASES: list[tuple[Any, Callable[[], Part], str, Spoil, str]] = [
    (TreesClient, trees_client, "family", lambda p: p.update(family="additive"), "family"),
    (TreesClient, trees_client, "version", lambda p: p.update(version=2), "version"),
    (TreesClient, trees_client, "a field too many", lambda p: p.update(extra=1), "extra"),
    (TreesClient, trees_client, "a field too few", lambda p: p.pop("sums"), "sums"),
    (TreesClient, trees_client, "no columns", lambda p: p.update(columns=0), "columns"),
    (TreesClient, trees_client, "no questions", lambda p: p.update(questions=[]), "questions"),
    (TreesClient, trees_client, "questions without bits", lambda p: p["questions"][0].update(values=[]), "bits"),
    (TreesClient, trees_client, "too many bits", lambda p: p.update(questions=p["questions"] * 1025), "4100 bits"),
    (TreesClient, trees_client, "column past the last", lambda p: p["questions"][0].update(column=1), "column"),
    (TreesClient, trees_client, "another question", lambda p: p["questions"][0].update(kind="below"), "kind"),
    (TreesClient, trees_client, "infinite edge", lambda p: p["questions"][0].update(values=[np.inf]), "values"),
    (TreesClient, trees_client, "no sums", lambda p: p.update(sums=[]), "sums"),
    (TreesClient, trees_client, "output left out", lambda p: p["sums"][0].update(outputs=[1]), "every output"),
    (TreesClient, trees_client, "output twice", lambda p: p["sums"][0].update(outputs=[0, 0]), "twice"),
    (TreesClient, trees_client, "no leaves", lambda p: p["sums"][0].update(leaves=0), "leaves"),
    (TreesClient, trees_client, "too many leaves", lambda p: p["sums"][0].update(leaves=1 << 17), "leaves"),
    (TreesClient, trees_client, "a bound that is none", lambda p: p.update(error_bound=-1.0), "error_bound"),
    (TreesClient, trees_client, "no number for a scale", lambda p: p.update(scale_bits=2000), "scale_bits"),
    (TreesClient, trees_client, "no flag moduli", lambda p: p.update(flag_moduli=[]), "flag_moduli"),
    (TreesClient, trees_client, "another product", lambda p: p.update(flag_moduli=[3, 5]), "flag_moduli"),
    (TreesClient, trees_client, "a factor of 1", lambda p: p.update(flag_moduli=[1, *MODULI]), "flag_moduli"),
    (TreesServer, trees_server, "another product", lambda p: p.update(flag_moduli=[251, 257]), "flag_moduli"),
    (TreesServer, trees_server, "primes too small", lambda p: p.update(SMALL_PRIMES), "flag_moduli: 2 is below 3"),
    (TreesServer, trees_server, "family", lambda p: p.update(family="linear"), "family"),
    (TreesServer, trees_server, "bit past the last", lambda p: leaf(p).update(bits=[0, 4]), "bit 4"),
    (TreesServer, trees_server, "negative bit", lambda p: leaf(p).update(bits=[0, -1]), "bits"),
    (TreesServer, trees_server, "an answer that is none", lambda p: leaf(p).update(wanted=[0, 2]), "wanted"),
    (
        TreesServer,
        trees_server,
        "fewer answers than bits",
        lambda p: leaf(p).update(wanted=[0]),
        "2 bits and 1 answers",
    ),
    (TreesServer, trees_server, "path past the depth", lambda p: p["sums"][0].update(depth=1), "leaves|path"),
    (TreesServer, trees_server, "path past every depth", lambda p: leaf(p).update(bits=[0] * 11), "bits"),
    (TreesServer, trees_server, "depth past every depth", lambda p: p["sums"][0].update(depth=11), "depth"),
    (TreesServer, trees_server, "values past the outputs", lambda p: leaf(p).update(value=[1, 2]), "2 values"),
    (TreesServer, trees_server, "no value", lambda p: leaf(p).update(value=[]), "value"),
    (TreesServer, trees_server, "huge value", lambda p: leaf(p).update(value=[1 << 40]), "value"),
    (TreesServer, trees_server, "a fraction", lambda p: leaf(p).update(value=[0.5]), "value"),
    (TreesServer, trees_server, "tree without leaves", lambda p: p["sums"][0].update(trees=[[]]), "trees"),
    (TreesServer, trees_server, "no trees", lambda p: p["sums"][0].update(trees=[]), "trees"),
    (TreesServer, grouped_server, "condition past the groups", lambda p: leaf(p).update(bits=[0, 5]), "bit 5"),
    (
        TreesServer,
        grouped_server,
        "group of bits not there",
        lambda p: p.update(groups=[[1, 4]]),
        r"groups\.0: .* below 4",
    ),
    (TreesServer, grouped_server, "group of a negative bit", lambda p: p.update(groups=[[-1, 1]]), r"groups\.0\.0"),
    (
        TreesServer,
        grouped_server,
        "group of one bit twice",
        lambda p: p.update(groups=[[1, 1]]),
        r"groups\.0: .*ascending",
    ),
    (TreesServer, grouped_server, "descending group", lambda p: p.update(groups=[[3, 1]]), r"groups\.0: .*ascending"),
    (TreesServer, grouped_server, "group of one bit", lambda p: p.update(groups=[[1]]), r"groups\.0"),
    (TreesServer, grouped_server, "group past the bound", lambda p: p.update(groups=[[1, 2, 3]]), r"groups\.0: got 3"),
    (TreesServer, grouped_server, "no members", lambda p: p.update(members=0), "members"),
    (TreesServer, grouped_server, "too many groups", lambda p: p.update(groups=[[1, 3]] * 8193), "groups"),
    (
        TreesServer,
        grouped_server,
        "groups too long in all",
        lambda p: p.update(members=4096, bits=4096, groups=[list(range(4096))] * 257),
        "1052672 bits in all",
    ),
    (
        TreesServer,
        grouped_server,
        "leaves that ask too many bits",
        lambda p: (
            p.update(members=4096, bits=4096, groups=[list(range(4092)), [1, 3]])
            or leaf(p).update(bits=[4096, 4096])
            or p["sums"][0].update(trees=p["sums"][0]["trees"] * 513)
        ),
        "bits in all, expected at most 4194304",
    ),
    (TreesServer, trees_server, "no sums", lambda p: p.update(sums=[]), "sums"),
    (TreesServer, trees_server, "no bits", lambda p: p.update(bits=0), "bits"),
    (TreesServer, trees_server, "too many bits", lambda p: p.update(bits=5000), "bits"),
    (
        TreesServer,
        trees_server,
        "too many leaves",
        lambda p: p["sums"][0].update(depth=10, trees=p["sums"][0]["trees"] * 65),
        "66560 leaves",
    ),
    (AdditiveClient, additive_client, "family", lambda p: p.update(family="trees"), "family"),
    (AdditiveClient, additive_client, "no inputs", lambda p: p.update(questions=[], pairs=[]), "questions"),
    (AdditiveClient, additive_client, "column past the last", lambda p: p.update(columns=1), "column"),
    (AdditiveClient, additive_client, "half a pair", lambda p: p["pairs"][0].update(second=[]), "second"),
    (AdditiveClient, additive_client, "no outputs", lambda p: p.update(outputs=0), "outputs"),
    (
        AdditiveClient,
        additive_client,
        "too many products",
        lambda p: (
            p["pairs"][0].update(first=p["pairs"][0]["first"] * 4, second=p["pairs"][0]["second"] * 4)
            or p.update(pairs=p["pairs"] * 4096)
        ),
        "products of bits",
    ),
    (AdditiveClient, additive_client, "many outputs", lambda p: many(p, 20_000).update(outputs=256), "at most 3900000"),
    (
        AdditiveClient,
        additive_client,
        "one bit a polynomial",
        lambda p: many(p, 5000).update(ALONE),
        "ready to multiply",
    ),
    (AdditiveClient, additive_client, "a row past a blob", lambda p: many(p, 2000).update(ALONE), "a row or its reply"),
    (
        AdditiveServer,
        additive_server,
        "one bit a polynomial",
        lambda p: p.update(ALONE, weights=[[1] * 5000]),
        "ready to multiply",
    ),
    (
        AdditiveServer,
        additive_server,
        "many outputs",
        lambda p: p.update(weights=[[1] * 20_000] * 200, constants=[1] * 200),
        "at most 3900000",
    ),
    (AdditiveServer, additive_server, "ragged weights", lambda p: p.update(weights=[[1, 2], [1]]), "weights"),
    (AdditiveServer, additive_server, "constants past the outputs", lambda p: p.update(constants=[1, 2]), "constant"),
    (AdditiveServer, additive_server, "huge weight", lambda p: p.update(weights=[[1 << 40]]), "weights"),
    (AdditiveServer, additive_server, "huge constant", lambda p: p.update(constants=[-(1 << 40)]), "constants"),
    (AdditiveServer, additive_server, "no weights", lambda p: p.update(weights=[]), "weights"),
    (AdditiveServer, additive_server, "no inputs", lambda p: p.update(weights=[[]]), "weights"),
    (AdditiveServer, additive_server, "a fraction", lambda p: p.update(weights=[[0.5]]), "weights"),
]


@pytest.mark.parametrize(
    ("half", "good", "spoil", "says"),
    [pytest.param(half, good, spoil, says, id=f"{half.__name__}: {name}") for half, good, name, spoil, says in CASES],
)
def test_a_bad_part_is_refused_by_name(half: Any, good: Callable[[], Part], spoil: Spoil, says: str) -> None:
    """A package error that says which field; the good part next to it is taken."""
    half.from_part(good())
    part = good()
    spoil(part)
    with pytest.raises(PackageError, match=says):
        half.from_part(part)


@pytest.fixture(scope="module")
def forest() -> PrivateForest:
    """A few trees over six bits."""
    return one_sum(3, 3, 6)


def test_an_evaluation_key_is_refused(forest: PrivateForest) -> None:
    """Neither family has one."""
    blob = forest.encrypt(np.zeros((1, 6), dtype=np.int64))
    with pytest.raises(EvaluationKeyError, match="expected none"):
        forest.server.evaluate(b"key", blob)
    with pytest.raises(EvaluationKeyError, match="expected none"):
        AdditiveServer.from_part(additive_server()).evaluate(b"key", b"")


@pytest.mark.parametrize("shape", [(0, 6), (1, 5), (1, 7), (6,), (1, 1, 6)])
def test_a_table_of_another_shape_is_not_encrypted(forest: PrivateForest, shape: tuple[int, ...]) -> None:
    """Got and expected shapes stand in the message."""
    with pytest.raises(InputError, match="shape"):
        forest.client.encrypt(forest.secret, np.zeros(shape))
    additive = AdditiveClient.from_part(additive_client())
    with pytest.raises(InputError, match="shape"):
        additive.encrypt(b"", np.zeros((1, 3)))


@pytest.mark.parametrize("trees", [1, 40])
def test_no_job_is_longer_than_a_blob_may_be(trees: int) -> None:
    """As many rows as a job takes stay under 64 MiB either way, and one more is refused before it is encrypted."""
    it = one_sum(trees, 4, 50)
    most = it.client.rows_per_job
    assert it.client.rows_at_once <= most
    assert max(it.client.input_bytes(most), it.client.result_bytes(most)) <= 64 << 20
    assert max(it.client.input_bytes(most + 2), it.client.result_bytes(most + 2)) > 64 << 20
    with pytest.raises(InputError, match=f"1 to {most}"):
        it.client.encrypt(it.secret, np.zeros((most + 1, 50)))


def test_an_additive_part_computes_what_it_says() -> None:
    """Weights, constants, products of bits, the scale, and numbers below zero."""
    client_part = additive_client()
    server_part = additive_server() | {"weights": [list(range(-10, 10))], "constants": [-5]}
    client, server = AdditiveClient.from_part(client_part), AdditiveServer.from_part(server_part)
    secret = client.make_keys().secret
    rows = np.array([[0.0, 0.0], [2.5, 4.0], [9.0, 1.0], [1.0, 9.0]])
    result = server.evaluate(None, client.encrypt(secret, rows))
    first = rows[:, :1] >= [1, 2, 3, 4]
    second = rows[:, 1:] >= [1, 2, 3, 4]
    inputs = np.concatenate([first, (first[:, :, None] & second[:, None, :]).reshape(4, -1)], axis=1)
    expected = (inputs @ np.arange(-10, 10) - 5) / 8
    np.testing.assert_array_equal(client.decrypt(secret, result, 4)[:, 0], expected)

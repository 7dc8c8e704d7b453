"""From a forest over public bits to the parts of a batch model (`blindgate_models.trees_batch`).

1. **Scale**: leaves become integers, multiples of 2^-S. S is the smallest for which the rounded forest's score is within
   `tolerance` of the largest possible score, and for which it decides every calibration row as the forest does: scores leak, so
   no finer than that. Each tree is off by its worst leaf at most, so the error is at most the sum of those, which is at most
   ½·2^-S a tree and ½·2^-S for the constant.
2. **Circuit**: two ways to compute the polynomial (`compilers.factoring`).
3. **Ring**: those with the fewest bytes a row first; t is the smallest prime that makes slots and is over twice the largest
   score. The first ring that hides and holds one of the circuits is taken, with the cheaper circuit.
4. **Run** under encryption on the calibration rows, and report.
"""

import math
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import Questions, answers, count
from blindgate_models.compilers.bit_forests import BitForest
from blindgate_models.compilers.compiled import Disclosures, Report
from blindgate_models.compilers.factoring import Relations, Tree, factored, multiplied_out, nested, tree_of
from blindgate_models.primes import smallest_prime
from blindgate_models.trees_batch.circuit import MAX_COMPONENTS, Circuit, Sum, deviation
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import (
    DETERMINISM,
    DISCLOSES_TO_CLIENT,
    DISCLOSES_TO_NODE,
    FAMILY,
    VERSION,
    ClientPart,
    Parameters,
    ProductPart,
    ServerPart,
    Shape,
    SumPart,
    flood_bits,
)
from blindgate_protocol.errors import PackageError
from blindgate_protocol.manifest import Encryption, Privacy

DEFAULT_TOLERANCE: Final = 2.0**-10
_MOST_BITS: Final = 128.0  # a reply is an RLWE sample, besides
_FLOATS: Final = 2.0**-44  # of the largest score: what adding up thousands of doubles costs, at most
_FINEST: Final = 40  # bits of the largest score, at most
_RINGS: Final[tuple[tuple[int, tuple[int, ...]], ...]] = (
    (4096, (56, 48)),
    (8192, (56, 56)),
    (8192, (48, 48, 48)),
    (8192, (56, 48, 48)),
    (8192, (56, 56, 48)),
    (8192, (56, 56, 56)),
    (8192, (48, 48, 48, 48)),
    (8192, (56, 48, 48, 48)),
    (8192, (56, 56, 48, 48)),
    (8192, (56, 56, 56, 48)),
    (16384, (56, 56, 56, 56)),
    (16384, (56, 56, 56, 56, 56)),
    (16384, (56, 56, 56, 56, 56, 56)),
    (16384, (56, 56, 56, 56, 56, 56, 56)),
)
"""Whole bytes a word, which is faster to pack than bits."""


class TreeBatch(NamedTuple):
    """What a forest compiled to, but for columns and labels, which the bits do not know.

    Attributes:
        client: the client part.
        server: the server part.
        encryption: for the manifest.
        privacy: for the manifest.
        determinism: likewise.
        discloses: likewise.
        report: plain against compiled.
    """

    client: ClientPart
    server: ServerPart
    encryption: Encryption
    privacy: Privacy
    determinism: Literal["varies"]
    discloses: Disclosures
    report: Report


class Rounded(NamedTuple):
    """A forest with integers for leaves.

    Attributes:
        scale_bits: S.
        outputs: a constant and trees for each.
        error: how far each output's score can be from the forest's, `(outputs,)`.
        largest: the largest absolute score, in units.
    """

    scale_bits: int
    outputs: Sequence[tuple[int, Sequence[Tree]]]
    error: NDArray[np.float64]
    largest: int


def compile_tree_batch(
    forest: BitForest,
    questions: Sequence[Questions],
    rows: NDArray[np.float64],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    classifies: bool = True,
) -> TreeBatch:
    """Compile a forest over the answers to `questions`.

    Args:
        forest: over as many bits as the questions have.
        questions: public; every answer is encrypted.
        rows: calibration rows, `(n, columns)`, n ≥ 1, NaN where a value is missing.
        tolerance: the largest error of a score, as a share of the largest possible one.
        classifies: whether what counts is the class, or the number.

    Raises:
        ValueError: a forest over other bits, or leaves that are no tree's.
        PackageError: no parameters hide and hold it: it is too deep, or too large for its tolerance.
    """
    if count(questions) != forest.bits:
        msg = f"questions: got {count(questions)} bits, expected the forest's {forest.bits}"
        raise ValueError(msg)
    rounded = _rounded_enough(forest, questions, rows, tolerance, classifies=classifies)
    parameters, circuit, bits = choose(rounded, questions)
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        features=rows.shape[1],
        questions=list(questions),
        outputs=len(forest.bias),
        scale_bits=rounded.scale_bits,
        error_bound=rounded.error.tolist(),
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        bits=forest.bits,
        products=[
            ProductPart.model_validate({"bit": product.bit, **_members(product.of)}) for product in circuit.products
        ],
        outputs=[SumPart.model_validate(_members(output)) for output in circuit.outputs],
    )
    return TreeBatch(
        client=client,
        server=server,
        encryption=Encryption(
            scheme="bgv",
            security=128,
            degree=parameters.degree,
            modulus_bits=sum(parameters.data_bits),
            levels=parameters.components - 2,
            error_bound=float(rounded.error.max()),
        ),
        privacy=Privacy(mode="model_private", bits=math.floor(min(bits, _MOST_BITS) * 10) / 10),
        determinism=DETERMINISM,
        discloses=Disclosures(to_client=list(DISCLOSES_TO_CLIENT), to_node=list(DISCLOSES_TO_NODE)),
        report=_measured(client, server, forest, rows, classifies=classifies),
    )


def rounded_to(forest: BitForest, questions: Sequence[Questions], scale_bits: int) -> Rounded:
    """The forest with leaves rounded to multiples of 2^-scale_bits."""
    relations = Relations(questions)
    outputs: list[tuple[int, Sequence[Tree]]] = []
    error = _FLOATS * (forest.largest() + np.abs(forest.bias))
    largest = 0
    for output, bias in enumerate(forest.bias):
        constant = round(math.ldexp(bias, scale_bits))
        error[output] += abs(math.ldexp(constant, -scale_bits) - bias)
        low = high = constant
        trees = []
        for leaves in forest.trees:
            exact = np.ldexp([leaf.value[output] for leaf in leaves], scale_bits)
            integers = np.rint(exact)
            error[output] += math.ldexp(float(np.abs(integers - exact).max()), -scale_bits)
            low, high = low + int(integers.min()), high + int(integers.max())
            trees.append(tree_of(leaves, [int(value) for value in integers], relations))
        outputs.append((constant, trees))
        largest = max(largest, -low, high)
    return Rounded(scale_bits, outputs, error, largest)


def choose(rounded: Rounded, questions: Sequence[Questions]) -> tuple[Parameters, Circuit, float]:
    """Parameters and a circuit that keep the bounds, and -log2 of the advantage. Raises `PackageError` when there are none."""
    relations = Relations(questions)
    multiplied = multiplied_out(rounded.outputs, relations)
    short = f"more than {MAX_COMPONENTS} components"

    @cache
    def circuits(degree: int) -> list[tuple[Circuit, float]]:
        """Both ways to compute it, the cheaper first, and the noise of each."""
        both = nested(rounded.outputs, relations, modulus(degree)), factored(multiplied, modulus(degree))
        fitting = [circuit for circuit in both if circuit.components <= MAX_COMPONENTS]
        fitting.sort(key=lambda circuit: circuit.dyadic_products)
        return [(circuit, deviation(circuit.polynomials(), degree, modulus(degree))) for circuit in fitting]

    def modulus(degree: int) -> int:
        return smallest_prime(2 * rounded.largest + 1, 2 * degree)

    for degree, data_bits in _RINGS:
        for circuit, noise in circuits(degree):
            for parameters in _kept(degree, data_bits, modulus(degree), circuit.components):
                try:
                    parameters.require_bounds(noise, len(circuit.outputs))
                except PackageError as error:
                    short = str(error)
                else:
                    return parameters, circuit, parameters.distinguishing_bits(noise, len(circuit.outputs))
    msg = f"no parameters hold scores up to {rounded.largest}: {short}"
    raise PackageError(msg)


def _kept(degree: int, data_bits: Sequence[int], plain_modulus: int, components: int) -> Iterator[Parameters]:
    """Parameters of one ring, the shortest replies first."""
    flooded = flood_bits(data_bits, plain_modulus)
    for kept in range(1, len(data_bits) + 1):
        if flooded < 1 or plain_modulus >> 30:  # as the part takes
            return
        yield Parameters.model_validate(
            {
                "scheme": "bgv",
                "degree": degree,
                "data_bits": list(data_bits),
                "plain_modulus": plain_modulus,
                "components": components,
                "kept": kept,
                "flood_bits": flooded,
            }
        )


def _rounded_enough(
    forest: BitForest,
    questions: Sequence[Questions],
    rows: NDArray[np.float64],
    tolerance: float,
    *,
    classifies: bool,
) -> Rounded:
    """The coarsest scale that is exact enough and decides the rows as the forest does."""
    highest = float((forest.largest() + np.abs(forest.bias)).max()) or 1.0
    least = math.floor(math.log2(1 / highest))
    bits = answers(questions, rows)
    wanted = forest.scores(bits)
    for scale_bits in range(least, least + _FINEST):
        rounded = rounded_to(forest, questions, scale_bits)
        if float(rounded.error.max()) > tolerance * highest:
            continue
        if not classifies or (decided(_scores(forest, scale_bits, bits)) == decided(wanted)).all():
            return rounded
    msg = f"tolerance: got {tolerance:g}, which no scale up to 2^{least + _FINEST} keeps"
    raise PackageError(msg)


def _scores(forest: BitForest, scale_bits: int, bits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The rounded forest's scores."""
    step = math.ldexp(1.0, -scale_bits)
    trees = tuple(
        tuple(leaf._replace(value=tuple(np.rint(np.array(leaf.value) / step) * step)) for leaf in tree)
        for tree in forest.trees
    )
    bias = tuple(float(number) for number in np.rint(np.array(forest.bias) / step) * step)
    return BitForest(trees, forest.bits, bias).scores(bits)


def decided(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """The position of each row's label."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.intp)
    return np.asarray(scores.argmax(axis=1))


def _members(of: Sum) -> dict[str, object]:
    return {
        "constant": of.constant,
        "bits": list(of.weights),
        "weights": list(of.weights.values()),
        "added": list(of.added),
        "subtracted": list(of.subtracted),
    }


def _measured(
    client: ClientPart, server: ServerPart, forest: BitForest, rows: NDArray[np.float64], *, classifies: bool
) -> Report:
    """Run the calibration rows under encryption."""
    asker, node = TreesBatchClient.from_part(client.model_dump()), TreesBatchServer.from_part(server.model_dump())
    rows = rows[: asker.rows_per_job]
    secret = asker.make_keys().secret
    blob = asker.encrypt(secret, rows)
    started = time.process_time()
    result = node.evaluate(None, blob)
    seconds = time.process_time() - started
    got, expected = asker.decrypt(secret, result, len(rows)), forest.scores(answers(client.questions, rows))
    error = np.abs(got - expected)
    agrees = decided(got) == decided(expected) if classifies else (error <= client.error_bound).all(axis=1)
    shape = Shape(client.parameters, client.bits, client.outputs)
    return Report(
        rows=len(rows),
        agreement_plain=float(agrees.mean()),
        max_error=float(error.max()),
        evaluation_key_bytes=0,
        ciphertext_bytes_per_row=shape.input_bytes / client.parameters.degree,
        result_bytes_per_row=shape.result_bytes / client.parameters.degree,
        expected_seconds_per_row=seconds / client.parameters.degree,
    )

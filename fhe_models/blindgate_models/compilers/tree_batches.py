"""From a forest over public bits to the parts of a batch model (`blindgate_models.trees_batch`).

1. **Scale**: leaves become integers, no finer than a tolerance asks for (`compilers.rounded_forests`).
2. **Circuit**: two ways to compute the polynomial (`compilers.factoring`).
3. **Ring**: those with the fewest bytes a row first; t is the smallest prime that makes slots and is over twice the largest
   score. The first ring that hides and holds one of the circuits is taken, with the cheaper circuit.
4. **Run** under encryption on the calibration rows, and report.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.bits import MAX_GROUPS, Questions, answers, count
from blindgate_models.compilers.additive import additive_forest
from blindgate_models.compilers.asked_forests import ask_forest
from blindgate_models.compilers.bit_forests import BitForest
from blindgate_models.compilers.compiled import CompiledModel, Disclosures, Report, coarse, steepness
from blindgate_models.compilers.ensembles import is_ensemble
from blindgate_models.compilers.factoring import Relations, factored, multiplied_out, nested
from blindgate_models.compilers.padding import padded, rounded_bytes
from blindgate_models.compilers.pipelines import split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.compilers.rounded_forests import Rounded, decided, rounded_enough
from blindgate_models.primes import slot_primes, smallest_prime
from blindgate_models.trees_batch.circuit import MAX_COMPONENTS, Circuit, Sum, deviation
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import (
    DETERMINISM,
    DISCLOSES_TO_CLIENT,
    DISCLOSES_TO_NODE,
    FAMILY,
    MAX_OUTPUTS,
    MAX_PLAIN_MODULUS,
    MAX_PRODUCTS,
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
_TO_CLIENT_THRESHOLDS: Final = "the thresholds that the trees ask each column for, among decoys"
_TO_CLIENT_BINS: Final = "the public bins"
_MOST_BITS: Final = 128.0  # a reply is an RLWE sample, besides
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
        report: plain against compiled.
    """

    client: ClientPart
    server: ServerPart
    encryption: Encryption
    privacy: Privacy
    determinism: Literal["varies"]
    report: Report


def compile_trees_batch(
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> CompiledModel:
    """Compile a fitted ensemble of trees, or an additive model, for tables of many rows.

    See `trees.compile_trees` and `additive.compile_additive`, which do it for single rows.

    Raises:
        TypeError: an estimator that is neither.
        ValueError: rows that do not fit, or an estimator that the reading does not reproduce.
        PackageError: no parameters hide and hold it.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    if is_ensemble(split(estimator, prepared)[1]):
        forest, asking, plain = ask_forest(estimator, prepared)
        questions, told = asking.questions, _TO_CLIENT_THRESHOLDS if asking.disclosed else _TO_CLIENT_BINS
    else:
        forest, questions, plain, told = additive_forest(estimator, prepared)
    classifies = plain.labels is not None
    batch = compile_tree_batch(forest, questions, prepared.rows, tolerance=tolerance, classifies=classifies)
    return CompiledModel(
        family=FAMILY,
        client=batch.client.model_dump(),
        server=batch.server.model_dump(),
        columns=prepared.columns,
        task="regression" if plain.labels is None else "classification",
        labels=plain.labels,
        link=plain.link,
        steepness=steepness(plain.link, plain.reference),
        encryption=batch.encryption,
        privacy=batch.privacy,
        determinism=batch.determinism,
        discloses=Disclosures(to_client=[told, *DISCLOSES_TO_CLIENT], to_node=list(DISCLOSES_TO_NODE)),
        report=batch.report,
    )


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
        tolerance: the largest error of a score, as a share of the largest possible one; of a regression, of how far those of the
            calibration rows spread.
        classifies: whether what counts is the class, or the number.

    Raises:
        ValueError: a forest over other bits, or leaves that are no tree's.
        PackageError: no parameters hide and hold it: it is too deep, or too large for its tolerance.
    """
    if len(forest.bias) > MAX_OUTPUTS:
        msg = f"estimator: {len(forest.bias)} classes, expected at most {MAX_OUTPUTS} of a batch: the family 'trees' takes more"
        raise ValueError(msg)
    if count(questions) != forest.bits:
        msg = f"questions: got {count(questions)} bits, expected the forest's {forest.bits}"
        raise ValueError(msg)
    rounded = rounded_enough(forest, questions, rows, tolerance, classifies=classifies)
    parameters, circuit, bits = choose(rounded, questions)
    numbers = {group: forest.bits + place for place, group in enumerate(circuit.groups)}
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        columns=rows.shape[1],
        questions=list(questions),
        outputs=len(forest.bias),
        scale_bits=rounded.scale_bits,
        error_bound=[coarse(error) for error in rounded.error.tolist()],
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        bits=forest.bits,
        groups=[sorted(group) for group in circuit.groups.values()],
        products=[
            ProductPart.model_validate({"bit": numbers.get(product.bit, product.bit), **_members(product.of, numbers)})
            for product in circuit.products
        ],
        outputs=[SumPart.model_validate(_members(output, numbers)) for output in circuit.outputs],
    )
    return TreeBatch(
        client=client,
        server=padded(server, rounded_bytes(server)),
        encryption=Encryption(
            scheme="bgv",
            security=128,
            degree=parameters.degree,
            modulus_bits=sum(parameters.data_bits),
            levels=parameters.components - 2,
            error_bound=max(client.error_bound),
        ),
        privacy=Privacy(mode="model_private", bits=math.floor(min(bits, _MOST_BITS))),
        determinism=DETERMINISM,
        report=_measured(client, server, forest, rows, classifies=classifies),
    )


def choose(rounded: Rounded, questions: Sequence[Questions]) -> tuple[Parameters, Circuit, float]:
    """Parameters and a circuit that keep the bounds, and -log2 of the advantage. Raises `PackageError` when there are none."""
    relations = Relations(questions, rounded.groups)
    found: dict[int, list[tuple[Circuit, float]]] = {}
    short = f"more than {MAX_COMPONENTS} components or {MAX_PRODUCTS} products"
    for degree, data_bits in _RINGS:
        plain_modulus = smallest_prime(2 * rounded.largest + 1, 2 * degree)
        if degree not in found:
            found[degree] = _circuits(rounded, relations, degree, plain_modulus)
        for circuit, noise in found[degree]:
            for parameters in _kept(degree, data_bits, plain_modulus, circuit.components):
                try:
                    parameters.require_bounds(noise, len(circuit.outputs))
                except PackageError as error:
                    short = str(error)
                else:
                    return parameters, circuit, parameters.distinguishing_bits(noise, len(circuit.outputs))
    msg = f"no parameters hold scores up to {rounded.largest}: {short}"
    raise PackageError(msg)


def _circuits(rounded: Rounded, relations: Relations, degree: int, plain_modulus: int) -> list[tuple[Circuit, float]]:
    """The circuits that a part can hold, the cheaper first, and the noise of each."""
    ways: tuple[Callable[[], Circuit], ...] = (
        lambda: nested(rounded.outputs, relations, plain_modulus),
        lambda: factored(multiplied_out(rounded.outputs, relations), plain_modulus, relations.groups),
    )
    found = []
    for way in ways:
        try:
            circuit = way()
            if (
                circuit.components <= MAX_COMPONENTS
                and len(circuit.products) <= MAX_PRODUCTS
                and len(circuit.groups) <= MAX_GROUPS
            ):
                noise = deviation(circuit.polynomials(), degree, plain_modulus, circuit.groups)
                found.append((circuit, noise))
        except ValueError:  # too many monomials, or, of trees as they stand, products of kin
            continue
    return sorted(found, key=lambda pair: pair[0].dyadic_products)


def _kept(degree: int, data_bits: Sequence[int], plain_modulus: int, components: int) -> Iterator[Parameters]:
    """Parameters of one ring, the shortest replies first; none where it does not exist."""
    if plain_modulus >= MAX_PLAIN_MODULUS:
        return
    try:
        flooded = flood_bits(slot_primes(degree, tuple(data_bits), plain_modulus), plain_modulus)
    except PackageError:
        return
    for kept in range(1, len(data_bits) + 1):
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


def _members(of: Sum, numbers: Mapping[int, int]) -> dict[str, object]:
    """What a part says of a sum. `numbers`: of the groups, in the part."""
    return {
        "constant": of.constant,
        "bits": [numbers.get(bit, bit) for bit in of.weights],
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

"""From a fitted estimator to an additive model over bits: edges, tables, integers, parameters, report.

1. **Edges** of each column, and **pairs** of columns that act together (`edges`).
2. **Tables**: the estimator is asked about every cell (`shapes`), and the tables are compared with it on every calibration row. An
   estimator that is not additive over these edges and pairs is refused here.
3. **Integers**: tables, not weights, are rounded to multiples of 2^-S, so an error is at most half of one a column and pair.
4. **Parameters**, **run**, **report**: as for trees (`compilers.trees`).
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.additive.spec import (
    FAMILY,
    MAX_INPUTS,
    MAX_PAIRS,
    MAX_WEIGHTS,
    VERSION,
    ClientPart,
    Pair,
    ServerPart,
    row_square,
)
from blindgate_models.bits import MAX_BITS, Questions, count
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, steepness
from blindgate_models.compilers.edges import Layout, layout_of
from blindgate_models.compilers.measuring import measure
from blindgate_models.compilers.padding import padded, tables_bytes
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.compilers.raw_scores import RawScores, raw_scores
from blindgate_models.compilers.reading import Plain, check_reading
from blindgate_models.compilers.shapes import Asked, Shapes, ask_column, read_shapes, summed, weights_of
from blindgate_models.product.spec import Need, choose, prime_below
from blindgate_models.product.spec import Privacy as Mode
from blindgate_protocol.manifest import Encryption, Privacy

Floats = NDArray[np.float64]

DEFAULT_TOLERANCE: Final = 5e-4
"""Of the largest calibration score; of a regression, of how far they spread."""
_PLAIN_BITS: Final = (16, 20, 24, 28, 32, 36)
_CLOSE: Final = 1e-5
_MAX_BATCH_TREES: Final = 1 << 17
"""What a batch compiles in two minutes, with 1.2 GB of memory."""
_FEWER: Final = (
    "use fewer bins or pairs (an explainable boosting machine's max_bins, max_interaction_bins, interactions)"
)

_TO_CLIENT_PAIRS = "which pairs of columns act together"
_TO_CLIENT_SCORES = (
    "the raw scores, which give the tables after as many rows as the tables have cells; how large they can get, within a factor "
    "of two"
)
_TO_CLIENT_TABLES = "the tables, to anyone who examines a reply"
_TO_NODE = "the tables; the number of rows"


class AdditiveForest(NamedTuple):
    """An additive model over bits, for the family `trees-batch`.

    Attributes:
        forest: a tree of one condition for each bit, of two for each product of bits.
        questions: what the bits answer.
        plain: the estimator's own answers on the calibration rows.
        told: what the edges tell the client, for the manifest.
    """

    forest: BitForest
    questions: tuple[Questions, ...]
    plain: Plain
    told: str


def compile_additive(
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    privacy: Mode = "model_private",
    tolerance: float = DEFAULT_TOLERANCE,
) -> CompiledModel:
    """Compile an additive model: an explainable boosting machine, bins and a linear model, boosted trees of one column or two.

    Args:
        estimator: fitted. Columns of numbers are cut by a `PublicBins` or `KBinsDiscretizer` at the beginning, or by itself.
        calibration: `(n, columns)` rows like those to come, n ≥ 1; empty cells where the estimator takes them.
        ranges: `(lo, hi)` for each column; see `declared_ranges` for the default.
        privacy: `model_public` is faster, and lets those who ask learn the tables from one reply.
        tolerance: how far rounding may move a score, as a share of the largest calibration score; of a regression, of their spread.

    Raises:
        TypeError: an estimator that has no edges, or is not additive over them.
        ValueError: rows that do not fit.
        PackageError: no parameters hold and hide it.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    layout = layout_of(estimator, prepared)
    singles, pairs = _questioned(layout, prepared)
    asked, shapes = _shapes(estimator, prepared, singles, pairs)
    reference = asked.score(prepared.rows)
    plain = check_reading(estimator, prepared.table, reference, asked.labels, asked.link)
    precision = tolerance * plain.span
    client, server = additive_parts(shapes, singles, pairs, precision=precision, privacy=privacy)
    clear = _clear(client, server, prepared.rows)
    to_client = [layout.told]
    to_client += [_TO_CLIENT_PAIRS] if layout.pairs else []
    to_client.append(_TO_CLIENT_SCORES if privacy == "model_private" else _TO_CLIENT_TABLES)
    asker, node = AdditiveClient.from_part(client.model_dump()), AdditiveServer.from_part(server.model_dump())
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=prepared.columns,
        task="regression" if plain.labels is None else "classification",
        labels=plain.labels,
        link=plain.link,
        steepness=steepness(plain.link, plain.reference),
        encryption=Encryption(
            scheme="bfv",
            security=128,
            degree=client.parameters.degree,
            modulus_bits=sum(client.parameters.data_bits),
            levels=0,
            error_bound=client.error_bound,
        ),
        privacy=_privacy(server),
        determinism="varies" if privacy == "model_private" else "bit-exact",
        discloses=Disclosures(to_client=to_client, to_node=[_TO_NODE]),
        report=measure(asker, node, prepared.rows, clear, plain),
    )


def additive_forest(estimator: Any, prepared: Prepared) -> AdditiveForest:
    """The same model as trees over bits, which many rows can be put to at once. Raises as `compile_additive` does."""
    layout = layout_of(estimator, prepared)
    singles, pairs = _questioned(layout, prepared)
    _require_batchable(singles, pairs)
    asked, shapes = _shapes(estimator, prepared, singles, pairs)
    reference = asked.score(prepared.rows)
    questions = _questions(singles)
    places = {bit: place for place, bit in enumerate(_bits(questions))}
    # Where columns act together they are cut at some of their own edges, so those bits are there already.
    terms: list[tuple[int, ...]] = [(place,) for place in places.values()]
    for pair in _products(pairs):
        terms += [(places[one], places[other]) for one, other in product(_bits(pair.first), _bits(pair.second))]
    weights = weights_of(shapes, singles, pairs)
    nothing = (0.0,) * weights.shape[1]
    trees = []
    for bits, weight in zip(terms, weights.tolist(), strict=True):
        ends = [Leaf(bits[: length + 1], (True,) * length + (False,), nothing) for length in reversed(range(len(bits)))]
        trees.append((Leaf(bits, (True,) * len(bits), tuple(weight)), *ends))
    return AdditiveForest(
        BitForest(tuple(trees), len(places), tuple(shapes.base.tolist())),
        tuple(questions),
        check_reading(estimator, prepared.table, reference, asked.labels, asked.link),
        layout.told,
    )


def additive_parts(
    shapes: Shapes,
    singles: Sequence[Asked],
    pairs: Sequence[tuple[Asked, Asked]],
    *,
    precision: float,
    privacy: Mode,
) -> tuple[ClientPart, ServerPart]:
    """The two parts of a model that is given by its tables.

    `precision`: the smallest plain modulus is taken that rounds scores by at most this much, or else the largest.

    Raises `PackageError` when no parameters hold and hide it.
    """
    terms = 1 + len(shapes.single) + len(shapes.double)
    for plain_bits in _PLAIN_BITS:
        modulus = prime_below(plain_bits)
        largest = float(shapes.largest.max()) or 1.0
        scale_bits = math.floor(math.log2((modulus // 2 - 1 - terms / 2) / largest))
        error_bound = math.ldexp(terms / 2, -scale_bits)
        if error_bound <= precision:
            break
    scaled = shapes.scaled(scale_bits)
    weights = weights_of(scaled, singles, pairs).T.astype(np.int64)
    parameters = choose(Need(weights.shape[1], len(weights), modulus, max(1.0, row_square(weights)), privacy))
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        columns=len(singles),
        questions=_questions(singles),
        pairs=_products(pairs),
        outputs=len(weights),
        scale_bits=scale_bits,
        error_bound=error_bound,
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        weights=weights.tolist(),
        constants=scaled.base.astype(np.int64).tolist(),
    )
    return client, server if privacy == "model_public" else padded(server, tables_bytes(server))


def _questioned(layout: Layout, prepared: Prepared) -> tuple[list[Asked], list[tuple[Asked, Asked]]]:
    """What is asked of each column, and of each where it acts together with another. Raises `TypeError` when that is nothing."""
    singles = [ask_column(prepared, position, cuts) for position, cuts in enumerate(layout.edges)]
    pairs = [
        (ask_column(prepared, first, layout.pair_edges[first]), ask_column(prepared, second, layout.pair_edges[second]))
        for first, second in layout.pairs
    ]
    # A column that nothing is asked about has one state: the pair is a function of the other alone.
    pairs = [pair for pair in pairs if all(asked.questions for asked in pair)]
    if not count(_questions(singles)):
        msg = "estimator: nothing cuts its columns into bins: put PublicBins in front, or see the family 'linear'"
        raise TypeError(msg)
    return singles, pairs


def _bits(questions: Sequence[Questions]) -> list[tuple[int, str, float | None]]:
    """The questions one by one, in the order of their bits."""
    found: list[tuple[int, str, float | None]] = []
    for each in questions:
        values: list[float | None] = [*each.values] or [None]  # noqa: PD011  (no table)
        found += [(each.column, each.kind, value) for value in values]
    return found


def _questions(singles: Sequence[Asked]) -> list[Questions]:
    return [question for asked in singles for question in asked.questions]


def _products(pairs: Sequence[tuple[Asked, Asked]]) -> list[Pair]:
    return [Pair(first=first.questions, second=second.questions) for first, second in pairs]


def _require_few(singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]], outputs: int) -> None:
    """Refuse what would be too many weights before anything of that size is made. Raises `ValueError`."""
    inputs = count(_questions(singles)) + sum(pair.products for pair in _products(pairs))
    most = min(MAX_INPUTS, MAX_WEIGHTS // outputs)
    if inputs > most:
        msg = f"estimator: {inputs} bits and products of bits for {outputs} scores, expected at most {most}: {_FEWER}"
        raise ValueError(msg)
    if len(pairs) > MAX_PAIRS:
        msg = f"estimator: {len(pairs)} pairs of columns, expected at most {MAX_PAIRS}: use fewer"
        raise ValueError(msg)


def _require_batchable(singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]]) -> None:
    """Refuse what would be too many bits or trees for `trees-batch` before one is made. Raises `ValueError`."""
    bits, products = count(_questions(singles)), sum(pair.products for pair in _products(pairs))
    if bits > MAX_BITS or bits + products > _MAX_BATCH_TREES:
        msg = (
            f"estimator: {bits} bits and {products} products of bits, expected at most {MAX_BITS} bits, and "
            f"{_MAX_BATCH_TREES} together, of a batch: the family 'additive' takes more; or {_FEWER}"
        )
        raise ValueError(msg)


def _shapes(
    estimator: Any, prepared: Prepared, singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]]
) -> tuple[RawScores, Shapes]:
    """Step 2: tables that are seen to give the estimator's scores on every calibration row. Raises `TypeError` or `ValueError`."""
    questions = _questions(singles)
    for logarithm in (False, True):
        asked = raw_scores(estimator, prepared, logarithm=logarithm)
        _require_few(singles, pairs, asked.score(prepared.rows[:1]).shape[1])
        shapes = read_shapes(asked.score, singles, pairs)
        expected = asked.score(prepared.rows)
        scale = float(np.abs(expected).max()) or 1.0
        got = shapes.base + summed(questions, _products(pairs), prepared.rows, weights_of(shapes, singles, pairs))
        if np.isfinite(scale) and (np.abs(got - expected) <= _CLOSE * scale).all():
            return asked, shapes
        if asked.labels is not None:
            break
    cut = {question.column for question in questions}
    whole = next((name for position, name in enumerate(prepared.names) if position not in cut), None)
    hint = "" if whole is None else f"; nothing cuts the column {whole!r:.60}: put PublicBins in front"
    msg = f"estimator: not a sum of functions of one column, or two, that are constant between its edges{hint}"
    raise TypeError(msg)


def _clear(client: ClientPart, server: ServerPart, rows: Floats) -> Floats:
    """What the parts compute, in the clear: `(n, outputs)`."""
    weights, constants = np.array(server.weights, dtype=np.int64), np.array(server.constants, dtype=np.int64)
    total = summed(client.questions, client.pairs, rows, weights.T) + constants
    return np.asarray(np.ldexp(total.astype(np.float64), -client.scale_bits))


def _privacy(server: ServerPart) -> Privacy:
    parameters = server.parameters
    if parameters.privacy == "model_public":
        return PUBLIC
    square = max(1.0, row_square(np.array(server.weights, dtype=np.int64)))
    return Privacy(mode="model_private", bits=math.floor(parameters.distinguishing_bits(square, len(server.weights))))

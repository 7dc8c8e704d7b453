"""From a fitted estimator to an additive model over bits: edges, tables, integers, parameters, report.

1. **Edges** of each column of numbers: of a `PublicBins` or `KBinsDiscretizer` that takes raw columns; of an explainable boosting
   machine; or a forest's thresholds, among decoys. **Pairs** of columns that act together: an explainable boosting machine's terms,
   or columns that stand on one path of a tree.
2. **Tables**: the estimator is asked about every cell (`shapes`), and the tables are compared with it on every calibration row. An
   estimator that is not additive over these edges and pairs is refused here.
3. **Integers**: tables, not weights, are rounded to multiples of 2^-S, so an error is at most half of one a column and pair.
4. **Parameters**, **run**, **report**: as for trees (`compilers.trees`).
"""

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.additive.spec import (
    FAMILY,
    MAX_INPUTS,
    VERSION,
    ClientPart,
    Pair,
    ServerPart,
    inputs_of,
    row_square,
)
from blindgate_models.bits import Questions, count
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, steepness
from blindgate_models.compilers.ensembles import is_ensemble, read_forest
from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.measuring import measure
from blindgate_models.compilers.pipelines import Output, read_steps, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.questions import ask
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.compilers.raw_scores import RawScores, raw_scores
from blindgate_models.compilers.reading import Plain, check_reading
from blindgate_models.compilers.shapes import Asked, Shapes, ask_column, read_shapes, weights_of
from blindgate_models.product.spec import Need, choose, prime_below
from blindgate_models.product.spec import Privacy as Mode
from blindgate_models.randomness import SYSTEM, Source
from blindgate_protocol.manifest import Encryption, Privacy

Floats = NDArray[np.float64]

DEFAULT_TOLERANCE: Final = 5e-4
"""Of the largest calibration score."""
_PLAIN_BITS: Final = (16, 20, 24, 28, 32, 36)
_CLOSE: Final = 1e-5

_TO_CLIENT_BINS = "the edges at which columns are cut"
_TO_CLIENT_EDGES = "the thresholds that the model asks each column for, among decoys"
_TO_CLIENT_PAIRS = "which pairs of columns act together"
_TO_CLIENT_SCORES = "the raw scores, which give the tables after as many rows as the tables have cells"
_TO_CLIENT_TABLES = "the tables, to anyone who examines a reply"
_TO_NODE = "the tables; the number of rows"


class _Layout(NamedTuple):
    """Where columns are cut, and which act together.

    Attributes:
        edges: of each column, ascending.
        pairs: of columns.
        pair_edges: of each column, where it acts together with another.
        disclosed: whether edges tell thresholds of the model, among decoys.
    """

    edges: list[list[float]]
    pairs: list[tuple[int, int]]
    pair_edges: list[list[float]]
    disclosed: bool


class AdditiveForest(NamedTuple):
    """An additive model over bits, for the family `trees-batch`.

    Attributes:
        forest: a tree of one condition for each bit, of two for each product of bits.
        questions: what the bits answer.
        plain: the estimator's own answers on the calibration rows.
        disclosed: whether edges tell thresholds of the model, among decoys.
    """

    forest: BitForest
    questions: tuple[Questions, ...]
    plain: Plain
    disclosed: bool


def compile_additive(  # noqa: PLR0913  (a compiler's settings are its arguments)
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    privacy: Mode = "model_private",
    tolerance: float = DEFAULT_TOLERANCE,
    source: Source = SYSTEM,
) -> CompiledModel:
    """Compile an additive model: an explainable boosting machine, bins and a linear model, boosted trees of one column or two.

    Args:
        estimator: fitted. Columns of numbers are cut by a `PublicBins` or `KBinsDiscretizer` at the beginning, or by itself.
        calibration: `(n, columns)` rows like those to come, n ≥ 1; empty cells where the estimator takes them.
        ranges: `(lo, hi)` for each column; see `declared_ranges` for the default.
        privacy: `model_public` is faster, and lets those who ask learn the tables from one reply.
        tolerance: how far rounding may move a score, as a share of the largest calibration score.
        source: where decoys come from.

    Raises:
        TypeError: an estimator that has no edges, or is not additive over them.
        ValueError: rows that do not fit.
        PackageError: no parameters hold and hide it.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    layout = _layout(estimator, prepared, source)
    singles, pairs = _questioned(layout, prepared)
    asked, shapes = _shapes(estimator, prepared, singles, pairs)
    reference = asked.score(prepared.rows)
    precision = tolerance * float(np.abs(reference).max())
    client, server = additive_parts(shapes, singles, pairs, precision=precision, privacy=privacy)
    clear = _clear(client, server, prepared.rows)
    plain = check_reading(estimator, prepared.table, reference, asked.labels, asked.link)
    to_client = [_TO_CLIENT_EDGES if layout.disclosed else _TO_CLIENT_BINS]
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


def additive_forest(estimator: Any, prepared: Prepared, source: Source = SYSTEM) -> AdditiveForest:
    """The same model as trees over bits, which many rows can be put to at once. Raises as `compile_additive` does."""
    layout = _layout(estimator, prepared, source)
    singles, pairs = _questioned(layout, prepared)
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
        layout.disclosed,
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
    return client, server


def _questioned(layout: _Layout, prepared: Prepared) -> tuple[list[Asked], list[tuple[Asked, Asked]]]:
    """What is asked of each column, and of each where it acts together with another. Raises `ValueError` or `TypeError`."""
    singles = [ask_column(prepared, position, cuts) for position, cuts in enumerate(layout.edges)]
    pairs = [
        (ask_column(prepared, first, layout.pair_edges[first]), ask_column(prepared, second, layout.pair_edges[second]))
        for first, second in layout.pairs
    ]
    _require_few(singles, pairs)
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


def _require_few(singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]]) -> None:
    """Refuse what would be too many bits before anything of that size is made. Raises `ValueError` or `TypeError`."""
    inputs = count(_questions(singles)) + sum(pair.products for pair in _products(pairs))
    if inputs == 0:
        msg = "estimator: nothing cuts its columns into bins: put PublicBins in front, or see the family 'linear'"
        raise TypeError(msg)
    if inputs > MAX_INPUTS:
        msg = f"estimator: {inputs} bits and products of bits, expected at most {MAX_INPUTS}: use fewer bins or pairs"
        raise ValueError(msg)


def _layout(estimator: Any, prepared: Prepared, source: Source) -> _Layout:
    """Step 1. Raises `TypeError` where nothing cuts a column."""
    steps, model = split(estimator, prepared)
    if type(model).__name__.startswith("ExplainableBoosting"):
        levels = [
            [[] if isinstance(level, dict) else list(map(float, level)) for level in bins] for bins in model.bins_
        ]
        pairs = [term for term in model.term_features_ if len(term) > 1]
        if any(len(term) != 2 for term in pairs):  # noqa: PLR2004
            msg = "estimator: a term of three columns, expected one or two"
            raise TypeError(msg)
        together = [each[min(1, len(each) - 1)] for each in levels]
        # A function of two columns bends that of one as well, where the other stays at its base.
        alone = [sorted({*each[0], *cuts}) for each, cuts in zip(levels, together, strict=True)]
        return _Layout(alone, pairs, together, disclosed=False)
    if is_ensemble(model):
        forest, outputs = read_forest(model), read_steps(steps)
        asking = ask(forest, steps, outputs, source)
        edges: list[list[float]] = [[] for _ in prepared.columns]
        for asked in asking.questions:
            if asked.kind == "at_least" and prepared.columns[asked.column]["type"] != "category":
                edges[asked.column] = list(asked.values)
        return _Layout(edges, _paths(forest, outputs), edges, asking.disclosed)
    edges = [[] for _ in prepared.columns]
    for position, cuts in _cut_by_steps(steps.steps, prepared):
        edges[position] = cuts
    return _Layout(edges, [], edges, disclosed=False)


def _cut_by_steps(steps: Sequence[Any], prepared: Prepared) -> list[tuple[int, list[float]]]:
    """The edges of transformers that cut raw columns into bins, by position."""
    found = []
    for step, columns in _on_raw_columns(_after_imputers(steps), prepared.names):
        if type(step).__name__ == "PublicBins":
            cuts = [list(map(float, edges)) for edges in step.edges_]
        elif type(step).__name__ == "KBinsDiscretizer":
            cuts = [list(map(float, edges[1:-1])) for edges in step.bin_edges_]
        else:
            continue
        found += list(zip(columns, cuts, strict=True))
    return found


def _after_imputers(steps: Sequence[Any]) -> Any:
    """The first step that is no SimpleImputer: those fill in what the client fills in already, and move no column."""
    return next((step for step in steps if type(step).__name__ != "SimpleImputer"), None)


def _on_raw_columns(first: Any, names: list[str]) -> list[tuple[Any, list[int]]]:
    """The transformers that take raw columns: `first`, or those of a ColumnTransformer there."""
    if not hasattr(first, "transformers_"):
        return [] if first is None else [(first, list(range(len(names))))]
    found = []
    for _, step, columns in first.transformers_:
        inner = _after_imputers([each for _, each in step.steps]) if hasattr(step, "steps") else step
        named = not isinstance(columns, slice) and all(isinstance(column, str) for column in columns)
        chosen = [names.index(column) for column in columns] if named else np.arange(len(names))[columns].tolist()
        found.append((inner, chosen))
    return found


def _paths(forest: Forest, outputs: Sequence[Output]) -> list[tuple[int, int]]:
    """The pairs of columns that stand on one path of a tree."""
    found: set[tuple[int, int]] = set()
    for tree in forest.trees:
        for columns in _columns_of_paths(tree, outputs):
            found |= set(combinations(sorted(columns), 2))
            if len(columns) > 2:  # noqa: PLR2004
                msg = "estimator: a tree asks for three columns on one path, which is not additive; see the family 'trees'"
                raise TypeError(msg)
    return sorted(found)


def _columns_of_paths(tree: Tree, outputs: Sequence[Output]) -> list[set[int]]:
    found = []
    waiting: list[tuple[int, set[int]]] = [(0, set())]
    while waiting:
        node, columns = waiting.pop()
        if tree.left[node] == LEAF:
            found.append(columns)
            continue
        column = outputs[int(tree.feature[node])].column
        further = columns | ({column} if column >= 0 else set())
        waiting += [(int(tree.left[node]), further), (int(tree.right[node]), further)]
    return found


def _shapes(
    estimator: Any, prepared: Prepared, singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]]
) -> tuple[RawScores, Shapes]:
    """Step 2: tables that are seen to give the estimator's scores on every calibration row. Raises `TypeError`."""
    questions = _questions(singles)
    inputs = inputs_of(questions, _products(pairs), prepared.rows)
    for logarithm in (False, True):
        asked = raw_scores(estimator, prepared, logarithm=logarithm)
        shapes = read_shapes(asked.score, singles, pairs)
        expected = asked.score(prepared.rows)
        scale = float(np.abs(expected).max()) or 1.0
        got = shapes.base + inputs @ weights_of(shapes, singles, pairs)
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
    inputs = inputs_of(client.questions, client.pairs, rows).astype(np.int64)
    total = inputs @ np.array(server.weights, dtype=np.int64).T + np.array(server.constants, dtype=np.int64)
    return np.asarray(np.ldexp(total.astype(np.float64), -client.scale_bits))


def _privacy(server: ServerPart) -> Privacy:
    parameters = server.parameters
    if parameters.privacy == "model_public":
        return PUBLIC
    square = max(1.0, row_square(np.array(server.weights, dtype=np.int64)))
    return Privacy(mode="model_private", bits=math.floor(parameters.distinguishing_bits(square, len(server.weights))))

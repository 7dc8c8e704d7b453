"""From a fitted estimator to the parts of a Concrete model: read, quantise, compile, encrypt a few rows, report.

1. **Read** the estimator into plain values (`forests`, `dense`), and check the reading: it must give the estimator's
   own labels on every calibration row. A network that Concrete ML fitted (`networks`) is not read but passed on.
2. **Quantise** in the compile environment, with Concrete ML. Trees lose nothing but their leaves' last digits; the
   fewest bits are taken that keep every calibration row's label, then as many more as cost no more to evaluate. A
   network that Concrete ML fitted is quantised already.
3. **Compile** there too. What comes back is text and numbers: the circuit and its parameters.
4. **Encrypt** some calibration rows here, with the two halves themselves: what they decrypt to must be what Concrete ML
   computes in the clear. These messages also give the frames that the parts carry (`blindgate_models.concrete.spec`).
5. **Report** plain against compiled on all calibration rows, and the sizes and times of the encrypted ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compile_environment import CompilerError, Conversation, compile_worker
from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, Report, steepness
from blindgate_models.compilers.concrete_parts import FEWEST_ROWS, ROWS_PER_JOB, Parts, make_parts
from blindgate_models.compilers.dense import Dense, read_dense
from blindgate_models.compilers.ensembles import read_forest
from blindgate_models.compilers.forests import Binning, Forest, coded
from blindgate_models.compilers.networks import Network, ask_clear, clear_scores, read_network
from blindgate_models.compilers.pipelines import split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.compilers.reading import Plain, check_reading
from blindgate_models.compilers.steps import before_steps
from blindgate_models.concrete.client import Bins, Scores, Uniform
from blindgate_models.concrete.spec import FAMILY
from blindgate_models.features import Feature, columns_as_they_are, expand
from blindgate_models.halves import Part
from blindgate_protocol.manifest import Encryption

Floats: TypeAlias = NDArray[np.float64]
Bits: TypeAlias = int | Literal["exact", "smallest"]

P_ERROR: Final = 2.0**-40
_LEAF_BITS: Final = range(2, 13)
_DENSE_BITS: Final = 8
_NETWORK_BITS: Final = 5
_BINARY: Final = 2

_FORESTS: Final = {
    f"{ensemble}{kind}" for ensemble in ("DecisionTree", "RandomForest", "XGB") for kind in ("Classifier", "Regressor")
}
"""Of the ensembles that can be read, those that Concrete ML compiles."""

_TO_CLIENT_BINS = "the thresholds that the trees ask each feature for, without the trees"
_TO_CLIENT_TREES = "each tree's output for the client's own rows, quantised"
_TO_CLIENT_UNIFORM = "the middle and the range of each column in the calibration data, and the quantisers' scales"
_TO_CLIENT_SCALING = "the scaling of each column in front of the network, and the quantisers' scales"
_TO_NODE = "the model's weights, quantised, and its structure"


class _Reading(NamedTuple):
    """An estimator taken apart, over features, and seen to predict alike."""

    model: Forest | Dense
    features: list[Feature]
    plain: Plain


class _Quantised(NamedTuple):
    """What the worker holds, and what the client part says about it."""

    quantiser: Part
    scores: Part
    outputs: NDArray[np.int64]

    def scored(self) -> Floats:
        apply = Scores.model_validate(self.scores).apply
        return np.stack([apply(values) for values in self.outputs])


def compile_concrete(  # noqa: PLR0913 - a compiler's settings are its arguments
    estimator: Any,
    calibration: Any,
    *,
    bits: Bits = "exact",
    leaf_bits: int | None = None,
    p_error: float = P_ERROR,
    ranges: Ranges | None = None,
    encrypted_rows: int = 2,
    rows_per_job: int = ROWS_PER_JOB,
    python: Path | None = None,
) -> CompiledModel:
    """Compile a fitted estimator for TFHE. Takes tens of seconds, in which a few rows are really encrypted.

    Args:
        estimator: an XGBoost or scikit-learn tree ensemble, also behind steps that keep columns apart and in their order;
            or a scikit-learn linear model or network of ReLUs, also behind steps that scale numbers and encode categories; or
            a network that Concrete ML fitted (`networks`), also behind scalers.
        calibration: `(n, columns)` rows like those to come, n ≥ 2. A DataFrame gives the columns their names.
        bits: of a feature. For trees, "exact" keeps every threshold, "smallest" takes the fewest bits whose labels
            agree on all calibration rows, and a number merges thresholds where there are too many. For others, a
            number, 8 for linear models and 5 for networks by default; Concrete ML's networks have theirs.
        leaf_bits: of a tree's leaves; by default chosen as the module's docstring says.
        p_error: the chance that one bootstrap goes wrong.
        ranges: `(lo, hi)` for each column, outside of which a value is refused; see `declared_ranges` for the default.
        encrypted_rows: how many rows to encrypt for the report, 2 or more.
        rows_per_job: the most rows that one job takes.
        python: the compile environment's Python; see `compile_environment`.

    Raises:
        TypeError: an estimator that Concrete ML does not compile.
        ValueError: calibration rows that do not fit, or an estimator that the reading does not reproduce.
        CompilerError: no compile environment, or what Concrete ML says.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    rows = prepared.require_complete()
    if len(rows) < FEWEST_ROWS:
        msg = f"calibration: got {len(rows)} rows, expected {FEWEST_ROWS} or more"
        raise ValueError(msg)
    reading = read_network(estimator, prepared) or _read(estimator, prepared)
    features = columns_as_they_are(rows.shape[1]) if isinstance(reading, Network) else reading.features
    seen = expand(features, rows)
    with compile_worker(python) as worker:
        match reading:
            case Network():
                plain, quantised, circuit = _compile_network(worker, reading, rows, p_error)
                to_client = [_TO_CLIENT_SCALING]
            case _Reading(Forest() as forest, _, plain):
                quantised, circuit = _compile_forest(worker, forest, plain, seen, bits, leaf_bits, p_error)
                to_client = [_TO_CLIENT_BINS, _TO_CLIENT_TREES]
            case _Reading(Dense() as dense, _, plain):
                quantised, circuit = _compile_dense(worker, dense, seen, bits, p_error)
                to_client = [_TO_CLIENT_UNIFORM]
    sample = rows[: max(FEWEST_ROWS, encrypted_rows)]
    parts = make_parts(
        circuit["circuit"],
        p_error,
        sample,
        features=features,
        quantiser=quantised.quantiser,
        scores=quantised.scores,
    )
    if parts.client["specs"] != circuit["specs"]:
        msg = "Concrete: the compile environment arrives at other parameters than this one"
        raise CompilerError(msg)
    return CompiledModel(
        family=FAMILY,
        client={**parts.client, "rows_per_job": rows_per_job},
        server=parts.server,
        columns=prepared.columns,
        task="regression" if plain.labels is None else "classification",
        labels=plain.labels,
        link=plain.link,
        steepness=steepness(plain.link, plain.reference),
        encryption=Encryption(scheme="tfhe", security=128, degree=0, modulus_bits=0, levels=0, error_bound=0.0),
        privacy=PUBLIC,
        determinism="bit-exact" if parts.server["evaluation_key"] is None else "varies",
        discloses=Disclosures(to_client=to_client, to_node=[_TO_NODE]),
        report=_report(plain, quantised, rows, parts),
    )


def _read(estimator: Any, prepared: Prepared) -> _Reading:
    """Step 1."""
    steps, last = split(estimator, prepared)
    reading = before_steps(read_forest(last), steps) if type(last).__name__ in _FORESTS else read_dense(last, steps)
    model, features = reading
    scores = model.scores(expand(features, prepared.rows))
    return _Reading(model, features, check_reading(estimator, prepared.table, scores, model.labels, model.link))


def _compile_forest(  # noqa: PLR0913, PLR0917
    worker: Conversation, forest: Forest, plain: Plain, rows: Floats, bits: Bits, leaf_bits: int | None, p_error: float
) -> tuple[_Quantised, Part]:
    """Steps 2 and 3 for trees."""
    binning = _choose_binning(forest, plain, rows, bits)
    snapped = binning.snap(forest)
    expected = plain.agrees(snapped.scores(rows))
    bins = Bins(kind="bins", edges=[list(edges) for edges in binning.edges])
    codes = bins.apply(rows)
    best: tuple[_Quantised, Part] | None = None
    for tried in _LEAF_BITS if leaf_bits is None else [leaf_bits]:
        answer = worker.ask(
            "forest",
            estimator=forest.estimator,
            model=coded(snapped, binning),
            codes=codes.tolist(),
            input_bits=binning.bits,
            leaf_bits=tried,
        )
        quantised = _quantised(bins.model_dump(), answer, trees=True, bias=forest.bias)
        if leaf_bits is None and (plain.agrees(quantised.scored()) < expected).any():
            continue
        circuit = worker.ask("compile", p_error=p_error)
        if best is not None and circuit["complexity"] > best[1]["complexity"]:
            break
        best = quantised, circuit
    if best is None:
        msg = f"Concrete ML: {_LEAF_BITS[-1]} bits for the leaves do not keep the labels"
        raise CompilerError(msg)
    return best


def _choose_binning(forest: Forest, plain: Plain, rows: Floats, bits: Bits) -> Binning:
    exact = Binning.of(forest)
    if bits == "exact":
        return exact
    if bits != "smallest":
        return Binning.of(forest, bits)
    for tried in range(1, exact.bits):
        binning = Binning.of(forest, tried)
        if plain.agrees(binning.snap(forest).scores(rows)).all():
            return binning
    return exact


def _compile_dense(
    worker: Conversation, dense: Dense, rows: Floats, bits: Bits, p_error: float
) -> tuple[_Quantised, Part]:
    """Steps 2 and 3 for linear models and networks."""
    centre = (rows.max(axis=0) + rows.min(axis=0)) / 2
    spread = np.ptp(rows, axis=0) / 2
    spread[spread == 0] = 1.0
    even = dense.after(spread, centre)
    layers = [{"weights": layer.weights.tolist(), "bias": layer.bias.tolist()} for layer in even.layers]
    scaled = ((rows - centre) / spread).tolist()
    if len(layers) == 1:
        answer = worker.ask(
            "linear",
            rows=scaled,
            weights=even.layers[0].weights.T.tolist(),
            bias=even.layers[0].bias.tolist(),
            classes=0 if dense.labels is None else len(dense.labels),
            bits=bits if isinstance(bits, int) else _DENSE_BITS,
        )
    else:
        answer = worker.ask(
            "network", rows=scaled, layers=layers, bits=bits if isinstance(bits, int) else _NETWORK_BITS
        )
    quantiser = {"kind": "uniform", "centre": centre.tolist(), "spread": spread.tolist(), **answer["quantiser"]}
    outputs = len(even.layers[-1].bias)
    return _quantised(quantiser, answer, trees=False, bias=(0.0,) * outputs), worker.ask("compile", p_error=p_error)


def _compile_network(
    worker: Conversation, network: Network, rows: Floats, p_error: float
) -> tuple[Plain, _Quantised, Part]:
    """Step 3 for a network that Concrete ML fitted; first its own answers in the clear, in float32 and scaled before."""
    slope, offset = network.scaling.slope, network.scaling.offset
    answer = ask_clear(worker, network.module, rows * slope + offset)
    plain = Plain(clear_scores(answer), network.labels, network.link)
    uniform = {"kind": "uniform", "centre": ((0 - offset) / slope).tolist(), "spread": (1 / slope).tolist()}
    quantiser = {**uniform, **answer["quantiser"]}
    codes = Uniform.model_validate(quantiser).apply(rows)
    answer |= worker.ask("evaluate", codes=codes.tolist())
    quantised = _quantised(quantiser, answer, trees=False, bias=(0.0,) * plain.reference.shape[1])
    return plain, quantised, worker.ask("compile", p_error=p_error)


def _quantised(quantiser: Part, answer: Part, *, trees: bool, bias: Sequence[float]) -> _Quantised:
    scores = {"scale": answer["scale"], "zero_point": answer["zero_point"], "trees": trees, "bias": list(bias)}
    return _Quantised(quantiser, scores, np.asarray(answer["outputs"], dtype=np.int64))


def _report(plain: Plain, quantised: _Quantised, rows: Floats, parts: Parts) -> Report:
    """Step 5, after the check that ends step 4."""
    clear = quantised.scored()
    if not np.array_equal(parts.scores, clear[: len(parts.scores)]):
        msg = "Concrete: an encrypted row gives another score than Concrete ML in the clear"
        raise CompilerError(msg)
    return Report(
        rows=len(rows),
        agreement_plain=float(plain.agrees(clear).mean()),
        max_error=float(np.abs(clear - plain.reference).max()),
        evaluation_key_bytes=parts.evaluation_key_bytes,
        ciphertext_bytes_per_row=float(parts.ciphertext_bytes),
        result_bytes_per_row=float(parts.result_bytes),
        expected_seconds_per_row=parts.seconds,
    )

"""From a trained network to a network package's parts.

1. **Read**: an `nn.Sequential` of torch with polynomial activations (`torch_modules`); a `SquareNetwork`; or an MLP of
   scikit-learn, whose activations are replaced and trained in first (`fine_tuning`). Scalers before it are folded in.
2. **Fold** the columns' declared ranges in, and balance the layers, so that within those ranges no hidden number leaves [-1, 1].
3. **Choose** parameters: the cheapest whose error bound is within `tolerance` of the largest calibration score, or of how far a
   regression's numbers spread (`network_parameters`). A network that none can compute safely is refused.
4. **Run** the two parts, under encryption, on calibration rows, and report against the network that was handed in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, Label, Report, steepness
from blindgate_models.compilers.fine_tuning import Plain, Tuned, fine_tune, read_mlp
from blindgate_models.compilers.network_parameters import Chosen, choose_parameters, first_reads, packed_first
from blindgate_models.compilers.pipelines import read_affine, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.compilers.reading import spread
from blindgate_models.compilers.squares import SquareNetwork, decided, require_sizes
from blindgate_models.compilers.torch_modules import Image, is_sequential, read_sequential
from blindgate_models.features import Feature, columns_as_they_are, expand, reach
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.noise import Affine
from blindgate_models.network.server import NetworkServer
from blindgate_models.network.spec import (
    DETERMINISM,
    DISCLOSES_TO_CLIENT,
    DISCLOSES_TO_NODE,
    FAMILY,
    VERSION,
    ClientPart,
    Layer,
    ServerPart,
)
from blindgate_models.rows import middle_and_half
from blindgate_protocol.manifest import Encryption

Floats: TypeAlias = NDArray[np.float64]

DEFAULT_TOLERANCE: Final = 1e-4
_MOST_ERROR: Final = 0.01
_NEAR: Final = 0.01
_BINARY: Final = 2
_SAME: Final = 1e-12
_FARTHEST: Final = 1e30
"""Its squares and those of a few layers more are still doubles."""
_BLOCKS_COMPARED: Final = 16
_SCATTERED: Final = 128
"""Calibration rows, and as many from all over the ranges, that torch's model is asked about."""


class _Read(NamedTuple):
    """What was read: the network that is compiled, over features; the scores of the one that was handed in; rows to compare on."""

    network: SquareNetwork
    features: list[Feature]
    scores: Callable[[Floats], Floats]
    compared: Floats


def compile_network(  # noqa: PLR0913  (what a model's owner decides)
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    labels: Sequence[Label] | None = None,
    image: Image | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> CompiledModel:
    """Compile a trained network, or a pipeline of scalers that ends in one.

    Args:
        estimator: torch's `nn.Sequential` of Linear, convolutions, average pools, batch norms, Flatten and activations of degree
            2, at the end of a classifier also Sigmoid or Softmax; a `SquareNetwork`; or scikit-learn's MLPClassifier or
            MLPRegressor, whose activations are replaced.
        calibration: `(n, features)` rows like those to come, n ≥ 1, numbers only; for an MLP also what it is trained on
            further. A DataFrame gives the columns their names.
        ranges: `(lo, hi)` for each column; by default those of `calibration`, widened. Public, and a value outside is
            refused. Wider ranges cost exactness.
        labels: for an `nn.Sequential` that classifies, the classes in the order of its outputs.
        image: channels, height and width of a row, or channels and length, for an `nn.Sequential` that begins with a
            convolution.
        tolerance: the largest error bound that is accepted, as a share of the largest calibration score; of a regression's
            numbers, of how far they spread, each output by itself.

    Raises:
        TypeError: a module that is neither affine nor of degree 2, an `nn.Sequential` that answers otherwise than its modules
            say, a step that is not affine, another estimator.
        ValueError: calibration rows, ranges or labels that do not fit, or a network that no parameters compute safely.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    prepared.require_complete()
    _require_sense(prepared)
    read = _read(estimator, prepared, labels, image)
    scores = read.network.scores(expand(read.features, prepared.rows))
    span = _span(scores, classifies=read.network.labels is not None)
    limits = reach(read.features, prepared.limits)
    _require_dependence(read.network, limits)
    client, server = network_parts(read.network, limits, precision=tolerance * span, features=read.features)
    _require_digits(client, span)
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=prepared.columns,
        task="regression" if read.network.labels is None else "classification",
        labels=None if read.network.labels is None else list(read.network.labels),
        link=read.network.link,
        steepness=steepness(read.network.link, scores),
        encryption=encryption(client),
        privacy=PUBLIC,
        determinism=DETERMINISM,
        discloses=Disclosures(to_client=list(DISCLOSES_TO_CLIENT), to_node=list(DISCLOSES_TO_NODE)),
        report=measured(client, server, read.compared, read.scores, None if read.network.labels is None else decided),
    )


def _span(scores: Floats, *, classifies: bool) -> Floats:
    """What an error of each score has to be small against: the largest of a classification; of numbers, how far they spread.

    Raises `ValueError` where all are 0.
    """
    span = np.array([np.abs(scores).max() if classifies else spread(each) for each in scores.T])
    if not span.all():
        msg = f"estimator: output {int(span.argmin())} is 0 for every calibration row: there is nothing to be exact to"
        raise ValueError(msg)
    return span


def _require_dependence(network: SquareNetwork, limits: Floats) -> None:
    """Refuse a network that says the same of every row within `limits`, `(features, 2)`. Raises `ValueError`."""
    low, high = limits.T
    scores = network.scores(np.random.default_rng(0).uniform(low, high, (_SCATTERED, len(limits))))
    if (np.ptp(scores, axis=0) <= _SAME * np.abs(scores).max(axis=0)).all():
        msg = "estimator: the network says the same of every row: its hidden units died in training"
        raise ValueError(msg)


def _require_digits(client: ClientPart, span: Floats) -> None:
    """All numbers of a row are rounded alike, to what the noisiest leaves. Raises `ValueError` where little is left of another."""
    bounds = np.array(client.error_bound)
    if bounds.max() > _MOST_ERROR * span.min():
        noisy, fine = int(bounds.argmax()), int(span.argmin())
        msg = (
            f"output {noisy} can be {bounds[noisy]:.2g} off, and output {fine} spreads to {span[fine]:.2g} only: all are rounded "
            "alike, so nothing would be left of it; fit on scaled targets, or compile a model for each"
        )
        raise ValueError(msg)


def polynomial_network(estimator: Any, calibration: pd.DataFrame | NDArray[Any] | Prepared) -> Tuned:
    """A network of squares that answers as scikit-learn's MLP does, or a pipeline of steps that ends in one.

    What `compile_network` does with an MLP, for an owner who wants to look at it first. The network takes features: the columns,
    and a 0 or 1 for each category. It is trained on the calibration rows, but for those that are kept back.
    """
    prepared = Prepared.given(estimator, calibration, None)
    _require_sense(prepared)
    steps, model = split(estimator, prepared)
    features, factors, constants = read_affine(steps)
    inputs = expand(features, prepared.require_complete()) @ factors.T + constants
    tuned = fine_tune(_mlp(model, inputs), inputs)
    return replace(tuned, network=tuned.network.after(factors, constants))


def network_parts(
    network: SquareNetwork, ranges: Floats, *, precision: float | Floats, features: Sequence[Feature] | None = None
) -> tuple[ClientPart, ServerPart]:
    """The two parts of a network of squares.

    Args:
        network: it, over features.
        ranges: lo and hi of each feature, `(features, 2)`.
        precision: the largest error bound that is accepted, of all scores or of each.
        features: what they are; by default the columns, in order.

    Raises `ValueError` when no parameters compute it within that bound.
    """
    read = list(features or columns_as_they_are(len(ranges)))
    middle, half = middle_and_half(ranges)
    balanced = network.after(np.diag(half), middle).balanced()
    chosen = choose_parameters(balanced, precision)
    parameters, shape = chosen.packing.parameters, chosen.packing.shape
    reads = first_reads(balanced) if shape.fan_in else []
    first, *others = balanced.layers
    layers = [packed_first(first, reads) if reads else first, *others]
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        shape=shape,
        columns=1 + max(feature.column for feature in read),
        features=read,
        reads=reads,
        ranges=ranges.tolist(),
        error_bound=_stated(chosen),
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        shape=shape,
        layers=[Layer(weights=layer.weights.tolist(), bias=layer.bias.tolist()) for layer in layers],
    )
    return client, server


def encryption(client: ClientPart) -> Encryption:
    """What the manifest says of a part's ciphertexts."""
    parameters = client.parameters
    return Encryption(
        scheme="ckks",
        security=128,
        degree=parameters.degree,
        modulus_bits=sum(parameters.data_bits) + parameters.special_bits,
        levels=len(parameters.drops) if parameters.activation is None else sum(parameters.drops[0]),
        error_bound=max(client.error_bound),
    )


def _stated(chosen: Chosen) -> list[float]:
    bounds: list[float] = chosen.budget.error_bound.tolist()
    return bounds


def _read(estimator: Any, prepared: Prepared, labels: Sequence[Label] | None, image: Image | None) -> _Read:
    """Step 1."""
    steps, model = split(estimator, prepared)
    features, factors, constants = read_affine(steps)
    inputs = expand(features, prepared.rows) @ factors.T + constants
    if is_sequential(model):
        low, high = reach(features, prepared.limits).T
        scattered = np.random.default_rng(0).uniform(low, high, (_SCATTERED, len(features))) @ factors.T + constants
        network = read_sequential(
            model, inputs.shape[1], image, labels, np.concatenate([inputs[:_SCATTERED], scattered])
        )
    elif isinstance(model, SquareNetwork):
        network = model
    else:
        plain, tuned = _mlp(model, inputs), polynomial_network(estimator, prepared)
        return _Read(
            tuned.network,
            features,
            lambda rows: plain.scores(expand(features, rows) @ factors.T + constants),
            prepared.rows[tuned.kept],
        )
    _require_columns(network.layers[0], inputs)
    outputs, classes = len(network.layers[-1].bias), network.labels
    if classes is not None and len(classes) != (outputs if outputs > 1 else _BINARY):
        msg = f"labels: got {len(classes)}, expected one for each of the {outputs} outputs, or 2 for one output"
        raise ValueError(msg)
    if classes is not None and len(set(classes)) < len(classes):
        msg = "labels: expected a name of its own for each class"
        raise ValueError(msg)
    network = network.after(factors, constants)
    require_sizes(network.layers)
    return _Read(network, features, lambda rows: network.scores(expand(features, rows)), prepared.rows)


def _require_sense(prepared: Prepared) -> None:
    """Refuse a column of numbers whose squares would be no doubles. Raises `ValueError`."""
    reached = np.abs(prepared.limits).max(axis=1)
    if reached.max() > _FARTHEST:
        name = prepared.names[int(reached.argmax())]
        msg = f"calibration: the column {name!r:.60} reaches {reached.max():.3g}, expected at most {_FARTHEST:g}: clip it by a rule"
        raise ValueError(msg)


def _mlp(model: Any, rows: Floats) -> Plain:
    plain = read_mlp(model)
    _require_columns(plain.layers[0], rows)
    require_sizes(plain.layers)
    return plain


def _require_columns(first: Affine, rows: Floats) -> None:
    if first.weights.shape[1] != rows.shape[1]:
        msg = f"calibration: got {rows.shape[1]} columns, the network takes {first.weights.shape[1]}"
        raise ValueError(msg)


def measured(
    client: ClientPart,
    server: ServerPart,
    compared: Floats,
    scores: Callable[[Floats], Floats],
    decided: Callable[[Floats], NDArray[np.intp]] | None,
) -> Report:
    """Step 4, on as many rows as a few seconds compute. `decided` gives the position of each row's label, in a classification."""
    asker, node = NetworkClient.from_part(client.model_dump()), NetworkServer.from_part(server.model_dump())
    rows = compared[: min(asker.rows_per_job, _BLOCKS_COMPARED * client.shape.rows)]
    keys = asker.make_keys()
    blob = asker.encrypt(keys.secret, rows)
    compute = node.direct(keys.evaluation)
    started = time.process_time()
    result = compute(blob)
    seconds = time.process_time() - started
    got, expected = asker.decrypt(keys.secret, result, len(rows)), scores(rows)
    error = np.abs(got - expected)
    if decided is None:
        agrees = (error <= _NEAR * np.array([spread(each) for each in expected.T])).all(axis=1)
    else:
        agrees = decided(got) == decided(expected)
    return Report(
        rows=len(rows),
        agreement_plain=float(agrees.mean()),
        max_error=float(error.max()),
        evaluation_key_bytes=len(keys.evaluation or b""),
        ciphertext_bytes_per_row=len(blob) / len(rows),
        result_bytes_per_row=len(result) / len(rows),
        expected_seconds_per_row=seconds / len(rows),
    )

"""A network's evaluation against TenSEAL's own vectors: an MLP and a small convolutional network, one row, one core.

Peer: a `ckks_vector` with `mm` for each layer, `+` and `square`, at the scales and primes of TenSEAL's tutorial on encrypted
convolutions; the convolution is a matrix for `mm` too. Ours: the node's half, from the bytes of the input to the bytes of the
result, under an evaluation key that is loaded, as a node keeps it. Both in this process, one thread, process CPU time, runs taken
in turn. Our scores on held-out rows are held against the exact ones first: every class is the plaintext network's.

The networks are trained here, on scikit-learn's digits: as they are, and at 28 by 28. The convolution's kernels are drawn.

- *evaluation*: how many times faster.
- *error*: how many times smaller than was asked for.
- *key*: the evaluation key, likewise.
- *key loaded*: what the first job of a key pays once; no target.
"""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import tenseal
from bench.rows import Row, row
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from blindgate_models.compilers.fine_tuning import train
from blindgate_models.compilers.polynomial import network_parts
from blindgate_models.compilers.squares import SquareNetwork
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.noise import Affine
from blindgate_models.network.server import NetworkServer

Floats = NDArray[np.float64]

RUNS: Final = 5
TARGET: Final = 8.0
HELD_OUT: Final = 360
CNN_HELD_OUT: Final = 60
MLP_ERROR: Final = 1e-3
MLP_KEY: Final = 15.0
CNN_KEY: Final = 60.0
TOLERANCE: Final = 1e-3
SCALE_BITS: Final = 26
END_BITS: Final = 31


class Case(NamedTuple):
    """A network, its rows, and what was asked of it."""

    name: str
    network: SquareNetwork
    held_out: Floats
    key: float
    error: float | None


def rows(runs: int = RUNS) -> list[Row]:
    """Measure both networks. Raises `RuntimeError` when a held-out row's class is not the plaintext network's."""
    return [each for case in (mlp(), cnn()) for each in measured(case, runs)]


def mlp() -> Case:
    """64 pixels, 64 squares, 10 classes."""
    images, targets = _digits()
    rng = np.random.default_rng(1)
    start = SquareNetwork((_drawn(rng, 64, 64), _drawn(rng, 10, 64)), tuple(range(10)))
    network = train(start, images[HELD_OUT:], targets[HELD_OUT:])
    return Case("MLP 64-64²-10", network, images[:HELD_OUT], MLP_KEY, MLP_ERROR)


def cnn() -> Case:
    """28 by 28 pixels, 4 kernels of 7 by 7 with stride 3, squares, 64 squares, 10 classes."""
    small, targets = _digits()
    images = np.kron(small.reshape(-1, 8, 8), np.ones((1, 4, 4)))[:, 2:30, 2:30].reshape(len(small), -1)
    rng = np.random.default_rng(2)
    kernels = rng.normal(size=(4, 7, 7)) / 7
    weights = np.zeros((4, 8, 8, 28, 28))
    for down in range(8):
        for right in range(8):
            weights[:, down, right, down * 3 : down * 3 + 7, right * 3 : right * 3 + 7] = kernels
    convolution = Affine(weights.reshape(256, 784), np.zeros(256))
    seen = (images @ convolution.weights.T + convolution.bias) ** 2
    start = SquareNetwork((_drawn(rng, 64, 256), _drawn(rng, 10, 64)), tuple(range(10)))
    later = train(start, seen[HELD_OUT:], targets[HELD_OUT:])
    network = SquareNetwork((convolution, *later.layers), later.labels)
    return Case("CNN 28x28", network, images[:CNN_HELD_OUT], CNN_KEY, None)


def measured(case: Case, runs: int) -> list[Row]:
    """The rows of one network."""
    network, held_out = case.network, case.held_out
    exact = network.scores(held_out)
    ranges = np.array([[0.0, 1.0]] * held_out.shape[1])
    precision = TOLERANCE if case.error else TOLERANCE * float(np.abs(exact).max())
    client_part, server_part = network_parts(network, ranges, precision=precision)
    client, server = (
        NetworkClient.from_part(client_part.model_dump()),
        NetworkServer.from_part(server_part.model_dump()),
    )
    keys = client.make_keys()
    compute = server.direct(keys.evaluation)

    error = 0.0
    for start in range(0, len(held_out), client.rows_per_job):
        table = held_out[start : start + client.rows_per_job]
        got = client.decrypt(keys.secret, compute(client.encrypt(keys.secret, table)), len(table))
        wanted = exact[start : start + len(table)]
        if (got.argmax(axis=1) != wanted.argmax(axis=1)).any():
            msg = f"{case.name}: a class is not the plaintext network's"
            raise RuntimeError(msg)
        error = max(error, float(np.abs(got - wanted).max()))

    blob = client.encrypt(keys.secret, held_out[:1])
    peer = _peer(network, held_out[0])
    ours, theirs = _times((lambda: compute(blob), peer), runs)
    loads, _ = _times((lambda: server.load_key(keys.evaluation), lambda: None), runs)
    key = len(keys.evaluation or b"") / 1e6
    shown = f"{case.name}, error on {len(held_out)} rows (bound {client.error_bound:.1e})"
    return [
        row(f"{case.name}, evaluation", ours, theirs, target=TARGET, unit="ms CPU"),
        *([] if case.error is None else [row(shown, error, case.error, target=1.0, unit="of a score")]),
        row(f"{case.name}, evaluation key", key, case.key, target=1.0, unit="MB"),
        row(f"{case.name}, key loaded against one evaluation", loads, ours, target=None, unit="ms CPU"),
    ]


def _peer(network: SquareNetwork, given: Floats) -> Callable[[], Any]:
    """The same network by TenSEAL's vectors."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        8192,
        coeff_mod_bit_sizes=[END_BITS, *[SCALE_BITS] * (2 * len(network.layers) - 1), END_BITS],
        n_threads=1,
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2**SCALE_BITS
    context.generate_galois_keys()
    vector = tenseal.ckks_vector(context, given.tolist())
    layers = [(layer.weights.T.tolist(), layer.bias.tolist()) for layer in network.layers]

    def compute() -> Any:
        values = vector
        for weights, bias in layers[:-1]:
            values = (values.mm(weights) + bias).square()
        return values.mm(layers[-1][0]) + layers[-1][1]

    return compute


def _digits() -> tuple[Floats, Floats]:
    """Pixels from 0 to 1 and classes as ten numbers, shuffled."""
    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order] / 16, np.eye(10)[classes[order]]


def _drawn(rng: np.random.Generator, units: int, inputs: int) -> Affine:
    return Affine(rng.normal(size=(units, inputs)) / np.sqrt(inputs), np.zeros(units))


def _times(works: tuple[Callable[[], Any], Callable[[], Any]], runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of CPU of each run of both, after one that does not count."""
    taken: tuple[list[float], list[float]] = [], []
    for attempt in range(runs + 1):
        for work, times in zip(works, taken, strict=True):
            started = time.process_time()
            work()
            if attempt:
                times.append((time.process_time() - started) * 1e3)
    return taken

"""Random networks of squares, and both their halves, for the tests of the family `network`."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.polynomial import network_parts
from blindgate_models.compilers.squares import SquareNetwork
from blindgate_models.halves import KeySet
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.noise import Affine
from blindgate_models.network.server import NetworkServer
from blindgate_models.network.spec import ClientPart, ServerPart

Floats = NDArray[np.float64]


def drawn(widths: Sequence[int], seed: int = 0, *, reads: int | None = None, size: float = 0.7) -> SquareNetwork:
    """A network of these widths whose first units read `reads` columns each, or all."""
    rng = np.random.default_rng(seed)
    layers: list[Affine] = []
    for inputs, units in itertools.pairwise(widths):
        weights = rng.normal(size=(units, inputs)) * size / np.sqrt(inputs)
        if not layers and reads is not None:
            for unit in weights:
                unit[rng.permutation(inputs)[reads:]] = 0
        layers.append(Affine(weights, rng.normal(size=units) * 0.1))
    return SquareNetwork(tuple(layers), None)


class Halves(NamedTuple):
    """A network, its parts, both halves and a key."""

    network: SquareNetwork
    client_part: ClientPart
    server_part: ServerPart
    client: NetworkClient
    server: NetworkServer
    keys: KeySet

    def rows(self, count: int, seed: int = 5) -> Floats:
        """Rows from all over the ranges, the ends included."""
        low, high = np.array(self.client_part.ranges).T
        rows = low + np.random.default_rng(seed).uniform(size=(count, len(low))) * (high - low)
        rows[0] = high
        return np.asarray(np.clip(rows, low, high))

    def scores(self, rows: Floats) -> Floats:
        """What comes of rows under encryption."""
        blob = self.client.encrypt(self.keys.secret, rows)
        return self.client.decrypt(self.keys.secret, self.server.evaluate(self.keys.evaluation, blob), len(rows))


def halves(network: SquareNetwork, *, precision: float = 1e-2, low: float = -1.0, high: float = 1.0) -> Halves:
    """Compile a network whose columns all reach from `low` to `high`."""
    features = network.layers[0].weights.shape[1]
    parts = network_parts(network, np.array([[low, high]] * features), precision=precision)
    return of_parts(network, *parts)


def of_parts(network: SquareNetwork, client_part: ClientPart, server_part: ServerPart) -> Halves:
    """Both halves from their parts, and a key."""
    client = NetworkClient.from_part(client_part.model_dump())
    server = NetworkServer.from_part(server_part.model_dump())
    return Halves(network, client_part, server_part, client, server, client.make_keys())

"""A linear model's evaluation against TenSEAL's own vectors: 4,096 rows of 30 columns, one core.

Peer: a `ckks_vector` a column, at the parameters of TenSEAL's tutorials (N = 8192, [60, 40, 60]); a product with a
number and a sum a column, and the intercept. Ours: the node's half. Both in this process, one thread, process CPU time,
runs taken in turn; the two answers are decrypted and compared first.

- *evaluation only*: from ciphertexts in memory. Ours ends in the bytes of the result; the peer's result stays an
  object.
- *bytes to bytes*: from the uploaded bytes to the bytes of the result.
- *floor*: the products of a ciphertext and a number that the answer is the sum of, one a column, their numbers encoded before, and
  nothing else. What lies between is the sums, the numbers' encoding, and the result's words.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tenseal
from bench.rows import Row, row

from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.packing import Magic
from blindgate_models.linear.server import LinearServer
from blindgate_models.seal.ckks import Ring

ROWS: Final = 4096
COLUMNS: Final = 30
RUNS: Final = 9
TARGET: Final = 5.0


def rows(runs: int = RUNS) -> list[Row]:
    """Measure both rows. Raises `RuntimeError` when ours and the peer's scores are not the same."""
    rng = np.random.default_rng(0)
    table, weights, intercept = rng.uniform(-1, 1, (ROWS, COLUMNS)), rng.normal(size=COLUMNS) * 0.2, 0.3

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        8192,
        coeff_mod_bit_sizes=[60, 40, 60],
        n_threads=1,
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2**40
    uploaded = [tenseal.ckks_vector(context, column.tolist()).serialize() for column in table.T]
    vectors = [tenseal.ckks_vector_from(context, data) for data in uploaded]

    def peer(columns: list[Any]) -> Any:
        total = columns[0] * float(weights[0])
        for column, weight in zip(columns[1:], weights[1:], strict=True):
            total += column * float(weight)
        return total + intercept

    ranges = np.array([[-1.0, 1.0]] * COLUMNS)
    client_part, server_part = linear_parts(weights[None], np.array([intercept]), ranges, precision=1e-4)
    client, server = LinearClient.from_part(client_part.model_dump()), LinearServer.from_part(server_part.model_dump())
    secret = client.make_keys().secret
    blob = client.encrypt(secret, table)
    (block,) = server.packing.blocks(ROWS)
    polynomials = list(server.polynomials(server.packing.open_blob(Magic.INPUT, blob)[1]))

    ours_scores = client.decrypt(secret, server.evaluate(None, blob), ROWS)[:, 0]
    peer_scores = np.array(peer(vectors).decrypt())[:ROWS]
    if np.abs(ours_scores - peer_scores).max() > client_part.error_bound[0] + 1e-4:
        msg = "ours and the peer's scores differ"
        raise RuntimeError(msg)

    evaluation = _times(
        lambda: b"".join(server.combine(block, polynomials)),
        lambda: peer(vectors),
        runs,
    )
    whole = _times(
        lambda: server.evaluate(None, blob),
        lambda: peer([tenseal.ckks_vector_from(context, data) for data in uploaded]).serialize(),
        runs,
    )
    floor = _floor(client_part.parameters.degree, client_part.parameters.modulus_bits)
    return [
        row(f"linear {ROWS}x{COLUMNS} batch, evaluation only", *evaluation, target=TARGET, unit="ms CPU"),
        row(f"linear {ROWS}x{COLUMNS} batch, bytes to bytes", *whole, target=None, unit="ms CPU"),
        row(
            f"linear {ROWS}x{COLUMNS} batch, evaluation against its floor of {COLUMNS} products",
            *_times(lambda: b"".join(server.combine(block, polynomials)), floor, runs),
            target=None,
            unit="ms CPU",
        ),
    ]


def _floor(degree: int, modulus_bits: int) -> Callable[[], Any]:
    """A product of a ciphertext and a number for each column."""
    ring = Ring(degree, modulus_bits)
    secret = ring.secret(ring.new_secret())
    number = ring.encode_scalar(12345)
    columns = [ring.expand(ring.encrypt(secret, number)) for _ in range(COLUMNS)]
    return lambda: [ring.times(column, number) for column in columns]


def _times(ours: Callable[[], Any], peer: Callable[[], Any], runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of CPU of each run of both, after one that does not count."""
    taken: tuple[list[float], list[float]] = [], []
    for attempt in range(runs + 1):
        for work, times in zip((ours, peer), taken, strict=True):
            started = time.process_time()
            work()
            if attempt:
                times.append((time.process_time() - started) * 1e3)
    return taken

"""What the fetches of one search of a hosted corpus cost: 8 records of 736 bytes, which are a kilobyte of text deflated, one core.

Ours is the node's whole half, from the uploaded bytes to the bytes of the result; every record that comes back is held against the
table. The bytes do not depend on what the records are.

- *the node's CPU*: against the same eight products in the clear, digits by unit vectors, by numpy.
- *bytes up and down*: against the table, which whoever fetched all of it would have to be sent.
"""

import time
from typing import Final

import numpy as np
from bench.rows import Row, row

from blindgate_models.compilers.lookup import lookup_parts
from blindgate_models.lookup.client import LookupClient
from blindgate_models.lookup.server import LookupServer
from blindgate_models.lookup.spec import NOTHING, matrix
from blindgate_models.product.spec import Privacy

SIZE: Final = 736
FETCHES: Final = 8
RECORDS: Final = (10_000, 46_000)
MODES: Final[tuple[Privacy, ...]] = ("model_public", "model_private")
RUNS: Final = 3


def rows() -> list[Row]:
    """Every measurement."""
    return [each for records in RECORDS for privacy in MODES for each in _of(records, privacy)]


def _of(records: int, privacy: Privacy) -> list[Row]:
    rng = np.random.default_rng(5)
    table = rng.integers(0, 256, (records, SIZE), dtype=np.uint8)
    client, server = lookup_parts(table, privacy=privacy)
    asker, node = LookupClient(client), LookupServer(server)
    secret = asker.make_keys().secret
    positions = np.append(rng.integers(0, records, FETCHES - 1), NOTHING)
    blob = asker.encrypt(secret, positions[:, None].astype(np.float64))
    times, result = [], b""
    for _ in range(RUNS):
        begun = time.process_time()
        result = node.evaluate(None, blob)
        times.append(1e3 * (time.process_time() - begun))
    found = asker.records(asker.decrypt(secret, result, FETCHES))
    if found != [bytes(SIZE) if place == NOTHING else table[place].tobytes() for place in positions]:
        message = "a record that came back is another"
        raise AssertionError(message)
    digits = matrix(table, client.digit_bits).astype(np.float64)
    units = np.zeros((records, FETCHES))
    units[positions[:-1], np.arange(FETCHES - 1)] = 1.0
    plain = []
    for _ in range(RUNS):
        begun = time.process_time()
        _ = digits @ units
        plain.append(1e3 * (time.process_time() - begun))
    name = f"{FETCHES} fetches of {records} records of {SIZE} bytes, {privacy}"
    return [
        row(f"{name}: the node's CPU, against the products in the clear", times, plain, target=None, unit="ms CPU"),
        row(
            f"{name}: bytes up and down, against the table",
            float(len(blob) + len(result)),
            float(table.size),
            target=None,
            unit="bytes",
        ),
    ]

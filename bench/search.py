"""Searching an index under encryption against TenSEAL's own matrix product: 384 columns, 10,000 and 100,000 entries, one core.

Ours is the node's whole half, from the uploaded bytes of one query to the bytes of its reply; in `model_private` the cover that it
draws is counted too, though a waiting worker has one ready. Every score is decrypted and held against the exact one first.

- *against mm*: `ckks_vector.mm` at the parameters of TenSEAL's tutorials (N = 8192, [60, 40, 60]). A call takes the same time for
  any matrix of up to `MM_ENTRIES` entries, N/2 less the columns, and gives wrong scores beyond; so one full call is measured, and
  counted as often as the entries need. It begins and ends with objects in memory.
- *against plain sums*: multiply, reduce, add, for the same sums over as many words, from and to arrays in memory: C, compiled
  here by `cc -O3 -march=native` where there is a compiler, else numpy. It neither reads nor checks nor transforms nor packs;
  *memory to memory* is our sums with the inverse transforms and the switch that follow, *bytes to bytes* all of a query.
- *a query up*, *a reply down*: the bytes of the two blobs, of one query; *the node's CPU*: the same time as above. Each against the
  figure that was asked for, with 10,000 entries. All replies have one length.
- *load*: from the bytes of the server part to a half that can answer; a second was asked for. *First load*: in a new process, whose
  memory the system has yet to find and clear.

Every row says who computed: Blindgate's kernel in C, which users get where their wheel was built with one, or SEAL.
"""

import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import tenseal
from bench.rows import Row, arithmetics, row
from numpy.typing import NDArray

from blindgate_models.compilers.search import search_parts
from blindgate_models.package import parse_part, serialise_part
from blindgate_models.product.spec import Privacy
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import quantised_entries, quantised_queries

WIDTH: Final = 384
SIZES: Final = (10_000, 100_000)
MM_ENTRIES: Final = 4096 - WIDTH
RUNS: Final = 5
LOADS: Final = 3
MM_TARGET: Final[dict[Privacy, float]] = {"model_public": 100.0, "model_private": 50.0}
ASKED: Final[dict[Privacy, tuple[float, float, float]]] = {
    "model_public": (150.0, 750e3, 1.3e6),
    "model_private": (250.0, 3e6, 0.5e6),
}
"""Of a query to the fewest of `SIZES` entries: the node's CPU in milliseconds, bytes up, bytes down."""
KERNEL_TARGET: Final = 1 / 3
LOAD_MS: Final = 1000.0
MOST_MS: Final = 1200.0
"""For 100,000 entries, `model_public`."""

_KERNEL: Final = """
#include <stddef.h>
#include <stdint.h>
typedef unsigned __int128 wide;
void sums(const uint64_t *w, const uint64_t *q, uint64_t *out, size_t blocks, size_t groups, size_t n, uint64_t p) {
    wide ratio = ~(wide)0 / p;
    uint64_t low = (uint64_t)ratio, high = (uint64_t)(ratio >> 64);
    for (size_t b = 0; b < blocks; b++)
        for (size_t j = 0; j < groups; j++)
            for (size_t c = 0; c < 2; c++) {
                const uint64_t *x = w + (b * groups + j) * n, *y = q + (j * 2 + c) * n;
                uint64_t *z = out + (b * 2 + c) * n;
                for (size_t k = 0; k < n; k++) {
                    wide t = (wide)x[k] * y[k];
                    uint64_t t0 = (uint64_t)t, t1 = (uint64_t)(t >> 64);
                    wide middle = (wide)t0 * high + (uint64_t)((wide)t0 * low >> 64);
                    wide other = (wide)t1 * low + (uint64_t)middle;
                    uint64_t quotient = t1 * high + (uint64_t)(middle >> 64) + (uint64_t)(other >> 64);
                    uint64_t r = t0 - quotient * p;
                    r = (r >= p ? r - p : r) + (j ? z[k] : 0);
                    z[k] = r >= p ? r - p : r;
                }
            }
}
"""

Words = NDArray[np.uint64]
Sums = Callable[[Words, Words, int], Words]


def rows(runs: int = RUNS) -> list[Row]:
    """Measure all rows. Raises `RuntimeError` when a score is not the exact one."""
    mm = _mm_times(runs)
    found: list[Row] = []
    for size in SIZES:
        for privacy in ("model_public", "model_private"):
            for who in arithmetics():
                found += _rows(size, privacy, who, mm, runs)
    return found


def _rows(size: int, privacy: Privacy, who: str, mm: list[float], runs: int) -> list[Row]:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(size, WIDTH))
    index, scale = quantised_entries(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))
    client_part, server_part = search_parts(index, scale=scale, privacy=privacy)
    part = serialise_part(server_part.model_dump())
    load = _times(lambda: SearchServer.from_part(parse_part(part)), LOADS)
    client, server = SearchClient.from_part(client_part.model_dump()), SearchServer.from_part(parse_part(part))
    secret = client.make_keys().secret
    query = rng.normal(size=(1, WIDTH))
    blob = client.encrypt(secret, query)
    reply = server.evaluate(None, blob)
    scores = client.decrypt(secret, reply, 1)[0]
    if (scores != index.astype(np.int64) @ quantised_queries(query)[0][0]).any():
        msg = f"search {size}x{WIDTH}, {privacy}: a score is not the exact one"
        raise RuntimeError(msg)

    whole = _times(lambda: server.evaluate(None, blob), runs)
    _, (vector,) = server._product.open_input(blob, 1)
    terms = [(server._multipliers, vector)]
    memory = _times(lambda: server._product._arithmetic.reply(terms, server._constants), runs)
    name, plain_sums = _plain_sums()
    plain = _times(_plain(server, plain_sums), runs)
    what = f"search {size // 1000}k x {WIDTH}, {privacy}, {who}"
    calls = -(-size // MM_ENTRIES)
    found = [
        row(
            f"{what}, against {calls} calls of TenSEAL's mm",
            whole,
            [milliseconds * calls for milliseconds in mm],
            target=MM_TARGET[privacy],
            unit="ms CPU",
        ),
        row(f"{what}, memory to memory, against plain sums in {name}", memory, plain, target=None, unit="ms CPU"),
        row(f"{what}, bytes to bytes, against plain sums in {name}", whole, plain, target=KERNEL_TARGET, unit="ms CPU"),
        row(f"{what}, load", load, LOAD_MS, target=1.0, unit="ms CPU"),
        row(f"{what}, first load", _first_loads(part), LOAD_MS, target=None, unit="ms CPU"),
    ]
    if size == min(SIZES):
        milliseconds, up, down = ASKED[privacy]
        found += [
            row(f"{what}, the node's CPU, against the time asked for", whole, milliseconds, target=1.0, unit="ms CPU"),
            row(f"{what}, a query up, against the bytes asked for", float(len(blob)), up, target=1.0, unit="bytes"),
            row(
                f"{what}, a reply down, against the bytes asked for", float(len(reply)), down, target=1.0, unit="bytes"
            ),
        ]
    if size == max(SIZES) and privacy == "model_public":
        found.append(row(f"{what}, against the time asked for", whole, MOST_MS, target=1.0, unit="ms CPU"))
    return found


def _times(work: Callable[[], Any], runs: int) -> list[float]:
    """Milliseconds of CPU of each run, after one that does not count."""
    taken = []
    for attempt in range(runs + 1):
        started = time.process_time()
        work()
        if attempt:
            taken.append((time.process_time() - started) * 1e3)
    return taken


def _first_loads(part: bytes) -> list[float]:
    """Milliseconds of CPU that new processes take to load a part, without their imports."""
    code = (
        "import sys, time\n"
        "from blindgate_models.package import parse_part\n"
        "from blindgate_models.search.server import SearchServer\n"
        "part = sys.stdin.buffer.read()\n"
        "started = time.process_time()\n"
        "SearchServer.from_part(parse_part(part))\n"
        "print((time.process_time() - started) * 1e3)\n"
    )
    command = [sys.executable, "-c", code]
    return [float(subprocess.run(command, input=part, stdout=subprocess.PIPE, check=True).stdout) for _ in range(LOADS)]


def _mm_times(runs: int) -> list[float]:
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        8192,
        coeff_mod_bit_sizes=[60, 40, 60],
        n_threads=1,
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2**40
    context.generate_galois_keys()
    rng = np.random.default_rng(0)
    matrix, query = (rng.normal(size=shape) / WIDTH**0.5 for shape in ((WIDTH, MM_ENTRIES), WIDTH))
    vector, lists = tenseal.ckks_vector(context, query.tolist()), matrix.tolist()
    if np.abs(np.array(vector.mm(lists).decrypt()) - query @ matrix).max() > 1e-4:
        msg = "TenSEAL's mm gives wrong scores"
        raise RuntimeError(msg)
    return _times(lambda: vector.mm(lists), runs)


def _plain(server: SearchServer, kernel: Sums) -> Callable[[], object]:
    """The same number of sums over as many words, for every prime; which words does not matter to the time."""
    shape, primes = server._product._shape, server._product._ring.primes
    rng = np.random.default_rng(0)
    degree = shape.parameters.degree
    given = [
        (
            rng.integers(0, prime, (shape.blocks, shape.groups, degree), dtype=np.uint64),
            rng.integers(0, prime, (shape.groups, 2, degree), dtype=np.uint64),
            prime,
        )
        for prime in primes
    ]
    few = [(index[:1], query, prime) for index, query, prime in given]
    for index, query, prime in few:
        expected = sum(index[0, j].astype(object) * query[j, 1].astype(object) for j in range(shape.groups)) % prime
        if (kernel(index, query, prime)[0, 1] != expected).any():
            msg = "the plain kernel computes something else"
            raise RuntimeError(msg)
    return lambda: [kernel(index, query, prime) for index, query, prime in given]


def _plain_sums() -> tuple[str, Sums]:
    compiler = shutil.which("cc")
    if compiler is None:
        return "numpy", _numpy_sums
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "sums.c", Path(folder) / "sums.so"
        source.write_text(_KERNEL)
        subprocess.run(
            [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
        )
        return "C", partial(_c_sums, ctypes.CDLL(str(library)))


def _c_sums(library: ctypes.CDLL, index: Words, query: Words, prime: int) -> Words:
    blocks, groups, degree = index.shape
    out = np.empty((blocks, 2, degree), dtype=np.uint64)
    arrays = (array.ctypes.data_as(ctypes.c_void_p) for array in (index, query, out))
    sizes = (ctypes.c_size_t(size) for size in (blocks, groups, degree))
    library.sums(*arrays, *sizes, ctypes.c_uint64(prime))
    return out


def _numpy_sums(index: Words, query: Words, prime: int) -> Words:
    """Floating point finds the quotient, and the product modulo 2^64 the rest."""
    out = np.zeros((len(index), 2, index.shape[2]), dtype=np.uint64)
    modulus = np.uint64(prime)
    for j in range(index.shape[1]):
        for c in range(2):
            quotient = (index[:, j].astype(np.longdouble) * query[j, c] / prime).astype(np.uint64)
            rest = (index[:, j] * query[j, c] - quotient * modulus).astype(np.int64)
            out[:, c] = (out[:, c] + np.where(rest < 0, rest + prime, rest).astype(np.uint64)) % modulus
    return out

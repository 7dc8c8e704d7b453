"""From a matrix of embeddings to a search package's parts.

1. **Read** the embeddings, `(n, d)`, and what the entries are called.
2. **Quantise** them to eight bits with one scale. Signed bytes are taken as they are.
3. **Choose** the parameters from what the index is: its largest score, its heaviest entry, its size.
4. **Run** the two parts, under encryption, with entries of the index as queries, and report.

A query's columns are e0 to e(d-1). Any number that a float32 holds is within their ranges: a query is scaled to eight bits by
itself, so no calibration rows are needed and no range tells anything.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import CompiledModel, Disclosures, Report
from blindgate_models.compilers.padding import padded
from blindgate_models.compilers.products import exact_encryption, hiding
from blindgate_models.compilers.ranges import declared_columns
from blindgate_models.product.spec import Need, Parameters, Privacy, choose
from blindgate_models.search.client import SearchClient
from blindgate_models.search.hosted import HostedCorpus
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import (
    DETERMINISM,
    DISCLOSES_TO_CLIENT,
    DISCLOSES_TO_NODE,
    FAMILY,
    MAX_ENTRIES,
    MAX_NUMBERS,
    MAX_WIDTH,
    VERSION,
    Bytes,
    ClientPart,
    Id,
    ServerPart,
    Weights,
    packed_index,
    quantised_entries,
    require_fitting,
)
from blindgate_protocol.errors import PackageError

Floats = NDArray[np.float64]

_DOWNLOAD_WEIGHT: Final[dict[Privacy, float]] = {"model_private": 5.0, "model_public": 2.0}
"""Bytes up that a byte down is worth: with each block that is sent comes work of the node, and a cover where it is private."""
_LARGEST: Final = float(np.finfo(np.float32).max)
_TRIED: Final = 16
_NEAREST: Final = 10
_DIMENSIONS: Final = 2


def compile_search(
    embeddings: NDArray[Any],
    *,
    ids: Sequence[Id] | None = None,
    privacy: Privacy = "model_private",
    corpus: HostedCorpus | None = None,
) -> CompiledModel:
    """Compile an index.

    Args:
        embeddings: `(n, d)` finite numbers, 1 ≤ n ≤ 2^20, 1 ≤ d ≤ 4096, nd ≤ 46 · 2^20. Nearness is the inner product;
            for cosines, give rows of length 1.
        ids: what the entries are called, n texts or n whole numbers, each once; their positions by default. Every asker reads
            them.
        privacy: whether replies hide the index beyond their scores; `model_public` is faster.
        corpus: what makes it a corpus: `blindgate.hosting`.

    In the report, the agreement is the share of the ten entries nearest by the embeddings that are among the ten found under
    encryption, over some entries as queries; the error is between a score and the inner product.

    Raises:
        ValueError: embeddings or ids that do not fit.
        PackageError: an index that no parameters hold and hide.
    """
    numbers = _table(embeddings)
    index, scale = _quantised(embeddings, numbers)
    client, server = search_parts(index, scale=scale, ids=_names(ids, len(index)), privacy=privacy, corpus=corpus)
    weights = Weights.of(index)
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=declared_columns(
            [f"e{column}" for column in range(client.width)], np.tile([-_LARGEST, _LARGEST], (client.width, 1))
        ),
        task="search",
        labels=None,
        link="identity",
        steepness=1.0,
        encryption=exact_encryption(client.parameters),
        privacy=hiding(client.parameters, weights.row_square, len(index)),
        determinism=DETERMINISM[privacy],
        discloses=Disclosures(
            to_client=[*DISCLOSES_TO_CLIENT[privacy], *(() if corpus is None else corpus.discloses)],
            to_node=list(DISCLOSES_TO_NODE),
        ),
        report=_measured(client, server, numbers),
    )


def search_parts(
    index: Bytes,
    *,
    scale: float = 1.0,
    ids: list[str] | list[int] | None = None,
    privacy: Privacy,
    corpus: HostedCorpus | None = None,
) -> tuple[ClientPart, ServerPart]:
    """The two parts of an index that is given in eight bits. Raises `PackageError` where no parameters hold and hide it."""
    entries, width = index.shape
    weights = Weights.of(index)
    need = Need(width, entries, weights.plain_modulus, weights.row_square, privacy)
    parameters: Parameters = choose(need, download_weight=_DOWNLOAD_WEIGHT[privacy])
    require_fitting(parameters, index)
    common: dict[str, Any] = {
        "family": FAMILY,
        "version": VERSION,
        "parameters": parameters,
        "width": width,
        "entries": entries,
    }
    try:
        client = ClientPart(**common, scale=scale, ids=ids, corpus=corpus)
        server = ServerPart(**common, matrix=packed_index(index))
    except ValueError as error:
        raise PackageError(str(error)) from error
    return client, server if privacy == "model_public" else padded(server)


def read_embeddings(path: Path) -> NDArray[Any]:
    """Read a `.npy` file; no object in it is ever unpickled. Raises `ValueError`, `OSError`."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
    except EOFError as error:
        msg = "embeddings: the file is empty"
        raise ValueError(msg) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        msg = "embeddings: got an archive of arrays, expected one array (.npy)"
        raise ValueError(msg)  # noqa: TRY004  (of a file)
    return loaded


def read_ids(path: Path) -> list[str]:
    """Read a text file in UTF-8 with a line for each entry. Raises `ValueError`, `OSError`."""
    with path.open(encoding="utf-8-sig") as file:
        return [line.rstrip("\n") for line in file]


def _table(embeddings: NDArray[Any]) -> Floats:
    given = np.asarray(embeddings)
    if given.ndim != _DIMENSIONS or given.dtype.kind not in "fiu" or 0 in given.shape:
        msg = f"embeddings: got shape {given.shape} of {given.dtype}, expected (entries, columns) of numbers"
        raise ValueError(msg)
    entries, width = given.shape
    if entries > MAX_ENTRIES or width > MAX_WIDTH or entries * width > MAX_NUMBERS:
        msg = (
            f"embeddings: got {entries} entries of {width} columns, expected at most {MAX_ENTRIES} of {MAX_WIDTH}, and "
            f"{MAX_NUMBERS} numbers together"
        )
        raise ValueError(msg)
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all():
        row, column = (int(place) for place in np.argwhere(~np.isfinite(numbers))[0])
        msg = f"embeddings: entry {row}, column {column}: not a finite number"
        raise ValueError(msg)
    return numbers


def _quantised(embeddings: NDArray[Any], numbers: Floats) -> tuple[Bytes, float]:
    index, scale = (embeddings, 1.0) if embeddings.dtype == np.int8 else quantised_entries(numbers)
    if not index.any():
        msg = "embeddings: every number is 0, so no entry is nearer than another"
        raise ValueError(msg)
    return index, scale


def _names(ids: Sequence[Id] | None, entries: int) -> list[str] | list[int] | None:
    if ids is None:
        return None
    names = list(ids)
    if len(names) != entries:
        msg = f"ids: got {len(names)}, expected {entries}, one an entry"
        raise ValueError(msg)
    if len(set(names)) != entries:
        msg = "ids: one occurs twice"
        raise ValueError(msg)
    if all(isinstance(name, str) for name in names):
        return [str(name) for name in names]
    if all(isinstance(name, int | np.integer) and not isinstance(name, bool) for name in names):
        return [int(name) for name in names]
    msg = "ids: expected texts, or whole numbers, not both and nothing else"
    raise ValueError(msg)


def _measured(client: ClientPart, server: ServerPart, numbers: Floats) -> Report:
    """Ask the index, under encryption, for some of its own entries."""
    asker, node = SearchClient.from_part(client.model_dump()), SearchServer.from_part(server.model_dump())
    tried = np.unique(np.linspace(0, len(numbers) - 1, min(_TRIED, asker.rows_per_job)).astype(np.intp))
    queries = numbers[tried]
    secret = asker.make_keys().secret
    blob = asker.encrypt(secret, queries)
    started = time.process_time()
    result = node.evaluate(None, blob)
    seconds = time.process_time() - started
    scores = asker.decrypt(secret, result, len(queries))
    expected = queries @ numbers.T
    nearest = min(_NEAREST, len(numbers))
    found = [
        len(set(_first(row, nearest)) & set(_first(true, nearest))) / nearest
        for row, true in zip(scores, expected, strict=True)
    ]
    return Report(
        rows=len(queries),
        agreement_plain=float(np.mean(found)),
        max_error=float(np.abs(scores * asker.units(queries)[:, None] - expected).max()),
        evaluation_key_bytes=0,
        ciphertext_bytes_per_row=len(blob) / len(queries),
        result_bytes_per_row=len(result) / len(queries),
        expected_seconds_per_row=seconds / len(queries),
    )


def _first(scores: Floats, count: int) -> list[int]:
    order: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
    return order

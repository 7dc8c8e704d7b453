"""From records of one size to a lookup package's parts.

1. **Check** that the records have one size. Whoever has records of several fills them up: their lengths would say what is fetched.
2. **Choose** the parameters from their number and size alone.
3. **Run** the two parts, under encryption, on some of the positions, and report.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from blindgate_models.compilers.compiled import Column, CompiledModel, Disclosures, Report
from blindgate_models.compilers.padding import padded
from blindgate_models.compilers.products import exact_encryption, hiding
from blindgate_models.lookup.client import LookupClient
from blindgate_models.lookup.server import LookupServer
from blindgate_models.lookup.spec import (
    DETERMINISM,
    DISCLOSES_TO_CLIENT,
    DISCLOSES_TO_NODE,
    FAMILY,
    MAX_BYTES,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    NOTHING,
    VERSION,
    ClientPart,
    Records,
    ServerPart,
    choose_parameters,
    packed_table,
)
from blindgate_models.product.spec import Privacy
from blindgate_protocol.errors import PackageError

_TRIED: Final = 4


def compile_lookup(records: Sequence[bytes], *, privacy: Privacy = "model_private") -> CompiledModel:
    """Compile a table of records, which are fetched by their positions.

    Args:
        records: 1 to 2^17, all of one size, 1 to 16,384 bytes, and 46 MiB together at most.
        privacy: whether replies hide the records that were not asked for; `model_public` is faster.

    In the report, the agreement is the share of some positions whose records came back as they are.

    Raises:
        ValueError: records that do not fit.
        PackageError: a table that no parameters hold and hide.
    """
    table = _table(records)
    client, server = lookup_parts(table, privacy=privacy)
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=[Column(name="position", type="integer", minimum=float(NOTHING), maximum=float(len(table) - 1))],
        task="lookup",
        labels=None,
        link="identity",
        steepness=1.0,
        encryption=exact_encryption(client.parameters),
        privacy=hiding(client.parameters, client.row_square, client.shape.outputs),
        determinism=DETERMINISM[privacy],
        discloses=Disclosures(to_client=list(DISCLOSES_TO_CLIENT[privacy]), to_node=list(DISCLOSES_TO_NODE)),
        report=_measured(client, server, records),
    )


def lookup_parts(table: Records, *, privacy: Privacy) -> tuple[ClientPart, ServerPart]:
    """The two parts of a table, `(records, size)`. Raises `PackageError` where no parameters hold and hide it."""
    records, size = table.shape
    common: dict[str, Any] = {
        "family": FAMILY,
        "version": VERSION,
        "parameters": choose_parameters(records, size, privacy),
        "records": records,
        "size": size,
    }
    try:
        client, server = ClientPart(**common), ServerPart(**common, table=packed_table(table))
    except ValueError as error:
        raise PackageError(str(error)) from error
    return client, server if privacy == "model_public" else padded(server)


def _table(records: Sequence[bytes]) -> Records:
    sizes = sorted({len(one) for one in records})
    if len(sizes) != 1 or not 1 <= sizes[0] <= MAX_RECORD_BYTES:
        msg = f"records: got sizes of {sizes[:3]} bytes, expected one size of 1 to {MAX_RECORD_BYTES}"
        raise ValueError(msg)
    if len(records) > MAX_RECORDS or len(records) * sizes[0] > MAX_BYTES:
        msg = f"records: got {len(records)} of {sizes[0]} bytes, expected at most {MAX_RECORDS}, and {MAX_BYTES} bytes together"
        raise ValueError(msg)
    return np.frombuffer(b"".join(records), dtype=np.uint8).reshape(len(records), sizes[0])


def _measured(client: ClientPart, server: ServerPart, records: Sequence[bytes]) -> Report:
    """Fetch some records under encryption."""
    asker, node = LookupClient.from_part(client.model_dump()), LookupServer.from_part(server.model_dump())
    tried = np.unique(np.linspace(0, len(records) - 1, min(_TRIED, asker.rows_per_job)).astype(np.intp))
    secret = asker.make_keys().secret
    blob = asker.encrypt(secret, tried[:, None].astype(np.float64))
    started = time.process_time()
    result = node.evaluate(None, blob)
    seconds = time.process_time() - started
    found = asker.records(asker.decrypt(secret, result, len(tried)))
    return Report(
        rows=len(tried),
        agreement_plain=float(np.mean([records[place] == one for place, one in zip(tried, found, strict=True)])),
        max_error=0.0,
        evaluation_key_bytes=0,
        ciphertext_bytes_per_row=len(blob) / len(tried),
        result_bytes_per_row=len(result) / len(tried),
        expected_seconds_per_row=seconds / len(tried),
    )

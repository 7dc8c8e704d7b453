"""Parquet, for those who ask their questions of a whole year at once.

The columns are those of `columns`, with types: `index` and `statement` are int64, `time` is a timestamp in milliseconds, UTC, and
`details` is a JSON object as text. A row group has some thousands of rows, which is what is kept at a time.

Needs pyarrow, which nothing else here does: the extra `parquet`.
"""

import json
from collections.abc import Iterable
from itertools import islice
from types import ModuleType
from typing import Any, BinaryIO, Final

from blindgate_audit.formats.columns import COLUMNS, Cell, cells
from blindgate_audit.report import Row
from blindgate_protocol.errors import InputError

ROWS_IN_A_GROUP: Final = 4096
_NUMBERS: Final = frozenset({"index", "statement"})


def require_parquet() -> ModuleType:
    """The library, before the work begins. Raises `InputError` when it is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415  (an extra, and 55 MB)
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        message = "parquet needs pyarrow, which is not installed: pip install 'blindgate[audit,parquet]'"
        raise InputError(message) from error
    return pa  # type: ignore[no-any-return]


def write_parquet(rows: Iterable[Row], out: BinaryIO) -> None:
    """Write the rows, a group at a time. Raises `InputError` when pyarrow is not installed."""
    pa = require_parquet()
    schema = pa.schema([pa.field(name, _type(pa, name), nullable=name not in {"index", "proof"}) for name in COLUMNS])
    left = iter(rows)
    with pa.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while group := list(islice(left, ROWS_IN_A_GROUP)):
            writer.write_batch(_batch(pa, schema, group), row_group_size=ROWS_IN_A_GROUP)


def _batch(pa: ModuleType, schema: Any, group: list[Row]) -> Any:
    given = [cells(row) for row in group]
    arrays = [pa.array([_value(one[name]) for one in given], _type(pa, name)) for name in COLUMNS]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _type(pa: ModuleType, name: str) -> Any:
    if name == "time":
        return pa.timestamp("ms", tz="UTC")
    return pa.int64() if name in _NUMBERS else pa.string()


def _value(cell: Cell) -> int | str | None:
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":")) if isinstance(cell, dict) else cell

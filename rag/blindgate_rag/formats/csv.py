"""Tables as CSV: each row a paragraph of `name: value` lines, so that a passage says what its numbers are.

The first row that is not empty names the columns. The delimiter is told by Excel's own first line, `sep=;`, or by the first lines;
quoting is always RFC 4180's, which the sniffer does not tell well. Empty values are left out.
"""

import csv
import io
import re
from collections.abc import Iterator

from blindgate_protocol.errors import MalformedError
from blindgate_rag.formats.text import decoded
from blindgate_rag.passages import Page

# About one passage: rows of one page share its number, so that a longer page would cite a row far before the one that is meant.
_PAGE_CHARACTERS = 1000
_SNIFFED_CHARACTERS = 8192
_DELIMITERS = ",;\t|"
_TOLD = re.compile(rf'"?sep=([{_DELIMITERS}])"?\r?\n', re.IGNORECASE)


def pages(data: bytes, otherwise: str | None = None) -> Iterator[Page]:
    """Groups of rows, numbered by their first row's place below the header, from 1.

    Args:
        data: the file's bytes.
        otherwise: the encoding, where it is not UTF-8.

    Raises `MalformedError`.
    """
    text = decoded(data, otherwise=otherwise)
    csv.field_size_limit(len(text) + 1)  # the rows are bounded by the file, which is bounded
    told = _TOLD.match(text)
    text = text[told.end() :] if told else text
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=told[1] if told else _delimiter(text))
    names: list[str] | None = None
    group: list[str] = []
    first = number = length = 0
    try:
        for row in rows:
            values = [" ".join(value.split()) for value in row]
            if names is None:
                names = values if any(values) else None
                continue
            number += 1
            entry = _entry(names, values)
            if not entry:
                continue
            if group and length + len(entry) > _PAGE_CHARACTERS:
                yield Page("\n\n".join(group), first)
                group, length = [], 0
            if not group:
                first = number
            group.append(entry)
            length += len(entry)
    except csv.Error:
        raise MalformedError(f"line {rows.line_num} is not CSV") from None
    if group:
        yield Page("\n\n".join(group), first)
    elif names is not None:
        yield Page(", ".join(filter(None, names)), None)


def _delimiter(text: str) -> str:
    try:
        return csv.Sniffer().sniff(text[:_SNIFFED_CHARACTERS], _DELIMITERS).delimiter
    except csv.Error:
        # One column, or lines too unlike each other: the delimiter that the first line has most of, a comma where it has none.
        return max(_DELIMITERS, key=text.partition("\n")[0].count)


def _entry(names: list[str], values: list[str]) -> str:
    lines = []
    for column, value in enumerate(values):
        if value:
            name = names[column] if column < len(names) and names[column] else f"column {column + 1}"
            lines.append(f"{name}: {value}")
    return "\n".join(lines)

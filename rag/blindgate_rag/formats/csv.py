"""Tables as CSV: each row a paragraph of `name: value` lines, so that a passage says what its numbers are.

The first row that is not empty names the columns, but for titles: rows whose first cell alone is filled, above a table of three
columns or more. They are text of their own. The delimiter is told by Excel's own first line, `sep=;`, or by the first lines;
quoting is always RFC 4180's, which the sniffer does not tell well. Empty values are left out.
"""

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain, dropwhile, islice

from blindgate_protocol.errors import MalformedError
from blindgate_rag.formats.text import decoded
from blindgate_rag.passages import Page

# About one passage: rows of one page share its number, so that a longer page would cite a row far before the one that is meant.
_PAGE_CHARACTERS = 1000
_SNIFFED_CHARACTERS = 8192
_BEGINNING_ROWS = 32  # where titles are looked for
_TABLE_CELLS = 3  # a table of two columns, one of them without a name, begins as a title does
_DELIMITERS = ",;\t|"
_TOLD = re.compile(rf'"?sep=([{_DELIMITERS}])"?\r?\n', re.IGNORECASE)


def pages(data: bytes, otherwise: str | None = None) -> Iterator[Page]:
    """Titles, without a number, and groups of rows, numbered by their first row's place below the header, from 1.

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
    group: list[str] = []
    first = length = 0
    try:
        titles, names, below = _begun([" ".join(value.split()) for value in row] for row in rows)
        if titles:
            yield Page("\n".join(titles), None)
        for number, values in enumerate(below, 1):
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
    elif names:
        yield Page(", ".join(filter(None, names)), None)


def _begun(rows: Iterator[list[str]]) -> tuple[list[str], list[str], Iterator[list[str]]]:
    """The titles, the names of the columns, and the rows below them."""
    filled = dropwhile(lambda values: not any(values), rows)
    beginning = list(islice(filled, _BEGINNING_ROWS))
    titles: list[str] = []
    if any(len(list(filter(None, values))) >= _TABLE_CELLS for values in beginning):
        while not any(beginning[0][1:]):
            titles += filter(None, beginning.pop(0))
    names = beginning.pop(0) if beginning else []
    return titles, names, chain(beginning, filled)


def _delimiter(text: str) -> str:
    try:
        return csv.Sniffer().sniff(text[:_SNIFFED_CHARACTERS], _DELIMITERS).delimiter
    except csv.Error:
        # One column, or lines too unlike each other: what the first line that has any has most of, a comma where none has.
        lines = text[:_SNIFFED_CHARACTERS].split("\n")
        line = next((line for line in lines if any(one in line for one in _DELIMITERS)), "")
        return max(_DELIMITERS, key=line.count)


def _entry(names: list[str], values: list[str]) -> str:
    lines = []
    for column, value in enumerate(values):
        if value:
            name = names[column] if column < len(names) and names[column] else f"column {column + 1}"
            lines.append(f"{name}: {value}")
    return "\n".join(lines)

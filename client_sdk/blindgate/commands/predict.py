"""`blindgate predict MODEL rows.csv -o out.csv`."""

import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from blindgate.commands.options import Connect, DataClass, KeepCiphertexts, asks_gateway, note_ciphertexts, path
from blindgate.output import note, require_folder
from blindgate_protocol.errors import InputError
from blindgate_protocol.manifest import Column

_MISSING = {"", "na", "nan", "null", "none", "?"}

app = typer.Typer(add_completion=False)


@app.command()
@asks_gateway
def predict(
    connect: Connect,
    model: Annotated[str, typer.Argument(help="The model's name: see 'blindgate models list'.")],
    rows: Annotated[Path, typer.Argument(help="A CSV file with a header; - for standard input.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write; standard output by default.", parser=path),
    ] = None,
    proba: Annotated[bool, typer.Option("--proba", help="Write a column of probability for each class too.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait before giving up.")] = None,
    data_class: DataClass = None,
    keep_ciphertexts: KeepCiphertexts = False,
) -> None:
    """Predict under encryption: a CSV file in, a CSV file out.

    Columns are matched by name. Columns that the model does not read are an error, so that nothing is sent by mistake.
    The output has one row for each input row, in the same order, under the heading 'prediction'.
    """
    require_folder(output)
    with connect() as client:
        client.bundles.keep_ciphertexts(wanted=keep_ciphertexts)
        taken = client.model(model)
        table = read_csv(rows, taken.manifest.document.columns)
        header = ["prediction"]
        if proba:
            shares = taken.predict_proba(table, timeout=timeout, data_class=data_class)
            # From the same scores, fetched already: where rounding makes two shares equal, the label still tells them apart.
            predictions = np.concatenate([job.result() for job in taken.last_jobs])
            header += [f"probability {label}" for label in taken.classes_]
            lines = [[label, *row] for label, row in zip(predictions.tolist(), shares.tolist(), strict=True)]
        else:
            lines = [[value] for value in taken.predict(table, timeout=timeout, data_class=data_class).tolist()]
        note(f"rows: {len(lines)}, jobs: {len(taken.last_jobs)}, every receipt verified")
        note_ciphertexts(client, taken)
    with sys.stdout if output is None else output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)


def read_csv(path: Path, columns: Sequence[Column] = ()) -> dict[str, list[Any]]:
    """Read a CSV file with a header as columns of numbers; what is no number stays text, for the schema to refuse by name.

    A cell of a column that is a category by the model's `columns` stays as it is written.
    """
    categories = {column.name: {str(value) for value in column.categories} for column in columns if column.categories}
    try:
        stream = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as file:
            lines = (line for line in csv.reader(file) if line)  # an empty line is no row
            header = next(lines, None)
            body = list(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: {error}"
        raise InputError(message) from error
    if not header:
        message = f"{path}: the file is empty; the first line must name the columns"
        raise InputError(message)
    if len(set(header)) != len(header):
        message = f"{path}: a column's name occurs twice in the header"
        raise InputError(message)
    for position, line in enumerate(body):
        if len(line) != len(header):
            message = f"{path}: row {position} has {len(line)} cells, the header has {len(header)}"
            raise InputError(message, row=position)
    return {name: [_cell(line[place], categories.get(name)) for line in body] for place, name in enumerate(header)}


def _cell(text: str, categories: set[str] | None) -> float | str:
    stripped = text.strip()
    if categories is not None and (stripped in categories or stripped.lower() not in _MISSING):
        return stripped
    if stripped.lower() in _MISSING:
        return math.nan
    if "_" in stripped:  # a number in Python's source, a code in a table
        return text
    try:
        return float(stripped)
    except ValueError:
        return text

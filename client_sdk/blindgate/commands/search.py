"""`blindgate search INDEX queries.npy -k 10 -o out.csv`."""

import csv
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from blindgate.commands.options import Connect, DataClass, Json, KeepCiphertexts, asks_gateway, note_ciphertexts, path
from blindgate.commands.predict import read_csv
from blindgate.output import note, require_folder, show
from blindgate_protocol.errors import InputError

app = typer.Typer(add_completion=False)


@app.command()
@asks_gateway
def search(
    connect: Connect,
    model: Annotated[str, typer.Argument(help="The index's name: see 'blindgate models list'.")],
    queries: Annotated[
        Path, typer.Argument(help="Vectors: an array (.npy), or a CSV file with a header; - for standard input.")
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="How many entries to find for each vector.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write; standard output by default.", parser=path),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait before giving up.")] = None,
    data_class: DataClass = None,
    keep_ciphertexts: KeepCiphertexts = False,
    as_json: Json = False,
) -> None:
    """Find the nearest entries of an index under encryption: vectors in, a CSV file out.

    The output has k rows for each vector: its number, from 0, the entry's rank, from 1, the entry's id, and the inner product.
    """
    if as_json and output is not None:
        message = "--json goes to standard output; without it, --output gets a CSV file"
        raise InputError(message)
    require_folder(output)
    vectors = _read_array(queries) if queries.suffix == ".npy" else read_csv(queries)
    with connect() as client:
        client.bundles.keep_ciphertexts(wanted=keep_ciphertexts)
        taken = client.model(model)
        found = taken.search(vectors, k, timeout=timeout, data_class=data_class)
        note(f"vectors: {len(found.ids)}, jobs: {len(taken.last_jobs)}, every receipt verified")
        note_ciphertexts(client, taken)
    rows: list[dict[str, Any]] = [
        {"query": query, "rank": rank, "id": entry, "score": score}
        for query, (ids, scores) in enumerate(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
        for rank, (entry, score) in enumerate(zip(ids, scores, strict=True), 1)
    ]
    if as_json:
        show(rows, as_json=True)
        return
    with sys.stdout if output is None else output.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["query", "rank", "id", "score"])
        writer.writeheader()
        writer.writerows(rows)


def _read_array(path: Path) -> Any:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        message = f"{path}: {error}"
        raise InputError(message) from error
    return array

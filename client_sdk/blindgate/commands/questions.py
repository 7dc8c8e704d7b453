"""What the commands of `rag` are asked with: how many passages, of which documents, ranked by what."""

import contextlib
import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from blindgate_protocol.corpus_search import Ranking
from blindgate_protocol.errors import InputError

Wheres: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="Only documents whose metadata is so; several values of a name are choices.",
    ),
]
RankingName: TypeAlias = Annotated[
    Ranking | None,
    typer.Option(
        "--ranking",
        help="By meaning and words together (fused: their places; blended: their scores), by meaning (dense), or by words (bm25); "
        "what the corpus has by default.",
    ),
]
Count: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "-k", min=1, max=1000, help="How many passages to find; by default 8, or as many as a corpus gives at most."
    ),
]
Tokens: TypeAlias = Annotated[
    int | None, typer.Option("--tokens", min=1, help="No more text than this, in the embedding model's tokens.")
]


def pair(text: str, option: str) -> tuple[str, str]:
    """Name and value of what an option was given. Raises `InputError`."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        message = f"{option} {text!r}: expected NAME=VALUE"
        raise InputError(message)
    return name, value


def read_where(texts: Sequence[str] | None) -> dict[str, list[str | int | float | bool]] | None:
    """What documents' metadata must be: a value is meant as the text, and as the number or the truth that it may be."""
    if texts is None:
        return None
    found: dict[str, list[str | int | float | bool]] = {}
    for text in texts:
        name, value = pair(text, "--where")
        found.setdefault(name, []).append(value)
        if value in {"true", "false"}:
            found[name].append(value == "true")
        with contextlib.suppress(ValueError):
            if math.isfinite(number := float(value)):  # Nan is a name, too
                found[name].append(number)
    return found

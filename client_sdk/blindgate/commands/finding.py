"""What the commands that find passages have in common: how they are told which, and how they show them."""

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from blindgate.output import note
from blindgate_protocol.errors import InputError

if TYPE_CHECKING:
    from blindgate_rag.hits import Hits

Wheres: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="Only documents whose metadata is so; several values of a name are choices.",
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


def note_search(hits: "Hits") -> None:
    """Tell who could have learnt what of a search, and what did not come back of it."""
    if hits.leakage.learned:
        note(f"search {hits.leakage}")
    if hits.missing:
        note(f"{hits.missing} more were found, and a node did not send their text as its owner wrote it")


def pair_of(text: str, option: str) -> tuple[str, str]:
    """A name and its value, of `NAME=VALUE`. Raises `InputError` naming the option."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        message = f"{option} {text!r:.100}: expected NAME=VALUE"
        raise InputError(message)
    return name, value


def where_of(texts: Sequence[str] | None) -> dict[str, list[str | int | float | bool]] | None:
    """What documents' metadata must be. A value is meant as the text, and as the number or the truth that it may be."""
    if texts is None:
        return None
    found: dict[str, list[str | int | float | bool]] = {}
    for text in texts:
        name, value = pair_of(text, "--where")
        found.setdefault(name, []).append(value)
        if value in {"true", "false"}:
            found[name].append(value == "true")
        if (number := _number(value)) is not None:
            found[name].append(number)
    return found


def rows_of(hits: "Hits | Iterable[Any]") -> list[dict[str, Any]]:
    """Passages that were found, for JSON."""
    return [
        {
            "source": hit.source,
            "page": hit.page,
            "score": hit.score,
            "passage": hit.passage,
            "metadata": dict(hit.metadata),
            "text": hit.text,
        }
        for hit in hits
    ]


def place_of(source: str, page: int | None) -> str:
    """Where a passage stands, for people."""
    source = source.replace("\n", "\ufffd")  # which a file's name may hold, to look like another line
    return source if page is None else f"{source}, page {page}"


def several(names: Sequence[object]) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004


def _number(text: str) -> int | float | None:
    """The number that a text is, a whole one to its last digit; Nan is a name, and what has underscores is Python's."""
    if "_" in text:
        return None
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return number if math.isfinite(number := float(text)) else None
    return None

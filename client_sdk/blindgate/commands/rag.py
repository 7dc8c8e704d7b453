"""`blindgate rag add|search|ask|list|remove|passphrase`.

The commands for what the gateway has are in `corpora`; who asks has `asking`, who hosts a corpus `hosting`, and who measures one
`retrieval`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from blindgate.commands import corpora, retrieval
from blindgate.commands.asking import ask
from blindgate.commands.corpora import (
    AtLeast,
    CorpusPassphrase,
    CorpusPath,
    EmbedderFolder,
    Offline,
    SearchedBy,
    SearchedPath,
    opened,
    searched,
)
from blindgate.commands.finding import Count, Tokens, Wheres, note_search, pair_of, place_of, rows_of, several, where_of
from blindgate.commands.hosting import host
from blindgate.commands.options import Connect, DataClass, Json, asks_gateway, path
from blindgate.output import note, printable, show, show_one, when
from blindgate_protocol.corpus_search import Ranking
from blindgate_protocol.errors import DocumentError, InputError

if TYPE_CHECKING:
    from blindgate_rag.corpus import Corpus

app = typer.Typer(
    help="Documents that never leave, and those that others host: add, search, ask with citations, host, evaluate.",
    no_args_is_help=True,
)

RankingName: TypeAlias = Annotated[
    Ranking | None,
    typer.Option(
        "--ranking",
        help="By meaning and words together (fused: their places; blended: their scores), by meaning (dense), or by words (bm25); "
        "what the corpus has by default.",
    ),
]


@app.command()
@asks_gateway
def add(
    connect: Connect,
    corpus: CorpusPath,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH…", help="Files, or folders with files: pdf, txt, md, html, csv, docx.", parser=path
        ),
    ],
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", metavar="NAME=VALUE", help="What is known of these documents; `--where` asks for it."
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove documents whose files, under these folders, are gone.")
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            metavar="NAME",
            help="What texts are in that are not UTF-8 and do not say so themselves, such as cp1252; without it they are an error.",
        ),
    ] = None,
    ranking: RankingName = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Add documents; what was added before is read again only where it changed. The corpus is made where there is none.

    A file that cannot be read is told of, the rest is added, and the command exits with 1. Nothing is sent to anybody, or, of a
    corpus at the gateway, sealed blobs to that one.
    """
    for given in paths:
        if not os.path.exists(given):  # noqa: PTH110  (too long a name is an error of pathlib's); before a corpus is made for it
            message = f"{given}: there is no such file or folder"
            raise InputError(message)
    said = None if metadata is None else dict(pair_of(text, "--metadata") for text in metadata)
    with opened(connect, corpus, passphrase, embedder, create=True, ranking=ranking) as taken:
        told = _added(taken, paths, said, prune=prune, encoding=encoding)
    if as_json:
        show_one(told, as_json=True)
    else:
        for failed in told["failed"]:
            note(f"not added: {failed['error']}")
        for source, pages in told["incomplete"].items():
            note(f"{source}: added without what cannot be read, pages {several(pages)}")
        if told["skipped"]:
            note(f"skipped, hidden, a link elsewhere, or of no format that is read here: {several(told['skipped'])}")
        counts = {name: len(told[name]) for name in ("added", "changed", "removed", "failed")}
        show_one(counts | {"unchanged": told["unchanged"], "passages": told["passages"]}, as_json=False)
    if told["failed"]:
        raise typer.Exit(1)


@app.command()
@asks_gateway
def search(
    connect: Connect,
    corpus: SearchedPath,
    query: Annotated[str, typer.Argument(help="The question, or words.")],
    k: Count = None,
    where: Wheres = None,
    ranking: RankingName = None,
    tokens: Tokens = None,
    searched_by: SearchedBy = None,
    at_least: AtLeast = 0,
    offline: Offline = False,
    data_class: DataClass = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Find the passages that fit a question best. Of a corpus that is searched on this machine, nothing of it is sent to anybody.

    gateway:NAME is one of yours, or one that somebody hosts: then neither gateway nor node learns what is asked or found.
    """
    given: dict[str, Any] = {"searched_by": searched_by, "data_class": data_class, "offline": offline}
    with searched(connect, corpus, passphrase, embedder, at_least=at_least, **given) as taken:
        hits = taken.search(query, k, where=where_of(where), ranking=ranking, tokens=tokens)
        misspelt = "" if hits else corpora.unknown_names(taken, where_of(where) or {})
    note_search(hits)
    if as_json:
        show(rows_of(hits), as_json=True)
        return
    if not hits:
        note(f"Nothing found{misspelt}.")
    for number, hit in enumerate(hits, start=1):
        place = printable(place_of(hit.source, hit.page))
        typer.secho(f"{number}  {place}  (score {hit.score:.4g}, passage {hit.passage})", bold=True)
        typer.echo(f"{printable(hit.text.strip())}\n")


app.command()(ask)


@app.command("list")
@asks_gateway
def list_(
    connect: Connect,
    corpus: CorpusPath,
    where: Wheres = None,
    at_least: AtLeast = 0,
    offline: Offline = False,
    passphrase: CorpusPassphrase = None,
    embedder: EmbedderFolder = None,
    as_json: Json = False,
) -> None:
    """List the documents of a corpus."""
    given = {name: value for name, value in (("at_least", at_least), ("offline", offline)) if value}
    with opened(connect, corpus, passphrase, embedder, **given) as taken:
        documents = taken.documents(where_of(where))
        misspelt = "" if documents else corpora.unknown_names(taken, where_of(where) or {})
    rows = [
        {
            "source": one.source,
            "media": one.media,
            "added": one.added if as_json else when(one.added),
            "metadata": one.metadata
            if as_json
            else ", ".join(f"{name}={value}" for name, value in one.metadata.items()),
            "digest": one.digest,
        }
        for one in documents
    ]
    show(rows, as_json=as_json, empty=f"No documents{misspelt}.")


@app.command()
@asks_gateway
def remove(
    connect: Connect,
    corpus: CorpusPath,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE…", help="What 'blindgate rag list' shows.")],
    passphrase: CorpusPassphrase = None,
    embedder: EmbedderFolder = None,
    as_json: Json = False,
) -> None:
    """Remove documents: their text and their vectors."""
    with opened(connect, corpus, passphrase, embedder) as taken:
        gone = taken.remove(*sources)
    show_one({"removed": gone}, as_json=as_json)
    if gone < len(sources):
        note(f"{len(sources) - gone} of these were not there: see 'blindgate rag list'")
        raise typer.Exit(1)


@app.command()
@asks_gateway
def passphrase(
    connect: Connect,
    corpus: CorpusPath,
    new: Annotated[
        str,
        typer.Option(
            "--new", prompt=True, hide_input=True, confirmation_prompt=True, help="The new one; asked for without this."
        ),
    ],
    old: CorpusPassphrase = None,
    embedder: EmbedderFolder = None,
) -> None:
    """Seal a corpus with another passphrase. Copies of before open with the one of before."""
    with opened(connect, corpus, old, embedder) as taken:
        taken.change_passphrase(new)
    note(f"{corpus} opens with the new passphrase now")


app.command()(host)
app.add_typer(corpora.app)
app.add_typer(retrieval.app)


def _added(
    taken: "Corpus", paths: list[Path], said: dict[str, Any] | None, *, prune: bool, encoding: str | None
) -> dict[str, Any]:
    """Add each path; what happened to all of them, by what."""
    told: dict[str, Any] = {name: [] for name in ("added", "changed", "removed", "failed", "skipped")} | {
        "incomplete": {},
        "unchanged": 0,
        "passages": 0,
    }
    for given in paths:
        try:
            done = taken.add(given, said, prune=prune, encoding=encoding)
        except DocumentError as error:  # a file of no format that is read here: the others are added
            told["failed"].append({"source": error.source, "error": str(error)})
            continue
        for name in ("added", "changed", "removed", "skipped"):
            told[name] += getattr(done, name)
        told["failed"] += [{"source": error.source, "error": str(error)} for error in done.failed]
        told["incomplete"] |= {source: list(pages) for source, pages in done.incomplete.items()}
        told["unchanged"] += done.unchanged
        told["passages"] += done.passages
    return told

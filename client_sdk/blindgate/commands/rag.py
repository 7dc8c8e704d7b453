"""`blindgate rag add|search|ask|list|remove|passphrase`.

The commands for what the gateway has are in `corpora`, who hosts a corpus has `hosting`, and who measures one `retrieval`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindgate.commands import corpora, retrieval
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
from blindgate.commands.hosting import host
from blindgate.commands.options import Connect, DataClass, Json, asks_gateway
from blindgate.commands.questions import Count, RankingName, Tokens, Wheres, pair, read_where
from blindgate.output import note, printable, show, show_along, show_one, when
from blindgate_protocol.errors import DocumentError, InputError

if TYPE_CHECKING:
    from blindgate_rag.corpus import Corpus
    from blindgate_rag.hits import Hits

app = typer.Typer(
    help="Documents that never leave, and those that others host: add, search, ask with citations, host, evaluate.",
    no_args_is_help=True,
)


@app.command()
@asks_gateway
def add(
    connect: Connect,
    corpus: CorpusPath,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, or folders with files: pdf, txt, md, html, csv, docx.")
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
    for path in paths:
        if not path.exists():  # before a corpus is made for it
            message = f"{path}: there is no such file or folder"
            raise InputError(message)
    said = None if metadata is None else dict(pair(text, "--metadata") for text in metadata)
    with opened(connect, corpus, passphrase, embedder, create=True, ranking=ranking) as taken:
        told = _added(taken, paths, said, prune=prune, encoding=encoding)
    if as_json:
        show_one(told, as_json=True)
    else:
        for failed in told["failed"]:
            note(f"not added: {failed['error']}")
        for source, pages in told["incomplete"].items():
            note(f"{source}: added without what cannot be read, pages {_several(pages)}")
        if told["skipped"]:
            note(f"skipped, of no format that is read here: {_several(told['skipped'])}")
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
        hits = taken.search(query, k, where=read_where(where), ranking=ranking, tokens=tokens)
        misspelt = "" if hits else corpora.unknown_names(taken, read_where(where) or {})
    _note_search(hits)
    if as_json:
        show(_rows(hits), as_json=True)
        return
    if not hits:
        note(f"Nothing found{misspelt}.")
    for number, hit in enumerate(hits, start=1):
        place = printable(_place(hit.source, hit.page))
        typer.secho(f"{number}  {place}  (score {hit.score:.4g}, passage {hit.passage})", bold=True)
        typer.echo(f"{printable(hit.text.strip())}\n")


@app.command()
@asks_gateway
def ask(
    connect: Connect,
    corpus: SearchedPath,
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[str, typer.Option("--model", help="A chat's name: see 'blindgate models list'.")],
    k: Count = None,
    where: Wheres = None,
    tokens: Tokens = None,
    searched_by: SearchedBy = None,
    at_least: AtLeast = 0,
    data_class: DataClass = None,
    instructions: Annotated[
        str | None, typer.Option("--instructions", help="Words of yours for the model: the language, the form.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="No longer answer than this, in the model's tokens.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, max=2, help="0: the likeliest word each time.")
    ] = None,
    recogniser: Annotated[
        list[str] | None,
        typer.Option(
            "--recogniser",
            metavar="presidio:MODEL",
            help="Take out names and places as well, by Presidio with this spaCy pipeline: a folder, or an installed package.",
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait before giving up.")] = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Answer a question from a corpus, with citations; the answer is printed while it is written.

    Passages are found as 'blindgate rag search' finds them; identifiers in them and in the question become placeholders, as your
    policy's [redaction] says; then they are sealed to a node that proved what it is. The answer has what was taken out in its place
    again. It is a beginning, and no more, until the last line says that its receipt holds. Ctrl-C cancels the job.
    """
    from blindgate_rag.redaction.named import opened as opened_recogniser  # noqa: PLC0415  (help must not wait)

    # Before anything is searched: a corpus elsewhere would have learnt of a question that is not asked.
    recognisers = [opened_recogniser(text, "--recogniser") for text in recogniser or ()]
    how: dict[str, Any] = {"searched_by": searched_by, "data_class": data_class, "at_least": at_least}
    with connect() as client, searched(lambda: client, corpus, passphrase, embedder, **how) as taken:
        given: dict[str, Any] = {
            "corpus": taken,
            "model": model,
            "k": k,
            "where": read_where(where),
            "tokens": tokens,
            "instructions": instructions,
            "recognisers": recognisers,
            "data_class": data_class,
            "timeout": timeout,
            "max_completion_tokens": max_tokens,
            "temperature": temperature,
        }
        if as_json:
            answer = client.ask(question, stream=False, **given)
        else:
            with client.ask(question, stream=True, **given) as stream:
                show_along(stream)
                answer = stream.answer
    if as_json:
        told = {
            "answer": answer.text,
            "citations": [
                {"number": one.number} | row
                for one, row in zip(answer.citations, _rows([c.hit for c in answer.citations]), strict=True)
            ],
            "unresolved": answer.unresolved,
            "finish_reason": answer.finish_reason,
            "redacted": dict(answer.redacted),
            "not_protected": answer.not_protected,
            "leakage": str(answer.leakage),
            "job": answer.job.id,
            "node": answer.receipt.document.node,
        }
        show_one(told, as_json=True)
        return
    for one in answer.citations:
        typer.echo(printable(f"[{one.number}] {_place(one.hit.source, one.hit.page)} (passage {one.hit.passage})"))
    if answer.finish_reason == "length":
        note("cut off: the model came to the most tokens that it may write")
    redacted = ", ".join(f"{count} {name}" for name, count in answer.redacted.items()) or "nothing"
    note(f"redacted: {redacted}; not looked for: {', '.join(answer.not_protected) or 'nothing'}")
    _note_search(answer.hits)
    note(f"job {answer.job.id}, answered by {answer.receipt.document.node}: its receipt holds")


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
        documents = taken.documents(read_where(where))
        misspelt = "" if documents else corpora.unknown_names(taken, read_where(where) or {})
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


def _note_search(hits: "Hits") -> None:
    if hits.leakage.learned:
        note(f"search {hits.leakage}")
    if hits.missing:
        note(f"{hits.missing} more were found, and a node did not send their text as its owner wrote it")


def _rows(hits: "Hits | Iterable[Any]") -> list[dict[str, Any]]:
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


def _place(source: str, page: int | None) -> str:
    return source if page is None else f"{source}, page {page}"


def _added(
    taken: "Corpus", paths: list[Path], said: dict[str, Any] | None, *, prune: bool, encoding: str | None
) -> dict[str, Any]:
    """Add each path; what happened to all of them, by what."""
    told: dict[str, Any] = {name: [] for name in ("added", "changed", "removed", "failed", "skipped")} | {
        "incomplete": {},
        "unchanged": 0,
        "passages": 0,
    }
    for path in paths:
        try:
            done = taken.add(path, said, prune=prune, encoding=encoding)
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


def _several(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004

"""`blindgate rag add|search|ask|list|remove|passphrase|evaluate`; `corpora` has the commands for what the gateway has.

A corpus is a folder, or `gateway:NAME`: one that rests, sealed, at the gateway, with a cache here.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from blindgate.commands import corpora
from blindgate.commands.corpora import AT_GATEWAY, CorpusPassphrase, CorpusPath, EmbedderFolder, name_of
from blindgate.commands.options import Connect, DataClass, Json, asks_gateway
from blindgate.output import note, require_folder, show, show_one, when
from blindgate_protocol.errors import InputError

if TYPE_CHECKING:
    from blindgate.retrieval_evaluation import RetrievalEvaluation
    from blindgate_rag.corpus import Corpus
    from blindgate_rag.hits import Hits

app = typer.Typer(
    help="Documents that never leave: add, search, ask with citations, evaluate retrieval.", no_args_is_help=True
)
app.add_typer(corpora.app)

Wheres: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="Only documents whose metadata is so; several values of a name are choices.",
    ),
]
RankingName: TypeAlias = Annotated[
    Literal["fused", "dense", "bm25"] | None,
    typer.Option(
        "--ranking", help="By meaning and words together, by meaning, or by words; what the corpus has by default."
    ),
]
Count: TypeAlias = Annotated[int, typer.Option("-k", min=1, max=1000, help="How many passages to find.")]
Tokens: TypeAlias = Annotated[
    int | None, typer.Option("--tokens", min=1, help="No more text than this, in the embedding model's tokens.")
]


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
    ranking: RankingName = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Add documents; what was added before is read again only where it changed. The corpus is made where there is none.

    A file that cannot be read is told of, the rest is added, and the command exits with 1. Nothing is sent to anybody, or, of a
    corpus at the gateway, sealed blobs to that one.
    """
    said = None if metadata is None else dict(_pair(text, "--metadata") for text in metadata)
    told: dict[str, Any] = {name: [] for name in ("added", "changed", "removed", "failed", "skipped")} | {
        "incomplete": {},
        "unchanged": 0,
        "passages": 0,
    }
    with _opened(connect, corpus, passphrase, embedder, create=True, ranking=ranking) as opened:
        for path in paths:
            done = opened.add(path, said, prune=prune)
            for name in ("added", "changed", "removed", "skipped"):
                told[name] += getattr(done, name)
            told["failed"] += [{"source": error.source, "error": str(error)} for error in done.failed]
            told["incomplete"] |= {source: list(pages) for source, pages in done.incomplete.items()}
            told["unchanged"] += done.unchanged
            told["passages"] += done.passages
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
    corpus: CorpusPath,
    query: Annotated[str, typer.Argument(help="The question, or words.")],
    k: Count = 8,
    where: Wheres = None,
    ranking: RankingName = None,
    tokens: Tokens = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Find the passages that fit a question best. Nothing of it is sent to anybody."""
    with _opened(connect, corpus, passphrase, embedder) as opened:
        hits = opened.search(query, k, where=_where(where), ranking=ranking, tokens=tokens)
    if as_json:
        show(_rows(hits), as_json=True)
        return
    if not hits:
        note("Nothing found.")
    for number, hit in enumerate(hits, start=1):
        typer.secho(
            f"{number}  {_place(hit.source, hit.page)}  (score {hit.score:.4g}, passage {hit.passage})", bold=True
        )
        typer.echo(f"{hit.text.strip()}\n")
    if hits.leakage.learned:
        note(f"search {hits.leakage}")


@app.command()
@asks_gateway
def ask(
    connect: Connect,
    corpus: CorpusPath,
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[str, typer.Option("--model", help="A chat's name: see 'blindgate models list'.")],
    k: Count = 8,
    where: Wheres = None,
    tokens: Tokens = None,
    data_class: DataClass = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait before giving up.")] = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Answer a question from a corpus, with citations.

    Passages are found on this machine; identifiers in them and in the question become placeholders, as your policy's [redaction]
    says; then they are sealed to a node that proved what it is. The answer has what was taken out in its place again.
    """
    with connect() as client, _opened(lambda: client, corpus, passphrase, embedder) as opened:
        answer = client.ask(
            question,
            corpus=opened,
            model=model,
            k=k,
            where=_where(where),
            tokens=tokens,
            data_class=data_class,
            timeout=timeout,
        )
    if as_json:
        told = {
            "answer": answer.text,
            "citations": [
                {"number": one.number} | row
                for one, row in zip(answer.citations, _rows([c.hit for c in answer.citations]), strict=True)
            ],
            "unresolved": answer.unresolved,
            "redacted": dict(answer.redacted),
            "not_protected": answer.not_protected,
            "leakage": str(answer.leakage),
            "job": answer.job.id,
            "node": answer.receipt.document.node,
        }
        show_one(told, as_json=True)
        return
    typer.echo(f"{answer.text.strip()}\n")
    for one in answer.citations:
        typer.echo(f"[{one.number}] {_place(one.hit.source, one.hit.page)} (passage {one.hit.passage})")
    taken = ", ".join(f"{count} {name}" for name, count in answer.redacted.items()) or "nothing"
    note(f"redacted: {taken}; not looked for: {', '.join(answer.not_protected) or 'nothing'}")
    note(f"search {answer.leakage}")
    note(f"job {answer.job.id}, answered by {answer.receipt.document.node}: its receipt holds")


@app.command("list")
@asks_gateway
def list_(
    connect: Connect,
    corpus: CorpusPath,
    where: Wheres = None,
    passphrase: CorpusPassphrase = None,
    embedder: EmbedderFolder = None,
    as_json: Json = False,
) -> None:
    """List the documents of a corpus."""
    with _opened(connect, corpus, passphrase, embedder) as opened:
        documents = opened.documents(_where(where))
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
    show(rows, as_json=as_json, empty="No documents.")


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
    with _opened(connect, corpus, passphrase, embedder) as opened:
        gone = opened.remove(*sources)
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
    with _opened(connect, corpus, old, embedder) as opened:
        opened.change_passphrase(new)
    note(f"{corpus} opens with the new passphrase now")


@app.command()
def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(help="A collection in BEIR's layout: corpus.jsonl, queries.jsonl, and qrels/ with judgements."),
    ],
    split: Annotated[str, typer.Option("--split", help="Whose judgements: qrels/SPLIT.tsv.")] = "test",
    rankers: Annotated[
        str | None,
        typer.Option(
            "--rankers",
            metavar="NAME,…",
            help="Which of bm25, dense, int8, fused, encrypted and encrypted-public; all by default.",
        ),
    ] = None,
    encrypted: Annotated[
        bool, typer.Option("--encrypted/--no-encrypted", help="Whether the encrypted ones are asked, too.")
    ] = True,
    embedder: EmbedderFolder = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw the measures, as SVG.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how well retrieval finds what people judged relevant: nDCG, recall, MRR, and what a question takes.

    `encrypted` is an index that lies elsewhere: its node sees encrypted questions alone, its replies hide it beyond its scores.
    `encrypted-public` is one that the asker may know. Both sides of them run here. Nothing is sent to anybody.
    """
    from blindgate.retrieval_evaluation import ENCRYPTED, RANKERS, evaluate_folder  # noqa: PLC0415  (help must not wait)
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415
    from blindgate_rag.evaluation import plotting  # noqa: PLC0415
    from blindgate_rag.progress import shown  # noqa: PLC0415

    named = RANKERS if rankers is None else tuple(dict.fromkeys(name.strip() for name in rankers.split(",")))
    if unknown := [name for name in named if name not in RANKERS]:
        message = f"{unknown[0]!r} is none of {', '.join(RANKERS)}"
        raise typer.BadParameter(message, param_hint="--rankers")
    chosen = [name for name in named if encrypted or name not in ENCRYPTED]
    if not chosen:
        message = "leaves none of --rankers"
        raise typer.BadParameter(message, param_hint="--no-encrypted")
    require_folder(plot)
    if plot is not None:
        plotting()
    with shown(show=None) as advance:
        model = None if embedder is None else Embedder.open(embedder)
        found = evaluate_folder(folder, chosen, split=split, embedder=model, progress=advance)
    if plot is not None:
        plot.write_bytes(found.evaluation.plot())
    if as_json:
        show_one(found.to_dict(), as_json=True)
    else:
        _show_evaluation(found)


def _show_evaluation(found: "RetrievalEvaluation") -> None:
    from blindgate_rag.evaluation import MEASURES  # noqa: PLC0415

    evaluation = found.evaluation
    costs = any(score.node_seconds is not None for score in evaluation.scores)
    rows: list[dict[str, Any]] = []
    for score in evaluation.scores:
        row: dict[str, Any] = {"ranker": score.ranker}
        row |= {title: getattr(score, name) for name, title in MEASURES.items()} | {"ms": score.milliseconds}
        if costs:
            node = None if score.node_seconds is None else score.node_seconds * 1e3
            row |= {"bytes_up": score.bytes_up, "bytes_down": score.bytes_down, "node's_CPU_ms": node}
        rows.append(row)
    show(rows, as_json=False)
    note(
        f"{evaluation.collection}: {evaluation.documents} documents, {found.passages} passages, {evaluation.questions} questions, "
        "each with a relevant document"
    )
    note(
        f"embedded by {found.embedder}, {found.embedder_digest}: {found.question_milliseconds:.3g} ms a question, not in ms"
    )


@contextlib.contextmanager
def _opened(
    connect: Connect, corpus: str, passphrase: str | None, embedder: Path | None, **given: Any
) -> "Iterator[Corpus]":
    from blindgate_rag.corpus import Corpus  # noqa: PLC0415  (help must not wait for torch)
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415

    model = None if embedder is None else Embedder.open(embedder)
    with contextlib.ExitStack() as stack:
        given = {"passphrase": passphrase, "embedder": model, "create": False} | given
        if corpus.startswith(AT_GATEWAY):
            client = stack.enter_context(connect())
            yield stack.enter_context(client.corpus(name_of(corpus), **given))
        else:
            yield stack.enter_context(Corpus.open(corpus, **given))


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        message = f"{option} {text!r}: expected NAME=VALUE"
        raise InputError(message)
    return name, value


def _where(texts: Sequence[str] | None) -> dict[str, list[str | int | float | bool]] | None:
    """What documents' metadata must be. A value is meant as the text, and as the number or the truth that it may be."""
    if texts is None:
        return None
    found: dict[str, list[str | int | float | bool]] = {}
    for text in texts:
        name, value = _pair(text, "--where")
        found.setdefault(name, []).append(value)
        if value in {"true", "false"}:
            found[name].append(value == "true")
        with contextlib.suppress(ValueError):
            found[name].append(float(value))
    return found


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


def _several(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004

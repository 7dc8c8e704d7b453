"""`blindgate rag corpora|delete|put-back|forget`, and how the commands of `rag` are told which corpus."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from blindgate.commands.options import Connect, Json, asks_gateway
from blindgate.output import note, show, when
from blindgate_protocol.errors import InputError

app = typer.Typer()

AT_GATEWAY: Final = "gateway:"
"""What the name of a corpus at the gateway begins with."""

CorpusPath: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="The corpus: a folder, such as notes.bgc, or gateway:NAME for one that rests, sealed, at the gateway.",
    ),
]
CorpusName: TypeAlias = Annotated[
    str, typer.Argument(metavar="gateway:NAME", help="A corpus at the gateway: see 'blindgate rag corpora'.")
]
CorpusPassphrase: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--passphrase",
        envvar="BLINDGATE_CORPUS_PASSPHRASE",
        help="What the corpus is sealed with. Without one, a random one that is kept beside it, for your account alone.",
        show_envvar=True,
    ),
]
EmbedderFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--embedder", help="A folder with a sentence-transformers model; MiniLM by default.", file_okay=False),
]


def name_of(corpus: str) -> str:
    """The name of a corpus at the gateway. Raises `InputError` for a folder."""
    if not corpus.startswith(AT_GATEWAY):
        message = (
            f"{corpus}: expected gateway:NAME, as 'blindgate rag corpora' shows; a folder is its owner's to delete"
        )
        raise InputError(message)
    return corpus.removeprefix(AT_GATEWAY)


@app.command()
@asks_gateway
def corpora(connect: Connect, as_json: Json = False) -> None:
    """List your corpora at the gateway, by its word: names, sizes, times. It cannot read them."""
    with connect() as client:
        found = client.corpora.list()
    rows = [
        {
            "corpus": f"{AT_GATEWAY}{one.name}",
            "shards": one.shards,
            "bytes": one.size,
            "changed": one.changed if as_json else when(one.changed),
        }
        for one in found
    ]
    show(rows, as_json=as_json, empty="No corpora.")


@app.command()
@asks_gateway
def delete(connect: Connect, corpus: CorpusName) -> None:
    """Delete a corpus at the gateway, for every machine, and what this machine has of it."""
    with connect() as client:
        client.corpora.delete(name_of(corpus))
    note(f"{corpus} is deleted at the gateway, and its cache here")


@app.command("put-back")
@asks_gateway
def put_back(
    connect: Connect, corpus: CorpusName, passphrase: CorpusPassphrase = None, embedder: EmbedderFolder = None
) -> None:
    """Put what this machine has of a corpus in place of what the gateway has, where that is older, or gone.

    For a gateway that was restored from a backup: do it on the machine that has the newest state.
    """
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415

    model = None if embedder is None else Embedder.open(embedder)
    with (
        connect() as client,
        client.corpus(name_of(corpus), passphrase=passphrase, embedder=model, offline=True) as opened,
    ):
        generation = opened.put_back()
    note(f"{corpus} is what this machine had, as generation {generation}")


@app.command()
@asks_gateway
def forget(connect: Connect, corpus: CorpusName) -> None:
    """Delete what this machine has of a corpus at the gateway, and what it has seen of it; the gateway keeps its own.

    After that whatever the gateway shows is taken, as by a machine that opens the corpus for the first time.
    """
    with connect() as client:
        client.corpora.forget(name_of(corpus))
    note(f"this machine knows nothing of {corpus} any more")

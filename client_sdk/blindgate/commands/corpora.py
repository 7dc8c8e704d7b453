"""`blindgate rag corpora|delete|put-back|forget`, and how the commands of `rag` are told which corpus, and open it.

A corpus is a folder, or `gateway:NAME`: one of one's own that rests there, sealed, or, to be searched, one that somebody hosts.
"""

import contextlib
import os
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from blindgate.commands.options import Connect, Json, asks_gateway, path
from blindgate.output import note, show, when
from blindgate_protocol.errors import InputError

if TYPE_CHECKING:
    from blindgate.attested_corpus import AttestedCorpus
    from blindgate.hosted_corpus import EncryptedCorpus
    from blindgate_rag.corpus import Corpus
    from blindgate_rag.embedding import Embedder
    from blindgate_rag.searchable import Searchable

app = typer.Typer()

_MOST_SHOWN: Final = 500
AT_GATEWAY: Final = "gateway:"
"""What the name of a corpus at the gateway begins with."""

CorpusPath: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="The corpus: a folder, such as notes.bgc, or gateway:NAME for one that rests, sealed, at the gateway.",
    ),
]
SearchedPath: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="The corpus: a folder, such as notes.bgc, or gateway:NAME for one of yours that rests there, or that somebody hosts.",
    ),
]
SearchedBy: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--searched-by",
        metavar="MODEL",
        help="Search your corpus at the gateway in a node that proved what it is, by this model of lane tee; nothing is fetched.",
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
Offline: TypeAlias = Annotated[
    bool, typer.Option("--offline", help="Ask no gateway: what this machine has of a corpus that rests there.")
]
AtLeast: TypeAlias = Annotated[
    int,
    typer.Option(
        "--at-least",
        metavar="GENERATION",
        min=0,
        help="On a machine that is new to a corpus at the gateway: take no older state than another one has seen, by its "
        "'blindgate rag corpora'.",
    ),
]
EmbedderFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--embedder", help="A folder with a sentence-transformers model; MiniLM by default.", parser=path),
]


@contextlib.contextmanager
def opened(
    connect: Connect, corpus: str, passphrase: str | None, embedder: Path | None, **given: Any
) -> "Iterator[Corpus]":
    """One's own corpus, in a folder or at the gateway. `given` are options of `Corpus.open`."""
    from blindgate_rag.corpus_keys import own_passphrase_file  # noqa: PLC0415  (help must not wait)
    from blindgate_rag.paths import path_of  # noqa: PLC0415

    given = {"passphrase": passphrase, "embedder": embedder_in(embedder), "create": False} | given
    if not corpus.startswith(AT_GATEWAY):
        if corpus.lower().startswith(AT_GATEWAY):  # which would make a folder of that name here, and tell nobody
            message = f"{corpus}: expected gateway:NAME, in small letters, for a corpus at the gateway"
            raise InputError(message)
        _refuse_for_folder(corpus, "at_least" in given and "--at-least", "offline" in given and "--offline")
        with _telling(own_passphrase_file(path_of(corpus, "the path of the corpus"))):
            taken = opened_folder(corpus, **given)
        with taken:
            yield taken
        return
    name = name_of(corpus)
    with connect() as client:
        with _telling(client.corpora.passphrase_file(name)):
            synced = client.corpus(name, profile="sealed-sync", **given)
        with synced:
            yield synced


@contextlib.contextmanager
def _telling(own_passphrase: Path) -> Iterator[None]:
    """Say so where a corpus is made meanwhile without a passphrase: what opens it lies in a file that nobody asked for by name."""
    was_there = os.path.exists(own_passphrase)  # noqa: PTH110  (where there can be no such name, it is not there)
    try:
        yield
    finally:
        if not was_there and os.path.exists(own_passphrase):  # noqa: PTH110
            note(
                f"no passphrase was given: a random one lies in {own_passphrase}. Whoever has it and the corpus can read all; keep "
                "it where backups of the corpus do not go"
            )


def opened_folder(path: str | Path, passphrase: str | None, embedder: "Embedder | None", **given: Any) -> "Corpus":
    """The corpus in a folder. `given` are options of `Corpus.open`."""
    from blindgate_rag.corpus import Corpus  # noqa: PLC0415  (help must not wait for torch)

    return Corpus.open(path, passphrase, embedder=embedder, **given)


@contextlib.contextmanager
def searched(
    connect: Connect,
    corpus: str,
    passphrase: str | None,
    embedder: Path | None,
    *,
    searched_by: str | None,
    data_class: str | None,
    at_least: int = 0,
    offline: bool = False,
) -> "Iterator[Corpus | AttestedCorpus | EncryptedCorpus]":
    """A corpus, to be searched only: also one's own in a node that proved what it is, or one that somebody hosts."""
    if not corpus.startswith(AT_GATEWAY):
        _refuse_for_folder(
            corpus, searched_by and "--searched-by", at_least > 0 and "--at-least", offline and "--offline"
        )
        with opened(connect, corpus, passphrase, embedder) as folder:
            yield folder
        return
    recent: dict[str, Any] = {"at_least": at_least} if at_least else {}
    if offline and searched_by is None:
        with opened(connect, corpus, passphrase, embedder, offline=True, **recent) as cached:
            yield cached
        return
    from blindgate.remote_corpora import profile_of  # noqa: PLC0415

    name = name_of(corpus)
    with connect() as client:
        own = recent if passphrase is None else recent | {"passphrase": passphrase}
        if searched_by is not None:
            taken: Corpus | AttestedCorpus | EncryptedCorpus = client.corpus(
                name, model=searched_by, data_class=data_class, **own
            )
        elif profile_of(name, client.corpora) == "encrypted-query":  # a passphrase may be there for another one
            taken = client.corpus(
                name, profile="encrypted-query", embedder=embedder_in(embedder), data_class=data_class, **recent
            )
        else:
            taken = client.corpus(name, profile="sealed-sync", embedder=embedder_in(embedder), create=False, **own)
        with contextlib.closing(taken):
            yield taken


def _refuse_for_folder(corpus: str, *options: str | bool | None) -> None:
    for option in filter(None, options):
        message = f"{option}: {corpus} is a folder of this machine; it goes with gateway:NAME"
        raise InputError(message)


def embedder_in(folder: Path | None) -> "Embedder | None":
    """The embedding model in a folder; `None` for the usual one."""
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415

    return None if folder is None else Embedder.open(folder)


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
    """List your corpora at the gateway, by its word: names, sizes, times. It cannot read them.

    `seen` is the newest generation that this machine has seen: tell another one with the passphrase, for its --at-least.
    """
    with connect() as client:
        found = client.corpora.list()
        seen = {one.name: client.corpora.generation(one.name) for one in found}
    rows = [
        {
            "corpus": f"{AT_GATEWAY}{one.name}",
            "shards": one.shards,
            "bytes": one.size,
            "changed": one.changed if as_json else when(one.changed),
            "seen": seen[one.name],
        }
        for one in found
    ]
    show(rows, as_json=as_json, empty="No corpora.")


def unknown_names(corpus: "Searchable", names: Iterable[str]) -> str:
    """What to say behind "nothing" where no document has metadata under one of these names: one is misspelt more often than not."""
    from blindgate_rag.corpus import Corpus  # noqa: PLC0415  (help must not wait)

    if not isinstance(corpus, Corpus):
        return ""
    known = {name for one in corpus.documents() for name in one.metadata}
    strange = [name for name in names if name not in known]
    if not (known and strange):
        return ""
    there = textwrap.shorten(", ".join(sorted(known)), _MOST_SHOWN, placeholder=" …")
    return f": no document's metadata has {strange[0]!r:.100}; there is {there}"


@app.command()
@asks_gateway
def delete(
    connect: Connect, corpus: CorpusName, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a corpus at the gateway, for every machine, and what this machine has of it."""
    name = name_of(corpus)
    with connect() as client:
        if not yes:
            typer.confirm(f"Delete {corpus} at the gateway, for every machine, and its cache here?", abort=True)
        is_gone = client.corpora.delete(name)
    here = (
        "and its cache here"
        if is_gone
        else "and this machine keeps what it has under this name, which may be another corpus"
    )
    note(f"{corpus} is deleted at the gateway, {here}")


@app.command("put-back")
@asks_gateway
def put_back(
    connect: Connect, corpus: CorpusName, passphrase: CorpusPassphrase = None, embedder: EmbedderFolder = None
) -> None:
    """Put what this machine has of a corpus in place of what the gateway has, where that is older, or gone.

    For a gateway that was restored from a backup: do it on the machine that has the newest state.
    """
    given: dict[str, Any] = {"passphrase": passphrase, "embedder": embedder_in(embedder)}
    with connect() as client, client.corpus(name_of(corpus), profile="sealed-sync", offline=True, **given) as kept:
        generation = kept.put_back()
    note(f"{corpus} is what this machine had, as generation {generation}")


@app.command()
@asks_gateway
def forget(connect: Connect, corpus: CorpusName) -> None:
    """Delete what this machine has of a corpus at the gateway, and what it has seen of it; the gateway keeps its own.

    After that whatever the gateway shows is taken, as by a machine that opens the corpus for the first time. A passphrase that was
    made for it stays.
    """
    with connect() as client:
        passphrase = client.corpora.forget(name_of(corpus))
    note(
        f"this machine has nothing of {corpus} any more" + (f", but its passphrase: {passphrase}" if passphrase else "")
    )

"""Which corpus a command means, and how it is opened: a folder of this machine, or a name at the gateway."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from blindgate.client import Client

if TYPE_CHECKING:
    from blindgate.hosted_corpus import EncryptedCorpus
    from blindgate_rag.corpus import Corpus

CorpusPath: TypeAlias = Annotated[
    Path, typer.Argument(metavar="CORPUS", help="The corpus: a folder, such as notes.bgc.")
]
CorpusPlace: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="CORPUS", help="The corpus: a folder, such as notes.bgc, or gateway:NAME for one that somebody hosts."
    ),
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

_REMOTE: Final = "gateway:"


def remote_name(corpus: Path) -> str | None:
    """The name of a corpus at the gateway; `None` for a folder."""
    given = str(corpus)
    return given.removeprefix(_REMOTE) if given.startswith(_REMOTE) else None


@contextlib.contextmanager
def opened(
    path: Path, passphrase: str | None, embedder: Path | None, *, create: bool = False, ranking: Any = None
) -> "Iterator[Corpus]":
    """The corpus in a folder."""
    from blindgate_rag.corpus import Corpus  # noqa: PLC0415  (help must not wait for torch)
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415

    model = None if embedder is None else Embedder.open(embedder)
    with Corpus.open(path, passphrase, embedder=model, create=create, ranking=ranking) as corpus:
        yield corpus


@contextlib.contextmanager
def remote_corpus(
    client: Client, name: str, embedder: Path | None, *, data_class: str | None = None, timeout: float | None = None
) -> "Iterator[EncryptedCorpus]":
    """The corpus that a gateway calls `name`."""
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415

    model = None if embedder is None else Embedder.open(embedder)
    with client.corpus(name, embedder=model, data_class=data_class, timeout=timeout) as corpus:
        yield corpus

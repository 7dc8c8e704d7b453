"""`blindgate rag host notes.bgc OUT --name pubmed --queries-per-tenant 100`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from blindgate.commands.corpora import CorpusPassphrase, EmbedderFolder, embedder_in, opened_folder
from blindgate.commands.options import Home, Json, ValidityDays, path
from blindgate.commands.publisher import key_store, publisher_key
from blindgate.output import note, show_one
from blindgate.progress import working
from blindgate_models.search.hosted import MAX_FETCHES
from blindgate_models.validity import DAY, DEFAULT_VALIDITY_DAYS


def host(
    corpus: Annotated[
        Path, typer.Argument(metavar="CORPUS", help="The corpus: a folder, such as notes.bgc.", parser=path)
    ],
    folder: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Where to write both packages; made where it is not there.", parser=path),
    ],
    *,
    name: Annotated[str, typer.Option(help="What askers will call it.")],
    queries_per_tenant: Annotated[
        int | None,
        typer.Option(min=1, help="How many searches a tenant may make in all; only with --public it may be left out."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Askers may know all of it: smaller and faster, and replies hide nothing.")
    ] = False,
    fetches: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_FETCHES, help="How many passages every search fetches, and so the most that it gives."
        ),
    ] = 8,
    filter_by: Annotated[
        list[str] | None,
        typer.Option(
            "--filter-by",
            metavar="FIELD",
            help="A field of metadata that searches may filter by; again for another. Every asker reads it of all passages.",
        ),
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Above every one that was published under this name.")] = 1,
    summary: Annotated[str, typer.Option(help="A sentence for the people who will use it.")] = "",
    days: ValidityDays = DEFAULT_VALIDITY_DAYS,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    key_passphrase: Annotated[
        str | None,
        typer.Option("--key-passphrase", envvar="BLINDGATE_PASSPHRASE", help="What the key store is sealed with."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a corpus into two signed packages, so that others can search it without telling anybody what for.

    Nodes hold its vectors and passages in clear; so choose nodes that may read it. Askers get exact scores and the passages that
    they find, as many as their budget lets them. Signed with your publisher key: see 'blindgate publisher key'. Nothing is sent.
    """
    from blindgate.hosting import host as make  # noqa: PLC0415  (help must not wait)

    if folder.exists() and not folder.is_dir():  # before minutes of compiling
        message = f"{folder}: is a file, expected a folder"
        raise typer.BadParameter(message, param_hint="OUT")
    now = int(time.time() * 1000)
    with (
        opened_folder(corpus, passphrase, embedder_in(embedder), create=False) as taken,
        working(f"compiling {name}", show=None),
    ):
        made = make(
            taken,
            publisher_key(key_store(home, key_passphrase)),
            name=name,
            version=version,
            summary=summary,
            issued=now,
            expires=now + days * DAY,
            queries_per_tenant=queries_per_tenant,
            fetches=fetches,
            public=public,
            filter_by=filter_by or (),
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / f"{name}-passages.bgmodel", folder / f"{name}.bgmodel"
    for file, package in zip(files, (made.passages, made.index), strict=True):
        file.write_bytes(package)
    shown: dict[str, Any] = {
        "packages": [str(file) for file in files],
        "passages": made.table.client["records"],
        "record_bytes": made.table.client["size"],
        "model": made.search.privacy.mode,
        "searches_a_tenant": queries_per_tenant,
        "filter_by": list(made.filter_by),
        "upload_bytes_a_search": made.bytes_up,
        "download_bytes_a_search": made.bytes_down,
        "expected_seconds_a_search": made.seconds,
    }
    show_one(shown, as_json=as_json)
    if not as_json:
        if made.filter_by:
            note(f"of every passage, everybody who may ask reads the {', '.join(made.filter_by)}")
        note(f"publish the passages first: blindgate models publish {files[0]} && blindgate models publish {files[1]}")

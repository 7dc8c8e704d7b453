"""The log's pages: its events, the latest first, and each entry with what proves it."""

from typing import Final

from flask import Response, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from blindgate_gateway.console.entries import Checker, Entry, entry_from, names_in
from blindgate_gateway.console.filters import filter_of, index_of
from blindgate_gateway.console.pages import auditor, console, parts, render, wants_part
from blindgate_gateway.log.reading import latest_of
from blindgate_gateway.log.rooms import note_reading
from blindgate_gateway.problems import not_found
from blindgate_protocol.events import Action

PAGE: Final = 50


@console.get("/log")
def list_events() -> Response:
    """Events, the latest first."""
    here = parts()
    chosen, before = filter_of(here.database), index_of("before")
    note_reading(here, auditor(), "events")
    size = here.log.sequencer.head().size
    start = size if before is None else min(before, size)
    found = latest_of(here.database, before=start, most=PAGE + 1, **chosen.wanted)
    entries = [entry_from(one) for one in found[:PAGE]]
    return render(
        "log.html",
        entries=entries,
        names=names_in(here.database, entries),
        filter=chosen,
        actions=list(Action),
        size=size,
        is_latest=before is None,
        older=entries[-1].index if len(found) > PAGE else None,
    )


@console.get("/log/<int:index>")
def show_entry(index: int) -> Response:
    """One entry, with the check of it."""
    here = parts()
    note_reading(here, auditor(), "events")
    entry, checker = _find(index)
    return render("entry.html", entry=entry, check=checker.check(entry), names=names_in(here.database, [entry]))


@console.get("/log/<int:index>/check")
def check_entry(index: int) -> AnyResponse:
    """Check an entry anew: the part of a page that says what came out."""
    if not wants_part():
        return redirect(url_for("console.show_entry", index=index, _anchor="check"))
    entry, checker = _find(index)
    return render("check.html", check=checker.check(entry))


@console.get("/log/<int:index>/proof")
def download_proof(index: int) -> Response:
    """The proof that an entry is in the log, as a file: C2SP's tlog-proof."""
    entry, checker = _find(index)
    proof = checker.check(entry).proof
    if proof is None:
        raise not_found("proof")
    note_reading(parts(), auditor(), f"proof of entry {index}", exported=True)
    return download(proof.to_bytes(), "text/plain", f"entry-{index}.tlog-proof")


def download(data: bytes, media: str, name: str) -> Response:
    """A file to keep."""
    return Response(data, mimetype=media, headers={"Content-Disposition": f'attachment; filename="blindgate-{name}"'})


def checker_now() -> Checker:
    """Holds entries against the log as it is: the latest checkpoint, with what witnesses added to it."""
    here = parts()
    return Checker(here.database, here.log.sequencer.head(), here.log.checkpoint())


def _find(index: int) -> tuple[Entry, Checker]:
    checker = checker_now()
    found = latest_of(parts().database, before=index + 1, most=1) if index < checker.head.size else ()
    if not found or found[0].index != index:
        raise not_found(f"entry: the log has {checker.head.size:,}")
    return entry_from(found[0]), checker

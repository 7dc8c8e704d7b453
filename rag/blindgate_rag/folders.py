"""Which files under a folder are documents, and what a corpus calls each."""

import os
from collections.abc import Iterator
from pathlib import Path

from blindgate_protocol.errors import CorpusError
from blindgate_rag.formats.media import media_of
from blindgate_rag.passages import is_text

_HIDDEN = (".", "~$")  # the second is a note of Word's beside a document that somebody has open


def files_under(
    path: Path, *, skipped: list[Path] | None = None, unread: dict[Path, tuple[str, str]] | None = None
) -> Iterator[tuple[Path, str]]:
    """The documents under a folder, or the one file, each with what a corpus calls it: its path below `path`, with `/` between.

    Hidden files and folders, links that lead out of the folder, links to folders, and files whose names are no document's are
    left out. A folder in it that cannot be read costs what is in it, and nothing else; so does one whose name is no text.

    Args:
        path: a folder or a file.
        skipped: where to put what was left out, a folder once for all that is in it.
        unread: where to put what could not be looked into: what a corpus calls it, and why.

    Raises:
        CorpusError: there is no such file or folder, it may not be read, or the path to it is no text.
    """
    left_out = [] if skipped is None else skipped
    failed = {} if unread is None else unread
    root = _root(path)
    if path.is_file():
        if media_of(path) is None:
            left_out.append(path)
        else:
            yield path, path.name
        return
    try:
        waiting = _inside(path, "")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    while waiting:  # folders may lie in each other deeper than functions may
        entry, source = waiting.pop()
        try:
            if entry.name.startswith(_HIDDEN):
                left_out.append(entry)
                continue
            is_folder = entry.is_dir() and not entry.is_symlink()
            if not is_text(entry.name) and (is_folder or media_of(entry) is not None):
                failed[entry] = _shown(Path(source)), "its name is not UTF-8: rename it"
                continue
            if is_folder:
                waiting += _inside(entry, source + "/")
                continue
            is_document = media_of(entry) is not None and entry.is_file() and entry.resolve().is_relative_to(root)
        except OSError as error:
            failed[entry] = source, f"cannot be read ({error.strerror})"
            continue
        if is_document:
            yield entry, source
        else:
            left_out.append(entry)


def _root(path: Path) -> Path:
    """Where it lies, links followed: its documents are known again by that. Linux allows any bytes in it, a corpus text alone."""
    try:
        there, found = path.is_file() or path.is_dir(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, links in a circle, NUL, rights
        raise CorpusError(f"{_shown(path)}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not there:
        other = os.path.exists(path)  # noqa: PTH110  (a pipe, a device)
        raise CorpusError(
            f"{_shown(path)}: {'is neither a file nor a' if other else 'there is no such file or'} folder"
        )
    if not is_text(str(found)):
        raise CorpusError(f"{_shown(found)}: this path is not UTF-8: rename what is not, or move what it leads to")
    return found


def _shown(path: Path) -> str:
    return str(path) if is_text(str(path)) else ascii(str(path))[1:-1]


def _inside(folder: Path, prefix: str) -> list[tuple[Path, str]]:
    """What is in a folder, the last by name first."""
    return [(entry, prefix + entry.name) for entry in sorted(folder.iterdir(), reverse=True)]

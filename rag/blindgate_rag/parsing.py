"""The process that documents are parsed in. `loading` starts it, and believes nothing that it says.

It imports the parsers, gives up whatever parsing does not need, and says that it is ready. Then it forks once for each file: what
a file did to its parser's memory is gone with it. Forking is sound here: this process has one thread.

1. It has no network: a namespace without interfaces, where the kernel allows one to a process without rights.
2. It can open nothing: not a file, not a socket. Standard input, output and error are all the descriptors that it may have.
3. It can write to no file, gain no rights by executing something, and leave no core with a document's text in it.
4. Its memory is bounded, and so is each fork's processor time.

A file comes as `REQUEST` and its bytes, with `media` by number; what it says goes back as `LENGTH` and that many bytes of JSON:
`{"pages": [[number or null, text], …], "missing": [number, …]}`, or `{"error": why}`. Once a fork has failed to answer, this
process ends as the fork did.
"""

import ctypes
import json
import os
import pkgutil
import resource
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TypeAlias

from blindgate_protocol.errors import MalformedError
from blindgate_rag.cleaning import cleaned
from blindgate_rag.formats.media import MissingPage, require_magic
from blindgate_rag.passages import Page

READY = b"R"
# The format's place in `FORMATS`, bytes of the file, bytes of its text in UTF-8 at most, seconds of processor time.
REQUEST = struct.Struct(">BQQI")
LENGTH = struct.Struct(">Q")
FORMATS = ("csv", "docx", "html", "md", "pdf", "txt")
MAX_PAGES = 200_000
SIGNAL_BASE = 128

_MODULES = {"csv": "csv", "docx": "docx", "html": "html", "md": "text", "pdf": "pdf", "txt": "text"}
_TEXTS = ("csv", "html", "md", "txt")  # which formats do not always say how they are encoded
_DESCRIPTORS = 3
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_NO_NEW_PRIVS = 38
_READ_BYTES = 1 << 20

_Parse: TypeAlias = Callable[[bytes], Iterator[Page | MissingPage]]


def main() -> None:
    """Parse what standard input brings until it ends. Arguments: bytes of address space; texts' encoding, or ""."""
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr  # standard output is for answers
    parsers = _imported(sys.argv[2] or None)
    confine(int(sys.argv[1]))
    os.write(1, READY)
    while head := os.read(0, REQUEST.size):
        child = os.fork()
        if child == 0:
            _answer_and_leave(head, parsers)
        _, status = os.waitpid(child, 0)
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code > 0 else SIGNAL_BASE - code)


def confine(memory: int) -> None:
    """Give up, for good, whatever parsing does not need; see above. `memory` is bytes of address space."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    # Not every kernel allows it; without it there still is no descriptor to hold a socket.
    libc.unshare(ctypes.c_int(_CLONE_NEWUSER | _CLONE_NEWNET))
    for kind, wanted in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        _, hard = resource.getrlimit(kind)
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (bound, bound))


def text_of(parse: _Parse, data: bytes, most: int) -> dict[str, object]:
    """What `parse` finds in `data`: pages with text and numbers of missing pages.

    Args:
        parse: one format's `pages`.
        data: a file's bytes.
        most: bytes of text, in UTF-8.

    Raises:
        MalformedError: says what is wrong with the file.
    """
    found: list[tuple[int | None, str]] = []
    missing: list[int] = []
    length, numbered = 0, False
    for page in parse(data):
        numbered |= page.number is not None
        if isinstance(page, MissingPage):
            missing.append(page.number)
        elif text := cleaned(page.text):
            length += len(text.encode())
            found.append((page.number, text))
        if length > most:
            raise MalformedError(f"it has more than {most / (1 << 20):.4g} MiB of text: divide it")
        if len(found) + len(missing) > MAX_PAGES:
            raise MalformedError(f"it has more than {MAX_PAGES} pages: divide it")
    if not found and missing:
        raise MalformedError(f"none of its {len(missing)} pages can be read")
    if not found:
        scanned = "; pages that were scanned need text recognition (OCR) first" if numbered else ""
        raise MalformedError(f"there is no text in it{scanned}")
    return {"pages": found, "missing": missing}


def _imported(otherwise: str | None) -> dict[str, _Parse]:
    # Once confined, nothing can be imported: whatever the parsers would import late is imported now.
    parsers = {media: import_module(f"blindgate_rag.formats.{name}").pages for media, name in _MODULES.items()}
    for media in _TEXTS:
        parsers[media] = partial(parsers[media], otherwise=otherwise)
    for package in ("encodings", "pypdf"):
        for module in pkgutil.walk_packages(import_module(package).__path__, package + "."):
            with suppress(ImportError):  # of another system, or of an extra that is not installed
                import_module(module.name)
    return parsers


def _answer_and_leave(head: bytes, parsers: dict[str, _Parse]) -> None:
    status = 1
    try:
        head += _read(REQUEST.size - len(head))
        media, size, most, seconds = REQUEST.unpack(head)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        body = json.dumps(_answer(parsers, FORMATS[media], _read(size), most), ensure_ascii=False).encode()
        _write(LENGTH.pack(len(body)) + body)
        status = 0
    finally:
        os._exit(status)


def _answer(parsers: dict[str, _Parse], media: str, data: bytes, most: int) -> dict[str, object]:
    try:
        require_magic(media, data)
        return text_of(parsers[media], data, most)
    except MalformedError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "parsing it needs more memory than a parser may use"}
    except RecursionError:
        return {"error": "its parts are nested too deeply"}


def _read(size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(0, min(size - len(data), _READ_BYTES))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]

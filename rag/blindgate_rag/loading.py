"""Files to documents.

A document may be written by somebody hostile, and parsers of what people write are large. So a file is parsed in a process of its
own, `parsing`, that can open nothing and whose memory and time are bounded; a file that crashes it, hangs it or bursts it costs
its own text and nothing else. This process reads the bytes, and hands them over; what comes back is as hostile as the file was,
and is checked: its length, then its shape, then every character.

A document's text is whatever the parser said. A file that took its parser over says what it likes about itself, as any file may.
"""

import json
import math
import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import DocumentError, InputError
from blindgate_rag import pipes
from blindgate_rag.formats.media import MEDIA, media_of
from blindgate_rag.parsing import FORMATS, LENGTH, MAX_PAGES, READY, REQUEST, SIGNAL_BASE
from blindgate_rag.passages import Document, Page

_LAUNCH = "from blindgate_rag.parsing import main; main()"
_ENVIRONMENT = {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
# Whose fork ran out of processor time, or was killed, as the machine does when its memory runs out.
_OUT_OF_TIME = frozenset({SIGNAL_BASE + signal.SIGXCPU, SIGNAL_BASE + signal.SIGKILL})
_START_SECONDS = 60.0
_CPU_GRACE_SECONDS = 1
_MAX_ERROR_CHARACTERS = 500
_PAGE_OVERHEAD_BYTES = 64


class Loader:
    """Reads documents, one after another, in a process that may do nothing else. Used in a `with` statement, by one thread.

    Args:
        seconds: that one file may take, of time and of the processor's.
        memory: bytes of address space of the parser.
        file_bytes: of the largest file.
        text_bytes: of the longest text, in UTF-8.
        encoding: of texts, tables and pages that are not UTF-8 and do not say what they are; an error without one.

    Raises `InputError` for an encoding that Python does not know.
    """

    def __init__(
        self,
        *,
        seconds: float = 60.0,
        memory: int = 1 << 30,
        file_bytes: int = 256 << 20,
        text_bytes: int = 64 << 20,
        encoding: str | None = None,
    ) -> None:
        if encoding is not None and not _is_encoding(encoding):
            message = f"encoding: {encoding!a:.100} is none that is known; expected a name such as cp1252"
            raise InputError(message)
        self._encoding = encoding
        self._seconds = seconds
        self._memory = memory
        self._file_bytes = file_bytes
        self._text_bytes = text_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the parser's process, if there is one. A later `load` starts another."""
        process, self._process = self._process, None
        if process is not None:
            pipes.end(process)

    def load(self, path: Path, source: str) -> Document:
        """The text of one file.

        Args:
            path: of the file.
            source: what the corpus calls it.

        Raises:
            DocumentError: names `source`, and what is wrong with it. Other files can still be loaded.
        """
        media = media_of(path)
        if media is None:
            raise DocumentError(f"no document by its name; documents end in {', '.join(MEDIA)}", source=source)
        data = _contents(path, source, self._file_bytes)
        answer = self._parsed(media, data, source)
        if isinstance(error := answer.get("error"), str):
            shown = "".join(character if character.isprintable() else "?" for character in error)
            raise DocumentError(shown[:_MAX_ERROR_CHARACTERS], source=source)
        try:
            pages, missing = _checked(answer, self._text_bytes)
        except (ValueError, TypeError):
            self.close()
            raise _crashed("gave back no document", source) from None
        return Document(source, digest(data), media, pages, missing)

    def digest_of(self, path: Path, source: str) -> str:
        """The digest that `load` would give the document. Raises `DocumentError` as it does."""
        return digest(_contents(path, source, self._file_bytes))

    def _parsed(self, media: str, data: bytes, source: str) -> dict[str, Any]:
        process = self._started(source)
        deadline = time.monotonic() + self._seconds
        request = REQUEST.pack(
            FORMATS.index(media), len(data), self._text_bytes, math.ceil(self._seconds) + _CPU_GRACE_SECONDS
        )
        try:
            pipes.send(process, (request, data), deadline)
            # Each character of the text is at most doubled by JSON's escapes.
            most = 2 * self._text_bytes + MAX_PAGES * _PAGE_OVERHEAD_BYTES
            answer = json.loads(
                pipes.receive(process, _length(pipes.receive(process, LENGTH.size, deadline), most), deadline)
            )
        except TimeoutError:
            self.close()
            raise DocumentError(
                f"parsing it takes more than {self._seconds:g} seconds: divide it, or allow more", source=source
            ) from None
        except (EOFError, OSError):
            raise self._ended(source) from None
        except (ValueError, RecursionError):
            self.close()
            raise _crashed("gave back no document", source) from None
        except BaseException:
            self.close()  # an answer may be half read: interrupted, this process would take it for the next file's
            raise
        if not isinstance(answer, dict):
            self.close()
            raise _crashed("gave back no document", source)
        return answer

    def _started(self, source: str) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        self._process = pipes.start(_LAUNCH, str(self._memory), self._encoding or "", environment=_ENVIRONMENT)
        try:
            started = pipes.receive(self._process, len(READY), time.monotonic() + _START_SECONDS) == READY
        except (EOFError, OSError):
            started = False
        except BaseException:
            self.close()
            raise
        if not started:
            self.close()
            raise DocumentError(
                "the process that parses documents does not start: is blindgate[rag] installed, and is there memory for it?",
                source=source,
            )
        return self._process

    def _ended(self, source: str) -> DocumentError:
        """The process has let go of its pipes. Says why, as far as its exit status tells."""
        process = self._process
        self.close()  # one that has ended keeps its status
        code = None if process is None else process.returncode
        if code in _OUT_OF_TIME:
            return DocumentError(
                f"parsing it takes more than {self._seconds:g} seconds or too much memory: divide it", source=source
            )
        return _crashed("crashed on it", source)


def _contents(path: Path, source: str, most: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            held = os.fstat(descriptor)
            if not stat.S_ISREG(held.st_mode):
                raise DocumentError("not a regular file", source=source)
            data = file.read(most + 1) if held.st_size <= most else None
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror})", source=source) from None
    if data is None or len(data) > most:
        raise DocumentError(f"larger than {most / (1 << 20):.4g} MiB: divide it", source=source)
    return data


def _checked(answer: dict[str, Any], most: int) -> tuple[tuple[Page, ...], tuple[int, ...]]:
    """What the parser says, if it is what `parsing` promises. Raises `ValueError` or `TypeError`."""
    if set(answer) != {"pages", "missing"} or not 0 < len(answer["pages"]) + len(answer["missing"]) <= MAX_PAGES:
        raise ValueError
    length = 0
    pages = []
    for number, text in answer["pages"]:
        if not isinstance(text, str) or not text or not (number is None or _is_number(number)):
            raise ValueError
        length += len(text.encode())  # refuses halves of characters
        pages.append(Page(text, number))
        if any(character not in "\t\n" for character in filter(_is_control, set(text))):
            raise ValueError
    if not pages or length > most or not all(map(_is_number, answer["missing"])):
        raise ValueError
    return tuple(pages), tuple(answer["missing"])


def _is_encoding(name: str) -> bool:
    try:
        b"".decode(name)
        return "a".encode(name).decode(name) == "a"  # knows no codec that is none of texts
    except (LookupError, UnicodeError, ValueError, TypeError):
        return False


def _is_number(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character < "\xa0"


def _crashed(how: str, source: str) -> DocumentError:
    return DocumentError(f"the process that parses documents {how}: the file is damaged, or hostile", source=source)


def _length(data: bytes, most: int) -> int:
    (length,) = LENGTH.unpack(data)
    if length > most:
        raise ValueError
    return int(length)

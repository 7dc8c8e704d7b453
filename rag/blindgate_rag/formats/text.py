"""Plain text and Markdown: characters as they stand, front matter too.

The encoding is UTF-8, or what a byte order mark says; for files that are neither, what whoever adds them says. Nothing is guessed:
bytes that do not decode are an error that says where, since a wrong guess is not seen before an answer quotes it.
"""

import codecs
from collections.abc import Iterator

from blindgate_protocol.errors import MalformedError
from blindgate_rag.passages import Page

# UTF-32's mark, little-endian, begins with UTF-16's: the longer ones come first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


_ADVICE = "convert the file to UTF-8, with iconv for one, or say which encoding it has"


def pages(data: bytes, otherwise: str | None = None) -> Iterator[Page]:
    """The whole text as one page without a number. `otherwise` as below. Raises `MalformedError`."""
    yield Page(decoded(data, otherwise=otherwise))


def decoded(data: bytes, declared: str | None = None, otherwise: str | None = None) -> str:
    """`data` as text: by its byte order mark, else as `declared`, else as UTF-8, else as `otherwise`.

    Args:
        data: the file's bytes.
        declared: the name of an encoding that the file itself states, as HTML's may.
        otherwise: the name of the encoding that files have where the others do not hold.

    Raises:
        MalformedError: not text in that encoding: names the byte at fault, from 0.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _text(data, name, len(mark))
    try:
        return _text(data, declared or "utf-8")
    except MalformedError:
        if otherwise is None:
            raise
        return _text(data, otherwise)


def _text(data: bytes, encoding: str, start: int = 0) -> str:
    try:
        text = data[start:].decode(encoding)
    except LookupError:
        raise MalformedError("it declares an encoding that is not known: convert it to UTF-8") from None
    except UnicodeDecodeError as error:
        at = start + error.start
        raise MalformedError(f"byte {at} (0x{data[at]:02x}) is not {encoding.upper()}: {_ADVICE}") from None
    except UnicodeError:
        raise MalformedError(f"it is not {encoding.upper()}: {_ADVICE}") from None
    nul = text.find("\0")
    if nul >= 0:
        raise MalformedError(
            f"character {nul} is NUL, which no text holds: a binary file, or UTF-16 without its mark; {_ADVICE}"
        )
    return text

"""Plain text and Markdown: characters as they stand, front matter too.

The encoding is UTF-8, or what a byte order mark says. Nothing is guessed: bytes that do not decode are an error that says where,
since a wrong guess is not seen before an answer quotes it.
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


def pages(data: bytes) -> Iterator[Page]:
    """The whole text as one page without a number. Raises `MalformedError`."""
    yield Page(decoded(data))


def decoded(data: bytes, declared: str | None = None) -> str:
    """`data` as text: by its byte order mark, else as `declared`, else as UTF-8.

    Args:
        data: the file's bytes.
        declared: the name of an encoding that the file itself states, as HTML's may.

    Raises:
        MalformedError: not text in that encoding: names the byte at fault, from 0.
    """
    encoding, start = declared or "utf-8", 0
    for mark, name in _MARKS:
        if data.startswith(mark):
            encoding, start = name, len(mark)
            break
    try:
        text = data[start:].decode(encoding)
    except LookupError:
        raise MalformedError("it declares an encoding that is not known: convert it to UTF-8") from None
    except UnicodeDecodeError as error:
        at = start + error.start
        raise MalformedError(
            f"byte {at} (0x{data[at]:02x}) is not {encoding.upper()}: convert the file to UTF-8, with iconv for one"
        ) from None
    except UnicodeError:
        raise MalformedError(f"it is not {encoding.upper()}: convert the file to UTF-8, with iconv for one") from None
    nul = text.find("\0")
    if nul >= 0:
        raise MalformedError(
            f"character {nul} is NUL, which no text holds: a binary file, or UTF-16 without its mark; convert it to UTF-8"
        )
    return text

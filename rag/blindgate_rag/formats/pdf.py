"""PDF: each page's text, in the order that the page draws it, and below it what was filled into its fields.

A page that cannot be read does not cost the document its others: a `MissingPage` stands for it. Pictures are not read: a scanned
page has no text.
"""

import io
import logging
from collections.abc import Iterator

import pypdf
from pypdf.errors import DependencyError, LimitReachedError

from blindgate_protocol.errors import MalformedError
from blindgate_rag.formats import pdf_fields
from blindgate_rag.formats.lines import Words
from blindgate_rag.formats.media import MissingPage
from blindgate_rag.passages import Page


def pages(data: bytes) -> Iterator[Page | MissingPage]:
    """The pages that have text, numbered from 1, and those that cannot be read. Raises `MalformedError`."""
    # It tells of every repair; what could not be repaired is an error here.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL + 1)
    reader = _opened(data)
    try:
        count = len(reader.pages)
    except (MemoryError, RecursionError):
        raise
    except LimitReachedError:
        raise MalformedError("it has more pages than are read, or a page tree that is too deep") from None
    except Exception as error:  # noqa: BLE001  (the parser meets hostile bytes with whatever error its line happens to raise)
        raise MalformedError(f"its page tree cannot be read ({type(error).__name__})") from None
    words = Words()
    for number in range(1, count + 1):
        try:
            page = reader.pages[number - 1]
            text = page.extract_text()
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  (likewise; too deep a nesting is one page's fault too)
            yield MissingPage(number)
        else:
            yield Page("\n".join((words.whole(text), *_filled(page))), number)


def _filled(page: pypdf.PageObject) -> list[str]:
    """A damaged field costs the fields, and not the page's text."""
    try:
        return list(pdf_fields.filled(page))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (see above)
        return []


def _opened(data: bytes) -> pypdf.PdfReader:
    try:
        reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
        # Many files are encrypted under the empty password: they may be read, and the password only guards changing them.
        locked = reader.is_encrypted and not reader.decrypt("")
    except (MemoryError, RecursionError):
        raise
    except DependencyError:
        raise MalformedError("it is encrypted in a way that is not supported: save a copy without a password") from None
    except Exception as error:  # noqa: BLE001  (see above)
        raise MalformedError(f"it is damaged, or no pdf: it cannot be opened ({type(error).__name__})") from None
    if locked:
        raise MalformedError("it is encrypted under a password: save a copy without one")
    return reader

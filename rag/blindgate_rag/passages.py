"""What documents are made of, on their way from a file to an index.

A file becomes a `Document`: its text, page by page where it has pages. A document becomes passages, none longer than what the
embedding model reads. A passage is what is found, quoted and cited; so it knows which document it is from, and where it stands.
"""

from dataclasses import dataclass


def is_text(value: str) -> bool:
    """Whether a text is one. Python's may have halves of characters, from names that are no UTF-8, or JSON that was cut."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a document's text.

    Attributes:
        number: of the page, from 1; of a table the first of its rows here; `None` where a document has no such parts.
    """

    text: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document's text.

    Attributes:
        source: what the corpus calls it: its path below what was added, with `/` between.
        digest: of its file's bytes, `sha256:` and 64 hexadecimal digits.
        media: the name of its format: `pdf`, `txt`, `md`, `html`, `csv`, `docx`.
        pages: those that have text, in order.
        missing: the numbers of pages that could not be read, in order.
    """

    source: str
    digest: str
    media: str
    pages: tuple[Page, ...]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, short enough to be embedded whole.

    Attributes:
        page: where it begins (`Page.number`).
        position: which of its document's passages it is, from 0.
    """

    text: str
    source: str
    page: int | None
    position: int

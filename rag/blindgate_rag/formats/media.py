"""Which format a file is of.

The name decides, and the first bytes are held against it: a file that is not what its name says is an error that says what it is
not, rather than a guess. Files with other names are no documents.
"""

from pathlib import PurePath
from typing import NamedTuple

from blindgate_protocol.errors import MalformedError

MEDIA = {
    ".csv": "csv",
    ".docx": "docx",
    ".htm": "html",
    ".html": "html",
    ".markdown": "md",
    ".md": "md",
    ".pdf": "pdf",
    ".text": "txt",
    ".tsv": "csv",
    ".txt": "txt",
    ".xhtml": "html",
}

_PDF, _ZIP, _OLE = b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FOREIGN = ((_PDF, "a pdf"), (_ZIP, "a zip archive, as docx and xlsx are"), (_OLE, "an Office file of before 2007"))
_PDF_HEADER_WITHIN = 1024


class MissingPage(NamedTuple):
    """Stands among a document's pages for one whose text cannot be read.

    Attributes:
        number: of the page, from 1.
    """

    number: int


def media_of(path: PurePath | str) -> str | None:
    """The format that the name says, one of `MEDIA`'s values, or `None` where no document is called so."""
    return MEDIA.get(PurePath(path).suffix.lower())


def require_magic(media: str, data: bytes) -> None:
    """Hold the first bytes against the format that the name says. Raises `MalformedError`."""
    if not data:
        raise MalformedError("the file is empty")
    if media == "pdf":
        if _PDF not in data[:_PDF_HEADER_WITHIN]:
            raise MalformedError("its name says pdf, but no %PDF- stands in its first 1,024 bytes")
    elif media == "docx":
        if data.startswith(_OLE):
            raise MalformedError(
                "its name says docx, but it is an Office file of before 2007 or has a password: save it as docx, without one"
            )
        if not data.startswith(_ZIP):
            raise MalformedError("its name says docx, but it is no zip archive")
    else:
        for magic, what in _FOREIGN:
            if data.startswith(magic):
                raise MalformedError(f"its name says {media}, but it is {what}")

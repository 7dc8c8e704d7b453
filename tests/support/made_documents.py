"""Documents for tests, made byte by byte: what a parser meets is then what the test says."""

import io
import zipfile
from collections.abc import Sequence

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006"


def pdf(pages: Sequence[str], *, kids: str | None = None, contents: bytes | None = None) -> bytes:
    """A PDF with a line of text on each page.

    Args:
        pages: the lines; a page whose line is empty has no text.
        kids: the page tree's children, in PDF's words, in place of the pages.
        contents: the first page's content stream, in place of its line.
    """
    first = 4
    refs = " ".join(f"{first + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{refs if kids is None else kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, line in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET".encode() if line else b""
        if index == 0 and contents is not None:
            stream = contents
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {first + 2 * index + 1} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    return assembled_pdf(objects)


def assembled_pdf(objects: Sequence[bytes]) -> bytes:
    """A PDF of these objects, numbered from 1; the first is its catalogue."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n".encode() + body + b"\nendobj\n")
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.writelines(f"{place:010d} 00000 n \n".encode() for place in places)
    out.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())
    return out.getvalue()


def docx(body: str, *, prologue: str = "", members: dict[str, bytes] | None = None) -> bytes:
    """A Word document.

    Args:
        body: the XML within `w:body`; `w:` and `mc:` are bound.
        prologue: what stands before the root element, as a document type does.
        members: further members of the archive.
    """
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>{prologue}<w:document xmlns:w="{WORD}" xmlns:mc="{_COMPATIBILITY}">'
        f"<w:body>{body}</w:body></w:document>"
    )
    return archive({"word/document.xml": document.encode(), **(members or {})})


def archive(members: dict[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive, deflated, or packed otherwise."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed, compresslevel=9) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return out.getvalue()


def declaring(packed: bytes, **said: int) -> bytes:
    """A zip archive whose directory says something else of its last member, by `ZipInfo`'s names."""
    out = io.BytesIO(packed)
    with zipfile.ZipFile(out, "a") as zipped:
        zipped.comment = b"written anew"
        for name, value in said.items():
            setattr(zipped.filelist[-1], name, value)
    return out.getvalue()

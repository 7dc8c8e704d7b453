"""DOCX: the paragraphs and tables of a Word document, its footnotes and endnotes after them.

Headers, footers, comments, hidden text, and text that was deleted or moved away are left out. The archive's directory is checked
before anything is unpacked, and only what is read is unpacked: an archive bomb is refused by what it declares, and what it
declares bounds what comes out.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator

from lxml import etree

from blindgate_protocol.errors import MalformedError
from blindgate_rag.formats.raised import RAISED, settled
from blindgate_rag.formats.symbols import symbol
from blindgate_rag.passages import Page

_PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
_MAX_MEMBERS = 10_000
_MAX_UNPACKED = 1 << 30
_MAX_PART = 256 << 20
_MAX_RATIO, _RATIO_FROM = 200, 10 << 20  # text in XML packs 5 to 50 times; a bomb 1,000 times
_NAMESPACES = (
    "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}",
    "{http://purl.oclc.org/ooxml/wordprocessingml/main}",
)
_FORMULA = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_FORMULA_TEXT, _RAISED_PART, _NUMERATOR = f"{_FORMULA}t", f"{_FORMULA}sup", f"{_FORMULA}num"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # says again what stands before it
_BLOCKS = frozenset({"p", "tc", "tr", "tbl"})
_OFF = frozenset({"0", "false", "off"})
_ENCRYPTED = 1


def pages(data: bytes) -> Iterator[Page]:
    """The document's text, one page without a number. Raises `MalformedError`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            present = _checked(archive)
            text = "\n".join(_text(archive.read(name)) for name in _PARTS if name in present)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError, OSError):
        raise MalformedError("its zip archive is damaged") from None
    yield Page(text)


def _checked(archive: zipfile.ZipFile) -> set[str]:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise MalformedError(f"its archive has {len(members)} members; at most {_MAX_MEMBERS} are read")
    total = sum(member.file_size for member in members)
    if total > _MAX_UNPACKED:
        raise MalformedError(f"its archive unpacks to {total >> 20} MiB; at most {_MAX_UNPACKED >> 20} are read")
    for member in members:
        if member.file_size > max(_RATIO_FROM, _MAX_RATIO * member.compress_size):
            raise MalformedError(
                f"a member of its archive unpacks to more than {_MAX_RATIO} times its size: an archive bomb"
            )
        if member.filename in _PARTS:
            if member.flag_bits & _ENCRYPTED or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise MalformedError("its archive is encrypted, or packed in a way that no docx is")
            if member.file_size > _MAX_PART:
                raise MalformedError(
                    f"its text is {member.file_size >> 20} MiB of XML; at most {_MAX_PART >> 20} are read"
                )
    present = {member.filename for member in members}
    if _PARTS[0] not in present:
        raise MalformedError(f"its name says docx, but its archive has no {_PARTS[0]}")
    return present


def _text(xml: bytes) -> str:
    walk = etree.iterparse(
        io.BytesIO(xml),
        events=("start", "end"),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )
    body = _Body()
    try:
        for event, element in walk:
            if event == "start":
                if element.getparent() is None and element.getroottree().docinfo.doctype:
                    raise MalformedError("its XML has a document type, which no docx has")
                body.starts(element)
            else:
                body.ends(element)
    except etree.LxmlError as error:
        if error.error_log.filter_types(etree.ErrorTypes.ERR_NO_MEMORY):
            raise MemoryError from None
        raise MalformedError(f"its XML is damaged, or nested too deeply ({type(error).__name__})") from None
    return settled("".join(body.pieces))


class _Body:
    """What stands written, while the XML goes by: cells are parted by bars, rows by lines."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._cells = 0  # how many cells, one in another, this is in
        self._left_out = 0  # how many parts that say what stands elsewhere, one in another, this is in
        self._hidden = False
        self._raised = False

    def starts(self, element: "etree._Element") -> None:
        name = _name(element)
        if name == "tc":
            self._cells += 1
        elif name == "r":
            self._hidden = self._raised = False
        elif name == "txbxContent":
            self._write("\n")
        elif element.tag == _RAISED_PART:
            self._write(RAISED)
        elif name == "moveFrom" or element.tag == _FALLBACK:
            self._left_out += 1

    def ends(self, element: "etree._Element") -> None:
        name = _name(element)
        if name in _BLOCKS:
            self._ends_block(name, element)
        elif name == "moveFrom" or element.tag == _FALLBACK:
            self._left_out -= 1
        elif name == "vanish" and _name(element.getparent().getparent()) == "r":
            self._hidden = not _OFF.intersection(element.attrib.values())
        elif name == "vertAlign" and _name(element.getparent().getparent()) == "r":
            self._raised = "superscript" in element.attrib.values()
        elif element.tag == _NUMERATOR:
            self._write("/")
        else:
            self._write(self._said(name, element))

    def _said(self, name: str, element: "etree._Element") -> str:
        """What an element that holds no other ones stands for."""
        if name == "t" or element.tag == _FORMULA_TEXT:
            mark, self._raised = RAISED if self._raised else "", False
            return mark + (element.text or "")
        if name in {"tab", "ptab"} and _name(element.getparent()) == "r":  # elsewhere it is a tab stop
            return "\t"
        if name in {"br", "cr"}:
            return " " if self._cells else "\n"
        if name == "noBreakHyphen":
            return "-"
        if name == "sym":
            said = {str(key).rpartition("}")[2]: str(value) for key, value in element.attrib.items()}
            return symbol(said.get("font", ""), said.get("char", ""))
        return ""

    def _ends_block(self, name: str, element: "etree._Element") -> None:
        if name == "p":
            self._hidden = False
            self._write(" " if self._cells else "\n")
            element.clear()  # what was read is let go: a long document is not held twice
        elif name == "tc":
            self._cells -= 1
            self._write("| ")
        elif name == "tr":
            self._write(" " if self._cells else "\n")
            element.clear()
        elif not self._cells:  # a table
            self._write("\n")

    def _write(self, text: str) -> None:
        if text and not self._hidden and not self._left_out:
            self.pieces.append(text)


def _name(element: "etree._Element | None") -> str:
    """The name within Word's own namespace; empty for whatever stands in another."""
    tag = "" if element is None else str(element.tag)
    for namespace in _NAMESPACES:
        if tag.startswith(namespace):
            return tag[len(namespace) :]
    return ""

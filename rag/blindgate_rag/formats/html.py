"""HTML: what a reader of the page would see, its title first.

Scripts, styles, templates, comments and what is hidden are left out: text that no reader sees is where instructions to a model
are planted. That holds for what the page's own markup hides; a style sheet is not read. Of formulas in MathML the text is read,
with `/` in fractions; what they say once more in another notation is left out. The parser knows HTML's entities and no others, and
neither it nor anything here fetches what a page refers to.
"""

import re
from collections.abc import Iterator

from lxml import etree

from blindgate_protocol.errors import MalformedError
from blindgate_rag.formats.charsets import as_browsers_read
from blindgate_rag.formats.raised import RAISED, settled
from blindgate_rag.formats.text import decoded
from blindgate_rag.passages import Page

_LEFT_OUT = frozenset({"script", "style", "noscript", "template", "head", "iframe", "object", "svg"}) | {
    *("annotation", "annotation-xml", "mphantom"),  # of a formula
    *("applet", "audio", "canvas", "datalist", "noembed", "noframes", "video"),  # for programs that cannot show them
}
_FORMULA_AGAIN = "katex-mathml"  # a class of KaTeX's, which writes each formula twice and shows the other one
_WITH_RAISED = frozenset({"msup", "msubsup"})  # their last part is
_PARAGRAPHS = frozenset(
    {
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "details",
            "dialog",
            "dl",
            "fieldset",
            "figure",
            "footer",
            "form",
            "h1",
        ),
        *("h2", "h3", "h4", "h5", "h6", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "table", "ul"),
    }
)
_LINES = frozenset(
    {"caption", "dd", "div", "dt", "figcaption", "legend", "li", "option", "summary", "tbody", "thead", "tr"}
)
_CELLS = frozenset({"td", "th"})
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9_.:-]{1,40})["']""")
_DECLARED_WITHIN = 1024
# Stand for breaks until all are known; white space themselves, so that text outside of `pre` has none left.
_PARAGRAPH, _LINE = "\x1d", "\x1e"
_NO_MARKS = {ord(_PARAGRAPH): None, ord(_LINE): None, ord(RAISED): None}
_WHITE = re.compile(r"\s+")
_BREAKS = re.compile(f"[{_PARAGRAPH}{_LINE}\n ]{{2,}}|[{_PARAGRAPH}{_LINE}]")
_CELL_CHARACTERS = 300


def pages(data: bytes, otherwise: str | None = None) -> Iterator[Page]:
    """The page's text, one page without a number.

    Args:
        data: the file's bytes.
        otherwise: the encoding, where it is neither the one that the page declares nor UTF-8.

    Raises `MalformedError`.
    """
    text = decoded(data, _declared(data), otherwise)
    # Characters go in as UTF-8 and the parser is told so: what the page declares was obeyed above.
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.LxmlError as error:
        if error.error_log.filter_types(etree.ErrorTypes.ERR_NO_MEMORY):
            raise MemoryError from None
        raise MalformedError(f"it cannot be read as HTML ({type(error).__name__})") from None
    if any(entry.level == etree.ErrorLevels.FATAL for entry in parser.error_log):
        raise MalformedError("its elements are nested too deeply, or one of its parts is too long")
    if root is None:
        return
    # A page of 2,000 levels is walked without recursion.
    title = _WHITE.sub(" ", root.findtext(".//head/title") or "")
    yield Page(_tidied("".join((title, _PARAGRAPH, *_seen(root)))))


def _declared(data: bytes) -> str | None:
    start = data[:_DECLARED_WITHIN]
    found = _CHARSET.search(start) or _XML_ENCODING.search(start)
    return None if found is None else as_browsers_read(found[1].decode("ascii").lower())


def _seen(root: "etree._Element") -> list[str]:
    pieces: list[str] = []
    cells: list[int] = []  # where each cell that this is in began
    left_out: etree._Element | None = None
    verbatim = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if left_out is not None and element is not left_out:
            continue
        tag = element.tag
        if event == "start":
            if _is_hidden(element):
                left_out = element
                continue
            pieces.append("\n" if tag == "br" else _break(tag) or _of_formula(element))
            if tag in _CELLS:
                cells.append(len(pieces))
            verbatim += tag == "pre"
            pieces.append(_spaced(element.text, verbatim))
            continue
        if left_out is None:
            verbatim -= tag == "pre"
            pieces.append(_break(tag))
            if tag in _CELLS:
                start = cells.pop()
                pieces[start:] = [_cell("".join(pieces[start:])), " | "]
        left_out = None
        if element is not root:
            pieces.append(_spaced(element.tail, verbatim))
    return pieces


def _cell(text: str) -> str:
    """A table's row stays a line, whatever blocks its cells are made of; a cell that holds half the page keeps its lines."""
    return " ".join(settled(text).split()) if len(text) <= _CELL_CHARACTERS else text


def _is_hidden(element: "etree._Element") -> bool:
    if element.tag in _LEFT_OUT or "hidden" in element.attrib or element.get("class") == _FORMULA_AGAIN:
        return True
    if element.tag == "dialog" and "open" not in element.attrib:
        return True
    style = element.get("style")
    return style is not None and _HIDDEN_STYLE.search(style) is not None


def _break(tag: str) -> str:
    return _PARAGRAPH if tag in _PARAGRAPHS else _LINE if tag in _LINES else ""


def _of_formula(element: "etree._Element") -> str:
    """What parts an element from the one in front of it in a formula."""
    parent = element.getparent()
    within = None if parent is None else parent.tag
    if element.tag == "sup" or (within in _WITH_RAISED and element.getnext() is None):
        return RAISED
    return "/" if within == "mfrac" and element.getprevious() is not None else ""


def _spaced(text: str | None, verbatim: int) -> str:
    if not text:
        return ""
    return text.translate(_NO_MARKS) if verbatim else _WHITE.sub(" ", text)


def _tidied(text: str) -> str:
    """Blocks begin and end lines: where several do at one place, there is one break, the largest of them."""
    return "\n".join(
        line.strip(" |") if line.endswith(" |") else line
        for line in _BREAKS.sub(_as_one, settled(text) + _LINE).split("\n")
    ).strip()


def _as_one(run: re.Match[str]) -> str:
    if _PARAGRAPH in run[0] or run[0].count("\n") > 1:
        return "\n\n"
    return "\n" if _LINE in run[0] or "\n" in run[0] else run[0]

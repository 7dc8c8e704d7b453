"""What each format's bytes say, and which bytes are refused: by names that a person who sees the message can act on."""

import codecs
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pypdf
import pytest

import made_documents
from blindgate_protocol.errors import CorpusError, DocumentError, InputError
from blindgate_rag.folders import files_under
from blindgate_rag.loading import Loader

Text: TypeAlias = Callable[[str, bytes], str]


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """One parser for the whole module, as a corpus has one for a whole folder."""
    with Loader() as opened:
        yield opened


@pytest.fixture
def text(loader: Loader, tmp_path: Path) -> Text:
    """The text of a file of this name and these bytes, pages parted by a line."""

    def of(name: str, data: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        return "\n----\n".join(page.text for page in loader.load(path, name).pages)

    return of


@pytest.mark.parametrize(
    "encoded",
    [
        "naïve café".encode(),
        codecs.BOM_UTF8 + "naïve café".encode(),
        codecs.BOM_UTF16_LE + "naïve café".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "naïve café".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "naïve café".encode("utf-32-le"),
    ],
)
def test_text_is_read_in_the_encoding_that_its_mark_names(text: Text, encoded: bytes) -> None:
    """UTF-8 with and without a mark, UTF-16 and UTF-32 by theirs."""
    assert text("a.txt", encoded) == "naïve café"


def test_markdown_keeps_its_front_matter(text: Text) -> None:
    """It says what the document is about."""
    assert (
        text("a.md", b"---\nward: 3B\n---\n\n# Notes\n\nAll *well*.\n")
        == "---\nward: 3B\n---\n\n# Notes\n\nAll *well*."
    )


def test_control_characters_do_not_reach_a_passage(text: Text) -> None:
    """A passage is shown on a terminal."""
    assert text("a.txt", b"red \x1b[31malert\x07\r\nnext\x0cpage") == "red [31malert\nnext\npage"


def test_a_word_is_found_however_it_was_typeset(text: Text) -> None:
    """Soft hyphens, ligatures and a mark in the middle are no part of a word."""
    typeset = "Anti\u00adkoagu\u00ad\nlation, e\ufb03cient \ufb01ndings, one\ufeffword"
    assert text("a.txt", typeset.encode()) == "Antikoagulation, efficient findings, oneword"


def test_an_encoding_that_is_said_holds_for_what_does_not_say_its_own(tmp_path: Path) -> None:
    """A folder of Windows' files, some of them newer: UTF-8, marked or declared otherwise, they are read as what they are."""
    written = {
        "old.txt": "Größe 5 µg".encode("cp1252"),
        "new.txt": "Größe 5 µg".encode(),
        "marked.txt": "Größe 5 µg".encode("utf-16"),
        "table.csv": "Name;Größe\nMüller;5\n".encode("cp1252"),
        "declared.html": '<meta charset="koi8-r"><p>привет</p>'.encode("koi8-r"),
        "lying.html": '<meta charset="utf-8"><p>Größe</p>'.encode("cp1252"),
        "undefined.txt": b"caf\xe9 \x81",
    }
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
    with Loader(encoding="cp1252") as loader:
        read = {name: loader.load(tmp_path / name, name).pages[0].text for name in written if name != "undefined.txt"}
        with pytest.raises(DocumentError, match=r"^undefined\.txt: byte 5 \(0x81\) is not CP1252"):
            loader.load(tmp_path / "undefined.txt", "undefined.txt")
    assert read == {
        "old.txt": "Größe 5 µg",
        "new.txt": "Größe 5 µg",
        "marked.txt": "Größe 5 µg",
        "table.csv": "Name: Müller\nGröße: 5",
        "declared.html": "привет",
        "lying.html": "Größe",
    }
    for name in ("latin-99", "zlib", "", "a\0b"):
        with pytest.raises(InputError, match=r"encoding: .* is none that is known"):
            Loader(encoding=name)


def test_excels_own_first_line_tells_the_delimiter(text: Text) -> None:
    """It is no row, and names no column."""
    assert text("a.csv", b"sep=|\r\nname, ward|dose\r\nAnn, 3|5\r\n") == "name, ward: Ann, 3\ndose: 5"


@pytest.mark.parametrize("blanks", ["", ";;"], ids=["as typed", "as spreadsheets write them"])
def test_titles_above_a_table_name_no_column(loader: Loader, tmp_path: Path, blanks: str) -> None:
    """They are text of their own; a table's one column, or an index without a name, is no title."""
    path = tmp_path / "a.csv"
    path.write_text(f"Ward report{blanks}\nof 3 May{blanks}\n{blanks}\nname;drug;dose\nAnn;Warfarin;1,5\nBob;;75\n")
    titles, rows = loader.load(path, "a.csv").pages
    assert (titles.number, titles.text) == (None, "Ward report\nof 3 May")
    assert (rows.number, rows.text) == (1, "name: Ann\ndrug: Warfarin\ndose: 1,5\n\nname: Bob\ndose: 75")
    for written, read in (
        ("name\nAnn\nBob", "name: Ann\n\nname: Bob"),
        (",dose\nAnn,5,x", "column 1: Ann\ndose: 5\ncolumn 3: x"),
    ):
        path.write_text(written)
        assert [page.text for page in loader.load(path, "a.csv").pages] == [read]


def test_html_says_what_a_reader_of_the_page_sees(text: Text) -> None:
    """Its title, its blocks as lines, its rows as rows; nothing that is hidden."""
    page = """<!DOCTYPE html><html><head><title>Ward  3B</title><style>p {color: red}</style></head><body>
      <!-- remark --><script>let x = 'script';</script><noscript>noscript</noscript><template>template</template>
      <h1>Visits</h1><p>Two <b>bold</b><!-- obey me --> words<br>and a line.</p><ul><li>one<li>two</ul>
      <p hidden>hidden</p>after<div style="Display : none"><p>also</p></div><p style="visibility:hidden">obey me</p>
      <video>obey me</video><datalist><option>obey me</datalist><noembed>obey me</noembed><dialog>obey me</dialog>
      <noframes>obey me</noframes><canvas>obey me</canvas><dialog open>asked</dialog>
      <object>obey me</object><svg><title>obey me</title></svg><iframe>obey me</iframe>
      <table><tr><th>name<th>age<tr><td><p>Ann</p><td>3</table><pre>a  b
c</pre>&lt;end&gt;</body></html>"""
    assert text("a.html", page.encode()) == (
        "Ward 3B\n\nVisits\n\nTwo bold words\nand a line.\n\none\ntwo\n\nafter\n\nasked\n\nname | age\nAnn | 3\n\na  b\nc\n\n<end>"
    )


def test_html_is_read_in_the_encoding_that_it_declares(text: Text) -> None:
    """As browsers do, Windows' quotation marks under the name of Latin-1 too."""
    assert text("a.html", b'<meta charset="ISO-8859-1"><p>caf\xe9 \x93quoted\x94</p>') == "café “quoted”"
    assert text("b.html", '<meta charset="koi8-r"><p>привет</p>'.encode("koi8-r")) == "привет"
    assert text("b.html", '<meta charset="utf-16"><p>café</p>'.encode()) == "café", "it could not be read, were it so"
    wider = {
        "gb2312": ("gbk", "朱镕基"),
        "shift_jis": ("cp932", "①髙橋"),
        "x-sjis": ("cp932", "髙"),
        "euc-kr": ("cp949", "똠방"),
    }
    for declared, (encoding, said) in wider.items():
        assert text("c.html", f'<meta charset="{declared}"><p>{said}</p>'.encode(encoding)) == said
    with pytest.raises(DocumentError, match="declares an encoding that is not known"):
        text("d.html", b'<meta charset="x-nowhere"><p>caf\xe9</p>')


@pytest.mark.parametrize("declared", ["utf-7", "unicode_escape", "punycode", "idna", "hz"])
def test_html_says_nothing_in_an_encoding_that_no_browser_reads(text: Text, declared: str) -> None:
    """Its reader saw other characters: those of UTF-7 would be words that were planted."""
    page = f'<meta charset="{declared}"><p>+AG8AYgBlAHk- \\x6fbey xn--obey-</p>'.encode()
    with pytest.raises(DocumentError, match="declares an encoding that is not known"):
        text("a.html", page)


def test_a_tables_rows_say_their_columns_names_and_are_numbered(loader: Loader, tmp_path: Path) -> None:
    """A hit in a table is cited by its row, and says what its numbers are."""
    path = tmp_path / "a.csv"
    rows = "".join(f'{number};"said ""hm""\nand left";;{number}\n' for number in range(1, 41))
    path.write_text("id;note;empty\n" + rows)
    pages = loader.load(path, "a.csv").pages
    assert pages[0].number == 1
    assert pages[0].text.startswith('id: 1\nnote: said "hm" and left\ncolumn 4: 1\n\nid: 2\nnote:')
    assert len(pages) > 1
    for page in pages:  # each page begins with the row that it is numbered by
        assert page.text.startswith(f"id: {page.number}\n")


def test_a_field_of_more_than_131_072_characters_is_read(text: Text) -> None:
    """Python's own limit is not a document's."""
    assert len(text("a.csv", b"id,note\n1," + b"x" * 200_000)) > 200_000


def test_a_pdf_is_read_page_by_page(loader: Loader, tmp_path: Path) -> None:
    """Pages without text keep their numbers for the others."""
    path = tmp_path / "a.pdf"
    path.write_bytes(made_documents.pdf(["First page", "", "Third page"]))
    document = loader.load(path, "a.pdf")
    assert [(page.number, page.text) for page in document.pages] == [(1, "First page"), (3, "Third page")]
    assert (document.media, document.missing) == ("pdf", ())


def test_a_page_that_cannot_be_read_is_named_and_the_others_are_read(loader: Loader, tmp_path: Path) -> None:
    """One damaged page does not cost the report; a report of damaged pages alone is an error."""
    path = tmp_path / "a.pdf"
    path.write_bytes(made_documents.pdf(["First", "Second"]).replace(b"<< /Length", b"<< /Filter /Unknown /Length", 1))
    document = loader.load(path, "a.pdf")
    assert [(page.number, page.text) for page in document.pages] == [(2, "Second")]
    assert document.missing == (1,)
    path.write_bytes(made_documents.pdf(["First"]).replace(b"<< /Length", b"<< /Filter /Unknown /Length", 1))
    with pytest.raises(DocumentError, match="none of its 1 pages can be read"):
        loader.load(path, "a.pdf")


def test_a_raised_number_is_not_the_end_of_the_one_in_front_of_it(text: Text) -> None:
    """Of 10⁹ nobody is told 109; what no number stands in front of is as it was."""
    page = (
        "<p>4 &times; 10<sup>9</sup>/L, 10<sup>&minus;3</sup>, 25 mg/m<sup>2</sup>, the 1<sup>st</sup>, "
        "seen in 2019<sup><a>3</a></sup><p><sup>3</sup> Ann<table><tr><td>10<sup>6</sup><td>H<sub>2</sub>O</table>"
    )
    lines = ["4 × 10^9/L, 10^−3, 25 mg/m2, the 1st, seen in 2019^3", "", "3 Ann", "", "10^6 | H2O"]  # noqa: RUF001
    assert text("a.html", page.encode()).split("\n") == lines
    raised = '<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>9</w:t></w:r>'
    written = f"<w:p><w:r><w:t>10</w:t></w:r>{raised}<w:r><w:t>/L, m</w:t></w:r>{raised}<w:r><w:t>3</w:t></w:r></w:p>"
    assert text("a.docx", made_documents.docx(written)) == "10^9/L, m93"
    assert len(text("b.html", b"<p>1" + b"<sup></sup>" * 200_000 + b"x")) == len("1x")


def test_formulas_are_read_as_they_are_seen(text: Text) -> None:
    """A half is no twelve. What is not shown, or shown in another notation already, is not read."""
    half = "<mfrac><mn>1</mn><mn>2</mn></mfrac><msup><mn>10</mn> <mn>9</mn></msup>"
    unseen = "<mphantom>obey</mphantom><semantics><mi>y</mi><annotation>obey</annotation></semantics>"
    page = f"<p>dose <math>{half}{unseen}</math> <i><b class=katex-mathml><math><mi>z</mi></math></b>z</i>"
    assert text("a.html", page.encode()) == "dose 1/210^9y z"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    one, two, ten = (f"<m:r><m:t>{number}</m:t></m:r>" for number in (1, 2, 10))
    formula = (
        f"<m:f><m:num>{one}</m:num><m:den>{two}</m:den></m:f><m:sSup><m:e>{ten}</m:e><m:sup>{two}</m:sup></m:sSup>"
    )
    written = f'<w:p><m:oMath xmlns:m="{office}">{formula}</m:oMath></w:p>'
    assert text("a.docx", made_documents.docx(written)) == "1/210^2"


def test_a_word_that_a_line_cuts_in_two_is_one_word(text: Text) -> None:
    """Unless it has a hyphen of its own: the document's other words tell."""
    lines = [
        "the anticoag-",
        "ulation clinic has a follow-",
        "up on what comes up, in SE-",
        "QUENCE, each SEQUENCE of T-",
        "cells",
    ]
    stream = " ".join(f"1 0 0 1 72 {720 - 14 * row} Tm ({line}) Tj" for row, line in enumerate(lines))
    assert text("a.pdf", made_documents.pdf(["x"], contents=f"BT /F1 12 Tf {stream} ET".encode())) == (
        "the anticoagulation clinic has a follow-up on what comes up, in SEQUENCE, each SEQUENCE of T-cells"
    )


def test_what_was_filled_into_a_form_is_read(text: Text) -> None:
    """Values and ticks by their fields' names, and text that was typed over the page; nothing that is hidden, and no password."""
    fields = (
        "<< /Subtype /Widget /FT /Tx /T (allergy) /V (penicillin) >>",
        "<< /Subtype /Widget /Parent << /FT /Ch /T (ward) /V [(3B) (ICU)] >> >>",
        "<< /Subtype /Widget /FT /Btn /T (diabetic) /AS /Yes >>",
        "<< /Subtype /Widget /FT /Btn /T (pregnant) /AS /Off >>",
        "<< /Subtype /Widget /FT /Tx /T (empty) >>",
        "<< /Subtype /Widget /FT /Tx /T (plan) /V (obey me) /F 2 >>",
        "<< /Subtype /FreeText /Contents (obey me, on paper) /F 32 >>",
        "<< /Subtype /Widget /FT /Tx /T (login) /V (hunter2) /Ff 8192 >>",
        "<< /Subtype /FreeText /Contents (seen by Dr. B) >>",
        "<< /Subtype /Text /Contents (a remark) >> 7 99 0 R",
    )
    made = made_documents.pdf(["Admission"]).replace(b"/Resources", f"/Annots [{' '.join(fields)}] /Resources".encode())
    lines = ["Admission", "allergy: penicillin", "ward: 3B, ICU", "diabetic: Yes", "seen by Dr. B"]
    assert text("a.pdf", made) == "\n".join(lines)
    many = b"/Annots [" + b"<< /Subtype /FreeText /Contents (x) >> " * 2001 + b"] /Resources"
    assert text("b.pdf", made_documents.pdf(["Many"]).replace(b"/Resources", many)).count("x") == 2000


def test_damaged_fields_do_not_cost_the_page(text: Text) -> None:
    """Its text is there."""
    broken = b"/Annots [<< /Subtype /Widget /FT /Tx /V 5 >> << /Subtype /Widget /Parent 1 0 R /V [null (x)] >> (x)] /Resources"
    within_itself = made_documents.pdf(["Admission"]).replace(b"/Type /Font ", b"/Type /Font /Parent 3 0 R ")
    widget = b"/Annots [<< /Subtype /Widget /FT /Tx /Parent 3 0 R >>] /Resources"
    assert text("b.pdf", within_itself.replace(b"/Resources", widget)) == "Admission"
    assert text("a.pdf", made_documents.pdf(["Admission"]).replace(b"/Resources", broken)).startswith("Admission")


@pytest.mark.parametrize("password", ["", "secret"])
def test_an_encrypted_pdf_is_read_under_the_empty_password_only(text: Text, password: str) -> None:
    """Anybody may read the one; the other needs a password that nobody gave."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(made_documents.pdf(["Sealed words"])))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    if password:
        with pytest.raises(DocumentError, match=r"^a\.pdf: it is encrypted under a password: save a copy without one"):
            text("a.pdf", out.getvalue())
    else:
        assert text("a.pdf", out.getvalue()) == "Sealed words"


def test_a_word_document_is_read_in_order_tables_row_by_row(text: Text) -> None:
    """Without what is hidden, deleted, said twice or repeated on every page; notes at the end."""

    def paragraph(words: str) -> str:
        return f"<w:p><w:r><w:t>{words}</w:t></w:r></w:p>"

    def row(*cells: str) -> str:
        return "<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in cells) + "</w:tr>"

    body = (
        paragraph("Before") + "<w:p><w:pPr><w:tabs><w:tab/></w:tabs><w:rPr><w:vanish/></w:rPr></w:pPr>"
        "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>!</w:t></w:r>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:r><w:t>d</w:t></w:r></w:p>"
        "<mc:AlternateContent><mc:Choice>" + paragraph("box") + "</mc:Choice>"
        "<mc:Fallback>" + paragraph("box again") + "</mc:Fallback></mc:AlternateContent>"
        "<w:tbl>" + row("name", "age") + row("Ann", "3") + "</w:tbl>" + paragraph("After")
    )
    notes = f'<w:footnotes xmlns:w="{made_documents.WORD}"><w:footnote>{paragraph("A note")}</w:footnote></w:footnotes>'
    packed = made_documents.docx(body, members={"word/footnotes.xml": notes.encode(), "word/header1.xml": b"<x>no</x>"})
    lines = [line.rstrip() for line in text("a.docx", packed).split("\n")]
    assert lines == ["Before", "a\tb", "c!d", "box", "name | age |", "Ann | 3 |", "", "After", "", "A note"]


def test_symbols_formulas_and_boxes_of_a_word_document_are_text(text: Text) -> None:
    """What Word keeps in elements of its own; text that was moved away is where it was moved to."""
    body = (
        "<w:p><w:r><w:t>n<!-- of no program of -->o<?word 16?>n</w:t><w:noBreakHyphen/><w:t>ionic, GFR </w:t>"
        '<w:sym w:font="Symbol" w:char="F0B3"/><w:t> 30 </w:t><w:sym w:font="Wingdings" w:char="F0FE"/>'
        '<w:sym w:font="Webdings" w:char="F061"/><w:sym w:font="Symbol" w:char="x"/></w:r>'
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        '<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:r><m:t>a=b</m:t></m:r></m:oMath>'
        "<w:r><w:pict><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></w:pict></w:r></w:p>"
    )
    assert text("a.docx", made_documents.docx(body)) == "non-ionic, GFR ≥ 30 ☑\ufffd\ufffda=b\nin a box"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", "the file is empty"),
        ("blank.txt", b" \n\t ", "there is no text in it$"),
        ("latin.txt", b"caf\xe9 noir", r"byte 3 \(0xe9\) is not UTF-8: convert the file to UTF-8"),
        ("cut.txt", codecs.BOM_UTF16_LE + b"a\0b", r"byte 4 \(0x62\) is not UTF-16-LE"),
        ("binary.md", b"text\0more", "character 4 is NUL"),
        ("nomark.csv", "id,näme\n1,x\n".encode("utf-16-le"), "is NUL|is not UTF-8"),
        ("unknown.html", b'<meta charset="klingon"><p>x', "an encoding that is not known"),
        ("named.txt", b"%PDF-1.7 ...", "its name says txt, but it is a pdf"),
        ("zipped.csv", b"PK\x03\x04....", "its name says csv, but it is a zip archive"),
        ("text.pdf", b"Just words.", r"its name says pdf, but no %PDF- stands in its first 1,024 bytes"),
        ("text.docx", b"Just words.", "its name says docx, but it is no zip archive"),
        ("old.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "before 2007 or has a password: save it as docx"),
        ("other.docx", made_documents.archive({"xl/workbook.xml": b"<x/>"}), "its archive has no word/document.xml"),
        ("cut.docx", made_documents.docx("<w:p/>")[:60], "its zip archive is damaged"),
        ("broken.docx", made_documents.docx("<w:p>"), "its XML is damaged"),
        (
            "scan.pdf",
            made_documents.pdf(["", ""]),
            r"there is no text in it; pages that were scanned need .* \(OCR\) first",
        ),
        ("cut.pdf", made_documents.pdf(["One"])[:100], "it is damaged, or no pdf|page tree cannot be read"),
        ("quotes.csv", b'id,note\n1,"open' + b"\n" * 5, None),
        ("image.png", b"\x89PNG", "no document by its name; documents end in .csv"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and len(value) < 16 else "",
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(
    text: Text, name: str, data: bytes, message: str | None
) -> None:
    """The message says which file, what it is not, and what to do."""
    if message is None:
        assert text(name, data) == "id: 1\nnote: open"
        return
    with pytest.raises(DocumentError, match=f"^{name}: .*({message})") as raised:
        text(name, data)
    assert raised.value.source == name


def test_a_folders_documents_are_named_by_their_path_and_the_rest_is_told(tmp_path: Path) -> None:
    """Nothing from outside of the folder, nothing hidden, and no file twice by a loop."""
    folder = tmp_path / "reports"
    for name in ("b.txt", "a/2.PDF", "a/1.md", "a/.hidden.txt", "a/~$1.docx", ".git/x.txt", "picture.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (tmp_path / "outside.txt").write_text("x")
    (folder / "out.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "in.txt").symlink_to(folder / "b.txt")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.txt").symlink_to(folder / "none.txt")
    skipped: list[Path] = []
    found = [source for _, source in files_under(folder, skipped=skipped)]
    assert found == ["a/1.md", "a/2.PDF", "b.txt", "in.txt"]
    assert sorted(str(path.relative_to(folder)) for path in skipped) == sorted(
        [".git", "a/.hidden.txt", "a/~$1.docx", "dangling.txt", "loop", "out.txt", "picture.png"]
    )


def test_a_folder_that_may_not_be_read_costs_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of, and the rest is found; the folder itself must be readable."""
    for name in ("a/1.txt", "b/2.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    listed = Path.iterdir

    # Tests may run as root, whom no mode keeps out.
    def guarded(folder: Path) -> Iterator[Path]:
        if folder in locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", guarded)
    locked = {tmp_path / "a"}
    unread: dict[Path, tuple[str, str]] = {}
    assert [source for _, source in files_under(tmp_path, unread=unread)] == ["b/2.txt", "c.txt"]
    assert unread == {tmp_path / "a": ("a", "cannot be read (Permission denied)")}
    locked = {tmp_path}
    with pytest.raises(CorpusError, match="cannot be read"):
        list(files_under(tmp_path))


def test_a_document_whose_name_is_no_text_is_told_of(tmp_path: Path) -> None:
    """It was counted among files of other formats, and whoever added the folder did not learn that it is missing."""
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    for name in (b"dose\xff.txt", b"photo\xff.jpg", b"caf\xe9/1.txt", b"a.txt"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    skipped: list[Path] = []
    unread: dict[Path, tuple[str, str]] = {}
    assert [source for _, source in files_under(tmp_path, skipped=skipped, unread=unread)] == ["a.txt"]
    assert sorted(unread.values()) == [
        (name, "its name is not UTF-8: rename it") for name in ("caf\\udce9", "dose\\udcff.txt")
    ]
    assert [path.suffix for path in skipped] == [".jpg"]


def test_one_file_is_a_corpus_too_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    """It is named by its own name."""
    (tmp_path / "a.txt").write_text("x")
    assert list(files_under(tmp_path / "a.txt")) == [(tmp_path / "a.txt", "a.txt")]
    with pytest.raises(CorpusError, match="there is no such file or folder"):
        list(files_under(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(CorpusError, match="is neither a file nor a folder"):
        list(files_under(tmp_path / "pipe.txt"))


def test_whoever_loads_documents_imports_no_parser_of_them() -> None:
    """Parsers run in a process that can open nothing, and nowhere else."""
    code = "import sys, blindgate_rag.loading; print(*{'lxml', 'pypdf', 'PIL', 'torch', 'zipfile', 'csv'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout == "\n"

"""What each format's bytes say, and which bytes are refused: by names that a person who sees the message can act on."""

import codecs
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pypdf
import pytest

import made_documents
from blindgate_protocol.errors import CorpusError, DocumentError
from blindgate_rag.loading import Loader, files_under

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


def test_html_says_what_a_reader_of_the_page_sees(text: Text) -> None:
    """Its title, its blocks as lines, its rows as rows; nothing that is hidden."""
    page = """<!DOCTYPE html><html><head><title>Ward  3B</title><style>p {color: red}</style></head><body>
      <!-- remark --><script>let x = 'script';</script><noscript>noscript</noscript><template>template</template>
      <h1>Visits</h1><p>Two <b>bold</b> words<br>and a line.</p><ul><li>one<li>two</ul>
      <p hidden>hidden</p>after<div style="Display : none"><p>also</p></div>
      <table><tr><th>name<th>age<tr><td><p>Ann</p><td>3</table><pre>a  b
c</pre>&lt;end&gt;</body></html>"""
    assert text("a.html", page.encode()) == (
        "Ward 3B\n\nVisits\n\nTwo bold words\nand a line.\n\none\ntwo\n\nafter\n\nname | age\nAnn | 3\n\na  b\nc\n\n<end>"
    )


def test_html_is_read_in_the_encoding_that_it_declares(text: Text) -> None:
    """As browsers do, Windows' quotation marks under the name of Latin-1 too."""
    assert text("a.html", b'<meta charset="ISO-8859-1"><p>caf\xe9 \x93quoted\x94</p>') == "café “quoted”"
    assert text("b.html", '<meta charset="koi8-r"><p>привет</p>'.encode("koi8-r")) == "привет"


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
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:r><w:t>d</w:t></w:r></w:p>"
        "<mc:AlternateContent><mc:Choice>" + paragraph("box") + "</mc:Choice>"
        "<mc:Fallback>" + paragraph("box again") + "</mc:Fallback></mc:AlternateContent>"
        "<w:tbl>" + row("name", "age") + row("Ann", "3") + "</w:tbl>" + paragraph("After")
    )
    notes = f'<w:footnotes xmlns:w="{made_documents.WORD}"><w:footnote>{paragraph("A note")}</w:footnote></w:footnotes>'
    packed = made_documents.docx(body, members={"word/footnotes.xml": notes.encode(), "word/header1.xml": b"<x>no</x>"})
    lines = [line.rstrip() for line in text("a.docx", packed).split("\n")]
    assert lines == ["Before", "a\tb", "cd", "box", "name | age |", "Ann | 3 |", "", "After", "", "A note"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", "the file is empty"),
        ("blank.txt", b" \n\t ", "there is no text in it"),
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
    for name in ("b.txt", "a/2.PDF", "a/1.md", "a/.hidden.txt", ".git/x.txt", "picture.png"):
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
        [".git", "a/.hidden.txt", "dangling.txt", "loop", "out.txt", "picture.png"]
    )


def test_one_file_is_a_corpus_too_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    """It is named by its own name."""
    (tmp_path / "a.txt").write_text("x")
    assert list(files_under(tmp_path / "a.txt")) == [(tmp_path / "a.txt", "a.txt")]
    with pytest.raises(CorpusError, match="there is no such file or folder"):
        list(files_under(tmp_path / "none"))


def test_whoever_loads_documents_imports_no_parser_of_them() -> None:
    """Parsers run in a process that can open nothing, and nowhere else."""
    code = "import sys, blindgate_rag.loading; print(*{'lxml', 'pypdf', 'PIL', 'torch', 'zipfile', 'csv'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout == "\n"

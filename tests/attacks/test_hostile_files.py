"""Files made to break what reads them: each is an error of its own in bounded time and memory, and the next file is read."""

import json
import os
import random
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import made_documents
from blindgate_protocol.errors import DocumentError
from blindgate_rag import loading, pipes
from blindgate_rag.loading import Loader
from runs import wait_until

CAMPAIGN = int(os.environ.get("BLINDGATE_CAMPAIGN", "1"))
MIB = 1 << 20
NAMESPACES = 0x1000_0000 | 0x4000_0000  # of users and of networks
LAUGHS = (
    '<!DOCTYPE r [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {next_} "{f"&{name};" * 10}">' for name, next_ in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)
FILE_ENTITY = '<!DOCTYPE r [<!ENTITY i SYSTEM "file:///etc/passwd">]>'


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """Small limits, so that small files meet them."""
    with Loader(seconds=2.0, file_bytes=32 * MIB, text_bytes=MIB) as opened:
        yield opened


def paragraph(words: str) -> str:
    """One paragraph of a Word document."""
    return f"<w:p><w:r><w:t>{words}</w:t></w:r></w:p>"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bomb.docx", made_documents.docx(paragraph("x" * 40 * MIB)), "an archive bomb"),
        (
            "other-member.docx",
            made_documents.docx("", members={"word/media/1.png": bytes(40 * MIB)}),
            "an archive bomb",
        ),
        ("members.docx", made_documents.docx("", members={f"{n}": b"" for n in range(10_001)}), "10002 members"),
        (
            "unpacked.docx",
            made_documents.declaring(
                made_documents.docx(paragraph("x"), members={"word/media/1.png": b"x"}),
                file_size=(1 << 30) + MIB,
                compress_size=8 * MIB,
            ),
            "unpacks to 1025 MiB; at most 1024",
        ),
        (
            "part.docx",
            made_documents.declaring(made_documents.docx(paragraph("x")), file_size=257 * MIB, compress_size=2 * MIB),
            "257 MiB of XML; at most 256",
        ),
        (
            "bzip2.docx",
            made_documents.archive({"word/document.xml": b"<x/>"}, zipfile.ZIP_BZIP2),
            "packed in a way that no docx is",
        ),
        ("locked.docx", made_documents.declaring(made_documents.docx(paragraph("x")), flag_bits=1), "encrypted, or"),
        ("laughs.docx", made_documents.docx(paragraph("&i;"), prologue=LAUGHS), "document type|XML is damaged"),
        ("entity.docx", made_documents.docx(paragraph("&i;"), prologue=FILE_ENTITY), "document type|XML is damaged"),
        ("deep.docx", made_documents.docx("<w:p>" * 5000), "XML is damaged, or nested too deeply"),
        ("deep.html", b"<div>" * 100_000, "nested too deeply"),
        ("loop.pdf", made_documents.pdf(["One"], kids="2 0 R"), "page tree cannot be read"),
        ("wide.pdf", made_documents.pdf(["One"], kids="4 0 R " * 150_000), "more pages than are read"),
        (
            "deep.pdf",
            made_documents.assembled_pdf(
                [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids " + b"[" * 50_000 + b" >>"]
            ),
            "page tree cannot be read|nested too deeply|cannot be opened",
        ),
        (
            "stream.pdf",
            made_documents.pdf(["x"], contents=zlib.compress(bytes(80_000_000), 9)).replace(
                b"<< /Length", b"<< /Filter /FlateDecode /Length", 1
            ),
            "none of its 1 pages can be read",
        ),
        ("cut.pdf", made_documents.pdf(["One", "Two"])[:-300], "it is damaged, or no pdf"),
        ("pages.pdf", made_documents.pdf(["A line"] * 10_000), "takes more than 2 seconds: divide it, or allow more"),
        ("field.csv", b"id,note\n1," + b"x" * 2 * MIB, "more than 1 MiB of text: divide it"),
        ("long.txt", b"words " * MIB, "more than 1 MiB of text: divide it"),
        ("large.txt", bytes(33 * MIB), "larger than 32 MiB: divide it"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and len(value) < 20 else "",
)
def test_a_hostile_file_is_a_clear_error_and_the_next_file_is_read(
    loader: Loader, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    """Bombs, loops, depths, lengths and cuts end in an error that names the file and the rule, within the time allowed."""
    (tmp_path / name).write_bytes(data)
    (tmp_path / "next.txt").write_text("The next file.")
    begun = time.monotonic()
    with pytest.raises(DocumentError, match=f"^{name}: .*({message})"):
        loader.load(tmp_path / name, name)
    assert time.monotonic() - begun < 30
    assert loader.load(tmp_path / "next.txt", "next.txt").pages[0].text == "The next file."


def test_entities_of_a_web_page_are_neither_fetched_nor_multiplied(loader: Loader, tmp_path: Path) -> None:
    """What a document type declares stays what it looks like."""
    page = tmp_path / "a.html"
    page.write_text(LAUGHS + "<p>so &i; it</p>")
    assert loader.load(page, "a.html").pages[0].text.endswith("so &i; it")
    page.write_text(FILE_ENTITY + "<p>so &i; it</p>")
    assert loader.load(page, "a.html").pages[0].text.endswith("so &i; it")


def test_a_file_that_needs_too_much_memory_costs_only_itself(tmp_path: Path) -> None:
    """The parser's memory is bounded, and the message says that it was the reason."""
    (tmp_path / "a.html").write_bytes(b"<p>x" * 1_000_000)
    elements = "".join(f'<w:x a="{number}"/>' for number in range(400_000))
    (tmp_path / "a.docx").write_bytes(made_documents.docx(paragraph(elements)))
    (tmp_path / "next.txt").write_text("The next file.")
    with Loader(memory=200 * MIB) as small:
        for name in ("a.html", "a.docx"):
            with pytest.raises(DocumentError, match=f"^{name}: .*needs more memory than a parser may use"):
                small.load(tmp_path / name, name)
        assert small.load(tmp_path / "next.txt", "next.txt").pages


def test_a_mutated_file_is_a_document_or_an_error_of_its_own(loader: Loader, tmp_path: Path) -> None:
    """Bytes changed, cut out and doubled anywhere: never an error of another kind, and the next file is read."""
    rng = random.Random(7)
    seeds = {
        "a.pdf": made_documents.pdf(["One", "Two", "Three"]),
        "a.docx": made_documents.docx("<w:tbl><w:tr><w:tc>" + paragraph("cell") + "</w:tc></w:tr></w:tbl>"),
        "a.html": b"<!DOCTYPE html><title>t</title><table><tr><td hidden><p>a<td>b</table><pre>x\n y</pre>&amp;",
        "a.csv": b'id,"na""me"\n1,"two\nlines"\n2,\n',
    }
    for name, seed in seeds.items():
        for _ in range(20 * CAMPAIGN):
            data = bytearray(seed)
            for _ in range(rng.randint(1, 4)):
                at, length = rng.randrange(len(data)), rng.randint(1, 12)
                with_what = rng.choice([rng.randbytes(length), b"", bytes(data[at : at + length]) * 2])
                data[at : at + rng.choice([0, length])] = with_what
            (tmp_path / name).write_bytes(data)
            with suppress(DocumentError):
                assert loader.load(tmp_path / name, name).pages
    (tmp_path / "next.txt").write_text("The next file.")
    assert loader.load(tmp_path / "next.txt", "next.txt").pages


def test_special_files_are_not_waited_for(loader: Loader, tmp_path: Path) -> None:
    """A pipe with no writer would be read without end."""
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DocumentError, match="not a regular file"):
        loader.load(tmp_path / "a.txt", "a.txt")
    with pytest.raises(DocumentError, match="cannot be read"):
        loader.load(tmp_path / "none.txt", "none.txt")
    (tmp_path / "b.txt").symlink_to("/proc/self/status")  # says that it has no bytes, as a file does that still grows
    with Loader(file_bytes=100) as small, pytest.raises(DocumentError, match="larger than"):
        small.load(tmp_path / "b.txt", "b.txt")


def test_the_parser_can_open_nothing_and_has_no_network(tmp_path: Path) -> None:
    """Code that runs in the parser after all has no file, no socket and nothing to start."""
    attempts = """
import ctypes, json, os, resource, socket, sys
from blindgate_rag.parsing import confine
before = os.readlink("/proc/self/ns/net")
confine(1 << 30)
answers = {}
for name, attempt in {
    "socket": lambda: socket.socket(),
    "read": lambda: open("/etc/passwd"),
    "write": lambda: open("written", "w"),
    "pipe": lambda: os.pipe(),
    "memory": lambda: bytearray((1 << 30) + 1),
    "run": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], {}),
    "take back": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
}.items():
    try:
        answers[name] = repr(attempt())
    except (OSError, MemoryError, ValueError) as error:
        answers[name] = type(error).__name__
bounds = [resource.getrlimit(kind) for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)]
no_new_rights = ctypes.CDLL(None).prctl(39, *map(ctypes.c_ulong, (0, 0, 0, 0)))
print(json.dumps([answers, bounds, no_new_rights, before, os.readlink("/proc/self/ns/net")]))
"""
    run = subprocess.run([sys.executable, "-c", attempts], capture_output=True, check=True, text=True, cwd=tmp_path)
    answers, bounds, no_new_rights, network, own = json.loads(run.stdout)
    # What is executed starts and ends at once: it cannot open its own libraries.
    assert answers.pop("run").isdigit()
    assert set(answers.values()) == {"OSError", "MemoryError", "ValueError"}
    assert bounds == [[0, 0], [0, 0], [3, 3]], "bytes of a file that is written, of a core, and descriptors"
    assert no_new_rights == 1
    try_it = [sys.executable, "-c", f"import ctypes; raise SystemExit(ctypes.CDLL(None).unshare({NAMESPACES}))"]
    assert (own != network) is (subprocess.run(try_it, check=False).returncode == 0), "where the kernel allows it"


# A parser that a file has taken over: it says what the test says.
TAKEN_OVER = """
import json, os, signal, struct, sys, time
os.write(1, b"R")
os.read(0, 21)
def say(value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    os.write(1, struct.pack(">Q", len(body)) + body)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("os._exit(0)", "crashed on it"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed on it"),
        ("os.write(1, b'xy'); os._exit(0)", "crashed on it"),
        ("time.sleep(60)", "takes more than 0.5 seconds"),
        ("os.write(1, struct.pack('>Q', 1 << 62)); time.sleep(60)", "gave back no document"),
        ("say(b'{')", "gave back no document"),
        ("say(b'\\xff')", "gave back no document"),
        ("say(b'[' * 100000)", "gave back no document"),
        ("say([])", "gave back no document"),
        ("say({'pages': []})", "gave back no document"),
        ("say({'pages': [], 'missing': []})", "gave back no document"),
        ("say({'pages': [], 'missing': [1]})", "gave back no document"),
        ("say({'pages': [[1]], 'missing': []})", "gave back no document"),
        ("say({'pages': [[True, 'x']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[0, 'x']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1, '']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1, 7]], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1, 'a\\x1b[2J']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1, 'a\\x9b2J']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1, '\\ud800']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1 << 31, 'x']], 'missing': []})", "gave back no document"),
        ("say({'pages': [[1, 'x']], 'missing': list(range(1, 200_001))})", "gave back no document"),
        ("os.write(2, b'\\x1b[2J'); os._exit(0)", "crashed on it"),
        ("say({'pages': [[1, 'x']], 'missing': ['1']})", "gave back no document"),
        ("say({'pages': [[1, 'x' * (1 << 17)]], 'missing': []})", "gave back no document"),
        ("say({'pages': 7, 'missing': 7})", "gave back no document"),
        ("say({'error': 'a\\x1b[2J\\nb' + 'x' * 10000})", r"a\?\[2J\?bx{100}"),
    ],
)
def test_a_parser_that_was_taken_over_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], act: str, message: str
) -> None:
    """Whatever it answers, however long it takes, the caller sees an error of the file's, and the process is gone."""
    (tmp_path / "a.txt").write_text("x")
    others = psutil.Process().children()
    # What answers is given the time of a busy machine; what does not is waited for.
    with Loader(seconds=0.5 if "0.5 seconds" in message else 60.0, text_bytes=1 << 16) as opened:
        with monkeypatch.context() as patched:
            patched.setattr(loading, "_LAUNCH", TAKEN_OVER + act)
            with pytest.raises(DocumentError, match=f"^a.txt: .*{message}") as raised:
                opened.load(tmp_path / "a.txt", "a.txt")
        assert len(str(raised.value)) < 600
        assert "error" in act or set(psutil.Process().children()) <= set(others)
    assert capfd.readouterr().err == "", "it writes to nobody's terminal"


def test_a_parser_that_was_taken_over_knows_no_secret_of_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a document could have the passphrase say itself: as its own text, which a question sends along."""
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setenv("BLINDGATE_CORPUS_PASSPHRASE", "open sesame")
    tell = "say({'pages': [[sys.flags.isolated, json.dumps(dict(os.environ)) + os.getcwd()]], 'missing': []})"
    monkeypatch.setattr(loading, "_LAUNCH", TAKEN_OVER + tell)
    with Loader() as opened:
        (page,) = opened.load(tmp_path / "a.txt", "a.txt").pages
    text, isolated = page.text, page.number
    assert isolated == 1, "what lies in its user's home does not run in it"
    assert "PYTHONUTF8" in text
    assert "sesame" not in text
    assert text.endswith("}/")


def test_a_file_that_is_computed_on_for_ever_ends_though_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor's time is the fork's own bound: whoever loads it may be killed, and a loop would go on."""
    endless = (
        "from blindgate_rag.formats import text; "
        "text.pages = lambda data, **said: [None for _ in iter(int, 1)]; "
        "from blindgate_rag.parsing import main; main()"
    )
    monkeypatch.setattr(loading, "_LAUNCH", endless)
    monkeypatch.setattr(loading, "_CPU_GRACE_SECONDS", -29)
    (tmp_path / "a.txt").write_text("x")
    with (
        Loader(seconds=30) as opened,
        pytest.raises(DocumentError, match="takes more than 30 seconds or too much memory"),
    ):
        opened.load(tmp_path / "a.txt", "a.txt")


def test_what_a_parser_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose time is over takes no more of anybody's."""
    (tmp_path / "a.txt").write_text("x")
    start = f"child = os.fork(); child and open({str(tmp_path / 'child')!r}, 'w').write(str(child)); time.sleep(60)"
    monkeypatch.setattr(loading, "_LAUNCH", TAKEN_OVER + start)
    with Loader(seconds=0.5) as opened, pytest.raises(DocumentError, match=r"takes more than 0\.5 seconds"):
        opened.load(tmp_path / "a.txt", "a.txt")
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: _ended(child), seconds=10)


def _ended(pid: int) -> bool:
    """Whether a process is gone, or waits for nothing but to be reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_whoever_interrupts_a_file_does_not_get_its_text_as_the_next_ones(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while an answer is half read, or before the parser has said that it is ready."""
    (tmp_path / "a.txt").write_text("The first file.")
    (tmp_path / "b.txt").write_text("The second file.")

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(loading, "_length", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loader.load(tmp_path / "a.txt", "a.txt")
    assert loader.load(tmp_path / "b.txt", "b.txt").pages[0].text == "The second file."
    loader.close()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(pipes, "receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loader.load(tmp_path / "a.txt", "a.txt")
    assert loader.load(tmp_path / "b.txt", "b.txt").pages[0].text == "The second file."


def test_a_file_that_crashes_its_parser_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in native code ends a process that nothing else needs."""
    crashing = (
        "import os, signal; from blindgate_rag.formats import text; read = text.pages; "
        "text.pages = lambda data, **said: os.kill(os.getpid(), signal.SIGSEGV) if data == b'crash' else read(data); "
        "from blindgate_rag.parsing import main; main()"
    )
    monkeypatch.setattr(loading, "_LAUNCH", crashing)
    others = psutil.Process().children()
    (tmp_path / "a.txt").write_text("crash")
    (tmp_path / "b.txt").write_text("text")
    with Loader() as opened:
        with pytest.raises(DocumentError, match=r"crashed on it: the file is damaged, or hostile"):
            opened.load(tmp_path / "a.txt", "a.txt")
        assert opened.load(tmp_path / "b.txt", "b.txt").pages[0].text == "text"
    assert set(psutil.Process().children()) <= set(others)

"""The search that the blind tests and the demo rest on finds what it says, however it was cut or written down."""

import base64
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import planted

SECRET = np.random.default_rng(1).bytes(400)
BITS = np.random.default_rng(2).integers(0, 2, 2048, np.uint64).tobytes()
"""As a TFHE key is held: words of 0 and 1."""
VALUE = 17.918273645546372


@pytest.mark.parametrize(
    "leak",
    [
        pytest.param(repr(VALUE).encode(), id="text"),
        pytest.param(f"{VALUE:.9f}".encode(), id="rounded text"),
        pytest.param(np.float64(VALUE).tobytes(), id="packed"),
        pytest.param(np.float64(VALUE).astype(">f8").tobytes(), id="packed, other byte order"),
        *(pytest.param(SECRET[cut : cut + 47], id=f"a piece from {cut}") for cut in (0, 1, 100, 353)),
        pytest.param(SECRET[50:110].hex().encode(), id="hexadecimal"),
        pytest.param(SECRET[50:110].hex().upper().encode(), id="hexadecimal in capitals"),
        *(pytest.param(base64.b64encode(SECRET[cut : cut + 60]), id=f"base64 from {cut}") for cut in (60, 61, 62)),
        pytest.param(base64.urlsafe_b64encode(SECRET[60:120]), id="base64 for addresses"),
        pytest.param(BITS[1000:3048], id="a piece of a key of bits"),
    ],
)
@pytest.mark.parametrize("at", [0, 77, planted._CHUNK - 20], ids=["at the start", "within", "over a chunk's end"])
def test_a_leak_is_found_in_a_file(leak: bytes, at: int, tmp_path: Path) -> None:
    """In whatever form, wherever it was cut."""
    search = planted.Search(
        [planted.number("value", VALUE), planted.secret("secret", SECRET), planted.secret("bits", BITS)]
    )
    (tmp_path / "log").write_bytes(bytes(at) + leak + bytes(30))
    assert len(search.in_files([tmp_path])) == 1


def test_what_is_no_leak_is_not_found(tmp_path: Path) -> None:
    """Zeros, other keys, a key's label and less of the secret than a window."""
    label = b"core_crypto::LweSecretKey"
    search = planted.Search([planted.secret("secret", SECRET), planted.secret("bits", label + BITS)])
    other = np.random.default_rng(3).integers(0, 2, 2048, np.uint64).tobytes()
    (tmp_path / "log").write_bytes(bytes(1 << 16) + other + label + SECRET[:23] + SECRET[-15:] + BITS[:64])
    assert search.in_files([tmp_path]) == []


def test_a_name_of_a_file_is_searched_too(tmp_path: Path) -> None:
    """What was put into a file's name has leaked as well."""
    (tmp_path / "row-of-Mrs-Example").touch()
    found = planted.Search([planted.text("patient", "Mrs-Example")]).in_files([tmp_path])
    assert found == [f"patient in the name {tmp_path / 'row-of-Mrs-Example'}"]


def test_a_secret_without_content_cannot_be_searched_for() -> None:
    """Silence would be mistaken for a search that found nothing."""
    with pytest.raises(ValueError, match="nothing in it"):
        planted.secret("zeros", bytes(4096))


HOLDERS = {
    "heap": "held = sys.stdin.buffer.read()",
    "memory file": "held = os.memfd_create('x'); os.write(held, sys.stdin.buffer.read())",
    "deleted file": "held = tempfile.TemporaryFile(); held.write(sys.stdin.buffer.read()); held.flush()",
    "shared memory, read only": (
        "held = os.memfd_create('x'); os.write(held, sys.stdin.buffer.read()); "
        "held = mmap.mmap(held, 0, prot=mmap.PROT_READ); held[0]"
    ),
    "private copy of a file": (
        "held = mmap.mmap(os.open('/bin/sh', os.O_RDONLY), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE); "
        "given = sys.stdin.buffer.read(); held[: len(given)] = given; del given"
    ),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_leak_is_found_in_a_process(holder: str) -> None:
    """Wherever a process can keep bytes; and nothing is found in the same process without them."""
    search = planted.Search([planted.secret("secret", SECRET)])
    for content, finds in ((SECRET, True), (bytes(len(SECRET)), False)):
        code = f"import mmap, os, sys, tempfile, time; {HOLDERS[holder]}; print(flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(content)
            process.stdin.close()
            process.stdout.readline()
            found = search.in_processes([process.pid])
            process.kill()
        assert bool(found) is finds, found


def test_a_process_that_has_ended_is_passed_over() -> None:
    """Workers come and go while a search is on."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert planted.Search([planted.secret("secret", SECRET)]).in_processes([process.pid]) == []

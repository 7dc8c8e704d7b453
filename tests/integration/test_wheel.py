"""Wheels: with the kernel where there is a compiler, of pure Python where there is none, and both work once they are installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "blindgate_models/native/libkernel.so"
CONSOLE = ("templates/base.html", "static/console.css", "static/htmx.min.js", "static/htmx.LICENSE.txt")
"""What a gateway's pages are made of beside its modules."""

ANSWER = """
import numpy as np
from blindgate_models.compilers.search import search_parts
from blindgate_models.native.kernel import SOURCE
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer

index = np.random.default_rng(0).integers(-127, 128, (25_000, 9)).astype(np.int8)
parts = [part.model_dump() for part in search_parts(index, privacy="model_private")]
client, server = SearchClient.from_part(parts[0]), SearchServer.from_part(parts[1])
secret = client.make_keys().secret
blob = client.encrypt(secret, np.eye(1, 9))
exact = client.decrypt(secret, server.evaluate(None, blob), 1)[0] == index[:, 0]
print(type(server._product._arithmetic).__name__, exact.all(), SOURCE)
"""


def built(folder: Path, **environment: str) -> Path:
    """A wheel of the working tree's files, built in a folder of its own, since a build leaves its library beside the source."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    source = folder / "source"
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("bench/", "tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, source], check=True, env=os.environ | environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def answer(wheel: Path, folder: Path) -> str:
    """Install a wheel and ask an index: who computed."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{ANSWER}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    who, exact, source = done.stdout.strip().split(maxsplit=2)
    assert Path(source).is_relative_to(folder)
    assert exact == "True"
    return who


def test_without_a_compiler_the_wheel_is_pure_and_works(tmp_path: Path) -> None:
    """It installs anywhere; SEAL computes."""
    empty = tmp_path / "empty"
    empty.mkdir()
    wheel = built(tmp_path, PATH=str(empty))
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert LIBRARY not in names
    assert {f"blindgate_gateway/console/{name}" for name in CONSOLE} <= names
    assert answer(wheel, tmp_path / "site") == "SealArithmetic"


def test_a_compiler_that_fails_is_as_none(tmp_path: Path) -> None:
    """The build goes on."""
    assert built(tmp_path, CC="false").name.endswith("-py3-none-any.whl")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_with_a_compiler_the_wheel_has_the_kernel_and_says_for_which_platform(tmp_path: Path) -> None:
    """No Python's ABI is in its name, since C sees none. Built twice, the library is the same, and holds no path."""
    wheels = [built(tmp_path / name) for name in ("one", "another")]
    assert "-py3-none-linux_" in wheels[0].name
    first, second = (zipfile.ZipFile(wheel).read(LIBRARY) for wheel in wheels)
    assert first == second
    assert str(tmp_path).encode() not in first
    assert answer(wheels[0], tmp_path / "site") == "KernelArithmetic"

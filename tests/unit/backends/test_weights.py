"""A folder of weights is taken only if it is exactly what its list says, and what is loaded is what was hashed."""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blindgate_models.weights import MAX_HEADER_BYTES, list_folder, opened_weights, read_resources
from blindgate_protocol.errors import BackendError, PackageDigestError, PackageError
from blindgate_protocol.weights import MAX_FILES

EMPTY = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files, in two levels."""
    made = tmp_path / "model"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "config.json").write_text('{"a": 1}')
    (made / "1_Pooling" / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(EMPTY)
    return made


def opened(folder: Path, listed: Any, scratch: Path) -> dict[str, bytes]:
    """What a loader sees."""
    with opened_weights(folder, listed, scratch=scratch) as copies:
        return {str(file.relative_to(copies)): file.read_bytes() for file in copies.rglob("*") if file.is_file()}


def test_a_loader_sees_the_listed_bytes_and_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    """The copy has every file; afterwards it is gone."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = opened(folder, list_folder(folder), scratch)
    assert seen == {"config.json": b'{"a": 1}', "1_Pooling/config.json": b"{}", "model.safetensors": EMPTY}
    assert not list(scratch.iterdir())


def test_resources_of_an_openssf_signature_are_read_as_they_are(folder: Path, tmp_path: Path) -> None:
    """Model signing's manifest lists name, algorithm and digest, and no size."""
    listed = [
        {"algorithm": "sha256", "digest": hashlib.sha256((folder / name).read_bytes()).hexdigest(), "name": name}
        for name in ("1_Pooling/config.json", "config.json", "model.safetensors")
    ]
    assert len(opened(folder, read_resources(listed), tmp_path)) == 3


def test_what_changes_after_it_was_checked_is_not_what_is_loaded(folder: Path, tmp_path: Path) -> None:
    """The owner of the disk cannot show one file to the check and another to the loader."""
    with opened_weights(folder, list_folder(folder), scratch=tmp_path) as copies:
        (folder / "config.json").write_text('{"a": 2}')
        assert (copies / "config.json").read_text() == '{"a": 1}'


def _swap(folder: Path) -> None:
    (folder / "config.json").write_text('{"a": 2}')


def _grow(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"a": 1}' + b" " * 100)


def _add(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def _remove(folder: Path) -> None:
    (folder / "config.json").unlink()


def _link(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "outside.json")
    (folder / "config.json").symlink_to(folder.parent / "outside.json")


def _link_folder(folder: Path) -> None:
    (folder / "1_Pooling").rename(folder.parent / "outside")
    (folder / "1_Pooling").symlink_to(folder.parent / "outside")


def _pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _deep(folder: Path) -> None:
    (folder / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)


def _many(folder: Path) -> None:
    for number in range(MAX_FILES):
        (folder / f"{number}.txt").touch()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_swap, r"config\.json: its SHA-256 is", id="another file"),
        pytest.param(_grow, r"config\.json: has more than the 8 bytes", id="longer"),
        pytest.param(_add, r"pytorch_model\.bin: lies in the folder and is not in the list", id="a pickle beside"),
        pytest.param(_remove, r"config\.json: is in the list and not in the folder", id="missing"),
        pytest.param(_link, r"config\.json: a link", id="link"),
        pytest.param(_link_folder, "1_Pooling: a link", id="linked folder"),
        pytest.param(_pipe, r"config\.json: expected files and folders only", id="named pipe"),
        pytest.param(_deep, "a/b/c/d: expected folders of at most 3 levels", id="deep"),
        pytest.param(_many, f"at most {MAX_FILES} files", id="too many"),
    ],
)
def test_a_folder_that_is_not_the_list_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    """And the error names the file."""
    listed = list_folder(folder)
    change(folder)
    with pytest.raises((PackageError, PackageDigestError), match=says):
        opened(folder, listed, tmp_path)
    assert not list(tmp_path.glob("blindgate-weights-*"))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        pytest.param({"name": "../secret.json"}, "without '..'", id="leaves the folder"),
        pytest.param({"name": "a/../../secret.json"}, "without '..'", id="leaves it later"),
        pytest.param({"name": "/etc/passwd"}, "0.name", id="absolute"),
        pytest.param({"name": "a//b.json"}, "a path inside the folder", id="not the plain form"),
        pytest.param({"name": "a\x00.json"}, "0.name", id="NUL"),
        pytest.param({"name": "pytorch_model.bin"}, "no pickle and no code", id="pickle"),
        pytest.param({"name": "modeling_evil.py"}, "no pickle and no code", id="code"),
        pytest.param({"name": "model.onnx"}, "no pickle and no code", id="another format"),
        pytest.param({"algorithm": "sha1"}, "0.algorithm", id="SHA-1"),
        pytest.param({"digest": "00"}, "0.digest", id="short digest"),
        pytest.param({"size": 2**40}, "expected at most", id="too large"),
        pytest.param({"size": -1}, "0.size", id="negative"),
        pytest.param({"link": "x"}, "0.link", id="unknown field"),
    ],
)
def test_a_hostile_list_is_refused(entry: dict[str, Any], says: str) -> None:
    """Before anything is opened."""
    with pytest.raises(PackageError, match=says):
        read_resources([{"name": "a.json", "algorithm": "sha256", "digest": "0" * 64, **entry}])


def test_a_file_is_listed_once() -> None:
    """Two digests of one file are one too many."""
    entry = {"name": "a.json", "algorithm": "sha256", "digest": "0" * 64}
    with pytest.raises(PackageError, match="listed twice"):
        read_resources([entry, entry])


@pytest.mark.parametrize(
    "header",
    [
        pytest.param((2**63).to_bytes(8, "little") + b"{}", id="larger than memory"),
        pytest.param((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", id="larger than a header"),
        pytest.param((3).to_bytes(8, "little") + b"{}", id="longer than the file"),
        pytest.param(bytes(8), id="none"),
        pytest.param(b"\x80\x04", id="a pickle"),
    ],
)
def test_a_gigantic_header_is_refused_before_it_is_read(folder: Path, tmp_path: Path, header: bytes) -> None:
    """A file of ten bytes may claim a header of exabytes."""
    (folder / "model.safetensors").write_bytes(header)
    with pytest.raises(PackageError, match=r"model\.safetensors: its header"):
        opened(folder, list_folder(folder), tmp_path)


def test_a_name_that_no_list_can_have_is_told_in_words(folder: Path) -> None:
    """To whoever packages a folder that an editor left its copy in."""
    (folder / "~config.json").write_text("{}")
    with pytest.raises(PackageError, match=r"'~config\.json': expected a name of at most 255 of A to Z"):
        list_folder(folder)


@pytest.mark.parametrize("key", ["auto_map", "custom_pipelines"])
def test_a_configuration_that_names_code_is_refused(folder: Path, tmp_path: Path, key: str) -> None:
    """Even where every digest is right."""
    (folder / "1_Pooling" / "config.json").write_text(f'{{"{key}": {{"AutoModel": "evil.Model"}}}}')
    with pytest.raises(PackageError, match=f"1_Pooling/config.json: {key}"):
        opened(folder, list_folder(folder), tmp_path)


def test_no_room_for_the_copies_is_said(folder: Path, tmp_path: Path) -> None:
    """Where a node's operator can do something about it."""
    with pytest.raises(BackendError, match="no folder for the weights' copies"):
        opened(folder, list_folder(folder), tmp_path / "missing")

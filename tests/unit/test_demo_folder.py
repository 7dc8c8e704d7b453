"""Where the demo keeps its files: a second run starts afresh, and nobody else's files are touched."""

from pathlib import Path

import pytest

from world import folder_for


def test_a_second_run_starts_in_an_empty_folder(tmp_path: Path) -> None:
    """What the first run left is gone: its keys and models belong to processes that are no more."""
    with folder_for(tmp_path / "demo") as folder:
        (folder / "gateway").mkdir()
        (folder / "gateway" / "gateway.sqlite").touch()
    with folder_for(tmp_path / "demo") as folder:
        assert not (folder / "gateway").exists()


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    """`DEMO_DIR=$HOME make demo` removes nothing."""
    (tmp_path / "thesis").mkdir()
    with pytest.raises(FileExistsError, match="choose an empty folder"), folder_for(tmp_path):
        pass
    assert (tmp_path / "thesis").exists()


def test_without_a_folder_nothing_is_left(tmp_path: Path) -> None:
    """A temporary one is removed at the end."""
    with folder_for(None) as folder:
        (folder / "file").touch()
    assert not folder.exists()

"""What the local folder of blobs has put on the disk by the time that it says so."""

from io import BytesIO
from pathlib import Path

import pytest

from blindgate_gateway import folder
from blindgate_gateway.blobs import Parted
from blindgate_gateway.folder import FolderBlobs
from brokerage import blob_ref


class _Killed(BaseException):
    """SIGKILL, as far as a test can raise it."""


def test_a_part_that_a_killed_process_stored_is_on_the_disk_before_its_blob_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever completes the upload sees the part, and cannot know that nobody synced the folder that names it."""
    synced: dict[int, set[str]] = {}
    sync = folder._fsync_folder

    def note(path: Path) -> None:
        sync(path)
        synced[path.stat().st_ino] = {entry.name for entry in path.iterdir()}

    def die(_path: Path) -> None:
        raise _Killed

    blobs, data = FolderBlobs(tmp_path), b"first second"
    blobs.prepare()
    name, multipart = blobs.begin("bank", blob_ref(data).digest)
    upload = Parted("bank", len(data), 6, name, multipart)
    monkeypatch.setattr(folder, "_fsync_folder", note)
    blobs.take(upload, 1, BytesIO(data[:6]))
    monkeypatch.setattr(folder, "_fsync_folder", die)
    with pytest.raises(_Killed):
        blobs.take(upload, 2, BytesIO(data[6:]))
    monkeypatch.setattr(folder, "_fsync_folder", note)
    assert blobs.arrived(upload) == upload.whole()
    blobs.finish(upload)
    assert synced[(tmp_path / "blobs" / "bank" / name).stat().st_ino] == {"1", "2"}

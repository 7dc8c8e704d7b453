"""A corpus at rest: sealed, whole or not at all, read as of one moment."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from blindgate_protocol.errors import CorpusError
from blindgate_rag import vault as vaults
from blindgate_rag.corpus_keys import write_whole
from blindgate_rag.vault import Vault

KEY = bytes(range(32))
FILES = {"records": b"the patient has a cough" * 100, "vectors": bytes(5000)}


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """One with files in it."""
    made = Vault.create(tmp_path / "notes.bgc", key=KEY)
    with made.writing():
        made.write(FILES)
    return made


def test_what_was_written_is_read_by_whoever_has_the_key(vault: Vault) -> None:
    """And by nobody else."""
    snapshot = Vault.open(vault.folder, key=KEY).read()
    assert snapshot is not None
    assert snapshot.files == FILES
    for wrong in ({"key": bytes(32)}, {"passphrase": "guess"}, {}):
        with pytest.raises(CorpusError):
            Vault.open(vault.folder, **wrong)


def test_a_passphrase_can_be_changed_and_the_one_of_before_opens_nothing(tmp_path: Path) -> None:
    """The corpus is not written anew for it."""
    made = Vault.create(tmp_path / "notes.bgc", "one")
    with made.writing():
        made.write(FILES)
        made.change_passphrase("two")
    assert Vault.open(made.folder, "two").read() is not None
    with pytest.raises(CorpusError, match="the passphrase is not this corpus's"):
        Vault.open(made.folder, "one")


def test_without_a_passphrase_its_own_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    """Beside the folder, so that a copy of the folder opens nowhere."""
    made = Vault.create(tmp_path / "notes.bgc")
    kept = tmp_path / "notes.bgc.passphrase"
    assert kept.stat().st_mode & 0o077 == 0
    Vault.open(made.folder)
    kept.unlink()
    with pytest.raises(CorpusError, match="sealed with a passphrase: give it"):
        Vault.open(made.folder)


def test_nothing_of_it_lies_in_the_clear(vault: Vault) -> None:
    """Neither text nor key, in no file."""
    stored = b"".join(path.read_bytes() for path in vault.folder.iterdir())
    assert b"cough" not in stored
    assert KEY not in stored
    assert all(path.stat().st_mode & 0o077 == 0 for path in vault.folder.iterdir() if path.name != "lock")


def test_a_file_that_was_cut_changed_swapped_or_put_back_does_not_open(vault: Vault) -> None:
    """Each by the file's name; a whole folder of yesterday is a true one, and not noticed."""
    with vault.writing():
        before = {path.name: path.read_bytes() for path in vault.folder.iterdir()}
        vault.write(FILES)
    files = {path.name: path.read_bytes() for path in vault.folder.iterdir()}
    lies = {
        "2-records": [files["2-vectors"], files["2-records"][:-1], files["2-records"] + b"x", before["1-records"], b""],
        "current": [before["current"], files["current"][:-1], b"", files["2-records"]],
        "corpus.json": [
            files["corpus.json"].replace(b'"salt":"', b'"salt":"00'),
            b"{}",
            b"",
            files["corpus.json"][:-2],
        ],
    }
    for name, changed in lies.items():
        for data in changed:
            (vault.folder / name).write_bytes(data)
            with pytest.raises(CorpusError):
                Vault.open(vault.folder, key=KEY).read()
        (vault.folder / name).write_bytes(files[name])
    for place in range(0, len(files["2-records"]), 97):
        flipped = bytearray(files["2-records"])
        flipped[place] ^= 1
        (vault.folder / "2-records").write_bytes(flipped)
        with pytest.raises(CorpusError, match="2-records"):
            Vault.open(vault.folder, key=KEY).read()
    (vault.folder / "2-records").write_bytes(files["2-records"])
    found = Vault.open(vault.folder, key=KEY).read()
    assert found is not None
    assert found.generation == 2


def test_a_generation_leaves_nothing_of_the_one_before(vault: Vault) -> None:
    """Nor of a writer that died."""
    (vault.folder / ".2-records.dead").write_bytes(b"half")
    (vault.folder / "2-records").write_bytes(b"of a writer that died")
    with vault.writing():
        vault.write({"records": b"other"})
    assert {path.name for path in vault.folder.iterdir()} == {"corpus.json", "current", "lock", "2-records"}


def test_what_somebody_else_put_into_its_folder_stays(vault: Vault) -> None:
    """A note, or another corpus with the passphrase that was made for it."""
    (vault.folder / "README.md").write_text("whose this is")
    inner = Vault.create(vault.folder / "inner")
    with vault.writing():
        vault.write(FILES)
    assert (vault.folder / "README.md").read_text() == "whose this is"
    Vault.open(inner.folder)


def test_what_a_process_left_that_died_while_it_made_one_is_in_nobodys_way(tmp_path: Path) -> None:
    """The next one makes it."""
    (tmp_path / ".corpus.json.0badcafe").write_bytes(b"half")
    made = Vault.create(tmp_path, key=KEY)
    with made.writing():
        made.write(FILES)
    assert not (tmp_path / ".corpus.json.0badcafe").exists()


def test_a_passphrase_is_neither_empty_nor_half_a_character(tmp_path: Path) -> None:
    """As that of a variable that is not set is: whoever has the folder would have the corpus."""
    with pytest.raises(CorpusError, match="the passphrase is empty"):
        Vault.create(tmp_path / "a", "")
    with pytest.raises(CorpusError, match="the passphrase is no text"):
        Vault.create(tmp_path / "a", "caf\udce9")
    made = Vault.create(tmp_path / "a", "one")
    with made.writing(), pytest.raises(CorpusError, match="the passphrase is empty"):
        made.change_passphrase("")
    for name, kept, says in (("b", b"\n", "it is empty"), ("c", b"\xff\xfe", "it is not UTF-8")):
        (tmp_path / f"{name}.passphrase").write_bytes(kept)
        with pytest.raises(CorpusError, match=says):
            Vault.create(tmp_path / name)


def test_a_corpus_may_be_called_as_anothers_passphrase_is(tmp_path: Path) -> None:
    """Where both would lie at one place it is said what to do; a passphrase that is given changes without it."""
    Vault.create(tmp_path / "a.passphrase", "one")
    with pytest.raises(CorpusError, match=r"a\.passphrase is a folder, and a passphrase would be kept there: give one"):
        Vault.create(tmp_path / "a")
    made = Vault.create(tmp_path / "a", "one")
    with made.writing():
        made.change_passphrase("two")
    Vault.open(tmp_path / "a", "two")
    Vault.open(tmp_path / "a.passphrase", "one")


def test_a_link_to_it_opens_with_the_passphrase_beside_what_it_leads_to(tmp_path: Path) -> None:
    """And one that was made by the link's name with the one beside that."""
    made = Vault.create(tmp_path / "there" / "notes.bgc")
    (tmp_path / "link.bgc").symlink_to(made.folder)
    Vault.open(tmp_path / "link.bgc")
    (tmp_path / "there" / "notes.bgc.passphrase").rename(tmp_path / "link.bgc.passphrase")
    Vault.open(tmp_path / "link.bgc")


def test_where_nobody_can_write_the_corpus_is_read_and_says_so(vault: Vault, tmp_path: Path) -> None:
    """An error of ours, whichever the file system's is."""
    (vault.folder / "lock").unlink()
    (vault.folder / "lock").mkdir()
    with pytest.raises(CorpusError, match="the corpus cannot be written"), vault.writing():
        pass
    assert Vault.open(vault.folder, key=KEY).read() is not None
    with pytest.raises(CorpusError, match="cannot be made: File name too long"):
        Vault.create(tmp_path / ("x" * 300), key=KEY)


def test_a_full_disk_keeps_what_was_there_and_nothing_of_what_was_begun(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is wanted by others."""
    write = write_whole

    def full(path: Path, data: bytes) -> None:
        if path.name == "2-vectors":
            message = f"{path} cannot be written: No space left on device"
            raise CorpusError(message)
        write(path, data)

    monkeypatch.setattr(vaults, "write_whole", full)
    with vault.writing(), pytest.raises(CorpusError, match="No space left"):
        vault.write(FILES)
    assert {one.name for one in vault.folder.iterdir()} == {"corpus.json", "current", "lock", "1-records", "1-vectors"}
    assert vault.read() is not None


def test_two_writers_wait_for_each_other_and_say_so(vault: Vault) -> None:
    """The second one gives up after a while, and has written nothing."""
    with vault.writing(), pytest.raises(CorpusError, match="another process is writing"), vault.writing(wait=0.1):
        pass


def test_a_folder_of_something_else_and_a_file_are_no_corpus(tmp_path: Path) -> None:
    """Nothing in them is touched."""
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    with pytest.raises(CorpusError, match="is no corpus, and not empty"):
        Vault.create(tmp_path, key=KEY)
    with pytest.raises(CorpusError, match="is a file"):
        Vault.create(tmp_path / "photo.jpg", key=KEY)
    with pytest.raises(CorpusError, match="is no corpus"):
        Vault.open(tmp_path / "none", key=KEY)
    assert (tmp_path / "photo.jpg").read_bytes() == b"a photo"


def _write_for_ever(folder: Path) -> None:
    vault = Vault.open(folder, key=KEY)
    number = 0
    while True:
        number += 1
        with vault.writing():
            vault.write({"records": b"%d" % number * 2000, "vectors": b"%d" % number * 1000})


def test_readers_see_one_moment_while_a_writer_writes_and_is_killed(vault: Vault) -> None:
    """Files of one generation belong together, also after a power cut."""
    for _ in range(3):
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(vault.folder,))
        writer.start()
        assert writer.pid is not None
        seen: set[int] = set()
        reader = Vault.open(vault.folder, key=KEY)
        before = reader.generation()
        while len(seen) < 10:
            snapshot = reader.read()
            assert snapshot is not None
            if snapshot.generation > before + 1:
                assert snapshot.files["records"] == snapshot.files["vectors"] * 2
                seen.add(snapshot.generation)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        after = Vault.open(vault.folder, key=KEY).read()
        assert after is not None
        assert after.files["records"] == after.files["vectors"] * 2


def test_a_reader_that_finds_no_files_says_so(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for ever for files that somebody deleted."""
    monkeypatch.setattr(vaults, "_READS", 2)
    (vault.folder / "1-vectors").unlink()
    with pytest.raises(CorpusError, match="the files that current names are not there"):
        vault.read()

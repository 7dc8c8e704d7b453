"""What was seen of a log is kept, never goes back, and is not believed when it is damaged."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_audit.remembered import Memory
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import LogError
from static_logs import LOG_KEY, ORIGIN, SOME_DAY, sign, verifier

KEY = verifier(LOG_KEY)


def note(size: int, root: bytes = bytes(32)) -> str:
    """A checkpoint as the log signed it."""
    return sign(Checkpoint(ORIGIN, size, root)).decode()


def test_the_largest_tree_is_remembered(tmp_path: Path) -> None:
    """A smaller one that was verified meanwhile, by a slower run, does not take its place."""
    memory = Memory(tmp_path / "new" / "folder")
    assert memory.recall(ORIGIN) is None
    memory.remember(KEY, note(10), place="here", now=SOME_DAY)
    memory.remember(KEY, note(5), place="here", now=SOME_DAY + 1)
    seen = Memory(tmp_path / "new" / "folder").recall(ORIGIN)
    assert seen is not None
    assert (seen.key, seen.checkpoint.size, seen.seen) == (KEY, 10, SOME_DAY)
    memory.remember(KEY, note(11), place="there", now=SOME_DAY + 2)
    seen = memory.recall(ORIGIN)
    assert seen is not None
    assert seen.checkpoint.size == 11
    assert (memory.log_at("here"), memory.log_at("there"), memory.log_at("elsewhere")) == (ORIGIN, ORIGIN, None)


def test_what_contradicts_it_is_refused(tmp_path: Path) -> None:
    """Two roots of one size, or another key: whatever another run came to, the first stays."""
    memory = Memory(tmp_path)
    memory.remember(KEY, note(10), place="here", now=SOME_DAY)
    with pytest.raises(LogError, match="with another root"):
        memory.remember(KEY, note(10, b"\x01" * 32), place="here", now=SOME_DAY)
    other = Ed25519PrivateKey.generate()
    with pytest.raises(LogError, match="under another key"):
        memory.remember(
            verifier(other), sign(Checkpoint(ORIGIN, 11, bytes(32)), other).decode(), place="here", now=SOME_DAY
        )
    seen = memory.recall(ORIGIN)
    assert seen is not None
    assert (seen.checkpoint.size, seen.checkpoint.root) == (10, bytes(32))


@pytest.mark.parametrize("damage", ["not json", "a bit", "another log"])
def test_a_damaged_memory_is_named_with_its_file(damage: str, tmp_path: Path) -> None:
    """Forgetting in silence would let a rollback through."""
    memory = Memory(tmp_path)
    memory.remember(KEY, note(10), place="here", now=SOME_DAY)
    file = memory.file(ORIGIN)
    if damage == "not json":
        file.write_text("{")
    elif damage == "a bit":
        file.write_text(file.read_text().replace("\\n10\\n", "\\n11\\n"))
    else:
        file.rename(memory.file("other.example"))
    with pytest.raises(LogError, match=r"\.json: what was remembered"):
        memory.recall("other.example" if damage == "another log" else ORIGIN)

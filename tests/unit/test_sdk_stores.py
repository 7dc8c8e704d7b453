"""What the SDK keeps: secrets, the policy, what it has seen."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from blindgate.commands import keys, publisher
from blindgate.keystore import FileStore
from blindgate.policy import Policy
from blindgate.seen import SeenTrees, SeenVersions
from blindgate.synced_corpora import SeenCorpora
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import ForkedLogError, KeyStoreError, MalformedError, PolicyError, UntrustedSignerError
from blindgate_protocol.merkle import HASH_BYTES
from blindgate_protocol.signing import SigningKey
from blindgate_rag.sync.heads import SeenHead
from memory_log import MemoryLog
from quick_stores import ROUNDS, as_users_have_them

KEY = SigningKey.from_seed(b"p" * 32).id
SECRET = b"the secret key's own bytes"


def test_a_secret_is_found_again_by_the_next_process(tmp_path: Path) -> None:
    """Keys are made once. It opens as slowly as a user's does, which is what a passphrase is worth."""
    assert ROUNDS == 2**17
    with as_users_have_them():
        FileStore(tmp_path / "keys", "open sesame").put("a", SECRET)
        assert FileStore(tmp_path / "keys", "open sesame").get("a") == SECRET
    with pytest.raises(KeyStoreError):
        FileStore(tmp_path / "keys", "open sesame")  # as tests open theirs


def test_no_file_of_the_store_holds_the_secret_in_the_clear(tmp_path: Path) -> None:
    """A copy of the store is worth nothing without its passphrase."""
    FileStore(tmp_path / "keys", "open sesame").put("a", SECRET)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_bytes()
            assert path.name == "lock" or path.stat().st_mode & 0o077 == 0


def test_another_passphrase_opens_nothing_and_says_so(tmp_path: Path) -> None:
    """The error is about the passphrase, not about a damaged key."""
    FileStore(tmp_path / "keys", "open sesame")
    with pytest.raises(KeyStoreError, match="passphrase"):
        FileStore(tmp_path / "keys", "open barley")


def test_what_is_no_text_is_no_passphrase_and_makes_no_store(tmp_path: Path) -> None:
    """As a terminal gives it whose encoding is not UTF-8."""
    with pytest.raises(KeyStoreError, match="the passphrase is no text"):
        FileStore(tmp_path / "keys", "caf\udce9")
    assert list((tmp_path / "keys").glob("*.json")) == []


def test_a_store_that_was_sealed_with_a_passphrase_asks_for_it(tmp_path: Path) -> None:
    """Forgetting the variable does not make a second, empty store."""
    FileStore(tmp_path / "keys", "open sesame").put("a", SECRET)
    with pytest.raises(KeyStoreError, match="BLINDGATE_PASSPHRASE"):
        FileStore(tmp_path / "keys")


def test_one_passphrase_opens_the_store_for_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher's key lies in the same store as a data owner's keys."""
    monkeypatch.setenv("BLINDGATE_PASSPHRASE", "open sesame")
    for app, command in ((publisher.app, "key"), (keys.app, "signer"), (publisher.app, "key")):
        app([command, "--home", str(tmp_path)], standalone_mode=False)
    store = FileStore(tmp_path / "keys", "open sesame")
    assert store.names() == ["client-signing-key", "publisher-signing-key"]


def test_without_a_passphrase_the_store_keeps_a_random_one_outside_of_itself(tmp_path: Path) -> None:
    """A backup of the store's folder alone opens nothing."""
    FileStore(tmp_path / "keys").put("a", SECRET)
    assert FileStore(tmp_path / "keys").get("a") == SECRET
    with pytest.raises(KeyStoreError, match="made without a passphrase"):
        FileStore(tmp_path / "keys", "open sesame")
    (tmp_path / "keys.passphrase").unlink()
    with pytest.raises(KeyStoreError):
        FileStore(tmp_path / "keys")


def test_two_sealed_files_cannot_be_swapped(tmp_path: Path) -> None:
    """A name is bound into its file."""
    store = FileStore(tmp_path / "keys", "open sesame")
    store.put("a", SECRET)
    store.put("b", b"another")
    (tmp_path / "keys" / "a.sealed").replace(tmp_path / "keys" / "b.sealed")
    with pytest.raises(KeyStoreError, match="altered"):
        store.get("b")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a\0b"])
def test_a_name_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    """Names are names, not paths."""
    with pytest.raises(KeyStoreError):
        FileStore(tmp_path / "keys", "x").get(name)


def test_names_are_listed_without_secrets(tmp_path: Path) -> None:
    """What is there can be seen without being opened."""
    store = FileStore(tmp_path / "keys", "x")
    store.put("b", b"2")
    store.put("a", b"1")
    assert store.names() == ["a", "b"]
    store.delete("a")
    assert store.names() == ["b"]
    assert "x" not in repr(store)


def _count(folder: Path) -> None:
    store = FileStore(folder, "x")
    for _ in range(20):
        with store.lock():
            count = int(store.get("count") or b"0")
            store.put("count", str(count + 1).encode())


def test_two_processes_do_not_make_the_same_key_twice(tmp_path: Path) -> None:
    """The lock keeps the others out between looking and making."""
    FileStore(tmp_path / "keys", "x")
    workers = [multiprocessing.get_context("spawn").Process(target=_count, args=(tmp_path / "keys",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert FileStore(tmp_path / "keys", "x").get("count") == b"40"


def test_a_policy_that_is_not_there_trusts_nobody_and_says_how_to_begin(tmp_path: Path) -> None:
    """No file is no trust, not an exception from the file system."""
    policy = Policy.load(tmp_path / "policy.toml")
    with pytest.raises(UntrustedSignerError, match="blindgate policy trust operator"):
        policy.allowed_operators()


def test_a_policy_reads_as_it_was_written(tmp_path: Path) -> None:
    """What the command line writes, a person can read and the SDK reads back."""
    path = tmp_path / "policy.toml"
    Policy({"acme.health": KEY}, {"north": KEY}, path=path).save()
    read = Policy.load(path)
    assert (read.publishers, read.operators) == ({"acme.health": KEY}, {"north": KEY})
    assert read.allowed_operators() == (KEY,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('[publishers]\nacme = "ed25519:short"', "publishers.acme", id="no key"),
        pytest.param('[publisher]\nacme = "x"', "publisher", id="misspelt section"),
        pytest.param('[rules]\nlanes = ["plain"]', "rules.lanes", id="unknown lane"),
        pytest.param("[rules]\nlanes = []", "rules.lanes", id="no lane"),
        pytest.param("[rules", "not TOML", id="not TOML"),
    ],
)
def test_a_policy_with_a_mistake_is_refused_by_the_field(tmp_path: Path, text: str, says: str) -> None:
    """A misspelt rule must not be a rule that is silently off."""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=says):
        Policy.load(path)


def test_seen_versions_only_grow(tmp_path: Path) -> None:
    """An older version does not lower the bar for the next."""
    seen = SeenVersions(tmp_path / "seen.json")
    seen.remember(KEY, "m", 5)
    seen.remember(KEY, "m", 3)
    assert SeenVersions(tmp_path / "seen.json").version(KEY, "m") == 5
    assert seen.version(KEY, "other") == 0


def test_a_damaged_memory_of_versions_is_not_ignored(tmp_path: Path) -> None:
    """Deleting it silently would be the rollback that it guards against."""
    (tmp_path / "seen.json").write_bytes(os.urandom(16))
    with pytest.raises(MalformedError):
        SeenVersions(tmp_path / "seen.json").version(KEY, "m")


LOG = MemoryLog()
CHECKPOINT = Checkpoint(LOG.key.name, 10, b"r" * HASH_BYTES)


def test_seen_corpora_only_grow(tmp_path: Path) -> None:
    """Whichever process of this client remembers last; another head of the same generation does not take the place of one."""
    seen = SeenCorpora(tmp_path / "corpora.json")
    newest = SeenHead(5, f"sha256:{'5' * 64}")
    for head in (newest, SeenHead(4, f"sha256:{'4' * 64}"), SeenHead(5, f"sha256:{'0' * 64}")):
        seen.remember("1" * 32, head)
    again = SeenCorpora(tmp_path / "corpora.json")
    assert again.newest("1" * 32) == newest
    assert again.newest("2" * 32) is None
    again.forget("2" * 32)
    assert again.newest("1" * 32) == newest


@pytest.mark.parametrize("text", ["{", "[]", '{"1": {"generation": -1, "digest": ""}}', ""])
def test_a_damaged_memory_of_corpora_is_not_ignored(tmp_path: Path, text: str) -> None:
    """Whoever could damage it would bring back what was before; and nothing is written over it."""
    path = tmp_path / "corpora.json"
    path.write_text(text)
    for use in (SeenCorpora.newest, SeenCorpora.forget):
        with pytest.raises(MalformedError, match="guards against corpora that are set back"):
            use(SeenCorpora(path), "1" * 32)
    with pytest.raises(MalformedError, match="guards against corpora that are set back"):
        SeenCorpora(path).remember("1" * 32, SeenHead(1, f"sha256:{'1' * 64}"))
    assert path.read_text() == text


def test_another_tree_of_the_same_size_is_no_memory_of_this_client(tmp_path: Path) -> None:
    """Two processes of one client that were shown two logs find it out."""
    SeenTrees(tmp_path / "logs.json").remember(str(LOG.key), CHECKPOINT)
    with pytest.raises(ForkedLogError, match="two trees of 10"):
        SeenTrees(tmp_path / "logs.json").remember(str(LOG.key), replace(CHECKPOINT, root=b"s" * HASH_BYTES))


def test_seen_trees_only_grow(tmp_path: Path) -> None:
    """A process that was slower does not set another's memory back; another log's is its own."""
    seen = SeenTrees(tmp_path / "logs.json")
    seen.remember(str(LOG.key), CHECKPOINT)
    seen.remember(str(LOG.key), replace(CHECKPOINT, size=9))
    known = SeenTrees(tmp_path / "logs.json").trees()
    assert [(log, tree.size) for log, tree in known.items()] == [(str(LOG.key), 10)]
    with pytest.raises(ForkedLogError, match="with 9 entries"):
        known[str(LOG.key)].require_not_smaller(replace(CHECKPOINT, size=9))


@pytest.mark.parametrize("text", ["", "[]", '{"a": {"size": 1}}', '{"a": {"size": 1, "root": "00"}}'])
def test_a_damaged_memory_of_logs_is_not_ignored(tmp_path: Path, text: str) -> None:
    """Deleting it silently would be the rollback that it guards against."""
    (tmp_path / "logs.json").write_text(text)
    with pytest.raises(MalformedError, match=r"logs\.json is damaged"):
        SeenTrees(tmp_path / "logs.json").trees()

"""Evaluation keys in a node's memory: whose, how many, how long."""

import os
import threading
from collections.abc import Callable

import pytest

from blindgate_node.blobs import SealedBlob
from blindgate_node.key_cache import KeyCache, KeyName
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import LeaseLostError, SandboxError

SIZE = 1000


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.time


class Store:
    """Keys to be fetched, and how often each was."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.blobs: dict[str, SealedBlob] = {}

    def name(self, key: str, tenant: str = "hospital") -> KeyName:
        """The cache's name for a key."""
        return KeyName(tenant, digest(self.content(key)))

    def content(self, key: str) -> bytes:
        """A key's bytes."""
        return key.encode().ljust(SIZE, b".")

    def fetch(self, key: str) -> SealedBlob:
        """Fetch it."""
        self.fetched.append(key)
        data = self.content(key)
        self.blobs[key] = SealedBlob.receive([data], digest=digest(data), size=None, most=SIZE)
        return self.blobs[key]


def grows(expansion: float) -> Callable[[int], int]:
    """What a key grows by: so many times its size."""
    return lambda size: int(size * expansion)


def use(
    cache: KeyCache,
    store: Store,
    key: str,
    *,
    tenant: str = "hospital",
    expansion: float = 0.0,
    keeper: str | None = None,
) -> bytes:
    """Use a key once."""
    name = store.name(key, tenant)
    with cache.using(
        name, lambda: store.fetch(key), grows=grows(expansion), still_wanted=lambda: None, keeper=keeper
    ) as blob:
        return os.pread(blob.descriptor, SIZE, 0)


def test_a_key_is_fetched_once_and_found_again() -> None:
    """The second job under a key costs no download."""
    cache, store = KeyCache(most_bytes=10 * SIZE, seconds=60), Store()
    assert use(cache, store, "a") == use(cache, store, "a") == store.content("a")
    assert store.fetched == ["a"]
    assert cache.digests() == (store.name("a").digest,)


def test_another_tenants_key_of_the_same_digest_is_fetched_for_that_tenant() -> None:
    """A tenant can never use, or learn the presence of, what another brought."""
    cache, store = KeyCache(most_bytes=10 * SIZE, seconds=60), Store()
    use(cache, store, "a")
    use(cache, store, "a", tenant="bank")
    assert store.fetched == ["a", "a"]


def test_the_longest_unused_key_makes_room() -> None:
    """A full cache forgets by last use, and never grows past its bound."""
    cache, store = KeyCache(most_bytes=2 * SIZE, seconds=60), Store()
    for key in ("a", "b", "a", "c"):
        use(cache, store, key)
        assert cache.room() <= 2 * SIZE
    assert cache.digests() == (store.name("a").digest, store.name("c").digest)


def test_a_key_that_was_not_used_for_its_time_is_wiped() -> None:
    """What an idle tenant left goes, and its bytes are overwritten for everybody who still has the descriptor."""
    clock = Clock()
    cache, store = KeyCache(most_bytes=10 * SIZE, seconds=60, now=clock), Store()
    use(cache, store, "a")
    copy = os.dup(store.blobs["a"].descriptor)
    clock.time = 59
    cache.expire()
    assert os.pread(copy, SIZE, 0) == store.content("a")
    clock.time = 61
    cache.expire()
    assert cache.digests() == ()
    assert os.pread(copy, SIZE, 0) == bytes(SIZE)
    os.close(copy)


def test_a_key_in_use_is_never_wiped() -> None:
    """Neither its age nor another key's need takes a key from a running job."""
    clock = Clock()
    cache, store = KeyCache(most_bytes=SIZE, seconds=60, now=clock), Store()

    def give_up() -> None:
        raise LeaseLostError("given up")

    with cache.using(store.name("a"), lambda: store.fetch("a"), grows=grows(0), still_wanted=lambda: None) as blob:
        clock.time = 1000
        cache.expire()
        cache.clear()
        with (
            pytest.raises(LeaseLostError),
            cache.using(store.name("b"), lambda: store.fetch("b"), grows=grows(0), still_wanted=give_up),
        ):
            pass
        assert os.pread(blob.descriptor, SIZE, 0) == store.content("a")


def test_a_key_counts_as_large_as_it_grows_while_it_is_used() -> None:
    """Two jobs under keys that grow fourfold do not run at once where there is room for one; the second waits and runs."""
    cache, store = KeyCache(most_bytes=6 * SIZE, seconds=60), Store()
    second_done = threading.Event()

    def second() -> None:
        use(cache, store, "b", expansion=4.0)
        second_done.set()

    with cache.using(store.name("a"), lambda: store.fetch("a"), grows=grows(4.0), still_wanted=lambda: None):
        assert cache.room() == 5 * SIZE
        thread = threading.Thread(target=second)
        thread.start()
        assert not second_done.wait(0.3)
    assert second_done.wait(10)
    thread.join()
    assert cache.room() == 2 * SIZE


def test_a_key_that_is_kept_expanded_counts_so_until_it_goes() -> None:
    """Jobs share what a zygote keeps; another model's zygote keeps another; both are told when the key is dropped."""
    clock, dropped = Clock(), list[tuple[KeyName, str]]()
    store, cache = (
        Store(),
        KeyCache(
            most_bytes=9 * SIZE, seconds=60, dropped=lambda name, reason: dropped.append((name, reason)), now=clock
        ),
    )
    for _ in range(3):
        use(cache, store, "a", expansion=3.0, keeper="model a")
        assert cache.room() == 4 * SIZE
    use(cache, store, "a", expansion=3.0, keeper="model b")
    assert cache.room() == 7 * SIZE
    use(cache, store, "b", expansion=3.0, keeper="model a")
    assert cache.room() == 4 * SIZE, "the first key made room, with all that kept it"
    assert dropped == [(store.name("a"), "room")]
    clock.time = 61
    cache.expire()
    assert (cache.room(), dropped) == (0, [(store.name("a"), "room"), (store.name("b"), "unused")])


def test_many_jobs_under_one_key_wait_for_each_other_and_all_run() -> None:
    """Whoever waits holds nothing, so a crowd cannot lock itself up."""
    cache, store = KeyCache(most_bytes=3 * SIZE, seconds=60), Store()
    use(cache, store, "a")
    threads = [threading.Thread(target=use, args=(cache, store, "a"), kwargs={"expansion": 2.0}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_a_key_that_can_never_fit_is_an_error_at_once() -> None:
    """A job whose key this node is too small for is given back rather than kept waiting."""
    cache, store = KeyCache(most_bytes=4 * SIZE, seconds=60), Store()
    with pytest.raises(SandboxError, match="keeps at most"):
        use(cache, store, "a", expansion=4.0)
    assert cache.digests() == ()


def test_a_sealed_blob_cannot_be_changed_through_its_descriptor() -> None:
    """A worker that was handed a key hands the next job the same key."""
    with Store().fetch("a") as blob:
        with pytest.raises(PermissionError):
            os.pwrite(blob.descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(blob.descriptor, 0)
        with open(f"/proc/self/fd/{blob.descriptor}", "r+b", buffering=0) as again, pytest.raises(PermissionError):  # noqa: PTH123
            again.write(b"x")

"""Whoever waits is woken: in this process, from another one, and never beyond the cap."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from blindgate_gateway import wakeups
from blindgate_gateway.bells import Bell, FolderBell
from blindgate_gateway.parts import build_parts
from blindgate_gateway.settings import Settings
from blindgate_gateway.wakeups import Wakeups, Watch
from brokerage import Keys, make_settings

FOREVER = 60.0


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    """Of a gateway on each database: the bell goes through the folder, or through the server."""
    made = make_settings(tmp_path, Keys(), database=database_url)
    (made.data / "wakeups").mkdir()
    return made


class Heard(Wakeups):
    """Tells when it has begun to listen. Whoever begins looks once: something may have happened before."""

    def __init__(self, bell: Bell, *, most_waiting: int) -> None:
        super().__init__(bell, most_waiting=most_waiting)
        self._began = threading.Event()

    def calm(self, watch: Watch) -> None:
        """Wait until that first look is over."""
        assert self._began.wait(60)
        watch.happened.clear()

    def _heard(self, topics: tuple[str, ...] | None) -> None:
        super()._heard(topics)
        self._began.set()


@pytest.fixture
def waiting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """Wakeups that end no wait by themselves, so that only a wake-up does."""
    monkeypatch.setattr(wakeups, "FALLBACK_SECONDS", FOREVER)
    bell = build_parts(settings).wakeups._bell
    waiting = Heard(bell, most_waiting=1)
    yield waiting
    waiting.close()


def test_a_wake_up_between_the_look_and_the_wait_is_not_lost(waiting: Wakeups) -> None:
    """Watching starts before looking."""
    with waiting.watch("job") as watch:
        waiting.wake("job")
        assert watch.wait(time.monotonic() + FOREVER)


def test_another_topic_wakes_nobody(waiting: Heard) -> None:
    """A job's end is told to those who wait for that job."""
    with waiting.watch("job") as watch:
        waiting.calm(watch)
        waiting.wake("other")
        assert not watch.happened.wait(0.2)


def test_another_process_wakes_whoever_waits(waiting: Heard, settings: Settings) -> None:
    """Without anybody asking again and again."""
    with waiting.watch("job") as watch:
        waiting.calm(watch)
        waiting.wake("nothing")
        time.sleep(0.2)
        assert not watch.happened.is_set(), "its own bell woke the process"
        _wake_elsewhere(settings, watch)


def _wake_elsewhere(settings: Settings, watch: Watch) -> None:
    """Another process wakes those who wait for the job, now and then; `watch` must hear it."""
    code = (
        "import time; from blindgate_gateway.settings import load_settings; from blindgate_gateway.parts import build_parts\n"
        "wakeups = build_parts(load_settings()).wakeups\n"
        "while True: wakeups.wake('job'); time.sleep(0.5)"
    )
    environment = os.environ | {"BLINDGATE_GATEWAY_DATA": str(settings.data)}
    if settings.database is not None:
        environment["BLINDGATE_GATEWAY_DATABASE"] = settings.database.get_secret_value()
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as other:
        try:
            assert watch.happened.wait(60)
        finally:
            other.kill()


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[int], None]]:
    """Lets this process have so many descriptors only; undone at the end."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_process_without_descriptors_hears_when_it_has_some(
    waiting: Wakeups, settings: Settings, few_descriptors: Callable[[int], None]
) -> None:
    """Whoever could not begin to listen begins later, and what is told meanwhile fails no request."""
    few_descriptors(3)
    with waiting.watch("job"):
        waiting.wake("nothing")
        time.sleep(0.3)
    few_descriptors(1024)
    with waiting.watch("job") as watch:
        watch.happened.clear()
        _wake_elsewhere(settings, watch)


def test_a_process_with_a_thousand_connections_hears(waiting: Wakeups, settings: Settings) -> None:
    """Its descriptors have numbers that not every call of the system knows."""
    with ExitStack() as stack:
        try:
            for _ in range(1100):
                stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pytest.skip("this process may not have that many descriptors")
        with waiting.watch("job") as watch:
            _wake_elsewhere(settings, watch)


def test_whoever_comes_beyond_the_cap_does_not_wait(waiting: Wakeups) -> None:
    """And the place is free again when the first one leaves."""
    with waiting.watch("job"), waiting.watch("job") as second:
        assert not second.wait(time.monotonic() + FOREVER)
    with waiting.watch("job") as third:
        waiting.wake("job")
        assert third.wait(time.monotonic() + FOREVER)


def test_nobody_waits_when_the_process_stops(waiting: Wakeups) -> None:
    """A graceful stop does not last as long as the longest poll."""
    waiting.stopping = True
    with waiting.watch("job") as watch:
        assert not watch.wait(time.monotonic() + FOREVER)


def test_what_listens_for_others_ends_when_it_is_closed(tmp_path: Path) -> None:
    """A machine gives each user few of the kernel's ears: those of closed gateways are given back."""

    def ears() -> int:
        found = 0
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                found += "inotify" in str(descriptor.readlink())
        return found

    before = ears()
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        owner = Wakeups(FolderBell(folder), most_waiting=1)
        with owner.watch("job") as watch:
            watch.wait(time.monotonic() + 0.05)
        owner.close()
    until = time.monotonic() + 10
    while ears() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert ears() <= before


def test_a_wait_is_over_when_its_time_is(tmp_path: Path) -> None:
    """Without any wake-up, too."""
    owner = Wakeups(FolderBell(tmp_path), most_waiting=1)
    done = threading.Event()

    def wait() -> None:
        with owner.watch("job") as watch:
            until = time.monotonic() + 0.3
            while watch.wait(until):
                pass
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    assert done.wait(30)

"""Real witnesses: one for many tests, each with a log of its own, and one for those that stop or break it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from blindgate_witness.records import Records
from growing_log import GrowingLog
from witness_process import WitnessProcess, running_witness

_numbers = itertools.count()


@pytest.fixture
def log() -> GrowingLog:
    """A log of ten entries that nobody saw."""
    return GrowingLog(f"gateway.example/log-{next(_numbers)}").grow(10)


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessProcess]:
    """A witness that serves all the while."""
    with running_witness(tmp_path_factory.mktemp("serving") / "witness") as running:
        yield running


@pytest.fixture
def witness(serving: WitnessProcess, log: GrowingLog) -> WitnessProcess:
    """That one, now told of `log` too."""
    Records(serving.data / "witness.sqlite3").add(log.key)
    return serving


@pytest.fixture
def own_witness(log: GrowingLog, tmp_path: Path) -> Iterator[WitnessProcess]:
    """One for this test alone, told of `log`."""
    with running_witness(tmp_path / "witness", log.key) as running:
        yield running

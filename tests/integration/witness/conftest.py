"""A real witness that was told of one log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from growing_log import GrowingLog
from witness_process import WitnessProcess, running_witness


@pytest.fixture
def log() -> GrowingLog:
    """A log of ten entries."""
    return GrowingLog().grow(10)


@pytest.fixture
def witness(log: GrowingLog, tmp_path: Path) -> Iterator[WitnessProcess]:
    """It serves."""
    with running_witness(tmp_path / "witness", log.key) as running:
        yield running

"""A gateway in the test's own process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from desk import Desk, open_desk


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Desk]:
    """A gateway with one of everybody, on each database."""
    settings = {"part": 64 * 1024, "lease": 60_000, "attempts": 2, "max_blob": 1 << 20}
    with open_desk(tmp_path, database=database_url, **settings) as made:
        yield made

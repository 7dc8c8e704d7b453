"""A gateway in the test's own process."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from blindgate_gateway.log import telling
from blindgate_protocol.events import Event, event_bytes
from desk import Desk, open_desk


def _held_to_the_form(members: Mapping[str, Any]) -> bytes:
    """A gateway does not check what it tells. Here it does: each event that a test makes is one that auditors read."""
    return Event.from_bytes(event_bytes(members)).to_bytes()


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A gateway with one of everybody, on each database."""
    monkeypatch.setattr(telling, "event_bytes", _held_to_the_form)
    settings = {"part": 64 * 1024, "lease": 60_000, "attempts": 2, "max_blob": 1 << 20}
    with open_desk(tmp_path, database=database_url, **settings) as made:
        yield made

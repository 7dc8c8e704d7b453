"""How long it still takes, as it is shown."""

import io
import sys

import pytest

from blindgate_rag.progress import shown


def test_work_that_has_just_begun_is_not_said_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rankers are asked the same number of questions one after the other, and the last takes a thousand times the first's time."""
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown(show=True) as advance:
        advance("bm25", 300, 300)
        advance("encrypted", 1, 300)
    last = terminal.getvalue().rpartition("encrypted")[2]
    assert "1/300" in last
    assert "-:--:--" in last

"""Real data that lies beside the checkout and not in it."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BLINDGATE_SHARED") or Path(__file__).parents[3] / "shared")


def shared(name: str) -> Path:
    """The file `name` of the shared folder. Skips the test where there is none, and fails it in CI."""
    path = FOLDER / name
    if not path.exists():
        reason = f"shared/{name} is not beside the checkout; BLINDGATE_SHARED may name another folder"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return path

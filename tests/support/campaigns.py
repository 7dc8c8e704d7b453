"""How long campaigns are: a slice in `make test`, the whole in `make nightly`."""

import os

import pytest

CAMPAIGN = int(os.environ.get("BLINDGATE_CAMPAIGN", "1"))
"""What random trials are multiplied by; the whole of a campaign has more than 1."""


def leave_to_nightly() -> None:
    """Skip a test, or a variant of one, that `make test` has no time for."""
    if CAMPAIGN == 1:
        pytest.skip("in make nightly")


def of(whole: int, *, slice_of: int) -> int:
    """How many of `whole` are tried now."""
    return whole if CAMPAIGN > 1 else slice_of

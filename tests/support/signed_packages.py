"""Signed packages for tests, and who signs them."""

from typing import Any

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.publishing import publish
from blindgate_protocol.signing import SigningKey

DAY = 86_400_000
NOW = 1_760_000_000_000
"""When the tests' packages were issued: long enough ago for every clock."""

PUBLISHER = SigningKey.from_seed(b"insecure test publisher".ljust(32, b"."))


def package(compiled: CompiledModel, *, publisher: SigningKey = PUBLISHER, **changes: Any) -> bytes:
    """A signed package of a compiled model."""
    given: dict[str, Any] = {
        "name": "small",
        "version": 1,
        "summary": "For tests.",
        "issued": NOW,
        "expires": NOW + 3650 * DAY,
    }
    return publish(compiled, publisher, **(given | changes))

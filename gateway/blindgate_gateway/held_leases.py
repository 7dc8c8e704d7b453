"""The lease that a node's command is given under: named in a header, and checked by the statement that acts on it."""

from typing import Any, Final

from blindgate_gateway.identity import Node
from blindgate_gateway.routing import Call
from blindgate_gateway.transitions import Held
from blindgate_protocol.errors import LeaseLostError, MalformedError
from blindgate_protocol.messages import LEASE_HEADER

LEASE_PARAMETER: Final = {LEASE_HEADER: ("header", "the lease, as `<generation>.<token>`")}
"""How a route says that it reads the header."""

_TOKEN_LENGTH: Final = 32


def held_lease(call: Call[Node, Any], job: str) -> Held:
    """The lease that the request's header names. Whether it goes on is not asked. Raises `MalformedError`."""
    generation, _, token = call.request.headers.get(LEASE_HEADER, "").partition(".")
    if not (generation.isascii() and generation.isdigit() and len(generation) < 10 and len(token) == _TOKEN_LENGTH):  # noqa: PLR2004
        message = f"the header {LEASE_HEADER} must be <generation>.<token>"
        raise MalformedError(message)
    return Held(job, int(generation), token, call.caller.key, call.caller.name)


def lost_lease() -> LeaseLostError:
    """For a command under a lease that is over."""
    return LeaseLostError("this lease is over: the job was finished, cancelled, or leased to somebody else")

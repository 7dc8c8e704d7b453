"""Who calls, and whether they may.

What a caller may not do is told apart only as far as it concerns their own credential: none or a wrong one is 401, a right one
of another role is 403, and an object of somebody else is 404 (`problems.not_found`), on every route.

A request brings one credential: a node's signature, or a bearer token, which is an API key or, where the settings name an issuer,
a person's token from there. One that brings both is refused, since whoever reads the log could not tell which of them counted.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from blindgate_gateway.database import Database
from blindgate_gateway.identity.api_keys import authenticate_key
from blindgate_gateway.identity.failures import Failures
from blindgate_gateway.identity.roles import Caller, Role
from blindgate_gateway.identity.signatures import authenticate_node
from blindgate_gateway.rates import Rates, claim_of
from blindgate_gateway.settings import Settings
from blindgate_protocol.errors import GatewayError, MalformedError, NotAuthorisedError
from blindgate_protocol.http_signatures import SIGNATURE, SIGNATURE_INPUT

if TYPE_CHECKING:
    from blindgate_gateway.identity.people import People

_DOTS_OF_A_JWT = 2  # no other credential has two
_UNKNOWN = "an API key as a bearer token, or a node's signature, is needed, and this is not a valid one"


@dataclass(frozen=True)
class Doorkeeper:
    """Lets callers in, or does not."""

    database: Database
    settings: Settings
    rates: Rates
    failures: Failures
    people: "People | None" = None

    def admit(self, request: Request, roles: AbstractSet[Role]) -> Caller:
        """Decide who calls and whether `roles` has a place for them.

        Raises `NotAuthorisedError`, or `GatewayError` with 401 or 429.
        """
        with self.rates.watch(request):
            try:
                caller = self._identify(request)
            except (NotAuthorisedError, GatewayError) as error:
                if error.status == HTTPStatus.UNAUTHORIZED:
                    self.failures.note(claim_of(request), error.problem or error.code)
                raise
        self.rates.charge(request, caller.key)
        if not caller.roles & roles:
            own = " and ".join(sorted(role.value for role in caller.roles))
            message = f"this credential is {'an' if own[0] in 'aeiou' else 'a'} {own}'s and does not open this route"
            raise NotAuthorisedError(message, status=403)
        return caller

    def _identify(self, request: Request) -> Caller:
        headers = request.headers
        authorization = headers.get("Authorization")
        if SIGNATURE in headers or SIGNATURE_INPUT in headers:
            if authorization is not None:
                message = "a signed request brings no other credential"
                raise NotAuthorisedError(message, status=401)
            try:
                return authenticate_node(self.database, request, self.settings)
            except MalformedError as error:
                raise NotAuthorisedError(str(error), status=401) from error
        scheme, _, given = (authorization or "").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else ""
        if self.people is not None and token.count(".") == _DOTS_OF_A_JWT:
            return self.people.identify(token)
        caller = authenticate_key(self.database, token)
        if caller is None:
            raise NotAuthorisedError(_UNKNOWN, status=401)
        return caller

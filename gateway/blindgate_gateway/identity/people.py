"""People who sign in elsewhere: an OpenID Connect issuer says who they are, and the settings say what that is worth here.

A bearer token counts when

1. its header names one of the algorithms of `issuer_keys`, all of them asymmetric (so neither `none`, nor a public key used as
   an HMAC's secret), and a key of the issuer's by its `kid`. Keys that a token brings along, or links to, are not looked at;
2. it is signed with that key, under the algorithm that this key is for;
3. `iss` and `aud` are the settings', `exp` has not passed and `nbf` has, give or take `LEEWAY_SECONDS`, and `sub` is there;
4. the claim that the settings name holds something that they map to a role.

`operator` and `auditor` make somebody staff, who belongs to no tenant. `jobs`, `publish` and `read` are scopes of the tenant that
a second claim names; it has to be a tenant already. Times are compared with this process's clock: PyJWT has no other.

A token may be shown once for a session that asks for it no more (the auditors' console). What made it count is then written down,
as `Grounds`, and looked at each time the session is used: the same issuer, audience and claim in the settings, the value still
mapped to the role, the key still the issuer's. That somebody lost the role there is seen where it is for any token, at its end.
"""

import json
from typing import Any, Final

import jwt
from sqlalchemy import bindparam, select

from blindgate_gateway.database import Database, prepared
from blindgate_gateway.identity.issuer_keys import ALGORITHMS, IssuerKeys
from blindgate_gateway.identity.roles import Account, Grounds, Role, Scope, Staff, StaffRole
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import tenants
from blindgate_protocol.errors import NotAuthorisedError

LEEWAY_SECONDS: Final = 30
_END_OF_TIME: Final = 1 << 53
_TENANT = prepared(select(tenants.c.name).where(tenants.c.name == bindparam("name")))
_STAFF: Final = frozenset(role.value for role in StaffRole)
_REQUIRED: Final = ("iss", "aud", "exp", "sub")


class People:
    """Whom one issuer's tokens make of callers."""

    def __init__(self, settings: Settings, database: Database) -> None:
        """Settings with an issuer and an audience."""
        self._settings, self._database = settings, database
        self._keys = IssuerKeys(settings.oidc_issuer or "")

    def identify(self, token: str) -> Account | Staff:
        """Whose token this is. Raises `NotAuthorisedError`; `GatewayError` (503) when the issuer's keys cannot be had."""
        claims = self._verified(token)
        # 4.
        roles = self._settings.oidc_roles
        values = [value for value in _values(claims.get(self._settings.oidc_claim)) if value in roles]
        granted = {roles[value] for value in values}
        name = f"oidc:{claims['sub']}"
        staff = granted & _STAFF
        if staff:
            named = str(jwt.get_unverified_header(token)["kid"])
            counted = [value for value in values if roles[value] in staff]
            grounds = Grounds(
                json.dumps([*self._terms(), named, counted]), min(int(claims["exp"]) * 1000, _END_OF_TIME)
            )
            return Staff(name, frozenset(map(Role, staff)), name, grounds)
        tenant = claims.get(self._settings.oidc_tenant)
        if not granted or not isinstance(tenant, str) or self._database.look(_TENANT, {"name": tenant}) is None:
            message = "the token is valid, and gives no role at this gateway, or none at a tenant that it has"
            raise NotAuthorisedError(message, status=403)
        return Account(tenant, frozenset(map(Scope, granted)), name)

    def still_holds(self, grounds: str, role: Role) -> bool:
        """Whether what made a token count would still give its bearer `role`, but for its times.

        Raises `GatewayError` (503) when the issuer's keys cannot be had.
        """
        *terms, named, counted = json.loads(grounds)
        given = [self._settings.oidc_roles.get(value) for value in counted]
        return terms == self._terms() and role.value in given and self._keys.find(named) is not None

    def _terms(self) -> list[str | None]:
        return [self._settings.oidc_issuer, self._settings.oidc_audience, self._settings.oidc_claim]

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            # 1.
            header = jwt.get_unverified_header(token)
            name = header.get("kid")
            key = None if header.get("alg") not in ALGORITHMS or not isinstance(name, str) else self._keys.find(name)
            if key is None:
                message = "the token is signed under no algorithm, or with no key, that counts here"
                raise NotAuthorisedError(message, status=401)
            # 2. and 3.
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError as error:
            message = "the token has expired: sign in again"
            raise NotAuthorisedError(message, status=401) from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            message = f"the token is not valid here: {type(error).__name__}"
            raise NotAuthorisedError(message, status=401) from error
        return claims


def _values(claim: Any) -> list[str]:
    """What a claim holds: a list, or one text with spaces between, as `scope` has it."""
    values = claim.split() if isinstance(claim, str) else claim
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []

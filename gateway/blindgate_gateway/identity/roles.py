"""Who calls, once that is known, and what routes are for whom."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from blindgate_gateway.problems import refusal
from blindgate_protocol.values import Millis


class Role(StrEnum):
    """Who a route is for."""

    TENANT = "tenant"
    READER = "reader"
    PUBLISHER = "publisher"
    NODE = "node"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class Scope(StrEnum):
    """What a tenant's API key is good for.

    Attributes:
        JOBS: all that a tenant does: upload, register keys, submit jobs, fetch results.
        PUBLISH: upload parts and publish models.
        READ: look at what is the tenant's, and change nothing.
    """

    JOBS = "jobs"
    PUBLISH = "publish"
    READ = "read"


class StaffRole(StrEnum):
    """What somebody of the gateway's own staff does.

    Attributes:
        OPERATOR: sees every tenant's jobs, their attempts, and the nodes; no body, and no change to a tenant's data.
        AUDITOR: reads records: orders, receipts, statements about keys, nodes' certificates.
    """

    OPERATOR = "operator"
    AUDITOR = "auditor"


_ROLE_OF_SCOPE: Final = {Scope.JOBS: Role.TENANT, Scope.PUBLISH: Role.PUBLISHER, Scope.READ: Role.READER}


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant, or somebody of it: what they may do is in the scopes."""

    tenant: str
    scopes: frozenset[Scope]
    key: str

    @property
    def roles(self) -> frozenset[Role]:
        """The roles that the scopes stand for."""
        return frozenset(_ROLE_OF_SCOPE[scope] for scope in self.scopes)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.tenant


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why somebody who signed in elsewhere is staff here, and until when (see `people`).

    Attributes:
        text: what has to be so still, as `People.still_holds` reads it. No secret.
        expires: when the token ends, in milliseconds since 1970.
    """

    text: str
    expires: Millis


@dataclass(frozen=True, slots=True)
class Staff:
    """Somebody who runs the gateway, or audits it: belongs to no tenant.

    Attributes:
        grounds: of a person who brought a token from elsewhere; `None` for whoever has an API key.
    """

    name: str
    roles: frozenset[Role]
    key: str
    grounds: Grounds | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node, by its own signature."""

    key: str
    name: str
    operator: str
    roles: frozenset[Role] = frozenset({Role.NODE})


Caller: TypeAlias = Account | Staff | Node


def require_tenant(account: Account, tenant: str) -> None:
    """A signed document that names another tenant than the caller's is refused. Raises `GatewayError`."""
    if account.tenant != tenant:
        raise refusal("conflict", "the document names another tenant than the API key's")

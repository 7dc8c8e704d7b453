"""Who calls, and whether they may."""

from blindgate_gateway.identity.api_keys import (
    ApiKey,
    add_staff,
    add_tenant,
    list_api_keys,
    revoke_api_key,
    rotate_api_key,
)
from blindgate_gateway.identity.credentials import Credential
from blindgate_gateway.identity.doorkeeper import Doorkeeper
from blindgate_gateway.identity.enrolment_tokens import add_enrolment_token, spend_enrolment_token
from blindgate_gateway.identity.roles import (
    Account,
    Caller,
    Grounds,
    Node,
    Role,
    Scope,
    Staff,
    StaffRole,
    require_tenant,
)
from blindgate_gateway.identity.signatures import check_clock, sweep_nonces

__all__ = [
    "Account",
    "ApiKey",
    "Caller",
    "Credential",
    "Doorkeeper",
    "Grounds",
    "Node",
    "Role",
    "Scope",
    "Staff",
    "StaffRole",
    "add_enrolment_token",
    "add_staff",
    "add_tenant",
    "check_clock",
    "list_api_keys",
    "require_tenant",
    "revoke_api_key",
    "rotate_api_key",
    "spend_enrolment_token",
    "sweep_nonces",
]

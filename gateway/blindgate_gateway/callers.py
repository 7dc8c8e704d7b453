"""Who am I: what a caller's API key says of it. A client asks once, since its orders name its tenant."""

from blindgate_gateway.identity import Account, Role
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_protocol.messages import TenantView

routes = Routes("callers")


@routes.get("/v1/tenant", roles={Role.TENANT, Role.READER, Role.PUBLISHER}, answers={200: TenantView})
def show_tenant(call: Call[Account, None]) -> Answer:
    """Show the tenant and the scopes of the API key that is asked with."""
    return TenantView(tenant=call.caller.tenant, scopes=tuple(sorted(call.caller.scopes)))

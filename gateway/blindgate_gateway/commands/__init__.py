"""`blindgate gateway …`."""

from blindgate_gateway.commands.gateway import app

__all__ = ["app"]

"""`python -m blindgate_gateway`: the same commands as `blindgate gateway`."""

from blindgate_gateway.commands import app

app(prog_name="blindgate gateway")

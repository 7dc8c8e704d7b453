"""`python -m blindgate_witness`: the same commands as `blindgate witness`."""

from blindgate_witness.commands import app

app(prog_name="blindgate witness")

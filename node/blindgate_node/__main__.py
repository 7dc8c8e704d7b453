"""`python -m blindgate_node …` is `blindgate node …`."""

from blindgate_node.commands import app

app()

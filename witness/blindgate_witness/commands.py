"""`blindgate witness …`."""

import typer

app = typer.Typer(
    name="witness",
    help="Run a witness: it cosigns a log's checkpoints, and refuses a log that forks or goes back.",
    no_args_is_help=True,
)

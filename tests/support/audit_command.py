"""`blindgate audit verify` as a test calls it."""

from pathlib import Path

from typer.testing import CliRunner

from blindgate_audit.commands import app
from blindgate_protocol.errors import BlindgateError


def audit_verify(memory: Path, where: object, *arguments: str) -> tuple[int, str]:
    """Run the command; gives its exit status and what it printed, an error's text included."""
    result = CliRunner().invoke(app, ["verify", str(where), "--remember", str(memory), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, BlindgateError), result.exception
        return 1, str(result.exception)
    return result.exit_code, result.stdout

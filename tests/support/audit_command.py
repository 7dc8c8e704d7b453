"""`blindgate audit …` as a test calls it."""

from pathlib import Path

from typer.testing import CliRunner

from blindgate_audit.commands import app
from blindgate_protocol.errors import BlindgateError


def audit(*arguments: object, api_key: str | None = None) -> tuple[int, str]:
    """Run a command with this key, or none, in the environment; gives its exit status and what it printed, or an error's text."""
    environment = {"BLINDGATE_URL": "", "BLINDGATE_API_KEY": api_key or ""}
    result = CliRunner(env=environment).invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, BlindgateError), result.exception
        return 1, str(result.exception)
    return result.exit_code, result.output


def audit_verify(memory: Path, where: object, *arguments: str) -> tuple[int, str]:
    """Run the command; gives its exit status and what it printed, an error's text included."""
    result = CliRunner().invoke(app, ["verify", str(where), "--remember", str(memory), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, BlindgateError), result.exception
        return 1, str(result.exception)
    return result.exit_code, result.stdout

"""The one script `blindgate`, which knows no role.

Each package brings its own commands through the entry-point group `blindgate.commands`: a name, and a typer application. One is
imported when it is asked for and not before, so a gateway's command line never loads the SDK, and a machine without an extra
still has the commands of the others. Asking for help lists the names and what each is for, and imports nothing.
"""

import sys
import unicodedata
import warnings
from importlib.metadata import EntryPoint, entry_points, version

from blindgate_protocol.errors import BlindgateError

GROUP = "blindgate.commands"

_ABOUT = {
    "audit": "Check a gateway's log without trusting the gateway; the life of keys; one job, replayed.",
    "gateway": "Run the broker that cannot see: serve, migrate, tenants, enrolments, jobs.",
    "jobs": "Your jobs: how they stand, their receipts, cancelling.",
    "keys": "Your key sets, without their secrets, and what you say about them.",
    "models": "Models: list, show, compile, publish.",
    "node": "Run a compute node: serve, check its sandbox, its key.",
    "operator": "Vouch for nodes: your operator key, certificates for nodes.",
    "policy": "What this client allows, and whom it trusts.",
    "predict": "Predict under encryption: a CSV file in, a CSV file out.",
    "proxy": "OpenAI's API on this machine: chats and embeddings of unchanged programs, sealed here.",
    "publisher": "Sign models: your publisher key.",
    "rag": "Documents that never leave, and those that others host: add, search, ask with citations, host, evaluate.",
    "search": "Search an index under encryption: vectors in, a CSV file of the nearest entries out.",
    "trust": "What nodes prove of themselves, and what evidence in a file shows: judged here, under your policy.",
    "witness": "Run a witness of a log: it cosigns what continues what it saw, and nothing else.",
}
_EXTRAS = {
    "audit": "audit",
    "gateway": "gateway",
    "node": "node",
    "operator": "node",
    "proxy": "sdk,proxy",
    "rag": "sdk,rag,minilm",
    "witness": "witness",
}
_USAGE_STATUS = 2
_KEPT = frozenset("\n\t\u00ad\u200c\u200d")
"""What is not printed itself and steers nothing: soft hyphens, and what joins letters or keeps them apart."""


def main() -> None:
    """Run the command line. What Blindgate raises on purpose, or the disk, is one line, without a traceback; exit status 1."""
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        sys.stdout.write(f"blindgate {version('blindgate')}\n")
    elif name in {"--help", "-h", "help"}:
        sys.stdout.write(_help(commands))
    elif name not in commands:
        sys.stderr.write(f"blindgate: there is no command {name!r}. See: blindgate --help\n")
        raise SystemExit(_USAGE_STATUS)
    else:
        _run(commands[name], sys.argv[2:])


def _run(command: EntryPoint, arguments: list[str]) -> None:
    try:
        app = command.load()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(command.name, "sdk")
        sys.stderr.write(
            f"blindgate: '{command.name}' needs {error.name!r}, which is not installed: pip install 'blindgate[{extra}]'\n"
        )
        raise SystemExit(1) from error
    warnings.formatwarning = lambda message, *_, **__: (
        f"blindgate: warning: {message}\n"
    )  # no line of source to a reader
    try:
        app(args=arguments, prog_name=f"blindgate {command.name}")
    except BlindgateError as error:
        sys.stderr.write(f"blindgate: {_printable(str(error))}\n")
        raise SystemExit(1) from error
    except OSError as error:  # a folder that is not there, a disk that is full
        where = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"blindgate: {_printable(f'{where}{error.strerror or error}')}\n")
        raise SystemExit(1) from error


def _printable(text: str) -> str:
    """What an error says, without what would steer the terminal: a file's name may have that, and a gateway's words."""
    return "".join(
        one if one.isprintable() or one in _KEPT or unicodedata.category(one) == "Zs" else ascii(one)[1:-1]
        for one in text
    )


def _help(commands: dict[str, EntryPoint]) -> str:
    width = max(len(name) for name in commands)
    listed = "\n".join(f"  {name:<{width}}  {_ABOUT.get(name, '')}" for name in sorted(commands))
    return (
        "Usage: blindgate COMMAND [OPTIONS] …\n\n"
        "Private inference on machines you do not trust, through a gateway that cannot see.\n\n"
        f"Commands:\n{listed}\n\n"
        "Options:\n  --version  Show the version.\n  --help     Show this. Each command has its own: blindgate COMMAND --help\n"
    )

"""Holds the documents against the tree.

Every link leads somewhere, every file that is named is there, every block of Python is Python, and every command of the
gateway's in a block of shell is one, with its options.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from blindgate_gateway.commands import app as gateway

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_NAMED = re.compile(
    r"`((?:tests|docs|client_sdk|gateway|node|fhe_models|protocol|examples|bench|deploy)/[\w./-]+\.\w+)`"
)
_SHELL = re.compile(r"```(?:sh)?\n(.*?)```", re.DOTALL)
_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def main() -> None:
    """Print every fault, and exit with 1 if there was one."""
    faults = [fault for document in documents() for fault in check(document)]
    sys.exit("\n".join(faults) or 0)


def documents() -> list[Path]:
    """Every Markdown file that git tracks."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines()]


def check(document: Path) -> Iterator[str]:
    """The faults of one document."""
    text = document.read_text()
    where = document.relative_to(ROOT)
    for target in _LINK.findall(text):
        if not target.startswith(("http://", "https://", "mailto:")) and not (document.parent / target).exists():
            yield f"{where}: the link to {target} leads nowhere"
    for named in _NAMED.findall(text):
        if not (ROOT / named).exists():
            yield f"{where}: {named} is not there"
    for number, code in enumerate(_PYTHON.findall(text), start=1):
        try:
            ast.parse(code)
        except SyntaxError as error:
            yield f"{where}: Python block {number}, line {error.lineno}: {error.msg}"
    for block in _SHELL.findall(text):
        for line in re.findall(r"blindgate gateway ([^#\n;]*)", block):
            yield from (f"{where}: blindgate gateway {line.strip()}: there is no {word}" for word in strange(line))


def strange(line: str) -> Iterator[str]:
    """The words of a command of the gateway's that are no command or option of it."""
    command: Any = get_command(gateway)
    for word in line.split():
        option = word.partition("=")[0]
        if option.startswith("--"):
            if option not in {name for parameter in command.params for name in parameter.opts}:
                yield option
        elif hasattr(command, "commands"):
            if word not in command.commands:
                yield word
                return
            command = command.commands[word]


if __name__ == "__main__":
    main()

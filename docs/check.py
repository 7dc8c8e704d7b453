"""Holds the documents against the tree.

Every link leads somewhere, every file that is named is there, and every block of Python is Python.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_NAMED = re.compile(r"`((?:tests|docs|client_sdk|gateway|node|fhe_models|protocol|examples|bench)/[\w./-]+\.\w+)`")
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


if __name__ == "__main__":
    main()

"""The compile environment, seen from outside: where it is, and a conversation with its worker.

Concrete ML pins releases that fit beside nothing else, so it lives in an environment of its own (`make compile-env`)
and is spoken to through a pipe: a line of JSON each way. Nothing else crosses, and the worker's messages go to standard
error.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blindgate_models.halves import Part

VARIABLE: Final = "BLINDGATE_COMPILE_PYTHON"
FOLDER: Final = ".venv-compile"
FINISHED: Final = ".installed"
_WORKER: Final = Path(__file__).with_name("concrete_worker.py")


def find_compile_python() -> Path | None:
    """The compile environment's Python, or `None`.

    It is what `BLINDGATE_COMPILE_PYTHON` names, or `.venv-compile` in this folder or beside this environment, once
    `make compile-env` has finished it.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    folders = [parent / FOLDER for parent in (Path.cwd(), Path(sys.prefix).parent)]
    return next((folder / "bin" / "python" for folder in folders if (folder / FINISHED).is_file()), None)


class CompilerError(RuntimeError):
    """The compile environment is missing, or Concrete ML refused the model."""


class Conversation:
    """A started worker, and its pipe."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, do: str, **request: object) -> Part:
        """Send one request and wait for its answer.

        Raises `CompilerError` with the compiler's own words when it refuses.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            msg = f"compile environment: its worker ended with status {self._process.wait()}"
            raise CompilerError(msg)
        reply: Part = json.loads(line)
        if "error" in reply:
            msg = f"Concrete ML: {reply['error']}"
            raise CompilerError(msg)
        answer: Part = reply["ok"]
        return answer


@contextmanager
def compile_worker(python: Path | None = None) -> Iterator[Conversation]:
    """Start a worker in the compile environment, and end it.

    Raises `CompilerError` when there is no compile environment.
    """
    interpreter = python or find_compile_python()
    if interpreter is None:
        msg = (
            f"compile environment: not found; `make compile-env` makes it in {FOLDER}, or set {VARIABLE} to its Python"
        )
        raise CompilerError(msg)
    command = [str(interpreter), "-I", str(_WORKER)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as process:
        try:
            yield Conversation(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()

"""concrete-python's native library, and nothing of its Python frontend.

`from concrete import fhe` brings torch (to trace convolutions), jsonpickle, z3, networkx and scipy. Encrypting,
evaluating and decrypting need none of them: `concrete.compiler`, the package's own bindings of its native library, is
enough. So a worker holds no unpickler, no torch has to be installed, and the import takes 0.2 s and 40 MB in place of
0.6 s and 75 MB.

The bindings' interface is pinned by the exact version, which each part names and `load_runtime` compares.
"""

import atexit
import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from blindgate_protocol.errors import PackageError

DISTRIBUTION: Final = "concrete-python"
SUPPORTED_VERSION: Final = "2.10.0"
"""The release whose bindings, serialisation and circuits this module was written and tested for."""


_SIGNALS: Final = 64
_SIGACTION_BYTES: Final = 512
"""More than a `struct sigaction` has anywhere; what is in it is handed back as it came."""


@contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what is done to the process's signals meanwhile: around loading, and around whatever may evaluate for the first time.

    Concrete's LLVM takes nearly all of them when it is loaded, and its threads some more when they start: Ctrl-C would end a
    program without its cleaning up, and a write past a limit on file sizes would end it without a word. `signal` cannot put
    them back: it does so in the main thread only, and does not know of faulthandler's.
    """
    sigaction = ctypes.CDLL(None).sigaction
    kept = []
    for number in range(1, _SIGNALS + 1):
        action = ctypes.create_string_buffer(_SIGACTION_BYTES)
        if sigaction(number, None, action) == 0:
            kept.append((number, action))
    try:
        yield
    finally:
        for number, action in kept:
            sigaction(number, action, None)


@cache
def load_runtime() -> Any:
    """The module `concrete.compiler`.

    Raises `PackageError` when the extra is not installed or another release is.
    """
    try:
        installed = version(DISTRIBUTION)
    except PackageNotFoundError as error:
        msg = f"family: 'concrete' needs {DISTRIBUTION}, which is not installed: pip install 'blindgate[concrete]'"
        raise PackageError(msg) from error
    if installed != SUPPORTED_VERSION:
        msg = f"{DISTRIBUTION}: got {installed}, expected {SUPPORTED_VERSION}: pip install 'blindgate[concrete]'"
        raise PackageError(msg)
    with signals_kept(), warnings.catch_warnings():
        # `concrete` is a namespace package of the old kind; pkg_resources warns about itself.
        warnings.simplefilter("ignore")
        runtime = import_module("concrete.compiler")
    # At its exit, a process that has evaluated would stop threads that it never started, and end as if all had gone well:
    # a failed command would exit with 0.
    atexit.unregister(runtime._terminate_df_parallelization)  # noqa: SLF001
    return runtime


def check_version(named: str) -> None:
    """Refuse a part made for another release: parameters and serialised bytes are not promised to stay the same."""
    if named != SUPPORTED_VERSION:
        msg = f"concrete_python: got {named!r:.40}, expected {SUPPORTED_VERSION!r}"
        raise PackageError(msg)

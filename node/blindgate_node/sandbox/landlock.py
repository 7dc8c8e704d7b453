"""Which files a process may open from now on: Landlock, the kernel's own.

Rules only ever take away, nest, and are inherited by what the process forks. Everything that this kernel's ABI can deny is
denied, then the named paths are allowed: the network and signals to processes outside too, where the ABI knows them.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from blindgate_node.sandbox import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_READ = _READ_FILE | _READ_DIR
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE, _REFER = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 13
_EXCHANGE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _MAKE_FILE | _REMOVE_FILE
_WRITE = _READ | _EXCHANGE | _REMOVE_DIR | _MAKE_DIR | _REFER
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

_FILE_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ABI_NETWORK, _ABI_SCOPES = 4, 6
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11


class Grants(NamedTuple):
    """What stays allowed, by path. A path that does not exist is skipped.

    Attributes:
        exchange: folders in which files may be made, written, read and removed, but not listed.
    """

    read: tuple[str, ...]
    write: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    exchange: tuple[str, ...] = ()


def prepare(grants: Grants) -> int:
    """A descriptor for the rules, to be enforced later, by this process or one that it forks. Raises `OSError`."""
    abi = kernel.landlock_abi()
    handled = _FILE_RIGHTS_BY_ABI[min(abi, max(_FILE_RIGHTS_BY_ABI))]
    attributes = kernel.RulesetAttributes(handled_access_fs=handled)
    size = 8
    if abi >= _ABI_NETWORK:
        attributes.handled_access_net = _ALL_TCP
        size = 16
    if abi >= _ABI_SCOPES:
        attributes.scoped = _ALL_SCOPES
        size = 24
    ruleset = kernel.landlock_create_ruleset(attributes, size)
    try:
        for access, paths in (
            (_READ, grants.read),
            (_WRITE, grants.write),
            (_READ | _EXECUTE, grants.execute),
            (_EXCHANGE, grants.exchange),
        ):
            _allow(ruleset, access & handled, paths)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def enforce(ruleset: int) -> None:
    """Bind this process to prepared rules, for good. Needs `no_new_privs`. Raises `OSError`."""
    kernel.landlock_restrict_self(ruleset)


def restrict(grants: Grants) -> str:
    """Bind this process to `grants` and say how. Raises `OSError` where the kernel has no Landlock."""
    ruleset = prepare(grants)
    try:
        enforce(ruleset)
    finally:
        os.close(ruleset)
    return f"Landlock ABI {kernel.landlock_abi()}"


def _allow(ruleset: int, access: int, paths: Iterable[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError, PermissionError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                kernel.landlock_allow(ruleset, access if folder else access & _OF_FILES, descriptor)
            finally:
                os.close(descriptor)

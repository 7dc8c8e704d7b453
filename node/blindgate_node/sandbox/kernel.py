"""The system calls of the sandbox that Python does not have, each as a function that raises `OSError`.

Only what is called; nothing is decided here. Numbers and structures are the kernel's user-space interface, which is stable.
"""

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
CAP_KILL = 1 << 5

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SYS_LANDLOCK_CREATE_RULESET, _SYS_LANDLOCK_ADD_RULE, _SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_CAPABILITY_VERSION_3 = 0x2008_0522
_BPF_INSTRUCTION_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)


class RulesetAttributes(ctypes.Structure):
    """`struct landlock_ruleset_attr`, ABI 6."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process."""
    _checked(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name, for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount `source`, or what `flags` say, at `target`."""
    encoded = None if kind is None else kind.encode()
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), encoded, ctypes.c_ulong(flags), options.encode() or None
    )
    _checked(result, target)


def unmount(target: str) -> None:
    """Let a mount go, lazily."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), target)


def pivot_root(new: str, put_old: str) -> None:
    """Make `new` the root of this mount namespace, and move the old one to `put_old`."""
    _checked(_syscall(_of_this_machine(_SYS_PIVOT_ROOT), os.fsencode(new), os.fsencode(put_old)), new)


def drop_capabilities(*, keep: int = 0) -> None:
    """Empty this process's capabilities: capset(2). `keep` is a mask of those to keep, of the first 32, where they are held."""
    _checked(_libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0))
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    words = (ctypes.c_uint32 * 6)(
        keep, keep, 0, 0, 0, 0
    )  # effective, permitted, inheritable; then the upper 32 of each
    _checked(_syscall(_of_this_machine(_SYS_CAPSET), ctypes.byref(header), words))


def landlock_abi() -> int:
    """The version of Landlock that this kernel speaks, from 1; raises `OSError` where it has none."""
    return _checked(_syscall(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def landlock_create_ruleset(attributes: RulesetAttributes, size: int) -> int:
    """A file descriptor for a new set of rules; `size` says how much of `attributes` this kernel's ABI knows."""
    return _checked(
        _syscall(_SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
    )


def landlock_allow(ruleset: int, access: int, parent: int) -> None:
    """Allow `access` beneath what the descriptor `parent` names."""
    rule = _PathBeneath(access, parent)
    _checked(_syscall(_SYS_LANDLOCK_ADD_RULE, ruleset, ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint(0)))


def landlock_restrict_self(ruleset: int) -> None:
    """Bind this process, and those it forks, to the rules."""
    _checked(_syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint(0)))


def load_filter(program: bytes) -> None:
    """Load a seccomp program, in every thread."""
    attributes = _FilterProgram(len(program) // _BPF_INSTRUCTION_BYTES, program)
    result = _syscall(
        _of_this_machine(_SYS_SECCOMP),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.byref(attributes),
    )
    _checked(result)


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return result


def _of_this_machine(numbers: dict[str, int]) -> int:
    machine = os.uname().machine
    if machine not in numbers:
        message = f"the sandbox does not know this machine's system calls: {machine}"
        raise OSError(message)
    return numbers[machine]


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result

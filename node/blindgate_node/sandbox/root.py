"""A root file system of a tree's own: what the libraries read, bound in read-only, and one folder in memory to write to.

The node's folder, the home of whoever runs it, `/etc`, `/run` and every other mount are not hidden but absent. It is made as
container runtimes make theirs: an empty tmpfs, bind mounts, `pivot_root`, and the old root let go.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from blindgate_node.sandbox import kernel

SCRATCH = "/scratch"
SHARED_MEMORY = "/dev/shm"  # noqa: S108  (OpenMP's runtime ends the process where it can write neither here nor to /tmp)

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin")
_SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
)
_KEPT_FLAGS = (
    (os.ST_NOSUID, kernel.MS_NOSUID),
    (os.ST_NODEV, kernel.MS_NODEV),
    (os.ST_NOEXEC, kernel.MS_NOEXEC),
    (os.ST_NOATIME, 1024),
    (os.ST_NODIRATIME, 2048),
    (os.ST_RELATIME, 1 << 21),
)
_ROOT_BYTES = 1 << 20


def python_paths(extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Every folder that this interpreter reads code and libraries from, and `extra`; none beneath another.

    To be asked in a zygote: it is started isolated, so neither the working folder nor PYTHONPATH is among them.
    """
    named = {sys.prefix, sys.base_prefix, sys.exec_prefix, *extra, *(path for path in sys.path if path)}
    found = sorted({*named, *map(os.path.realpath, named)}, key=len)
    kept: list[str] = []
    for path in found:
        covered = any(path == other or path.startswith(other.rstrip("/") + "/") for other in (*kept, *_SYSTEM))
        if not covered and Path(path).is_absolute() and Path(path).exists():
            kept.append(path)
    return tuple(kept)


def system_paths() -> tuple[str, ...]:
    """The system's own libraries, and the few other files that they read."""
    return tuple(path for path in (*_SYSTEM, *_SYSTEM_FILES) if Path(path).exists())


def build_root(readable: tuple[str, ...], place: str, owner: int, scratch_bytes: int) -> None:
    """Put a root together in the empty folder `place` and move this process's mount namespace to it.

    `owner` may write to `SCRATCH`, `scratch_bytes` in all. Raises `OSError`; `place` is then as before.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=0755,size={_ROOT_BYTES}")
    try:
        for folder in (SCRATCH, SHARED_MEMORY, "/proc"):
            Path(place + folder).mkdir(parents=True, exist_ok=True)
        options = f"mode=0700,size={scratch_bytes},uid={owner},gid={owner}"
        kernel.mount("tmpfs", place + SCRATCH, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
        exchange = Path(place + SCRATCH, "shm")
        exchange.mkdir(mode=0o700)
        os.chown(exchange, owner, owner)
        kernel.mount(str(exchange), place + SHARED_MEMORY, None, kernel.MS_BIND)
        kernel.mount("/proc", place + "/proc", None, kernel.MS_BIND | kernel.MS_REC)
        for path in (*system_paths(), *readable):
            _bind(path, place)
        os.chdir(place)
        kernel.mount(
            "none",
            ".",
            None,
            kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV,
        )
        kernel.pivot_root(".", ".")
    except OSError:
        os.chdir("/")
        with suppress(OSError):
            kernel.unmount(place)
        raise
    kernel.unmount(".")
    os.chdir("/")


def _bind(path: str, place: str) -> None:
    """Show `path` at the same name beneath `place`, read-only where the kernel lets us say so."""
    source, target = Path(path), Path(place + path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        with suppress(FileExistsError):
            target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir(exist_ok=True)
    elif not target.exists():
        target.touch()
    kernel.mount(path, str(target), None, kernel.MS_BIND | kernel.MS_REC)
    kept = os.statvfs(target).f_flag
    flags = sum(mount_flag for flag, mount_flag in _KEPT_FLAGS if kept & flag)
    with suppress(OSError):  # Landlock and the other user deny writing too
        kernel.mount("none", str(target), None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | flags)

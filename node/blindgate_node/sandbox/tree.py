"""A process tree of its own for one zygote: namespaces, a root that holds only what the libraries need, another user.

`enter` is called once, by a single-threaded process that holds nothing. It forks: the caller stays outside as the tree's
keeper, waits, and ends with it; what returns is the first process of the tree. When that one ends, the kernel ends all of the
tree, whatever its processes did to their signals. Layers are put on in the order in which the next one can still be put on:

1. the namespaces: each alone, since a container may forbid one; inside a user namespace where the node is not root;
2. the root: a read-only tree of bind mounts, one small writable folder in memory, and the machine's files gone (`root`);
3. the fork into the PID namespace, and a `/proc` that shows it alone;
4. the user, where the node is root, unless that user could not read Python's own files;
5. capabilities, new privileges, being traced.

Nothing here is fatal: every layer reports whether it holds, and the node decides.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from blindgate_node.sandbox import kernel
from blindgate_node.sandbox.layers import Held, Layer
from blindgate_node.sandbox.root import SCRATCH, build_root, system_paths

_DIED_IN_SETUP = 71


class Tree(NamedTuple):
    """What `enter` made.

    Attributes:
        held: the layers, and whether each holds.
        readable: every path that may be read, as it is named inside.
        scratch: the folder that may be written to.
    """

    held: tuple[Held, ...]
    readable: tuple[str, ...]
    scratch: str


def enter(*, readable: tuple[str, ...], work: str, user: int, scratch_bytes: int) -> Tree:
    """Move into a tree of one's own (steps 1 to 5 above). Returns in the tree's first process only.

    Args:
        readable: folders and files that the tree's processes may read.
        work: an empty folder of the node's, made for this tree: where its root is put together, or, where that is not
            possible, its writable folder.
        user: the user id to take on, where the node is root.
        scratch_bytes: the most that the tree's processes may write to their folder together.
    """
    is_root = os.geteuid() == 0
    owner = user if is_root else os.geteuid()
    # 1.
    held, mounts = _namespaces(is_root=is_root)
    # 2.
    rooted = Held(Layer.ROOT, holds=False, detail="no mount namespace")
    if mounts:
        rooted = _attempt(
            Layer.ROOT, lambda: build_root(readable, work, owner, scratch_bytes), "a root of its own, read-only"
        )
    held.append(rooted)
    # 3.
    own_proc = False
    if held[0].holds:
        _fork_into_tree()
        if rooted.holds:
            # A container may mask parts of its /proc, and none can be mounted then: the machine's stays, and nothing in it
            # may be opened. Libraries go through /proc/self/fd to what they hold already, which needs no opening.
            with suppress(OSError):
                kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
                own_proc = True
    # 4.
    scratch = SCRATCH if rooted.holds else work
    held.append(_become(user, (*readable, scratch), scratch) if is_root else _same_user())
    # 5.
    held.append(_attempt(Layer.CAPABILITIES, kernel.drop_capabilities, "none"))
    held.append(_attempt(Layer.PRIVILEGES, lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1), "none to be gained"))
    held.append(_attempt(Layer.MEMORY, lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 0), "not dumpable"))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # again: a change of user clears it
    inside = (*readable, *system_paths(), *(("/proc",) if own_proc else ()))
    return Tree(tuple(held), inside, scratch)


def _namespaces(*, is_root: bool) -> tuple[list[Held], bool]:
    """Step 1. The layers, `processes` first, and whether mounts are the tree's own."""
    suffix = ""
    if not is_root:
        suffix = ", in a user namespace"
        try:
            _enter_user_namespace()
        except OSError as error:
            detail = f"no user namespace for one who is not root: {error.strerror}"
            spaces = (Layer.PROCESSES, Layer.NETWORK, Layer.IPC, Layer.HOSTNAME)
            return [Held(layer, holds=False, detail=detail) for layer in spaces], False
    held = [
        _attempt(layer, lambda flag=flag: kernel.unshare(flag), f"a namespace of its own{suffix}")  # type: ignore[misc]
        for layer, flag in (
            (Layer.PROCESSES, kernel.CLONE_NEWPID),
            (Layer.NETWORK, kernel.CLONE_NEWNET),
            (Layer.IPC, kernel.CLONE_NEWIPC),
            (Layer.HOSTNAME, kernel.CLONE_NEWUTS),
        )
    ]
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
    except OSError:
        return held, False
    return held, True


def _enter_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", name).write_bytes(content.encode())


def _fork_into_tree() -> None:
    """Step 3. Returns in the child; the parent becomes the tree's keeper and never returns."""
    child = os.fork()
    if child == 0:
        return
    os.closerange(3, 1 << 16)
    with suppress(OSError):
        # When the keeper ends, the kernel signals the tree in its name: without this right, not one of another user.
        kernel.drop_capabilities(keep=kernel.CAP_KILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _become(user: int, needed: tuple[str, ...], scratch: str) -> Held:
    """Step 4. First tried out in a child: a user who cannot read Python's own files could not work."""
    os.chown(scratch, user, user)
    child = os.fork()
    if child == 0:
        code = _DIED_IN_SETUP
        try:
            _set_user(user)
            code = 0 if all(os.access(path, os.R_OK) for path in needed if Path(path).exists()) else 1
            code = code or (0 if os.access(scratch, os.W_OK) else 1)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status != 0:
        os.chown(scratch, 0, 0)
        detail = f"user {user} could not read Python's files: move them out of folders that only root may enter"
        return Held(Layer.USER, holds=False, detail=detail)
    _set_user(user)
    return Held(Layer.USER, holds=True, detail=f"user {user}")


def _set_user(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _same_user() -> Held:
    return Held(Layer.USER, holds=False, detail=f"the node is not root: workers run as its own user {os.geteuid()}")


def _attempt(layer: Layer, action: Callable[[], object], detail: str) -> Held:
    try:
        action()
    except OSError as error:
        return Held(layer, holds=False, detail=error.strerror or str(error))
    return Held(layer, holds=True, detail=detail)

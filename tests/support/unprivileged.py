"""A confined process on a machine where the node is not root: tells as JSON which layers hold, and what it could do.

Run as root, in a process of its own; everything is imported before the user is changed, since that user may not be able to
read this Python's files. Arguments: a folder of the user's own, the user id, and `namespaces` or `none`.
"""

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from blindgate_node.sandbox import kernel, landlock, limits, tree
from blindgate_node.sandbox.landlock import Grants
from blindgate_node.sandbox.layers import Held, Layer
from blindgate_node.sandbox.syscalls import compile_programs


def main() -> None:
    """Confine this process, try things, tell."""
    folder, user, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    programs = compile_programs()
    secret = Path(folder, "node.key")
    secret.write_bytes(b"secret")
    os.chown(secret, user, user)
    secret.chmod(0o600)
    work = Path(folder, "work")
    work.mkdir()
    os.chown(work, user, user)
    if mode == "none":
        _forbid_user_namespaces()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # as whoever was this user from the start
    entered = tree.enter(readable=(), work=str(work), user=user, scratch_bytes=1 << 20)
    os.chdir("/")
    held = list(entered.held)
    limits.apply(limits.Limits(memory=1 << 30, cpu=10, file=1 << 20, processes=True))
    landlock.restrict(Grants(read=entered.readable, write=(entered.scratch,)))
    held += [Held(Layer.FILES, holds=True, detail=""), Held(Layer.LIMITS, holds=True, detail="")]
    kernel.load_filter(programs.zygote)
    kernel.load_filter(programs.job)
    held.append(Held(Layer.SYSCALLS, holds=True, detail=""))
    tried: dict[str, Callable[[], object]] = {
        "key": secret.read_bytes,
        "socket": lambda: socket.socket().close(),
        "fork": os.fork,
        "signal": lambda: os.kill(os.getppid() or 1, 0),
        "passwd": lambda: Path("/etc/passwd").read_bytes(),
    }
    answer = {"held": sorted(entry.layer.value for entry in held if entry.holds), "could": _could(tried)}
    os.write(1, json.dumps(answer).encode())
    os._exit(0)


def _could(tried: dict[str, Callable[[], object]]) -> list[str]:
    done = []
    for name, attempt in tried.items():
        try:
            attempt()
        except OSError:
            continue
        done.append(name)
    return done


def _forbid_user_namespaces() -> None:
    """As a kernel or a container that has none for ordinary users."""
    import pyseccomp  # noqa: PLC0415

    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.add_rule(pyseccomp.ERRNO(1), "unshare")
    rules.load()


if __name__ == "__main__":
    main()

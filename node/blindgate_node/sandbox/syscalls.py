"""Which system calls a worker, and the zygote it is forked from, may make: seccomp.

Two lists of what is allowed; everything else fails with EPERM, so that a library which only asks can go on without. A job can
neither fork, execute, open a socket, signal, trace, nor take on rights; it reads and writes what it was handed, allocates,
and ends. A zygote can also fork its jobs, run the linker that Concrete's compiler calls, and put a job's own layers on.

`clone3` fails with ENOSYS, which makes the C library use `clone`, whose flags a filter can read: new namespaces are refused.
The programs are compiled by libseccomp in the node, once, and loaded elsewhere as bytes.
"""

import errno
import tempfile
from typing import NamedTuple

_JOB = """
    access brk clock_getres clock_gettime clock_nanosleep close dup epoll_create1 epoll_ctl epoll_pwait
    epoll_wait eventfd2 exit exit_group faccessat faccessat2 fcntl fdatasync fstat fstatfs fsync ftruncate
    futex getcpu getcwd getdents64 getegid geteuid getgid getgroups getpid getppid getrandom getresgid
    getresuid getrusage gettid gettimeofday getuid lseek lstat madvise memfd_create mkdir mkdirat mmap
    mprotect mremap munmap nanosleep newfstatat open openat poll ppoll pread64 preadv pwrite64 read readlink
    readlinkat readv recvmsg rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigprocmask
    rt_sigreturn sched_getaffinity sched_getparam sched_getscheduler sched_setaffinity sched_yield
    set_robust_list sigaltstack stat statfs statx sysinfo time timerfd_create timerfd_settime times truncate
    uname unlink unlinkat write writev
"""

_ZYGOTE_TOO = """
    arch_prctl chdir chmod close_range dup2 dup3 execve fadvise64 fallocate fchmod fchmodat fork getpgid
    getpgrp getpriority getrlimit ioctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    link linkat mbind membarrier msync pidfd_open pidfd_send_signal pipe pipe2 prctl prlimit64 pselect6
    seccomp select sendmsg sendto set_tid_address setpgid setrlimit symlink symlinkat tgkill umask utimensat
    vfork wait4 waitid
"""

_NAMESPACE_FLAGS = 0x7E02_0080
_CLONE_THREAD = 0x1_0000
_AF_UNIX = 1
_PROT_EXEC = 4


class Programs(NamedTuple):
    """Two compiled filters. A job carries both: its own is put on over its zygote's."""

    zygote: bytes
    job: bytes


def compile_programs() -> Programs:
    """Compile both lists for this machine. Raises `OSError` where there is no libseccomp or the kernel has no seccomp."""
    return Programs(_compile(job=False), _compile(job=True))


def _compile(*, job: bool) -> bytes:
    try:
        import pyseccomp  # noqa: PLC0415  (looks for libseccomp when imported, which may be missing)
    except (ImportError, RuntimeError) as error:
        message = "libseccomp is not installed (package libseccomp2)"
        raise OSError(message) from error
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in (_JOB if job else _JOB + _ZYGOTE_TOO).split():
        if name not in {"mmap", "mprotect"} or not job:
            _add(rules, pyseccomp, name)
    _add(rules, pyseccomp, "clone3", action=pyseccomp.ERRNO(errno.ENOSYS))
    if job:
        # Nothing new becomes code in a job: what it runs was there when it was forked.
        for name in ("mmap", "mprotect"):
            _add(rules, pyseccomp, name, pyseccomp.Arg(2, pyseccomp.MASKED_EQ, _PROT_EXEC, 0))
        _add(rules, pyseccomp, "prlimit64", pyseccomp.Arg(2, pyseccomp.EQ, 0))
        # Threads, which Concrete's runtime starts before it looks whether it needs them; no processes.
        _add(rules, pyseccomp, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    else:
        _add(rules, pyseccomp, "socketpair", pyseccomp.Arg(0, pyseccomp.EQ, _AF_UNIX))
        _add(rules, pyseccomp, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _NAMESPACE_FLAGS, 0))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _add(rules: object, pyseccomp: object, name: str, *arguments: object, action: int | None = None) -> None:
    allow = pyseccomp.ALLOW if action is None else action  # type: ignore[attr-defined]
    try:
        rules.add_rule(allow, name, *arguments)  # type: ignore[attr-defined]
    except (OSError, ValueError):
        # This machine has no such call: aarch64 never had open(2). What is not allowed stays refused.
        if name in {"read", "write", "mmap", "exit_group"}:
            raise

"""One evaluation, in a process that exists for nothing else.

`evaluate` is called in a child that the zygote has just forked: the model is compiled, no key and no other job's bytes are in
it. In this order it

1. lets go of every descriptor but its own four, and ends with its zygote;
2. puts on its own layers over the zygote's: tighter limits, no executing and no folder but its own, no new processes;
3. reads the key and the input, computes, writes the result;
4. says so, and ends by `os._exit`: interpreters with native libraries loaded do not always end well.

Whatever the family raises about bytes that are not what they claim to be becomes the job's refusal, by its code. Everything
else is a worker gone wrong; of that only the kind of the error is told, since its text may hold anything.
"""

import fcntl
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from blindgate_protocol.errors import MalformedError, SandboxError

from blindgate_node import plan as wire
from blindgate_node.sandbox import kernel, landlock, limits
from blindgate_node.sandbox.landlock import Grants

Evaluate = Callable[[bytes | None, bytes], bytes]

_REPORT, _RESULT, _INPUT, _KEY = 3, 4, 5, 6
_PARKED = 512
_FAILED = 70


class Descriptors(NamedTuple):
    """A job's descriptors, as the node sent them."""

    report: int
    result: int
    input: int
    key: int | None


def evaluate(half: Evaluate, plan: wire.Plan, grants: Grants, folder: str, descriptors: Descriptors) -> NoReturn:
    """Compute on one input and end this process (steps 1 to 4 above)."""
    code = _FAILED
    try:
        keyed = _settle(descriptors)  # 1.
        try:
            _confine(plan, grants, folder)  # 2.
            key = _read(_KEY) if keyed else None
            result = half(key, _read(_INPUT))  # 3.
            _write(result, plan.result_bytes)
            message = wire.DONE
            code = 0
        except MalformedError as error:
            message = wire.failed(error.code, str(error))
        except SandboxError as error:
            message = wire.failed(error.code, str(error))
        except MemoryError:
            message = wire.failed(SandboxError.code, "the worker ran out of memory")
        except BaseException as error:  # noqa: BLE001  (whatever it is, it ends here)
            message = wire.failed(SandboxError.code, f"the worker raised {type(error).__name__}")
        os.write(_REPORT, message)  # 4.
    finally:
        os._exit(code)


def _settle(descriptors: Descriptors) -> bool:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    wanted = [descriptors.report, descriptors.result, descriptors.input]
    if descriptors.key is not None:
        wanted.append(descriptors.key)
    parked = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _PARKED) for descriptor in wanted]
    for place, descriptor in enumerate(parked, start=_REPORT):
        os.dup2(descriptor, place, inheritable=False)
    os.closerange(_REPORT + len(parked), 1 << 16)
    return descriptors.key is not None


def _confine(plan: wire.Plan, grants: Grants, folder: str) -> None:
    Path(folder).mkdir(mode=0o700)
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    limits.apply(limits.Limits(memory=plan.memory, cpu=plan.job_seconds, file=plan.file_bytes, processes=False))
    with suppress(OSError):  # a kernel without Landlock: the zygote has said so
        readable = tuple(path for path in grants.read if path != "/proc")
        landlock.restrict(Grants(read=readable, write=(folder,)))
    if plan.job_filter:
        kernel.load_filter(bytes.fromhex(plan.job_filter))


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    while len(data) < size:
        data += os.pread(descriptor, size - len(data), len(data))
    return data


def _write(result: bytes, most: int) -> None:
    if not isinstance(result, bytes) or len(result) > most:
        message = f"the result is not at most {most} bytes"
        raise SandboxError(message)
    view = memoryview(result)
    while view:
        view = view[os.write(_RESULT, view) :]

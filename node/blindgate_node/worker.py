"""One evaluation, in a process that exists for nothing else.

`evaluate` is called in a child that the zygote has just forked: the model is compiled, no key and no other job's bytes are in
it. In this order it

1. lets go of every descriptor but its own, and ends with its zygote;
2. puts on its own layers over the zygote's: tighter limits, nothing to write to, nothing to execute, no new processes;
3. reads the key and the input, computes, writes the result;
4. says so, and ends by `os._exit`: interpreters with native libraries loaded do not always end well.

Whatever the family raises about bytes that are not what they claim to be becomes the job's refusal, by its code. Everything
else is a worker gone wrong; of that only the kind of the error is told, since its text may hold anything.
"""

import fcntl
import os
import signal
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from blindgate_protocol.errors import MalformedError, SandboxError

from blindgate_node import plan as wire
from blindgate_node.sandbox import kernel, landlock, limits

Evaluate = Callable[[bytes | None, bytes], bytes]

_FIRST = 3
_PARKED = 512
_FAILED = 70


class Descriptors(NamedTuple):
    """A worker's descriptors.

    Attributes:
        report: where it says what came of the job.
        result: where it writes the result.
        input: the input blob.
        key: the evaluation key, where there is one.
        rules: the Landlock rules that the zygote prepared, where the kernel has any.
    """

    report: int
    result: int
    input: int
    key: int | None
    rules: int | None


def evaluate(half: Evaluate, plan: wire.Plan, handed: Descriptors) -> NoReturn:
    """Compute on one input and end this process (steps 1 to 4 above)."""
    code = _FAILED
    try:
        own = _settle(handed)  # 1.
        try:
            _confine(plan, own.rules)  # 2.
            key = None if own.key is None else _read(own.key)
            result = half(key, _read(own.input))  # 3.
            _write(own.result, result, plan.result_bytes)
            message = wire.DONE
            code = 0
        except (MalformedError, SandboxError) as error:
            message = wire.failed(error.code, str(error))
        except MemoryError:
            message = wire.failed(SandboxError.code, "the worker ran out of memory")
        except BaseException as error:  # noqa: BLE001  (whatever it is, it ends here)
            message = wire.failed(SandboxError.code, f"the worker raised {type(error).__name__}")
        os.write(own.report, message)  # 4.
    finally:
        os._exit(code)


def _settle(handed: Descriptors) -> Descriptors:
    """Keep the descriptors that were handed over, side by side, and close every other one but the standard streams."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    parked = [None if descriptor is None else fcntl.fcntl(descriptor, fcntl.F_DUPFD, _PARKED) for descriptor in handed]
    place = _FIRST
    own: list[int | None] = []
    for descriptor in parked:
        own.append(None if descriptor is None else os.dup2(descriptor, place, inheritable=False))
        place += descriptor is not None
    os.closerange(place, 1 << 16)
    report, result, given, key, rules = own
    assert report is not None and result is not None and given is not None  # noqa: PT018, S101  (for the type checker)
    return Descriptors(report, result, given, key, rules)


def _confine(plan: wire.Plan, rules: int | None) -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    limits.apply(limits.Limits(memory=plan.memory, cpu=plan.job_seconds, file=plan.file_bytes, processes=False))
    if rules is not None:
        landlock.enforce(rules)
        os.close(rules)
    if plan.job_filter:
        kernel.load_filter(bytes.fromhex(plan.job_filter))


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    while len(data) < size:
        data += os.pread(descriptor, size - len(data), len(data))
    return data


def _write(descriptor: int, result: bytes, most: int) -> None:
    if not isinstance(result, bytes) or len(result) > most:
        message = f"the result is not at most {most} bytes"
        raise SandboxError(message)
    view = memoryview(result)
    while view:
        view = view[os.write(descriptor, view) :]

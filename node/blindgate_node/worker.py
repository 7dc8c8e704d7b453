"""One evaluation, in a process that exists for nothing else.

`evaluate` is called in a child that the zygote has just forked: the model is compiled, no key and no job's bytes are in it. In
this order it

1. lets go of every descriptor but its inbox, and ends with its zygote;
2. puts on its own layers over the zygote's: tighter limits, nothing to write to, nothing to execute, no new processes;
3. does what the family does without a query, such as drawing masks that no other job will use (`ServerHalf.prepare`), and waits to
   be handed one job's descriptors, which may be at once, or later when the zygote forked it ahead of time;
4. reads the key and the input, which must hold as many rows as its order says, computes, writes the result;
5. says so, and ends by `os._exit`: interpreters with native libraries loaded do not always end well.

Whatever the family raises about bytes that are not what they claim to be becomes the job's refusal, by its code. Everything
else is a worker gone wrong; of that only the kind of the error is told, since its text may hold anything.
"""

import fcntl
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from blindgate_node import plan as wire
from blindgate_node.sandbox import kernel, landlock, limits
from blindgate_protocol.errors import CiphertextError, MalformedError, SandboxError

Evaluate = Callable[[bytes | None, bytes], bytes]

_INBOX, _RULES = 3, 4
_PARKED = 512
_FAILED = 70


class Serving(NamedTuple):
    """What a worker does with the compiled model.

    Attributes:
        prepare: before it has a query.
        rows: how many rows an input holds.
        evaluate: computes on an input under a key.
    """

    prepare: Callable[[], None]
    rows: Callable[[bytes], int]
    evaluate: Evaluate


def evaluate(serving: Serving, plan: wire.Plan, inbox: int, rules: int | None) -> NoReturn:
    """Compute on one input and end this process (steps 1 to 5 above).

    Args:
        serving: the compiled model.
        plan: the zygote's.
        inbox: a socket on which one message brings the job's descriptors: report, result, input and, if any, key.
        rules: the Landlock rules that the zygote prepared, where the kernel has any.
    """
    code = _FAILED
    try:
        _settle(inbox, rules)  # 1.
        _confine(plan, keep_rules=rules is not None)  # 2.
        serving.prepare()  # 3.
        rows, descriptors = _await_job()
        message = answer(serving, plan, rows, descriptors)  # 4.
        code = 0 if message == wire.DONE else _FAILED
        os.write(descriptors[0], message)  # 5.
    finally:
        os._exit(code)


def answer(serving: Serving, plan: wire.Plan, rows: int | None, descriptors: list[int]) -> bytes:
    """Read a job's key and input, compute, write its result, and give what is to be said of it."""
    _, result, given, *key = descriptors
    try:
        ciphertexts = read(given)
        held = rows if rows is None else serving.rows(ciphertexts)
        if held != rows:
            return wire.failed(CiphertextError.code, f"input: {held} rows, and the order is for {rows}")
        computed = serving.evaluate(read(key[0]) if key else None, ciphertexts)
        _write(result, computed, plan.result_bytes)
    except (MalformedError, SandboxError) as error:
        return wire.failed(error.code, str(error))
    except MemoryError:
        return wire.failed(SandboxError.code, "the worker ran out of memory")
    except BaseException as error:  # noqa: BLE001  (whatever it is, it ends here)
        return wire.failed(SandboxError.code, f"the worker raised {type(error).__name__}")
    return wire.DONE


def _settle(inbox: int, rules: int | None) -> None:
    """Keep the inbox and the rules, at fixed places, and close every other descriptor but the standard streams."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    last = _INBOX if rules is None else _RULES
    parked = [fcntl.fcntl(kept, fcntl.F_DUPFD, _PARKED) for kept in (inbox, rules) if kept is not None]
    for place, kept in enumerate(parked, start=_INBOX):
        os.dup2(kept, place, inheritable=False)
    os.closerange(last + 1, 1 << 16)


def _await_job() -> tuple[int | None, list[int]]:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=_INBOX)
    with channel:
        message, descriptors = wire.receive(channel)
    if not message:
        os._exit(0)  # the zygote has no job for this worker any more
    return wire.parse_job(message), descriptors


def _confine(plan: wire.Plan, *, keep_rules: bool) -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    limits.apply(limits.Limits(memory=plan.memory, cpu=plan.job_seconds, file=plan.file_bytes, processes=False))
    if keep_rules:
        landlock.enforce(_RULES)
        os.close(_RULES)
    if plan.job_filter:
        kernel.load_filter(bytes.fromhex(plan.job_filter))


def read(descriptor: int) -> bytes:
    """All that a descriptor holds."""
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

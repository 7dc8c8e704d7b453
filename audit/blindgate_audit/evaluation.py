"""The process that evaluates again: `python -m blindgate_audit.evaluation PLAN`, started by `recomputation` and by nobody else.

It has no secret and is told none, not even what should come out. In this order:

1. it ends with its parent, gains no rights by starting programs, and leaves the network where the kernel lets it;
2. it takes limits upon itself: address space, CPU time, the largest file it may write;
3. only then it imports the model's family, parses the server part and evaluates the input, all of which may be hostile;
4. it writes the result, or in one line why there is none, to descriptors that it was given.

Whatever the family raises about bytes becomes that line; of anything else only its kind is told, since its text may hold anything.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any, Final

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_FAILED: Final = 70
_ROOM: Final = 1 << 16
"""For the line that says why, beside a result as large as is allowed."""


def main() -> None:
    """Do one evaluation (steps 1 to 4 above)."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    result, report, *given = plan["descriptors"]
    _confine()  # 1.
    _limit(plan["memory"], plan["seconds"], plan["result_bytes"])  # 2.
    try:
        computed = _evaluated(plan, given)  # 3.
        if len(computed) > plan["result_bytes"]:
            why = f"the result has {len(computed)} bytes, and the manifest allows {plan['result_bytes']}"
        else:
            _write(result, computed)  # 4.
            why = ""
    except MemoryError:
        why = f"it needs more than {plan['memory'] >> 20} MiB of memory; give it more with --memory"
    except BaseException as error:  # noqa: BLE001  (whatever it is, it ends here)
        why = _told(error)
    if why:
        _write(report, why.encode(errors="replace")[:4096])
        os._exit(_FAILED)
    os._exit(0)  # interpreters with native libraries loaded do not always end well


def _evaluated(plan: dict[str, Any], given: list[int]) -> bytes:
    from blindgate_models.package import parse_part  # noqa: PLC0415  (under the limits, and not before)
    from blindgate_models.servers import server_half  # noqa: PLC0415
    from blindgate_protocol.errors import CiphertextError  # noqa: PLC0415

    part, ciphertexts, *key = map(_read, given)
    half = server_half(plan["family"]).from_part(parse_part(part))
    half.prepare()
    held = half.rows(ciphertexts)
    if held != plan["rows"]:
        message = f"the input holds {held} rows, and the order is for {plan['rows']}"
        raise CiphertextError(message)
    return half.evaluate(key[0] if plan["keyed"] else None, ciphertexts)


def _confine() -> None:
    with suppress(OSError, AttributeError):  # no Linux
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.unshare(_CLONE_NEWNET) != 0:
            libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _limit(memory: int, seconds: int, result: int) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds * (os.cpu_count() or 1)),  # of all its threads; the parent's clock ends it sooner
        (resource.RLIMIT_FSIZE, result + _ROOM),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _told(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name!r} is not installed: pip install 'blindgate[audit,node]'"
    code = getattr(error, "code", None)  # one of ours: its text never holds data
    return f"{code}: {error}" if isinstance(code, str) else f"it raised {type(error).__name__}"


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()

"""What the node and a zygote say to each other: values, as JSON, over one Unix socket, with file descriptors beside them.

The node sends a `Plan` and the model's server part; the zygote answers `Ready` or `Failed`. Then, for each job, the node sends
`Run` with four descriptors: the report socket, the result to be written, the input, and the evaluation key where there is
one. What is said about one job goes over its own report socket: the worker's `Report`, and, when it has ended, the zygote's
`Ended`; the socket's end says that nobody of them is left. `Kill` ends a job.

The zygote and the worker are the hostile side: what they say is parsed by `parse_report` and `parse_answer`, which believe
nothing about its shape. Neither side needs more than the standard library for it.
"""

import json
import re
import socket
from dataclasses import asdict, dataclass
from typing import Any

from blindgate_node.sandbox.layers import Held, Layer
from blindgate_protocol.errors import (
    CiphertextError,
    EvaluationKeyError,
    MalformedError,
    PackageError,
    SandboxError,
)

MAX_MESSAGE_BYTES = 64 << 10
MAX_REASON = 500
_MAX_DESCRIPTORS = 4

REFUSALS: dict[str, type[MalformedError]] = {
    kind.code: kind for kind in (MalformedError, CiphertextError, EvaluationKeyError, PackageError)
}
"""What a worker may say of a job's bytes. Anything else that it says is a worker gone wrong."""


@dataclass(frozen=True)
class Plan:
    """How a zygote is to be set up.

    Attributes:
        family: the model's family.
        half: `module:Class` of the server half where it is not one of Blindgate's own; empty otherwise.
        keyed: whether its jobs are all under one key, which the first of them brings.
        shared_memory: whether the family's runtime has to write to /dev/shm (OpenMP's does).
        readable: folders that `half` is imported from; what Python itself reads from, the zygote knows.
        hidden: the node's folder.
        work: the tree's empty folder.
        user: the user id to take on, where the node is root.
        scratch_bytes: how much the tree may write to its folder.
        memory: bytes of address space, for the zygote and for each worker.
        job_seconds: CPU time of one job.
        file_bytes: bytes of the largest file that a worker may write, its result included.
        result_bytes: bytes of the largest result.
        zygote_filter: the compiled system-call filter, in hexadecimal; empty where there is none.
        job_filter: the one that a worker puts on over it.
    """

    family: str
    half: str
    keyed: bool
    shared_memory: bool
    readable: tuple[str, ...]
    hidden: str
    work: str
    user: int
    scratch_bytes: int
    memory: int
    job_seconds: int
    file_bytes: int
    result_bytes: int
    zygote_filter: str
    job_filter: str

    def to_bytes(self) -> bytes:
        """The plan as a message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Plan":
        """Read what the node sent: the node is trusted by its zygote."""
        fields = json.loads(data)
        return cls(**{**fields, "readable": tuple(fields["readable"])})


@dataclass(frozen=True)
class Run:
    """Start a job, by its number among this zygote's jobs.

    Attributes:
        number: its number.
        rows: how many rows its order says that its input holds; `None` where there is no order.
    """

    number: int
    rows: int | None


@dataclass(frozen=True)
class Kill:
    """End a job."""

    number: int


def command(value: Run | Kill) -> bytes:
    """A command as a message."""
    return json.dumps({type(value).__name__: asdict(value)}).encode()


def parse_command(data: bytes) -> Run | Kill:
    """Read a command of the node's."""
    message = json.loads(data)
    if "Run" in message:
        return Run(**message["Run"])
    return Kill(**message["Kill"])


def job(rows: int | None) -> bytes:
    """What a zygote says to the worker that it hands a job to."""
    return json.dumps({"rows": rows}).encode()


def parse_job(data: bytes) -> int | None:
    """The rows that a job's order names."""
    rows: int | None = json.loads(data)["rows"]
    return rows


def ready(held: tuple[Held, ...]) -> bytes:
    """The zygote's answer: the part is compiled, and these layers hold."""
    return json.dumps({"ready": [[entry.layer.value, entry.holds, entry.detail[:200]] for entry in held]}).encode()


def failed(code: str, reason: str) -> bytes:
    """The zygote's answer, or a worker's report: it cannot be done."""
    return json.dumps({"code": code, "reason": reason[:MAX_REASON]}).encode()


DONE = b'{"done": true}'
"""A worker's report: the result is written."""


def ended(status: int) -> bytes:
    """The zygote's word that a worker has ended, with its exit code, or the signal's number, negative."""
    return json.dumps({"ended": status}).encode()


def parse_answer(data: bytes) -> tuple[Held, ...]:
    """What a zygote answered to its plan. Raises `PackageError` when it refused the part, else `SandboxError`."""
    message = _object(data, "the zygote")
    if "ready" not in message:
        raise _refusal(message)
    try:
        return tuple(
            Held(Layer(layer), holds=bool(holds), detail=_plain(str(detail)))
            for layer, holds, detail in message["ready"]
        )
    except (TypeError, ValueError) as error:
        text = "the zygote's answer is malformed"
        raise SandboxError(text) from error


def parse_report(data: bytes) -> int | MalformedError | SandboxError | None:
    """What was said about a job: `None` for done, the refusal to raise, or the exit code of a worker that ended."""
    message = _object(data, "the worker")
    if message.get("done") is True:
        return None
    status = message.get("ended")
    if isinstance(status, int):
        return status
    return _refusal(message)


def send(channel: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message with its descriptors. Raises `OSError`."""
    socket.send_fds(channel, [data], list(descriptors))


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Receive one message and the descriptors beside it. Empty at the socket's end. Raises `OSError`."""
    data, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, _MAX_DESCRIPTORS)
    return data, descriptors


def _object(data: bytes, who: str) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        text = f"{who} answered something that is not JSON"
        raise SandboxError(text) from error
    if not isinstance(message, dict):
        text = f"{who} answered something that is not an object"
        raise SandboxError(text)
    return message


def _refusal(message: dict[str, Any]) -> MalformedError | SandboxError:
    code, reason = message.get("code"), _plain(str(message.get("reason")))
    kind = REFUSALS.get(code) if isinstance(code, str) else None
    if kind is None:
        return SandboxError(reason)
    return kind(reason)


def _plain(text: str) -> str:
    """Hostile words, made fit for a log and a reason: printable ASCII, bounded."""
    return re.sub(r"[^\x20-\x7e]", "?", text)[:MAX_REASON]

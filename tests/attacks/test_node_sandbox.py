"""What a hostile worker can do, tried from inside a real one.

The tests run as root, as a node in a container does, with every layer; `test_node_without_root` has the layers that remain
for one who is not root.
"""

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blindgate_node.sandbox.layers import Layer
from blindgate_node.signer import load_or_create_key
from blindgate_node.zygotes import Model
from blindgate_protocol.errors import (
    BlindgateError,
    CiphertextError,
    EvaluationKeyError,
    PackageError,
    SandboxError,
)
from node_process import CURIOUS, ECHO, HOSTILE, SHARING
from worker_pool import FIRST_USER, Workers, workers

EPERM, EACCES = f"PermissionError {errno.EPERM}", f"PermissionError {errno.EACCES}"
ENOENT, EROFS = f"FileNotFoundError {errno.ENOENT}", f"OSError {errno.EROFS}"
SYS_PTRACE, SYS_PROCESS_VM_READV, SYS_UNSHARE, SYS_BPF, SYS_KEYCTL, SYS_MEMFD, SYS_IO_URING = (
    101,
    310,
    272,
    321,
    250,
    319,
    425,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the layers for root need root")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A pool of zygotes."""
    with workers(tmp_path_factory.mktemp("node")) as rig:
        yield rig


@pytest.fixture(scope="module")
def hostile(rig: Workers) -> Model:
    """A model whose server half does what it is told."""
    return rig.model(HOSTILE)


@pytest.fixture(autouse=True)
def the_next_job_runs(rig: Workers, hostile: Model) -> Iterator[None]:
    """After every attack, an honest job in the same zygote comes out right."""
    yield
    assert rig.told(hostile, "work", seconds=0) == "worked"


def test_every_layer_holds_here(rig: Workers, hostile: Model) -> None:
    """Otherwise the tests below prove less than they say."""
    with rig.pool.using(hostile) as zygote:
        held = {entry.layer: (entry.holds, entry.detail) for entry in zygote.held}
    assert {layer for layer, (holds, _) in held.items() if not holds} == set(), held
    assert set(held) == set(Layer)


@pytest.mark.parametrize(
    ("deed", "arguments", "answer"),
    [
        pytest.param("socket", {"family": socket.AF_INET, "kind": socket.SOCK_STREAM}, EPERM, id="a TCP socket"),
        pytest.param("socket", {"family": socket.AF_INET6, "kind": socket.SOCK_DGRAM}, EPERM, id="a UDP socket"),
        pytest.param("socket", {"family": socket.AF_UNIX, "kind": socket.SOCK_STREAM}, EPERM, id="a Unix socket"),
        pytest.param("socket", {"family": socket.AF_NETLINK, "kind": socket.SOCK_RAW}, EPERM, id="a netlink socket"),
        pytest.param("socketpair", {}, EPERM, id="a socket pair"),
        pytest.param("fork", {}, EPERM, id="another process"),
        pytest.param("execute", {"path": "/usr/bin/env"}, EPERM, id="a program"),
        pytest.param("kill", {"pid": -1}, EPERM, id="everybody's end"),
        pytest.param("kill", {"pid": 1}, EPERM, id="the zygote's end"),
        pytest.param("call", {"number": SYS_PTRACE, "arguments": [16, 1, 0, 0]}, EPERM, id="tracing its zygote"),
        pytest.param(
            "call", {"number": SYS_PROCESS_VM_READV, "arguments": [1, 0, 0, 0, 0, 0]}, EPERM, id="others' memory"
        ),
        pytest.param("call", {"number": SYS_UNSHARE, "arguments": [0x10000000]}, EPERM, id="a user namespace"),
        pytest.param("call", {"number": SYS_BPF, "arguments": [0, 0, 0]}, EPERM, id="a BPF program"),
        pytest.param("call", {"number": SYS_KEYCTL, "arguments": [0, 0, 0]}, EPERM, id="the kernel's keyring"),
        pytest.param(
            "call", {"number": SYS_IO_URING, "arguments": [8, 0]}, EPERM, id="an io_uring, which filters miss"
        ),
        pytest.param("executable memory", {}, EPERM, id="memory to put code in"),
        pytest.param("open", {"path": "/etc/passwd"}, ENOENT, id="a file of the machine's"),
        pytest.param("open", {"path": "/proc/1/environ"}, EACCES, id="its zygote's environment"),
        pytest.param("open", {"path": "/proc/self/mem"}, EACCES, id="its own memory by name"),
        pytest.param("list", {"path": "/proc"}, EACCES, id="the process list"),
        pytest.param("list", {"path": "/scratch"}, EACCES, id="its zygote's folder"),
        pytest.param("list", {"path": "/"}, EACCES, id="the root folder"),
        pytest.param("write", {"path": "/scratch/x"}, EACCES, id="a file in its zygote's folder"),
        pytest.param("write", {"path": "/usr/lib/x"}, EROFS, id="a file among the libraries"),
        pytest.param("write", {"path": "/dev/shm/x"}, EACCES, id="shared memory by name"),
    ],
)
def test_a_worker_cannot_have(rig: Workers, hostile: Model, deed: str, arguments: dict[str, Any], answer: str) -> None:
    """Each of these is refused by the kernel, and the worker lives to tell."""
    if os.uname().machine != "x86_64" and deed == "call":
        pytest.skip("the numbers are x86-64's")
    assert rig.told(hostile, deed, **arguments) == answer


@pytest.mark.parametrize("linked", [False, True], ids=["by name", "by a link to it"])
def test_a_worker_cannot_open_the_nodes_signing_key(rig: Workers, hostile: Model, tmp_path: Path, linked: bool) -> None:
    """In the worker's root there is no such file; and it would neither be readable nor granted."""
    load_or_create_key(rig.folder / "node.key")
    file = rig.folder / "node.key"
    if linked:
        (tmp_path / "link").symlink_to(file)
        file = tmp_path / "link"
    assert rig.told(hostile, "open", path=str(file)) in {EACCES, ENOENT}


def test_the_signing_key_is_in_no_memory_but_the_nodes(rig: Workers, hostile: Model) -> None:
    """A zygote is started afresh, so even one that reads all of its own memory learns nothing."""
    seed = load_or_create_key(rig.folder / "node.key").seed()
    with rig.pool.using(hostile) as zygote:
        tree = [psutil.Process(zygote.pid), *psutil.Process(zygote.pid).children(recursive=True)]
        assert len(tree) >= 2
        assert [process.pid for process in tree if _holds(process.pid, seed)] == []
    assert _holds(os.getpid(), seed)


def test_a_worker_has_its_own_descriptors_and_no_other(rig: Workers, hostile: Model) -> None:
    """Standard streams that lead nowhere, the report, the result, the input."""
    assert rig.told(hostile, "descriptors") == [0, 1, 2, 4, 5, 6]


def test_a_worker_is_nobody_and_knows_nothing(rig: Workers, hostile: Model) -> None:
    """Another user, in no group, with an environment that says nothing about the node."""
    who = rig.told(hostile, "who")
    assert FIRST_USER <= who["uid"] < FIRST_USER + 8
    assert who["gid"] == who["uid"]
    assert who["groups"] == []
    assert not [name for name in who["environ"] if "BLINDGATE" in name or "HOME" in name]


def test_two_models_have_two_users(rig: Workers, hostile: Model) -> None:
    """A hostile package of one publisher meets nothing of another's."""
    other = rig.model(HOSTILE, b'{"other": 1}')
    assert rig.told(hostile, "who")["uid"] != rig.told(other, "who")["uid"]


def test_a_family_that_needs_shared_memory_gets_that_and_no_listing_of_it(rig: Workers) -> None:
    """OpenMP's runtime leaves a file of its own there; which others there are, a job does not see."""
    sharing = rig.model(SHARING)
    assert rig.told(sharing, "write", path="/dev/shm/x") == "written"
    assert rig.told(sharing, "list", path="/dev/shm") == EACCES
    assert rig.told(sharing, "write", path="/scratch/x") == EACCES
    assert rig.told(sharing, "write", path="/dev/shm/../x") in {EACCES, EROFS}


def test_a_worker_may_start_threads_and_no_process(rig: Workers, hostile: Model) -> None:
    """Concrete's runtime starts threads before it looks whether it needs them."""
    assert rig.told(hostile, "thread") == "ran"
    assert rig.told(hostile, "fork") == EPERM


@pytest.mark.parametrize(
    ("deed", "arguments", "limit", "words"),
    [
        pytest.param("crash", {}, 20, "signal 11", id="crashes"),
        pytest.param("hang", {}, 1, "still running", id="hangs"),
        pytest.param("spin", {}, 1, "still running", id="spins"),
        pytest.param("memory", {"mebibytes": 8192}, 20, "ran out of memory", id="asks for too much memory"),
        pytest.param("many", {"mebibytes": 64}, 20, "ran out of memory", id="fills its memory"),
        pytest.param("raise", {"kind": "value"}, 20, "raised ValueError", id="raises what it must not"),
        pytest.param("report", {"data": b"{".hex()}, 20, "not JSON", id="reports what is no JSON"),
        pytest.param("report", {"data": b"[]".hex()}, 20, "not an object", id="reports a list"),
        pytest.param("report", {"data": b'{"done": 1}'.hex()}, 20, "None", id="reports what is no report"),
        pytest.param(
            "report", {"data": b'{"code": "untrusted-signer", "reason": "x"}'.hex()}, 20, "x", id="makes up a code"
        ),
        pytest.param(
            "report", {"data": b'{"done": true}'.hex()}, 20, "0 bytes", id="reports a result that is not there"
        ),
        pytest.param("flood", {}, 20, "not JSON", id="reports without end"),
        pytest.param("big result", {"mebibytes": 5}, 20, "5242880 bytes", id="writes too large a result"),
        pytest.param("big result", {"mebibytes": 64}, 20, "raised OSError", id="writes past its file limit"),
        pytest.param("late", {"seconds": 5}, 20, "holds on", id="keeps a way to change its result"),
    ],
)
def test_a_worker_that(  # noqa: PLR0917  (a table's columns)
    rig: Workers, hostile: Model, deed: str, arguments: dict[str, Any], limit: float, words: str
) -> None:
    """It is a worker gone wrong: the attempt came to nothing, and the job is not blamed for it."""
    with pytest.raises(SandboxError, match=words):
        rig.told(hostile, deed, limit=limit, **arguments)


@pytest.mark.parametrize(("kind", "error"), [("ciphertext", CiphertextError), ("key", EvaluationKeyError)])
def test_a_refusal_of_the_family_is_the_jobs(
    rig: Workers, hostile: Model, kind: str, error: type[BlindgateError]
) -> None:
    """Bytes that are not what they claim to be: named, with the family's words."""
    with pytest.raises(error, match="words of the worker"):
        rig.told(hostile, "raise", kind=kind)


def test_a_workers_words_are_made_harmless(rig: Workers, hostile: Model) -> None:
    """What ends up in a log and a reason is printable and short."""
    said = b'{"code": "bad-ciphertext", "reason": "\\u001b[31m\\nred' + b"x" * 2000 + b'"}'
    with pytest.raises(CiphertextError) as caught:
        rig.told(hostile, "report", data=said.hex())
    assert str(caught.value).startswith("?[31m?red")
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    ("part", "error"),
    [
        pytest.param(b'{"refuse": 1}', PackageError, id="that the family refuses"),
        pytest.param(b'{"refuse": 1', PackageError, id="that is no JSON"),
        pytest.param(b'{"py/object": "os.system"}', PackageError, id="that is jsonpickle"),
        pytest.param(b"\x7fELF", PackageError, id="that is a program"),
        pytest.param(b'{"crash": 1}', SandboxError, id="that crashes the family"),
        pytest.param(b'{"hang": 1}', SandboxError, id="that hangs it"),
    ],
)
def test_a_part(rig: Workers, part: bytes, error: type[BlindgateError]) -> None:
    """A hostile part ends its own zygote and no other; nothing is left of it."""
    before = {process.pid for process in psutil.Process().children()}
    with pytest.raises(error):
        rig.run(rig.model(ECHO, part, start_seconds=2.0 if b"hang" in part else 60.0), b"x")
    assert {process.pid for process in psutil.Process().children()} <= before


def test_a_part_that_runs_code_while_it_is_compiled_has_no_network_and_no_key(rig: Workers) -> None:
    """The zygote is confined before it reads a part: what a compiler could be made to do, it does there."""
    load_or_create_key(rig.folder / "node.key")
    part = json.dumps(
        {"open": [str(rig.folder / "node.key"), "/etc/shadow", "/root", "/proc/1/root/etc/shadow"]}
    ).encode()
    with pytest.raises(PackageError) as caught:
        rig.run(rig.model(CURIOUS, part), b"x")
    assert json.loads(str(caught.value)) == {
        "opened": [],
        "socket": "PermissionError",
        "write": "OSError",
        "user": "other",
    }


def test_a_key_and_an_input_reach_the_worker_unchanged(rig: Workers) -> None:
    """The sandbox is no obstacle for an honest job, whatever its size."""
    echo = rig.model(ECHO)
    large = os.urandom(3 << 20)
    assert rig.run(echo, b"input", large) == large
    assert rig.run(echo, large) == large


def _holds(pid: int, wanted: bytes) -> bool:
    """Whether a process has these bytes in its memory. One that has ended has nothing."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError):
        return False
    try:
        return any(wanted in _span(memory, line) for line in lines)
    finally:
        os.close(memory)


def _span(memory: int, line: str) -> bytes:
    span, rights, *_ = line.split()
    start, end = (int(number, 16) for number in span.split("-"))
    if not rights.startswith("r") or "[v" in line:
        return b""
    try:
        return os.pread(memory, end - start, start)
    except (OSError, OverflowError):
        return b""

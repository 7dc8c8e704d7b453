"""One evaluation done again, with the ciphertexts at hand: does the model give the result that the receipt names?

Only of models whose manifest says `bit-exact` do the same bytes give the same bytes. Of others a second result says nothing, and
none is computed. In this order:

1. nothing of the replay was refused: it is known what is to be compared;
2. the files are the ones that the documents name: input, evaluation key, the model's server part, and the result where it is given.
   Sizes are bounded before a byte is read, and nothing is parsed here but a package's frame;
3. the server part is compiled, and the input evaluated, in a process of its own (`evaluation`) that has limits on memory, time and
   what it writes, none of this process's secrets, and, where the kernel allows it, no network. It is not told what should come
   out;
4. this process hashes what came out.

What the process is not given is the node's sandbox. The bytes come from a publisher and a client who signed for them; who trusts
neither runs the command in a container.
"""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, Literal

from blindgate_audit.replay import Replay, Verdict
from blindgate_protocol.canonical import DIGEST_PREFIX, digest
from blindgate_protocol.errors import (
    CiphertextError,
    EvaluationKeyError,
    InputError,
    PackageDigestError,
    PackageError,
    ResultDigestError,
    SandboxError,
)
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.receipts import Receipt, check_result
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef

DEFAULT_MEMORY: Final = 8 << 30
DEFAULT_SECONDS: Final = 900
MAX_REPORT_BYTES: Final = 4096
MAX_SERVER_BYTES: Final = 64 << 20
"""As much as a package and each of its parts may have."""

_KEPT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "BLINDGATE_KERNEL")
"""What of the environment an evaluation gets: where the code lies, and how it computes."""


@dataclass(frozen=True)
class Files:
    """Where the ciphertexts lie.

    Attributes:
        input: the input blob, as the client sent it.
        package: the model's package, its server part, or a folder with either part by name or digest.
        key: the evaluation key, where the model needs one.
        result: the result blob, where it is to be held against the receipt, too.
    """

    input: Path
    package: Path
    key: Path | None = None
    result: Path | None = None


@dataclass(frozen=True)
class Recomputation:
    """What came of it.

    Attributes:
        outcome: `equal` and `different` are about the result's bytes; `not-comparable` when a second result would say nothing;
            `failed` when there is none.
        output: what came out; `None` where nothing did.
        seconds: how long it took.
    """

    outcome: Literal["equal", "different", "not-comparable", "failed"]
    text: str
    output: BlobRef | None = None
    seconds: float | None = None


NOTHING_TO_COMPARE: Final = Recomputation(
    "not-comparable", "what the receipt says is refused, so there is nothing to compare with"
)
"""What comes of a job whose receipt is refused, or missing, whatever its files are."""


def recompute(
    replayed: Replay, files: Files, *, memory: int = DEFAULT_MEMORY, seconds: int = DEFAULT_SECONDS
) -> Recomputation:
    """Evaluate again and compare (steps 1 to 4 above).

    Args:
        replayed: the job.
        files: its ciphertexts.
        memory: the bytes of address space that the evaluation may use.
        seconds: how long it may take.

    Raises:
        InputError: a file is missing or too much.
        CiphertextError, EvaluationKeyError, PackageError, PackageDigestError, ResultDigestError: a file is not the one that the
            documents name.
        OSError: a file cannot be read.
    """
    order, manifest, receipt = (
        replayed.bundle.order.document,
        replayed.bundle.manifest.document,
        replayed.bundle.receipt,
    )
    if receipt is None or replayed.verdict is Verdict.REFUSED:  # 1.
        return NOTHING_TO_COMPARE
    given = _read_named(files.input, order.input, CiphertextError, "the input that the order names")  # 2.
    key = _read_key(files.key, order.evaluation_key, manifest.limits.evaluation_key_bytes)
    part = _read_part(files.package, manifest)
    if files.result is not None:
        _check_result(files.result, receipt)
    if manifest.determinism != "bit-exact":
        text = (
            f"the files are the ones that the documents name, and no more can be said: the manifest calls this model's determinism "
            f"{manifest.determinism!r}, so an honest node's second result need not have the same bytes as its first"
        )
        return Recomputation("not-comparable", text)
    began = time.monotonic()
    try:
        output = _evaluate(manifest, order.rows, part, given, key, memory=memory, seconds=seconds)  # 3.
    except SandboxError as error:
        return Recomputation("failed", f"the evaluation gave no result: {error}", seconds=time.monotonic() - began)
    took = time.monotonic() - began
    if output == receipt.document.output:  # 4.
        text = "equal: the model, evaluated again on this input, gives the very bytes that the receipt names"
        return Recomputation("equal", text, output, took)
    text = (
        f"different: the model gives {output.size} bytes with digest {output.digest}, and the receipt names "
        f"{receipt.document.output.size} bytes with digest {receipt.document.output.digest}. For a bit-exact model that is another "
        "result than the circuit's; versions of the software that differ from the node's would have to be ruled out first"
    )
    return Recomputation("different", text, output, took)


def _read_named(path: Path, named: BlobRef, kind: type[CiphertextError], what: str) -> bytes:
    data = _read(path, named.size)
    if (len(data), digest(data)) != (named.size, named.digest):
        message = f"{path}: is not {what}, {named.size} bytes with digest {named.digest}"
        raise kind(message)
    return data


def _check_result(path: Path, receipt: Signed[Receipt]) -> None:
    try:
        check_result(receipt, _read(path, receipt.document.output.size))
    except ResultDigestError as error:
        message = f"{path}: {error}"
        raise ResultDigestError(message) from error


def _read_key(path: Path | None, named: str | None, most: int) -> bytes | None:
    if path is None and named is not None:
        message = f"this job was computed under evaluation key {named}: give its file with --key"
        raise InputError(message)
    if path is None:
        return None
    if named is None:
        message = f"{path}: this job needed no evaluation key"
        raise InputError(message)
    data = _read(path, most)
    if digest(data) != named:
        message = f"{path}: is not the evaluation key that the order names, with digest {named}"
        raise EvaluationKeyError(message)
    return data


def _read_part(path: Path, manifest: Manifest) -> bytes:
    """The model's server part, from a package, a folder, or a file of its own."""
    named = manifest.server
    data, damaged = b"", ""
    for place in _places(path, named):
        data = _read(place, MAX_SERVER_BYTES)
        if data.startswith(b"PK"):
            try:
                data = _server_part(data)
            except PackageError as error:
                if place == path:
                    message = f"{path}: {error}"
                    raise type(error)(message) from error
                damaged += f"; {place.name}: {error}"
                continue  # a folder may hold others' files
        if (len(data), digest(data)) == (named.size, named.digest):
            return data
    message = (
        f"{path}: holds no server part of model {manifest.name} version {manifest.version}, {named.size} bytes with digest "
        f"{named.digest}{damaged}"
    )
    raise PackageDigestError(message)


def _places(path: Path, named: BlobRef) -> list[Path]:
    if not path.is_dir():
        return [path]
    places = (path / named.digest.removeprefix(DIGEST_PREFIX), path / "server.json", *sorted(path.glob("*.bgmodel")))
    return [place for place in places if place.is_file()]


def _server_part(package: bytes) -> bytes:
    try:
        from blindgate_models.package import read_package  # noqa: PLC0415  (an auditor need not have NumPy)
    except ModuleNotFoundError as error:
        raise _missing(error.name) from error
    return read_package(package).server


def _read(path: Path, most: int) -> bytes:
    """A file's bytes, and one more than `most` where there are more."""
    with path.open("rb") as file:
        return file.read(most + 1)


def _missing(module: str | None) -> InputError:
    return InputError(
        f"to evaluate again takes {module!r}, which is not installed: pip install 'blindgate[audit,node]'"
    )


def _evaluate(  # noqa: PLR0913  (what a worker of a node is handed)
    manifest: Manifest, rows: int, part: bytes, given: bytes, key: bytes | None, *, memory: int, seconds: int
) -> BlobRef:
    """Step 3. Raises `SandboxError` in the words of the process, made fit for a terminal."""
    plan = {
        "family": manifest.family,
        "rows": rows,
        "memory": memory,
        "seconds": seconds,
        "result_bytes": manifest.limits.result_bytes,
        "keyed": key is not None,
    }
    with TemporaryFile() as result, TemporaryFile() as report:
        handed = [_laid_down(data) for data in (part, given, *([] if key is None else [key]))]
        try:
            places = [result.fileno(), report.fileno(), *(file.fileno() for file in handed)]
            status = _run(json.dumps(plan | {"descriptors": places}), places, seconds)
        finally:
            for file in handed:
                file.close()
        said = _plain(os.pread(report.fileno(), MAX_REPORT_BYTES, 0))
        if status != 0:
            raise SandboxError(said or f"its process ended with {_ended(status)}")
        most = manifest.limits.result_bytes
        result.seek(0)
        data = result.read(most + 1)
    return BlobRef(digest=digest(data), size=len(data))


def _run(plan: str, places: list[int], seconds: int) -> int:
    command = [sys.executable, "-P", "-m", "blindgate_audit.evaluation", plan]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=places,
        env=environment,
        cwd="/",
    ) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            message = f"it was not done after {seconds} s"
            raise SandboxError(message) from error
        finally:
            process.kill()


def _laid_down(data: bytes) -> IO[bytes]:
    file = TemporaryFile()  # noqa: SIM115  (closed by who asked for it)
    file.write(data)
    file.seek(0)
    return file


def _ended(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def _plain(data: bytes) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", data.decode(errors="replace"))[:500]

"""A folder of weights, taken only if it is exactly what its list says.

Whoever checked the signature over the list (`blindgate_protocol.weights`) hands it in. In this order:

1. every name in the list is a plain relative path of few parts, of a kind of file that holds data: no pickle, no archive, no code;
2. the folder has every listed file and no other, no link, nothing but files and folders;
3. each file is copied into a folder of our own, no more bytes than its bound, and hashed as it is copied;
4. a file of safetensors begins with a header of bounded size;
5. a file of JSON is JSON, and names no code of the folder's own.

What is parsed afterwards is the copy. A disk that belongs to the machine's owner could answer a first reading with the right
bytes and the second with others; what was copied into memory (`/dev/shm`, by default) is memory of the trusted environment. The
copy is deleted when the model has been loaded.
"""

import hashlib
import itertools
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Never

from pydantic import Field, TypeAdapter, ValidationError

from blindgate_protocol.errors import BackendError, PackageDigestError, PackageError
from blindgate_protocol.signing import first_error
from blindgate_protocol.weights import MAX_FILES, MAX_FOLDER_BYTES, Resource, bound_of, check_name, check_resources

MAX_HEADER_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 4
_REMOTE_CODE: Final = ("auto_map", "custom_pipelines")

SCRATCH: Final = Path("/dev/shm")  # noqa: S108  (a folder of random name and mode 0700 is made in it)
"""Where copies lie by default: in memory."""

_RESOURCES: Final = TypeAdapter(Annotated[tuple[Resource, ...], Field(min_length=1, max_length=MAX_FILES)])


def read_resources(listed: Sequence[Mapping[str, Any]]) -> tuple[Resource, ...]:
    """The list of a model's files, from JSON. Raises `PackageError` naming the entry and the rule (step 1)."""
    try:
        resources = _RESOURCES.validate_json(json.dumps(listed))
    except (ValidationError, TypeError, ValueError) as error:
        text = first_error(error) if isinstance(error, ValidationError) else "no JSON"
        _refuse(f"resources: {text}")
    check_resources(resources)
    return resources


def list_folder(folder: Path, *, but: Container[str] = ()) -> tuple[Resource, ...]:
    """The list of the files that lie in `folder`, sorted by name, as a publisher signs it.

    What has one of the names `but` at its top is not looked at.
    Raises `PackageError` for a folder that step 1 or 2 would refuse.
    """
    resources = []
    for name in sorted(_walk(folder, but)):
        check_name(name)
        running, size = hashlib.sha256(), 0
        with _open(folder / name, name) as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                running.update(chunk)
                size += len(chunk)
        resources.append(Resource(name=name, digest=running.hexdigest(), size=size))
    check_resources(resources)
    return tuple(resources)


@contextmanager
def opened_weights(folder: Path, resources: Sequence[Resource], *, scratch: Path = SCRATCH) -> Iterator[Path]:
    """A copy of `folder` whose every byte was checked, in a fresh folder under `scratch`; it is gone after the block.

    Raises `PackageError` naming the file and the rule, `PackageDigestError` for a file that is not the listed one, and
    `BackendError` where `scratch` has no room.
    """
    check_resources(resources)  # 1.
    listed = {resource.name: resource for resource in resources}
    found = _walk(folder)  # 2.
    if more := sorted(found - listed.keys()):
        _refuse(f"{more[0]}: lies in the folder and is not in the list")
    if fewer := sorted(listed.keys() - found):
        _refuse(f"{fewer[0]}: is in the list and not in the folder")
    try:
        copies = Path(tempfile.mkdtemp(prefix="blindgate-weights-", dir=scratch))
    except OSError as error:
        message = f"{scratch}: no folder for the weights' copies can be made there ({error.strerror})"
        raise BackendError(message) from error
    try:
        left = MAX_FOLDER_BYTES
        for name, resource in listed.items():
            left -= _copy(folder, copies, resource, left)  # 3.
            if name.endswith(".safetensors"):  # 4.
                check_header(copies / name, name)
            elif name.endswith(".json"):  # 5.
                read_json(copies, name)
        yield copies
    finally:
        shutil.rmtree(copies, ignore_errors=True)


def read_json(folder: Path, name: str) -> Any:
    """The JSON of the file `name` in a checked folder; `None` where there is no such file.

    Raises `PackageError` for what is no JSON, or names code that should be imported from the folder.
    """
    file = folder / name
    if not file.exists():
        return None
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        message = f"{name}: not JSON"
        raise PackageError(message) from error
    if isinstance(value, dict) and (keys := [key for key in _REMOTE_CODE if value.get(key)]):
        _refuse(f"{name}: {keys[0]} names code of the folder's own, which is never run")
    return value


def check_header(file: Path, name: str) -> None:
    """Step 4: the header of `file` is no longer than `MAX_HEADER_BYTES`, nor than the file. Raises `PackageError`.

    What the header says is checked by the library of safetensors when it reads it.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    most = min(MAX_HEADER_BYTES, file.stat().st_size - 8)
    if not 0 < length <= most:
        _refuse(f"{name}: its header says {length} bytes, expected 1 to {max(most, 1)}")


def _walk(folder: Path, but: Container[str] = ()) -> set[str]:
    """Step 2: the files of `folder`, by their names. Links, devices and too many files are refused."""
    if folder.is_symlink() or not folder.is_dir():
        _refuse(f"{folder.name}: expected a folder")
    found: set[str] = set()
    waiting = [PurePosixPath()]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as listing:
            entries = list(itertools.islice(listing, MAX_FILES + 1))
        for entry in entries:
            name = str(inside / entry.name)
            if name in but:
                continue
            if entry.is_symlink():
                _refuse(f"{name}: a link; expected files and folders only")
            if entry.is_dir(follow_symlinks=False):
                if len(inside.parts) + 1 >= _MAX_DEPTH:
                    _refuse(f"{name}: expected folders of at most {_MAX_DEPTH - 1} levels")
                waiting.append(inside / entry.name)
            elif entry.is_file(follow_symlinks=False):
                found.add(name)
            else:
                _refuse(f"{name}: expected files and folders only")
            if len(found) + len(waiting) > MAX_FILES:
                _refuse(f"{folder.name}: expected at most {MAX_FILES} files")
    return found


def _copy(folder: Path, copies: Path, resource: Resource, left: int) -> int:
    """Step 3: how many bytes were copied. A link that came since is not followed."""
    name = resource.name
    bound = min(bound_of(name), left)
    if resource.size is not None:
        bound = min(bound, resource.size)
    target = copies / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    running, length = hashlib.sha256(), 0
    with _open(folder / name, name) as opened, target.open("xb", buffering=0) as written:
        while chunk := opened.read(_CHUNK_BYTES):
            length += len(chunk)
            if length > bound:
                _differs(f"{name}: has more than the {bound} bytes that it may have")
            running.update(chunk)
            _write(written, chunk, copies)
    if resource.size not in (None, length):
        _differs(f"{name}: has {length} bytes, the list says {resource.size}")
    if running.hexdigest() != resource.digest:
        _differs(f"{name}: its SHA-256 is {running.hexdigest()}, the list says {resource.digest}")
    return length


def _write(written: Any, chunk: bytes, copies: Path) -> None:
    try:
        done = 0
        while done < len(chunk):
            done += written.write(chunk[done:])
    except OSError as error:
        message = f"{copies.parent}: no room for the weights' copies ({error.strerror}); make it larger, or name another folder"
        raise BackendError(message) from error


def _open(file: Path, name: str) -> Any:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        message = f"{name}: cannot be read ({error.strerror})"
        raise PackageError(message) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        _refuse(f"{name}: expected a file")
    return os.fdopen(descriptor, "rb")


def _differs(message: str) -> Never:
    raise PackageDigestError(message)


def _refuse(message: str) -> Never:
    raise PackageError(message)

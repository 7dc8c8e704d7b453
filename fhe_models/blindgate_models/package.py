"""The model package: one file that holds a signed manifest and the two parts it names. Read without executing anything.

The file is a ZIP archive of exactly three members, in this order: `manifest.json`, `client.json`, `server.json`. It
comes
from outside, so the reader checks, before it parses what stands behind each check:

1. the file's size;
2. the archive's end record: three members, one disk, no comment, no ZIP64, nothing before the first member or between
   any two (two readers of one file must never see two packages);
3. each member's entry: its name, no flags (encryption is one), stored or deflated, no extra field, and a declared size
   within the member's bound;
4. each member's bytes: no more than declared, and the CRC;
5. what `zipfile` does not look at: both headers of each member, as `write_package` writes them, and the end of the compressed
   stream, so that one altered byte is seen there too.

`parse_part` then reads one part as strict JSON. A part is data; one that holds a pickle, jsonpickle's `py/…` members or
an executable is refused by name, although nothing here would run it.

The manifest is opaque here: a signed envelope, which `blindgate_protocol` opens and compares with the parts' digests.
Whoever trusts a package does that first; this module only says that the file is well formed.
"""

import io
import json
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple, Never

import rfc8785

from blindgate_models.halves import Part
from blindgate_protocol.errors import PackageError

MAX_PACKAGE_BYTES: Final = 64 << 20
MAX_MANIFEST_BYTES: Final = 2 << 20
MAX_PART_BYTES: Final = 64 << 20
MAX_PART_VALUES: Final = 4_000_000
MAX_PART_DEPTH: Final = 24

_MEMBERS: Final = {"manifest.json": MAX_MANIFEST_BYTES, "client.json": MAX_PART_BYTES, "server.json": MAX_PART_BYTES}
_END_RECORD: Final = struct.Struct("<4s4H2IH")
_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_LISTED_HEADER: Final = struct.Struct("<4s2B5H3I5H2I")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_EPOCH_DATE: Final = 0x21
_VERSION: Final = 20
_UNIX: Final = 3
_MODE: Final = 0o644 << 16
_MAX_INTEGER: Final = 2**53 - 1
_EXECUTABLES: Final = {
    b"\x7fELF": "an ELF executable",
    b"MZ": "a Windows executable",
    b"\xcf\xfa\xed\xfe": "a Mach-O executable",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"PK\x03\x04": "an archive",
}
_EXECUTABLE_TEXTS: Final = {"\x7fELF": "an ELF executable", "f0VMR": "an ELF executable in base64"}


class PackageFiles(NamedTuple):
    """The three members of a model package, as bytes.

    Attributes:
        manifest_envelope: the signed manifest, not yet checked.
        client: the client part.
        server: the server part.
    """

    manifest_envelope: bytes
    client: bytes
    server: bytes


def write_package(files: PackageFiles) -> bytes:
    """The package file that holds `files`. The same members give the same bytes, on the same version of zlib.

    Raises `PackageError` when a member is past its bound, so that what is written can be read.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for (name, bound), data in zip(_MEMBERS.items(), files, strict=True):
            if len(data) > bound:
                _refuse(f"{name}: got {len(data)} bytes, expected at most {bound}")
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _MODE
            archive.writestr(entry, data, compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    package = buffer.getvalue()
    if len(package) > MAX_PACKAGE_BYTES:
        _refuse(f"package: got {len(package)} bytes, expected at most {MAX_PACKAGE_BYTES}")
    return package


def read_package(source: Path | bytes) -> PackageFiles:
    """Read a package file, or its bytes.

    Raises `PackageError` naming the rule that it breaks, `OSError` on the disk's errors.
    """
    data = source if isinstance(source, bytes) else _read_bounded(source)
    if len(data) > MAX_PACKAGE_BYTES:  # 1
        _refuse(f"package: got more than {MAX_PACKAGE_BYTES} bytes")
    directory = _check_end_record(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, directory)
            members = [_read_member(archive, entry) for entry in entries]
            _check_bytes(entries, directory, data)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        msg = f"package: a damaged archive ({type(error).__name__})"
        raise PackageError(msg) from error
    return PackageFiles(*members)


def serialise_part(part: Part) -> bytes:
    """The canonical bytes of a part (RFC 8785), whose digest the manifest names.

    Raises `PackageError` if it is past a bound.
    """
    try:
        data = rfc8785.dumps(part)
    except rfc8785.CanonicalizationError as error:
        msg = "part: holds a value that JSON cannot carry exactly"
        raise PackageError(msg) from error
    parse_part(data)
    return data


def parse_part(data: bytes) -> Part:
    """Parse one part: a JSON object in UTF-8.

    Refused with `PackageError`: more than `MAX_PART_BYTES` bytes, `MAX_PART_VALUES` values or `MAX_PART_DEPTH` levels;
    a member named twice; NaN, infinities, integers past 2^53 - 1; lone surrogates; executables, pickles and jsonpickle.
    """
    if len(data) > MAX_PART_BYTES:
        _refuse(f"part: got {len(data)} bytes, expected at most {MAX_PART_BYTES}")
    for magic, what in _EXECUTABLES.items():
        if data.startswith(magic):
            _refuse(f"part: is {what}, expected a JSON object")
    if sum(map(data.count, (b",", b"[", b"{", b":"))) > MAX_PART_VALUES:
        _refuse(f"part: holds more than {MAX_PART_VALUES} values")
    try:
        part = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_exact_integer,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        msg = f"part: not JSON in UTF-8 ({type(error).__name__})"
        raise PackageError(msg) from error
    if not isinstance(part, dict):
        _refuse(f"part: got {type(part).__name__}, expected a JSON object")
    _check_values(part)
    return part


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PACKAGE_BYTES + 1)


def _check_end_record(data: bytes) -> int:
    """Obligation 2. The offset of the archive's directory."""
    if len(data) < _END_RECORD.size:
        _refuse(f"package: got {len(data)} bytes, too few for an archive")
    end = len(data) - _END_RECORD.size
    magic, disk, first_disk, here, total, size, offset, comment = _END_RECORD.unpack_from(data, end)
    if magic != b"PK\x05\x06":
        _refuse("package: does not end in an archive's end record")
    if (disk, first_disk, comment) != (0, 0, 0):
        _refuse("package: an archive on several disks, or with a comment")
    if here != len(_MEMBERS) or total != len(_MEMBERS):
        _refuse(f"package: got {total} members, expected {len(_MEMBERS)}")
    if offset + size != end:
        _refuse("package: bytes that belong to no member")
    return int(offset)


def _check_entries(entries: list[zipfile.ZipInfo], directory: int) -> None:
    """Obligation 3, and of 2 that the members follow each other without a gap."""
    names = [entry.orig_filename for entry in entries]
    if names != list(_MEMBERS):
        got = ", ".join(f"{name!r:.40}" for name in names)
        _refuse(f"package: got the members {got}, expected {', '.join(_MEMBERS)}")
    position = 0
    for entry in entries:
        name, bound = entry.orig_filename, _MEMBERS[entry.orig_filename]
        if entry.flag_bits != 0:
            _refuse(f"{name}: flags {entry.flag_bits:#06x}, expected none (an encrypted member has one)")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            _refuse(f"{name}: compression method {entry.compress_type}, expected stored or deflated")
        if entry.extra or entry.comment:
            _refuse(f"{name}: an extra field or a comment, expected none")
        if entry.file_size > bound:
            _refuse(f"{name}: declares {entry.file_size} bytes, expected at most {bound}")
        if entry.header_offset != position:
            _refuse(f"{name}: does not follow the member before it")
        position += _LOCAL_HEADER.size + len(name) + entry.compress_size
    if position != directory:
        _refuse("package: bytes that belong to no member")


def _check_bytes(entries: list[zipfile.ZipInfo], directory: int, data: bytes) -> None:
    """Obligation 5."""
    for entry in entries:
        name = entry.orig_filename.encode()
        sizes = (entry.CRC, entry.compress_size, entry.file_size, len(name), 0)
        both = (_VERSION, 0, entry.compress_type, 0, _EPOCH_DATE, *sizes)
        local = _LOCAL_HEADER.pack(b"PK\x03\x04", *both) + name
        listed = _LISTED_HEADER.pack(b"PK\x01\x02", _VERSION, _UNIX, *both, 0, 0, 0, _MODE, entry.header_offset) + name
        if not (data.startswith(local, entry.header_offset) and data.startswith(listed, directory)):
            _refuse(f"{entry.orig_filename}: a header that is not as packages have it")
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            start = entry.header_offset + len(local)
            stream = zlib.decompressobj(-zlib.MAX_WBITS)
            stream.decompress(data[start : start + entry.compress_size], entry.file_size + 1)
            if not stream.eof or stream.unused_data:
                _refuse(f"{entry.orig_filename}: a compressed stream that does not end where it should")
        directory += len(listed)


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Obligation 4: `zipfile` stops at the declared size and checks the CRC there."""
    with archive.open(entry) as member:
        data = member.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        _refuse(f"{entry.filename}: got {len(data)} bytes, declared {entry.file_size}")
    return data


def _members_once(pairs: list[tuple[str, Any]]) -> Part:
    part = dict(pairs)
    if len(part) != len(pairs):
        _refuse("part: a member named twice")
    for name in part:
        if name.startswith("py/"):
            _refuse(f"part: jsonpickle's member {name!r:.40}; a part is data, never code")
    return part


def _check_values(part: Part) -> None:
    level: list[Any] = [part]
    for _ in range(MAX_PART_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for name in value:
                    _check_text(name)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _check_text(value)
        if not below:
            return
        level = below
    _refuse(f"part: more than {MAX_PART_DEPTH} levels")


def _check_text(text: str) -> None:
    for start, what in _EXECUTABLE_TEXTS.items():
        if text.startswith(start):
            _refuse(f"part: a text holds {what}; a part is data, never code")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            msg = "part: a text with a lone surrogate"
            raise PackageError(msg) from error


def _refuse_constant(name: str) -> Never:
    _refuse(f"part: {name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse("part: a number too large for a double")
    return number


def _exact_integer(text: str) -> int:
    if len(text) > len(str(_MAX_INTEGER)) + 1 or abs(int(text)) > _MAX_INTEGER:
        _refuse("part: an integer past 2^53 - 1")
    return int(text)


def _refuse(why: str) -> Never:
    raise PackageError(why)

"""The model package: what is written can be read, and everything else is refused by the rule that it breaks."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from blindgate_models.package import (
    MAX_MANIFEST_BYTES,
    MAX_PACKAGE_BYTES,
    MAX_PART_BYTES,
    MAX_PART_DEPTH,
    PackageFiles,
    parse_part,
    read_package,
    serialise_part,
    write_package,
)
from blindgate_protocol.errors import PackageError

FILES = PackageFiles(manifest_envelope=b'{"payload":""}', client=b'{"a":1}', server=b'{"b":[1.5,"x"]}')
NAMES = ("manifest.json", "client.json", "server.json")


def archive(
    names: tuple[str, ...] = NAMES,
    *,
    data: bytes = b"{}",
    method: int = zipfile.ZIP_DEFLATED,
    change: Callable[[zipfile.ZipInfo], None] = lambda _: None,
    comment: bytes = b"",
) -> bytes:
    """A ZIP file made by hand."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            change(entry)
            file.writestr(entry, data)
        file.comment = comment
    return buffer.getvalue()


def with_extra(entry: zipfile.ZipInfo) -> None:
    """Give a member an extra field."""
    entry.extra = b"\x99\x99\x01\x00x"


def patched(package: bytes, magic: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes of the first record that starts with `magic`."""
    at = package.index(magic) + offset
    return package[:at] + value + package[at + len(value) :]


def bomb() -> bytes:
    """A member that is honest about holding far too much."""
    return archive(data=bytes(MAX_PART_BYTES + 1))


def lying_bomb() -> bytes:
    """A member that holds more than its entry and its header declare."""
    package = archive(data=bytes(1 << 20))
    declared = struct.pack("<I", 64)
    return patched(patched(package, b"PK\x01\x02", 24, declared), b"PK\x03\x04", 22, declared)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """A package gives back its three members, from bytes and from a file."""
    package = write_package(FILES)
    (tmp_path / "model.blindgate").write_bytes(package)
    assert read_package(package) == FILES
    assert read_package(tmp_path / "model.blindgate") == FILES


def test_the_same_members_give_the_same_bytes() -> None:
    """Nothing of the clock or the machine gets into a package."""
    assert write_package(FILES) == write_package(FILES)
    assert b"\x21\x00" in write_package(FILES)[:14]  # 1 January 1980, the oldest date that an archive can hold


@pytest.mark.parametrize(
    ("package", "message"),
    [
        pytest.param(b"", "too few", id="empty"),
        pytest.param(b"PK\x05\x06" + bytes(18), "0 members", id="no member"),
        pytest.param(bytes(100), "end record", id="no archive"),
        pytest.param(bytes(MAX_PACKAGE_BYTES + 1), "more than", id="past the size"),
        pytest.param(archive(NAMES[:2]), "2 members", id="a member missing"),
        pytest.param(archive((*NAMES, "run.so")), "4 members", id="a member too many"),
        pytest.param(archive(NAMES[::-1]), "expected manifest.json", id="another order"),
        pytest.param(archive((*NAMES[:2], "../server.json")), "expected manifest.json", id="a name that climbs"),
        pytest.param(archive((*NAMES[:2], "/server.json")), "expected manifest.json", id="an absolute name"),
        pytest.param(
            archive((*NAMES[:2], "server.json_so")).replace(b"json_so", b"json\0so"),
            "expected manifest.json",
            id="a name with a zero byte",
        ),
        pytest.param(archive(method=zipfile.ZIP_BZIP2), "method 12", id="another compression"),
        pytest.param(archive(method=zipfile.ZIP_LZMA), r"flags|method", id="a third compression"),
        pytest.param(archive(change=with_extra), "extra field", id="an extra field"),
        pytest.param(archive(comment=b"hello"), "end record", id="a comment"),
        pytest.param(b"MZ" + write_package(FILES), "no member", id="bytes in front"),
        pytest.param(write_package(FILES) + b"x", "end record", id="bytes behind"),
        pytest.param(patched(write_package(FILES), b"PK\x01\x02", 8, b"\x01"), "flags", id="the encryption flag"),
        pytest.param(
            patched(write_package(FILES), b"PK\x01\x02", 16, b"\x00\x00\x00\x00"), "damaged", id="another CRC"
        ),
        pytest.param(
            patched(write_package(FILES), b"PK\x03\x04", 26, b"\x05\x00"), "damaged", id="a header that disagrees"
        ),
        pytest.param(
            patched(write_package(FILES), b"PK\x01\x02", 42, b"\x09"), "follow", id="an entry that points elsewhere"
        ),
        pytest.param(bomb, "declares", id="a bomb"),
        pytest.param(lying_bomb, r"declared|damaged", id="a bomb that lies about its size"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_by_that_rule(package: bytes | Callable[[], bytes], message: str) -> None:
    """Nothing of a malformed package gets past the reader, and the error says which rule it was."""
    package = package() if callable(package) else package
    with pytest.raises(PackageError, match=message):
        read_package(package)


def test_two_members_of_one_name_are_refused() -> None:
    """Two readers of one package could pick different members."""
    with pytest.warns(UserWarning, match="Duplicate"):
        package = archive(("manifest.json", "client.json", "client.json"))
    with pytest.raises(PackageError, match=r"expected manifest\.json"):
        read_package(package)


def test_a_package_that_could_not_be_read_is_not_written() -> None:
    """A member past its bound is found by who made it, not by who gets it."""
    with pytest.raises(PackageError, match=r"manifest\.json"):
        write_package(FILES._replace(manifest_envelope=bytes(MAX_MANIFEST_BYTES + 1)))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        pytest.param(b"\x7fELF\x02\x01", "ELF", id="an ELF executable"),
        pytest.param(b'{"circuit":"\\u007fELF\\u0002"}', "ELF", id="an ELF executable as text"),
        pytest.param(b'{"circuit":"f0VMRgIBAQ=="}', "ELF", id="an ELF executable in base64"),
        pytest.param(b"\x80\x04\x95", "pickle", id="a pickle"),
        pytest.param(b'{"a":{"py/reduce":[{"py/function":"posix.system"}]}}', "jsonpickle", id="jsonpickle"),
        pytest.param(b'{"a":[{"py/object":"x.Y"}]}', "jsonpickle", id="jsonpickle in a list"),
        pytest.param(b"PK\x03\x04", "archive", id="an archive"),
        pytest.param(b"", "JSON", id="nothing"),
        pytest.param(b"[1]", "object", id="a list"),
        pytest.param(b'{"a":1,"a":2}', "twice", id="a member named twice"),
        pytest.param(b'{"a":NaN}', "NaN", id="not a number"),
        pytest.param(b'{"a":-Infinity}', "Infinity", id="minus infinity"),
        pytest.param(b'{"a":1e999}', "double", id="infinity in digits"),
        pytest.param(b'{"a":9007199254740992}', r"2\^53", id="an integer that doubles cannot hold"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", r"2\^53", id="an integer of 5,000 digits"),
        pytest.param(b'{"a":"\xff"}', "UTF-8", id="not UTF-8"),
        pytest.param(b'{"a":"\\ud800"}', "surrogate", id="a lone surrogate"),
        pytest.param(b'{"a":' * 60 + b"1" + b"}" * 60, "levels", id="too deep"),
        pytest.param(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "RecursionError", id="far too deep"),
        pytest.param(b'{"a":[' + b"0," * 4_100_000 + b"0]}", "values", id="too many values"),
        pytest.param(b'{"a":"' + b"x" * MAX_PART_BYTES + b'"}', "bytes", id="too long"),
    ],
)
def test_a_part_is_strict_json_and_nothing_that_could_run(part: bytes, message: str) -> None:
    """A part that is no plain JSON object, or carries code, is refused by name."""
    with pytest.raises(PackageError, match=message):
        parse_part(part)


def test_a_part_survives_its_canonical_bytes() -> None:
    """Numbers, texts and nesting come back as they were."""
    part = {"b": [1, 2.5, 8.442253112932959e-31, True, None], "a": {"é": "x" * 1000}}
    assert parse_part(serialise_part(part)) == part
    assert serialise_part(part).startswith(b'{"a"')


def test_a_part_that_could_not_be_read_is_not_written() -> None:
    """The compiler finds out, not the client."""
    deep: dict[str, object] = {}
    for _ in range(MAX_PART_DEPTH + 1):
        deep = {"a": deep}
    with pytest.raises(PackageError, match="levels"):
        serialise_part(deep)
    with pytest.raises(PackageError, match="exactly"):
        serialise_part({"a": 2**60})


def test_a_byte_altered_in_a_header_is_refused() -> None:
    """`zipfile` reads past dates, modes and the header before a member; two readers might not."""
    good = write_package(PackageFiles(b"{}", b'{"a": 1}', b'{"b": 2}'))
    for position in range(len(good)):
        altered = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        with pytest.raises(PackageError):
            read_package(altered)

"""Hostile bytes where documents and packages are expected: every mutation ends in an error of the tree, and none is believed.

Ciphertexts and keys have campaigns of their own (`test_linear_blobs.py`, `test_concrete_hostile_bytes.py`,
`test_node_hostile_bytes.py`).
"""

import json
import os
import random
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.package import MAX_PACKAGE_BYTES, parse_part, read_package, write_package
from blindgate_models.publishing import open_package
from blindgate_protocol.bundle import read_bundle
from blindgate_protocol.errors import (
    BlindgateError,
    EnvelopeError,
    PackageDigestError,
    PackageError,
    SignatureError,
)
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import open_signed
from signed_packages import package

CAMPAIGN = int(os.environ.get("BLINDGATE_CAMPAIGN", "1"))
CASES = 700 * CAMPAIGN
VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "protocol.json").read_text())
RECEIPT: bytes = json.dumps(
    next(case["envelope"] for case in VECTORS["cases"] if (case["document"], case["verdict"]) == ("receipt", "ok")),
    separators=(",", ":"),
).encode()


def mutations(data: bytes, other: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` mutations of `data`, each with a name; `other` is another well-formed one to swap pieces with."""
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.choice(("flip", "cut", "append", "double", "swap", "zero", "insert"))
        changed = bytearray(data)
        at = rng.randrange(len(data))
        length = rng.randrange(1, 64)
        if kind == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del changed[at:]
        elif kind == "append":
            changed += rng.randbytes(length)
        elif kind == "double":
            changed += data
        elif kind == "swap":
            changed[at : at + length] = other[at : at + length]
        elif kind == "zero":
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        else:
            changed[at:at] = rng.randbytes(length)
        if bytes(changed) != data:
            yield f"{kind} at {at}", bytes(changed)


def test_no_mutated_receipt_is_believed() -> None:
    """Each is refused as no envelope or as a wrong signature; white space aside, no change is without effect."""
    other = RECEIPT[::-1]
    for name, changed in mutations(RECEIPT, other, CASES, seed=1):
        if changed.strip() == RECEIPT:
            continue
        with pytest.raises((EnvelopeError, SignatureError)):  # noqa: PT012  (the name of the case that was believed)
            open_signed(changed, Receipt)
            pytest.fail(name)


def test_no_mutated_package_is_opened(small_compiled: CompiledModel) -> None:
    """Each ends in the error of the first rule that it breaks."""
    data = package(small_compiled)
    other = package(small_compiled, version=2, summary="Another.")
    for name, changed in mutations(data, other, CASES, seed=2):
        try:
            opened = open_package(changed)
        except BlindgateError:
            continue
        # The archive has a few bytes that say nothing (a date, say); what it holds must then be what was signed.
        assert read_package(changed) == read_package(data), name
        assert opened.manifest.document.version == 1


def test_a_part_of_another_version_is_refused(small_compiled: CompiledModel) -> None:
    """A manifest fits its own parts only."""
    first = read_package(package(small_compiled))
    wider = {**small_compiled.client, "features": 4}
    second = first._replace(client=json.dumps(wider).encode())
    with pytest.raises(PackageDigestError, match="client part"):
        open_package(write_package(second))


def _zip(members: dict[str, bytes], **settings: int) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=settings.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=settings.get("compression"))
    return buffer.getvalue()


GOOD = {"manifest.json": b"{}", "client.json": b"{}", "server.json": b"{}"}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="no archive"),
        pytest.param(_zip({"manifest.json": b"{}"}), id="members missing"),
        pytest.param(_zip(GOOD | {"circuit.so": b"\x7fELF"}), id="a shared object beside the parts"),
        pytest.param(_zip({"../manifest.json": b"{}", "client.json": b"", "server.json": b""}), id="a way out"),
        pytest.param(_zip(dict(reversed(GOOD.items()))), id="another order"),
        pytest.param(_zip(GOOD, compression=zipfile.ZIP_BZIP2), id="another compression"),
        pytest.param(_zip(GOOD | {"manifest.json": bytes(64 << 20)}), id="a bomb"),
        pytest.param(bytes(MAX_PACKAGE_BYTES + 1), id="too large"),
        pytest.param(b"x" + _zip(GOOD), id="bytes before the archive"),
        pytest.param(_zip(GOOD) + b"x", id="bytes behind the archive"),
    ],
)
def test_an_archive_that_breaks_a_rule_is_refused(data: bytes) -> None:
    """Before anything in it is parsed."""
    with pytest.raises(PackageError):
        read_package(data)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b'{"py/object": "os.system", "py/state": "id"}', id="jsonpickle"),
        pytest.param(b'{"a": {"py/reduce": [{"py/function": "os.system"}]}}', id="jsonpickle, inside"),
        pytest.param(b"\x80\x04\x95", id="pickle"),
        pytest.param(b"\x7fELF\x02\x01\x01", id="shared object"),
        pytest.param(b'{"circuit": "\\u007fELF"}', id="shared object in a text"),
        pytest.param(b'{"a": 1, "a": 2}', id="a member twice"),
        pytest.param(b'{"a": NaN}', id="not a number"),
        pytest.param(b'{"a": 1e999}', id="too large for a double"),
        pytest.param(b'{"a": 12345678901234567890}', id="too large an integer"),
        pytest.param(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="deep"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{", id="cut off"),
    ],
)
def test_a_part_that_is_no_data_is_refused(part: bytes) -> None:
    """A part is JSON, and never code."""
    with pytest.raises(PackageError):
        parse_part(part)


def test_a_validly_signed_package_with_a_payload_is_refused_all_the_same(small_compiled: CompiledModel) -> None:
    """A publisher's signature says who wrote it, not that it is harmless."""
    from dataclasses import replace  # noqa: PLC0415

    for payload in ({"py/object": "os.system"}, {"configuration": "\x7fELF..."}):
        with pytest.raises(PackageError):
            package(replace(small_compiled, server=small_compiled.server | payload))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"manifest": {}, "order": {}, "receipt": null}'])
def test_a_bundle_that_is_none_is_refused(data: bytes) -> None:
    """A file that an auditor was handed is hostile until checked."""
    with pytest.raises(BlindgateError):
        read_bundle(data)

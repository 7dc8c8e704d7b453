"""The server parts that a node takes, and those it does not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blindgate_gateway.settings import DAY
from blindgate_node.packages import Fetch, Packages
from blindgate_protocol.errors import (
    BlindgateError,
    EnvelopeError,
    ExpiredManifestError,
    PackageDigestError,
    PolicyError,
    SignatureError,
    UntrustedSignerError,
)
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Envelope, Signed, SigningKey
from brokerage import Keys, blob_ref, make_manifest, now_ms

PART = b'{"a": 1}'
KEYS = Keys()


def packages(folder: Path, **changes: Any) -> Packages:
    """A node's packages."""
    given: dict[str, Any] = {"publishers": {KEYS.publisher.id}, "most_bytes": 1000}
    return Packages(folder, **(given | changes))


def sends(*chunks: bytes) -> Fetch:
    """A gateway that sends these chunks."""

    def fetch(store: Callable[[Iterator[bytes]], None]) -> None:
        store(iter(chunks))

    return fetch


def forbidden(_: Callable[[Iterator[bytes]], None]) -> None:
    """A gateway that must not be asked."""
    pytest.fail("it was fetched again")


def manifest(signer: SigningKey = KEYS.publisher, **changes: Any) -> Signed[Manifest]:
    """A signed manifest of the part."""
    return signer.sign(make_manifest(server=PART, **changes))


def altered(envelope: Envelope) -> Envelope:
    """The envelope, with one character of its signature changed."""
    (signature,) = envelope.signatures
    other = ("B" if signature.sig[0] == "A" else "A") + signature.sig[1:]
    return envelope.model_copy(update={"signatures": (signature.model_copy(update={"sig": other}),)})


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        pytest.param(manifest(SigningKey.generate()).envelope, UntrustedSignerError, id="unknown publisher"),
        pytest.param(manifest(expires=now_ms() - 500).envelope, ExpiredManifestError, id="expired"),
        pytest.param(
            manifest(issued=now_ms() + DAY, expires=now_ms() + 2 * DAY).envelope, ExpiredManifestError, id="too early"
        ),
        pytest.param(altered(manifest().envelope), SignatureError, id="altered"),
        pytest.param(
            manifest().envelope.model_copy(update={"payloadType": "application/json"}), EnvelopeError, id="another type"
        ),
    ],
)
def test_a_manifest_that_is_not_to_be_used_is_refused(
    tmp_path: Path, envelope: Envelope, error: type[BlindgateError]
) -> None:
    """What the gateway's catalogue holds decides nothing: each has its own reason."""
    with pytest.raises(error):
        packages(tmp_path).open_manifest(envelope, now_ms())


def test_a_manifest_that_was_good_expires_all_the_same(tmp_path: Path) -> None:
    """Having seen it before does not make it last."""
    kept = packages(tmp_path)
    signed = manifest()
    kept.open_manifest(signed.envelope, now_ms())
    with pytest.raises(ExpiredManifestError):
        kept.open_manifest(signed.envelope, signed.document.expires)


def test_a_part_is_fetched_once(tmp_path: Path) -> None:
    """The next zygote, in this process or another, starts from the disk."""
    ref = blob_ref(PART)
    assert packages(tmp_path).part(ref, sends(PART[:3], PART[3:])).read_bytes() == PART
    assert packages(tmp_path).part(ref, forbidden).read_bytes() == PART


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([PART[:-1]], id="too short"),
        pytest.param([PART, b"x"], id="too long"),
        pytest.param([b"x" * len(PART)], id="other bytes"),
        pytest.param([], id="nothing"),
        pytest.param([b"x" * 100] * 1_000_000, id="without end"),
    ],
)
def test_bytes_that_the_manifest_does_not_name_are_refused_and_forgotten(tmp_path: Path, chunks: list[bytes]) -> None:
    """No zygote is ever started from them, and they do not stay on the disk."""
    with pytest.raises(PackageDigestError):
        packages(tmp_path).part(blob_ref(PART), sends(*chunks))
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_changed_on_disk_is_fetched_again(tmp_path: Path) -> None:
    """A file is trusted for its digest, not for its name."""
    kept = packages(tmp_path)
    file = kept.part(blob_ref(PART), sends(PART))
    file.write_bytes(b"x" * len(PART))
    assert kept.part(blob_ref(PART), sends(PART)).read_bytes() == PART


def test_the_oldest_parts_make_room(tmp_path: Path) -> None:
    """Publishing versions for ever does not fill a node's disk."""
    kept = packages(tmp_path, most_bytes=250)
    parts = [bytes([number]) * 100 for number in range(5)]
    for part in parts:
        kept.part(blob_ref(part), sends(part))
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 250
    kept.part(blob_ref(parts[-1]), forbidden)


def test_a_part_larger_than_the_nodes_store_is_left_to_another_node(tmp_path: Path) -> None:
    """That a node is small says nothing about the job."""
    with pytest.raises(PolicyError):
        packages(tmp_path, most_bytes=4).part(blob_ref(PART), forbidden)

"""The server parts of models: which this node takes, and where they lie.

A part is taken when

1. its manifest is signed by a publisher that *this node* trusts, whatever the gateway thinks;
2. the manifest's time has come and has not passed (`check_manifest`);
3. the bytes have exactly the size and the digest that the manifest names.

Versions are not compared with those seen before: the client names the version in its order, and refuses a rollback itself.

Parts lie on disk by digest, and are hashed again whenever a zygote is started from one. Nothing here parses them.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import PackageDigestError, PolicyError
from blindgate_protocol.manifest import Manifest, check_manifest
from blindgate_protocol.signing import Envelope, Signed, open_signed
from blindgate_protocol.values import BlobRef, Millis

_CHUNK_BYTES = 1 << 20
_OPENED = 64

Fetch = Callable[[Callable[[Iterator[bytes]], None]], None]
"""Streams the part's bytes into what it is given; from the start again when a connection breaks."""


class Packages:
    """The parts that this node has."""

    def __init__(self, folder: Path, *, publishers: Collection[str], most_bytes: int) -> None:
        """Keep parts in `folder`, `most_bytes` in all, of models that `publishers` sign."""
        self._folder = folder
        self._publishers = frozenset(publishers)
        self._most = most_bytes
        self._opened: dict[Envelope, Signed[Manifest]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("*.part"):
            left.unlink()

    def open_manifest(self, envelope: Envelope, now: Millis) -> Signed[Manifest]:
        """Steps 1 and 2. Raises `EnvelopeError`, `SignatureError`, `UntrustedSignerError` or `ExpiredManifestError`."""
        manifest = self._opened.get(envelope)
        if manifest is None:
            manifest = open_signed(envelope, Manifest)
            if len(self._opened) >= _OPENED:
                self._opened.clear()
            self._opened[envelope] = manifest
        check_manifest(manifest, publishers=self._publishers, now=now)
        return manifest

    def part(self, ref: BlobRef, fetch: Fetch) -> Path:
        """Step 3. The file that holds the part `ref`, fetched by `fetch` where it is not here.

        Raises `PackageDigestError` when the bytes are not the ones that the manifest names, and `PolicyError` when there
        are more of them than this node keeps.
        """
        if ref.size > self._most:
            message = f"the model's server part has {ref.size} bytes, and this node keeps at most {self._most}"
            raise PolicyError(message)
        file = self._folder / ref.digest.removeprefix(DIGEST_PREFIX)
        if file.exists():
            if _name(file) == ref:
                os.utime(file)
                return file
            file.unlink()
        self._forget_oldest(ref.size)
        temporary = file.with_suffix(f".{os.urandom(8).hex()}.part")
        try:
            fetch(lambda chunks: _store(temporary, ref, chunks))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        return file

    def _forget_oldest(self, needed: int) -> None:
        files = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime)
        total = sum(file.stat().st_size for file in files)
        for file in files:
            if total + needed <= self._most:
                return
            total -= file.stat().st_size
            file.unlink(missing_ok=True)


def _store(file: Path, ref: BlobRef, chunks: Iterator[bytes]) -> None:
    length, running = 0, hashlib.sha256()
    with file.open("wb") as opened:
        for chunk in chunks:
            length += len(chunk)
            if length > ref.size:
                break
            running.update(chunk)
            opened.write(chunk)
    if length != ref.size or DIGEST_PREFIX + running.hexdigest() != ref.digest:
        message = f"the model's server part is not the {ref.size} bytes that its manifest names"
        raise PackageDigestError(message)


def _name(file: Path) -> BlobRef:
    running = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            running.update(chunk)
    return BlobRef(digest=DIGEST_PREFIX + running.hexdigest(), size=file.stat().st_size)

"""What the makers of a platform say of it, from files: it goes beside the evidence, unread.

Intel's TCB information and lists, in JSON, without which nobody can judge a quote; NVIDIA's reference manifests of firmware. Both
are signed by their maker and public, and both end: whoever runs the node fetches them anew now and then, and names the files. They
are read for each question, so that a new file counts at once. Whether they are right, the reader of the evidence finds out.
"""

from collections.abc import Sequence
from pathlib import Path

from blindgate_protocol.errors import AttesterError
from blindgate_protocol.evidence import MAX_COLLATERAL_BYTES, MOST_REFERENCES


class Collateral:
    """The files of one node."""

    def __init__(self, platform: Path | None = None, references: Sequence[Path] = ()) -> None:
        """Name the files, and read each once. Raises `AttesterError` where one cannot be read, or there are too many."""
        if len(references) > MOST_REFERENCES:
            raise AttesterError(f"gpu_references: {len(references)} files, at most {MOST_REFERENCES}")
        self._platform, self._references = platform, tuple(references)
        self.of_platform()
        self.of_gpus()

    def of_platform(self) -> bytes | None:
        """What is said of the processor's platform; `None`: no file was named. Raises `AttesterError`."""
        return None if self._platform is None else _read("attester_collateral", self._platform)

    def of_gpus(self) -> tuple[bytes, ...]:
        """The reference manifests. Raises `AttesterError`."""
        return tuple(_read("gpu_references", file) for file in self._references)


def _read(setting: str, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_COLLATERAL_BYTES + 1)
    except OSError as error:
        raise AttesterError(f"{setting}: {file}: {error.strerror}") from error
    if not 1 <= len(data) <= MAX_COLLATERAL_BYTES:
        raise AttesterError(f"{setting}: {file} is empty or has more than {MAX_COLLATERAL_BYTES} bytes")
    return data

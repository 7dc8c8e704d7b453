"""Real zygotes and real workers without a gateway: what the attacks on the sandbox drive."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blindgate_node.blobs import SealedBlob
from blindgate_node.families import Family
from blindgate_node.pool import Pool
from blindgate_node.sandbox.syscalls import compile_programs
from blindgate_node.settings import MEBI
from blindgate_node.zygotes import Bounds, Model
from blindgate_protocol.canonical import digest
from node_process import FAMILIES

FIRST_USER = 64_800


def sealed(data: bytes) -> SealedBlob:
    """A blob, as a worker is handed one."""
    return SealedBlob.receive([data], digest=digest(data), size=len(data), most=len(data))


class Workers:
    """A pool of zygotes, and a model for each family that a test names."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.folder = folder
        self.pool = Pool(folder / "work", compile_programs(), first_user=FIRST_USER, most=8, idle_seconds=600)
        self._bounds = {
            "memory": 1024 * MEBI,
            "scratch": 16 * MEBI,
            "start_seconds": 20.0,
            "job_seconds": 20.0,
            "file": 8 * MEBI,
            "result": 4 * MEBI,
        } | changes

    def model(self, family: str, part: bytes = b"{}", **bounds: Any) -> Model:
        """A model of `family`, with this part."""
        file = self.folder / digest(part).replace(":", "-")
        file.write_bytes(part)
        kind: Family = FAMILIES[family]
        return Model(f"{family} {digest(part)} {bounds}", family, kind, lambda: file, Bounds(**(self._bounds | bounds)))

    def run(self, model: Model, given: bytes, key: bytes | None = None, *, seconds: float = 20.0) -> bytes:
        """Run one job."""
        with self.pool.using(model) as zygote, sealed(given) as blob:
            if key is None:
                return zygote.run(blob, None, seconds=seconds, started=lambda _: None).data
            with sealed(key) as kept:
                return zygote.run(blob, kept, seconds=seconds, started=lambda _: None).data

    def told(self, model: Model, deed: str, *, limit: float = 20.0, **arguments: Any) -> Any:
        """What came of a deed in a hostile worker."""
        return json.loads(self.run(model, json.dumps({"do": deed} | arguments).encode(), seconds=limit))


@contextmanager
def workers(folder: Path, **changes: Any) -> Iterator[Workers]:
    """A pool that ends with the context."""
    made = Workers(folder, **changes)
    try:
        yield made
    finally:
        made.pool.close()

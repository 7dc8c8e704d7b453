"""Which families this node can compute, told without importing one: their libraries belong in zygotes only.

`blindgate_models.servers` knows their classes; a zygote asks it. Here stands what the node itself needs: which distribution a
family computes with, for the receipt, and how much its evaluation keys grow in a worker's memory, for the key cache.

A `Family` with a `half` of its own, and the folders to import it from, is how tests put a hostile family behind the sandbox.
There is no setting for it: a node that was started from the command line computes Blindgate's own families only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final


@dataclass(frozen=True)
class Family:
    """What the node knows of a family.

    Attributes:
        distribution: the distribution that computes.
        key_expansion: how many times its serialised size an expanded key takes up in memory.
        keyed: whether expanding a key costs about as much as a job, so that a zygote is kept for each key.
        zygote_bytes: the memory of such a zygote besides its key: the library, the model, the compiler's leavings.
        shared_memory: whether its runtime has to write to /dev/shm while it computes.
        half: `module:Class` of a server half that is not Blindgate's own; empty otherwise.
        paths: folders that such a half is imported from.
    """

    distribution: str
    key_expansion: float
    keyed: bool = False
    zygote_bytes: int = 0
    shared_memory: bool = False
    half: str = ""
    paths: tuple[str, ...] = ()

    def grown(self, size: int) -> int:
        """What a key of `size` bytes takes up besides those, where it is expanded."""
        return int(size * self.key_expansion) + self.zygote_bytes


FAMILIES: Final[Mapping[str, Family]] = {
    "additive": Family("tenseal", key_expansion=2.0),
    "concrete": Family("concrete-python", key_expansion=12.0, keyed=True, zygote_bytes=192 << 20, shared_memory=True),
    "linear": Family("tenseal", key_expansion=2.0),
    "lookup": Family("tenseal", key_expansion=2.0),
    "network": Family("tenseal", key_expansion=3.5, keyed=True, zygote_bytes=128 << 20),
    "search": Family("tenseal", key_expansion=2.0),
    "trees": Family("tenseal", key_expansion=2.0),
    "trees-batch": Family("tenseal", key_expansion=2.0),
}

PLAIN_FAMILIES: Final[Mapping[str, Family]] = {
    "causal-lm": Family("transformers", key_expansion=0),
    "sentence-transformers": Family("sentence-transformers", key_expansion=0),
    "torch-table": Family("torch", key_expansion=0),
    "upstream": Family("httpx2", key_expansion=0),
}
"""Of models that compute in the clear; they are computed where they are loaded (`plain_models`), and in no zygote."""


def installed(families: Mapping[str, Family] = FAMILIES) -> dict[str, Family]:
    """Those of `families` whose library is installed here."""
    return {name: family for name, family in families.items() if _version(family.distribution) is not None}


def software(family: Family) -> dict[str, str]:
    """The versions of what computes, as a receipt names them."""
    names = ("blindgate", family.distribution)
    return {name: _version(name) or "unknown" for name in names}


@cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

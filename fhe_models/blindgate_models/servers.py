"""Which class is a family's server half.

The node asks here by the family's name, as the manifest gives it. A module is imported only when its family is asked
for. Nothing here, nor anything that these modules import, is a client half: an import contract and a look at the
modules of a fresh worker check it.
"""

from importlib import import_module
from typing import Final

from blindgate_models.halves import ServerHalf
from blindgate_protocol.errors import PackageError

SERVER_HALVES: Final = {
    "additive": ("blindgate_models.additive.server", "AdditiveServer"),
    "concrete": ("blindgate_models.concrete.server", "ConcreteServer"),
    "linear": ("blindgate_models.linear.server", "LinearServer"),
    "lookup": ("blindgate_models.lookup.server", "LookupServer"),
    "network": ("blindgate_models.network.server", "NetworkServer"),
    "search": ("blindgate_models.search.server", "SearchServer"),
    "trees": ("blindgate_models.trees.server", "TreesServer"),
    "trees-batch": ("blindgate_models.trees_batch.server", "TreesBatchServer"),
}
"""Family name → module and class."""


def server_half(family: str) -> type[ServerHalf]:
    """The server half of `family`.

    Raises `PackageError` on a family that this version does not know, or whose extra is not installed.
    """
    if family not in SERVER_HALVES:
        known = ", ".join(sorted(SERVER_HALVES))
        msg = f"family: got {family!r:.40}, expected one of: {known}"
        raise PackageError(msg)
    module, name = SERVER_HALVES[family]
    half: type[ServerHalf] = getattr(import_module(module), name)
    return half

"""Which class is a family's client half.

The SDK asks here by the family's name, as the manifest gives it. A module is imported only when its family is asked
for, so that a linear model does not load Concrete and a missing extra hurts nobody who does not use it. The server
halves stand in `blindgate_models.servers`: a node imports that module, and never this one.
"""

from importlib import import_module
from typing import Final

from blindgate_models.halves import ClientHalf
from blindgate_protocol.errors import PackageError

CLIENT_HALVES: Final = {
    "additive": ("blindgate_models.additive.client", "AdditiveClient"),
    "concrete": ("blindgate_models.concrete.client", "ConcreteClient"),
    "linear": ("blindgate_models.linear.client", "LinearClient"),
    "lookup": ("blindgate_models.lookup.client", "LookupClient"),
    "network": ("blindgate_models.network.client", "NetworkClient"),
    "search": ("blindgate_models.search.client", "SearchClient"),
    "trees": ("blindgate_models.trees.client", "TreesClient"),
    "trees-batch": ("blindgate_models.trees_batch.client", "TreesBatchClient"),
}
"""Family name → module and class."""


def client_half(family: str) -> type[ClientHalf]:
    """The client half of `family`.

    Raises `PackageError` on a family that this version does not know, or whose extra is not installed.
    """
    if family not in CLIENT_HALVES:
        known = ", ".join(sorted(CLIENT_HALVES))
        msg = f"family: got {family!r:.40}, expected one of: {known}"
        raise PackageError(msg)
    module, name = CLIENT_HALVES[family]
    half: type[ClientHalf] = getattr(import_module(module), name)
    return half

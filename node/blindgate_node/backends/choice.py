"""Which backend a model needs: by the kind that its manifest declares, never by what lies in its folder.

A folder is copied while its files are checked, opened from the copy, and the copy deleted (`weights`). What the libraries read
is what was hashed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from blindgate_models.weights import SCRATCH, opened_weights
from blindgate_node.backends.causal import CausalModel
from blindgate_node.backends.embeddings import SentenceEmbeddings
from blindgate_node.backends.interface import Backend
from blindgate_node.backends.torch_tables import TorchTable
from blindgate_protocol.errors import BackendError
from blindgate_protocol.weights import Resource

_OPENERS: Final[dict[str, Callable[..., Backend]]] = {
    "torch-table": TorchTable,
    "sentence-transformers": SentenceEmbeddings,
    "causal-lm": CausalModel,
}


def open_backend(
    kind: str, folder: Path, resources: Sequence[Resource], *, device: str = "auto", scratch: Path = SCRATCH
) -> Backend:
    """The model of the declared `kind` whose files lie in `folder` and are listed in `resources`, on `device`: auto, cpu or cuda.

    A model that a server on loopback serves has no folder here: `upstream.Upstream`.

    Raises `PackageError` or `PackageDigestError` naming the file and the rule, `BackendError` for an unknown kind, or where a
    library or the device is missing.
    """
    opener = _OPENERS.get(kind)
    if opener is None:
        message = f"kind: got {kind!r}, expected one of {', '.join(_OPENERS)}"
        raise BackendError(message)
    with opened_weights(folder, resources, scratch=scratch) as checked:
        return opener(checked, device=device)

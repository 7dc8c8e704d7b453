"""The libraries that compute, imported when a model is opened and not before, and told that there is no network.

transformers and sentence-transformers fetch what is missing from Hugging Face's hub unless they are told otherwise, and they
read that once, when they are imported. So the variables are set here, in front of the import, and what the libraries understood
is looked at afterwards. This is the only module that imports them, for corpora and for nodes: a node without a plaintext model
never does (extra `tee`), nor does a search by words alone (extra `rag`).
"""

import os
from importlib import import_module
from typing import Any, Final

from blindgate_protocol.errors import BackendError

OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "TOKENIZERS_PARALLELISM": "false",  # its threads and a later fork do not agree
}


def torch() -> Any:
    """Torch. Raises `BackendError` where it is not installed."""
    return _imported("torch")


def safetensors() -> Any:
    """Safetensors. Raises `BackendError`."""
    return _imported("safetensors")


def transformers() -> Any:
    """transformers, offline. Raises `BackendError`."""
    return _offline("transformers")


def sentence_transformers() -> Any:
    """sentence-transformers, offline. Raises `BackendError`."""
    return _offline("sentence_transformers")


def unopened() -> tuple[type[Exception], ...]:
    """What these libraries raise for a folder that they cannot open: among it a weights' file that is none."""
    usual = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)
    return (*usual, safetensors().SafetensorError)


def device_of(name: str) -> str:
    """The device that `name` means: `auto` is CUDA where torch finds it and the CPU otherwise.

    Raises `BackendError` for `cuda` where there is none: it is not computed elsewhere unasked.
    """
    present = bool(torch().cuda.is_available())
    if name == "auto":
        return "cuda" if present else "cpu"
    if name not in ("cpu", "cuda"):
        message = f"device: got {name!a:.100}, expected auto, cpu or cuda"
        raise BackendError(message)
    if name == "cuda" and not present:
        message = "device: torch finds no CUDA device here"
        raise BackendError(message)
    return name


def _offline(name: str) -> Any:
    torch()
    os.environ.update(OFFLINE)
    module = _imported(name)
    if not _imported("huggingface_hub.constants").HF_HUB_OFFLINE:
        message = (
            f"{name} was imported before Blindgate could tell it to stay offline: set HF_HUB_OFFLINE=1 in front of Python, "
            "or open the model before you import it"
        )
        raise BackendError(message)
    _imported("transformers.utils.logging").disable_progress_bar()
    return module


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        message = f"{name.partition('.')[0]} is not installed: pip install 'blindgate[rag]' for corpora, 'blindgate[tee]' on a node"
        raise BackendError(message) from error

"""The libraries that compute are imported when a model is opened and not before, and know that there is no network."""

import subprocess
import sys
from pathlib import Path

import pytest

from blindgate_node.backends.choice import open_backend
from blindgate_protocol.errors import BackendError, PackageError
from blindgate_rag import libraries
from plaintext_models import needed

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "safetensors",
    "tokenizers",
    "huggingface_hub",
    "faiss",
    "bm25s",
)
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); "
ROOMS = "import blindgate_node.commands, blindgate_node.backends.choice, blindgate_node.backends.upstream; "


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_fresh_node_imports_none_of_them() -> None:
    """Neither when it starts, nor with the room of the backends."""
    assert python(f"import sys; {ROOMS} print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_a_node_without_the_extra_starts_and_says_what_is_missing(tmp_path: Path) -> None:
    """The error is the operator's to act on."""
    (tmp_path / "architecture.json").write_text('{"columns": 1, "layers": [{"kind": "relu"}]}')
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    code = (
        f"{WITHOUT}{ROOMS}"
        "from pathlib import Path; from blindgate_models.weights import list_folder\n"
        "from blindgate_protocol.errors import BackendError\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "try: blindgate_node.backends.choice.open_backend('torch-table', folder, list_folder(folder), scratch=folder.parent)\n"
        "except BackendError as error: print(error)"
    )
    assert (
        python(code) == "torch is not installed: pip install 'blindgate[rag]' for corpora, 'blindgate[tee]' on a node"
    )


def test_offline_is_what_the_libraries_understood() -> None:
    """Also where the environment said otherwise."""
    needed("torch", "transformers")
    code = (
        "import os; os.environ['HF_HUB_OFFLINE'] = '0'\n"
        "from blindgate_rag import libraries; libraries.transformers()\n"
        "import huggingface_hub.constants as c; "
        "print(c.HF_HUB_OFFLINE, c.HF_HUB_DISABLE_TELEMETRY, c.HF_HUB_DISABLE_IMPLICIT_TOKEN)"
    )
    assert python(code) == "True True True", "nor do they read whose token lies in the home folder"


def test_a_library_that_was_imported_online_is_refused() -> None:
    """It read once, at its import, whether it may reach for a network."""
    needed("torch", "transformers")
    code = (
        "import os; os.environ['HF_HUB_OFFLINE'] = '0'; import huggingface_hub.constants\n"
        "from blindgate_rag import libraries; from blindgate_protocol.errors import BackendError\n"
        "try: libraries.transformers()\n"
        "except BackendError as error: print(error)"
    )
    assert python(code).startswith("transformers was imported before Blindgate could tell it to stay offline")


def test_a_device_is_not_another_one_unasked() -> None:
    """Who names CUDA gets CUDA, or an error."""
    needed("torch")
    present = libraries.torch().cuda.is_available()
    assert libraries.device_of("auto") == ("cuda" if present else "cpu")
    with pytest.raises(BackendError, match="expected auto, cpu or cuda"):
        libraries.device_of("meta")
    if not present:
        with pytest.raises(BackendError, match="no CUDA device"):
            libraries.device_of("cuda")


def test_a_kind_is_declared_and_not_guessed(tmp_path: Path) -> None:
    """An unknown one is refused, whatever lies in the folder."""
    with pytest.raises(BackendError, match="expected one of torch-table, sentence-transformers, causal-lm"):
        open_backend("onnx", tmp_path, [])
    with pytest.raises(PackageError):
        open_backend("torch-table", tmp_path / "missing", [])

"""The folder of an embedding model, opened by sentence-transformers: for corpora, and for nodes.

In this order:

1. `modules.json` names a transformer, a pooling and perhaps a normalisation, and nothing else: the library imports what stands
   there;
2. nothing in the folder asks for code of its own, or for weights that lie elsewhere (adapters);
3. the library opens the folder, offline, weights as safetensors only.

Whether the folder's files are those that somebody meant is its caller's to find out, before.
"""

import json
from pathlib import Path
from typing import Any, Final

from blindgate_protocol.errors import PackageError
from blindgate_rag import libraries

_MODULES: Final = frozenset({"Transformer", "Pooling", "Normalize"})
_REMOTE_CODE: Final = ("auto_map", "custom_pipelines")
_ADAPTER: Final = "adapter_config.json"
_MAX_JSON_BYTES: Final = 64 << 20


def open_sentence_model(folder: Path, device: str) -> tuple[Any, str]:
    """The model in `folder`, ready to encode (steps 1 to 3), and its device: `auto` is CUDA where torch finds it, and the CPU else.

    Raises `PackageError` naming the file and the rule, `BackendError` where the library or the device is missing.
    """
    _check_modules(folder)  # 1.
    check_transformer(folder)  # 2.
    chosen = libraries.device_of(device)
    library = libraries.sentence_transformers()
    try:
        model = library.SentenceTransformer(  # 3.
            str(folder),
            device=chosen,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )
    except libraries.unopened() as error:
        message = f"sentence-transformers cannot open the model: {type(error).__name__}"
        raise PackageError(message) from error
    model.eval()
    return model, chosen


def check_transformer(folder: Path) -> None:
    """What `transformers` would follow out of the folder is not there, and no file names code. Raises `PackageError`."""
    if (folder / _ADAPTER).exists():
        message = f"{_ADAPTER}: the weights of an adapter lie elsewhere; expected a whole model"
        raise PackageError(message)
    for file in sorted(folder.rglob("*.json")):
        value = _json(file, str(file.relative_to(folder)))
        if isinstance(value, dict) and (keys := [key for key in _REMOTE_CODE if value.get(key)]):
            message = f"{file.name}: {keys[0]} names code of the folder's own, which is never run"
            raise PackageError(message)
    if not isinstance(_json(folder / "config.json", "config.json"), dict):
        message = "config.json: expected an object that says which architecture this is"
        raise PackageError(message)
    if not list(folder.glob("*.safetensors")):
        message = "expected weights as *.safetensors in the folder"
        raise PackageError(message)


def _check_modules(folder: Path) -> None:
    modules = _json(folder / "modules.json", "modules.json")
    if not isinstance(modules, list) or not modules:
        message = "modules.json: expected the list of the model's modules"
        raise PackageError(message)
    for position, module in enumerate(modules):
        given = module if isinstance(module, dict) else {}
        package, _, name = str(given.get("type")).rpartition(".")
        if package.partition(".")[0] != "sentence_transformers" or name not in _MODULES:
            message = (
                f"modules.json: module {position} is none of {', '.join(sorted(_MODULES))} of sentence_transformers"
            )
            raise PackageError(message)
        if not (folder / str(given.get("path"))).resolve().is_relative_to(folder.resolve()):
            message = f"modules.json: module {position} lies outside the folder"
            raise PackageError(message)


def _json(file: Path, name: str) -> Any:
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            message = f"{name}: expected at most {_MAX_JSON_BYTES} bytes"
            raise PackageError(message)
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        message = f"{name}: is not in the folder"
        raise PackageError(message) from None
    except (OSError, ValueError, RecursionError) as error:
        message = f"{name}: not JSON"
        raise PackageError(message) from error

"""Models of tables in torch: `architecture.json` says what is computed, `model.safetensors` holds the numbers.

In this order:

1. the architecture is read (`layers`): a closed list, nothing imported by name, sizes bounded before a tensor is looked at;
2. the tensors' names, shapes and types are read from the file's header, and must be exactly those that the architecture asks for;
3. only then they are read, and must be finite.

Computed is in float32, in batches, on CUDA where there is one and on the CPU otherwise. Two devices, or two batch sizes, may
differ in a number's last bits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindgate_node.backends.layers import Architecture, Embedding, Layer, Linear, Norm, read_architecture
from blindgate_protocol.errors import BackendError, InputError, PackageError
from blindgate_rag import libraries

ARCHITECTURE: Final = "architecture.json"
TENSORS: Final = "model.safetensors"
MAX_ROWS: Final = 1 << 20
MAX_CELLS: Final = 1 << 28

_BATCH_ROWS: Final = 4096
_COUNTER: Final = "num_batches_tracked"
"""What batch norm counts while it is trained: a Sequential's `state_dict` has it, and nothing here reads it."""


class TorchTable:
    """A table's model, on one device."""

    def __init__(self, folder: Path, *, device: str = "auto", batch_rows: int = _BATCH_ROWS) -> None:
        """Open the model in `folder`, whose files were checked (`weights.opened_weights`): steps 1 to 3.

        Raises `PackageError` naming the layer or the tensor, and `BackendError` where torch or the device is missing.
        """
        file = folder / ARCHITECTURE
        if not file.exists() or not (folder / TENSORS).exists():
            message = f"expected {ARCHITECTURE} and {TENSORS} in the folder of a table's model"
            raise PackageError(message)
        self._architecture = read_architecture(file.read_bytes())  # 1.
        self._device = libraries.device_of(device)
        self._batch_rows = batch_rows
        self._tensors = _read_tensors(folder / TENSORS, self._architecture, self._device)
        self.columns = self._architecture.columns
        self.outputs = self._architecture.outputs

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self._device

    def predict(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The model's numbers for `rows`: `(n, columns)` float, finite, n ≤ 1,048,576; the answer is `(n, outputs)` float32.

        Raises `InputError` naming the row, and `BackendError` when torch fails. Copies made here are overwritten with zeros.
        """
        torch = libraries.torch()
        single = self._checked(rows)
        answers = np.empty((len(single), self.outputs), dtype=np.float32)
        try:
            with torch.inference_mode():
                for start in range(0, len(single), self._batch_rows):
                    batch = torch.from_numpy(single[start : start + self._batch_rows]).to(self._device)
                    answer = self._forward(torch, batch)
                    answers[start : start + len(batch)] = answer.cpu().numpy()
                    batch.zero_()
                    answer.zero_()
        except RuntimeError as error:
            message = f"torch could not compute on {self._device}: {type(error).__name__}"
            raise BackendError(message) from None
        finally:
            single.fill(0)
        return answers

    def _checked(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """A float32 copy of `rows`, which the answer may depend on."""
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f":  # noqa: PLR2004  (a table)
            message = "expected a table of numbers: an array of floats with two dimensions"
            raise InputError(message)
        if rows.shape[1] != self.columns:
            message = f"rows have {rows.shape[1]} columns, the model takes {self.columns}"
            raise InputError(message)
        most = min(MAX_ROWS, MAX_CELLS // max(self.columns, self.outputs))
        if not 0 < len(rows) <= most:
            message = f"got {len(rows)} rows, expected 1 to {most}"
            raise InputError(message)
        with np.errstate(over="ignore"):
            single = rows.astype(np.float32, order="C", copy=True)
        finite = np.isfinite(single).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            message = f"row {row}: expected finite numbers in float32's range"
            raise InputError(message, row=row)
        left = list(range(self.columns))  # each embedding takes its column out of the row
        for layer in self._architecture.layers:
            if isinstance(layer, Embedding):
                position = left.pop(layer.column)
                _check_categories(single[:, position], layer, position)
        return single

    def _forward(self, torch: Any, batch: Any) -> Any:
        values = batch
        for position, layer in enumerate(self._architecture.layers):
            values = _apply(torch, layer, values, lambda name, at=position: self._tensors.get(f"{at}.{name}"))
        return values if values is not batch else batch.clone()


def _check_categories(column: NDArray[np.float32], layer: Embedding, position: int) -> None:
    holds = (column >= 0) & (column < layer.categories) & (column == np.floor(column))
    if not holds.all():
        row = int(np.argmin(holds))
        message = f"row {row}, column {position}: expected a category's position, 0 to {layer.categories - 1}"
        raise InputError(message, row=row)


def _apply(torch: Any, layer: Layer, values: Any, tensor: Any) -> Any:
    functional = torch.nn.functional
    if isinstance(layer, Linear):
        return functional.linear(values, tensor("weight"), tensor("bias"))
    if isinstance(layer, Norm):
        if layer.kind == "layer_norm":
            return functional.layer_norm(values, (layer.size,), tensor("weight"), tensor("bias"), layer.epsilon)
        mean, variance = tensor("running_mean"), tensor("running_var")
        return functional.batch_norm(values, mean, variance, tensor("weight"), tensor("bias"), eps=layer.epsilon)
    if isinstance(layer, Embedding):
        column = layer.column
        found = functional.embedding(values[:, column].long(), tensor("weight"))
        return torch.cat([values[:, :column], values[:, column + 1 :], found], dim=1)
    plain: dict[str, Callable[[Any], Any]] = {
        "relu": torch.relu,
        "gelu": functional.gelu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "silu": functional.silu,
        "softmax": lambda row: torch.softmax(row, dim=1),
        "dropout": lambda row: row,
    }
    return plain[layer.kind](values)


def _read_tensors(file: Path, architecture: Architecture, device: str) -> dict[str, Any]:
    torch = libraries.torch()
    safetensors = libraries.safetensors()
    expected = architecture.shapes()
    counters = {name.rpartition(".")[0] + f".{_COUNTER}" for name in expected if name.endswith(".running_mean")}
    try:
        with safetensors.safe_open(file, framework="pt", device="cpu") as opened:
            found = set(opened.keys())
            if wrong := sorted((found - counters) ^ expected.keys()):
                there = "is not in the architecture" if wrong[0] in found else "is missing"
                _refuse(f"tensor {wrong[0]} {there}")
            for name, shape in expected.items():  # 2.
                listed = opened.get_slice(name)
                if tuple(listed.get_shape()) != shape or listed.get_dtype() != "F32":
                    got = f"{listed.get_dtype()} {tuple(listed.get_shape())}"
                    _refuse(f"tensor {name}: got {got}, the architecture asks for F32 {shape}")
            tensors = {name: opened.get_tensor(name).clone() for name in expected}  # 3.
    except safetensors.SafetensorError as error:
        message = f"{TENSORS}: no file of safetensors"
        raise PackageError(message) from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            _refuse(f"tensor {name}: holds a number that is not finite")
        if name.endswith(".running_var") and (tensor < 0).any():
            _refuse(f"tensor {name}: holds a variance below 0")
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _refuse(message: str) -> None:
    raise PackageError(f"{TENSORS}: {message}")

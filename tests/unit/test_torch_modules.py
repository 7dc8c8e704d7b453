"""torch's `nn.Sequential` as matrices: read by attributes, compared with torch's own answers where torch is installed.

The stand-ins below have torch's attributes and no more; `.venv-compile` has torch itself, and one test asks it.
"""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.torch_modules import read_sequential

Floats = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[2]
COMPILE_PYTHON = ROOT / ".venv-compile" / "bin" / "python"


class Tensor:
    """An array with the methods of a tensor that are used."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.values)

    def detach(self) -> "Tensor":
        """No gradient here."""
        return self

    def cpu(self) -> "Tensor":
        """Nowhere else."""
        return self

    def numpy(self) -> Floats:
        """The array."""
        return self.values

    def new_tensor(self, values: Any) -> "Tensor":
        """Another of the same kind."""
        return Tensor(values)


def module(kind: str, **attributes: Any) -> Any:
    """A module of torch's, by its class's name and its attributes."""
    return type(kind, (SimpleNamespace,), {})(**attributes)


def linear(weights: Floats, bias: Floats | None = None) -> Any:
    """Torch's Linear."""
    return module("Linear", weight=Tensor(weights), bias=None if bias is None else Tensor(bias))


def activation(name: str, function: Any) -> Any:
    """A module that works on every number by itself."""
    kind = type(name, (), {"__call__": lambda _, given: Tensor(function(given.values))})
    return kind()


def sequential(*modules: Any) -> Any:
    """Torch's Sequential."""
    return module("Sequential", _modules={str(place): each for place, each in enumerate(modules)})


RNG = np.random.default_rng(0)
SQUARE = activation("Square", lambda x: x * x)


def convolution(**changes: Any) -> Any:
    """Torch's Conv2d: 2 channels to 4, 3 by 3."""
    given: dict[str, Any] = {
        "weight": Tensor(RNG.normal(size=(4, 2, 3, 3))),
        "bias": Tensor(RNG.normal(size=4)),
        "stride": (2, 1),
        "padding": (1, 0),
        "dilation": (1, 1),
        "groups": 1,
        "padding_mode": "zeros",
    }
    return module("Conv2d", **(given | changes))


def convolved(images: Floats, layer: Any) -> Floats:
    """What Conv2d computes, written down plainly."""
    kernel, (down, right), (top, left) = layer.weight.values, layer.stride, layer.padding
    padded = np.pad(images, ((0, 0), (0, 0), (top, top), (left, left)))
    high, wide = (padded.shape[2] - 3) // down + 1, (padded.shape[3] - 3) // right + 1
    out = np.zeros((len(images), 4, high, wide))
    for i in range(high):
        for j in range(wide):
            window = padded[:, :, i * down : i * down + 3, j * right : j * right + 3]
            out[:, :, i, j] = np.tensordot(window, kernel, axes=([1, 2, 3], [1, 2, 3])) + layer.bias.values
    return out


def test_a_convolution_is_a_matrix() -> None:
    """Stride, padding and channels included; then a mean over windows, a square and a linear layer."""
    layer = convolution()
    pool = module(
        "AvgPool2d",
        kernel_size=2,
        stride=2,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    )
    images = RNG.normal(size=(3, 2, 8, 8))
    seen = convolved(images, layer)
    assert seen.shape == (3, 4, 4, 6)
    pooled = seen.reshape(3, 4, 2, 2, 3, 2).mean(axis=(3, 5)).reshape(3, -1)
    weights, bias = RNG.normal(size=(2, 24)), RNG.normal(size=2)
    model = sequential(layer, pool, module("Flatten"), SQUARE, linear(weights, bias))
    network = read_sequential(model, 128, None, None)
    np.testing.assert_allclose(network.scores(images.reshape(3, -1)), pooled**2 @ weights.T + bias)


def test_nested_models_batch_norms_and_any_polynomial_of_degree_2() -> None:
    """What stands between linear layers is asked for a few numbers."""
    first, second = RNG.normal(size=(5, 4)), RNG.normal(size=(3, 5))
    norm = module(
        "BatchNorm1d",
        running_mean=Tensor(RNG.normal(size=5)),
        running_var=Tensor(RNG.uniform(1, 2, 5)),
        weight=Tensor(RNG.normal(size=5)),
        bias=Tensor(RNG.normal(size=5)),
        eps=1e-5,
    )
    bent = activation("Bent", lambda x: 0.3 * x * x - 2 * x + 1)
    model = sequential(sequential(linear(first), norm), module("Dropout"), bent, linear(second))
    rows = RNG.normal(size=(6, 4))
    normed = (rows @ first.T - norm.running_mean.values) / np.sqrt(norm.running_var.values + 1e-5)
    normed = normed * norm.weight.values + norm.bias.values
    expected = (0.3 * normed**2 - 2 * normed + 1) @ second.T
    network = read_sequential(model, 4, None, ("a", "b", "c"))
    np.testing.assert_allclose(network.scores(rows), expected)
    compiled = compile_network(model, np.clip(rows, -2, 2), labels=["a", "b", "c"])
    assert compiled.labels == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("modules", "error", "says"),
    [
        pytest.param(
            [linear(np.ones((2, 4))), activation("ReLU", lambda x: np.maximum(x, 0)), linear(np.ones((1, 2)))],
            TypeError,
            "ReLU",
            id="no polynomial",
        ),
        pytest.param(
            [linear(np.ones((2, 4))), activation("Sum", lambda x: x[:, :1]), linear(np.ones((1, 2)))],
            TypeError,
            "shape",
            id="no module for numbers by themselves",
        ),
        pytest.param(
            [linear(np.ones((2, 5))), SQUARE, linear(np.ones((1, 2)))], ValueError, "takes 5", id="another width"
        ),
        pytest.param([linear(np.ones((2, 4))), SQUARE], ValueError, "end", id="nothing at the end"),
        pytest.param([SQUARE, linear(np.ones((2, 4)))], TypeError, "before", id="nothing before"),
        pytest.param([linear(np.ones((2, 4)))], ValueError, "linear", id="no square"),
        pytest.param([convolution(), SQUARE, linear(np.ones((1, 2)))], ValueError, "image", id="no image"),
        pytest.param(
            [convolution(padding="same"), SQUARE, linear(np.ones((1, 2)))],
            TypeError,
            "padding|image",
            id="padding by name",
        ),
    ],
)
def test_what_is_no_network_of_squares_is_refused(modules: list[Any], error: Any, says: str) -> None:
    """By the module's name."""
    with pytest.raises(error if says != "padding|image" else (TypeError, ValueError), match=says):
        read_sequential(sequential(*modules), 4, None, None)


PROGRAM = """
import json, sys
sys.path += sys.argv[1:]
import torch
from torch import nn
from blindgate_models.compilers.torch_modules import read_sequential

class Square(nn.Module):
    def forward(self, x):
        return x * x

torch.manual_seed(0)
model = nn.Sequential(
    nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 4, 7, stride=3), nn.BatchNorm2d(4), Square(), nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(64, 16), Square(), nn.Linear(16, 10),
)
model(torch.randn(32, 784))
model.eval()
rows = torch.randn(5, 784)
network = read_sequential(model, 784, None, None)
print(json.dumps(float(abs(network.scores(rows.numpy().astype("float64")) - model(rows).detach().numpy()).max())))
"""


@pytest.mark.skipif(not COMPILE_PYTHON.exists(), reason="make compile-env has not been run")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the compile environment borrows pydantic from this one")
def test_torchs_own_modules_are_read_right() -> None:
    """In the environment that has torch: its answers, and those of the matrices."""
    done = subprocess.run(
        [
            COMPILE_PYTHON,
            "-c",
            PROGRAM,
            str(ROOT / "fhe_models"),
            str(ROOT / "protocol"),
            sysconfig.get_path("platlib"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 1e-4

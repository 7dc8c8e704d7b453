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


def sequential(*modules: Any, answers: Any = None) -> Any:
    """Torch's Sequential, which answers as `answers` says."""
    kind = type("Sequential", (SimpleNamespace,), {"__call__": lambda _, given: Tensor(answers(given.values))})
    return kind(_modules={str(place): each for place, each in enumerate(modules)})


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


@pytest.mark.parametrize(
    ("modules", "error", "says"),
    [
        ([convolution(padding_mode="reflect")], TypeError, "module 0, Conv2d: got padding_mode 'reflect'"),
        ([convolution(groups=2)], ValueError, r"module 0, Conv2d: takes 4 channels, and gets an image of \(2, 8, 8\)"),
        (
            [convolution(), convolution(weight=Tensor(np.ones((1, 4, 3, 9))))],
            ValueError,
            "1, Conv2d: a window of 9 does",
        ),
        ([convolution(weight=Tensor(np.ones((1 << 16, 2, 3, 3))))], ValueError, "as a matrix it has 201326592 numbers"),
    ],
)
def test_convolutions_that_do_not_fit_are_refused(modules: list[Any], error: Any, says: str) -> None:
    """By the module's place, before any matrix is made."""
    with pytest.raises(error, match=says):
        read_sequential(sequential(*modules, SQUARE, linear(np.ones((1, 4)))), 128, (2, 8, 8), None)


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

    def expected(rows: Floats) -> Floats:
        normed = (rows @ first.T - norm.running_mean.values) / np.sqrt(norm.running_var.values + 1e-5)
        normed = normed * norm.weight.values + norm.bias.values
        return np.asarray((0.3 * normed**2 - 2 * normed + 1) @ second.T)

    model = sequential(sequential(linear(first), norm), module("Dropout"), bent, linear(second), answers=expected)
    rows = RNG.normal(size=(6, 4))
    network = read_sequential(model, 4, None, ("a", "b", "c"))
    np.testing.assert_allclose(network.scores(rows), expected(rows))
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
            [
                linear(np.ones((2, 4))),
                activation("Mixes", lambda x: x * x.mean(axis=1, keepdims=True)),
                linear(np.ones((1, 2))),
            ],
            TypeError,
            "module 1, Mixes: what it gives for a number depends on others",
            id="a square of the mean where all numbers are the same",
        ),
        pytest.param(
            [linear(np.ones((2, 4))), activation("Cut", lambda x: np.minimum(x * x, 100)), linear(np.ones((1, 2)))],
            TypeError,
            "module 1, Cut: no polynomial",
            id="a polynomial near 0 only",
        ),
        pytest.param(
            [linear(np.ones((2, 4))), activation("Pool", lambda x: x @ np.ones((3, 3))), linear(np.ones((1, 2)))],
            TypeError,
            "module 1, Pool: is no layer that is read .*: matmul",
            id="a module that takes other shapes",
        ),
        pytest.param(
            [linear(np.ones((2, 5))), SQUARE, linear(np.ones((1, 2)))],
            ValueError,
            "module 0, Linear: takes 5 numbers, and gets 4",
            id="another width",
        ),
        pytest.param(
            [linear(np.full((2, 4), np.nan)), SQUARE, linear(np.ones((1, 2)))],
            ValueError,
            "module 0, Linear: a number is not finite",
            id="no number",
        ),
        pytest.param(
            [
                linear(np.ones((2, 4))),
                module("BatchNorm1d", running_mean=None, running_var=None, weight=None, bias=None, eps=1e-5),
                SQUARE,
                linear(np.ones((1, 2))),
            ],
            TypeError,
            "module 1, BatchNorm1d: keeps no running mean",
            id="a norm of the rows at hand",
        ),
        pytest.param(
            [module("ConvTranspose2d", weight=Tensor(np.ones((1, 1, 2, 2)))), SQUARE],
            TypeError,
            "module 0, ConvTranspose2d: is no layer that is read",
            id="a layer of another kind",
        ),
        pytest.param(
            [linear(np.ones((2, 4))), SQUARE, linear(np.ones((1, 2))), module("Sigmoid")],
            TypeError,
            "module 3, Sigmoid: got 1 outputs and 0 labels",
            id="probabilities without labels",
        ),
        pytest.param([linear(np.ones((2, 4))), SQUARE], ValueError, "end", id="nothing at the end"),
        pytest.param([SQUARE, linear(np.ones((2, 4)))], TypeError, "before", id="nothing before"),
        pytest.param([linear(np.ones((2, 4)))], ValueError, "linear", id="no square"),
        pytest.param([convolution(), SQUARE, linear(np.ones((1, 2)))], ValueError, "image", id="no image"),
    ],
)
def test_what_is_no_network_of_squares_is_refused(modules: list[Any], error: Any, says: str) -> None:
    """By the module's name."""
    with pytest.raises(error, match=says):
        read_sequential(sequential(*modules), 4, None, None)


def test_a_model_is_asked_whether_it_answers_as_its_modules_say() -> None:
    """A hook, a module that does more than its name says: no module by itself tells."""
    weights = [RNG.normal(size=shape) for shape in ((3, 4), (2, 3))]

    def answers(rows: Floats) -> Floats:
        return np.asarray((rows @ weights[0].T) ** 2 @ weights[1].T)

    rows, modules = RNG.normal(size=(9, 4)), [linear(weights[0]), SQUARE, linear(weights[1])]
    network = read_sequential(sequential(*modules, answers=answers), 4, None, None, rows)
    np.testing.assert_allclose(network.scores(rows), answers(rows))
    with pytest.raises(TypeError, match="answers otherwise than its modules say, by up to"):
        read_sequential(sequential(*modules, answers=lambda given: 2 * answers(given)), 4, None, None, rows)
    with pytest.raises(TypeError, match="gives 4 numbers a row, and its modules say 2"):
        read_sequential(sequential(*modules, answers=lambda given: given), 4, None, None, rows)
    with pytest.raises(TypeError, match="does not take rows of shape"):
        read_sequential(sequential(*modules, answers=lambda given: given @ given), 4, None, None, rows)


@pytest.mark.parametrize(("end", "outputs", "link"), [("Sigmoid", 1, "sigmoid"), ("LogSoftmax", 2, "softmax")])
def test_probabilities_at_the_end_are_the_clients_to_make(end: str, outputs: int, link: str) -> None:
    """What is encrypted are the scores; the labels say which probabilities are whose."""
    weights = [RNG.normal(size=shape) for shape in ((3, 4), (outputs, 3))]

    def answers(rows: Floats) -> Floats:
        scores = (rows @ weights[0].T) ** 2 @ weights[1].T
        if end == "Sigmoid":
            return np.asarray(1 / (1 + np.exp(-scores)))
        return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))

    rows = RNG.normal(size=(9, 4))
    model = sequential(linear(weights[0]), SQUARE, linear(weights[1]), module(end), answers=answers)
    network = read_sequential(model, 4, None, ("no", "yes"), rows)
    assert network.link == link
    np.testing.assert_allclose(network.scores(rows), (rows @ weights[0].T) ** 2 @ weights[1].T)


PROGRAM = """
import json, sys
sys.path += sys.argv[1:]
import torch
from torch import nn
from blindgate_models.compilers.torch_modules import read_sequential

class Square(nn.Module):
    def forward(self, x):
        return x * x

class OfChannels(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.square, self.linear = nn.Parameter(torch.rand(channels, 1, 1) + 0.5), nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x):
        return self.square * x * x + self.linear * x

torch.manual_seed(0)
weight_norm = torch.nn.utils.parametrizations.weight_norm
MODELS = {
    "images": ((784,), [
        nn.Unflatten(1, (1, 28, -1)), nn.Conv2d(1, 4, 7, stride=3), nn.BatchNorm2d(4), Square(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(64, 16), Square(), nn.Linear(16, 10),
    ]),
    "same": ((2, 6, 6), [
        nn.Conv2d(2, 4, (3, 4), padding="same", dilation=(1, 2), groups=2), nn.Dropout2d(), OfChannels(4),
        nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(8, 3),
    ]),
    "signals": ((2, 9), [
        nn.Conv1d(2, 4, 3, stride=2, padding=1), nn.BatchNorm1d(4), Square(), nn.AvgPool1d(3, 2), nn.Flatten(),
        nn.AlphaDropout(), nn.Linear(8, 3), nn.Softmax(1),
    ]),
    "dense": ((4,), [weight_norm(nn.Linear(4, 5)), Square(), nn.Linear(5, 2, bias=False), nn.LogSoftmax(-1)]),
}
found = {}
for name, (shape, modules) in MODELS.items():
    model = nn.Sequential(*modules)
    rows = torch.randn(32, *shape)
    model(rows)
    labels = tuple(range(10 if name == "images" else 3 if name != "dense" else 2))
    flat = rows.reshape(32, -1).numpy().astype("float64")
    network = read_sequential(model, flat.shape[1], None if len(shape) == 1 else shape, labels, flat)
    assert model.training and all(module.training for module in model.modules())
    model.eval()
    scores = (model[:-1] if "Softmax" in str(model[-1]) else model)(rows)
    found[name] = float(abs(network.scores(flat) - scores.detach().numpy()).max())
for kind, says in (
    (nn.LayerNorm(5), "LayerNorm: what it gives for a number depends on others"),
    (nn.MaxPool1d(1, 2), "MaxPool1d: got a module that changes the shape"),
    (nn.Hardtanh(-9, 9), "Hardtanh: no polynomial of degree 2"),
):
    try:
        read_sequential(nn.Sequential(nn.Linear(4, 5), kind, nn.Linear(5, 2)), 4, None, None)
    except TypeError as error:
        assert f"module 1, {says}" in str(error), error
    else:
        raise AssertionError(kind)
try:
    read_sequential(nn.Sequential(nn.Linear(4, 5), Square(), nn.Linear(5, 2)).bfloat16(), 4, None, None)
except TypeError as error:
    assert "half precision; call .float()" in str(error), error
hooked = nn.Sequential(nn.Linear(4, 5), Square(), nn.Linear(5, 2))
hooked[0].register_forward_hook(lambda module, given, answer: 2 * answer)
try:
    read_sequential(hooked, 4, None, None, flat)
except TypeError as error:
    assert "answers otherwise than its modules say" in str(error), error
else:
    raise AssertionError("hook")
print(json.dumps(found))
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
    found = json.loads(done.stdout)
    assert found.keys() == {"images", "same", "signals", "dense"}
    assert max(found.values()) < 1e-4

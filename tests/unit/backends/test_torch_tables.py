"""Models of tables in torch: what torch itself would answer, from declared layers and checked tensors."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_models.weights import list_folder
from blindgate_node.backends.choice import open_backend
from blindgate_node.backends.torch_tables import TorchTable
from blindgate_protocol.errors import InputError, PackageError
from plaintext_models import torch, write_table
from shared import shared

HEARTS = {
    "columns": 13,
    "layers": [
        {"kind": "batch_norm", "size": 13},
        {"kind": "linear", "inputs": 13, "outputs": 16},
        {"kind": "gelu"},
        {"kind": "layer_norm", "size": 16},
        {"kind": "dropout"},
        {"kind": "linear", "inputs": 16, "outputs": 2},
        {"kind": "softmax"},
    ],
}
SMALL = {"columns": 2, "layers": [{"kind": "linear", "inputs": 2, "outputs": 1}]}


def small(**changes: Any) -> dict[str, Any]:
    """The tensors of `SMALL`."""
    library = torch()
    return {"0.weight": library.tensor([[1.0, 2.0]]), "0.bias": library.tensor([0.5])} | changes


def _hearts() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with shared("data/heart_cleveland.csv").open() as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file) if row and "?" not in row]
    table = np.array(rows)
    return table[:, :13], (table[:, 13] > 0).astype(np.int64)


def test_a_classifier_trained_on_real_rows_answers_as_torch_does(tmp_path: Path, no_sockets: list[str]) -> None:
    """Its `state_dict` as safetensors is the model; the answers are torch's own, batch by batch."""
    library = torch()
    nn = library.nn
    rows, labels = _hearts()
    library.manual_seed(3)
    module = nn.Sequential(
        nn.BatchNorm1d(13), nn.Linear(13, 16), nn.GELU(), nn.LayerNorm(16), nn.Dropout(0.2), nn.Linear(16, 2)
    )
    optimizer = library.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(library.tensor(rows[:200]).float()), library.tensor(labels[:200]))
        loss.backward()
        optimizer.step()
    module.eval()
    write_table(tmp_path / "model", HEARTS, module.state_dict())
    model = open_backend("torch-table", tmp_path / "model", list_folder(tmp_path / "model"), device="cpu")
    assert isinstance(model, TorchTable)
    held = rows[200:].copy()
    answers = model.predict(rows[200:])
    with library.no_grad():
        expected = library.softmax(module(library.tensor(rows[200:]).float()), dim=1).numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    assert (answers.argmax(axis=1) == labels[200:]).mean() > 0.7
    np.testing.assert_array_equal(rows[200:], held, err_msg="the caller's rows are the caller's")
    assert not no_sockets
    one_by_one = TorchTable(tmp_path / "model", device="cpu", batch_rows=7)
    np.testing.assert_allclose(one_by_one.predict(rows[200:]), answers, atol=1e-6)


def test_categories_become_their_embeddings(tmp_path: Path) -> None:
    """Each embedding takes its column out of the row, and puts its numbers at the end."""
    library = torch()
    architecture = {
        "columns": 3,
        "layers": [
            {"kind": "embedding", "column": 1, "categories": 4, "size": 2},
            {"kind": "embedding", "column": 1, "categories": 2, "size": 1},
        ],
    }
    first, second = library.arange(8.0).reshape(4, 2), library.tensor([[10.0], [20.0]])
    write_table(tmp_path, architecture, {"0.weight": first, "1.weight": second})
    model = TorchTable(tmp_path, device="cpu")
    answers = model.predict(np.array([[0.5, 3, 1], [0.25, 0, 0]]))
    np.testing.assert_array_equal(answers, [[0.5, 6, 7, 20], [0.25, 0, 1, 10]])
    for row in ([0.5, 4, 0], [0.5, -1, 0], [0.5, 1.5, 0]):
        with pytest.raises(InputError, match=r"row 1, column 1: expected a category's position, 0 to 3"):
            model.predict(np.array([[0.5, 0, 0], row]))
    with pytest.raises(InputError, match="row 0, column 2"):
        model.predict(np.array([[0.5, 0, 2]]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"0.weight": lambda t: t.zeros(2, 1)}, r"0\.weight: got F32 \(2, 1\)", id="another shape"),
        pytest.param({"0.weight": lambda t: t.zeros(1, 2).double()}, r"0\.weight: got F64", id="another type"),
        pytest.param({"0.bias": lambda t: t.tensor([float("nan")])}, r"0\.bias: holds a number that is not", id="NaN"),
        pytest.param({"0.other": lambda t: t.zeros(1)}, r"0\.other is not in the architecture", id="one more"),
        pytest.param({"0.bias": None}, r"0\.bias is missing", id="one less"),
    ],
)
def test_tensors_that_are_not_the_architectures_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """By name, before they are read."""
    made = {name: make and make(torch()) for name, make in changes.items()}
    write_table(tmp_path, SMALL, {name: tensor for name, tensor in small(**made).items() if tensor is not None})
    with pytest.raises(PackageError, match=says):
        TorchTable(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        pytest.param([{"kind": "os.system"}], "layers.0", id="a name to import"),
        pytest.param(
            [{"kind": "linear", "inputs": 3, "outputs": 1}], r"layer 0 \(linear\): takes rows of 3", id="width"
        ),
        pytest.param([{"kind": "layer_norm", "size": 1}], r"layer 0 \(layer_norm\)", id="norm's width"),
        pytest.param([{"kind": "relu"}] * 257, "layers", id="too many layers"),
        pytest.param([], "layers", id="no layers"),
        pytest.param([{"kind": "relu", "module": "evil"}], "module", id="unknown field"),
        pytest.param([{"kind": "linear", "inputs": 2, "outputs": 2**40}], "outputs", id="too wide"),
        pytest.param(
            [{"kind": "linear", "inputs": 2, "outputs": 65536}, {"kind": "linear", "inputs": 65536, "outputs": 65536}],
            "parameters, expected at most",
            id="too large",
        ),
        pytest.param(
            [{"kind": "embedding", "column": 2, "categories": 2, "size": 1}],
            "column 2 of rows that have 2",
            id="column",
        ),
        pytest.param(
            [{"kind": "relu"}, {"kind": "embedding", "column": 0, "categories": 2, "size": 1}],
            "embeddings stand before",
            id="late embedding",
        ),
    ],
)
def test_a_hostile_architecture_is_refused(tmp_path: Path, layers: list[Any], says: str) -> None:
    """Before a tensor is looked at."""
    write_table(tmp_path, {"columns": 2, "layers": layers}, small())
    with pytest.raises(PackageError, match=says):
        TorchTable(tmp_path, device="cpu")


def test_a_header_that_lies_about_its_tensors_is_refused(tmp_path: Path) -> None:
    """Offsets behind the file's end are the library's to see, and ours to name."""
    write_table(tmp_path, SMALL, small())
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(PackageError, match="no file of safetensors"):
        TorchTable(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(np.zeros((1, 3)), "rows have 3 columns, the model takes 2", id="columns"),
        pytest.param(np.zeros(2), "two dimensions", id="one dimension"),
        pytest.param(np.zeros((0, 2)), "got 0 rows", id="no rows"),
        pytest.param(np.array([[0, 0], [0, np.nan]]), "row 1: expected finite numbers", id="NaN"),
        pytest.param(np.array([[1e39, 0]]), "row 0: expected finite numbers in float32's range", id="too large"),
        pytest.param(np.array([["a", "b"]], dtype=object), "an array of floats", id="objects"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: Any, says: str) -> None:
    """With the row, and never with what stands in it."""
    write_table(tmp_path, SMALL, small())
    with pytest.raises(InputError, match=says):
        TorchTable(tmp_path, device="cpu").predict(rows)

"""From embeddings to an index: eight bits, what is refused, what the manifest says, and how neighbours are picked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate.neighbours import nearest
from blindgate_models.compilers.search import compile_search, read_embeddings, read_ids, search_parts
from blindgate_models.halves import IndexHalf, ServerHalf
from blindgate_models.product.spec import Privacy
from blindgate_models.publishing import open_package
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import quantised_entries, quantised_queries
from blindgate_protocol.errors import InputError
from signed_packages import package

Floats = NDArray[np.float64]


def embeddings(entries: int = 50, width: int = 12) -> Floats:
    """Rows of length 1."""
    rows = np.random.default_rng(0).normal(size=(entries, width))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def halves_are_the_protocols(client: SearchClient, server: SearchServer) -> tuple[IndexHalf, ServerHalf]:
    """The type checker compares each half with its protocol here."""
    return client, server


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
def test_the_manifest_says_how_and_who_learns_what(privacy: Privacy) -> None:
    """Scheme, mode, bits, and that scores alone give the index away in the end."""
    compiled = compile_search(embeddings(), privacy=privacy)
    document = open_package(package(compiled, name="index", rows_per_tenant=5)).manifest.document
    output, encryption = document.scores(), document.encrypted().encryption
    assert (output.task, output.scores, output.link) == ("search", 50, "identity")
    assert (encryption.scheme, encryption.error_bound) == ("bfv", 0)
    assert (document.privacy.mode, document.privacy.rows_per_tenant) == (privacy, 5)
    assert document.determinism == ("varies" if privacy == "model_private" else "bit-exact")
    assert [column.name for column in document.columns] == [f"e{column}" for column in range(12)]
    told = " ".join(document.discloses.to_client)
    assert "exact inner product" in told
    assert ("not flooded" in told) is (privacy == "model_public")
    assert "all entries, in clear" in document.discloses.to_node
    assert document.privacy.bits is None or document.privacy.bits >= 40
    assert not document.evaluation_key
    assert compiled.report["agreement_plain"] > 0.8
    assert compiled.report["max_error"] < 0.03


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(np.zeros(5), "shape", id="one dimension"),
        pytest.param(np.zeros((0, 5)), "shape", id="no entries"),
        pytest.param(np.zeros((5, 0)), "shape", id="no columns"),
        pytest.param(np.zeros((4, 5)), "every number is 0", id="zeros"),
        pytest.param(np.array([["a"]]), "numbers", id="texts"),
        pytest.param(np.array([[True]]), "numbers", id="truth values"),
        pytest.param(
            np.array([[1.0, 2.0], [np.nan, 0.0]]), "entry 1, column 0: not a finite number", id="not a number"
        ),
        pytest.param(np.zeros((1, 4097)), "at most", id="too wide"),
        pytest.param(np.zeros((13_000, 4096), dtype=np.int8), "numbers together", id="too much in all"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(given: NDArray[Any], says: str) -> None:
    """Got and expected stand in the message."""
    with pytest.raises(ValueError, match=says):
        compile_search(given)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        pytest.param(["a"], "ids: got 1, expected 50", id="too few"),
        pytest.param(["a"] * 50, "twice", id="one twice"),
        pytest.param([1.5, *range(49)], "texts, or whole numbers", id="a broken number"),
        pytest.param(["a", *range(49)], "texts, or whole numbers", id="two kinds"),
        pytest.param([None, *range(49)], "texts, or whole numbers", id="a missing one"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids: list[Any], says: str) -> None:
    """An entry has one name, and no two have the same."""
    with pytest.raises(ValueError, match=says):
        compile_search(embeddings(), ids=ids)


def test_ids_keep_their_type() -> None:
    """Texts stay texts, numpy's numbers become numbers, and positions stand in for none."""
    for ids, expected in ((None, list(range(50))), (np.arange(100, 150), list(range(100, 150)))):
        half = SearchClient.from_part(compile_search(embeddings(), ids=ids).client)  # type: ignore[arg-type]
        assert half.ids.tolist() == expected


def test_signed_bytes_are_taken_as_they_are() -> None:
    """Whoever has eight bits already keeps them, and every score is that of those."""
    index = np.random.default_rng(0).integers(-128, 50, (30, 9)).astype(np.int8)
    compiled = compile_search(index)
    assert compiled.client["scale"] == 1
    assert SearchServer.from_part(compiled.server) is not None
    assert compiled.report["agreement_plain"] == 1
    assert compiled.report["max_error"] < 1e-9


def test_eight_bits_are_of_the_largest_number() -> None:
    """One scale for the index; one for each query, unless it is whole numbers of eight bits already."""
    index, scale = quantised_entries(np.array([[0.5, -2.0], [1.0, 0.0]]))
    assert index.tolist() == [[32, -127], [64, 0]]
    assert scale == 63.5
    queries, scales = quantised_queries(np.array([[0.5, -2.0], [1e-200, 0.0], [3.0, -1.0], [0.0, 0.0], [1e38, 254.0]]))
    assert queries.tolist() == [[32, -127], [127, 0], [3, -1], [0, 0], [127, 0]]
    assert scales[[0, 2, 3]].tolist() == [63.5, 1, 1]
    assert quantised_entries(np.zeros((2, 2)))[0].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("kind", ["of length 1", "the loudest"])
@pytest.mark.parametrize(
    ("privacy", "most_up", "most_down"), [("model_private", 3_000_000, 500_000), ("model_public", 750_000, 1_300_000)]
)
def test_a_query_of_ten_thousand_entries_stays_small(kind: str, privacy: Privacy, most_up: int, most_down: int) -> None:
    """Bytes up and down for 10,000 x 384, whatever the numbers; they follow from the parameters alone."""
    rng = np.random.default_rng(0)
    index = (
        np.where(rng.random((10_000, 384)) < 0.5, -127, 127).astype(np.int8)
        if kind == "the loudest"
        else quantised_entries(rng.normal(size=(10_000, 384)))[0]
    )
    shape = search_parts(index, privacy=privacy)[0].shape
    assert shape.input_bytes(1) <= most_up
    assert shape.result_bytes(1) <= most_down


def test_the_widest_index_has_a_manifest_that_fits() -> None:
    """4,096 columns with their ranges, signed."""
    data = package(compile_search(np.random.default_rng(0).normal(size=(3, 4096))), name="wide")
    assert len(open_package(data).manifest.document.columns) == 4096


def test_equal_scores_come_in_the_order_of_the_index() -> None:
    """As numpy's stable sort leaves them, at any k."""
    half = SearchClient.from_part(compile_search(embeddings(6)).client)
    scores = np.array([[1.0, 5.0, 5.0, -2.0, 5.0, 1.0], [0.0] * 6])
    for k in range(1, 7):
        found = nearest(scores, k, half)
        assert found.ids.tolist() == [[1, 2, 4, 0, 5, 3][:k], list(range(k))]
        assert found.scores[0].tolist() == [5, 5, 5, 1, 1, -2][:k]
    with pytest.raises(InputError, match="k: got 7, expected 1 to 6"):
        nearest(scores, 7, half)


def test_files_are_read_and_never_unpickled(tmp_path: Path) -> None:
    """An array of objects, an archive and an empty file are refused by name."""
    np.save(tmp_path / "good.npy", embeddings())
    assert read_embeddings(tmp_path / "good.npy").shape == (50, 12)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "several.npz", a=embeddings())
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1,2,3")
    for name in ("objects.npy", "several.npz", "empty.npy", "text.npy"):
        with pytest.raises(ValueError):
            read_embeddings(tmp_path / name)
    (tmp_path / "ids.txt").write_text("\ufeffone\ntwo words\nthree", encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt") == ["one", "two words", "three"]

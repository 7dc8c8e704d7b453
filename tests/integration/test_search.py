"""An index owned by somebody else, searched through a real gateway and a real node, by the SDK and by commands alone."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from blindgate import Client
from blindgate_models.compilers.search import compile_search
from blindgate_models.publishing import open_package
from blindgate_models.search.spec import quantised_entries, quantised_queries
from blindgate_protocol.errors import InputError
from runs import SOON_IN_THE_LOG
from signed_packages import package
from typed import blindgate
from world import World

ENTRIES, WIDTH = 3000, 100

Floats = NDArray[np.float64]


def embeddings(seed: int = 3) -> Floats:
    """Rows of length 1 around a few centres, some of them twice, so that scores tie."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, WIDTH))
    rows = centres[rng.integers(0, 40, ENTRIES)] + 0.4 * rng.normal(size=(ENTRIES, WIDTH))
    rows[ENTRIES // 2 : ENTRIES // 2 + 200] = rows[:200]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def vectors(count: int, seed: int = 4) -> Floats:
    """Queries near entries, of any length."""
    rng = np.random.default_rng(seed)
    rows = embeddings()[rng.integers(0, 200, count)] + 0.05 * rng.normal(size=(count, WIDTH))
    return np.asarray(rows * rng.uniform(0.01, 50, (count, 1)))


def exact_first(queries: Floats, k: int) -> tuple[NDArray[np.intp], Floats]:
    """The k nearest by exact int8 products, ties by the lower position, and the products."""
    scores = quantised_queries(queries)[0] @ quantised_entries(embeddings())[0].astype(np.int64).T
    first = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return first, np.take_along_axis(scores, first, axis=1).astype(np.float64)


@pytest.fixture(scope="module")
def searched(world: World) -> World:
    """The shared world, with a private and a public index."""
    names = [f"report-{entry}" for entry in range(ENTRIES)]
    world.publish(package(compile_search(embeddings(), ids=names), name="private-index"))
    world.publish(package(compile_search(embeddings(), privacy="model_public"), name="public-index"))
    return world


@pytest.fixture
def client(searched: World) -> Iterator[Client]:
    """A client of the world."""
    with searched.client() as made:
        yield made


@pytest.mark.parametrize("index", ["private-index", "public-index"])
def test_the_ten_nearest_are_the_exact_ten_on_every_query(client: Client, index: str) -> None:
    """In their order, ties too, over several jobs; the scores are inner products of what was given."""
    queries = vectors(40)
    model = client.model(index)
    found = model.search(queries, k=10)
    first, _ = exact_first(queries, 10)
    expected = np.char.add("report-", first.astype(str)) if index == "private-index" else first
    assert found.ids.tolist() == expected.tolist()
    assert found.scores.shape == (40, 10)
    true = np.take_along_axis(queries @ embeddings().T, first, axis=1)
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    assert (np.abs(found.scores - true) <= 0.02 * length + 1e-4).all()
    assert len(model.last_jobs) > 1


def test_prediction_is_the_nearest_entry_and_there_are_no_probabilities(client: Client) -> None:
    """An index is a model like any other, where that has a meaning."""
    queries = vectors(3)
    model = client.model("private-index")
    assert model.predict(queries).tolist() == [f"report-{place}" for place in exact_first(queries, 1)[0][:, 0]]
    with pytest.raises(InputError, match="an index gives no probabilities; use search"):
        model.predict_proba(queries)
    assert model.n_features_in_ == WIDTH


def test_a_submitted_search_is_opened_later_by_another_process(searched: World, client: Client) -> None:
    """From its id alone: ids, and the exact whole numbers, since the queries are gone."""
    queries = vectors(2, seed=9)
    job = client.model("public-index").submit(queries)
    first, scores = exact_first(queries, 5)
    with searched.client() as other:
        again = other.job(job.id)
        found = again.neighbours(5, timeout=60)
        assert found.ids.tolist() == first.tolist()
        assert found.scores.tolist() == scores.tolist()
        assert again.result().tolist() == first[:, 0].tolist()
        assert again.scores().shape == (2, ENTRIES)
        with pytest.raises(InputError, match="probabilities"):
            again.probabilities()


@pytest.mark.parametrize(
    ("wrong", "k", "says"),
    [
        pytest.param(np.zeros((1, WIDTH - 1)), 10, "99 columns, the model reads 100", id="a column short"),
        pytest.param(np.zeros(WIDTH), 10, "two-dimensional", id="one dimension"),
        pytest.param(np.full((1, WIDTH), np.nan), 10, "column 'e0', row 0: the value is missing", id="NaN"),
        pytest.param(np.full((1, WIDTH), np.inf), 10, "infinite", id="infinite"),
        pytest.param(np.zeros((1, WIDTH)), 0, "k: got 0, expected 1 to 3000", id="none"),
        pytest.param(np.zeros((1, WIDTH)), ENTRIES + 1, "k: got 3001", id="more than there are"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(client: Client, wrong: Any, k: int, says: str) -> None:
    """One clear error; not a byte to the gateway."""
    model = client.model("public-index")
    sent = client.transport.bytes_sent
    with pytest.raises(InputError, match=says):
        model.search(wrong, k)
    assert client.transport.bytes_sent == sent


def test_another_model_is_no_index(client: Client) -> None:
    """It says so, by name."""
    with pytest.raises(InputError, match="model 'small' is no index that could be searched; use predict"):
        client.model("small").search(np.zeros((1, 4)))


def test_from_an_array_to_somebody_elses_neighbours_by_commands(tmp_path: Path) -> None:
    """Compile, show, publish, search: what an owner and an asker type, and what they are told when it is wrong."""
    np.save(tmp_path / "embeddings.npy", embeddings().astype(np.float32))
    (tmp_path / "ids.txt").write_text("".join(f"page {entry}\n" for entry in range(ENTRIES)))
    environment = os.environ | {"BLINDGATE_HOME": str(tmp_path / "owner")}

    def run(*command: str, fails: bool = False) -> str:
        return blindgate(*command, folder=tmp_path, environment=environment, fails=fails)

    publisher = json.loads(run("publisher", "key", "--json"))["publisher_key"]
    made = ("models", "compile", "embeddings.npy", "--family", "search", "--name", "pages")
    report = json.loads(run(*made, "--ids", "ids.txt", "--json"))
    assert report["agreement"] > 0.9
    assert report["max_score_error"] < 0.02
    document = open_package(tmp_path / "pages.bgmodel").manifest.document
    assert (document.family, document.scores().task, document.scores().scores) == ("search", "search", ENTRIES)
    assert document.privacy.bits is not None
    assert document.privacy.bits >= 40
    shown = run("models", "show", "pages.bgmodel")
    assert "the nearest of 3000 entries" in shown
    assert "read the whole index" in shown

    assert "privacy: got 'hidden'" in run(*made, "--privacy", "hidden", fails=True)
    assert "CALIBRATION: the family search takes none" in run(*made[:3], "ids.txt", *made[3:], fails=True)
    assert json.loads(run("models", "compile", "embeddings.npy", "--name", "other", "--json"))["family"] == "search"
    assert "--ids: other families than search take none" in run(
        "models",
        "compile",
        "embeddings.npy",
        "ids.txt",
        "--name",
        "x",
        "--family",
        "linear",
        "--ids",
        "ids.txt",
        fails=True,
    )
    (tmp_path / "few.txt").write_text("one\n")
    assert "ids: got 1, expected 3000" in run(*made, "--ids", "few.txt", fails=True)
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    assert "allow_pickle=False" in run(*made[:2], "objects.npy", *made[3:], fails=True)

    with World(tmp_path / "world", gateway=SOON_IN_THE_LOG) as world:
        world.trust("owner", publisher)
        world.start_gateway()
        world.start_node("node-1")
        environment |= {"BLINDGATE_URL": world.url, "BLINDGATE_API_KEY": world.api_key("owner", publish=True)}
        run("models", "publish", "pages.bgmodel")

        world.policy(tmp_path / "asker" / "policy.toml").save()
        environment |= {"BLINDGATE_HOME": str(tmp_path / "asker"), "BLINDGATE_API_KEY": world.api_key("asker")}
        queries = vectors(5)
        np.save(tmp_path / "queries.npy", queries)
        run("search", "pages", "queries.npy", "-k", "3", "-o", "found.csv")
        found = pd.read_csv(tmp_path / "found.csv")
        first, _ = exact_first(queries, 3)
        assert list(found.columns) == ["query", "rank", "id", "score"]
        assert found["id"].tolist() == [f"page {place}" for place in first.ravel()]
        assert found["rank"].tolist() == [1, 2, 3] * 5

        pd.DataFrame(queries, columns=[f"e{column}" for column in range(WIDTH)]).to_csv(
            tmp_path / "queries.csv", index=False
        )
        listed = json.loads(run("search", "pages", "queries.csv", "-k", "3", "--json"))
        assert [row["id"] for row in listed] == found["id"].tolist()
        assert "k: got 3001" in run("search", "pages", "queries.npy", "-k", "3001", fails=True)

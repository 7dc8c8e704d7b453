"""Searches of somebody else's index through a real gateway and a real node: what the wire tells of a query, scores of an index.

A listener between a client and its gateway hears every request and answer, and reads what is not encrypted: methods, paths, sizes,
counts, orders. Two searches sound alike whatever they ask and however many neighbours are wanted.

Exact scores are linear in the index, so an asker of as many queries as it has columns reads it. What stops one is the budget that
its publisher sets: the gateway counts what orders name (`tests/unit/gateway/test_gateway_budgets.py`), and a node computes nothing
of an input that holds other rows than its order names. Nodes count for themselves, too (`test_hosted_corpora.py`).
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from between import Answer, Proxy
from blindgate.model import Model
from blindgate_models.compilers.search import compile_search
from blindgate_models.product.spec import Privacy
from blindgate_protocol.errors import BudgetSpentError, CiphertextError, JobError
from signed_packages import package
from world import World

ENTRIES, WIDTH = 64, 16
MODES: list[Privacy] = ["model_private", "model_public"]
INDEX = np.random.default_rng(1).integers(-127, 128, (ENTRIES, WIDTH)).astype(np.int8)
INDEX[0, 0] = 127  # so that the index is its own eight bits

Floats = NDArray[np.float64]


def named(privacy: Privacy, *, budget: bool = False) -> str:
    """What an index is published as."""
    return f"heard-{privacy.replace('_', '-')}{'-budget' * budget}"


@pytest.fixture(scope="module")
def searched(world: World) -> World:
    """The shared world, with an index in both privacies; and once with a budget of a query fewer than it has columns."""
    for privacy in MODES:
        compiled = compile_search(INDEX.astype(float), privacy=privacy)
        world.publish(package(compiled, name=named(privacy)))
    world.publish(package(compiled, name=named("model_public", budget=True), rows_per_tenant=WIDTH - 1))
    return world


class Heard(NamedTuple):
    """What is heard of one search, without random names and without times.

    Attributes:
        said: the client's requests in their order: method, path, bytes. One that is repeated, to wait for the node, counts once.
        answers: the last answer to each path: bytes. Proofs grow with the log and are left out.
        order: what the order says.
        result: bytes of the result.
    """

    said: tuple[tuple[str, str, int], ...]
    answers: dict[str, int]
    order: dict[str, Any]
    result: int


class Listener:
    """One who reads what passes between a client and its gateway."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._answers: dict[str, int] = {}
        proxy.lie = self._hear

    def search(self, model: Model, queries: Floats, k: int) -> Heard:
        """Let the client search, and tell what was heard."""
        self._proxy.heard.clear()
        self._answers.clear()
        model.search(queries, k, timeout=60)
        (job,) = model.last_jobs
        said: list[tuple[str, str, int]] = []
        for method, path, size in self._proxy.heard:
            if not path.startswith("/log/"):  # by the clock
                told = (method, _without_names(path), size)
                said += [] if told in said[-1:] else [told]
        order = job.bundle.order.document.model_dump(mode="json", exclude={"job", "issued", "deadline"})
        del order["input"]["digest"]
        assert job.receipt is not None
        return Heard(tuple(said), dict(self._answers), order, job.receipt.document.output.size)

    def _hear(self, _method: str, path: str, answer: Answer) -> Answer:
        if not path.startswith("/log/") and "/proof" not in path:
            self._answers[_without_names(path)] = len(answer.body)
        return answer


def _without_names(path: str) -> str:
    return re.sub(r"[0-9a-f]{32}", "NAME", path.split("?", maxsplit=1)[0])


@pytest.mark.parametrize("privacy", MODES)
def test_all_that_passes_sounds_alike_whatever_is_asked(searched: World, tmp_path: Path, privacy: Privacy) -> None:
    """Zeros, one number, all large, typical, nearly the same, the same again, any k: one transcript. So with three at once."""
    typical = np.random.default_rng(5).normal(size=WIDTH)
    near = typical + 1e-6
    asked = [typical, np.zeros(WIDTH), np.eye(WIDTH)[3], np.full(WIDTH, -1e9), near, typical]
    wanted = [10, 1, ENTRIES, 2, 10, 10]
    three = [np.zeros((3, WIDTH)), np.stack([typical, near, typical])]
    with Proxy(searched.url) as proxy, searched.client(home=tmp_path, url=proxy.url) as client:
        listener, model = Listener(proxy), client.model(named(privacy))
        first, *others = [listener.search(model, query[None], k) for query, k in zip(asked, wanted, strict=True)]
        for other in others:
            assert other == first
        zeros, mixed = (listener.search(model, queries, 5) for queries in three)
    assert zeros == mixed
    assert (first.order["rows"], zeros.order["rows"]) == (1, 3)
    assert [path for _, path, _ in first.said][-3:] == [f"/v1/jobs/NAME{end}" for end in ("", "/proof", "/acknowledge")]
    assert max(size for _, _, size in first.said) >= first.order["input"]["size"]
    assert max(first.answers.values()) >= first.result


def unknown(queries: Floats, scores: Floats) -> int:
    """How many entries of the index an asker does not know who solves for them."""
    solved = np.linalg.lstsq(queries, scores, rcond=None)[0].T
    return int((np.rint(solved) != INDEX).any(axis=1).sum())


def test_as_many_queries_as_columns_read_an_index_and_a_budget_of_fewer_does_not(
    searched: World, tmp_path: Path
) -> None:
    """Sixteen exact scores of every entry are sixteen equations for its sixteen numbers; fifteen leave all entries open.

    More is refused whole, however it is cut, under a new key too. Each query is still a measurement of every entry: a budget says
    how many there are, not that they are harmless.
    """
    queries = np.random.default_rng(6).integers(-127, 128, (WIDTH, WIDTH)).astype(float)
    with searched.client(home=tmp_path / "first") as client:
        assert unknown(queries, client.model(named("model_public")).submit(queries).scores(60)) == 0
        model = client.model(named("model_public", budget=True))
        with pytest.raises(BudgetSpentError, match="gives a tenant 15 rows in all; 0 were asked for"):
            model.submit(queries)
        assert model.rows_left == WIDTH - 1
        few = [model.submit(some).scores(60) for some in (queries[:7], queries[7 : WIDTH - 1])]
        assert unknown(queries[:-1], np.concatenate(few)) == ENTRIES
        with pytest.raises(BudgetSpentError, match="15 were asked for"):
            model.submit(queries[-1:])
        assert model.rows_left == 0
    with (
        searched.client(home=tmp_path / "second") as client,
        pytest.raises(BudgetSpentError, match="15 were asked for"),
    ):
        client.model(named("model_public", budget=True)).search(queries[-1:], 1)


def test_a_node_computes_nothing_of_more_queries_than_the_order_names(searched: World, tmp_path: Path) -> None:
    """The gateway cannot count what is in a ciphertext; the node can, and a modified client gets nothing for its one query."""
    with searched.client(home=tmp_path) as client:
        model = client.model(named("model_public"))
        prepared = model._prepare(np.eye(WIDTH), None)
        job = model._send(*prepared._replace(rows=1))
        with pytest.raises(JobError, match=f"{CiphertextError.code}.*16 rows, and the order is for 1"):
            job.fetch(60)

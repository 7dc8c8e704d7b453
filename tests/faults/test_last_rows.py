"""The last rows of a budget, asked for by many at the same moment: all of them are given, none twice, and none is lost.

Processes of a gateway race for them on either database, among orders that ask for more and orders that are refused once they were
counted. A node's threads do in its own file, and two that have opened it.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

import campaigns
from blindgate_node.budgets import Budgets
from blindgate_protocol.errors import BudgetSpentError
from blindgate_protocol.manifest import Manifest, Privacy, model_ref
from blindgate_protocol.messages import BudgetView, JobRequest
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.signing import Signed
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    blob_ref,
    http_client,
    make_manifest,
    make_settings,
    now_ms,
    random_bytes,
)
from failover import ADDRESS, insist
from lying_gateway import LyingGateway
from node_process import ECHO, NodeProcess

ROUNDS = campaigns.of(100, slice_of=3)
ROWS = 5
ASKED = (1, 2, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1)
"""How many rows the orders of a round ask for. Those of one row alone are more than there are."""
SEALED = 4
"""How many orders of a round are refused behind the count: they bring a seal that nobody asked for."""


@contextmanager
def gateways(folder: Path, keys: Keys, database_url: str | None) -> Iterator[tuple[Brokerage, list[GatewayProcess]]]:
    """Two workers of one gateway on the embedded database, or two gateways on one PostgreSQL."""
    given = {"database": database_url, "addresses": (ADDRESS,), "log_key": folder / "log.key"}
    made = [
        make_settings(folder / name, keys, workers=2 if database_url is None else 1, **given)
        for name in (("one",) if database_url is None else ("one", "two"))
    ]
    brokerage = Brokerage(made[0], keys)
    with ExitStack() as stack:
        processes = [GatewayProcess(settings) for settings in made]
        for process in processes:
            process.start()
            stack.callback(process.kill)
        yield brokerage, processes


@pytest.mark.slow
def test_gateways_that_race_for_the_last_rows_give_each_once(tmp_path: Path, database_url: str | None) -> None:
    """Whoever is refused costs nobody a row, and the log has as many as were given."""
    keys, privacy = Keys(), Privacy(mode="model_public", rows_per_tenant=ROWS)
    callers = len(ASKED) + SEALED
    with ExitStack() as stack, ThreadPoolExecutor(callers) as pool:
        brokerage, processes = stack.enter_context(gateways(tmp_path, keys, database_url))
        https = [stack.enter_context(http_client(process.url)) for process in processes]
        publisher, key = Publisher(https[0], brokerage.api_key("models", publish=True)), brokerage.api_key("bank")
        tenants = [Tenant(http, key, name="bank", keys=keys) for http, _ in zip(cycle(https), range(callers))]
        for number in range(ROUNDS):
            manifest = brokerage.manifest(name=f"counted-{number}", privacy=privacy)
            publisher.publish(manifest)
            bodies = [
                _asking(tenants[0], manifest, rows, seal=None if place < len(ASKED) else b"seal")
                for place, rows in enumerate((*ASKED, *[1] * SEALED))
            ]
            gate = threading.Barrier(callers)

            def submit(tenant: Tenant, body: JobRequest, gate: threading.Barrier = gate) -> tuple[int, str]:
                gate.wait()
                answer = insist(lambda: tenant.send("POST", "/v1/jobs", body))
                return answer.status_code, answer.json().get("code", "")

            answers = list(pool.map(submit, tenants, bodies))
            given = [rows for rows, (status, _) in zip(ASKED, answers, strict=False) if status == 201]
            assert sum(given) == ROWS, answers
            refused = {code for status, code in answers[: len(ASKED)] if status != 201}
            assert refused == {"budget-spent"}
            assert {code for _, code in answers[len(ASKED) :]} <= {"policy", "budget-spent"}
            view = BudgetView.model_validate_json(
                tenants[0].ask("GET", f"/v1/models/{manifest.document.name}/budget").content
            )
            assert view == BudgetView(rows_per_tenant=ROWS, rows_asked=ROWS)


def test_jobs_that_race_for_a_nodes_last_rows_are_given_each_once(tmp_path: Path) -> None:
    """Threads of one node, and of two that were started in one folder. An order that comes twice counts once."""
    keys, privacy = Keys(), Privacy(mode="model_public", rows_per_tenant=ROWS)
    opened, callers = [Budgets(tmp_path / "budgets.sqlite") for _ in range(2)], 2 * len(ASKED)
    with ThreadPoolExecutor(callers) as pool:
        for number in range(ROUNDS):
            manifest = keys.publisher.sign(make_manifest(name=f"counted-{number}", privacy=privacy))
            orders = [_order(keys, manifest, rows) for rows in ASKED]
            gate = threading.Barrier(callers)

            def spend(place: int, manifest: Any = manifest, orders: Any = orders, gate: Any = gate) -> bool:
                gate.wait()
                try:
                    opened[place % 2].spend(orders[place // 2], manifest, now_ms())
                except BudgetSpentError:
                    return False
                return True

            given = list(pool.map(spend, range(callers)))
            assert (
                sum(rows for rows, one, again in zip(ASKED, given[::2], given[1::2], strict=True) if one or again)
                == ROWS
            )
    for budgets in opened:
        budgets.close()


def test_a_node_that_is_given_more_jobs_at_once_than_rows_computes_as_many_as_there_are(tmp_path: Path) -> None:
    """By a gateway that counts nothing."""
    keys = Keys()
    gateway = LyingGateway(keys)
    trusted: dict[str, Any] = {"publisher": keys.publisher.id, "operator": keys.operator}
    node = NodeProcess(tmp_path / "node", gateway.url, name="node-1", poll_seconds=0.2, slots=4, **trusted)
    try:
        node.start("enrolment-token-of-the-test")
        manifest = gateway.manifest(family=ECHO, privacy=Privacy(mode="model_public", rows_per_tenant=ROWS))
        for _ in range(2 * ROWS):
            gateway.offer(manifest.envelope, gateway.order(manifest, random_bytes(50)))
        ended = [gateway.outcome() for _ in range(2 * ROWS)]
        assert Counter(one.what for one in ended) == {"commit": ROWS, "refuse": ROWS}
        assert {one.body["code"] for one in ended if one.what == "refuse"} == {BudgetSpentError.code}
    finally:
        node.stop()
        gateway.close()


def _asking(tenant: Tenant, manifest: Signed[Manifest], rows: int, *, seal: bytes | None) -> JobRequest:
    data = random_bytes(20)  # orders of one input would wait for each other before they are counted
    return JobRequest(order=tenant.order(manifest, blob_ref(data), rows=rows).envelope, input_data=data, seal=seal)


def _order(keys: Keys, manifest: Signed[Manifest], rows: int) -> Signed[Order]:
    return keys.client.sign(
        Order(
            job=new_job_id(),
            tenant="bank",
            model=model_ref(manifest),
            input=blob_ref(b"input"),
            evaluation_key=None,
            rows=rows,
            operators=(keys.operator.id,),
            client=keys.client.id,
            issued=now_ms(),
            deadline=now_ms() + 60_000,
        )
    )

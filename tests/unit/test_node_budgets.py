"""What a node computed for a tenant: counted by itself, once an order, on its own disk."""

from pathlib import Path
from typing import Any

import pytest

from blindgate_node.budgets import Budgets
from blindgate_protocol.errors import BudgetSpentError, KeyStoreError, SandboxError
from blindgate_protocol.manifest import Manifest, Privacy, model_ref
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed, SigningKey
from brokerage import Keys, blob_ref, make_manifest, now_ms

KEYS = Keys()


def manifest(most: int | None = 10, *, signer: SigningKey = KEYS.publisher, **changes: Any) -> Signed[Manifest]:
    """A model with a budget."""
    privacy = Privacy(mode="model_public", rows_per_tenant=most)
    return signer.sign(make_manifest(**({"privacy": privacy} | changes)))


def order(model: Signed[Manifest], rows: int, **changes: Any) -> Signed[Order]:
    """An order for so many rows."""
    given: dict[str, Any] = {
        "job": new_job_id(),
        "tenant": "hospital",
        "model": model_ref(model),
        "input": blob_ref(b"ciphertexts"),
        "evaluation_key": None,
        "rows": rows,
        "operators": (KEYS.operator.id,),
        "client": KEYS.client.id,
        "issued": now_ms(),
        "deadline": now_ms() + 60_000,
    }
    return KEYS.client.sign(Order(**(given | changes)))


def test_rows_add_up_to_a_budget_and_not_beyond_also_after_a_restart(tmp_path: Path) -> None:
    """The error says how many there are, were and would be; what was refused does not count."""
    model = manifest()
    budgets = Budgets(tmp_path / "budgets.sqlite")
    budgets.spend(order(model, 4), model, now_ms())
    budgets.close()
    budgets = Budgets(tmp_path / "budgets.sqlite")
    budgets.spend(order(model, 5), model, now_ms())
    with pytest.raises(
        BudgetSpentError, match="gives a tenant 10 rows; this node computed 9, and the order asks for 2"
    ):
        budgets.spend(order(model, 2), model, now_ms())
    budgets.spend(order(model, 1), model, now_ms())
    with pytest.raises(BudgetSpentError, match="computed 10"):
        budgets.spend(order(model, 1), model, now_ms())
    budgets.close()
    assert (tmp_path / "budgets.sqlite").stat().st_mode & 0o077 == 0


def test_what_cannot_be_written_down_is_not_computed(tmp_path: Path) -> None:
    """A full disk, or one that was made read-only, gives no row away; and a row is on the disk before it is computed."""
    model, budgets = manifest(), Budgets(tmp_path / "budgets.sqlite")
    assert budgets._database.execute("pragma synchronous").fetchone() == (2,), "full"
    budgets._database.execute("pragma query_only = on")
    with pytest.raises(SandboxError, match="this node cannot write down what it computes"):
        budgets.spend(order(model, 1), model, now_ms())
    budgets.close()


def test_an_order_that_comes_again_counts_once_and_a_job_id_that_does_not(tmp_path: Path) -> None:
    """A lease that was lost is no further row. Who signs orders may use one job's id for many ciphertexts: each is a row."""
    model, budgets = manifest(), Budgets(tmp_path / "budgets.sqlite")
    first = order(model, 6)
    for _ in range(3):
        budgets.spend(first, model, now_ms())
    with pytest.raises(BudgetSpentError):
        budgets.spend(order(model, 6, job=first.document.job, input=blob_ref(b"others")), model, now_ms())
    budgets.spend(first, model, now_ms())
    budgets.close()


def test_each_tenant_publisher_and_model_has_a_budget_of_its_own_and_versions_share_it(tmp_path: Path) -> None:
    """As at the gateway."""
    model, budgets = manifest(), Budgets(tmp_path / "budgets.sqlite")
    budgets.spend(order(model, 10), model, now_ms())
    budgets.spend(order(model, 10, tenant="clinic"), model, now_ms())
    for other in (manifest(name="another"), manifest(signer=SigningKey.generate())):
        budgets.spend(order(other, 10), other, now_ms())
    later = manifest(version=2)
    with pytest.raises(BudgetSpentError):
        budgets.spend(order(later, 1), later, now_ms())
    more = manifest(11, version=3)
    budgets.spend(order(more, 1), more, now_ms())
    budgets.close()


def test_what_has_no_budget_is_not_written_down(tmp_path: Path) -> None:
    """Nobody reads there who asked how much."""
    budgets, model = Budgets(tmp_path / "budgets.sqlite"), manifest(None)
    before = (tmp_path / "budgets.sqlite").read_bytes()
    budgets.spend(order(model, 1000), model, now_ms())
    assert (tmp_path / "budgets.sqlite").read_bytes() == before
    budgets.close()


def test_orders_are_forgotten_once_none_can_come_any_more_and_their_rows_are_not(tmp_path: Path) -> None:
    """The file does not grow with every job there ever was."""
    model, budgets = manifest(), Budgets(tmp_path / "budgets.sqlite")
    first = order(model, 9)
    for clock in (now_ms(), first.document.deadline + CLOCK_SKEW):  # as late as a client's clock may have it
        budgets.spend(first, model, clock)
    later = now_ms() + 60_000 + CLOCK_SKEW + 1
    budgets.spend(order(model, 1, deadline=later + 1000), model, later)
    assert budgets._database.execute("select count(*) from orders_counted").fetchone() == (1,)
    with pytest.raises(BudgetSpentError):
        budgets.spend(order(model, 1, deadline=later + 1000), model, later)
    budgets.close()


def test_a_count_that_cannot_be_read_is_not_begun_anew(tmp_path: Path) -> None:
    """The node does not start, and says which file."""
    (tmp_path / "budgets.sqlite").write_bytes(b"no database, but long enough to be one" * 100)
    with pytest.raises(KeyStoreError, match=r"budgets\.sqlite: the rows that this node computed cannot be read"):
        Budgets(tmp_path / "budgets.sqlite")

"""Whether what a tenant has asked of a publisher's model is what the log tells: a budget that was lowered gives the model away.

An order's event names the budget, how many rows it asks for, and how many were asked by then, this order included (`budget`,
`rows`, `asked`). So

1. each event goes on from the one before it about the same budget: a number that was lowered, and put back later, is found;
2. a row has the number of the last event about it;
3. a row has its event, and a budget that the log tells of has its row: budgets are not deleted. A gateway that starts tells once of
   those that are older than what the log tells (`budget.counted`, behind the first `log.started` that has `budgets`).

Events of gateways of before name none. A budget is held from the first event that names it; where a gateway of before took an order
of its tenant since, a number may be larger than was told, and not smaller. Rows are read before the last events: then a number is
between what it was and what it became.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from blindgate_audit.columns import Columns, TableRow, Value, stated
from blindgate_audit.findings import Findings
from blindgate_protocol.events import Action, Event

_TABLE = "rows_asked"
_Budget = tuple[str, str]
"""A tenant, and what is counted: its publisher and the model's name."""


@dataclass(frozen=True)
class _Told:
    asked: int
    index: int


class BudgetRows:
    """Both sides, as they come in: there is a budget for each tenant and model."""

    def __init__(self) -> None:
        self._told: dict[_Budget, _Told] = {}
        self._before_rows: dict[_Budget, _Told] = {}
        self._wrong: list[tuple[_Budget, int, int, _Told | None]] = []
        self._silent: dict[str, int] = {}
        self._counted: int | None = None
        self._rows: dict[_Budget, TableRow] = {}

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        if event.action is Action.LOG_STARTED and "budgets" in event.details and self._counted is None:
            self._counted = index
        if event.tenant is None or event.action not in {Action.JOB_SUBMITTED, Action.BUDGET_COUNTED}:
            return
        asked = stated(event, "asked")
        if asked is None or "budget" not in event.details:
            self._silent[event.tenant] = index
            return
        this = (event.tenant, event.details["budget"])
        rows = 0 if event.action is Action.BUDGET_COUNTED else stated(event, "rows") or 0
        before = self._told.get(this)
        if before is None:
            is_known = event.action is Action.BUDGET_COUNTED or self._counted is None or event.tenant in self._silent
            is_wrong = asked < rows or (asked > rows and not is_known)
        else:
            is_silent = self._silent.get(event.tenant, -1) > before.index
            is_wrong = asked < before.asked + rows or (asked > before.asked + rows and not is_silent)
        if is_wrong:
            self._wrong.append((this, index, asked - rows, before))
        self._told[this] = _Told(asked, index)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._before_rows = dict(self._told)

    def row(self, columns: Columns) -> None:
        """Take in a row."""
        tenant, budget = str(columns.get("tenant")), f"{columns.get('publisher')}/{columns.get('model')}"
        self._rows[tenant, budget] = TableRow(_about(tenant, budget), _TABLE, columns)

    def finish(self, findings: Findings, *, erased: int, names: Mapping[str, str]) -> None:
        """Hold both sides against each other; `names` are the gateway's translations of pseudonyms."""
        nameless: dict[str, set[Value]] = {}
        for (tenant, budget), told in self._told.items():
            if tenant not in names:
                nameless.setdefault(budget, set()).add(told.asked)
        self._hold_order(findings, nameless, erased=erased, names=names)
        held = set()
        for this, told in self._told.items():
            tenant, budget = this
            if tenant not in names:
                continue
            row = self._rows.get((names[tenant], budget))
            if row is not None:
                held.add((names[tenant], budget))
                self._hold(findings, row, this, told, erased=erased)
            elif this in self._before_rows:
                about = _about(names[tenant], budget)
                message = f"{about}: the budget that entry {told.index} tells of has no row of {_TABLE}"
                findings.add("row", message, index=told.index)
        if self._counted is None or erased:
            return
        silent = {names.get(tenant) for tenant, index in self._silent.items() if index > self._counted}
        for (name, budget), row in self._rows.items():
            if (name, budget) in held or name in silent or row.get("rows") in nameless.get(budget, ()):
                continue
            message = f"{row.about}: it has a row of {_TABLE}, and no event of the log tells of it"
            findings.add("row", message)

    def _hold(self, findings: Findings, row: TableRow, this: _Budget, told: _Told, *, erased: int) -> None:
        # 2.
        has, least = row.get("rows"), self._before_rows.get(this, _Told(0, -1)).asked
        is_silent = self._silent.get(this[0], -1) > told.index
        if isinstance(has, int) and least <= has and (has <= told.asked or is_silent or erased):
            return
        row.hold(findings, {"rows": told.asked}, f"entry {told.index}", index=told.index)

    def _hold_order(
        self, findings: Findings, nameless: Mapping[str, set[Value]], *, erased: int, names: Mapping[str, str]
    ) -> None:
        # 1.
        for (tenant, budget), index, found, before in self._wrong:
            was = 0 if before is None else before.asked
            # It was counted before under a name that is erased, or the event of it is gone: that was more, and never less.
            if found > was and (erased or (before is None and nameless.get(budget))):
                continue
            since = "no event tells of any" if before is None else f"since entry {before.index} it was {was}"
            message = f"{_about(names.get(tenant, tenant), budget)}: entry {index} found {found} rows asked before it; {since}"
            findings.add("row", message, index=index)


def _about(tenant: str, budget: str) -> str:
    publisher, _, model = budget.partition("/")
    return f"budget of tenant {tenant} for model {model} of {publisher}"

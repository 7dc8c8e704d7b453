"""Whether jobs wait where their orders allow.

A queue is of a tenant, a family of models and a set of operators, or of single nodes to which requests are sealed, and its id is a
hash of all three (`queue_id`). So

1. a queue has the operators that its id was made of: one who was put in would be given jobs whose orders do not allow him;
2. a job waits in a queue of its order's tenant, of its model's family, and of none but operators whom the order names; where the
   order names nodes, of none but those.
"""

from blindgate_audit.columns import Columns, TableRow, Value
from blindgate_audit.findings import Findings
from blindgate_protocol.jobs import queue_id
from blindgate_protocol.order import Order


class QueueRows:
    """Queues, as they come in: a gateway has some for each tenant."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._queues: dict[Value, Columns] = {}
        self._operators: dict[Value, set[str]] = {}

    def row(self, table: str, row: Columns) -> None:
        """Take in a row of `queues` or `queue_operators`."""
        if table == "queues":
            self._queues[row.get("id")] = row
        else:
            self._operators.setdefault(row.get("queue"), set()).add(str(row.get("operator")))

    def hold(self, job: TableRow, order: Order, family: str | None) -> None:
        """Hold the row of a job that has not ended; `family` is its model's, where that is known."""
        if "queue" not in job.columns:  # a gateway of before shows none
            return
        queue = self._queues.get(job.get("queue"))
        if queue is None:
            self._findings.add(
                "row", f"{job.about}: in its row of jobs, queue is {job.get('queue')!r}; there is none of that id"
            )
            return
        row = TableRow(f"{job.about}: its queue", "queues", queue)
        row.hold(self._findings, {"tenant": order.tenant}, "its order")
        if family is not None:
            row.hold(self._findings, {"family": family}, "its model's manifest")
        allowed = set(order.operators if order.nodes is None else order.nodes)
        for taker in sorted(self._operators.get(job.get("queue"), set()) - allowed):
            whom = f"nodes of {taker}, whom" if order.nodes is None else f"{taker}, which"
            self._findings.add("row", f"{job.about}: it waits for {whom} its order does not allow")

    def finish(self) -> None:
        """Hold each queue against its id."""
        for name, queue in self._queues.items():
            operators = sorted(self._operators.get(name, set()))
            if queue_id(str(queue.get("tenant")), str(queue.get("family")), operators) != name:
                made_of = "the tenant, family and operators that its id was made of"
                message = f"queue:{name}: it is not of {made_of}: {', '.join(operators)}"
                self._findings.add("row", message)
        for name in self._operators.keys() - self._queues.keys():
            self._findings.add("row", f"queue:{name}: it has operators, and no row of queues")

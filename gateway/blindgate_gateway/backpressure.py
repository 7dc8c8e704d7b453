"""How much may wait: a tenant's share, and all tenants' together.

Counting a long queue costs milliseconds, so a count is good for a second, in each process: a limit may be passed by what comes in
that second, and by no more. A count stops at the limit.
"""

import threading
import time
from typing import Final

from sqlalchemy import bindparam, func, literal, select

from blindgate_gateway.database import Prepared, Transaction, prepared
from blindgate_gateway.problems import refusal
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import jobs

GOOD_SECONDS: Final = 1.0
_MOST_TENANTS: Final = 10_000

_ONE = select(literal(1).label("one")).select_from(jobs).limit(bindparam("most"))
_OF_ALL = prepared(select(func.count().label("count")).select_from(_ONE.subquery()))
_OF_TENANT = prepared(
    select(func.count().label("count")).select_from(_ONE.where(jobs.c.tenant == bindparam("tenant")).subquery())
)


class Backpressure:
    """What this process knows of how much waits."""

    def __init__(self, settings: Settings) -> None:
        self._waiting, self._queue = settings.waiting, settings.queue
        self._counts: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def check(self, connection: Transaction, tenant: str) -> None:
        """Refuse another job where there are too many. Raises `GatewayError`."""
        if self._count(connection, "", _OF_ALL, self._queue) >= self._queue:
            raise refusal("queue-full", f"{self._queue} jobs are waiting here: ask again later")
        if self._count(connection, tenant, _OF_TENANT, self._waiting) >= self._waiting:
            raise refusal(
                "too-many-waiting", f"{self._waiting} jobs of this tenant are waiting: ask again when some are done"
            )

    def _count(self, connection: Transaction, tenant: str, statement: Prepared, most: int) -> int:
        now = time.monotonic()
        until, count = self._counts.get(tenant, (0.0, 0))
        if now < until:
            return count
        found = int(connection.execute(statement, {"tenant": tenant, "most": most}).scalar())
        with self._lock:
            if len(self._counts) > _MOST_TENANTS:
                self._counts.clear()
            self._counts[tenant] = (now + GOOD_SECONDS, found)
        return found

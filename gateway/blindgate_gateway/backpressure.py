"""How much may wait: a tenant's share, and all tenants' together.

Counting a long queue costs milliseconds, so a count is good for a second, in each process: a limit may be passed by what comes in
that second, and by no more. A count stops at the limit.
"""

import threading
import time
from typing import Final

from sqlalchemy import bindparam, func, literal, select

from blindgate_gateway.database import Database, Prepared, prepared
from blindgate_gateway.problems import refusal
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import jobs
from blindgate_protocol.errors import GatewayError

GOOD_SECONDS: Final = 1.0
_MOST_TENANTS: Final = 10_000

_ONE = select(literal(1).label("one")).select_from(jobs).limit(bindparam("most"))
_OF_ALL = prepared(select(func.count().label("waiting")).select_from(_ONE.subquery()))
_OF_TENANT = prepared(
    select(func.count().label("waiting")).select_from(_ONE.where(jobs.c.tenant == bindparam("tenant")).subquery())
)


class Backpressure:
    """What this process knows of how much waits."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """`database` is one that shows every tenant's rows: all of them count."""
        self._database = database
        self._waiting, self._queue = settings.waiting, settings.queue
        self._counts: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def refusal(self, tenant: str) -> GatewayError | None:
        """Why another job of `tenant` is one too many, or `None`."""
        if self._count("", _OF_ALL, self._queue) >= self._queue:
            return refusal("queue-full", f"{self._queue} jobs are waiting here: ask again later")
        if self._count(tenant, _OF_TENANT, self._waiting) >= self._waiting:
            return refusal(
                "too-many-waiting", f"{self._waiting} jobs of this tenant are waiting: ask again when some are done"
            )
        return None

    def _count(self, tenant: str, statement: Prepared, most: int) -> int:
        now = time.monotonic()
        until, count = self._counts.get(tenant, (0.0, 0))
        if now < until:
            return count
        found = int(self._database.look(statement, {"tenant": tenant, "most": most}).waiting)
        with self._lock:
            if len(self._counts) > _MOST_TENANTS:
                self._counts.clear()
            self._counts[tenant] = (now + GOOD_SECONDS, found)
        return found

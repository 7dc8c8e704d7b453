"""Wrong credentials, told to the log without letting whoever brings them fill it.

In each minute, a credential that somebody claims is told of at the first, second, fourth, eighth … failure, with how many there
were; of more than `MOST` credentials in a minute, the rest are told of together.
What is not of a credential's shape is `unknown`: an attacker chooses the words, and the log repeats none of them.
"""

import re
import threading
import time
from typing import Final

from blindgate_gateway.database import Database, is_busy
from blindgate_gateway.log.objects import credential_object, node_object
from blindgate_gateway.log.telling import UNKNOWN, tell
from blindgate_protocol.events import Action

SECONDS: Final = 60.0
MOST: Final = 20
OTHERS: Final = "credential:others"
_API_KEY: Final = re.compile(r"b[gs]_([0-9a-f]{16})")
_NODE: Final = re.compile(r"ed25519:[A-Za-z0-9_-]{43}")


class Failures:
    """The failures of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._until = 0.0

    def note(self, claimed: str, reason: str) -> None:
        """Somebody brought a credential that is none; `claimed` is whose they said it was."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._counts.clear()
                self._until = time.monotonic() + SECONDS
            what = _object(claimed)
            if what not in self._counts and len(self._counts) >= MOST:
                what = OTHERS
            count = self._counts[what] = self._counts.get(what, 0) + 1
        if count & (count - 1):
            return  # told at 1, 2, 4, 8 …: a flood is seen for what it is
        try:
            with self._database.write(durable=False) as connection:
                tell(
                    connection,
                    Action.LOGIN_FAILED,
                    what,
                    by=UNKNOWN,
                    outcome="failure",
                    reason=reason,
                    details={"count": str(count)},
                )
        except Exception as error:
            if not is_busy(error):  # nobody is let in because the disk is full
                raise


def _object(claimed: str) -> str:
    key = _API_KEY.fullmatch(claimed)
    if key is not None:
        return credential_object(key[1])
    return node_object(claimed) if _NODE.fullmatch(claimed) else credential_object("unknown")

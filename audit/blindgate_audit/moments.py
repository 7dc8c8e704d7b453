"""Points in time as people type them: a date, which is its first moment in UTC, or a time with its zone; and now."""

import time
from datetime import UTC, date, datetime

from blindgate_protocol.errors import InputError
from blindgate_protocol.values import Millis

_DATE = "2026-01-31"


def moment(text: str) -> int:
    """The moment in milliseconds since 1970. Raises `InputError`, which says what was expected."""
    try:
        if len(text) == len(_DATE):
            found = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        else:
            found = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r}: expected a date, {_DATE}, or a time with its zone, {_DATE}T08:00Z or {_DATE}T08:00+01:00"
        raise InputError(message) from error
    if found.tzinfo is None:
        message = f"{text!r}: without its zone a time is none; put Z behind it for UTC, or +01:00"
        raise InputError(message)
    millis = round(found.timestamp() * 1000)
    if millis < 0:
        message = f"{text!r}: before 1970"
        raise InputError(message)
    return millis


def now() -> Millis:
    """This machine's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000

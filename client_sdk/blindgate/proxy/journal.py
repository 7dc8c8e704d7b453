"""What the proxy writes about itself: lines of JSON on standard error, with routes, statuses, codes, job ids and times.

Nothing of a request or an answer is in it, and no text of an error that could hold some: of one that nobody foresaw, its class and
where it was raised.
"""

import json
import sys
import threading
import time
import traceback
from typing import Any, Final

from blindgate_protocol.errors import (
    BlindgateError,
    GatewayError,
    KeyStoreError,
    LogError,
    ManifestError,
    PolicyError,
    ReceiptError,
    SealError,
    SignatureError,
)

_TOLD: Final = (
    GatewayError,
    KeyStoreError,
    LogError,
    ManifestError,
    PolicyError,
    ReceiptError,
    SealError,
    SignatureError,
)
"""Errors whose texts speak of documents, keys and addresses."""
_FRAMES: Final = 6
_writing = threading.Lock()


def tell(event: str, **facts: Any) -> None:
    """Write a line."""
    line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, ensure_ascii=True)
    with _writing:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def tell_error(error: Exception, **facts: Any) -> None:
    """Write a line about an error."""
    if isinstance(error, _TOLD):
        tell("failed", code=error.code, why=str(error), **facts)
    elif isinstance(error, BlindgateError):
        tell("failed", code=error.code, **facts)
    else:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        tell("failed", code="internal", error=type(error).__name__, at=places, **facts)

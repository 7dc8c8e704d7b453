"""How values look on a page: times, digests, pseudonyms, what an action means."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from blindgate_protocol.events import Action, OtherAction

_SHORT: Final = 12
_LATEST: Final = 253_402_300_799_999  # the end of the year 9999
WORDS: Final[Mapping[Action, str]] = {
    Action.KEY_REGISTERED: "Key registered",
    Action.KEY_ACTIVATED: "Key activated",
    Action.KEY_SUSPENDED: "Key suspended",
    Action.KEY_RESUMED: "Key resumed",
    Action.KEY_SUPERSEDED: "Key superseded",
    Action.KEY_DEACTIVATED: "Key deactivated",
    Action.KEY_COMPROMISED: "Key compromised",
    Action.KEY_DESTRUCTION_SCHEDULED: "Destruction scheduled",
    Action.KEY_DESTROYED: "Key destroyed",
    Action.KEY_UPLOADED: "Key uploaded",
    Action.KEY_SENT: "Key sent to a node",
    Action.KEY_EVICTED: "Key evicted from a node's cache",
    Action.JOB_SUBMITTED: "Job submitted",
    Action.JOB_LEASED: "Job leased to a node",
    Action.JOB_RETURNED: "Job returned to its queue",
    Action.JOB_SUCCEEDED: "Job succeeded",
    Action.JOB_FAILED: "Job failed",
    Action.JOB_DEAD: "Job dead: every attempt failed",
    Action.JOB_CANCELLED: "Job cancelled",
    Action.JOB_EXPIRED: "Job expired",
    Action.JOB_RESENT: "Job sent again",
    Action.JOB_ACKNOWLEDGED: "Result acknowledged",
    Action.CORPUS_STORED: "Sealed corpus stored",
    Action.CORPUS_DELETED: "Sealed corpus deleted",
    Action.MODEL_PUBLISHED: "Model published",
    Action.NODE_ENROLLED: "Node enrolled",
    Action.NODE_DISMISSED: "Node dismissed",
    Action.EVIDENCE_SHOWN: "Node showed evidence",
    Action.TENANT_ADDED: "Tenant added",
    Action.CREDENTIAL_GRANTED: "Credential granted",
    Action.CREDENTIAL_ROTATED: "Credential rotated",
    Action.CREDENTIAL_REVOKED: "Credential revoked",
    Action.LOGIN_FAILED: "Login failed",
    Action.SESSION_STARTED: "Signed in to the console",
    Action.SESSION_ENDED: "Signed out of the console",
    Action.ROLE_CHANGED: "Role changed",
    Action.LIMITS_CHANGED: "Limits changed",
    Action.BUDGET_COUNTED: "Budget counted",
    Action.RETENTION_CHANGED: "Retention changed",
    Action.SIGNER_ADDED: "Signer added",
    Action.SIGNER_REVOKED: "Signer revoked",
    Action.RECORDS_DELETED: "Records deleted",
    Action.GATEWAY_ENTERED: "Gateway entered",
    Action.GATEWAY_FORGOTTEN: "Gateway forgotten",
    Action.LOG_STARTED: "Log started",
    Action.LOG_PAUSED: "Log paused",
    Action.LOG_READ: "Log read",
    Action.LOG_EXPORTED: "Log exported",
    Action.EVENT_ERASED: "Event erased",
    Action.PSEUDONYM_ERASED: "Pseudonym erased",
}


def moment(millis: int) -> str:
    """A time, in milliseconds since 1970, for people."""
    return _at(millis).strftime("%Y-%m-%d %H:%M:%S.") + f"{millis % 1000:03}\N{NO-BREAK SPACE}UTC"


def iso(millis: int) -> str:
    """The same, for machines."""
    return _at(millis).strftime("%Y-%m-%dT%H:%M:%S.") + f"{millis % 1000:03}Z"


def short(text: str) -> str:
    """The beginning of what a digest, a key or a pseudonym says behind its kind."""
    kind, mark, rest = text.partition(":") if ":" in text else text.partition("-")
    if kind == "tenant" and ":" in text:
        return short(rest)
    if kind in {"credential", "job", "key", "node", "session"} and ":" in text:
        return f"{kind}{mark}{short(rest)}"
    body, front = (rest, kind + mark) if rest else (text, "")
    return text if len(body) <= _SHORT + 1 else f"{front}{body[:_SHORT]}…"


def words(action: Action | OtherAction) -> str:
    """What an action means; the name that it gives itself, where a later gateway wrote it."""
    return action.value if isinstance(action, OtherAction) else WORDS.get(action, action.value)


def pretty(text: str) -> str:
    """JSON, with its lines apart."""
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "moment": moment,
    "iso": iso,
    "short": short,
    "words": words,
    "pretty": pretty,
    "number": lambda number: f"{number:,}",
}


def _at(millis: int) -> datetime:
    return datetime.fromtimestamp(min(millis, _LATEST) // 1000, UTC)

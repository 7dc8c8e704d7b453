"""OCSF 1.5.0 in JSON Lines, for SIEMs: Entity Management (3004) for what has a life, API Activity (6003) for the rest.

| action | class | activity |
|---|---|---|
| `key.registered`, `tenant.added`, `credential.granted`, `signer.added` | 3004 | 1 Create |
| `key.sent`, `evidence.shown` | 3004 | 2 Read |
| `key.uploaded`, `key.evicted`, `key.superseded`, `key.destruction-scheduled` | 3004 | 3 Update |
| `credential.rotated`, `role.changed`, `limits.changed`, `budget.counted` | 3004 | 3 Update |
| `gateway.entered`, `gateway.forgotten` | 3004 | 6 Enroll, 7 Unenroll |
| `key.destroyed`, `credential.revoked` | 3004 | 4 Delete |
| `node.enrolled`, `node.dismissed` | 3004 | 6 Enroll, 7 Unenroll |
| `key.compromised`, `signer.revoked` | 3004 | 9 Disable |
| `key.activated`, `key.deactivated` | 3004 | 10 Activate, 11 Deactivate |
| `key.suspended`, `key.resumed` | 3004 | 12 Suspend, 13 Resume |
| `job.submitted`, `model.published` | 6003 | 1 Create |
| `log.read`, `log.exported` | 6003 | 2 Read |
| every other change of a job, `corpus.stored`, `retention.changed`, `log.started`, `log.paused` | 6003 | 3 Update |
| `corpus.deleted`, `records.deleted`, `event.erased` | 6003 | 4 Delete |
| `login.failed`, `session.started` | 6003 | 99 Other: Login |
| `session.ended` | 6003 | 99 Other: Logout |
| one that this version has no name for | 6003 | 99 Other: its own name |

- `metadata.event_code` is the action, `metadata.sequence` the index, `metadata.uid` the log's name and the index,
  `metadata.tenant_uid` the tenant's pseudonym, `metadata.correlation_uid` the request; `time` is in milliseconds.
- `actor.user` is a pseudonym or a key's id, its `type` the role. `src_endpoint` names the actor again: the class wants one, and the
  log has no network addresses.
- `entity` (or `resources`) is the object, with the states before and after in its `data`.
- Severity: 4 High for a compromised key, a revoked signer, a body that was altered or is missing; 3 Medium for failures and for
  a paused log; 1 Informational for the rest.
- An event whose body is gone is API Activity, 99 Other: Gone. Its time is unknown, and OCSF wants one: it is that of the row
  before, 0 where there is none, and `unmapped.time_unknown` says so.
- `unmapped` has what OCSF has no place for: proof, digest, details, note.
"""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO, Final

from blindgate_audit.report import Proof, Row
from blindgate_protocol.events import Action, Event, OtherAction

OCSF_VERSION: Final = "1.5.0"
_ENTITY_MANAGEMENT: Final = (3, "Identity & Access Management", 3004, "Entity Management")
_API_ACTIVITY: Final = (6, "Application Activity", 6003, "API Activity")
_GONE: Final = (99, "Gone")
_CREATE: Final = (1, "Create")
_READ: Final = (2, "Read")
_UPDATE: Final = (3, "Update")
_DELETE: Final = (4, "Delete")

_ENTITY_ACTIVITIES: Final = {
    Action.KEY_REGISTERED: _CREATE,
    Action.KEY_ACTIVATED: (10, "Activate"),
    Action.KEY_SUSPENDED: (12, "Suspend"),
    Action.KEY_RESUMED: (13, "Resume"),
    Action.KEY_SUPERSEDED: _UPDATE,
    Action.KEY_DEACTIVATED: (11, "Deactivate"),
    Action.KEY_COMPROMISED: (9, "Disable"),
    Action.KEY_DESTRUCTION_SCHEDULED: _UPDATE,
    Action.KEY_DESTROYED: _DELETE,
    Action.KEY_UPLOADED: _UPDATE,
    Action.KEY_SENT: _READ,
    Action.KEY_EVICTED: _UPDATE,
    Action.NODE_ENROLLED: (6, "Enroll"),
    Action.NODE_DISMISSED: (7, "Unenroll"),
    Action.EVIDENCE_SHOWN: _READ,
    Action.TENANT_ADDED: _CREATE,
    Action.CREDENTIAL_GRANTED: _CREATE,
    Action.CREDENTIAL_ROTATED: _UPDATE,
    Action.CREDENTIAL_REVOKED: _DELETE,
    Action.ROLE_CHANGED: _UPDATE,
    Action.LIMITS_CHANGED: _UPDATE,
    Action.BUDGET_COUNTED: _UPDATE,
    Action.GATEWAY_ENTERED: (6, "Enroll"),
    Action.GATEWAY_FORGOTTEN: (7, "Unenroll"),
    Action.SIGNER_ADDED: _CREATE,
    Action.SIGNER_REVOKED: (9, "Disable"),
}
_API_ACTIVITIES: Final = {
    Action.JOB_SUBMITTED: _CREATE,
    Action.JOB_LEASED: _UPDATE,
    Action.JOB_RETURNED: _UPDATE,
    Action.JOB_SUCCEEDED: _UPDATE,
    Action.JOB_FAILED: _UPDATE,
    Action.JOB_DEAD: _UPDATE,
    Action.JOB_CANCELLED: _UPDATE,
    Action.JOB_EXPIRED: _UPDATE,
    Action.JOB_RESENT: _UPDATE,
    Action.JOB_ACKNOWLEDGED: _UPDATE,
    Action.CORPUS_STORED: _UPDATE,
    Action.CORPUS_DELETED: _DELETE,
    Action.MODEL_PUBLISHED: _CREATE,
    Action.LOGIN_FAILED: (99, "Login"),
    Action.SESSION_STARTED: (99, "Login"),
    Action.SESSION_ENDED: (99, "Logout"),
    Action.RETENTION_CHANGED: _UPDATE,
    Action.RECORDS_DELETED: _DELETE,
    Action.LOG_STARTED: _UPDATE,
    Action.LOG_PAUSED: _UPDATE,
    Action.LOG_READ: _READ,
    Action.LOG_EXPORTED: _READ,
    Action.EVENT_ERASED: _DELETE,
    Action.PSEUDONYM_ERASED: _DELETE,
}
_SEVERITIES: Final = {1: "Informational", 3: "Medium", 4: "High"}
_HIGH_ACTIONS: Final = frozenset({Action.KEY_COMPROMISED, Action.SIGNER_REVOKED})
_USER_TYPES: Final = {
    "tenant": (1, "User"),
    "auditor": (1, "User"),
    "operator": (1, "User"),
    "administrator": (2, "Admin"),
    "gateway": (3, "System"),
}


def write_ocsf(rows: Iterable[Row], out: BinaryIO, *, origin: str) -> None:
    """Write an OCSF event a line. `origin` is the log's name."""
    time = 0
    for row in rows:
        if row.event is not None:
            time = row.event.time
        out.write(json.dumps(ocsf_event(row, origin=origin, time=time), separators=(",", ":")).encode() + b"\n")


def ocsf_event(row: Row, *, origin: str, time: int) -> dict[str, Any]:
    """A row as an OCSF event. `time`, in milliseconds, is for a row that has none."""
    event = row.event
    (category, category_name, kind, kind_name), (activity, activity_name) = _classified(event)
    severity = _severity(row)
    status, status_name = (0, "Unknown") if event is None else _status(event)
    given: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": category,
        "category_name": category_name,
        "class_uid": kind,
        "class_name": kind_name,
        "type_uid": kind * 100 + activity,
        "type_name": f"{kind_name}: {activity_name}",
        "time": time if event is None else event.time,
        "severity_id": severity,
        "severity": _SEVERITIES[severity],
        "status_id": status,
        "status": status_name,
        "status_detail": None if event is None else event.reason,
        "message": _message(row),
        "metadata": _metadata(row, origin),
        "actor": {"user": _user(event)},
        "unmapped": _unmapped(row),
    }
    if kind == _ENTITY_MANAGEMENT[2] and event is not None:
        given["entity"] = _object(event)
    else:
        given |= {"api": _api(row, origin), "src_endpoint": _endpoint(event)}
        if event is not None:
            given["resources"] = [_object(event)]
    return _without_none(given)


def _classified(event: Event | None) -> tuple[tuple[int, str, int, str], tuple[int, str]]:
    if event is None:
        return _API_ACTIVITY, _GONE
    if isinstance(event.action, OtherAction):
        return _API_ACTIVITY, (99, event.action.value)
    activity = _ENTITY_ACTIVITIES.get(event.action)
    return (_API_ACTIVITY, _API_ACTIVITIES[event.action]) if activity is None else (_ENTITY_MANAGEMENT, activity)


def _severity(row: Row) -> int:
    event = row.event
    if row.proof in {Proof.ALTERED, Proof.MISSING} or (event is not None and event.action in _HIGH_ACTIONS):
        return 4
    return 3 if event is not None and (event.outcome == "failure" or event.action is Action.LOG_PAUSED) else 1


def _status(event: Event) -> tuple[int, str]:
    return (1, "Success") if event.outcome == "success" else (2, "Failure")


def _message(row: Row) -> str:
    if row.event is None:
        return f"entry {row.index} of the log: {row.proof.value}"
    return f"{row.event.action.value} of {row.event.object} by {row.event.actor}: {row.proof.value}"


def _metadata(row: Row, origin: str) -> dict[str, Any]:
    event = row.event
    product = {"name": "Blindgate", "vendor_name": "Blindgate", "version": None if event is None else event.software}
    return {
        "version": OCSF_VERSION,
        "product": product,
        "log_name": origin,
        "uid": f"{origin}#{row.index}",
        "sequence": row.index,
        "event_code": None if event is None else event.action.value,
        "correlation_uid": None if event is None else event.request,
        "tenant_uid": None if event is None else event.tenant,
    }


def _user(event: Event | None) -> dict[str, Any]:
    actor, role = ("unknown", "unknown") if event is None else (event.actor, event.role)
    type_id, caption = (0, "Unknown") if event is None else _USER_TYPES.get(role, (99, role))
    account = {"uid": actor, "name": actor, "type_id": 99, "type": role}
    return {"uid": actor, "name": actor, "type_id": type_id, "type": caption, "account": account}


def _object(event: Event) -> dict[str, Any]:
    kind, _, name = event.object.partition(":")
    states = {"before": event.before, "after": event.after, "digest": event.digest}
    return {"uid": event.object, "name": name, "type": kind, "data": _without_none(states) or None}


def _api(row: Row, origin: str) -> dict[str, Any]:
    event = row.event
    software, request = ("unknown", None) if event is None else (event.software, event.request)
    return {
        "operation": "unknown" if event is None else event.action.value,
        "service": {"name": "Blindgate gateway", "uid": origin, "version": software},
        "request": None if request is None else {"uid": request},
    }


def _endpoint(event: Event | None) -> dict[str, Any]:
    actor = "unknown" if event is None else event.actor
    return {"uid": actor, "name": actor}


def _unmapped(row: Row) -> dict[str, Any]:
    event = row.event
    return {
        "proof": row.proof.value,
        "note": row.note,
        "time_unknown": True if event is None else None,
        "role": None if event is None else event.role,
        "digest": None if event is None else event.digest,
        "details": (event.details or None) if event is not None else None,
    }


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    """The members that are known; OCSF has no null."""
    return {
        name: _without_none(one)
        if isinstance(one, dict)
        else [_without_none(item) for item in one]
        if isinstance(one, list)
        else one
        for name, one in value.items()
        if one is not None
    }

"""A log with its events, as an export writes it: tiles, a signed checkpoint, bodies with salts; and a server that gives it out."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from blindgate_protocol.events import Action, Event, OtherAction, entry_of
from blindgate_protocol.logged import Logged, LoggedPage
from static_logs import served, write_events, write_log

TENANT = f"tenant-{'7' * 32}"
KEY = f"sha256:{'ab' * 32}"
CLIENT = f"ed25519:{'C' * 43}"
NODE = f"ed25519:{'N' * 43}"
START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


def statement(key: str, sequence: int) -> str:
    """The digest of a statement, as if it had been signed."""
    return f"sha256:{hashlib.sha256(f'{key} {sequence}'.encode()).hexdigest()}"


def told(action: Action | OtherAction, about: str, time: int, **given: object) -> Event:
    """An event of the tenant about `about`, at START + `time` milliseconds."""
    fields = {
        "time": START + time,
        "action": action,
        "actor": TENANT,
        "role": "tenant",
        "tenant": TENANT,
        "object": about,
        "request": "req-1",
        "software": "0.1.0",
    }
    return Event.model_validate(fields | given)


def stated(action: Action, sequence: int, before: str | None, after: str, *, key: str = KEY) -> Event:
    """An event that the owner's statement `sequence` about `key` brought."""
    details = {"client": CLIENT, "sequence": str(sequence)}
    if sequence > 1:
        details["previous"] = statement(key, sequence - 1)
    about = f"key:{key}"
    return told(
        action, about, sequence * 1000, digest=statement(key, sequence), before=before, after=after, details=details
    )


def life() -> list[Event]:
    """A key from its registration to its end, and a job that used it."""
    job = {"job": "0" * 31 + "1", "node": NODE}
    return [
        stated(Action.KEY_REGISTERED, 1, None, "registered"),
        stated(Action.KEY_ACTIVATED, 2, "registered", "active"),
        told(Action.JOB_SUBMITTED, f"job:{job['job']}", 2100, after="queued"),
        told(Action.KEY_SENT, f"key:{KEY}", 2200, actor="gateway", role="gateway", details=job),
        told(Action.KEY_EVICTED, f"key:{KEY}", 2300, actor="node", role="node", details={"node": NODE}),
        stated(Action.KEY_SUSPENDED, 3, "active", "suspended"),
        stated(Action.KEY_RESUMED, 4, "suspended", "active"),
        stated(Action.KEY_DESTROYED, 5, "active", "destroyed"),
    ]


class Export:
    """Events in a log, with what is shown of each: which a test may change, as an operator might."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.shown: list[Logged] = []
        self.entries: list[bytes] = []
        for event in events:
            self.append(event)

    def append(self, event: Event) -> None:
        """Log an event."""
        salt = hashlib.sha256(str(len(self.entries)).encode()).digest()
        body = event.to_bytes()
        self.shown.append(Logged(index=len(self.entries), event=body.decode(), salt=salt))
        self.entries.append(entry_of(body, salt))

    def erase(self, index: int) -> None:
        """Show an event's body no longer."""
        self.shown[index] = Logged(index=index, event=None, salt=None)

    def alter(self, index: int, event: Event) -> None:
        """Show another body in its place."""
        self.shown[index] = Logged(index=index, event=event.to_bytes().decode(), salt=self.shown[index].salt)

    def write(self, folder: Path) -> Path:
        """Write it all as files."""
        folder.mkdir(parents=True, exist_ok=True)
        write_log(folder, self.entries)
        write_events(folder, self.shown)
        return folder


@contextmanager
def served_export(export: Export, folder: Path, *, api_key: str = "auditor", name: str = "ward-7") -> Iterator[str]:
    """Serve the log in `folder` and the auditor's routes over `export.shown`, as a gateway does. Gives its address.

    The tenant `name` is TENANT's.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            asked = {key: value[0] for key, value in parse_qs(place.query).items()}
            file = folder / place.path.removeprefix("/log/")
            if place.path == "/v1/audit/events":
                if self.headers["Authorization"] == f"Bearer {api_key}":
                    self._answer(_page(export.shown, asked, name).model_dump_json().encode())
                else:
                    self._answer(json.dumps(_NOT_AN_AUDITOR).encode(), 401)
            elif place.path.startswith("/log/") and file.is_file():
                self._answer(file.read_bytes())
            else:
                self._answer(b"", 404)

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with served(Handler) as url:
        yield url


_NOT_AN_AUDITOR = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "code": "not-authorised",
    "detail": "no auditor",
}


def _page(shown: list[Logged], asked: dict[str, str], name: str) -> LoggedPage:
    after, most = int(asked.get("after", -1)), min(int(asked.get("most", 1000)), 3)  # many pages for few events
    events = [one for one in shown if one.index > after and _chosen(one, asked, name)]
    page = tuple(events[:most])
    return LoggedPage(size=len(shown), events=page, after=page[-1].index if len(events) > most else None)


def _chosen(one: Logged, asked: dict[str, str], name: str) -> bool:
    """Whether an event answers; a gateway still knows of an erased one whose it was: here, the key's and the tenant's."""
    if one.event is None:
        return "action" not in asked
    event = Event.from_bytes(one.event.encode())
    tenant = TENANT if asked.get("tenant") == name else asked.get("tenant")
    return (
        asked.get("object") in {None, event.object}
        and tenant in {None, event.tenant}
        and asked.get("action") in {None, event.action.value}
        and int(asked.get("since", 0)) <= event.time < int(asked.get("until", 1 << 60))
    )

"""Who asks about the log: everybody for the tree, which says nothing by itself; tenants for their own; auditors for all.

The tree is C2SP's tlog-tiles under `/log`. Tiles never change, and say so to caches; the checkpoint is a few seconds old at most.
That an auditor read is an event as well, one a minute and person.
"""

import time
from typing import Final

from flask import Response
from sqlalchemy import bindparam, select

from blindgate_gateway.database import prepared
from blindgate_gateway.identity import Account, Role, Staff
from blindgate_gateway.jobs import LONGEST_WAIT
from blindgate_gateway.log.objects import job_object, key_object, log_object
from blindgate_gateway.log.pseudonyms import known_pseudonym, pseudonym_of
from blindgate_gateway.log.reading import MOST, last_event, page_of
from blindgate_gateway.log.telling import Actor, tell
from blindgate_gateway.log.tree import has_tile, read_tile
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.tables import pseudonyms
from blindgate_gateway.wakeups import LOG
from blindgate_protocol.errors import MalformedError, NotLoggedError
from blindgate_protocol.events import Action
from blindgate_protocol.logged import LoggedPage, LoggedProof, LogView, PseudonymPage, PseudonymView
from blindgate_protocol.tiles import Tile

routes = Routes("log")
_TEXT: Final = "text/plain; charset=utf-8"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_SHORTLY: Final = "public, max-age=1"
_READ_SECONDS: Final = 60.0
_USUAL: Final = 500
_PAGE: Final = {
    "after": ("query", "the index to go on behind; from the beginning where it is missing"),
    "most": ("query", f"how many, at most {MOST}"),
}
_NAMES = prepared(
    select(pseudonyms.c.kind, pseudonyms.c.name, pseudonyms.c.pseudonym)
    .where(pseudonyms.c.pseudonym > bindparam("after"))
    .order_by(pseudonyms.c.pseudonym)
    .limit(bindparam("most"))
)


@routes.get("/v1/log", answers={200: LogView})
def show_log(call: Call[None, None]) -> Answer:
    """Say which log this is, by its verifier key, and how far it is."""
    keeper = call.parts.log
    head = keeper.sequencer.head()
    witnesses = tuple(str(key) for keys in call.parts.settings.witness_keys.values() for key in keys)
    return LogView(
        key=str(head.key),
        second=None if head.second is None else str(head.second),
        size=head.size,
        pending=keeper.sequencer.pending(),
        witnesses=witnesses,
    )


@routes.get("/log/checkpoint", answers={200: Raw("text/plain")})
def show_checkpoint(call: Call[None, None]) -> Answer:
    """Give the log's latest checkpoint: C2SP's tlog-checkpoint, with the cosignatures of witnesses."""
    return Response(call.parts.log.checkpoint(), content_type=_TEXT, headers={"Cache-Control": _SHORTLY})


@routes.get("/log/tile/<path:tile>", answers={200: Raw()})
def show_tile(call: Call[None, None], tile: str) -> Answer:
    """Give a tile of hashes or a bundle of entries: C2SP's tlog-tiles."""
    try:
        named = Tile.parse(f"tile/{tile}")
    except MalformedError as error:
        raise not_found("tile") from error
    if not has_tile(named, call.parts.log.sequencer.head().size):
        raise not_found("tile")
    data = read_tile(call.parts.log.database, named)
    return Response(data, content_type="application/octet-stream", headers={"Cache-Control": _FOR_EVER})


@routes.get(
    "/v1/jobs/<job>/proof",
    roles={Role.TENANT, Role.READER},
    answers={200: LoggedProof},
    parameters={
        "wait": ("query", "how long to wait for it, in milliseconds, at most 30000"),
        "cosignatures": ("query", "how many witnesses must have cosigned the checkpoint"),
    },
)
def prove_receipt(call: Call[Account, None], job: str) -> Answer:
    """Give the event of a job's success, with the proof that it is in the log."""
    until = time.monotonic() + call.query("wait", default=0, most=LONGEST_WAIT) / 1000
    cosigned_by = call.query("cosignatures", default=0, most=64)
    row = last_event(call.parts.database, job_object(job), Action.JOB_SUCCEEDED, tenant=_pseudonym(call))
    if row is None or row.body is None:
        raise not_found("receipt in the log")
    with call.parts.wakeups.watch(LOG) as watch:
        while True:
            proof = call.parts.log.prove(row.id, cosigned_by=cosigned_by)
            if proof is not None:
                return LoggedProof(event=row.body, salt=row.salt, proof=proof.to_bytes().decode())
            if not watch.wait(until):
                message = "the receipt is not in a checkpoint with so many cosignatures yet"
                raise NotLoggedError(message)


@routes.get("/v1/keys/<digest>/events", roles={Role.TENANT, Role.READER}, answers={200: LoggedPage}, parameters=_PAGE)
def list_key_events(call: Call[Account, None], digest: str) -> Answer:
    """List what was logged about one of the tenant's keys."""
    page = _page(call, object=key_object(digest), tenant=_pseudonym(call))
    if not page.events and call.text("after", pattern=r"[0-9]{1,15}") is None:
        raise not_found("key")
    return page


@routes.get(
    "/v1/audit/events",
    roles={Role.AUDITOR},
    answers={200: LoggedPage},
    parameters=_PAGE
    | {
        "object": ("query text", "only events about this object, such as `key:sha256:…` or `job:…`"),
        "tenant": ("query text", "only this tenant's, by its name or its pseudonym"),
        "action": ("query text", "only events of this action, such as `key.destroyed`"),
        "since": ("query text", "only from this time on, in milliseconds since 1970"),
        "until": ("query text", "only before this time"),
    },
)
def list_events(call: Call[Staff, None]) -> Answer:
    """List what was logged, in the order of the log, with what shows that it is what stands in the tree."""
    since, until = (call.text(name, pattern=r"[0-9]{1,15}") for name in ("since", "until"))
    tenant = call.text("tenant", pattern=r"[a-z0-9._-]{1,64}")
    if tenant is not None and not tenant.startswith("tenant-"):
        tenant = known_pseudonym(call.parts.database, "tenant", tenant) or "nobody"
    note_reading(call.parts, call.caller, "events")
    return _page(
        call,
        object=call.text("object", pattern=r"[a-z-]+:[A-Za-z0-9:._/-]{1,160}"),
        tenant=tenant,
        action=call.text("action", pattern="|".join(map(str, Action))),
        since=None if since is None else int(since),
        until=None if until is None else int(until),
    )


@routes.get(
    "/v1/audit/pseudonyms",
    roles={Role.AUDITOR},
    answers={200: PseudonymPage},
    parameters={
        "after": ("query text", "where to go on: what the page before gave as `after`"),
        "most": ("query", f"how many, at most {MOST}"),
    },
)
def list_pseudonyms(call: Call[Staff, None]) -> Answer:
    """List who is meant by the log's pseudonyms, as far as that was not erased."""
    most = call.query("most", default=_USUAL, most=MOST)
    after = call.text("after", pattern=r"[a-z]+-[0-9a-f]{32}") or ""
    note_reading(call.parts, call.caller, "pseudonyms")
    with call.parts.database.read() as connection:
        rows = connection.execute(_NAMES, {"after": after, "most": most}).all()
    found = tuple(PseudonymView(pseudonym=row.pseudonym, kind=row.kind, name=row.name) for row in rows)
    return PseudonymPage(pseudonyms=found, after=found[-1].pseudonym if len(found) == most else None)


def note_reading(parts: Parts, reader: Staff, what: str, *, exported: bool = False) -> None:
    """Let the log tell that somebody read it: once a minute for each reader, kind and process; of an export, each time."""
    action = Action.LOG_EXPORTED if exported else Action.LOG_READ
    if not exported:
        with parts.database.read() as connection:
            last = connection.memory.setdefault("readings", {})
        now, place = time.monotonic(), (reader.name, what)
        if now < last.get(place, 0.0):
            return
        last[place] = now + _READ_SECONDS
    origin = parts.log.sequencer.head().key.name
    with parts.database.write(durable=False) as connection:
        by = Actor(pseudonym_of(connection, "staff", reader.name), "auditor")
        tell(connection, action, log_object(origin), by=by, details={"what": what})


def _pseudonym(call: Call[Account, None]) -> str:
    return known_pseudonym(call.parts.database, "tenant", call.caller.tenant) or "nobody"


def _page(call: Call[Account, None] | Call[Staff, None], **wanted: object) -> LoggedPage:
    after = call.text("after", pattern=r"[0-9]{1,15}")
    return page_of(
        call.parts.database,
        size=call.parts.log.sequencer.head().size,
        after=-1 if after is None else int(after),
        most=max(1, call.query("most", default=_USUAL, most=MOST)),
        **wanted,
    )

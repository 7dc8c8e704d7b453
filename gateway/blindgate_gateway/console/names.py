"""Who is meant by the log's pseudonyms, as far as that was not erased."""

from typing import Final

from flask import Response
from sqlalchemy import bindparam, or_, select

from blindgate_gateway.console.filters import text_of
from blindgate_gateway.console.pages import auditor, console, parts, render
from blindgate_gateway.log.rooms import note_reading
from blindgate_gateway.tables import pseudonyms

PAGE: Final = 100
_BEHIND = pseudonyms.c.pseudonym > bindparam("after")
_ALL = (
    select(pseudonyms.c.kind, pseudonyms.c.name, pseudonyms.c.pseudonym, pseudonyms.c.created)
    .where(_BEHIND)
    .order_by(pseudonyms.c.pseudonym)
    .limit(bindparam("most"))
)
_THESE = _ALL.where(or_(pseudonyms.c.name == bindparam("wanted"), pseudonyms.c.pseudonym == bindparam("wanted")))


@console.get("/names")
def list_names() -> Response:
    """Pseudonyms with their names."""
    here = parts()
    wanted = text_of("name", r"[^\x00]{1,200}", "a name or a pseudonym, of at most 200 characters")
    after = text_of("after", r"[a-z]+-[0-9a-f]{32}", "a pseudonym") or ""
    note_reading(here, auditor(), "pseudonyms")
    with here.database.read() as connection:
        asked = {"after": after, "most": PAGE + 1} | ({} if wanted is None else {"wanted": wanted})
        rows = connection.execute(_ALL if wanted is None else _THESE, asked).all()
    older = rows[PAGE - 1].pseudonym if len(rows) > PAGE else None
    return render("names.html", rows=rows[:PAGE], wanted=wanted or "", after=older, is_first=not after)

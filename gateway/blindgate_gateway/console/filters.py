"""Which events a page is asked for: the fields of its form, each held to what it can be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from flask import request

from blindgate_gateway.database import Database
from blindgate_gateway.log.pseudonyms import known_pseudonym
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.events import Action

NOBODY: Final = "nobody"
_RULES: Final[Mapping[str, tuple[str, str]]] = {
    "object": (r"[a-z-]+:[A-Za-z0-9:._/-]{1,160}", "a kind and an id, such as job:… or key:sha256:…"),
    "tenant": (r"[a-z0-9._-]{1,64}", "a tenant's name or pseudonym: small letters, digits, dots, dashes"),
    "action": ("|".join(map(re.escape, Action)), "one of the log's actions"),
}
_TIMES: Final = ("since", "until")
_INDEX: Final = r"[0-9]{1,15}"


@dataclass(frozen=True)
class Filter:
    """What was asked.

    Attributes:
        given: each field as it was typed, empty where nothing was.
        wanted: what events must be, as `log.reading` takes it.
    """

    given: Mapping[str, str]
    wanted: Mapping[str, Any]

    @property
    def query(self) -> Mapping[str, str]:
        """The fields that say something, for a link to the same."""
        return {name: text for name, text in self.given.items() if text}

    @property
    def told(self) -> str:
        """The filter as the log tells of it, where no name may stand."""
        return "; ".join(f"{name}={value}" for name, value in self.wanted.items()) or "all"


def filter_of(database: Database) -> Filter:
    """What this request's query asks for. Raises `MalformedError`, naming the field and its rule."""
    given = {name: request.args.get(name, "").strip() for name in (*_RULES, *_TIMES)}
    wanted: dict[str, Any] = {}
    for name, (pattern, rule) in _RULES.items():
        if given[name]:
            wanted[name] = _matched(given[name], pattern, name, rule)
    tenant = wanted.get("tenant")
    if tenant is not None and not re.fullmatch(r"tenant-[0-9a-f]{32}", tenant):
        wanted["tenant"] = known_pseudonym(database, "tenant", tenant) or NOBODY
    for name in _TIMES:
        if given[name]:
            wanted[name] = _millis(given[name], name)
    return Filter(given, wanted)


def text_of(name: str, pattern: str, rule: str) -> str | None:
    """A field of the query, which matches `pattern`, or `None` where it is empty. Raises `MalformedError`."""
    text = request.args.get(name, "").strip()
    return _matched(text, pattern, name, rule) if text else None


def index_of(name: str) -> int | None:
    """An index of the log in the query. Raises `MalformedError`."""
    text = text_of(name, _INDEX, "an index of the log")
    return None if text is None else int(text)


def _matched(text: str, pattern: str, name: str, rule: str) -> str:
    if not re.fullmatch(pattern, text):
        message = f"{name} must be {rule}"
        raise MalformedError(message)
    return text


def _millis(text: str, name: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        message = f"{name} must be a time, such as 2026-05-17T08:30, in UTC"
        raise MalformedError(message) from error

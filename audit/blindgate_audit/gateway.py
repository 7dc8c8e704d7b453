"""A gateway as an auditor asks it: events with their bodies, and the records of keys, jobs and nodes, page by page.

Lists are given one entry or one page at a time, so their length costs no memory. A list that does not go forward is refused: a
gateway cannot keep an auditor turning in a circle.

Whoever is turned away is told whose key this takes, and what can be done without it. A tenant's key is not even sent to a route
that it cannot open.
"""

import itertools
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from blindgate_audit.fetching import Web
from blindgate_protocol.errors import MalformedError, NotAuthorisedError, NotFoundError
from blindgate_protocol.logged import Logged, LoggedPage, LogView
from blindgate_protocol.signing import first_error

MAX_ANSWER_BYTES: Final = 64 << 20
"""The most that one page may have."""

MOST_EVENTS: Final = 1000
"""How many events a page may be asked to have."""

_MOST_RECORDS: Final = 200
_MOST_PLACE: Final = 400
_TENANTS: Final = "bg_"
"""How a tenant's API key begins."""

_OF_AUDITORS: Final = "/v1/audit/"
_WHOSE: Final = (
    "Events and records are shown to auditors: --api-key, or BLINDGATE_API_KEY, must be a key that the gateway's operator makes "
    "with `blindgate gateway staff add NAME --role auditor`"
)
_OWN: Final = "--api-key, or BLINDGATE_API_KEY, must be the key of the tenant whose these are, or an auditor's"

AnswerT = TypeVar("AnswerT")


class Page(Protocol):
    """What lists of records have in common: where to go on."""

    @property
    def after(self) -> str | None:
        """The place of the last entry, or the one that was asked with."""


PageT = TypeVar("PageT", bound=Page)


class Gateway:
    """A gateway's routes for auditors. To be closed; a context manager.

    Attributes:
        is_tenants: whether the API key is a tenant's, which opens none of the routes for auditors.
    """

    def __init__(self, url: str, api_key: str | None, *, ca: str | None = None, otherwise: str = "") -> None:
        """Ask the gateway at `url` (the gateway's address, not its log's) with this API key. Raises `GatewayError`.

        `otherwise`: what whoever has no auditor's key can do instead, a sentence; said where the key does not open a route.
        """
        self._web = Web(url, api_key=api_key, ca=ca)
        self._otherwise = otherwise
        self.url = self._web.url
        self.is_tenants = api_key is not None and api_key.startswith(_TENANTS)

    def get(self, path: str, answer: type[AnswerT], parameters: Mapping[str, str] | None = None) -> AnswerT:
        """GET one message. Raises `MalformedError` for what is none, and what `Web.fetch` raises."""
        for_auditors = path.startswith(_OF_AUDITORS)
        whose = ". ".join(filter(None, (_WHOSE, self._otherwise))) if for_auditors else _OWN
        if for_auditors and self.is_tenants:
            message = f"{self.url}: this API key is a tenant's. {whose}"
            raise NotAuthorisedError(message)
        try:
            body = self._web.fetch(path, most=MAX_ANSWER_BYTES, parameters=parameters)
        except NotAuthorisedError as error:
            message = f"{error}. {whose}"
            raise NotAuthorisedError(message, status=error.status, problem=error.problem) from error
        except NotFoundError as error:
            if not for_auditors or error.problem is not None:
                raise
            message = ". ".join(filter(None, (f"{error}. A copy of a log has no events to give", self._otherwise)))
            raise NotFoundError(message, status=error.status, problem=error.problem) from error
        try:
            return TypeAdapter(answer).validate_json(body)
        except ValidationError as error:
            message = f"{self.url}{path}: the answer is malformed: {first_error(error)}"
            raise MalformedError(message) from error

    def require_auditor(self) -> None:
        """Ask for one event, before a log is read for nothing. Raises `NotAuthorisedError` where the key is no auditor's."""
        self.get("/v1/audit/events", LoggedPage, {"most": "1"})

    def log(self) -> LogView:
        """What the gateway says of its log: above all its key."""
        return self.get("/v1/log", LogView)

    def events(  # noqa: PLR0913  (the route's parameters)
        self,
        after: int | None = None,
        *,
        object_id: str | None = None,
        tenant: str | None = None,
        action: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> Iterator[Logged]:
        """Every event behind the index `after`, or from the first on; only those that the filters let through.

        `tenant` is the tenant's name, `since` and `until` are milliseconds since 1970. Nothing is verified.
        """
        filters = {"object": object_id, "tenant": tenant, "action": action, "since": since, "until": until}
        given = {name: str(value) for name, value in filters.items() if value is not None}
        return self.logged("/v1/audit/events", after, given)

    def logged(
        self, path: str, after: int | None = None, parameters: Mapping[str, str] | None = None
    ) -> Iterator[Logged]:
        """Every event of a route that gives `LoggedPage`s. Raises `MalformedError` where their order is not the log's."""
        last = -1 if after is None else after
        while True:
            place = {} if last < 0 else {"after": str(last)}
            page = self.get(path, LoggedPage, {**(parameters or {}), "most": str(MOST_EVENTS), **place})
            indexes = [last, *(one.index for one in page.events)]
            if any(left >= right for left, right in itertools.pairwise(indexes)):
                message = f"{self.url}{path}: events that are not in the order of the log, behind index {last}"
                raise MalformedError(message)
            yield from page.events
            if page.after is None:
                return
            if page.after < indexes[-1] or page.after <= last:
                message = f"{self.url}{path}: a page behind index {last} that goes on behind index {page.after}"
                raise MalformedError(message)
            last = page.after

    def pages(self, path: str, kind: type[PageT]) -> Iterator[PageT]:
        """Every page of a list of records, such as `/v1/audit/keys` with `StatementRecords`."""
        asked: set[str] = set()
        after: str | None = None
        while True:
            place = {} if after is None else {"after": after}
            page = self.get(path, kind, {"most": str(_MOST_RECORDS), **place})
            yield page
            if page.after is None or page.after == after:
                return
            if page.after in asked or len(page.after) > _MOST_PLACE:
                message = f"{self.url}{path}: a list that does not go forward"
                raise MalformedError(message)
            after = page.after
            asked.add(after)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

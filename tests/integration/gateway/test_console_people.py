"""Auditors who sign in elsewhere, at the console: for as long as their token is good, and worth the role."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from blindgate_gateway.console.sessions import MOST, shown_grounds, sweep_sessions
from blindgate_gateway.parts import Parts
from blindgate_gateway.tables import events, sessions
from blindgate_protocol.events import Action, Event
from desk import Desk, open_desk
from issuer import AUDIENCE, Issuer

SAME = {"Sec-Fetch-Site": "same-origin"}
ROLES = {"staff": "operator", "revision": "auditor", "doctors": "jobs"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """An honest issuer."""
    made = Issuer()
    yield made
    made.close()


@pytest.fixture
def desk(issuer: Issuer, tmp_path: Path, database_url: str | None) -> Iterator[Desk]:
    """A gateway that takes its tokens, on each database."""
    given = {"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE, "oidc_roles": ROLES, "failures": 0}
    with open_desk(tmp_path, database=database_url, **given) as made:
        yield made


def sign_in(desk: Desk, token: str) -> httpx2.Response:
    """Send the form."""
    return desk.http.post("/console/sign-in", data={"key": token}, headers=SAME)


def opens(desk: Desk) -> bool:
    """Whether the session is good for a page."""
    cookie = {"Cookie": f"blindgate-console={desk.http.cookies['blindgate-console']}"}
    answer = desk.http.get("/console/keys", headers=cookie)
    assert answer.status_code in {200, 303}
    return answer.status_code == 200


def told(desk: Desk, action: Action) -> list[Event]:
    """The events of one kind."""
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(events.c.body).where(events.c.action == action.value)).scalars()
    return [Event.from_bytes(body.encode()) for body in rows]


def rows(desk: Desk) -> list[Any]:
    """The sessions."""
    with desk.parts.database.read() as connection:
        return list(connection.execute(select(sessions)).all())


@pytest.mark.parametrize("key", ["first", "second"])
def test_an_auditors_token_opens_the_console_and_is_not_kept(desk: Desk, issuer: Issuer, key: str) -> None:
    """It is pasted where an API key would be; the log tells who, by a pseudonym, and no word of the token."""
    assert "API key or token" in desk.http.get("/console/sign-in").text
    token = issuer.token(key, roles=["revision"])
    assert sign_in(desk, token).headers["Location"] == "/console/"
    assert opens(desk)
    assert "oidc:ann" in desk.http.get("/console/").text
    (row,), (began,) = rows(desk), told(desk, Action.SESSION_STARTED)
    assert not any(part in str(row) for part in token.split("."))
    times = {"created": str(row.created), "expires": str(row.expires), "until": str(row.expires)}
    assert began.details == {"credential": "token", "grounds": shown_grounds(row.token_hash, row.grounds), **times}
    assert re.fullmatch(r"staff-[0-9a-f]{32}", began.actor)
    desk.http.post("/console/sign-out", headers=SAME)
    assert [event.actor for event in told(desk, Action.SESSION_ENDED)] == [began.actor]


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        pytest.param(lambda one: one.token(roles=["staff"]), 403, "This token is good, but not", id="an operator's"),
        pytest.param(lambda one: one.token(roles=["doctors"], tenant="bank"), 403, "not an auditor", id="a tenant's"),
        pytest.param(lambda one: one.token(roles=["others"]), 403, "not an auditor", id="nobody's"),
        pytest.param(lambda one: one.token(roles=["revision"], exp=1), 401, "has expired", id="expired"),
        pytest.param(
            lambda one: one.token(roles=["revision"], exp=int(time.time()) - 5), 401, "has expired", id="just expired"
        ),
        pytest.param(lambda one: one.token(roles=["revision"], aud="other"), 401, "not valid here", id="for another"),
        pytest.param(lambda one: one.token(roles=["revision"])[:-8] + "AAAAAAAA", 401, "not valid", id="altered"),
        pytest.param(lambda _: "a.b.c", 401, "not valid here", id="of its shape alone"),
        pytest.param(lambda _: "a.b.c d", 401, "not a valid API key", id="not of its shape"),
    ],
)
@pytest.mark.sqlite
def test_no_other_token_opens_it(
    desk: Desk, issuer: Issuer, make: Callable[[Issuer], str], status: int, words: str
) -> None:
    """And the form says why."""
    answer = sign_in(desk, make(issuer))
    assert (answer.status_code, "Set-Cookie" in answer.headers, rows(desk)) == (status, False, [])
    assert words in answer.text.replace("&#39;", "'")


def test_a_session_ends_with_the_token(desk: Desk, issuer: Issuer) -> None:
    """By the database's clock, and is forgotten then."""
    ends = int(time.time()) + 300
    sign_in(desk, issuer.token(roles=["revision"], exp=ends))
    (row,) = rows(desk)
    assert row.expires == ends * 1000
    with desk.parts.database.write() as connection:
        connection.execute(update(sessions).values(expires=row.created))
    assert not opens(desk)
    sweep_sessions(desk.parts.database)
    assert rows(desk) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"oidc_roles": {"revision": "operator"}}, id="the role means another"),
        pytest.param({"oidc_roles": {}}, id="the role means nothing"),
        pytest.param({"oidc_claim": "groups"}, id="another claim counts"),
        pytest.param({"oidc_audience": "other"}, id="another audience"),
    ],
)
def test_a_session_ends_with_what_gave_the_role(desk: Desk, issuer: Issuer, change: dict[str, Any]) -> None:
    """A gateway that starts under other settings takes a session no more than it would take the token."""
    sign_in(desk, issuer.token(roles=["revision", "staff"]))
    assert opens(desk)
    people = desk.parts.doorkeeper.people
    assert people is not None
    people._settings = people._settings.model_copy(update=change)
    assert not opens(desk)


@pytest.mark.sqlite
def test_a_session_ends_where_no_issuer_is_named_any_more(
    desk: Desk, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor would its tokens count."""
    sign_in(desk, issuer.token(roles=["revision"]))
    parts: Parts = desk.parts
    monkeypatch.setitem(parts.doorkeeper.__dict__, "people", None)
    assert not opens(desk)


@pytest.mark.sqlite
def test_a_session_ends_with_the_issuers_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer that withdraws a key withdraws what was signed with it."""
    own = Issuer()
    try:
        people = desk.parts.doorkeeper.people
        assert people is not None
        settings = people._settings.model_copy(update={"oidc_issuer": own.url})
        monkeypatch.setitem(desk.parts.doorkeeper.__dict__, "people", type(people)(settings, desk.parts.database))
        sign_in(desk, own.token(roles=["revision"]))
        assert opens(desk)
        del own.keys["first"]
        own.publish()
        renewed = desk.parts.doorkeeper.people
        assert renewed is not None
        renewed._keys._fetched = renewed._keys._tried = -1e9  # an hour later
        assert not opens(desk)
    finally:
        own.close()


def test_a_person_has_so_many_sessions_at_most(desk: Desk, issuer: Issuer) -> None:
    """And another's are not counted among them."""
    sign_in(desk, issuer.token(roles=["revision"], sub="bea"))
    token = issuer.token(roles=["revision"])
    for _ in range(MOST + 2):
        desk.http.cookies.clear()
        sign_in(desk, token)
    assert sorted(row.person for row in rows(desk)) == ["oidc:ann"] * MOST + ["oidc:bea"]


def test_without_an_issuer_a_token_is_a_wrong_key(tmp_path: Path, issuer: Issuer) -> None:
    """And the form does not speak of tokens."""
    with open_desk(tmp_path) as plain:
        assert "or token" not in plain.http.get("/console/sign-in").text
        assert sign_in(plain, issuer.token(roles=["revision"])).status_code == 401

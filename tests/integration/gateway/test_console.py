"""The auditors' console over HTTP: who gets in, what the pages say, what they never do."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, update

from blindgate_gateway.console.exports import cell
from blindgate_gateway.console.sessions import IDLE, MOST, WHOLE, sweep_sessions
from blindgate_gateway.console.shown import WORDS
from blindgate_gateway.identity import StaffRole, revoke_api_key
from blindgate_gateway.log.erasing import erase_events, erase_name
from blindgate_gateway.log.objects import key_object
from blindgate_gateway.log.pseudonyms import pseudonym_of
from blindgate_gateway.log.telling import GATEWAY, Actor, tell, tenant_actor
from blindgate_gateway.settings import DAY
from blindgate_gateway.tables import api_keys, events, job_documents, pseudonyms, sessions
from blindgate_protocol.canonical import digest
from blindgate_protocol.checkpoints import Checkpoint, EntryProof, LogTrust, cosign
from blindgate_protocol.events import Action, Event, leaf_of
from blindgate_protocol.keys import KeyState
from blindgate_protocol.logged import Logged
from blindgate_protocol.messages import Lease
from blindgate_protocol.notes import KeyKind, SignatureLine, VerifierKey, parse_note
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import open_signed
from brokerage import random_bytes
from desk import Desk, connection_to, open_desk

SAME = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a form that the console's own page sends."""
HTMX = {"HX-Request": "true"}
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Desk]:
    """A gateway with one of everybody, on each database."""
    with open_desk(tmp_path, database=database_url) as made:
        yield made


@pytest.fixture
def browser(desk: Desk) -> Iterator[httpx2.Client]:
    """An auditor who signed in."""
    with connection_to(desk.app, desk.parts.settings) as http:
        assert sign_in(http, desk.auditor.token).status_code == 303
        yield http


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """An auditor who signed in once for all tests that only look."""
    with open_desk(tmp_path_factory.mktemp("read")) as desk, connection_to(desk.app, desk.parts.settings) as http:
        assert sign_in(http, desk.auditor.token).status_code == 303
        desk.parts.log.sequencer.advance()
        yield http


def sign_in(http: httpx2.Client, key: str | None, **headers: str) -> httpx2.Response:
    """Send the form."""
    return http.post("/console/sign-in", data={"key": key or ""}, headers=SAME | headers)


def finished(desk: Desk) -> Lease:
    """A job with a receipt, which stands in the log."""
    lease = desk.leased()
    desk.worker.finish(lease, b"result")
    desk.parts.log.sequencer.advance()
    return lease


def index_of(desk: Desk, what: str, action: Action) -> int:
    """Where the log has the last such event."""
    desk.parts.log.sequencer.advance()
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(events.c.position, events.c.object, events.c.action)).all()
    return max(int(row.position) for row in rows if (row.object, row.action) == (what, action.value))


def told(desk: Desk, action: Action) -> list[Event]:
    """The events of one kind."""
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(events.c.body).where(events.c.action == action.value)).scalars()
    return [Event.from_bytes(body.encode()) for body in rows]


def auditors_pseudonym(desk: Desk) -> str:
    """Who signs in."""
    with desk.parts.database.read() as connection:
        return str(connection.execute(select(pseudonyms.c.pseudonym).where(pseudonyms.c.kind == "staff")).scalar())


def change_session(desk: Desk, **values: Any) -> None:
    """Let the session be older."""
    with desk.parts.database.write() as connection:
        connection.execute(update(sessions).values(values))


def test_every_action_has_words() -> None:
    """No page shows what only programs read."""
    assert set(WORDS) == set(Action)


# Signing in


def test_an_auditors_key_opens_the_console_and_its_cookie_is_for_it_alone(desk: Desk) -> None:
    """The key is shown once; the cookie holds another secret, of which only the hash is kept."""
    answer = sign_in(desk.http, desk.auditor.token)
    cookie = answer.headers["Set-Cookie"]
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/")
    assert re.fullmatch(r"blindgate-console=[\w-]{43}; HttpOnly; Path=/console; SameSite=Strict", cookie), (
        "on this machine, without TLS"
    )
    token = answer.cookies["blindgate-console"]
    with desk.parts.database.read() as connection:
        (row,) = connection.execute(select(sessions)).all()
    assert token not in str(row)
    assert desk.auditor.token is not None
    assert row.api_key in desk.auditor.token
    desk.http.cookies.clear()
    assert desk.http.get("/v1/audit/events", headers={"Cookie": f"blindgate-console={token}"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "gateway.example.org"}, id="another machine"),
        pytest.param({"X-Forwarded-Proto": "https"}, id="a proxy that speaks TLS"),
    ],
)
@pytest.mark.sqlite
def test_the_cookie_travels_over_tls_alone(desk: Desk, headers: dict[str, str]) -> None:
    """Everywhere but on the gateway's own machine."""
    assert "; Secure" in sign_in(desk.http, desk.auditor.token, **headers).headers["Set-Cookie"]


def test_other_keys_do_not_open_it_and_failures_are_told(desk: Desk) -> None:
    """An operator's is refused as such; a wrong one is one more failed login, as anywhere."""
    auditor = desk.auditor.token
    assert auditor is not None
    for key, status, words in (
        (desk.operator.token, 403, "not an auditor&#39;s"),
        (desk.tenant.token, 401, "not a valid API key"),
        (auditor[:-43] + "A" * 43, 401, "not a valid API key"),
        ("eyJ.eyJ.x", 401, "not a valid API key"),
        ("\r\nX: y", 401, "not a valid API key"),
        ("", 401, "not a valid API key"),
    ):
        answer = sign_in(desk.http, key)
        assert (answer.status_code, words in answer.text) == (status, True), key
        assert "Set-Cookie" not in answer.headers
        assert not key or key not in answer.text
    failed = {event.object for event in told(desk, Action.LOGIN_FAILED)}
    assert failed == {f"credential:{auditor[3:19]}", "credential:unknown"}


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    """By the same limit as for the API, and the form says when to come again."""
    with open_desk(tmp_path, failures=3) as desk:
        for _ in range(3):
            assert sign_in(desk.http, "bs_0000000000000000." + "A" * 43).status_code == 401
        answer = sign_in(desk.http, "bs_0000000000000000." + "A" * 43)
        assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (429, True)
        assert "too many credentials" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nobody says where it was sent from"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="a neighbour's"),
        pytest.param({"Sec-Fetch-Site": "none", "Origin": "http://127.0.0.1"}, id="no page"),
        pytest.param({"Origin": "null"}, id="an origin that is none"),
        pytest.param({"Origin": "https://evil.example"}, id="another origin"),
    ],
)
@pytest.mark.parametrize("path", ["/console/sign-in", "/console/sign-out"])
@pytest.mark.sqlite
def test_a_form_of_another_site_does_nothing(
    desk: Desk, browser: httpx2.Client, path: str, headers: dict[str, str]
) -> None:
    """Neither signing somebody in nor out."""
    answer = browser.post(path, data={"key": desk.auditor.token}, headers=headers)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (403, False)
    assert browser.get("/console/").status_code == 200


@pytest.mark.sqlite
def test_a_browser_that_names_its_origin_is_enough(desk: Desk) -> None:
    """Where it says nothing of sites."""
    origin = {"Origin": str(desk.http.base_url).rstrip("/")}
    assert desk.http.post("/console/sign-in", data={"key": desk.auditor.token}, headers=origin).status_code == 303


def test_signing_out_ends_the_session_for_whoever_has_the_token(desk: Desk, browser: httpx2.Client) -> None:
    """Not only in this browser."""
    token = browser.cookies["blindgate-console"]
    answer = browser.post("/console/sign-out", headers=SAME)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/sign-in")
    assert "blindgate-console=;" in answer.headers["Set-Cookie"]
    assert desk.http.get("/console/", headers={"Cookie": f"blindgate-console={token}"}).status_code == 303


@pytest.mark.parametrize(
    ("age", "status"),
    [
        pytest.param({"used": IDLE - 60_000}, 200, id="a little idle"),
        pytest.param({"used": IDLE + 1000}, 303, id="idle for half an hour"),
        pytest.param({"created": WHOLE + 1000}, 303, id="eight hours old, and busy"),
    ],
)
def test_a_session_ends_by_itself(desk: Desk, browser: httpx2.Client, age: dict[str, int], status: int) -> None:
    """After half an hour without use, or eight hours in all; then it is forgotten."""
    with desk.parts.database.read() as connection:
        now = connection.execute(select(sessions.c.created)).scalar()
    change_session(desk, **{name: now - millis for name, millis in age.items()})
    assert browser.get("/console/log").status_code == status
    sweep_sessions(desk.parts.database)
    with desk.parts.database.read() as connection:
        assert len(connection.execute(select(sessions)).all()) == (status == 200)


def test_being_used_keeps_a_session(desk: Desk, browser: httpx2.Client) -> None:
    """From then on another half an hour."""
    with desk.parts.database.read() as connection:
        now = connection.execute(select(sessions.c.created)).scalar()
    change_session(desk, used=now - IDLE + 60_000)
    assert browser.get("/console/log").status_code == 200
    with desk.parts.database.read() as connection:
        assert connection.execute(select(sessions.c.used)).scalar() >= now


def test_a_revoked_key_ends_its_sessions_with_the_next_request(desk: Desk, browser: httpx2.Client) -> None:
    """The browser is sent to sign in and forgets its token; htmx is told to go there."""
    assert desk.auditor.token is not None
    revoke_api_key(desk.parts.database, desk.auditor.token.partition(".")[0], staff=True)
    part = browser.get("/console/log/0/check", headers=HTMX)
    assert (part.status_code, part.headers["HX-Redirect"]) == (401, "/console/sign-in")
    page = browser.get("/console/log", headers={"Cookie": "blindgate-console=x"})
    assert (page.status_code, page.headers["Location"]) == (303, "/console/sign-in")
    assert "blindgate-console=;" in page.headers["Set-Cookie"]


def test_an_expired_key_and_a_changed_role_end_them_too(desk: Desk, browser: httpx2.Client) -> None:
    """What counts is what the key is now."""
    for change, back in (({"expires": 1}, {"expires": None}), ({"scopes": "operator"}, {"scopes": "auditor"})):
        for values, status in ((change, 303), (back, 200)):
            with desk.parts.database.write() as connection:
                connection.execute(update(api_keys).where(api_keys.c.staff.is_not(None)).values(values))
            token = {"Cookie": f"blindgate-console={browser.cookies['blindgate-console']}"}
            assert desk.http.get("/console/log", headers=token).status_code == status


def test_a_key_has_so_many_sessions_at_most(desk: Desk) -> None:
    """Whoever signs in for ever fills nothing."""
    for _ in range(MOST + 3):
        desk.http.cookies.clear()
        sign_in(desk.http, desk.auditor.token)
    with desk.parts.database.read() as connection:
        assert len(connection.execute(select(sessions)).all()) == MOST
    assert desk.http.get("/console/").status_code == 200, "the last one goes on"


def test_signing_in_and_out_is_told_to_the_log(desk: Desk) -> None:
    """With who it was by pseudonym and which key they showed; the session's name is one with which nobody can sign in."""
    sign_in(desk.http, desk.auditor.token)
    token = desk.http.cookies["blindgate-console"]
    with desk.parts.database.read() as connection:
        created = connection.execute(select(sessions.c.created)).scalar()
    desk.http.post("/console/sign-out", headers=SAME)
    (began,), (ended,) = told(desk, Action.SESSION_STARTED), told(desk, Action.SESSION_ENDED)
    assert (began.actor, began.role, began.after) == (auditors_pseudonym(desk), "auditor", "active")
    assert (ended.actor, ended.before, ended.after, ended.reason) == (began.actor, "active", "ended", "signed out")
    assert began.object == ended.object
    assert re.fullmatch(r"session:[0-9a-f]{32}", began.object)
    assert token not in began.to_bytes().decode()
    assert desk.auditor.token is not None
    until = str(created + WHOLE)
    assert began.details == {"credential": desk.auditor.token[3:19], "created": str(created), "until": until}
    assert all(event.request for event in (began, ended))


def test_a_session_that_another_takes_the_place_of_is_told_as_ended(desk: Desk) -> None:
    """In the same browser, or since there were too many; what had ended by itself is told as that."""
    for _ in range(2):
        sign_in(desk.http, desk.auditor.token)
    first, second = (event.object for event in told(desk, Action.SESSION_STARTED))
    (ended,) = told(desk, Action.SESSION_ENDED)
    assert (ended.object, ended.reason) == (first, "signed in anew")
    for _ in range(MOST):
        desk.http.cookies.clear()
        sign_in(desk.http, desk.auditor.token)
    (_, pushed_out) = told(desk, Action.SESSION_ENDED)
    assert (pushed_out.object, pushed_out.reason) == (second, f"more than {MOST} sessions")
    change_session(desk, used=1)
    sign_in(desk.http, desk.auditor.token)
    over = {(event.actor, event.reason) for event in told(desk, Action.SESSION_ENDED)[2:]}
    assert over == {("gateway", "withdrawn, or not used for 30 minutes")}


def test_a_sign_in_without_its_event_did_not_happen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stand in one transaction."""

    def fail(*_args: object, **_named: object) -> None:
        message = "no event can be written"
        raise OSError(message)

    monkeypatch.setattr("blindgate_gateway.console.sessions.tell", fail)
    assert sign_in(desk.http, desk.auditor.token).status_code == 500
    with desk.parts.database.read() as connection:
        assert connection.execute(select(sessions)).all() == []


def test_the_console_can_be_off(tmp_path: Path) -> None:
    """Then there is nothing under its path."""
    with open_desk(tmp_path, console=False) as desk:
        for path in ("/console/", "/console/sign-in", "/console/static/console.css"):
            assert desk.http.get(path).json()["code"] == "not-found"


# What holds for each page


PAGES = ("/", "/keys", "/jobs", "/log", "/log/0", "/exports", "/names", "/sign-in")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_nothing_that_its_policy_forbids(reader: httpx2.Client, path: str) -> None:
    """No inline script or style, nothing from elsewhere; it is kept in no cache and shown in no frame."""
    answer = reader.get(f"/console{path}")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|https?://", answer.text)
    assert re.findall(r"<script[^>]*>(.*?)</script>", answer.text) == [""]
    for reference in re.findall(r'(?:href|src|action)="([^"#]+)"', answer.text):
        assert reference.startswith("/console"), reference
    for reference in re.findall(r'(?:href|src)="(/console/static/[^"]+)"', answer.text):
        assert reader.get(reference).status_code == 200


@pytest.mark.sqlite
def test_htmx_comes_with_its_licence(desk: Desk) -> None:
    """Both are served from here, without a session."""
    assert desk.http.get("/console/static/htmx.min.js").headers["Content-Type"].startswith("text/javascript")
    assert desk.http.get("/console/static/htmx.LICENSE.txt").text.startswith("Zero-Clause BSD")
    for path in ("/console/static/../pages.py", "/console/static/%2e%2e/pages.py", "/console/static/x"):
        assert desk.http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        pytest.param("/log?object=%3Cscript%3E", 422, "object must be a kind and an id", id="object"),
        pytest.param("/log?tenant=A%20B", 422, "tenant must be a tenant", id="tenant"),
        pytest.param("/log?action=key.eaten", 422, "action must be one of", id="action"),
        pytest.param("/log?since=yesterday", 422, "since must be a time", id="since"),
        pytest.param("/log?until=9999999-01-01T00:00", 422, "until must be a time", id="until"),
        pytest.param("/log?before=-1", 422, "before must be an index", id="before"),
        pytest.param("/exports/events.csv?action=x", 422, "action must be one of", id="export"),
        pytest.param("/keys?digest=%25", 422, "digest must be the beginning", id="digest"),
        pytest.param("/keys?after=x", 422, "after must be where a page ended", id="after"),
        pytest.param("/jobs?job=1", 422, "job must be a job", id="job"),
        pytest.param("/names?name=%00", 422, "name must be a name", id="a zero"),
        pytest.param("/log/99999999999999999999", 404, "no such entry", id="no such entry"),
        pytest.param("/log/99999999999999999999/proof", 404, "no such entry", id="no such proof"),
        pytest.param("/jobs/x", 404, "no such job", id="no id of a job"),
        pytest.param("/jobs/" + "0" * 32, 404, "no such job", id="no such job"),
        pytest.param("/keys/sha256:" + "0" * 64, 404, "no such key", id="no such key"),
        pytest.param("/keys/x", 404, "no such key", id="no digest"),
        pytest.param("/jobs/" + "0" * 32 + "/receipt", 404, "no such receipt", id="no such receipt"),
    ],
)
def test_what_is_asked_wrongly_is_refused_in_words(reader: httpx2.Client, path: str, status: int, words: str) -> None:
    """On a page for people, which names the field and its rule."""
    answer = reader.get(f"/console{path}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert words in answer.text.replace("&#39;", "'")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script>" not in answer.text


@pytest.mark.sqlite
def test_a_form_that_is_too_long_is_refused(desk: Desk) -> None:
    """Before it is read."""
    assert sign_in(desk.http, "A" * 20_000).status_code == 413


@pytest.mark.sqlite
def test_what_strangers_say_is_text(desk: Desk, browser: httpx2.Client) -> None:
    """On every page that shows it, also where it stands in an attribute, and in the log's details."""
    job = desk.leased()
    with desk.parts.database.write() as connection:
        pseudonym_of(connection, "person", MARKUP)
        for action, what in (
            (Action.JOB_FAILED, f"job:{job.job}"),
            (Action.KEY_SENT, key_object(digest(b"k"))),
        ):
            tell(connection, action, what, by=GATEWAY, reason=MARKUP, details={"note": MARKUP})
    index = index_of(desk, f"job:{job.job}", Action.JOB_FAILED)
    for path in (f"/jobs/{job.job}", f"/keys/{digest(b'k')}", f"/log/{index}", "/log", "/names"):
        text = browser.get(f"/console{path}").text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert path == "/log" or "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&gt;&lt;img" in text, path
    searched = browser.get("/console/names", params={"name": '"><b>x'}).text
    assert 'value="&#34;&gt;&lt;b&gt;x"' in searched


# What the pages say


def test_the_overview_says_how_the_log_stands(desk: Desk, browser: httpx2.Client) -> None:
    """Size, root, key, what waits, what happened today; and that nobody watches, where nobody does."""
    finished(desk)
    view = desk.http.get("/v1/log").json()
    text = browser.get("/console/").text
    head = desk.parts.log.sequencer.head()
    assert f"<dt>Entries</dt><dd>{view['size']}</dd>" in text
    assert view["key"].replace("+", "&#43;") in text or view["key"] in text
    assert head.checkpoint.split("\n")[0] in text
    assert re.search(r"job\.succeeded</a></th>.*?\n?.*Job succeeded</td>\n.*>1</td>", text)
    assert "No witness is asked." in text
    with desk.parts.database.write() as connection:
        connection.execute(update(events).values(time=events.c.time - 2 * DAY))
    assert "job.succeeded" not in browser.get("/console/").text


def test_the_overview_says_what_each_witness_cosigned(tmp_path: Path) -> None:
    """Last, and how far behind that is; a line that is not the witness's counts as none."""
    private = [Ed25519PrivateKey.generate() for _ in range(3)]
    keys = [
        VerifierKey(f"w{number}.example", KeyKind.COSIGNATURE, one.public_key().public_bytes_raw())
        for number, one in enumerate(private)
    ]
    witnesses = {f"http://{key.name}": str(key) for key in keys}
    with open_desk(tmp_path, witnesses=witnesses) as desk:
        desk.parts.log.sequencer.advance()
        head = desk.parts.log.sequencer.head()
        tree = Checkpoint.parse(parse_note(head.checkpoint.encode()).text)
        for signer, key in ((private[0], keys[0]), (private[2], keys[1])):
            line = cosign(tree, signer, name=key.name, seconds=1_700_000_000)
            line = SignatureLine(line.name, key.id, line.signature)
            desk.parts.log._note_cosignatures(head, {str(key): str(line)})
        finished(desk)
        sign_in(desk.http, desk.auditor.token)
        text = desk.http.get("/console/").text
        rows = {
            key.name: re.sub(r"<[^>]+>", " ", found)
            for key in keys
            for found in re.findall(rf"{key.name}</code>(.*?)</tr>", text, re.DOTALL)
        }
        now = int(desk.http.get("/v1/log").json()["size"])
    assert "2023-11-14 22:13:20.000" in rows["w0.example"]
    assert rows["w0.example"].split()[-2:] == [str(tree.size), str(now - tree.size)]
    assert "does not verify" in rows["w1.example"]
    assert "2023" not in rows["w1.example"]
    assert "never" in rows["w2.example"]


def test_the_log_is_paged_from_its_end_and_filtered(desk: Desk, browser: httpx2.Client) -> None:
    """Each entry once; a filter's fields stay as they were typed; tenants are found by name."""
    for _ in range(60):
        desk.submit()
    desk.parts.log.sequencer.advance()
    seen: list[int] = []
    path: str | None = "/console/log"
    while path is not None:
        text = browser.get(path).text
        seen += [int(found) for found in re.findall(r'data-label="Index"><a href="/console/log/(\d+)"', text)]
        older = re.search(r'rel="next" href="([^"]+)"', text)
        path = None if older is None else older[1].replace("&amp;", "&")
    assert seen == sorted(seen, reverse=True)
    assert set(range(60)) < set(seen)
    assert len(seen) == len(set(seen)) == seen[0] + 1
    found = browser.get("/console/log?tenant=bank&action=job.submitted&since=2020-01-01T00:00").text
    assert '<option value="job.submitted" selected>' in found
    assert 'value="bank"' in found
    assert found.count('<td role="cell" data-label="Action">job.submitted') == 50
    for nothing in ("tenant=nobody-knows", "tenant=clinic&action=job.submitted", "until=2020-01-01T00:00"):
        assert "No entry of the log" in browser.get(f"/console/log?{nothing}").text


@pytest.mark.sqlite
def test_an_entry_is_held_against_the_tree(desk: Desk, browser: httpx2.Client) -> None:
    """And what is downloaded proves it to anybody; a body that was altered in the database is named."""
    lease = finished(desk)
    index = index_of(desk, f"job:{lease.job}", Action.JOB_SUCCEEDED)
    text = browser.get(f"/console/log/{index}").text
    assert f"Entry {index} stands in the log's tree" in text
    assert "Does not hold." not in text
    with desk.parts.database.read() as connection:
        row = connection.execute(select(events.c.body, events.c.salt).where(events.c.position == index)).one()
    proof = EntryProof.parse(browser.get(f"/console/log/{index}/proof").content)
    proof.verify(leaf_of(row.body.encode(), row.salt), LogTrust(desk.parts.log.sequencer.head().key))
    assert row.salt.hex() in text
    assert all(one.hex() in text for one in proof.hashes)
    with desk.parts.database.write() as connection:
        altered = row.body.replace('"leased"', '"queued"')
        connection.execute(update(events).where(events.c.position == index).values(body=altered))
    for path in (f"/log/{index}", f"/jobs/{lease.job}"):
        text = browser.get(f"/console{path}").text
        assert f"Entry {index} is <b>not</b> what stands in the log" in text
    part = browser.get(f"/console/log/{index}/check", headers=HTMX).text
    assert part.startswith('<p class="result bad">')
    assert "<html" not in part


@pytest.mark.sqlite
def test_a_commitment_that_was_altered_is_named_too(desk: Desk, browser: httpx2.Client) -> None:
    """The words and the entry beside them agree no more with what was signed."""
    lease = finished(desk)
    index = index_of(desk, f"job:{lease.job}", Action.JOB_SUCCEEDED)
    neighbour = index - 1
    with desk.parts.database.write() as connection:
        changed = update(events).where(events.c.position == neighbour)
        connection.execute(changed.values(commitment=bytes(32)))
    assert "is <b>not</b> what stands" in browser.get(f"/console/log/{index}").text


@pytest.mark.sqlite
def test_an_erased_entry_stands_and_says_so(desk: Desk, browser: httpx2.Client) -> None:
    """Its words are gone, the tree holds, and the entry that tells of it is named."""
    lease = finished(desk)
    index = index_of(desk, f"job:{lease.job}", Action.JOB_SUBMITTED)
    erase_events(desk.parts.database, [index], reason="asked for")
    told_at = index_of(desk, f"event:{index}", Action.EVENT_ERASED)
    text = browser.get(f"/console/log/{index}").text
    assert f"Entry {index} stands in the log's tree" in text
    assert f"Entry {told_at} tells of it." in text
    assert ">erased</span>" in browser.get("/console/log").text
    with desk.parts.database.write() as connection:
        connection.execute(update(events).where(events.c.position == index + 1).values(body=None, salt=None))
    assert "No event tells of it." in browser.get(f"/console/log/{index + 1}").text


def test_a_jobs_way_is_told_from_submit_to_receipt(desk: Desk, browser: httpx2.Client) -> None:
    """With its documents, held against each other and against the log."""
    lease = finished(desk)
    text = browser.get(f"/console/jobs/{lease.job}").text
    at = [text.index(words) for words in ("Job submitted", "Job leased to a node: <b>node-1</b>", "Job succeeded: ")]
    assert at == sorted(at)
    for words in (
        "The order on record is the one that entry",
        "The receipt on record is the one that entry",
        "The receipt answers this order, of this job and tenant.",
        "An operator&#39;s certificate vouches for the node at that time.",
        "The order allowed nodes of this operator.",
    ):
        assert f"<b>Holds.</b> {words}" in text
    assert "Does not hold." not in text
    assert re.search(r"Entry \d+ stands in the log", text)
    part = browser.get(f"/console/jobs/{lease.job}/check", headers=HTMX).text
    assert re.match(r'<p class="result good">\nEntry \d+ stands', part)
    plain = browser.get(f"/console/jobs/{lease.job}/check")
    assert plain.headers["Location"] == f"/console/jobs/{lease.job}#check"
    receipt = open_signed(browser.get(f"/console/jobs/{lease.job}/receipt").content, Receipt)
    assert receipt.document.job == lease.job
    assert receipt.digest in text
    assert lease.job in browser.get("/console/jobs?tenant=bank&state=succeeded").text
    assert lease.job not in browser.get("/console/jobs?tenant=clinic").text
    assert browser.get(f"/console/jobs?job={lease.job}").headers["Location"] == f"/console/jobs/{lease.job}"


@pytest.mark.sqlite
def test_a_receipt_that_was_exchanged_in_the_database_is_found(desk: Desk, browser: httpx2.Client) -> None:
    """It is genuine, and another job's."""
    first, second = finished(desk), finished(desk)
    with desk.parts.database.write() as connection:
        other = connection.execute(select(job_documents.c.receipt).where(job_documents.c.job == first.job)).scalar()
        connection.execute(update(job_documents).where(job_documents.c.job == second.job).values(receipt=other))
    text = browser.get(f"/console/jobs/{second.job}").text
    assert re.search(r"<b>Does not hold.</b> The receipt on record is the one that entry \d+ names", text)
    assert "<b>Does not hold.</b> The receipt answers this order" in text


def test_a_keys_life_is_a_line_of_time_and_shows_gaps(desk: Desk, browser: httpx2.Client) -> None:
    """Statements by their numbers, who did it, to which node it went; a number that is missing is said."""
    key, successor, owner = digest(random_bytes(8)), digest(random_bytes(8)), "bank"
    statements = [digest(random_bytes(8)) for _ in range(5)]
    with desk.parts.database.write() as connection:
        by = tenant_actor(connection, owner)

        def state(
            action: Action, number: int, after: str, before: str | None = None, previous: str | None = None
        ) -> None:
            details = {"sequence": str(number)} | ({} if previous is None else {"previous": previous})
            details |= {"successor": successor} if after == "superseded" else {}
            what = {"digest": statements[number], "before": before, "after": after, "details": details}
            tell(connection, action, key_object(key), by=by, tenant=owner, **what)  # type: ignore[arg-type]

        state(Action.KEY_REGISTERED, 1, "registered")
        state(Action.KEY_ACTIVATED, 2, "active", "registered", statements[1])
        sent = {"job": "0" * 32, "node": desk.worker.key.id}
        tell(
            connection,
            Action.KEY_SENT,
            key_object(key),
            by=Actor(desk.worker.key.id, "node"),
            tenant=owner,
            details=sent,
        )
        state(Action.KEY_SUPERSEDED, 4, "superseded", "active", statements[3])
    desk.parts.log.sequencer.advance()
    text = browser.get(f"/console/keys/{key}").text
    parts = [
        text.index(words)
        for words in ("Key registered", "Key activated", "Key sent to a node: <b>node-1</b>", "Key superseded")
    ]
    assert parts == sorted(parts)
    assert text.count('<span class="good">in the log</span>') == 4
    assert f'<dt>Its place took</dt><dd><a href="/console/keys/{successor}">' in text
    assert text.count("is missing here") == 1
    assert "The owner&#39;s statement 3 is missing here: this one is statement 4." in text
    assert "<b>bank</b>" in text
    assert f'href="/console/jobs/{"0" * 32}"' in text
    erase_events(desk.parts.database, [index_of(desk, key_object(key), Action.KEY_ACTIVATED)], reason="asked for")
    assert browser.get(f"/console/keys/{key}").text.count("is missing here") == 1, "what was erased is no gap"
    erase_name(desk.parts.database, "tenant", owner, reason="asked for")
    text = browser.get(f"/console/keys/{key}").text
    assert "<b>bank</b>" not in text, "nobody can say any more who it was"
    assert text.count('<span class="good">in the log</span>') == 4


def test_keys_are_found_by_digest_tenant_and_state(desk: Desk, browser: httpx2.Client) -> None:
    """Those of every tenant."""
    digests = []
    for tenant in (desk.tenant, desk.stranger):
        blob = tenant.upload(random_bytes(40))
        assert tenant.state(tenant.statement(blob, KeyState.ACTIVE)).status_code == 201
        digests.append(blob.digest)
    for query, expected in (
        ("", digests),
        (f"digest={digests[0][:20]}", digests[:1]),
        (f"digest={digests[1][7:20]}", digests[1:]),
        ("tenant=clinic", digests[1:]),
        ("state=active&tenant=bank", digests[:1]),
        ("state=destroyed", []),
    ):
        found = re.findall(r'href="/console/keys/(sha256:[0-9a-f]{64})"', browser.get(f"/console/keys?{query}").text)
        assert sorted(found) == sorted(expected), query


@pytest.mark.sqlite
def test_names_are_translated_until_they_are_erased(desk: Desk, browser: httpx2.Client) -> None:
    """Both ways."""
    finished(desk)
    text = browser.get("/console/names?name=bank").text
    pseudonym = re.search(r"tenant-[0-9a-f]{32}", text)
    assert pseudonym is not None
    assert ">bank</th>" in browser.get(f"/console/names?name={pseudonym[0]}").text
    erase_name(desk.parts.database, "tenant", "bank", reason="asked for")
    assert "Nobody is known by that name." in browser.get("/console/names?name=bank").text


# Exports, and what is told


def test_an_export_is_what_the_log_holds_and_is_told(desk: Desk, browser: httpx2.Client) -> None:
    """Each line proves itself; more events than a page has; each export is an event, with its filter and no name."""
    with desk.parts.database.write() as connection:
        for _ in range(1100):
            tell(connection, Action.LOG_READ, "log:x", by=GATEWAY)
    finished(desk)
    size = desk.parts.log.sequencer.head().size
    answer = browser.get("/console/exports/events.jsonl")
    lines = [Logged.model_validate_json(line) for line in answer.text.splitlines()]
    assert [line.index for line in lines] == list(range(size))
    assert 'filename="blindgate-events.jsonl"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(browser.get("/console/exports/events.csv?tenant=bank").text)))
    assert {row["action"] for row in rows} >= {"job.submitted", "job.leased", "job.succeeded"}
    assert {row["tenant"] for row in rows} == {rows[0]["tenant"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rows[0]["time"])
    exported = [event.details["what"] for event in told(desk, Action.LOG_EXPORTED)]
    assert exported == ["events as jsonl: all", f"events as csv: tenant={rows[0]['tenant']}"]
    browser.get("/console/exports/events.csv?tenant=bank")
    assert len(told(desk, Action.LOG_EXPORTED)) == 3, "each one, not one a minute"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
@pytest.mark.sqlite
def test_no_text_becomes_a_formula(desk: Desk, browser: httpx2.Client, text: str) -> None:
    """In whatever column it comes."""
    with desk.parts.database.write() as connection:
        tell(connection, Action.JOB_FAILED, "job:x", by=GATEWAY, reason=text)
    desk.parts.log.sequencer.advance()
    (row,) = csv.DictReader(io.StringIO(browser.get("/console/exports/events.csv?object=job:x").text, newline=""))
    assert row["reason"] == cell(text) == f"'{text}"
    assert json.loads(row["details"]) == {}


@pytest.mark.sqlite
def test_an_erased_event_is_exported_as_one(desk: Desk, browser: httpx2.Client) -> None:
    """Its place, and nothing else."""
    lease = finished(desk)
    index = index_of(desk, f"job:{lease.job}", Action.JOB_SUBMITTED)
    erase_events(desk.parts.database, [index], reason="asked for")
    lines = browser.get("/console/exports/events.jsonl").text.splitlines()
    assert json.loads(lines[index]) == {"index": index, "event": None, "salt": None}
    rows = list(csv.DictReader(io.StringIO(browser.get("/console/exports/events.csv").text)))
    assert {value for name, value in rows[index].items() if name != "index"} == {""}


def test_reading_is_told_to_the_log(desk: Desk, browser: httpx2.Client) -> None:
    """By whom, and what; once a minute, so that reading fills nothing."""
    lease = finished(desk)
    for path in ("/", "/keys", "/jobs", f"/jobs/{lease.job}", "/log", "/log/0", "/names", "/log?action=job.leased"):
        assert browser.get(f"/console{path}").status_code == 200
    read = told(desk, Action.LOG_READ)
    assert sorted(event.details["what"] for event in read) == ["events", "jobs", "keys", "overview", "pseudonyms"]
    assert {event.role for event in read} == {"auditor"}
    assert all(event.actor.startswith("staff-") for event in read)


@pytest.mark.sqlite
def test_pages_are_for_each_auditor_alone(desk: Desk, browser: httpx2.Client) -> None:
    """Who is signed in stands on the page; another's session is another's."""
    other = desk.brokerage.staff_key(StaffRole.AUDITOR, "another")
    with connection_to(desk.app, desk.parts.settings) as http:
        sign_in(http, other)
        assert "Signed in as <b>another</b>" in http.get("/console/").text
    assert "Signed in as <b>somebody</b>" in browser.get("/console/").text

"""`blindgate audit monitor`: a copy of what the owner signed, and a gateway that tells a history of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from blindgate_audit.commands import app
from blindgate_protocol.errors import InputError, KeyHistoryError
from blindgate_protocol.key_history import UNSENT_SUFFIX, chain_bytes, chain_name
from blindgate_protocol.keys import KeyState
from blindgate_protocol.logged import Logged, LoggedPage
from key_events import BLOB, STRANGER, life, log_of, signed

OWN = life(KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.ACTIVE, KeyState.COMPROMISED, KeyState.DESTROYED)
KEY = BLOB.digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a client keeps, with what else lies there."""
    (tmp_path / chain_name(KEY)).write_bytes(chain_bytes(OWN))
    (tmp_path / "lock").touch()
    return tmp_path


class Telling:
    """A gateway whose routes for events give pages of two."""

    def __init__(self, events: Sequence[Logged] | None) -> None:
        self.events = events
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        query = request.url.params
        self.asked.append((request.url.path, query.get("object")))
        if self.events is None:
            problem = {"type": "about:blank", "title": "t", "status": 404, "detail": "no such key", "code": "not-found"}
            return httpx2.Response(404, stream=httpx2.ByteStream(json.dumps(problem).encode()))
        behind = [one for one in self.events if one.index > int(query.get("after", "-1"))]
        after = behind[1].index if len(behind) > 2 else None
        page = LoggedPage(size=1000, events=tuple(behind[:2]), after=after)
        return httpx2.Response(200, stream=httpx2.ByteStream(page.model_dump_json().encode()))


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, gateway: Telling, *more: str, api_key: str = "bg_1.x") -> Result:
    """Run the command against a gateway."""
    real = httpx2.Client

    def connected(**given: Any) -> httpx2.Client:
        return real(**given | {"transport": httpx2.MockTransport(gateway)})

    with monkeypatch.context() as patched:
        patched.setattr(httpx2, "Client", connected)
        command = ["monitor", "http://gateway", "--statements", str(folder), "--api-key", api_key, *more]
        return CliRunner().invoke(app, command)


def findings(done: Result) -> list[tuple[str, str, int]]:
    """What was found, of which key and statement."""
    return [(each["finding"], each["key"], each["statement"]) for each in json.loads(done.stdout)["findings"]]


@pytest.mark.parametrize(
    ("api_key", "asks"),
    [
        pytest.param("bg_1.x", (f"/v1/keys/{KEY}/events", None), id="as the tenant"),
        pytest.param("bs_1.x", ("/v1/audit/events", f"key:{KEY}"), id="as an auditor"),
    ],
)
def test_a_whole_history_is_said_to_be_whole(
    monkeypatch: pytest.MonkeyPatch, folder: Path, api_key: str, asks: tuple[str, str | None]
) -> None:
    """Over several pages, by the route that the API key opens."""
    gateway = Telling(log_of(OWN))
    done = run(monkeypatch, folder, gateway, api_key=api_key)
    assert (done.exit_code, done.stdout) == (
        0,
        "1 keys: their history is whole and agrees with what their owner signed\n",
    )
    assert gateway.asked == [asks] * 3


def test_a_statement_that_was_left_out_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Whichever it is, and exit status 1; the same in words."""
    for place in range(len(OWN)):
        gateway = Telling([one for one in log_of(OWN) if one.index != 10 * place])
        done = run(monkeypatch, folder, gateway, "--json")
        assert (done.exit_code, findings(done)) == (1, [("missing", KEY, place + 1)])
    assert f"missing: key {KEY}, statement 5" in run(monkeypatch, folder, gateway).stdout


def test_a_gateway_that_knows_nothing_of_the_key_is_missing_all_of_it(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """404 is no excuse."""
    done = run(monkeypatch, folder, Telling(None), "--json")
    assert findings(done) == [("missing", KEY, number) for number in range(1, 6)]


def test_somebody_elses_statement_is_named_with_its_event(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The event's place in the log says where to look."""
    forged = signed(KeyState.DESTROYED, OWN[3], STRANGER)
    done = run(monkeypatch, folder, Telling(log_of([*OWN[:4], forged])))
    assert done.exit_code == 1
    assert f"other: key {KEY}, statement 5 (event 40)" in done.stdout


def test_what_the_gateway_writes_does_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An escape sequence in an event is shown, not obeyed."""
    lie = Logged(index=0, event='{"\x1b]0;gone\x07":1}', salt=bytes(32))
    done = run(monkeypatch, folder, Telling([lie]))
    assert done.exit_code == 1
    assert "\x1b" not in done.stdout


def test_a_statement_that_was_never_acknowledged_is_no_fault(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """It is shown, and the exit status is 0."""
    (folder / chain_name(KEY)).with_suffix(UNSENT_SUFFIX).write_text(OWN[-1].digest)
    done = run(monkeypatch, folder, Telling(log_of(OWN[:-1])), "--json")
    assert (done.exit_code, findings(done)) == (0, [("pending", KEY, 5)])


def test_no_record_is_an_error_and_not_a_good_result(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An empty folder watches over nothing; a damaged file is not passed over."""
    gateway = Telling([])
    for wrong in (folder / "nothing", folder / "empty"):
        (folder / "empty").mkdir(exist_ok=True)
        assert isinstance(run(monkeypatch, wrong, gateway).exception, InputError)
    (folder / chain_name(KEY)).write_bytes(chain_bytes(OWN)[:-5])
    assert isinstance(run(monkeypatch, folder, gateway).exception, KeyHistoryError)
    assert gateway.asked == []

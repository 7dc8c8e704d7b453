"""A gateway that changed its own database, audited over HTTP with an auditor's API key."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_command import audit_verify
from audited_gateway import API_KEY, Audited, key_life, shown, statement_record
from blindgate_protocol.events import Action
from static_logs import LOG_KEY, event, findings, verifier, write_events, write_log

Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Run the command; gives its exit status and what it printed, an error's text included."""
    monkeypatch.setattr("blindgate_audit.commands.verify._LATEST_SECONDS", 0.1)
    monkeypatch.delenv("BLINDGATE_API_KEY", raising=False)

    def run(where: object, *arguments: str, api_key: str | None = API_KEY) -> tuple[int, str]:
        given = [] if api_key is None else ["--api-key", api_key]
        return audit_verify(tmp_path / "memory", where, *given, *arguments)

    return run


def test_an_honest_gateway_holds_down_to_its_records(verify: Verify) -> None:
    """Every event, every statement, every receipt."""
    with shown(Audited.whole()) as url:
        status, printed = verify(url)
    assert status == 0, printed
    assert "55 are the ones that were logged" in printed
    assert "15 statements about keys, 20 receipts and 0 nodes have their events" in printed


def test_without_an_api_key_the_tree_alone_is_verified_and_it_is_said_so(verify: Verify) -> None:
    """The log is public, the events are not."""
    with shown(Audited.whole()) as url:
        status, printed = verify(url, "--json", api_key=None)
    assert status == 0
    steps = {one["step"]: one["verdict"] for one in json.loads(printed)["steps"]}
    assert (steps["tree"], steps["events"], steps["records"]) == ("holds", "not checked", "not checked")


def test_a_wrong_api_key_is_refused_before_the_log_is_read(verify: Verify) -> None:
    """And is not called a finding."""
    with shown(Audited.whole()) as url:
        status, printed = verify(url, api_key="wrong.key")
    assert status == 1
    assert "refused with status 401" in printed


def test_a_key_event_deleted_and_the_log_built_anew_is_named_by_key(verify: Verify) -> None:
    """Signed again with the real log key: the client's own statement still tells of it, and so does what was remembered."""
    gateway = Audited.whole()
    taken = gateway.events.pop(2)
    with shown(gateway) as url:
        status, printed = verify(url)
    assert status == 1
    assert f"record: {taken.object}: statement 3 (suspended) of tenant bank is on record" in printed


def test_a_key_event_deleted_with_its_statement_is_a_gap_in_the_clients_chain(verify: Verify) -> None:
    """Its owner signed the next one over it."""
    gateway = Audited.whole()
    taken = gateway.events.pop(2)
    del gateway.statements[2]
    with shown(gateway) as url:
        status, printed = verify(url)
    assert status == 1
    assert f"record: {taken.object}: statement 4 (active) of tenant bank" in printed


def test_an_edited_row_is_named_by_index(verify: Verify) -> None:
    """The log commits to what was written first."""
    gateway = Audited.whole()
    before = gateway.entries
    changed = before()[1]
    changed[18] = changed[18].model_copy(update={"event": event(18, reason="another").to_bytes().decode()})
    gateway.entries = lambda: (before()[0], changed)  # type: ignore[method-assign]
    with shown(gateway) as url:
        status, printed = verify(url, "--json")
    assert (status, findings(printed)[0]) == (1, (18, "commitment"))


def test_a_deleted_row_is_a_gap_and_an_erased_body_is_not(verify: Verify) -> None:
    """Erasing personal data passes: an event tells of it."""
    gateway = Audited.whole()
    gateway.events.append(event(99, action=Action.EVENT_ERASED, object="event:15"))
    gateway.erased.add(15)
    with shown(gateway) as url:
        status, printed = verify(url)
    assert status == 0, printed
    assert "1 were erased, as others tell" in printed
    assert "have their events" in printed
    before = gateway.entries
    gateway.entries = lambda: (before()[0], [one for one in before()[1] if one.index != 20])  # type: ignore[method-assign]
    with shown(gateway) as url:
        status, printed = verify(url, "--json")
    assert status == 1
    assert (20, "gap") in findings(printed)
    gateway.entries = before  # type: ignore[method-assign]
    gateway.erased.add(17)
    with shown(gateway) as url:
        status, printed = verify(url, "--json")
    assert (status, findings(printed)) == (1, [(17, "erasure")])


def test_records_of_the_last_seconds_need_no_checkpoint_yet(verify: Verify) -> None:
    """Their events are shown, behind the last entry of the checkpoint."""
    gateway = Audited.whole()
    gateway.late = 3
    with shown(gateway) as url:
        status, printed = verify(url)
    assert status == 0, printed
    assert "52 are the ones that were logged" in printed
    gateway.statements.append(statement_record(key_life("key 9")[0]))
    with shown(gateway) as url:
        assert verify(url)[0] == 1


def test_an_export_is_verified_with_its_events(tmp_path: Path, verify: Verify) -> None:
    """Nobody has to be asked for them."""
    entries, events = Audited.whole().entries()
    folder = tmp_path / "export"
    folder.mkdir()
    write_log(folder, entries)
    write_events(folder, events)
    status, printed = verify(folder, f"--key={verifier(LOG_KEY)}")
    assert status == 0
    assert "55 are the ones that were logged" in printed
    write_events(folder, [*events[:9], *events[10:]])
    assert findings(verify(folder, "--json")[1]) == [(9, "gap")]
    (folder / "events" / "000.jsonl").write_bytes(b"{}\n")
    status, printed = verify(folder)
    assert status == 1
    assert "line 1" in printed
    shutil.rmtree(folder)
    status, printed = verify(folder)
    assert "no log here" in printed


def test_a_page_that_leads_nowhere_ends_the_audit(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway cannot keep an auditor turning in a circle."""
    gateway = Audited.whole()
    monkeypatch.setattr(
        "audited_gateway._page", lambda found, after, most: (found[:most], "8" if after == "9" else "9")
    )
    with shown(gateway) as url:
        status, printed = verify(url)
    assert status == 1
    assert "cannot be read" in printed or "does not go forward" in printed

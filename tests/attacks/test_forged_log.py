"""A gateway's operator with the log's own key takes an event out of the database, and signs the tree again as if it had never been.

Nothing in the new log contradicts itself. It is found all the same: by an auditor who remembers, by a witness, by an auditor
who reads what else the gateway keeps, and by the owner of the key, whatever the operator rewrites. What may be erased under
GDPR, and says so, is found by nobody.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_command import audit_verify
from blindgate_audit.commands import app
from blindgate_gateway.identity import StaffRole
from blindgate_gateway.log.erasing import erase_events
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_protocol.events import Action, Event
from blindgate_protocol.key_history import chain_bytes, chain_name
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.logged import LoggedPage, LogView
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef
from brokerage import Brokerage, Caller, GatewayProcess, Keys, Publisher, Tenant, Worker, http_client, make_settings
from runs import wait_until
from witness_process import running_witness


@dataclass
class Stage:
    """A gateway with a log worth forging, and who saw it."""

    gateway: GatewayProcess
    brokerage: Brokerage
    log_key: str
    auditor: str
    tenant: str
    key: BlobRef
    chain: list[Signed[KeyStatement]]
    memory: Path
    statements: Path

    @property
    def settings(self) -> Settings:
        """The gateway's."""
        return self.gateway.settings

    def verify(self, *arguments: str, memory: Path | None = None) -> tuple[int, str]:
        """`blindgate audit verify`, as somebody who knows the log's key."""
        return audit_verify(memory or self.memory, self.gateway.url, "--key", self.log_key, *arguments)

    def events(self) -> list[tuple[int, Event]]:
        """What an auditor is shown of the key."""
        with http_client(self.gateway.url) as http:
            answer = Caller(http, self.auditor).ask("GET", f"/v1/audit/events?object=key:{self.key.digest}")
        shown = LoggedPage.model_validate_json(answer.content).events
        return [(one.index, Event.from_bytes(one.event.encode())) for one in shown if one.event is not None]


def _start(tmp_path: Path, **changes: object) -> Stage:
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys, checkpoint=100, **changes)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    with http_client(gateway.url) as http:
        manifest = brokerage.manifest()
        Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
        api_key = brokerage.api_key("bank")
        tenant, worker = Tenant(http, api_key, name="bank", keys=keys), Worker(http, brokerage)
        key = tenant.upload(b"evaluation key")
        chain: list[Signed[KeyStatement]] = []
        for state in (KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.ACTIVE):
            chain.append(tenant.statement(key, state, chain[-1] if chain else None))
            assert tenant.state(chain[-1]).is_success
        for _ in range(3):
            tenant.submit(tenant.order(manifest, tenant.upload(b"input")), None)
            lease = worker.lease()
            assert lease is not None
            worker.finish(lease, b"result", along=True)
        view = LogView.model_validate_json(http.get("/v1/log").content)
    statements = tmp_path / "statements"
    statements.mkdir()
    (statements / chain_name(key.digest)).write_bytes(chain_bytes(chain))
    auditor = brokerage.staff_key(StaffRole.AUDITOR)
    return Stage(gateway, brokerage, view.key, auditor, api_key, key, chain, tmp_path / "memory", statements)


@pytest.fixture(autouse=True)
def no_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in the log will not come into it; what is, comes within a checkpoint's time."""
    monkeypatch.setattr("blindgate_audit.commands.verify._LATEST_SECONDS", 2.0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """The gateway, running."""
    made = _start(tmp_path)
    yield made
    if made.gateway.running:
        made.gateway.stop()


def _sign_anew(stage: Stage, *statements: str) -> None:
    """Stop the gateway, change its database, and let it sequence and sign everything again, with its own key."""
    stage.gateway.stop()
    driver = sqlite3.connect(stage.settings.sqlite_file)
    for statement in statements:
        driver.execute(statement)
    driver.execute("UPDATE events SET position = NULL")
    driver.execute("DELETE FROM log_tiles")
    driver.execute("UPDATE log_head SET size = 0, hashes = x''")
    driver.commit()
    driver.close()
    shutil.rmtree(stage.settings.data / "log")
    stage.gateway.start()
    _wait_until_all_is_logged(stage)


def _wait_until_all_is_logged(stage: Stage) -> None:
    with http_client(stage.gateway.url) as http:
        wait_until(lambda: LogView.model_validate_json(http.get("/v1/log").content).pending == 0, seconds=30)


def _forget_suspension(stage: Stage) -> str:
    """The statement that takes the event of the key's suspension out."""
    return f"DELETE FROM events WHERE object = 'key:{stage.key.digest}' AND action = '{Action.KEY_SUSPENDED}'"


def test_an_auditor_who_saw_the_log_before_finds_the_forgery(stage: Stage) -> None:
    """The first so many entries do not have the root that was seen."""
    assert stage.verify()[0] == 0
    _sign_anew(stage, _forget_suspension(stage))
    status, said = stage.verify()
    assert status == 1
    assert "fork" in said or "other" in said, said


def test_an_auditor_who_never_saw_it_finds_a_statement_without_its_event(stage: Stage) -> None:
    """The signed statement lies in the gateway's records, and nothing in the log tells of it: by the key's name."""
    _sign_anew(stage, _forget_suspension(stage))
    assert stage.verify()[0] == 0, "the tree alone cannot tell"
    status, said = stage.verify("--api-key", stage.auditor, memory=stage.memory.with_name("fresh"))
    assert status == 1
    assert stage.key.digest in said.replace("\n", ""), said


def test_the_owner_finds_it_when_the_records_were_rewritten_too(stage: Stage) -> None:
    """The operator takes the last two statements out as well, and all that the gateway has agrees. The owner's chain does not."""
    digest = stage.key.digest
    _sign_anew(
        stage,
        f"DELETE FROM events WHERE object = 'key:{digest}' AND action IN ('key.suspended', 'key.resumed')",
        f"DELETE FROM key_statements WHERE key = '{digest}' AND sequence > 1",
        f"UPDATE keys SET sequence = 1, state = 'active' WHERE digest = '{digest}'",
    )
    status, said = stage.verify("--api-key", stage.auditor, memory=stage.memory.with_name("fresh"))
    assert status == 0, said
    arguments = [
        "monitor",
        stage.gateway.url,
        "--statements",
        str(stage.statements),
        "--api-key",
        stage.tenant,
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert digest in result.stdout
    assert '"missing"' in result.stdout or "missing" in result.stdout


def test_a_witness_does_not_cosign_the_forgery(tmp_path: Path) -> None:
    """It saw the larger tree, and keeps what it was shown since."""
    with running_witness(tmp_path / "witness") as witness:
        stage = _start(tmp_path, witnesses={witness.url: str(witness.key)})
        try:
            witness.run("logs", "add", stage.log_key)
            wanted = ("--witness", f"w={witness.key}")
            wait_until(lambda: stage.verify(*wanted)[0] == 0, seconds=30)
            _sign_anew(stage, _forget_suspension(stage))
            status, said = stage.verify(*wanted, memory=tmp_path / "fresh")
            assert status == 1
            assert "cosign" in said, said
        finally:
            stage.gateway.stop()


def test_what_is_erased_by_its_right_and_says_so_is_found_by_nobody(stage: Stage) -> None:
    """Remembered or not, with the records or without: the tree, the events and the key's life hold."""
    assert stage.verify()[0] == 0
    index = next(index for index, event in stage.events() if event.action is Action.KEY_SUSPENDED)
    database = connect(stage.settings)
    erase_events(database, [index], reason="request 9")
    database.close()
    _wait_until_all_is_logged(stage)
    for memory in (stage.memory, stage.memory.with_name("fresh")):
        status, said = stage.verify("--api-key", stage.auditor, memory=memory)
        assert status == 0, said


@pytest.mark.parametrize("what", ["deleted", "edited"])
def test_a_row_that_is_edited_is_found_by_its_index(stage: Stage, what: str) -> None:
    """In the middle of the log, without signing anything again."""
    index, _ = stage.events()[1]
    stage.gateway.stop()
    driver = sqlite3.connect(stage.settings.sqlite_file)
    if what == "deleted":
        driver.execute("DELETE FROM events WHERE position = ?", (index,))
    else:
        driver.execute("UPDATE events SET body = replace(body, 'active', 'retired') WHERE position = ?", (index,))
    driver.commit()
    driver.close()
    stage.gateway.start()
    status, said = stage.verify("--api-key", stage.auditor)
    assert status == 1
    assert str(index) in said

"""What a client says about its own keys, through a real gateway, and how it notices that it is told something else."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from blindgate.client import Client
from blindgate.commands import key_monitor
from blindgate.commands import keys as commands
from blindgate.key_life import KeyLife
from blindgate.keyring import Key, KeyRing
from blindgate.statements import OwnStatements
from blindgate.transport import Transport, _parsed
from blindgate_gateway.keys import destroy_due
from blindgate_gateway.tables import blobs, key_statements, keys
from blindgate_models.halves import KeySet
from blindgate_protocol.errors import (
    GatewayError,
    GatewayUnreachableError,
    InputError,
    KeyHistoryError,
    KeyStoreError,
    MalformedError,
)
from blindgate_protocol.events import Action, Event
from blindgate_protocol.key_history import Disagreement, chain_name
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.logged import Logged
from blindgate_protocol.order import Order
from blindgate_protocol.oversight import StatementRecords
from blindgate_protocol.signing import open_signed
from brokerage import random_bytes
from desk import Desk, open_desk

HOUR = 3_600_000
_WORDS = {
    "registered": Action.KEY_REGISTERED,
    "active": Action.KEY_ACTIVATED,
    "suspended": Action.KEY_SUSPENDED,
    "deactivated": Action.KEY_DEACTIVATED,
    "destroyed": Action.KEY_DESTROYED,
}


@dataclass
class Half:
    """A family's client half as far as a key ring sees it: keys are bytes to it."""

    key_parameters: dict[str, Any] = field(default_factory=lambda: {"degree": 1})

    def make_keys(self) -> KeySet:
        """A key set that nobody has."""
        return KeySet(random_bytes(32), random_bytes(300))


@dataclass
class Bank:
    """A tenant's client at a gateway, whose every request can be made to fail."""

    desk: Desk
    home: Path
    url: str
    key: str

    def client(self, home: Path | None = None) -> Client:
        """The client, as a new process has it."""
        return Client(self.url, self.key, home=home or self.home)

    def run(self, *command: str, says: str | None = None) -> Result:
        """Run `blindgate keys …` in this process."""
        environment = {"BLINDGATE_URL": self.url, "BLINDGATE_API_KEY": self.key, "BLINDGATE_HOME": str(self.home)}
        return CliRunner().invoke(commands.app, list(command), env=environment, input=says)


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    """A gateway in this process, and a client that knows it by its address."""
    with open_desk(tmp_path, part=64 * 1024, max_blob=1 << 20) as desk, capture_logs():
        real = httpx2.Client

        def connected(**given: Any) -> httpx2.Client:
            return real(**given | {"transport": httpx2.WSGITransport(desk.app)})

        monkeypatch.setattr(httpx2, "Client", connected)
        url = f"http://127.0.0.1:{desk.parts.settings.port}"
        yield Bank(desk, tmp_path / "home", url, desk.brokerage.api_key("bank"))


def _ring(client: Client) -> KeyRing:
    return client._key_ring()


def _key(client: Client) -> Key:
    half: Any = Half()
    return _ring(client).key_for(half, show_progress=False)


def _made(bank: Bank) -> str:
    """A key that is active, as the first use of a model makes it."""
    with bank.client() as client:
        evaluation = _key(client).evaluation
    assert evaluation is not None
    return evaluation


def _states(bank: Bank, key: str) -> list[str]:
    return [each.document.state.value for each in OwnStatements(bank.home / "statements").chain(key)]


def test_every_statement_is_the_clients_own_before_it_is_the_gateways(bank: Bank) -> None:
    """The chain at home is the chain at the gateway, digest for digest, with reasons."""
    key = _made(bank)
    with bank.client() as client:
        life = client.key_life
        life.state(key, KeyState.SUSPENDED, reason="an audit")
        assert life.state(key, None).state is KeyState.ACTIVE
        life.state(key, KeyState.DESTRUCTION_SCHEDULED, destroy_at=int(time.time() * 1000) + HOUR)
        assert life.state(key, None).state is KeyState.ACTIVE
        life.state(key, KeyState.DEACTIVATED)
        chain = life.statements.chain(key)
        assert life.statements.unsent(key) is None
    stored = StatementRecords.model_validate_json(bank.desk.auditor.ask("GET", "/v1/audit/keys").content).statements
    assert [open_signed(each.statement, KeyStatement).digest for each in stored] == [each.digest for each in chain]
    assert [each.document.reason for each in chain] == [None, "an audit", None, None, None, None]
    assert _states(bank, key)[-3:] == ["destruction-scheduled", "active", "deactivated"]
    assert (bank.home / "statements" / chain_name(key)).stat().st_mode & 0o077 == 0


def test_what_cannot_follow_is_refused_here_and_leaves_no_trace(bank: Bank) -> None:
    """Nothing of it was sent, or written down."""
    key = _made(bank)
    with bank.client() as client:
        client.key_life.state(key, KeyState.DEACTIVATED)
        for wrong, error in (
            ({"state": KeyState.ACTIVE}, MalformedError),
            ({"state": None}, MalformedError),
            ({"state": KeyState.DESTRUCTION_SCHEDULED}, InputError),
            ({"state": KeyState.DESTRUCTION_SCHEDULED, "destroy_at": 5}, InputError),
            ({"state": KeyState.DESTROYED, "reason": "x" * 301}, InputError),
        ):
            with pytest.raises(error):
                client.key_life.state(key, **wrong)
    assert _states(bank, key) == ["active", "deactivated"]


def test_a_statement_that_did_not_arrive_is_sent_before_the_next(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client died, or the line broke: the record says so, and the next command sends it."""
    key = _made(bank)
    with bank.client() as client:
        post = client.transport.post

        def broken(*_: Any, **__: Any) -> Any:
            raise GatewayUnreachableError("no answer")

        monkeypatch.setattr(client.transport, "post", broken)
        with pytest.raises(GatewayUnreachableError):
            client.key_life.state(key, KeyState.SUSPENDED)
        assert client.key_life.statements.unsent(key) == client.key_life.statements.chain(key)[-1].digest
        monkeypatch.setattr(client.transport, "post", post)
    with bank.client() as client:
        assert client.key_life.show(key).state is KeyState.SUSPENDED
        assert client.key_life.statements.unsent(key) is None
        assert client.key_life.state(key, None).state is KeyState.ACTIVE
    assert _states(bank, key) == ["active", "suspended", "active"]


def test_a_statement_that_the_gateway_refused_is_no_part_of_the_chain(bank: Bank) -> None:
    """It is kept beside it, and the next one follows on the one before."""
    key = _made(bank)
    with bank.client() as client:
        client.key_life.state(key, KeyState.SUSPENDED)
        with bank.desk.parts.database.write() as connection:
            connection.execute(blobs.delete())
        with pytest.raises(GatewayError, match="404"):
            client.key_life.state(key, None)
        assert _states(bank, key) == ["active", "suspended"]
        client.key_life.state(key, KeyState.DESTROYED)
    assert _states(bank, key) == ["active", "suspended", "destroyed"]
    refused = (bank.home / "statements" / chain_name(key)).with_suffix(".refused").read_bytes()
    assert open_signed(refused.strip(), KeyStatement).document.state is KeyState.ACTIVE


def test_a_key_of_before_there_were_chains_is_taken_up(bank: Bank) -> None:
    """Its one statement is the client's own: it verifies. What another client signed is not."""
    key = _made(bank)
    (bank.home / "statements" / chain_name(key)).unlink()
    with bank.client() as client:
        client.key_life.state(key, KeyState.SUSPENDED)
    assert _states(bank, key) == ["active", "suspended"]
    with bank.client(bank.home.with_name("other")) as other, pytest.raises(KeyHistoryError, match="nothing about it"):
        other.key_life.show(key)


def _second_home(bank: Bank) -> Path:
    """Another home with the same keys and the same past, as a backup is."""
    copy = bank.home.with_name("copy")
    shutil.copytree(bank.home, copy)
    return copy


def test_a_statement_that_this_client_did_not_make_is_an_error_that_says_so(bank: Bank) -> None:
    """A thief with a copy of the signing key suspends the key; the owner notices at once, and signs nothing on top of it."""
    key = _made(bank)
    with bank.client(_second_home(bank)) as thief:
        thief.key_life.state(key, KeyState.SUSPENDED)
    with bank.client() as client:
        for ask in (
            lambda: client.key_life.show(key),
            lambda: client.key_life.state(key, KeyState.DESTROYED),
            lambda: _key(client),
        ):
            with pytest.raises(KeyHistoryError, match=r"shows statement 2, that it is suspended.*signed 1 statements"):
                ask()
    assert _states(bank, key) == ["active"]


def test_a_gateway_that_forgot_a_statement_is_told_so_and_can_be_told_again(bank: Bank) -> None:
    """It was restored from a backup, or takes a suspension back by itself."""
    key = _made(bank)
    with bank.client() as client:
        client.key_life.state(key, KeyState.SUSPENDED)
        client.key_life.state(key, KeyState.DEACTIVATED)
        with bank.desk.parts.database.write() as connection:
            connection.execute(key_statements.delete().where(key_statements.c.sequence > 1))
            connection.execute(keys.update().values(sequence=1, state="active"))
        with pytest.raises(KeyHistoryError, match=r"signed 3 statements.*deactivated.*shows statement 1"):
            client.key_life.show(key)
        assert client.key_life.resend(key) == 2
        assert client.key_life.show(key).state is KeyState.DEACTIVATED


def test_a_state_that_nobody_signed_is_an_error(bank: Bank) -> None:
    """The statement is right, and the gateway says otherwise beside it."""
    key = _made(bank)
    with bank.desk.parts.database.write() as connection:
        connection.execute(keys.update().values(state="suspended"))
    with bank.client() as client, pytest.raises(KeyHistoryError, match="says suspended, this client has signed active"):
        client.key_life.show(key)


def test_a_scheduled_destruction_that_was_carried_out_is_what_was_signed(bank: Bank) -> None:
    """Before its time it would not be."""
    key = _made(bank)
    with bank.client() as client:
        client.key_life.state(key, KeyState.DESTRUCTION_SCHEDULED, destroy_at=int(time.time() * 1000) + 2000)
        while destroy_due(bank.desk.parts) == 0:
            time.sleep(0.1)
        assert client.key_life.show(key).state is KeyState.DESTROYED
        with pytest.raises(MalformedError, match="time of this key's destruction"):
            client.key_life.state(key, None)
        assert client.key_life.state(key, KeyState.DESTROYED).state is KeyState.DESTROYED
        new = _key(client).evaluation
        assert new != key, "the next use makes a new one"
        assert new is not None
        client.key_life.state(new, KeyState.DESTRUCTION_SCHEDULED, destroy_at=int(time.time() * 1000) + HOUR)
        with bank.desk.parts.database.write() as connection:
            connection.execute(keys.update().where(keys.c.digest == new).values(destroy_at=1))
        assert destroy_due(bank.desk.parts) == 1
        with pytest.raises(KeyHistoryError, match="says destroyed, this client has signed destruction-scheduled"):
            client.key_life.show(new)


def test_a_superseded_keys_results_are_decrypted_and_the_next_use_makes_a_new_one(bank: Bank) -> None:
    """The old secret is set aside, not thrown away; a job of before finds it, a job of after the new one."""
    half: Any = Half()
    with bank.client() as client:
        old = _key(client)
    before = _order(bank, old)
    assert old.evaluation is not None
    with bank.client() as client:
        client.key_life.state(old.evaluation, KeyState.SUPERSEDED)
    with bank.client() as client:
        new = _key(client)
        assert new.evaluation != old.evaluation
        assert client.key_life.show(str(new.evaluation)).state is KeyState.ACTIVE
        after = _order(bank, new)
        assert _ring(client).key_of(before, half).secret == old.secret
        assert _ring(client).key_of(after, half).secret == new.secret
    with bank.client() as client:
        assert _key(client) == new
        stranger = after.model_copy(update={"evaluation_key": "sha256:" + "0" * 64})
        with pytest.raises(KeyStoreError):
            _ring(client).key_of(stranger, half)


def test_a_superseded_key_says_which_key_took_its_place(bank: Bank) -> None:
    """Made and registered first, and found again after a crash in between; the log tells it, and so does the owner's list."""
    half: Any = Half()
    with bank.client() as client:
        old = _key(client)
        key = str(old.evaluation)
        successor = _ring(client).successor_of(key, half, show_progress=False)
        assert client.key_life.show(successor).state is client.key_life.show(key).state is KeyState.ACTIVE
    with bank.client() as client:  # a process that begins anew, since that one said nothing of the old key
        assert _ring(client).successor_of(key, half, show_progress=False) == successor
        client.key_life.state(key, KeyState.SUPERSEDED, successor=successor)
        assert _key(client).evaluation == successor
        assert _ring(client).key_of(_order(bank, old), half).secret == old.secret
        client.key_life.state(key, KeyState.DESTRUCTION_SCHEDULED, destroy_at=int(time.time() * 1000) + HOUR)
        client.key_life.state(key, None)
        assert [one.document.successor for one in client.key_life.statements.chain(key)] == [
            None,
            successor,
            None,
            successor,
        ]
        bank.desk.parts.log.sequencer.advance()
        told = [Event.from_bytes(one.event.encode()) for one in client.key_life.events(key) if one.event is not None]
        assert [one.details["successor"] for one in told if one.action is Action.KEY_SUPERSEDED] == [
            successor,
            successor,
        ]
    shown = json.loads(bank.run("show", key, "--offline", "--json").stdout)
    assert shown["statements"][1]["successor"] == successor


def test_a_key_is_superseded_without_a_successor_where_no_model_is_to_be_had(bank: Bank) -> None:
    """And says so, or is not asked to have one."""
    key = _made(bank)
    assert "none is named" in bank.run("supersede", key).stderr
    again = _made(bank)
    assert again != key
    assert "none is named" not in bank.run("supersede", again, "--later").stderr
    assert [
        chain[-1].document.successor for chain in map(OwnStatements(bank.home / "statements").chain, (key, again))
    ] == [
        None,
        None,
    ]


def _order(bank: Bank, key: Key) -> Order:
    order = bank.desk.tenant.order(bank.desk.manifest, bank.desk.tenant.upload(b"x"), evaluation_key=key.evaluation)
    return order.document.model_copy(update={"issued": int(time.time() * 1000) + 1})


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        (KeyState.SUSPENDED, "blindgate keys resume"),
        (KeyState.DEACTIVATED, "blindgate keys destroy"),
        (KeyState.COMPROMISED, "blindgate keys destroy"),
    ],
)
def test_a_key_that_is_not_active_is_not_used_and_the_error_says_what_to_do(
    bank: Bank, state: KeyState, remedy: str
) -> None:
    """No new key is made behind its owner's back."""
    key = _made(bank)
    with bank.client() as client:
        client.key_life.state(key, state)
        with pytest.raises(KeyStoreError, match=remedy):
            _key(client)
    assert OwnStatements(bank.home / "statements").keys() == [key]


def test_a_gateway_that_was_set_up_anew_gets_the_key_again(bank: Bank, tmp_path: Path) -> None:
    """With the same statements: the owner has not said anything twice."""
    key = _made(bank)
    bank.run("suspend", key)
    bank.run("resume", key)
    with bank.desk.parts.database.write() as connection:
        connection.execute(key_statements.delete())
        connection.execute(keys.delete())
        connection.execute(blobs.delete())
    done = bank.run("resend", key)
    assert isinstance(done.exception, KeyHistoryError)
    assert "does not know the key" in str(done.exception)
    assert _made(bank) == key
    assert _states(bank, key) == ["active", "suspended", "active"]
    with bank.client() as client:
        assert client.key_life.show(key).state is KeyState.ACTIVE


# The commands


def test_a_keys_life_by_the_command_line(bank: Bank) -> None:
    """Each command says what came of it; a key may be named by how its digest begins."""
    key = _made(bank)
    short = key[7:15]
    for command, state in (
        (("suspend", short, "--reason", "an audit"), "suspended"),
        (("resume", key), "active"),
        (("schedule-destruction", short, "--in", "30d"), "destruction-scheduled, for "),
        (("resume", short), "active"),
        (("schedule-destruction", short, "--at", "2199-01-31"), "destruction-scheduled, for 2199-01-31 00:00:00 UTC"),
        (("compromised", short), "compromised"),
        (("destroy", short, "--yes"), "destroyed"),
    ):
        done = bank.run(*command)
        assert done.exit_code == 0, done.output
        assert f"key {key}: {state}" in done.output
    shown = json.loads(bank.run("show", short, "--json").stdout)
    assert shown["at_gateway"] == "destroyed"
    assert [each["state"] for each in shown["statements"]][1:] == [
        "suspended",
        "active",
        "destruction-scheduled",
        "active",
        "destruction-scheduled",
        "compromised",
        "destroyed",
    ]
    assert shown["statements"][1]["reason"] == "an audit"
    (listed,) = json.loads(bank.run("list", "--json").stdout)
    assert (listed["evaluation_key"], listed["state"], listed["secret"]) == (key, "destroyed", "deleted")
    assert not list((bank.home / "keys").glob("bank.*"))


def test_a_list_without_the_gateway_is_the_clients_own(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--offline` asks nobody."""
    key = _made(bank)
    bank.run("supersede", key)
    monkeypatch.setattr(httpx2, "Client", None)
    (row,) = json.loads(bank.run("list", "--offline", "--json").stdout)
    assert (row["state"], row["at_gateway"], row["secret"]) == ("superseded", "not asked", "here")
    assert "superseded" in bank.run("show", key, "--offline").stdout


def test_the_list_says_where_the_gateway_tells_something_else(bank: Bank) -> None:
    """In its row; the others are listed as they are."""
    key = _made(bank)
    with bank.client(_second_home(bank)) as thief:
        thief.key_life.state(key, KeyState.SUSPENDED)
    (row,) = json.loads(bank.run("list", "--json").stdout)
    assert row["state"] == "active"
    assert row["at_gateway"].startswith("WRONG: ")


@pytest.mark.parametrize(
    ("says", "kept", "state"),
    [
        pytest.param("n\n", True, "active", id="not at all"),
        pytest.param("y\nn\n", True, "destroyed", id="at the gateway"),
        pytest.param("y\ny\n", False, "destroyed", id="and here"),
    ],
)
def test_destroying_asks_for_each_half(bank: Bank, says: str, kept: bool, state: str) -> None:
    """The one at the gateway, and the secret that decrypts results."""
    key = _made(bank)
    bank.run("destroy", key, says=says)
    assert _states(bank, key)[-1] == state
    assert bool(list((bank.home / "keys").glob("bank.*.secret.sealed"))) == kept


@pytest.mark.parametrize(
    ("command", "names"),
    [
        pytest.param(("suspend", "zz"), "KEY", id="no digest"),
        pytest.param(("suspend", "0000000000"), "0 of this client's keys", id="no such key"),
        pytest.param(("schedule-destruction", "{}"), "--at and --in", id="no time"),
        pytest.param(("schedule-destruction", "{}", "--in", "soon"), "--in", id="no length of time"),
        pytest.param(("schedule-destruction", "{}", "--at", "2027-13-01"), "--at", id="no date"),
        pytest.param(
            ("schedule-destruction", "{}", "--at", "1999-01-01"), "later than issued", id="a date that is past"
        ),
        pytest.param(("resume", "{}"), "nothing to resume", id="nothing to resume"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(bank: Bank, command: tuple[str, ...], names: str) -> None:
    """And nothing is signed."""
    key = _made(bank)
    done = bank.run(*(word.format(key) for word in command))
    assert isinstance(done.exception, InputError)
    assert names in str(done.exception)
    assert _states(bank, key) == ["active"]


# The monitor


def _logged(bank: Bank, change: Callable[[list[Event]], list[Event]] = list) -> list[Logged]:
    """The gateway's stored statements as its log tells of them."""
    stored = StatementRecords.model_validate_json(bank.desk.auditor.ask("GET", "/v1/audit/keys").content).statements
    events = []
    for record in stored:
        signed = open_signed(record.statement, KeyStatement)
        document = signed.document
        details = {"client": document.client, "sequence": str(document.sequence)}
        details |= {} if document.previous is None else {"previous": document.previous}
        events.append(
            Event(
                time=record.received,
                action=_WORDS[document.state.value],
                actor="tenant-" + "0" * 32,
                role="tenant",
                object=f"key:{document.key.digest}",
                digest=signed.digest,
                after=document.state.value,
                details=details,
                software="0.1.0",
            )
        )
    return [
        Logged(index=3 * place, event=event.to_bytes().decode(), salt=bytes(32))
        for place, event in enumerate(change(events))
    ]


@pytest.fixture
def logged(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[list[Event]], list[Event]]]:
    """What the gateway's list of a key's events does to the truth, last one first: append to change it."""
    lies: list[Callable[[list[Event]], list[Event]]] = [list]

    def events(self: KeyLife, key: str) -> Iterator[Logged]:
        return (one for one in _logged(bank, lies[-1]) if one.event is not None and key in one.event)

    monkeypatch.setattr(KeyLife, "events", events)
    return lies


def _monitored(bank: Bank) -> tuple[int, list[tuple[str, int]]]:
    done = bank.run("monitor", "--json")
    told = json.loads(done.stdout)
    return done.exit_code, [(each["finding"], each["statement"]) for each in told["findings"]]


def test_the_monitor_finds_what_was_left_out_and_what_was_put_in(
    bank: Bank, logged: list[Callable[[list[Event]], list[Event]]]
) -> None:
    """A whole history is well; one that lacks a statement, or has one more, is not, and the exit status says so."""
    key = _made(bank)
    for command in ("suspend", "resume", "deactivate"):
        bank.run(command, key)
    assert _monitored(bank) == (0, [])
    assert "whole and agrees" in bank.run("monitor").output
    logged.append(lambda events: [events[0], *events[2:]])
    assert _monitored(bank) == (1, [("missing", 2)])
    said = bank.run("monitor").output
    assert key[:20] in said
    logged.append(lambda events: [*events[:3], events[3].model_copy(update={"after": "destroyed"})])
    assert _monitored(bank) == (1, [("other", 4)])
    logged.append(lambda events: events[:3])
    assert _monitored(bank) == (0, [("pending", 4)]), "a moment after it was signed"
    logged.append(list)
    with bank.client(_second_home(bank)) as thief:
        thief.key_life.state(key, KeyState.DESTROYED)
    assert _monitored(bank) == (1, [("unknown", 5)])


def test_the_monitor_finds_a_key_that_was_made_with_this_clients_signing_key(
    bank: Bank, logged: list[Callable[[list[Event]], list[Event]]]
) -> None:
    """And minds no key of another client of the same tenant."""
    _made(bank)
    with bank.client(bank.home.with_name("colleague")) as colleague:
        _key(colleague)
    assert _monitored(bank) == (0, [])
    with bank.client() as client:
        signer = _ring(client).signer
    copy = bank.home.with_name("copy")
    with bank.client(copy) as thief:
        thief.key_store.put("client-signing-key", signer.seed())
        stolen = _key(thief).evaluation
    status, found = _monitored(bank)
    assert (status, found) == (1, [("unknown", 1)])
    assert str(stolen)[:20] in bank.run("monitor").output


def test_a_history_that_does_not_parse_is_a_finding_and_not_the_end(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other keys are looked at all the same."""
    _made(bank)
    monkeypatch.setattr(KeyLife, "events", lambda *_: iter([Logged(index=0, event="{}", salt=bytes(32))]))
    with bank.client() as client:
        (found,) = key_monitor.examine(client.key_life, client.key_life.signer, now=0)
    assert (found.disagreement, found.sequence) == (Disagreement.OTHER, 0)
    assert "event 0" in found.says


def test_a_list_of_events_that_is_none_is_a_finding_and_not_the_end(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway ends no client's monitor by answering with something else; a finding looks the same for people and scripts."""
    key = _made(bank)
    get = Transport.get

    def answer(self: Transport, path: str, answer: Any, **given: Any) -> Any:
        return _parsed(b"[]", answer) if path.endswith("/events") else get(self, path, answer, **given)

    monkeypatch.setattr(Transport, "get", answer)
    done = bank.run("monitor", "--json")
    (found,) = json.loads(done.stdout)["findings"]
    assert done.exit_code == 1
    assert list(found) == ["key", "statement", "finding", "fault", "event", "says"]
    assert (found["key"], found["finding"], found["fault"]) == (key, "other", True)
    assert "answer is malformed" in found["says"]

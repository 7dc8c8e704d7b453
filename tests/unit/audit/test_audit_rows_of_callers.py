"""The rows by which somebody gets in are held against the log: API keys, sessions, tenants, enrolment tokens, keys' blobs.

A gateway at work is accused of nothing; each edit is named by its row, its column and who says otherwise.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from audited_desk import audit
from blindgate_gateway.console.sessions import begin_session, end_session, sweep_sessions
from blindgate_gateway.database import Transaction
from blindgate_gateway.identity import (
    Grounds,
    Role,
    Scope,
    Staff,
    StaffRole,
    add_enrolment_token,
    add_staff,
    add_tenant,
    revoke_api_key,
    rotate_api_key,
)
from blindgate_gateway.keys import destroy_due
from blindgate_gateway.log.erasing import erase_events, erase_name
from blindgate_gateway.log.starting import tell_start
from blindgate_gateway.log.unlogged import count_unlogged
from blindgate_gateway.queues import limit_tenant
from blindgate_gateway.quotas import set_quota
from blindgate_gateway.settings import DAY
from blindgate_gateway.signers import revoke_signer
from blindgate_gateway.tables import api_keys, blobs, enrolment_tokens, events, sessions, tenants
from blindgate_protocol.errors import NotFoundError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.keys import KeyState
from blindgate_protocol.oversight import TableName
from blindgate_protocol.signing import SigningKey
from brokerage import Worker, now_ms, random_bytes
from desk import Desk, open_desk
from patient import Patient

AUDITOR = frozenset({Role.AUDITOR})
SIGNERS = tuple(SigningKey.generate().id for _ in range(3))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def patient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """A gateway with callers of all kinds, on each database."""
    url = request.getfixturevalue("postgresql_server").new_database() if request.param == "postgresql" else None
    with open_desk(tmp_path_factory.mktemp("callers"), database=url) as desk:
        made = Patient(desk, {}, None, {}, "", "")
        tell_start(desk.brokerage.settings)
        live(made)
        yield made


def live(patient: Patient) -> None:
    """What callers come to. The patient keeps ids by what they are of."""
    desk, named = patient.desk, patient.job
    database = desk.parts.database
    for number in range(4):
        add_tenant(database, f"shop-{number}", [Scope.JOBS])
    kept = add_tenant(database, "shop-0", [Scope.JOBS, Scope.READ])
    ending = add_tenant(database, "shop-0", [Scope.JOBS], lasts=DAY)
    rotated = add_tenant(database, "shop-1", [Scope.PUBLISH], lasts=30 * DAY)
    successor = rotate_api_key(database, rotated.id, staff=False, overlap=60_000)
    rotate_api_key(database, successor.id, staff=False, overlap=0, lasts=DAY)
    gone = add_tenant(database, "shop-1", [Scope.READ])
    revoke_api_key(database, gone.id, staff=False)
    ann = add_staff(database, "ann", StaffRole.AUDITOR, lasts=DAY)
    rotate_api_key(database, add_staff(database, "ben", StaffRole.OPERATOR).id, staff=True, overlap=5)
    for most in (7, None, 5):
        limit_tenant(database, "shop-0", in_flight=most)
        set_quota(database, "shop-1", most)
    for signer in SIGNERS[:2]:
        revoke_signer(database, "shop-0", signer)
    revoke_signer(database, "shop-1", SIGNERS[1])
    unused = add_enrolment_token(database, lasts=DAY)
    Worker(desk.http, desk.brokerage, name="node-2")
    person = Staff("oidc:eva", AUDITOR, "oidc:eva", Grounds('["issuer", "auditors"]', now_ms() + DAY))
    for _ in range(2):
        begin_session(database, Staff("ann", AUDITOR, ann.id))
        begin_session(database, person)
    end_session(database, begin_session(database, Staff("ann", AUDITOR, ann.id)))
    begin_session(database, person, instead_of=begin_session(database, person))
    sweep_sessions(database)
    for state in (KeyState.ACTIVE, KeyState.DESTROYED):
        key = desk.tenant.upload(random_bytes(30))
        said = desk.tenant.statement(key, KeyState.ACTIVE)
        assert desk.tenant.state(said).status_code == 201
        named[f"key {state.value}"] = key.digest
        if state is KeyState.DESTROYED:
            assert desk.tenant.state(desk.tenant.statement(key, state, said)).status_code == 200
    schedule(desk)
    named |= {"kept": kept.id, "ending": ending.id, "rotated": rotated.id, "gone": gone.id, "ann": ann.id}
    named |= {"token": unused.id}
    with database.read() as connection:
        named["spent"] = connection.execute(
            select(enrolment_tokens.c.id).where(enrolment_tokens.c.node == desk.worker.key.id)
        ).scalar()
        for name, holder in (("session", sessions.c.api_key), ("visit", sessions.c.person)):
            hashes = select(sessions.c.token_hash).where(holder.is_not(None)).order_by(sessions.c.created)
            named[name] = connection.execute(hashes).scalars()[0]


def schedule(desk: Desk) -> None:
    """A key that is destroyed because its time has come."""
    key = desk.tenant.upload(random_bytes(30))
    first = desk.tenant.statement(key, KeyState.ACTIVE)
    assert desk.tenant.state(first).status_code == 201
    then = desk.tenant.statement(key, KeyState.ACTIVE, first).document
    then = then.model_copy(update={"state": KeyState.DESTRUCTION_SCHEDULED, "destroy_at": then.issued + 50})
    assert desk.tenant.state(desk.tenant.keys.client.sign(then)).status_code == 200
    time.sleep(0.1)
    assert destroy_due(desk.parts) == 1


def test_a_gateway_at_work_is_accused_of_nothing(patient: Patient) -> None:
    """Keys that were made, rotated, revoked; sessions that began and ended; limits, signers and tokens."""
    assert audit(patient.desk)[0] == []


def test_what_happens_while_the_audit_reads_is_no_contradiction(patient: Patient) -> None:
    """New callers, and an end to those that were read."""
    database = patient.desk.parts.database
    made = [add_tenant(database, "passing", [Scope.JOBS]) for _ in range(3)]
    token = begin_session(database, Staff("ann", AUDITOR, patient.job["ann"]))

    def go_on() -> None:
        add_tenant(database, "late", [Scope.READ])
        set_quota(database, "late", 9)
        set_quota(database, "passing", 9)
        limit_tenant(database, "passing", in_flight=2)
        revoke_signer(database, "passing", SIGNERS[0])
        revoke_api_key(database, made[0].id, staff=False)
        rotate_api_key(database, made[1].id, staff=False, overlap=5)
        begin_session(database, Staff("ann", AUDITOR, patient.job["ann"]))
        end_session(database, token)
        Worker(patient.desk.http, patient.desk.brokerage, name="node-3")
        schedule(patient.desk)

    assert audit(patient.desk, between=go_on)[0] == []
    assert audit(patient.desk)[0] == []


def test_a_gateway_that_starts_counts_the_rows_of_which_no_event_tells(patient: Patient) -> None:
    """By kind, each once; those that have their events are not among them."""

    def put_in(connection: Transaction) -> None:
        connection.execute(insert(enrolment_tokens).values(**DOOR, expires=2))
        for number in range(3):
            row = {**DOOR, "id": f"d00d{number}"}
            connection.execute(insert(api_keys).values(**row, tenant="bank", scopes="jobs"))
        for number in range(2):
            connection.execute(insert(tenants).values(name=f"ghost-{number}", created=1))

    database = patient.desk.parts.database
    with database.read() as connection:
        before = count_unlogged(connection)
    with patient.damaged(put_in), database.read() as connection:
        after = count_unlogged(connection)
    assert set(before.values()) == {"0"}
    assert after == {
        "unlogged-tenants": "2",
        "unlogged-credentials": "3",
        "unlogged-tokens": "1",
        "unlogged-gateways": "0",
    }


def test_a_limit_is_told_with_what_it_was_before(patient: Patient) -> None:
    """And one for a tenant that is not there is not set."""
    with patient.desk.parts.database.read() as connection:
        told = select(events.c.body).where(events.c.action == "limits.changed").order_by(events.c.id).limit(6)
        bodies = connection.execute(told).scalars()
    said = [re.search(r'"details":(\{[^}]*\})', body) for body in bodies]
    assert [one[1] for one in said if one is not None] == [
        '{"after":"7","limit":"in-flight"}',
        '{"after":"7","limit":"quota"}',
        '{"before":"7","limit":"in-flight"}',
        '{"before":"7","limit":"quota"}',
        '{"after":"5","limit":"in-flight"}',
        '{"after":"5","limit":"quota"}',
    ]
    for setting in (limit_tenant, set_quota):
        with pytest.raises(NotFoundError, match="tenant: nobody"):
            setting(
                patient.desk.parts.database, "nobody", **({"in_flight": 1} if setting is limit_tenant else {"most": 1})
            )


def test_rows_show_nothing_that_lets_anybody_in(patient: Patient) -> None:
    """No hash of a secret or of a session's token, and nobody's name."""
    with patient.desk.parts.database.read() as connection:
        secrets = [
            text
            for column in (api_keys.c.secret_hash, enrolment_tokens.c.secret_hash, sessions.c.token_hash)
            for text in connection.execute(select(column)).scalars()
        ]
    shown = "".join(
        patient.desk.auditor.ask("GET", f"/v1/audit/rows/{table}").text
        for table in ("api_keys", "sessions", "enrolment_tokens", "tenants")
    )
    assert len(secrets) > 20
    assert not [secret for secret in secrets if secret in shown]
    assert not [name for name in ("ann", "oidc:eva", "auditors") if f'"{name}"' in shown]


Harm = Callable[[Patient, Transaction], object]
Edit = tuple[str, Harm]


def of_key(name: str, **values: Any) -> Harm:
    """Another API key than was given out."""
    return lambda p, c: c.execute(update(api_keys).where(api_keys.c.id == p.job[name]).values(**values))


def of_session(name: str, **values: Any) -> Harm:
    """Another session than began."""
    return lambda p, c: c.execute(update(sessions).where(sessions.c.token_hash == p.job[name]).values(**values))


def of_tenant(name: str, **values: Any) -> Harm:
    """Another tenant than was added."""
    return lambda _, c: c.execute(update(tenants).where(tenants.c.name == name).values(**values))


def of_token(name: str, **values: Any) -> Harm:
    """Another enrolment token than was given out."""
    return lambda p, c: c.execute(update(enrolment_tokens).where(enrolment_tokens.c.id == p.job[name]).values(**values))


def put_in(table: Any, **values: Any) -> Harm:
    """A row that nobody told of."""
    return lambda _, c: c.execute(insert(table).values(**values))


def taken(table: Any, column: str, name: str) -> Harm:
    """A row that is gone."""
    return lambda p, c: c.execute(delete(table).where(table.c[column] == p.job.get(name, name)))


UNTOLD = "; no event of the log tells"
DOOR: Mapping[str, Any] = {"id": "d00d", "secret_hash": "0" * 64, "created": 1}
EDITS: Mapping[str, Edit] = {
    "a back door": (
        "credential:d00d: it has a row of api_keys, and no event of the log tells of it",
        put_in(api_keys, tenant="bank", scopes="jobs", **DOOR),
    ),
    "more scopes": (
        "credential:KEPT: in its row of api_keys, scopes is 'jobs publish read'; entry N has 'jobs read'",
        of_key("kept", scopes="jobs publish read"),
    ),
    "another owner": (
        "credential:KEPT: in its row of api_keys, tenant is 'bank'; entry N has 'shop-0'",
        of_key("kept", tenant="bank"),
    ),
    "a tenant's key that is staff's": (
        "credential:KEPT: in its row of api_keys, staff is 'nameless'; entry N has None",
        of_key("kept", staff="zed"),
    ),
    "another of the staff": (
        "credential:ANN: in its row of api_keys, staff is 'staff-HEX'; entry N has 'staff-HEX'",
        of_key("ann", staff="ben"),
    ),
    "another role": (
        "credential:ANN: in its row of api_keys, scopes is 'operator'; entry N has 'auditor'",
        of_key("ann", scopes="operator"),
    ),
    "another secret": (
        "credential:KEPT: in its row of api_keys, secret_hash is 'sha256:HEX'; entry N has 'sha256:HEX'",
        of_key("kept", secret_hash="1" * 64),
    ),
    "another age": (
        "credential:KEPT: in its row of api_keys, created is 17; entry N has TIME",
        of_key("kept", created=17),
    ),
    "no end": (
        "credential:ENDING: in its row of api_keys, expires is None; entry N has TIME",
        of_key("ending", expires=None),
    ),
    "no end after a rotation": (
        "credential:ROTATED: in its row of api_keys, expires is 9000000000000000; entry N has TIME",
        of_key("rotated", expires=9 * 10**15),
    ),
    "an end that nobody set": (
        "credential:KEPT: in its row of api_keys, expires is 1; entry N has None",
        of_key("kept", expires=1),
    ),
    "a revocation, taken back": (
        "credential:GONE: in its row of api_keys, revoked is None; entry N has TIME",
        of_key("gone", revoked=None),
    ),
    "a revocation that nobody made": (
        "credential:KEPT: in its row of api_keys, revoked is 5; no event of the log tells that it was revoked",
        of_key("kept", revoked=5),
    ),
    "an API key, deleted": (
        "credential:GONE: the API key that entry N tells of has no row of api_keys",
        taken(api_keys, "id", "gone"),
    ),
    "a session that nobody began": (
        "session:00000000000000000000000000000000: it has a row of sessions, and no event of the log tells of it",
        put_in(sessions, token_hash="0" * 64, person="eva", grounds="[]", expires=9, created=9 * 10**12, used=0),
    ),
    "a session of another key": (
        "session:SESSION: in its row of sessions, api_key is 'KEPT'; entry N has 'ANN'",
        lambda p, c: of_session("session", api_key=p.job["kept"])(p, c),
    ),
    "a session of another person": (
        "session:VISIT: in its row of sessions, person is 'nameless'; entry N has 'staff-HEX'",
        of_session("visit", person="zed"),
    ),
    "a session on other grounds": (
        "session:VISIT: in its row of sessions, grounds is 'sha256:HEX'; entry N has 'sha256:HEX'",
        of_session("visit", grounds='["issuer", "guests"]'),
    ),
    "a session's age": (
        "session:SESSION: in its row of sessions, created is 9000000000000000; entry N has TIME",
        of_session("session", created=9 * 10**15),
    ),
    "a session's end": (
        "session:VISIT: in its row of sessions, expires is 9000000000000000; entry N has TIME",
        of_session("visit", expires=9 * 10**15),
    ),
    "a tenant that nobody added": (
        "tenant ghost: it has a row of tenants, and no event of the log tells of it",
        put_in(tenants, name="ghost", created=1),
    ),
    "a tenant, deleted": (
        "tenant shop-3: the tenant that entry N tells of has no row of tenants",
        taken(tenants, "name", "shop-3"),
    ),
    "a tenant's age": (
        "tenant shop-3: in its row of tenants, created is 17; entry N has TIME",
        of_tenant("shop-3", created=17),
    ),
    "a signer, believed again": (
        f"tenant shop-0: in its row of tenants, revoked_signers has not {SIGNERS[0]}; entry N revokes it",
        of_tenant("shop-0", revoked_signers=SIGNERS[1]),
    ),
    "a signer, revoked in secret": (
        f"tenant shop-3: in its row of tenants, revoked_signers has {SIGNERS[2]}{UNTOLD} that it was revoked",
        of_tenant("shop-3", revoked_signers=SIGNERS[2]),
    ),
    "how much of it nodes may have": (
        "tenant shop-0: in its row of tenants, in_flight is None; entry N has 5",
        of_tenant("shop-0", in_flight=None),
    ),
    "a quota": (
        "tenant shop-1: in its row of tenants, quota is 6; entry N has 5",
        of_tenant("shop-1", quota=6),
    ),
    "a quota that nobody set": (
        "tenant shop-3: in its row of tenants, quota is 6; no event of the log tells that it was set",
        of_tenant("shop-3", quota=6),
    ),
    "a back door for nodes": (
        "enrolment-token:d00d: it has a row of enrolment_tokens, and no event of the log tells of it",
        put_in(enrolment_tokens, expires=9 * 10**15, **DOOR),
    ),
    "a token's secret": (
        "enrolment-token:TOKEN: in its row of enrolment_tokens, secret_hash is 'sha256:HEX'; entry N has 'sha256:HEX'",
        of_token("token", secret_hash="1" * 64),
    ),
    "a token's end": (
        "enrolment-token:TOKEN: in its row of enrolment_tokens, expires is 9000000000000000; entry N has TIME",
        of_token("token", expires=9 * 10**15),
    ),
    "a token, to be used again": (
        "enrolment-token:SPENT: in its row of enrolment_tokens, node is None; entry N has 'ed25519:KEY'",
        of_token("spent", node=None),
    ),
    "a token, used up by nobody": (
        f"enrolment-token:TOKEN: in its row of enrolment_tokens, node is 'x'{UNTOLD} of a node that came by it",
        of_token("token", node="x"),
    ),
    "a token, deleted": (
        "enrolment-token:SPENT: the enrolment token that entry N tells of has no row of enrolment_tokens",
        taken(enrolment_tokens, "id", "spent"),
    ),
    "a key's blob, deleted": (
        "key:ACTIVE: it has no row of blobs at tenant bank, and was not destroyed",
        taken(blobs, "digest", "key active"),
    ),
    "a key's size": (
        "key:ACTIVE: in its row of blobs, size is 31; statement 1 has 30",
        lambda p, c: c.execute(update(blobs).where(blobs.c.digest == p.job["key active"]).values(size=31)),
    ),
    "a destroyed key's blob": (
        "key:DESTROYED: it has a row of blobs at tenant bank, and was destroyed by statement 2",
        lambda p, c: c.execute(
            insert(blobs).values(tenant="bank", digest=p.job["key destroyed"], size=30, stored=0, object="x")
        ),
    ),
}


def plain(found: str, patient: Patient) -> str:
    """A finding without what is another in each run."""
    for name in ("kept", "ending", "rotated", "gone", "ann", "token", "spent"):
        found = found.replace(patient.job[name], name.upper())
    for name in ("session", "visit"):
        found = found.replace(patient.job[name][:32], name.upper())
    for state in ("active", "destroyed"):
        found = found.replace(patient.job[f"key {state}"], state.upper())
    found = re.sub(r"entry \d+", "entry N", found)
    found = re.sub(r"has \d{13}$", "has TIME", found)
    return re.sub(r"(sha256:|staff-)[0-9a-f]{32,64}", r"\1HEX", re.sub(r"'ed25519:[^']+'$", "'ed25519:KEY'", found))


@pytest.mark.sqlite
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_named_by_its_row_and_column(edit: str, patient: Patient) -> None:
    """And nothing else is accused."""
    message, harm = EDITS[edit]
    with patient.damaged(lambda connection: harm(patient, connection)):
        found, _ = audit(patient.desk)
    # What is counted of blobs is no longer what there is, and says so by itself.
    others = [one for one in found if "in its row of stored_bytes, bytes is" not in one]
    assert [plain(one, patient) for one in others] == [f"row: {message}"]
    assert len(others) == len(found) or "blobs" in message


def test_whatever_is_set_behind_the_logs_back_is_named_after_it_was_set_anew(tmp_path: Path) -> None:
    """A command that comes after the edit does not hide it: it says what it found."""
    with open_desk(tmp_path) as desk:
        set_quota(desk.parts.database, "bank", 7)
        with desk.parts.database.write() as connection:
            connection.execute(update(tenants).values(quota=10**15, in_flight=999))
        set_quota(desk.parts.database, "bank", 8)
        limit_tenant(desk.parts.database, "clinic", in_flight=8)
        found, _ = audit(desk)
    said = [re.sub(r"tenant-[0-9a-f]{32}", "tenant-HEX", re.sub(r"entry \d+", "entry N", one)) for one in found]
    assert "row: tenant:tenant-HEX: entry N found its quota at 1000000000000000; since entry N it was 7" in said
    assert "row: tenant:tenant-HEX: entry N found its in_flight at 999; since entry N it was None" in said


def test_names_that_were_erased_accuse_nobody_and_hide_no_tenant(tmp_path: Path) -> None:
    """Their rows are theirs by the time at which they were made."""
    with open_desk(tmp_path) as desk:
        database = desk.parts.database
        ann = add_staff(database, "ann", StaffRole.AUDITOR)
        begin_session(database, Staff("ann", AUDITOR, ann.id))
        set_quota(database, "clinic", 7)
        revoke_signer(database, "clinic", SIGNERS[0])
        for number in range(3):
            add_tenant(database, f"shop-{number}", [Scope.JOBS])
        erase_name(database, "staff", "ann", reason="asked")
        for name in ("clinic", "shop-1"):
            erase_name(database, "tenant", name, reason="asked")
        tell_start(desk.brokerage.settings)
        assert audit(desk)[0] == []
        add_tenant(database, "clinic", [Scope.JOBS])  # comes back, under another pseudonym
        set_quota(database, "clinic", 9)
        assert audit(desk)[0] == []
        with database.write() as connection:
            connection.execute(delete(api_keys).where(api_keys.c.tenant == "shop-1"))
            connection.execute(delete(tenants).where(tenants.c.name == "shop-1"))
        assert any("no row of tenants was made when entry" in one for one in audit(desk)[0])


def test_events_that_were_erased_may_have_told_of_as_many_rows(tmp_path: Path) -> None:
    """One more row than that is one too many."""
    with open_desk(tmp_path) as desk:
        database = desk.parts.database
        key = add_tenant(database, "bank", [Scope.READ])
        revoke_api_key(database, key.id, staff=False)
        tell_start(desk.brokerage.settings)
        desk.parts.log.sequencer.advance()
        with database.read() as connection:
            told = select(events.c.position).where(events.c.object == f"credential:{key.id}")
            positions = connection.execute(told).scalars()
        erase_events(database, positions, reason="asked")
        assert audit(desk, erased=2)[0] == []
        with database.write() as connection:
            for number in range(2):
                connection.execute(
                    insert(api_keys).values(
                        id=f"d00d{number}", secret_hash="0", created=1, tenant="bank", scopes="jobs"
                    )
                )
        assert len(audit(desk, erased=2)[0]) == 3


def test_a_gateway_that_shows_fewer_tables_is_held_by_those(patient: Patient) -> None:
    """One of before shows none of these, and is accused of nothing."""
    hidden: tuple[TableName, ...] = ("tenants", "api_keys", "sessions", "enrolment_tokens", "blobs")
    assert audit(patient.desk, hidden=hidden)[0] == []


def test_a_gateway_of_before_is_held_to_what_its_events_say(tmp_path: Path) -> None:
    """They state no times, no secrets, no limits and no tokens; what was there before the log began is let be, once counted."""
    with open_desk(tmp_path) as desk:
        database = desk.parts.database
        with database.write() as connection:
            connection.execute(
                insert(api_keys).values(id="01d", secret_hash="0", created=1, tenant="bank", scopes="jobs")
            )
            connection.execute(delete(enrolment_tokens))
            connection.execute(insert(enrolment_tokens).values(id="01d", secret_hash="0", created=1, expires=2))
            connection.execute(update(tenants).values(quota=7))
            connection.execute(update(api_keys).where(api_keys.c.tenant == "bank").values(expires=9 * 10**12))
        add_tenant(database, "bank", [Scope.READ])
        assert audit(desk, tells=of_before)[0] == []
        tell_start(desk.brokerage.settings)
        with database.write() as connection:
            connection.execute(insert(api_keys).values(**DOOR, tenant="bank", scopes="jobs"))
            connection.execute(insert(enrolment_tokens).values(**DOOR, expires=2))
        found, _ = audit(desk, tells=of_before)
    assert sorted(re.sub(r"entry \d+", "entry N", one) for one in found) == [
        f"row: {about}: it has a row of {table}, and{UNTOLD[1:]} of it; there were 1 such when entry N was written"
        for about, table in (
            ("credential:01d", "api_keys"),
            ("credential:d00d", "api_keys"),
            ("enrolment-token:01d", "enrolment_tokens"),
            ("enrolment-token:d00d", "enrolment_tokens"),
        )
    ]


def of_before(event: Event) -> Event | None:
    """An event as gateways of before wrote it, or none where they wrote none."""
    if event.object.startswith("enrolment-token:") or event.action is Action.LIMITS_CHANGED:
        return None
    new = {"created", "expires", "secret", "revoked", "replaced-expires", "token", "grounds"}
    return event.model_copy(update={"details": {name: text for name, text in event.details.items() if name not in new}})

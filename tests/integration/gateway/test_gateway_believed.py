"""Whom real gateways believe, told in the log across their restarts."""

from pathlib import Path

import pytest
from sqlalchemy import select

from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import events
from blindgate_protocol.events import Action, Event
from blindgate_protocol.signing import SigningKey
from brokerage import GatewayProcess, Keys, make_settings
from postgresql import PostgresqlServer

NEW = SigningKey.generate().id


def told(settings: Settings) -> list[tuple[Action, str]]:
    """What the log tells of signers, in its order."""
    database = connect(settings)
    try:
        with database.read() as connection:
            rows = connection.execute(
                select(events.c.body).where(events.c.object.startswith("signer:")).order_by(events.c.id)
            ).all()
    finally:
        database.close()
    found = [Event.from_bytes(row.body.encode()) for row in rows]
    return [(Action(event.action), event.object.removeprefix("signer:")) for event in found]


@pytest.mark.slow
def test_a_change_that_is_rolled_over_two_gateways_is_told_once(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """One works all the time; one is killed and comes back; each starts twice with the new settings."""
    keys, database = Keys(), postgresql_server.new_database()
    old = [make_settings(tmp_path / name, keys, database=database, log_key=tmp_path / "log.key") for name in "ab"]
    new = [one.model_copy(update={"operators": (NEW,)}) for one in old]
    gateways = [GatewayProcess(one) for one in old]
    try:
        for gateway in gateways:
            gateway.start()
        begun = [(Action.SIGNER_ADDED, key) for key in (keys.operator.id, keys.publisher.id)]
        assert told(old[0]) == begun
        steps = [
            (0, [(Action.SIGNER_ADDED, NEW)]),
            (0, []),
            (1, [(Action.SIGNER_REVOKED, keys.operator.id)]),
            (1, []),
            (0, []),
        ]
        for number, (place, more) in enumerate(steps):
            if number % 2:
                gateways[place].kill()
            else:
                assert gateways[place].stop() == 0
            gateways[place] = GatewayProcess(new[place])
            gateways[place].start()
            begun += more
            assert told(old[0]) == begun, f"step {number}"
    finally:
        for gateway in gateways:
            if gateway.running:
                gateway.kill()


@pytest.mark.slow
def test_one_gateway_on_a_file_tells_a_change_at_its_next_start(tmp_path: Path) -> None:
    """Whether it stopped in order or not, and nothing where nothing changed."""
    keys = Keys()
    old = make_settings(tmp_path / "gateway", keys)
    new = old.model_copy(update={"operators": (NEW,)})
    counts = []
    for settings in (old, old, new, new):
        gateway = GatewayProcess(settings)
        gateway.start()
        counts.append(len(told(settings)))
        gateway.kill()
    assert counts == [2, 2, 4, 4]
    assert told(new)[2:] == [(Action.SIGNER_REVOKED, keys.operator.id), (Action.SIGNER_ADDED, NEW)]

"""Nodes sign every request: what a gateway takes, and what it says to what it does not take."""

import re
import time
from typing import Any

import pytest
from sqlalchemy import func, select, update

from blindgate_gateway.app import create_app
from blindgate_gateway.identity import signatures, sweep_nonces
from blindgate_gateway.tables import nonces
from blindgate_protocol.canonical import digest
from blindgate_protocol.http_signatures import CONTENT_DIGEST, content_digest, signed_fields
from blindgate_protocol.messages import LEASE_HEADER, LeaseRequest
from blindgate_protocol.signing import SigningKey
from brokerage import Worker, now_ms, random_bytes
from desk import Desk, connection_to

ASK = LeaseRequest(families=("echo",)).model_dump_json().encode()
HOUR_SECONDS = 3600


def _post(desk: Desk, headers: dict[str, str], content: bytes = ASK, path: str = "/v1/leases") -> Any:
    return desk.http.post(path, content=content, headers=headers)


def test_a_signed_request_is_answered_once(desk: Desk) -> None:
    """The second is a replay, whoever sends it."""
    headers = desk.worker.signed("POST", "/v1/leases", ASK)
    assert _post(desk, headers).status_code == 204
    again = _post(desk, headers)
    assert (again.status_code, again.json()["code"]) == (401, "replayed")


def test_a_replay_is_refused_by_every_other_process_too(desk: Desk) -> None:
    """What decides is the database: another application on it refuses what the first one took."""
    other = create_app(desk.brokerage.settings)
    headers = desk.worker.signed("POST", "/v1/leases", ASK)
    with connection_to(other, desk.brokerage.settings) as http:
        assert http.post("/v1/leases", content=ASK, headers=headers).status_code == 204
    assert _post(desk, headers).json()["code"] == "replayed"


def test_a_clock_that_is_set_while_a_request_is_looked_at_makes_no_replay_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was right when it was looked at first: whoever sent it learns of the clock, not of a replay that never was."""
    looks: list[object] = []

    def look(made: int, now: int) -> None:
        looks.append(None)
        if len(looks) > 1:
            real(made, now)

    real = signatures.check_clock
    monkeypatch.setattr(signatures, "check_clock", look)
    headers = desk.worker.signed("POST", "/v1/leases", ASK, created=now_ms() // 1000 - HOUR_SECONDS)
    refused = _post(desk, headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "clock-skew")


def test_two_nodes_may_draw_the_same_nonce(desk: Desk) -> None:
    """A nonce is a node's own: nobody can use up another's."""
    second = Worker(desk.http, desk.brokerage, name="node-2")
    nonce = random_bytes(16)
    for worker in (desk.worker, second):
        assert _post(desk, worker.signed("POST", "/v1/leases", ASK, nonce=nonce)).status_code == 204


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        pytest.param(-HOUR_SECONDS, r"3,(59|60)\d s behind the gateway's", id="an hour behind"),
        pytest.param(HOUR_SECONDS, r"3,(59|60)\d s ahead of the gateway's", id="an hour ahead"),
    ],
)
def test_a_clock_that_is_off_is_told_by_how_much(desk: Desk, seconds: int, says: str) -> None:
    """Within two minutes nothing is said."""
    now = round(time.time())
    refused = _post(desk, desk.worker.signed("POST", "/v1/leases", ASK, created=now + seconds))
    assert (refused.status_code, refused.json()["code"]) == (401, "clock-skew")
    assert re.search(says, refused.json()["detail"])
    assert _post(desk, desk.worker.signed("POST", "/v1/leases", ASK, created=now + seconds // 36)).status_code == 204


def test_a_stranger_is_not_told_what_time_it_is(desk: Desk) -> None:
    """Who is no node of this gateway learns that, and nothing of clocks or nonces."""
    stranger = desk.worker.over(desk.http)
    stranger.key = SigningKey.generate()
    refused = _post(desk, stranger.signed("POST", "/v1/leases", ASK, created=1))
    assert (refused.status_code, refused.json()["code"]) == (401, "not-authorised")


def _other_body(desk: Desk) -> Any:
    return _post(desk, desk.worker.signed("POST", "/v1/leases", ASK), ASK.replace(b"echo", b"ecko"))


def _no_digest(desk: Desk) -> Any:
    return _post(desk, desk.worker.signed("POST", "/v1/leases", None))


def _digest_not_covered(desk: Desk) -> Any:
    headers = desk.worker.signed("POST", "/v1/leases", None) | {CONTENT_DIGEST: content_digest(digest(ASK))}
    return _post(desk, headers)


def _lease_not_covered(desk: Desk) -> Any:
    lease = desk.leased()
    path = f"/v1/leases/{lease.job}/heartbeat"
    named = {LEASE_HEADER: f"{lease.generation}.{lease.token}"}
    return _post(desk, desk.worker.signed("POST", path, fields=signed_fields(None, None)) | named, b"", path)


def _other_route(desk: Desk) -> Any:
    return _post(desk, desk.worker.signed("POST", "/v1/leases", ASK), ASK, "/v1/leases?x=1")


def _other_gateway(desk: Desk) -> Any:
    return _post(desk, desk.worker.signed("POST", "/v1/leases", ASK, target="http://elsewhere:1/v1/leases"))


def _made_up_host(desk: Desk) -> Any:
    headers = desk.worker.signed("POST", "/v1/leases", ASK, target="http://elsewhere:1/v1/leases")
    return _post(desk, headers | {"Host": "elsewhere:1"})


def _two_credentials(desk: Desk) -> Any:
    headers = desk.worker.signed("POST", "/v1/leases", ASK)
    return _post(desk, headers | {"Authorization": f"Bearer {desk.tenant.token}"})


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("call", "status"),
    [
        pytest.param(_other_body, 422, id="another body"),
        pytest.param(_no_digest, 401, id="a body without a digest"),
        pytest.param(_digest_not_covered, 401, id="a digest that is not signed"),
        pytest.param(_lease_not_covered, 401, id="a lease that is not signed"),
        pytest.param(_other_route, 401, id="another query"),
        pytest.param(_other_gateway, 401, id="another gateway"),
        pytest.param(_made_up_host, 401, id="another gateway, by the name of its host"),
        pytest.param(_two_credentials, 401, id="two credentials"),
    ],
)
def test_what_was_not_signed_so_is_refused(desk: Desk, call: Any, status: int) -> None:
    """Nothing of a request can be exchanged on its way."""
    assert call(desk).status_code == status


def test_a_proxy_may_give_the_gateway_another_host(desk: Desk) -> None:
    """The node signed an address that the gateway knows as its own; what `Host` says is no proof of anything."""
    assert _post(desk, desk.worker.signed("POST", "/v1/leases", ASK) | {"Host": "inside:8080"}).status_code == 204


def test_a_result_is_compared_with_what_was_signed_while_it_comes(desk: Desk) -> None:
    """Nothing of it is stored when it is another."""
    lease = desk.leased()
    path = f"/v1/leases/{lease.job}/result"
    headers = desk.worker.signed("PUT", path, b"the result", {LEASE_HEADER: f"{lease.generation}.{lease.token}"})
    refused = desk.http.put(path, content=b"another one", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert desk.worker.commit(lease, desk.worker.receipt(lease, b"another one")).status_code == 422
    desk.worker.finish(lease, b"the result")


def test_nonces_are_forgotten_when_nobody_could_replay_them(desk: Desk) -> None:
    """And not before: the table stays as small as the window is short."""
    database = desk.parts.database

    def count() -> int:
        with database.read() as connection:
            return int(connection.execute(select(func.count().label("n")).select_from(nonces)).scalar())

    desk.worker.lease()
    desk.worker.lease()
    assert count() == 2
    sweep_nonces(database)
    assert count() == 2
    with database.write() as connection:
        connection.execute(update(nonces).values(until=now_ms() - 61_000))
    sweep_nonces(database)
    assert count() == 0

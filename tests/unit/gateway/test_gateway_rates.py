"""How much one caller may ask for, how often one address may be wrong, and what both are told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from blindgate_gateway.rates import MOST, Buckets, Rates
from blindgate_gateway.settings import Settings
from brokerage import Caller, now_ms
from desk import Desk, open_desk


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_a_bucket_gives_what_flows_in_and_no_more() -> None:
    """A burst, then the rate; who has to wait is told for how long."""
    clock = Clock()
    buckets = Buckets(rate=2.0, size=3.0, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    clock.now = 0.25
    assert buckets.take("a") == pytest.approx(0.25)
    clock.now = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    clock.now = 1000.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_looking_takes_nothing_and_no_rate_is_no_limit() -> None:
    """Off is off."""
    buckets = Buckets(rate=1.0, size=1.0, clock=Clock())
    assert [buckets.take("a", 0), buckets.take("a", 0), buckets.take("a"), buckets.take("a", 0)] == [0, 0, 0, 1]
    off = Buckets(rate=0.0, size=0.0)
    assert {off.take("a") for _ in range(1000)} == {0}


def test_strangers_cannot_fill_the_memory() -> None:
    """The oldest are forgotten."""
    buckets = Buckets(rate=1.0, size=1.0, clock=Clock())
    for number in range(MOST + 10):
        buckets.take(str(number))
    assert len(buckets._levels) == MOST
    assert buckets.take("0") == 0
    assert buckets.take(str(MOST)) == 1


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        pytest.param("203.0.113.9", None, "203.0.113.9", id="no proxy"),
        pytest.param("203.0.113.9", "198.51.100.1", "203.0.113.9", id="a stranger who says that it is a proxy"),
        pytest.param("10.0.0.1", "198.51.100.1", "198.51.100.1", id="behind the proxy"),
        pytest.param("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1", id="what the caller wrote itself"),
        pytest.param("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1", id="two proxies"),
        pytest.param("10.0.0.1", None, "10.0.0.1", id="the proxy itself"),
        pytest.param("10.0.0.1", "nonsense", "10.0.0.1", id="no address"),
        pytest.param("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::", id="a network of IPv6"),
    ],
)
def test_an_address_is_who_the_own_proxies_saw(remote: str, forwarded: str | None, address: str) -> None:
    """Nobody chooses another's address, or a fresh one each time."""
    rates = Rates(Settings(proxies="10.0.0.0/8"))
    headers = [] if forwarded is None else [("X-Forwarded-For", forwarded)]
    environ = EnvironBuilder(headers=headers, environ_base={"REMOTE_ADDR": remote}).get_environ()
    assert rates.address_of(Request(environ)) == address


@pytest.fixture
def strict(tmp_path: Path, database_url: str | None) -> Iterator[Desk]:
    """A gateway with next to no patience."""
    with open_desk(tmp_path, database=database_url, rate=0.5, failures=5) as desk:
        yield desk


def test_a_credential_that_asks_too_much_is_told_when_to_come_again(strict: Desk) -> None:
    """And nobody else is."""
    answers = [strict.tenant.send("GET", "/v1/jobs") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].json()["code"] == "rate-limited"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2
    assert strict.stranger.send("GET", "/v1/jobs").status_code == 200
    assert strict.worker.send("POST", "/v1/leases", b'{"families":["echo"]}').status_code == 204


def test_an_address_that_is_wrong_too_often_is_not_looked_at(strict: Desk) -> None:
    """A good credential of a neighbour's is, if it was good before; a new one has to wait."""
    assert strict.tenant.send("GET", "/v1/jobs").status_code == 200
    wrong = Caller(strict.http, f"bg_0000000000000000.{'A' * 43}")
    codes = [wrong.send("GET", "/v1/jobs").status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    fresh = Caller(strict.http, strict.brokerage.api_key("bank"))
    refused = fresh.send("GET", "/v1/jobs")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert int(refused.headers["Retry-After"]) >= 1
    assert strict.tenant.send("GET", "/v1/jobs").status_code == 200
    assert strict.worker.send("POST", "/v1/leases", b'{"families":["echo"]}').status_code in {204, 429}


def test_enrolments_that_are_refused_count_as_wrong_credentials(strict: Desk) -> None:
    """Who guesses tokens gets five guesses; the sixth is not looked at, and costs no token."""
    gateway = str(strict.http.base_url).rstrip("/")
    for _ in range(5):
        body = strict.worker.enrolment("be_0000000000000000.guessed", gateway)
        assert strict.http.post("/v1/nodes", content=body.model_dump_json().encode()).status_code == 401
    good = strict.worker.enrolment(strict.brokerage.enrolment_token(), gateway, issued=now_ms())
    assert strict.http.post("/v1/nodes", content=good.model_dump_json().encode()).status_code == 429

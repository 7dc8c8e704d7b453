"""Real gateway processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokerage import Brokerage, GatewayProcess, Keys, Publisher, Running, Tenant, Worker, http_client, make_settings
from campaigns import CAMPAIGN

_WORKERS = {"one worker": 1, "three workers": 3} if CAMPAIGN > 1 else {"three workers": 3}
"""One is what most other tests of a gateway have."""


@pytest.fixture(params=_WORKERS)
def running(request: pytest.FixtureRequest, tmp_path: Path, database_url: str | None) -> Iterator[Running]:
    """A gateway with a model, a tenant and a node, over HTTP, on each database; for a test that ends it."""
    with _gateway(tmp_path, _WORKERS[request.param], database_url) as made:
        yield made


@pytest.fixture(
    scope="module", params=[f"{database}, {workers}" for database in ("sqlite", "postgresql") for workers in _WORKERS]
)
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The same, as an operator would start it, shared by the tests of a module that leave it as it is."""
    database, _, workers = request.param.partition(", ")
    url = request.getfixturevalue("postgresql_server").new_database() if database == "postgresql" else None
    with _gateway(tmp_path_factory.mktemp("standing"), _WORKERS[workers], url, fresh=True) as made:
        yield made


@contextmanager
def _gateway(folder: Path, workers: int, database: str | None, *, fresh: bool = False) -> Iterator[Running]:
    keys = Keys()
    settings = make_settings(folder / "gateway", keys, workers=workers, threads=16, part=256 * 1024, database=database)
    brokerage = Brokerage(settings, keys)
    gateway = GatewayProcess(settings, fresh=fresh)
    gateway.start()
    try:
        with http_client(gateway.url) as first, http_client(gateway.url) as second:
            manifest = brokerage.manifest()
            Publisher(first, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(first, brokerage.api_key("bank"), name="bank", keys=keys)
            yield Running(brokerage, gateway, manifest, tenant, Worker(second, brokerage))
    finally:
        if gateway.running:
            gateway.kill()

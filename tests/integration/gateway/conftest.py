"""Real gateway processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerage import Brokerage, GatewayProcess, Keys, Publisher, Running, Tenant, Worker, http_client, make_settings


@pytest.fixture(params=[1, 3], ids=["one worker", "three workers"])
def running(request: pytest.FixtureRequest, tmp_path: Path, database_url: str | None) -> Iterator[Running]:
    """A gateway with a model, a tenant and a node, over HTTP, on each database."""
    keys = Keys()
    given = {"workers": request.param, "threads": 16, "part": 256 * 1024, "database": database_url}
    settings = make_settings(tmp_path / "gateway", keys, **given)
    brokerage = Brokerage(settings, keys)
    gateway = GatewayProcess(settings)
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

"""What a client does when it has revoked a key: through a real gateway, a real node and a real log."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from between import Proxy
from blindgate import Client
from blindgate.bundles import Bundles
from blindgate.job import Job
from blindgate.policy import Policy
from blindgate_protocol.errors import RevokedSignerError
from blindgate_protocol.messages import JobView
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.revocations import Revocation
from blindgate_protocol.signing import open_signed
from world import World

ROLES = ["publisher", "client", "operator", "node"]
HOUR = 3_600_000


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    """A proxy before the world's gateway, which hears what is sent."""
    with Proxy(world.url) as between:
        yield between


def revoking(world: World, proxy: Proxy, home: Path, *keys: str, at: int, log: bool = True) -> Client:
    """A client whose policy revokes these keys."""
    policy = world.policy(home / "policy.toml")
    given = Policy(
        policy.publishers,
        policy.operators,
        path=policy.path,
        logs=policy.logs if log else {},
        revoked={key: Revocation(at=at) for key in keys},
    )
    given.save()
    return Client(proxy.url, world.api_key("hospital"), policy=home / "policy.toml", home=home)


def signer(job: Job, view: JobView, role: str) -> str:
    """Who signed in this role for the job."""
    assert view.receipt is not None
    receipt = open_signed(view.receipt, Receipt).document
    order = job.bundle.order.document
    keys = {
        "publisher": job.bundle.manifest.signer,
        "client": order.client,
        "operator": order.operators[0],
        "node": receipt.node,
    }
    return keys[role]


@pytest.mark.parametrize("log", [pytest.param(True, id="logged"), pytest.param(False, id="no log")])
@pytest.mark.parametrize("role", ROLES)
def test_a_result_from_before_opens_and_one_from_since_is_not_even_acknowledged(
    world: World, proxy: Proxy, tmp_path: Path, small_rows: np.ndarray[Any, Any], role: str, *, log: bool
) -> None:
    """Whoever was revoked, whether the job is taken up again then or was under way."""
    with revoking(world, proxy, tmp_path, at=0, log=log) as client:
        job = client.model("small").submit(small_rows[:3])
        key = signer(job, job._wait(60), role)
        now = time.time_ns() // 1_000_000
        client.policy.revoked[key] = Revocation(at=now - HOUR)
        with pytest.raises(RevokedSignerError, match=f"{role} {key} is revoked"):
            job.fetch(60)
        assert Bundles(tmp_path / "bundles").load(job.id).receipt is None
        assert not any(said.path.endswith("/acknowledge") for said in proxy.heard)
    with revoking(world, proxy, tmp_path, key, at=now + 2000, log=log) as client:
        time.sleep(max(0.0, now / 1000 + 2.1 - time.time()))  # revoked by now, and after the result
        assert client.job(job.id).result(60).shape == (3,)
        assert any(said.path.endswith("/acknowledge") for said in proxy.heard)


@pytest.mark.parametrize("role", ["publisher", "client", "operator"])
def test_nothing_new_is_begun_with_a_revoked_key(
    world: World, proxy: Proxy, tmp_path: Path, small_rows: np.ndarray[Any, Any], role: str
) -> None:
    """Nor with a model that was taken before; refused before anything is sent."""
    with revoking(world, proxy, tmp_path, at=0) as client:
        model = client.model("small")
        job = model.submit(small_rows[:1])
        key = signer(job, job._wait(60), role)
        client.policy.revoked[key] = Revocation(at=time.time_ns() // 1_000_000)
        proxy.heard.clear()
        with pytest.raises(RevokedSignerError, match=f"{role} {key} is revoked"):
            model.predict(small_rows[:1])
        assert proxy.heard == []
        if role == "publisher":
            with pytest.raises(RevokedSignerError, match=key):
                client.model("small")

"""What a client does when it has revoked a key: through a real gateway, a real node and a real log."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from between import Proxy
from blindgate import Client
from blindgate.bundles import Bundles
from blindgate.commands import models, predict
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
    with revoking(world, proxy, tmp_path, key, at=now + 200, log=log) as client:
        time.sleep(max(0.0, now / 1000 + 0.3 - time.time()))  # revoked by now, and after the result
        assert client.job(job.id).result(60).shape == (3,)
        assert any(said.path.endswith("/acknowledge") for said in proxy.heard)


def test_a_job_that_was_under_way_when_its_clients_key_was_revoked_is_opened(
    world: World, proxy: Proxy, tmp_path: Path, small_rows: np.ndarray[Any, Any]
) -> None:
    """By the millisecond at which the gateway took the order, as its log says; from then on it is refused."""
    with revoking(world, proxy, tmp_path, at=0) as client:
        job = client.model("small").submit(small_rows[:3])
        view = job._wait(60)
        key = signer(job, view, "client")
        client.policy.revoked[key] = Revocation(at=view.submitted)
        with pytest.raises(RevokedSignerError, match=f"client {key} is revoked .* submitted, as the log says"):
            job.fetch(60)
        client.policy.revoked[key] = Revocation(at=view.submitted + 1)
        assert job.result(60).shape == (3,)


def test_models_of_a_publisher_that_is_revoked_or_a_stranger_are_marked_and_not_asked(
    world: World, tmp_path: Path
) -> None:
    """In the list, for people and for scripts; and predicting with one says why not."""
    policy = world.policy(tmp_path / "policy.toml")
    key = policy.publishers["tests"]
    environment = {
        "BLINDGATE_URL": world.url,
        "BLINDGATE_API_KEY": world.api_key("hospital"),
        "BLINDGATE_HOME": str(tmp_path),
    }

    def run(*command: str) -> Result:
        app = models.app if command[0] != "small" else predict.app
        return CliRunner().invoke(app, list(command), env=environment | {"COLUMNS": "250"})

    def listed(**changes: Any) -> dict[str, Any]:
        replace(policy, **changes).save()
        found = {one["name"]: one for one in json.loads(run("list", "--json").stdout)}
        return {name: found["small"][name] for name in ("publisher", "publisher_key", "trust", "revoked_from")}

    assert listed() == {"publisher": "tests", "publisher_key": key, "trust": "yes", "revoked_from": None}
    assert listed(publishers={}) == {
        "publisher": None,
        "publisher_key": key,
        "trust": "not trusted",
        "revoked_from": None,
    }
    assert "not trusted" in run("show", "small").stdout
    later = time.time_ns() // 1_000_000 + HOUR
    assert listed(revoked={key: Revocation(at=later)})["trust"] == "yes"
    assert "yes, but revoked from" in run("list").stdout
    revoked = listed(revoked={key: Revocation(at=HOUR, reason="a laptop was stolen")})
    assert (revoked["trust"], revoked["revoked_from"]) == ("revoked", HOUR)
    assert "revoked from 1970-01-01 01:00:00 UTC (a laptop was stolen)" in run("list").stdout
    assert json.loads(run("show", "small", "--json").stdout)["trust"] == "revoked"
    (tmp_path / "rows.csv").write_text("x0,x1,x2,x3\n0,0,0,0\n")
    refused = run("small", str(tmp_path / "rows.csv"))
    assert isinstance(refused.exception, RevokedSignerError)
    assert f"publisher {key} is revoked from 1970-01-01" in str(refused.exception)


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

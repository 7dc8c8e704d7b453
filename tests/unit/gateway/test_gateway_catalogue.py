"""Which models are taken in, and who gets which part."""

from typing import Any

import pytest

from blindgate_protocol.messages import ModelList, ModelOffer
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import BlobRef
from desk import Desk


def _offer(desk: Desk, **changes: Any) -> Any:
    manifest = desk.brokerage.manifest(**changes)
    return desk.publisher.send("POST", "/v1/models", ModelOffer(manifest=manifest.envelope))


def test_the_latest_version_is_served(desk: Desk) -> None:
    """Older ones stay for their orders, and are listed no more."""
    later = desk.brokerage.manifest(version=2)
    desk.publisher.publish(later)
    shown = ModelOffer.model_validate_json(desk.tenant.ask("GET", "/v1/models/echo").content)
    assert shown.manifest == later.envelope
    assert ModelList.model_validate_json(desk.tenant.ask("GET", "/v1/models").content).models == (shown,)
    assert desk.tenant.submit(desk.tenant.order(desk.manifest, desk.tenant.upload(b"x"))).state.value == "queued"


def test_an_older_version_is_given_to_whoever_names_its_digest(desk: Desk) -> None:
    """Of that model alone; a digest of nothing, of another model or of no form is told apart from the latest."""
    later = desk.brokerage.manifest(version=2)
    desk.publisher.publish(later)
    for manifest in (desk.manifest, later):
        answer = desk.tenant.ask("GET", f"/v1/models/echo?manifest={manifest.digest}")
        assert ModelOffer.model_validate_json(answer.content).manifest == manifest.envelope
    for path, status in (
        (f"echo?manifest=sha256:{'0' * 64}", 404),
        (f"other?manifest={later.digest}", 404),
        ("echo?manifest=latest", 422),
        ("echo?manifest=", 422),
    ):
        assert desk.tenant.send("GET", f"/v1/models/{path}").status_code == status


def test_the_same_offer_again_changes_nothing(desk: Desk) -> None:
    """A publisher whose answer was lost may offer again."""
    answer = desk.publisher.send("POST", "/v1/models", ModelOffer(manifest=desk.manifest.envelope))
    assert answer.status_code == 200


def test_a_tenant_gets_the_client_part_and_never_the_server_part(desk: Desk) -> None:
    """The server part leaves only to a node with a lease."""
    path = f"/v1/models/{desk.manifest.digest}"
    assert desk.tenant.ask("GET", f"{path}/client").content == b"client part"
    assert desk.tenant.send("GET", f"{path}/server").status_code == 404
    assert desk.tenant.send("GET", "/v1/models/nothing").status_code == 404
    assert desk.tenant.send("GET", "/v1/models/sha256:0/client").status_code == 404


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        pytest.param({"version": 1, "summary": "Another."}, 409, "manifest-rolled-back", id="the same version"),
        pytest.param({"name": "new", "issued": 1, "expires": 2}, 409, "manifest-expired", id="expired"),
        pytest.param({"name": "new", "client": b"never sent"}, 404, "not-found", id="no client part"),
        pytest.param({"name": "new", "server": b"never sent"}, 404, "not-found", id="no server part"),
    ],
)
def test_an_offer_that_does_not_hold_is_refused(desk: Desk, changes: Any, status: int, code: str) -> None:
    """Each by its name."""
    refused = _offer(desk, **changes)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_part_of_another_size_is_refused(desk: Desk) -> None:
    """The manifest's sizes must be the stored ones."""
    document = desk.manifest.document
    part = BlobRef(digest=document.server.digest, size=1)
    manifest = desk.brokerage.keys.publisher.sign(document.model_copy(update={"name": "new", "server": part}))
    refused = desk.publisher.send("POST", "/v1/models", ModelOffer(manifest=manifest.envelope))
    assert refused.json()["code"] == "digest-mismatch"


def test_an_unknown_publishers_manifest_is_refused(desk: Desk) -> None:
    """An API key that may publish is not enough: the signature decides."""
    manifest = SigningKey.generate().sign(desk.manifest.document)
    refused = desk.publisher.send("POST", "/v1/models", ModelOffer(manifest=manifest.envelope))
    assert (refused.status_code, refused.json()["code"]) == (403, "untrusted-signer")


def test_an_older_version_is_refused(desk: Desk) -> None:
    """Versions only grow."""
    desk.publisher.publish(desk.brokerage.manifest(version=3))
    assert _offer(desk, version=2).json()["code"] == "manifest-rolled-back"

"""Which nodes are taken in."""

from typing import Any

import pytest

from blindgate_gateway import nodes
from blindgate_protocol.messages import EnrolmentBody, LeaseRequest
from blindgate_protocol.nodes import EnrolmentRequest, NodeCertificate
from blindgate_protocol.signing import SigningKey, open_signed
from brokerage import now_ms
from desk import Desk


@pytest.fixture
def gateway(desk: Desk) -> str:
    """The gateway's address, as the node was told it."""
    return f"http://127.0.0.1:{desk.brokerage.settings.port}"


def _enrol(desk: Desk, body: EnrolmentBody) -> Any:
    return desk.http.post("/v1/nodes", content=body.model_dump_json().encode())


def test_an_enrolment_token_is_good_once(desk: Desk, gateway: str) -> None:
    """The second use is refused; the node goes on as before."""
    token = desk.brokerage.enrolment_token()
    body = desk.worker.enrolment(token, gateway)
    assert _enrol(desk, body).status_code == 201
    assert _enrol(desk, body).json()["code"] == "not-authorised"
    assert desk.worker.lease() is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"gateway": "http://evil.example"}, "policy", id="made for another gateway"),
        pytest.param({"challenge": "sha256:0"}, "not-authorised", id="made for another token"),
        pytest.param({"issued": now_ms() - 600_000}, "clock-skew", id="old"),
        pytest.param({"issued": now_ms() + 86_400_000}, "clock-skew", id="of a day to come"),
        pytest.param({"node": SigningKey.generate().id}, "receipt-node", id="another node's certificate"),
    ],
)
def test_a_request_that_does_not_hold_enrols_nobody(desk: Desk, gateway: str, changes: Any, code: str) -> None:
    """And the token stays good, so a mistake costs nothing."""
    token = desk.brokerage.enrolment_token()
    given = {"gateway": gateway} | changes
    refused = _enrol(desk, desk.worker.enrolment(token, given.pop("gateway"), **given))
    assert refused.json()["code"] == code
    assert _enrol(desk, desk.worker.enrolment(token, gateway)).status_code == 201


def test_a_node_must_hold_the_key_that_was_certified(desk: Desk, gateway: str) -> None:
    """A certificate that was overheard enrols nobody else."""
    token = desk.brokerage.enrolment_token()
    body = desk.worker.enrolment(token, gateway)
    thief = SigningKey.generate().sign(open_signed(body.request, EnrolmentRequest).document)
    stolen = body.model_copy(update={"request": thief.envelope})
    assert _enrol(desk, stolen).json()["code"] == "bad-signature"


def test_an_unknown_operators_node_is_refused(desk: Desk, gateway: str) -> None:
    """The operator must be one of the settings'."""
    minted = SigningKey.generate()
    document = desk.worker.certificate.document.model_copy(update={"operator": minted.id})
    desk.worker.certificate = minted.sign(NodeCertificate(**document.model_dump()))
    refused = _enrol(desk, desk.worker.enrolment(desk.brokerage.enrolment_token(), gateway))
    assert (refused.status_code, refused.json()["code"]) == (403, "untrusted-signer")


@pytest.mark.parametrize(
    "token", ["be_0000000000000000.nothing", "bg_x.y-with-enough-length", "something that is no token"]
)
def test_a_token_that_nobody_gave_out_enrols_nobody(desk: Desk, gateway: str, token: str) -> None:
    """Whatever its shape."""
    assert _enrol(desk, desk.worker.enrolment(token, gateway)).status_code == 401


def test_a_dismissed_nodes_signature_opens_nothing(desk: Desk) -> None:
    """It takes effect at once."""
    nodes.dismiss_node(desk.parts.database, desk.worker.key.id)
    assert desk.worker.send("POST", "/v1/leases").status_code == 401


def test_a_node_whose_operator_is_no_longer_trusted_gets_nothing(desk: Desk) -> None:
    """The settings decide at every request, not only at enrolment."""
    assert desk.worker.lease() is None
    keeper = desk.parts.doorkeeper
    object.__setattr__(keeper, "settings", keeper.settings.model_copy(update={"operators": ()}))
    assert desk.worker.send("POST", "/v1/leases", LeaseRequest(families=("echo",))).status_code == 401

"""What hostile requests found, each by itself: refused by name on both databases, where it was a fault of the gateway or worse."""

import re

import pytest

from blindgate_protocol import errors
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.messages import LEASE_HEADER
from brokerage import Caller
from desk import Desk


@pytest.mark.parametrize("path", ["/v1/jobs/%00", "/v1/keys/sha256:%00", "/v1/uploads/a%00b", "/v1/models/echo%00"])
def test_a_path_with_nul_names_nothing(desk: Desk, path: str) -> None:
    """404 as for any other name that nobody has: PostgreSQL cannot even be asked for it."""
    answer = desk.tenant.send("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize("command", ["refuse", "release"])
def test_a_nodes_reason_with_nul_is_malformed_and_the_lease_goes_on(desk: Desk, command: str) -> None:
    """422: PostgreSQL could not hold it."""
    lease = desk.leased()
    answer = desk.worker.command(lease, "POST", command, rb'{"code": "no", "reason": "a\u0000b"}')
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed")
    assert desk.worker.command(lease, "POST", "heartbeat").status_code == 200


def test_an_enrolment_token_with_nul_is_malformed(desk: Desk) -> None:
    """422, and no look into the database with it."""
    body = desk.worker.enrolment("be_0000000000000000.AAAA", desk.worker.gateway).model_dump_json()
    answer = Caller(desk.http, None).send("POST", "/v1/nodes", body.replace("be_0", r"be_\u0000").encode())
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed")


def test_a_field_that_is_there_twice_is_malformed(desk: Desk) -> None:
    """Wherever it is: who looks into a body on its way must not read another value than the gateway."""
    order = desk.tenant.order(desk.manifest, desk.tenant.upload(b"some")).envelope.model_dump_json()
    for body in (
        f'{{"order": {order}, "priority": 1, "priority": 1}}',
        '{"order": ' + order.replace('{"payload":', '{"payload": "", "payload":') + "}",
    ):
        answer = desk.tenant.send("POST", "/v1/jobs", body.encode())
        assert (answer.status_code, answer.json()["code"]) == (422, "malformed")
        assert "twice" in answer.json()["detail"]
    assert desk.tenant.send("POST", "/v1/jobs", f'{{"order": {order}}}'.encode()).status_code == 201


def test_two_slashes_are_no_route_and_nobody_is_sent_elsewhere(desk: Desk) -> None:
    """404, where Werkzeug by itself would answer 308 to a place that the caller's `Host` names."""
    for path in ("//v1/tenant", "/v1//tenant"):
        answer = desk.http.get(f"{desk.worker.gateway}{path}", headers={"Host": "elsewhere"})
        assert (answer.status_code, "Location" in answer.headers) == (404, False)


def test_the_page_has_every_code_that_a_problem_may_lead_to(desk: Desk) -> None:
    """A problem's type is a place on the page: also of the errors further down in the tree."""
    page = desk.http.get("/docs").text
    lease = desk.leased()
    bad = desk.worker.send("POST", f"/v1/leases/{lease.job}/heartbeat", headers={LEASE_HEADER: "no"})
    assert f'id="{bad.json()["type"].partition("#")[2]}"' in page
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(
            kind, errors.SignatureError | errors.ReceiptError | errors.ManifestError
        ):
            assert issubclass(kind, BlindgateError)
            assert re.search(rf'id="{kind.code}"', page), kind

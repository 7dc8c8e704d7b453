"""How many rows of a model a tenant gets."""

from blindgate_gateway.app import create_app
from blindgate_protocol.manifest import Manifest, Privacy
from blindgate_protocol.messages import BudgetView, JobRequest
from blindgate_protocol.signing import Signed, SigningKey
from brokerage import Publisher
from desk import Desk, connection_to


def asked(desk: Desk, name: str) -> BudgetView:
    """What the gateway says of the tenant's rows."""
    return BudgetView.model_validate_json(desk.tenant.ask("GET", f"/v1/models/{name}/budget").content)


def published(desk: Desk, version: int, budget: Privacy) -> Signed[Manifest]:
    """A version of the model `counted`."""
    manifest = desk.brokerage.manifest(name="counted", version=version, privacy=budget)
    desk.publisher.publish(manifest)
    return manifest


def test_a_tenant_gets_as_many_rows_as_the_publisher_allows_and_no_more(desk: Desk) -> None:
    """Counted over jobs; the same order sent again counts once; another tenant has its own; a new version starts nothing anew."""
    budget = Privacy(mode="model_public", rows_per_tenant=10)
    manifest, newer = (published(desk, version, budget) for version in (1, 2))
    ref = desk.tenant.upload(b"input")
    first = JobRequest(order=desk.tenant.order(manifest, ref, rows=6).envelope)
    assert desk.tenant.send("POST", "/v1/jobs", first).status_code == 201
    assert desk.tenant.send("POST", "/v1/jobs", first).status_code == 200
    assert asked(desk, "counted") == BudgetView(rows_per_tenant=10, rows_asked=6)
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=desk.tenant.order(newer, ref, rows=5).envelope))
    assert (refused.status_code, refused.json()["code"]) == (403, "budget-spent")
    assert "10 rows" in refused.json()["detail"]
    last = JobRequest(order=desk.tenant.order(newer, ref, rows=4).envelope)
    assert desk.tenant.send("POST", "/v1/jobs", last).status_code == 201
    assert asked(desk, "counted").rows_asked == 10
    theirs = desk.stranger.upload(b"input")
    for rows in (3, 7):
        order = JobRequest(order=desk.stranger.order(newer, theirs, rows=rows).envelope)
        assert desk.stranger.send("POST", "/v1/jobs", order).status_code == 201


def test_what_one_tenant_asks_is_taken_from_no_other(desk: Desk) -> None:
    """Also where both have rows left."""
    manifest = published(desk, 1, Privacy(mode="model_public", rows_per_tenant=10))
    for tenant, rows in ((desk.stranger, 3), (desk.tenant, 6), (desk.stranger, 7)):
        order = tenant.order(manifest, tenant.upload(b"input"), rows=rows)
        assert tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope)).status_code == 201
    assert asked(desk, "counted").rows_asked == 6


def test_what_is_asked_of_one_publishers_model_is_taken_from_no_other_publisher(desk: Desk) -> None:
    """A name may pass to another publisher, whom a tenant has asked for nothing yet; orders of before count where they did."""
    budget = Privacy(mode="model_public", rows_per_tenant=10)
    manifest, other = published(desk, 1, budget), SigningKey.generate()
    theirs = other.sign(manifest.document.model_copy(update={"version": 2}))
    settings = desk.parts.settings.model_copy(update={"publishers": (other.id,)})
    second = create_app(settings)
    with connection_to(second, settings) as http:
        Publisher(http, desk.publisher.token).publish(theirs)
    second.extensions["blindgate"].database.close()
    second.extensions["blindgate"].wakeups.close()
    ref = desk.tenant.upload(b"input")

    def submitted(model: Signed[Manifest], rows: int) -> int:
        order = desk.tenant.order(model, ref, rows=rows)
        return desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope)).status_code

    assert submitted(manifest, 8) == 201
    assert asked(desk, "counted").rows_asked == 0
    assert submitted(theirs, 7) == 201
    assert [submitted(manifest, 3), submitted(theirs, 4)] == [403, 403]
    assert [submitted(manifest, 2), submitted(theirs, 3)] == [201, 201]
    assert asked(desk, "counted").rows_asked == 10


def test_rows_are_counted_where_there_is_no_limit(desk: Desk) -> None:
    """So that a limit in a later version counts what was asked before."""
    desk.submit()
    assert asked(desk, desk.manifest.document.name) == BudgetView(rows_per_tenant=None, rows_asked=1)

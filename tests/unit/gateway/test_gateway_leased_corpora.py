"""A tenant's corpus for a node: under a lease of that tenant's, of a model that searches corpora, and nothing else."""

from typing import Any

import httpx2
import pytest

from blindgate_protocol.manifest import Limits, Manifest
from blindgate_protocol.messages import CorpusRequest, JobRequest, Lease, Refusal
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef
from brokerage import Tenant, blob_ref, make_manifest, random_bytes
from desk import Desk

REQUEST, LISTED = b"sealed request", b"list of weights"


def published(desk: Desk, api: str) -> Signed[Manifest]:
    """A model of lane `tee` that is asked by `api`."""
    plain = make_manifest().model_dump(
        exclude={"client", "key_parameters", "encryption", "accuracy", "columns", "output"}
    )
    given: dict[str, Any] = plain | {
        "name": f"by-{api}",
        "lane": "tee",
        "api": api,
        "columns": (),
        "server": blob_ref(LISTED),
        "limits": Limits(rows_per_job=1, input_bytes=1 << 16, result_bytes=1 << 16, evaluation_key_bytes=0),
        "privacy": make_manifest().privacy,
        "discloses": make_manifest().discloses,
    }
    manifest = desk.brokerage.keys.publisher.sign(Manifest(**given))
    desk.publisher.publish(manifest, server=LISTED)
    return manifest


def leased(desk: Desk, manifest: Signed[Manifest]) -> Lease:
    """A sealed job of the tenant's that the desk's node holds."""
    order = desk.tenant.order(manifest, blob_ref(REQUEST), nodes=(desk.worker.key.id,))
    body = JobRequest(order=order.envelope, input_data=REQUEST, seal=b'{"unread": true}')
    assert desk.tenant.send("POST", "/v1/jobs", body).status_code == 201
    lease = desk.worker.lease()
    assert lease is not None
    return lease


def put(tenant: Tenant, name: str) -> tuple[BlobRef, BlobRef]:
    """A corpus of a head and a shard."""
    head, shard = tenant.upload(random_bytes(90)), tenant.upload(random_bytes(100_000))
    body = CorpusRequest(head=head, shards=(shard,), instead_of=None)
    assert tenant.send("PUT", f"/v1/corpora/{name}", body).status_code == 201
    return head, shard


def fetch(desk: Desk, lease: Lease, name: str, blob: BlobRef) -> httpx2.Response:
    """Ask for a blob as the node does."""
    return desk.worker.command(lease, "GET", f"corpora/{name}/blobs/{blob.digest}")


def test_a_node_is_given_head_and_shards_under_its_lease(desk: Desk) -> None:
    """Bytes and digest; what the corpus needs no more is gone, and so is everything with the lease."""
    head, shard = put(desk.tenant, "notes")
    lease = leased(desk, published(desk, "corpus"))
    for blob in (head, shard):
        answer = fetch(desk, lease, "notes", blob)
        assert (answer.status_code, blob_ref(answer.content)) == (200, blob)
    newer = desk.tenant.upload(random_bytes(91))
    body = CorpusRequest(head=newer, shards=(shard,), instead_of=head.digest)
    assert desk.tenant.send("PUT", "/v1/corpora/notes", body).status_code == 200
    assert [fetch(desk, lease, "notes", blob).status_code for blob in (head, newer, shard)] == [404, 200, 200]
    desk.worker.command(lease, "POST", "refuse", Refusal(code="no", reason=""))
    assert fetch(desk, lease, "notes", shard).status_code == 409


def test_another_tenants_another_name_and_what_is_no_corpus_are_not_there(desk: Desk) -> None:
    """Also where the same blob is a corpus's of another name, or of another tenant under the same name."""
    head, _ = put(desk.tenant, "notes")
    keys, shared = desk.brokerage.keys, random_bytes(92)
    clinic = Tenant(desk.http, desk.brokerage.api_key("clinic"), name="clinic", keys=keys)
    body = CorpusRequest(head=clinic.upload(shared), shards=(), instead_of=None)
    assert clinic.send("PUT", "/v1/corpora/notes", body).status_code == 201
    foreign = desk.tenant.upload(shared)  # the tenant has it, too, and no corpus of its own needs it
    lease = leased(desk, published(desk, "corpus"))
    for name, blob in (("notes", foreign), ("other", head), ("notes", desk.tenant.upload(b"a blob of no corpus"))):
        assert fetch(desk, lease, name, blob).status_code == 404


@pytest.mark.parametrize("api", ["chat", "embeddings", "encrypted"])
def test_a_job_of_another_kind_is_no_way_to_a_corpus(desk: Desk, api: str) -> None:
    """Of lane tee or not: its node has no use for one."""
    head, _ = put(desk.tenant, "notes")
    lease = desk.leased() if api == "encrypted" else leased(desk, published(desk, api))
    assert fetch(desk, lease, "notes", head).status_code == 404

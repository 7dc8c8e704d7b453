"""A tenant's sealed corpus, for the node that searches it: blob by blob, and under a lease alone.

A node that was judged has a corpus's key from its owner, inside the seal of a job. The blobs it fetches here. It is given one where

1. it holds the lease of a job, now;
2. the job's model, in lane `tee`, is asked by `corpus`: no other has a use for one;
3. a corpus of the job's own tenant has that name, and needs that blob now (`corpora`).

Which of the tenant's corpora the request is of is sealed, so that a node may ask for any of them. Without the key it has bytes that
nobody can read, and what it was sent is what the tenant's orders name it for.
"""

from sqlalchemy import bindparam, select

from blindgate_gateway.catalogue import opened_manifest
from blindgate_gateway.database import prepared
from blindgate_gateway.held_leases import LEASE_PARAMETER, held_lease, lost_lease
from blindgate_gateway.identity import Node, Role
from blindgate_gateway.problems import not_found
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.stored import send_blob
from blindgate_gateway.tables import corpus_blobs, jobs, manifests
from blindgate_gateway.transitions import HELD

routes = Routes("leased_corpora")

_WANTED = prepared(
    select(jobs.c.tenant, manifests.c.envelope, corpus_blobs.c.digest)
    .join(manifests, manifests.c.digest == jobs.c.manifest)
    .outerjoin(
        corpus_blobs,
        (corpus_blobs.c.tenant == jobs.c.tenant)
        & (corpus_blobs.c.name == bindparam("of_name"))
        & (corpus_blobs.c.digest == bindparam("of_digest")),
    )
    .where(HELD)
)


@routes.get(
    "/v1/leases/<job>/corpora/<corpus>/blobs/<digest>",
    roles={Role.NODE},
    answers={200: Raw()},
    parameters=LEASE_PARAMETER,
)
def download_leased_corpus_blob(call: Call[Node, None], job: str, corpus: str, digest: str) -> Answer:
    """Give the head, or a shard that it needs, of a corpus of the job's tenant, where the job's model searches corpora."""
    wanted = {"of_name": corpus, "of_digest": digest}
    row = call.parts.database.look(_WANTED, held_lease(call, job).key() | wanted)
    # 1.
    if row is None:
        raise lost_lease()
    # 2. and 3.
    document = opened_manifest(row.envelope).document
    if row.digest is None or document.lane != "tee" or document.api != "corpus":
        raise not_found("blob of a corpus that this job searches")
    return send_blob(call, row.tenant, digest)

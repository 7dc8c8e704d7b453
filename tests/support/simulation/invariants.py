"""What must hold in the end, whatever happened.

Of jobs, when all has ended:

1. every job that was accepted is there once, and has ended, in one state;
2. one order of all that was done to a job explains all that anybody was told about it;
3. rows that a tenant asked for are those of its jobs; bytes that it has are those of its blobs and open uploads;
4. every blob that a row names is there, whole, under its digest; keys whose owners wanted them destroyed may be gone;
5. a key that its owner was told is destroyed has no blob, no upload, and nothing in the store.

Of bytes, when all was collected: nothing is in the store that no row names, and the sums are still right.
"""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from blindgate_protocol.values import BlobRef
from simulation import documents
from simulation.ledger import is_explained

if TYPE_CHECKING:
    from simulation.world import World

_SUMS = """
    SELECT tenants.name, coalesce((SELECT bytes FROM stored_bytes WHERE tenant = tenants.name), 0),
           coalesce((SELECT sum(size) FROM blobs WHERE tenant = tenants.name), 0)
           + coalesce((SELECT sum(size) FROM uploads WHERE tenant = tenants.name AND status = 'parts'), 0)
    FROM tenants"""


def check_jobs(world: "World") -> None:
    """1. to 5."""
    ended = _check_ends(world)
    _check_histories(world)
    _check_counts(world, ended)
    _check_blobs(world)
    _check_keys(world)


def _check_ends(world: "World") -> dict[str, str]:
    # 1.
    peek = world.disk.peek
    if left := peek("SELECT job, state FROM jobs"):
        world.broken(f"{len(left)} jobs have not ended: {left}")
    ended = dict(peek("SELECT job, state FROM ended_jobs"))
    for job in world.ledger.accepted:
        if job not in ended:
            world.broken(f"job {job} was accepted and is lost")
    return ended


def _check_histories(world: "World") -> None:
    # 2.
    for job, told in world.ledger.told.items():
        changes = world.audit.changes.get(job, [])
        if not is_explained(changes, told):
            lines = (
                f"  {done.began:.0f} to {done.ended:.0f}: {done.kind} {done.generation or ''} {done.answer}"
                for done in sorted((*changes, *told), key=lambda done: done.began)
            )
            world.broken("\n".join((f"nothing explains what was told about job {job}:", *lines)))


def _check_counts(world: "World", ended: dict[str, str]) -> None:
    # 3.
    rows = Counter[str]()
    for job in ended:
        rows[world.ledger.orders[job].tenant] += world.ledger.orders[job].rows
    asked = Counter(dict(world.disk.peek("SELECT tenant, sum(rows) FROM rows_asked GROUP BY tenant")))
    if rows != asked:
        world.broken(f"rows that were asked for: {dict(asked)}, of jobs: {dict(rows)}")
    _check_sums(world)


def _check_blobs(world: "World") -> None:
    # 4.
    for tenant, digest, size, name, data in world.disk.peek("SELECT tenant, digest, size, object, data FROM blobs"):
        stored = world.shelf.objects.get((tenant, name))
        found = data if name is None else None if stored is None else stored.whole()
        if (tenant, digest) in world.ledger.doomed:
            continue
        if found is None or documents.reference(found) != BlobRef(digest=digest, size=size):
            world.broken(f"blob {digest} of {tenant} is not what its row names: {found!r}")


def _check_keys(world: "World") -> None:
    # 5.
    peek = world.disk.peek
    for tenant, digest in world.ledger.destroyed:
        prefix = digest.partition(":")[2]
        rows_left = peek("SELECT digest FROM blobs WHERE tenant = ? AND digest = ?", tenant, digest)
        rows_left += peek("SELECT digest FROM uploads WHERE tenant = ? AND digest = ?", tenant, digest)
        begun = [
            name for name, upload in world.shelf.partial.items() if upload.parts
        ]  # one without a part holds no bytes
        names = [name for owner, name in (*world.shelf.objects, *begun) if owner == tenant]
        if rows_left or any(name.startswith(prefix) for name in names):
            world.broken(f"key {digest} of {tenant} was destroyed, and its bytes are still there")


def check_bytes(world: "World") -> None:
    """When all was collected."""
    named: dict[str, set[str]] = defaultdict(set)
    for tenant, name in world.disk.peek("SELECT tenant, object FROM blobs WHERE object IS NOT NULL"):
        named[tenant].add(name)
    for tenant, name in world.shelf.objects:
        if name not in named[tenant]:
            world.broken(f"object {name} of {tenant} belongs to nothing, and was not collected")
    if world.shelf.partial:
        world.broken(f"unfinished uploads that nobody can finish were not collected: {list(world.shelf.partial)}")
    _check_sums(world)


def _check_sums(world: "World") -> None:
    for tenant, counted, there in world.disk.peek(_SUMS):
        if counted != there:
            world.broken(f"{tenant} has {there} bytes, and {counted} are counted")

"""One job's bundle with everybody's real signatures, and a log in memory: what an auditor is handed, honest or not.

Each document can be changed before it is signed: whoever signs a lie signs it well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_audit.roots import Roots
from blindgate_models.publishing import open_package
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.canonical import digest
from blindgate_protocol.checkpoints import Checkpoint, EntryProof, cosign, sign_checkpoint
from blindgate_protocol.events import Action, Event, leaf_of
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.merkle import inclusion_proof, leaf_hash, root_of
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.notes import KeyKind, Note, VerifierKey
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import BlobRef
from brokerage import blob_ref, make_manifest
from signed_packages import DAY, NOW

MINUTE = 60_000
ORDERED, STARTED, FINISHED, LOGGED = (NOW + DAY + second * 1000 for second in (0, 2, 5, 6))
COSIGNED = LOGGED // 1000 + 3
SALT = b"s" * 32


class Witness:
    """A witness that cosigns whatever it is shown."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.private = Ed25519PrivateKey.generate()
        self.key = VerifierKey(name, KeyKind.COSIGNATURE, self.private.public_key().public_bytes_raw())


class Log:
    """A log of nine entries that say nothing, among which an event is put."""

    def __init__(self, origin: str = "gateway.example/log") -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key = VerifierKey(origin, KeyKind.ED25519, self.private.public_key().public_bytes_raw())

    def proof(self, event: Event, *, witnesses: Sequence[Witness] = (), seconds: int = COSIGNED) -> LoggedProof:
        """The proof that `event` stands at index 6 of ten, cosigned at `seconds`."""
        index, leaves = 6, [leaf_hash(b"entry %d" % number) for number in range(9)]
        leaves.insert(index, leaf_of(event.to_bytes(), SALT))
        subtrees: Callable[[int, int], bytes] = lambda level, at: root_of(leaves[at << level : (at + 1) << level])  # noqa: E731
        tree = Checkpoint(self.key.name, len(leaves), root_of(leaves))
        note = sign_checkpoint(tree, self.private)
        lines = [cosign(tree, each.private, name=each.name, seconds=seconds) for each in witnesses]
        proof = EntryProof(
            index,
            tuple(inclusion_proof(index, tree.size, subtrees)),
            str(Note(note.text, (*note.lines, *lines))).encode(),
        )
        return LoggedProof(event=event.to_bytes().decode(), salt=SALT, proof=proof.to_bytes().decode())


@dataclass
class BundledJobs:
    """Everybody who signs, and what they sign about one job."""

    publisher: SigningKey = field(default_factory=SigningKey.generate)
    operator: SigningKey = field(default_factory=SigningKey.generate)
    client: SigningKey = field(default_factory=SigningKey.generate)
    node: SigningKey = field(default_factory=SigningKey.generate)
    log: Log = field(default_factory=Log)
    witness: Witness = field(default_factory=lambda: Witness("w1.example"))

    def roots(self, **changes: Any) -> Roots:
        """An auditor who knows them all."""
        given: dict[str, Any] = {
            "publishers": {"acme": self.publisher.id},
            "operators": {"north": self.operator.id},
            "clients": {"hospital": self.client.id},
            "logs": {"ours": self.log.key},
            "witnesses": {"w1": self.witness.key},
            "cosignatures": 1,
        }
        return Roots(**(given | changes))

    def policy(self) -> str:
        """The same as a client's policy file, but for the client itself."""
        return (
            f'[publishers]\nacme = "{self.publisher.id}"\n[operators]\nnorth = "{self.operator.id}"\n'
            f'[logs]\nours = "{self.log.key}"\n[witnesses]\nw1 = "{self.witness.key}"\n'
            '[rules]\nlanes = ["fhe"]\ncosignatures = 1\nlog_within = 30.0\n'
        )

    def manifest(self, **changes: Any) -> Signed[Manifest]:
        """A model that computes nothing."""
        return self.publisher.sign(make_manifest(**({"issued": NOW, "expires": NOW + 30 * DAY} | changes)))

    def order(self, manifest: Signed[Manifest], data: bytes = b"input", /, **changes: Any) -> Signed[Order]:
        """What the client asks for."""
        given: dict[str, Any] = {
            "job": new_job_id(),
            "tenant": "hospital",
            "model": model_ref(manifest),
            "input": blob_ref(data),
            "evaluation_key": None,
            "rows": 1,
            "operators": (self.operator.id,),
            "client": self.client.id,
            "issued": ORDERED,
            "deadline": ORDERED + 10 * MINUTE,
        }
        return self.client.sign(Order(**(given | changes)))

    def certificate(self, **changes: Any) -> Signed[NodeCertificate]:
        """The operator's word for the node."""
        given: dict[str, Any] = {
            "node": self.node.id,
            "name": "node-1",
            "operator": self.operator.id,
            "issued": NOW,
            "expires": NOW + 30 * DAY,
        }
        return self.operator.sign(NodeCertificate(**(given | changes)))

    def receipt(self, order: Signed[Order], output: bytes = b"output", /, **changes: Any) -> Signed[Receipt]:
        """What the node says of it."""
        wanted = order.document
        given: dict[str, Any] = {
            "order": order.digest,
            "job": wanted.job,
            "tenant": wanted.tenant,
            "model": wanted.model,
            "circuit": digest(b"server part"),
            "evaluation_key": wanted.evaluation_key,
            "input": wanted.input,
            "output": blob_ref(output),
            "lane": "fhe",
            "generation": 1,
            "node": self.node.id,
            "certificate": self.certificate().envelope,
            "software": {"blindgate": "0.1.0", "tenseal": "0.3.18"},
            "started": STARTED,
            "finished": FINISHED,
        }
        return self.node.sign(Receipt(**(given | changes)))

    def event(self, receipt: Signed[Receipt], **changes: Any) -> Event:
        """What an honest gateway logs of it."""
        given: dict[str, Any] = {
            "time": LOGGED,
            "action": Action.JOB_SUCCEEDED,
            "actor": receipt.document.node,
            "role": "node",
            "object": f"job:{receipt.document.job}",
            "digest": receipt.digest,
            "details": {"node": receipt.document.node},
            "software": "0.1.0",
        }
        return Event(**(given | changes))

    def bundle(
        self,
        *,
        manifest: Signed[Manifest] | None = None,
        order: Signed[Order] | None = None,
        receipt: Signed[Receipt] | None = None,
        logged: LoggedProof | None = None,
    ) -> Bundle:
        """All of it, honest where nothing else is given."""
        manifest = manifest or self.manifest()
        order = order or self.order(manifest)
        receipt = receipt or self.receipt(order)
        logged = logged or self.log.proof(self.event(receipt), witnesses=[self.witness])
        return Bundle(manifest, order, receipt, logged)

    def computed(self, package: bytes, data: bytes, output: bytes, *, rows: int, key: bytes | None = None) -> Bundle:
        """The bundle of a job that was computed with a real package of this publisher's."""
        manifest = open_package(package).manifest
        named = None if key is None else digest(key)
        order = self.order(manifest, data, rows=rows, evaluation_key=named)
        receipt = self.receipt(order, output, circuit=manifest.document.server.digest)
        return self.bundle(manifest=manifest, order=order, receipt=receipt)


def somebody_elses(ref: BlobRef) -> BlobRef:
    """Another blob of the same size."""
    return BlobRef(digest=digest(ref.digest.encode()), size=ref.size)

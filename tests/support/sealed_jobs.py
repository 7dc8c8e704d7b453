"""A sealed job, as client and node hold it: keys from fixed seeds, an order, evidence that no platform made, and streams."""

from typing import Any

from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import RequestStream, ResponseStream, Sealer, Stream
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.evidence import Binding, Evidence, KeySet, Recipient
from blindgate_protocol.manifest import ModelRef
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order
from blindgate_protocol.padding import Padding
from blindgate_protocol.sealing import RecipientKeys, Terms, WrappedKey, seal_info
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import BlobRef
from fixed_hpke import Hpke

T = 1_750_000_000_000
HOUR = 3_600_000

CLIENT, OPERATOR, NODE = (SigningKey.from_seed(bytes([n]) * 32) for n in (2, 3, 4))
JOB = "00112233445566778899aabbccddeeff"
POLICY, MODEL = digest(b"policy"), digest(b"manifest")
CONTENT_KEY = ContentKey(bytes([0xC0]) * 32)
X25519_SEED, X_WING_SEED, EPHEMERAL = (bytes([n]) * 32 for n in (0x21, 0x22, 0x23))
NONCE = bytes([0x24]) * 32
BUCKETS = Padding(rule="buckets", buckets=(16, 64, 256))


def keys(x_wing: bytes | None) -> RecipientKeys:
    """A node's keys."""
    return RecipientKeys(node=NODE.id, receipt=NODE, x25519=X25519_SEED, x_wing=x_wing, issued=T, expires=T + 24 * HOUR)


CLASSIC, HYBRID = keys(None), keys(X_WING_SEED)


def binding(key_set: KeySet, **changes: Any) -> Binding:
    """What a node's evidence binds."""
    made: dict[str, Any] = {
        "key_set": key_set.digest,
        "nonce": bytes(range(32)),
        "gpus": (digest(b"gpu"),),
        "model": MODEL,
        "policy": POLICY,
    }
    return Binding(**made | changes)


def evidence(key_set: KeySet) -> Evidence:
    """Its form; no platform made this."""
    bound = binding(key_set)
    return Evidence(
        binding=bound, platform=b"a report", chain=(b"a certificate",), collateral=None, gpu=b"reports", references=()
    )


def stream(padding: Padding) -> tuple[RequestStream, ResponseStream]:
    """Both directions of the job."""
    made = terms(padding=padding)
    return made.request(), made.response(key_set=CLASSIC.key_set.digest, evidence=evidence(CLASSIC.key_set).digest)


def sealed(pieces: list[bytes], of: Stream) -> bytes:
    """A stream with one chunk for each piece that fits into one."""
    sealer = Sealer(CONTENT_KEY, of, draw=lambda _: NONCE)
    return b"".join([sealer.seal(piece) for piece in pieces[:-1]] + [sealer.finish(pieces[-1])])


PIECES = [b"Patient has a", b" cough", b"."]
REQUEST = sealed(PIECES, RequestStream(job=JOB, padding=BUCKETS))
ORDER = CLIENT.sign(
    Order(
        job=JOB,
        tenant="hospital",
        model=ModelRef(name="note-triage", version=1, manifest=MODEL),
        input=BlobRef(digest=digest(REQUEST), size=len(REQUEST)),
        evaluation_key=None,
        rows=1,
        operators=(OPERATOR.id,),
        client=CLIENT.id,
        issued=T,
        deadline=T + HOUR,
    )
)


def terms(**changes: Any) -> Terms:
    """What the job's content key is for."""
    made: dict[str, Any] = {"job": JOB, "order": ORDER.digest, "model": MODEL, "policy": POLICY}
    return Terms(**made | {"padding": BUCKETS, "expires": T + HOUR} | changes)


def wrapped(under: Terms, node: RecipientKeys = CLASSIC, secret: bytes = EPHEMERAL, **changes: Any) -> WrappedKey:
    """The content key for a node, by X25519."""
    named = {"key_set": node.key_set.digest, "evidence": evidence(node.key_set).digest}
    info = seal_info(under, **named, kem="x25519")
    text = Hpke().seal(secret, node.key_set.x25519, info, CONTENT_KEY.secret())
    return WrappedKey(**named | {"kem": "x25519", "sealed": text} | changes)


def offered(node: RecipientKeys) -> Signed[Recipient]:
    """A node offers itself."""
    expires = T + 24 * HOUR
    made = NodeCertificate(node=NODE.id, name="node-1", operator=OPERATOR.id, issued=T, expires=expires)
    certificate = OPERATOR.sign(made).envelope
    return NODE.sign(Recipient(certificate=certificate, key_set=node.key_set, evidence=evidence(node.key_set).digest))

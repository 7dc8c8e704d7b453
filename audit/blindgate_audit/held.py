"""Which columns of the gateway's tables `audit verify` holds, by which rule, and which it does not, and why.

Every column stands here once: a test walks the gateway's tables and fails for one that nobody decided on, and for one that is
called held and may be changed unseen. Held is a column if an edit of it is named

- by the rule `row`: it says what a document, an event or another row says (`rows`);
- by the rule `record`: it is a document, or what a document or an event says is told from it (`records`, `node_records`);
- by the rules of events: it is an event, or an event is found by it (`bodies`).

What is not held decides nothing that the record says. An edit there is at most as bad as a gateway that answers wrongly, and that
is found, where it can be, by those who ask it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Rule = Literal["row", "record", "events"]


@dataclass(frozen=True)
class NotHeld:
    """Columns of a table that are not held: `why`, in words."""

    table: str
    columns: tuple[str, ...]
    why: str


HELD: Final[dict[str, dict[Rule, tuple[str, ...]]]] = {
    "tenants": {"row": ("name", "created", "in_flight", "quota", "revoked_signers")},
    "stored_bytes": {"row": ("tenant", "bytes")},
    "api_keys": {"row": ("id", "tenant", "staff", "secret_hash", "scopes", "created", "expires", "revoked")},
    "sessions": {"row": ("token_hash", "api_key", "person", "grounds", "expires", "created")},
    "enrolment_tokens": {"row": ("id", "secret_hash", "created", "expires", "node")},
    "nodes": {"record": ("key", "name", "operator", "expires", "certificate", "enrolled")},
    "gateways": {"row": ("id", "publishers", "operators", "kept")},
    "blobs": {"row": ("tenant", "digest", "size", "data")},
    "manifests": {
        "row": (
            "digest",
            "name",
            "version",
            "tenant",
            "client_digest",
            "server_digest",
            "envelope",
            "published",
        )
    },
    "rows_asked": {"row": ("tenant", "publisher", "model", "rows")},
    "keys": {"row": ("tenant", "digest", "state", "sequence", "destroy_at")},
    "key_statements": {"row": ("tenant", "key", "sequence", "digest", "received"), "record": ("envelope",)},
    "queues": {"row": ("id", "tenant", "family")},
    "queue_operators": {"row": ("queue", "operator")},
    "jobs": {
        "row": (
            "job",
            "tenant",
            "queue",
            "state",
            "held",
            "rank",
            "manifest",
            "input_digest",
            "evaluation_key",
            "submitted",
            "deadline",
            "generation",
            "spent",
            "token",
            "node",
        )
    },
    "ended_jobs": {
        "row": (
            "job",
            "tenant",
            "state",
            "rank",
            "manifest",
            "input_digest",
            "evaluation_key",
            "submitted",
            "deadline",
            "ended",
            "generation",
            "token",
            "node",
            "result_digest",
            "result_size",
        )
    },
    "job_documents": {
        "row": ("job", "order_digest", "receipt_digest", "code", "reason", "acknowledged", "seal"),
        "record": ("order", "receipt"),
    },
    "attempts": {"row": ("job", "generation", "node", "outcome", "reason", "salt", "ended")},
    "pseudonyms": {"record": ("name", "pseudonym")},
    "events": {"events": ("position", "time", "action", "object", "tenant", "commitment", "body", "salt")},
}

_TREE: Final = "no copy of the log is believed: what is made from it and served is held by the signed tree"
NOT_HELD: Final = (
    NotHeld("tenants", ("served",), "whose turn it is: each lease writes it anew"),
    NotHeld("api_keys", ("used",), "when it was last used: nothing is decided by it"),
    NotHeld("sessions", ("used",), "when it was last used: a session lasts until its own end at most, which is held"),
    NotHeld("gateways", ("since", "seen"), "when it last showed itself: written anew every few seconds"),
    NotHeld(
        "nonces",
        ("node", "nonce", "until"),
        "for minutes: without one a node's own signed request could be sent again, which its lease's state refuses",
    ),
    NotHeld(
        "blobs",
        ("stored", "object"),
        "when bytes came, and where the store has them: who is sent them holds them against the digest, and one that was deleted "
        "too early is missed",
    ),
    NotHeld(
        "uploads",
        ("id", "tenant", "digest", "size", "part", "status", "created", "object", "multipart"),
        "not complete: its bytes are held against the digest when they are, and its size is counted with what is stored",
    ),
    NotHeld(
        "corpora",
        ("tenant", "name", "id", "head", "blobs", "bytes", "changed"),
        "a tenant's sealed index: whoever opens it holds head and shards to their seals, and refuses a head that was put back",
    ),
    NotHeld(
        "corpus_blobs",
        ("tenant", "name", "digest", "size"),
        "which blobs a corpus needs: its sealed head says so to its owner, who misses one that is gone",
    ),
    NotHeld(
        "idempotency",
        ("caller", "key", "request", "began", "status", "answer"),
        "answers for who asks again within a day: an edited one is a wrong answer, which its caller checks as any other",
    ),
    NotHeld(
        "jobs",
        ("leased_until", "result_digest", "result_size"),
        "of a lease that goes on: its node's next command finds it out, and its receipt says what the result is",
    ),
    NotHeld(
        "attestations",
        ("id", "tenant", "model", "policy", "nonce", "node", "asked", "until"),
        "for a minute: the answer is judged by its asker, who chose the nonce",
    ),
    NotHeld(
        "attestation_answers",
        ("attestation", "node", "tenant", "taken", "place", "recipient", "evidence", "code", "reason"),
        "for a minute: judged by the asker, by signatures and evidence",
    ),
    NotHeld(
        "answer_parts",
        ("job", "generation", "begin", "tenant", "data", "stored"),
        "for minutes: a sealed answer while it is written. Its client opens no other, and the whole of it is a result as any",
    ),
    NotHeld(
        "pseudonyms",
        ("kind", "created"),
        "under another kind somebody gets a second pseudonym, and both are translated",
    ),
    NotHeld("events", ("id",), "in which order events get their places: their places are held"),
    NotHeld("log_head", ("id", "key", "second", "size", "hashes", "checkpoint", "signed"), _TREE),
    NotHeld("log_tiles", ("level", "number", "hash", "earliest", "latest"), _TREE),
    NotHeld("cosignatures", ("size", "witness", "checkpoint", "line"), _TREE),
)


def names() -> Iterator[str]:
    """What is not held: tables by their names, and single columns behind the name of a table of which others are held."""
    for one in NOT_HELD:
        if one.table in HELD:
            yield from (f"{one.table}.{column}" for column in one.columns)
        else:
            yield one.table

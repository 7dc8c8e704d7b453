"""What a bundle says, one statement after the other, each with what it rests on: whose signature, and in which document.

A statement is as good as the signature that it rests on, and no better. Where several signed the same, all are named; where one of
their documents was refused, `holds` says so, and the statement is shown for whoever has to find out what went wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from blindgate_audit.replay import Document, Place, Replay
from blindgate_protocol.events import leaf_of

Section = Literal["what", "where", "when", "key", "code", "log"]

UNVERIFIED_LOG: Final = "log, not verified"
"""Where nobody named the log's key: the entry leads to the root that is written there, and who wrote it is not known."""

_SIGNED_BY: Final = {
    "manifest": "publisher",
    "order": "client",
    "receipt": "node",
    "certificate": "operator",
    "evidence": "node",
    "log": "log",
    "bundle": "nobody: its owner wrote it down",
}


@dataclass(frozen=True)
class Statement:
    """One thing that somebody signed.

    Attributes:
        section: which of the auditor's questions it answers.
        name: what it is.
        value: a text, a number, or for people a list. Times are milliseconds since 1970.
        time: whether the value is a point in time.
        documents: what it stands in.
        rests_on: who signed that, by role.
        holds: whether none of the documents was refused.
    """

    section: Section
    name: str
    value: Any
    time: bool
    documents: tuple[Document, ...]
    rests_on: tuple[str, ...]
    holds: bool


def statements(replayed: Replay) -> Iterator[Statement]:
    """Everything that the bundle says."""
    for section, name, value, documents in _said(replayed):
        yield Statement(
            section=section,
            name=name,
            value=value,
            time=section == "when",
            documents=documents,
            rests_on=tuple(_signer(replayed, document) for document in documents),
            holds=all(replayed.holds(document) for document in documents),
        )
    place = replayed.place
    for witness, seconds in () if place is None else sorted(place.cosigned.items()):
        yield Statement(
            section="when",
            name="cosigned",
            value=seconds * 1000,
            time=True,
            documents=("log",),
            rests_on=(f"witness {witness}",),
            holds=replayed.holds("log"),
        )


def _signer(replayed: Replay, document: Document) -> str:
    if document == "log" and replayed.place is not None and replayed.place.log is None:
        return UNVERIFIED_LOG
    return _SIGNED_BY[document]


_Said = tuple[Section, str, Any, tuple[Document, ...]]


def _said(replayed: Replay) -> Iterator[_Said]:
    yield from _what(replayed)
    yield from _where(replayed)
    yield from _when(replayed)
    yield from _key_and_code(replayed)
    if replayed.place is not None:
        yield from _log(replayed, replayed.place)


def _what(replayed: Replay) -> Iterator[_Said]:
    order, manifest, receipt = replayed.bundle.order, replayed.bundle.manifest, replayed.bundle.receipt
    everybody: tuple[Document, ...] = ("order",) if receipt is None else ("order", "receipt")
    model = manifest.document
    yield "what", "job", order.document.job, everybody
    yield "what", "order", order.digest, everybody
    yield "what", "tenant", order.document.tenant, everybody
    yield "what", "model", model.name, ("manifest", *everybody)
    yield "what", "version", model.version, ("manifest", *everybody)
    yield "what", "manifest", manifest.digest, everybody
    yield "what", "family", model.family, ("manifest",)
    yield "what", "lane", model.lane, ("manifest",)
    if model.lane == "fhe":
        found = model.encrypted()
        yield "what", "scheme", found.encryption.scheme, ("manifest",)
        yield "what", "security_bits", found.encryption.security, ("manifest",)
        yield "what", "degree", found.encryption.degree, ("manifest",)
        yield "what", "modulus_bits", found.encryption.modulus_bits, ("manifest",)
        yield "what", "key_parameters", found.key_parameters, ("manifest",)
    else:
        yield "what", "api", model.api, ("manifest",)
    yield "what", "determinism", model.determinism, ("manifest",)
    yield "what", "rows", order.document.rows, ("order",)
    yield "what", "input", order.document.input.digest, everybody
    yield "what", "input_bytes", order.document.input.size, everybody
    if replayed.bundle.classes:
        yield "what", "data_classes", ", ".join(replayed.bundle.classes), ("bundle",)
    if replayed.bundle.redacted:
        taken = (f"{count} {name}" for name, count in replayed.bundle.redacted.items())
        yield "what", "redacted", ", ".join(taken), ("bundle",)
    if receipt is not None:
        yield "what", "output", receipt.document.output.digest, ("receipt",)
        yield "what", "output_bytes", receipt.document.output.size, ("receipt",)
        if receipt.document.lane == "tee":
            yield "what", "prompt_commitment", receipt.document.prompt, ("receipt",)
            yield "what", "answer_commitment", receipt.document.answer, ("receipt",)


def _where(replayed: Replay) -> Iterator[_Said]:
    receipt, certificate = replayed.bundle.receipt, replayed.certificate
    if receipt is None:
        return
    yield "where", "node", receipt.document.node, ("receipt",)
    yield "where", "generation", receipt.document.generation, ("receipt",)
    if certificate is not None:
        yield "where", "node_name", certificate.document.name, ("certificate",)
        yield "where", "operator", certificate.document.operator, ("certificate",)
        yield "where", "certificate", certificate.digest, ("certificate",)
    if receipt.document.evidence is not None:
        yield "where", "evidence", receipt.document.evidence, ("receipt",)
    if replayed.evidence is not None:
        bound = replayed.evidence.binding
        yield "where", "key_set", bound.key_set, ("evidence",)
        yield "where", "nonce", bound.nonce.hex(), ("evidence",)
        yield "where", "policy", bound.policy, ("evidence",)


def _when(replayed: Replay) -> Iterator[_Said]:
    order, receipt, certificate = replayed.bundle.order.document, replayed.bundle.receipt, replayed.certificate
    yield "when", "issued", order.issued, ("order",)
    yield "when", "deadline", order.deadline, ("order",)
    yield "when", "model_valid_from", replayed.bundle.manifest.document.issued, ("manifest",)
    yield "when", "model_valid_until", replayed.bundle.manifest.document.expires, ("manifest",)
    if certificate is not None:
        yield "when", "node_valid_from", certificate.document.issued, ("certificate",)
        yield "when", "node_valid_until", certificate.document.expires, ("certificate",)
    if receipt is not None:
        yield "when", "started", receipt.document.started, ("receipt",)
        yield "when", "finished", receipt.document.finished, ("receipt",)
    if replayed.place is not None:
        yield "when", "logged", replayed.place.event.time, ("log",)


def _key_and_code(replayed: Replay) -> Iterator[_Said]:
    order, receipt = replayed.bundle.order.document, replayed.bundle.receipt
    everybody: tuple[Document, ...] = ("order",) if receipt is None else ("order", "receipt")
    yield "key", "evaluation_key", order.evaluation_key or "none needed", everybody
    yield "key", "client", order.client, ("order",)
    circuit: tuple[Document, ...] = ("manifest",) if receipt is None else ("manifest", "receipt")
    yield "code", "circuit", replayed.bundle.manifest.document.server.digest, circuit
    yield "code", "circuit_bytes", replayed.bundle.manifest.document.server.size, ("manifest",)
    if receipt is not None:
        for name, version in sorted(receipt.document.software.items()):
            yield "code", f"software {name}", version, ("receipt",)
    if replayed.place is not None:
        yield "code", "gateway", replayed.place.event.software, ("log",)


def _log(replayed: Replay, place: Place) -> Iterator[_Said]:
    logged = replayed.bundle.logged
    yield "log", "origin", place.checkpoint.origin, ("log",)
    yield "log", "index", place.index, ("log",)
    yield "log", "size", place.checkpoint.size, ("log",)
    yield "log", "root", place.checkpoint.root.hex(), ("log",)
    if logged is not None:
        yield "log", "leaf", leaf_of(logged.event.encode(), logged.salt).hex(), ("log",)
    yield "log", "action", place.event.action.value, ("log",)
    yield "log", "actor", place.event.actor, ("log",)
    yield "log", "cosignatures", len(place.cosigned), ("log",)

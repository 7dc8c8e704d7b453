"""The line of a log's second key, by ML-DSA-44, honest and not: what is put below a checkpoint that the log signed by Ed25519."""

from collections.abc import Callable
from dataclasses import replace

from blindgate_protocol.checkpoints import Checkpoint, EntryProof, cosign_by
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.notes import KeyKind, Note, SignatureLine, parse_note

ORIGIN = "gateway.example/log"
SECOND = LogKey.from_seed(ORIGIN, KeyKind.ML_DSA_44, b"2" * 32)
STRANGER = LogKey.from_seed(ORIGIN, KeyKind.ML_DSA_44, b"3" * 32)

Lines = Callable[[Checkpoint], tuple[SignatureLine, ...]]
"""Given a tree, what stands below it beside the log's first line."""


def honest(tree: Checkpoint) -> tuple[SignatureLine, ...]:
    """The second key's own line."""
    return (cosign_by(tree, SECOND, seconds=0),)


def _of_another_key(tree: Checkpoint) -> tuple[SignatureLine, ...]:
    return (cosign_by(tree, STRANGER, seconds=0),)


def _over_another_tree(tree: Checkpoint) -> tuple[SignatureLine, ...]:
    return (cosign_by(replace(tree, root=bytes(32)), SECOND, seconds=0),)


def _under_the_right_id(tree: Checkpoint) -> tuple[SignatureLine, ...]:
    (line,) = _of_another_key(tree)
    return (replace(line, id=SECOND.verifier.id),)


LIES: dict[str, Lines] = {
    "no second line": lambda _: (),
    "another key's": _of_another_key,
    "over another tree": _over_another_tree,
    "forged under the right id": _under_the_right_id,
}


def signed_too(note: bytes, lines: Lines = honest) -> bytes:
    """A checkpoint with these lines as well."""
    parsed = parse_note(note)
    return str(Note(parsed.text, (*parsed.lines, *lines(Checkpoint.parse(parsed.text))))).encode()


def proof_signed_too(logged: LoggedProof, lines: Lines = honest) -> LoggedProof:
    """A proof whose checkpoint has these lines as well."""
    proof = EntryProof.parse(logged.proof.encode())
    changed = replace(proof, checkpoint=signed_too(proof.checkpoint, lines))
    return logged.model_copy(update={"proof": changed.to_bytes().decode()})

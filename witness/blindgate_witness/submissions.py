"""What a witness is sent, and whether it continues what was seen. C2SP's tlog-witness, `add-checkpoint`.

    old 20852014            the size that the sender believes this witness cosigned last
    PlRNCrwH…               the consistency proof from there, at most 63 hashes
                            (an empty line)
    origin …                the checkpoint, as a signed note

`judge` establishes, of a checkpoint whose log is known and whose signature was verified:

1. the old size is not above the checkpoint's;
2. a tree as large as the one that was cosigned last has the same root;
3. the old size is the one that was cosigned last;
4. the proof leads from that tree to this one; there is none to lead from the empty tree, or from a tree to itself.

What fails 2 is a *fork*: two trees of one size, and the log's signature below both. Nothing else is needed to show it to others.
What fails 4 is *unproven*: the log forked, or somebody else put a false proof beside a checkpoint of the log's, which anybody can
do. Both are worth keeping; only the first says by itself that the log lied.

Values alone: what was seen lies in `records`, the order of the steps around this in `witness`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from blindgate_protocol.checkpoints import Checkpoint, parse_hash
from blindgate_protocol.errors import BlindgateError, LogError, MalformedError
from blindgate_protocol.merkle import EMPTY_ROOT, verify_consistency
from blindgate_protocol.notes import Note, parse_note

MAX_SUBMISSION_BYTES: Final = 1 << 16
MOST_HASHES: Final = 63
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,15})")


class Rule(StrEnum):
    """Why a checkpoint that the log signed was refused and kept."""

    FORK = "fork"
    UNPROVEN = "unproven"


class RefusedError(BlindgateError):
    """A submission that is not cosigned.

    Attributes:
        status: the HTTP status that tlog-witness gives it.
        size: what the sender is told in place of words: the size that was cosigned last.
        rule: set where the log's own signature stands below what was refused.
    """

    code = "not-cosigned"

    def __init__(self, message: str, *, status: HTTPStatus, size: int | None = None, rule: Rule | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size = size
        self.rule = rule


@dataclass(frozen=True)
class Seen:
    """The largest tree of a log that this witness cosigned; the empty one before there was any.

    Attributes:
        note: the checkpoint with the log's signature; empty before there was any.
        seconds: the time in the last cosignature, since 1970.
    """

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""
    seconds: int = 0


@dataclass(frozen=True)
class Submission:
    """A checkpoint, and the way to it from a tree of `old` entries. Nothing is verified yet."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: Note

    @classmethod
    def parse(cls, data: bytes) -> "Submission":
        """Read a submission. Raises `MalformedError`, with the line at fault."""
        if len(data) > MAX_SUBMISSION_BYTES:
            message = f"a submission has at most {MAX_SUBMISSION_BYTES} bytes, got {len(data)}"
            raise MalformedError(message)
        head, gap, below = data.partition(b"\n\n")
        first, *hashes = head.split(b"\n")
        old = _OLD.fullmatch(first)
        if not gap or old is None:
            message = "a submission is a line 'old <size>', the lines of a proof, an empty line and a checkpoint"
            raise MalformedError(message)
        if len(hashes) > MOST_HASHES:
            message = f"a proof has at most {MOST_HASHES} lines, got {len(hashes)}"
            raise MalformedError(message)
        proof = tuple(parse_hash(line.decode(errors="replace")) for line in hashes)
        note = parse_note(below)
        return cls(int(old[1]), proof, Checkpoint.parse(note.text), note)


def judge(seen: Seen, submission: Submission) -> None:
    """Decide whether the checkpoint continues what was seen (steps 1 to 4 above). Raises `RefusedError`."""
    old, tree = submission.old, submission.checkpoint
    # 1.
    if old > tree.size:
        message = f"the old size is {old}, the checkpoint's {tree.size}: a log does not get smaller"
        raise RefusedError(message, status=HTTPStatus.BAD_REQUEST)
    # 2. Whatever old size it came with: the two signatures are what counts.
    if tree.size == seen.size and tree.root != seen.root:
        message = f"another tree of {tree.size} entries was cosigned"
        raise RefusedError(message, status=HTTPStatus.CONFLICT, size=seen.size, rule=Rule.FORK)
    # 3.
    if old != seen.size:
        raise overtaken(seen)
    # 4.
    if seen.size in {0, tree.size}:
        if submission.proof:
            message = f"nothing leads from a tree of {seen.size} to one of {tree.size}: the proof must be empty"
            raise RefusedError(message, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        return
    try:
        verify_consistency(
            first=seen.size,
            second=tree.size,
            proof=submission.proof,
            first_root=seen.root,
            second_root=tree.root,
        )
    except LogError as error:
        raise RefusedError(str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY, rule=Rule.UNPROVEN) from error


def overtaken(seen: Seen) -> RefusedError:
    """What a sender is told whose old size is not the one that was cosigned last."""
    return RefusedError(f"{seen.size} entries were cosigned last", status=HTTPStatus.CONFLICT, size=seen.size)

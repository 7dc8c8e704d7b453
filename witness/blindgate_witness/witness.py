"""A witness at work: from the bytes of a submission to the lines of a cosignature.

1. the bytes are read (400);
2. the log is one of those that this witness was told of (404);
3. the log's own signature is below the checkpoint, and verifies (403); lines of others are left alone;
4. the checkpoint continues what was seen of the log (`submissions.judge`: 400, 409, 422); what it signed and does not, is kept;
5. it is written down that it was seen, unless another was quicker (409);
6. then, and not before, a signature is made.

Killed between 5 and 6 a witness has seen more than it told: the log is answered 409 the next time, and asks again from there.
"""

from collections.abc import Callable
from http import HTTPStatus

import structlog

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.notes import Note, verify_line
from blindgate_witness.records import KnownLog, Records
from blindgate_witness.signer import Signer
from blindgate_witness.submissions import RefusedError, Rule, Seen, Submission, judge, overtaken

log: structlog.stdlib.BoundLogger = structlog.get_logger("blindgate.witness")


class Witness:
    """A key, a record, and a clock that gives seconds since 1970."""

    def __init__(self, signer: Signer, records: Records, clock: Callable[[], float]) -> None:
        self.signer = signer
        self.records = records
        self._clock = clock

    def add_checkpoint(self, data: bytes) -> str:
        """The cosignature lines for a submission (steps 1 to 6 above). Raises `RefusedError`."""
        # 1.
        try:
            submission = Submission.parse(data)
        except MalformedError as error:
            raise RefusedError(str(error), status=HTTPStatus.BAD_REQUEST) from error
        # 2.
        known = self.records.log(submission.checkpoint.origin)
        if known is None or not known.witnessed:
            message = "this witness was not told of a log with this origin"
            raise RefusedError(message, status=HTTPStatus.NOT_FOUND)
        # 3.
        note = _signed(submission, known)
        # 4.
        now = int(self._clock())
        tree = submission.checkpoint
        try:
            judge(known.seen, submission)
        except RefusedError as refused:
            if refused.rule is not None:
                self.records.keep(known, submission, note, rule=refused.rule, now=now)
                say = log.critical if refused.rule is Rule.FORK else log.warning
                say("kept", origin=tree.origin, rule=refused.rule.value, size=tree.size, seen=known.seen.size)
            raise
        # 5.
        seconds = self.records.advance(known, tree, note, now=now)
        if seconds is None:
            current = self.records.log(tree.origin)
            raise overtaken(Seen() if current is None else current.seen)
        log.info("cosigned", origin=tree.origin, size=tree.size, seconds=seconds)
        # 6.
        return self.signer.lines(tree, seconds)


def _signed(submission: Submission, known: KnownLog) -> str:
    """Verify the log's own signature; gives the note with that line alone. Raises `RefusedError`."""
    note = submission.note
    try:
        line = note.line_of(known.key)
        if line is not None:
            verify_line(note.text, line, known.key)
            return str(Note(note.text, (line,)))
    except LogError as error:
        raise RefusedError(str(error), status=HTTPStatus.FORBIDDEN) from error
    message = "the checkpoint has no signature under the log's key that is known"
    raise RefusedError(message, status=HTTPStatus.FORBIDDEN)

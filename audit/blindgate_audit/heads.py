"""The head of a log that is about to be reported on: whom it is believed from, and that it goes on from what was seen of it.

A report reads a few tiles where `audit verify` reads them all, so it establishes less, and remembers nothing:

1. the log's key is the one that was given; else the one that was remembered; else the one beside the log, which vouches for itself;
2. the checkpoint is signed by it, and by its second key where one was named or lies beside the log; as many of the trusted
   witnesses as are wanted cosigned it;
3. it is no smaller than the one that was remembered, and its tree begins with that one's.

A key that was remembered and has changed is refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from blindgate_audit.remembered import Memory, Remembered
from blindgate_audit.sources import Address, Folder, Source
from blindgate_protocol.checkpoints import Checkpoint, LogTrust, open_checkpoint
from blindgate_protocol.errors import ForkedLogError, LogError, MalformedError
from blindgate_protocol.merkle import consistency_proof, verify_consistency
from blindgate_protocol.notes import VerifierKey
from blindgate_protocol.tiles import subtrees_of


class Voucher(Enum):
    """Where the log's key came from."""

    GIVEN = "given"
    REMEMBERED = "remembered"
    ITSELF = "itself"


@dataclass(frozen=True)
class Named:
    """What an auditor names of a log.

    Attributes:
        log: its key; `None` for the one that was remembered, or lies beside it.
        second: its second key, which must have signed as well; `None` for the one beside it, if there is one.
        witnesses: whose cosignatures count, by the auditor's names.
        cosignatures: how many of them must be there.
    """

    log: VerifierKey | None = None
    second: VerifierKey | None = None
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    cosignatures: int = 0

    def trust(self, log: VerifierKey, source: Source) -> LogTrust:
        """What is asked of the log under this key. Raises `MalformedError` for a second key of another log's.

        The second key beside the log vouches for nothing that the first does not: it is asked so that no byte of the checkpoint is
        taken unread.
        """
        if self.second is not None:
            return LogTrust(log, self.witnesses, self.cosignatures, self.second)
        beside = source.second_key()
        try:
            return LogTrust(
                log, self.witnesses, self.cosignatures, None if beside is None else VerifierKey.parse(beside)
            )
        except MalformedError as error:
            message = f"the second key beside the log in {source.name}: {error}"
            raise MalformedError(message) from error


@dataclass(frozen=True)
class Head:
    """A checkpoint that was believed, and from whom."""

    checkpoint: Checkpoint
    voucher: Voucher


def open_head(source: Folder | Address, memory: Memory, named: Named) -> Head:
    """Establish the log's head (steps 1 to 3 above). Raises `LogError`, or what reading raises."""
    # 1.
    believed = VerifierKey.parse(source.key()) if named.log is None else named.log
    place = os.path.realpath(source.path) if isinstance(source, Folder) else source.gateway
    before = memory.log_at(place)
    if named.log is None and before is not None and before != believed.name:
        message = f"{source.name}: here was the log {before!r} before, and now there is {believed.name!r}: another log"
        raise LogError(message)
    remembered = memory.recall(believed.name)
    if remembered is not None and remembered.key != believed:
        message = f"the log's key is {believed}, and was {remembered.key} when the log was seen; see {memory.file(believed.name)}"
        raise LogError(message)
    # 2.
    checkpoint = open_checkpoint(source.checkpoint(), named.trust(believed, source)).checkpoint
    # 3.
    if remembered is not None:
        _require_continuation(source, remembered, checkpoint)
    voucher = Voucher.ITSELF if remembered is None else Voucher.REMEMBERED
    return Head(checkpoint, voucher if named.log is None else Voucher.GIVEN)


def _require_continuation(source: Folder | Address, remembered: Remembered, now: Checkpoint) -> None:
    before = remembered.checkpoint
    if now.size < before.size:
        message = f"the log has {now.size} entries, and had {before.size} when it was seen: the others are gone"
        raise LogError(message, index=now.size)
    if before.size == 0:
        return
    try:
        proof = consistency_proof(before.size, now.size, subtrees_of(now.size, source.read))
        verify_consistency(
            first=before.size, second=now.size, proof=proof, first_root=before.root, second_root=now.root
        )
    except LogError as error:
        message = f"the log of {now.size} entries does not begin with the {before.size} that were seen of it: it was rewritten"
        raise ForkedLogError(message) from error

"""Whether a job's receipt stands in a log that somebody trusts.

For a job that succeeded a gateway gives the event that it logged, the event's salt, and a proof. `check_logged` holds them against
the bundle; it establishes:

1. there is a receipt, and an event for it, whose bytes are canonical and parse;
2. the event is of a job's success, and its outcome is one;
3. it is about the receipt's job, and carries this receipt's digest;
4. it names the node that signed the receipt;
5. its time lies between the order's issue and its deadline, as far as clocks may be off;
6. its leaf stands in a tree whose checkpoint is signed by a log that is trusted, and cosigned by as many of the trusted witnesses
   as are wanted.

What it does not establish: that the receipt answers the order (`receipts.check_receipt`), that the tree continues one that was seen
before (`merkle.verify_consistency`), and that nothing was left out of the log, which no proof of what is in it can.

Section 12 of docs/protocol.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from blindgate_protocol.bundle import Bundle
from blindgate_protocol.checkpoints import Checkpoint, EntryProof, LogTrust
from blindgate_protocol.errors import LogError, MalformedError, NotLoggedError
from blindgate_protocol.events import Action, Event, leaf_of
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.notes import VerifierKey, parse_note
from blindgate_protocol.receipts import CLOCK_SKEW


@dataclass(frozen=True)
class Standing:
    """Where a receipt stands.

    Attributes:
        log: the log, by its trusting owner's name for it.
        key: the log's verifier key.
        index: of the event in the log.
        event: what was logged.
        checkpoint: the tree that the proof leads to.
        cosigned: when each trusted witness cosigned that tree, by its owner's name for it, in seconds since 1970.
    """

    log: str
    key: VerifierKey
    index: int
    event: Event
    checkpoint: Checkpoint
    cosigned: Mapping[str, int]


def check_logged(bundle: Bundle, trusts: Mapping[str, LogTrust]) -> Standing:
    """Decide whether the bundle's receipt stands in one of the logs `trusts`, by the owner's names (steps 1 to 6 above).

    Raises `NotLoggedError` when what the gateway shows is not this receipt's event, and `LogError` when it shows no trusted log's.
    """
    # 1.
    if bundle.receipt is None:
        message = f"job {bundle.order.document.job} has no receipt that could stand in a log"
        raise NotLoggedError(message)
    if bundle.logged is None:
        message = f"nothing was kept of where the receipt of job {bundle.order.document.job} stands in a log"
        raise NotLoggedError(message)
    try:
        event = Event.from_bytes(bundle.logged.event.encode())
        proof = EntryProof.parse(bundle.logged.proof.encode())
    except (MalformedError, UnicodeEncodeError) as error:
        message = f"what is shown as logged does not parse: {error}"
        raise LogError(message) from error
    receipt, order = bundle.receipt, bundle.order.document
    # 2. to 5.
    for rule, got, wanted in (
        ("is of the action", event.action.value, Action.JOB_SUCCEEDED.value),
        ("has the outcome", event.outcome, "success"),
        ("is about", event.object, f"job:{receipt.document.job}"),
        ("carries the digest", event.digest, receipt.digest),
        ("names the node", event.details.get("node"), receipt.document.node),
    ):
        if got != wanted:
            message = f"the event that is shown for job {order.job} {rule} {got}, expected {wanted}"
            raise NotLoggedError(message, index=proof.index)
    if not order.issued - CLOCK_SKEW <= event.time <= order.deadline + CLOCK_SKEW:
        message = f"the event that is shown for job {order.job} has a time outside the order's"
        raise NotLoggedError(message, index=proof.index)
    # 6.
    try:
        return _standing(bundle.logged, event, proof, trusts)
    except MalformedError as error:
        message = f"the proof of the event at index {proof.index} does not parse: {error}"
        raise LogError(message, index=proof.index) from error
    except LogError as error:
        error.index = proof.index
        raise


def _standing(logged: LoggedProof, event: Event, proof: EntryProof, trusts: Mapping[str, LogTrust]) -> Standing:
    note = parse_note(proof.checkpoint)
    # Several may be trusted; the one that signed is the one that is meant.
    name = next((name for name, trust in trusts.items() if note.line_of(trust.log) is not None), None)
    if name is None:
        known = ", ".join(f"{name} ({trust.log})" for name, trust in trusts.items()) or "none"
        message = f"the checkpoint is signed by no log that is trusted; trusted: {known}"
        raise LogError(message)
    opened = proof.verify(leaf_of(logged.event.encode(), logged.salt), trusts[name])
    return Standing(name, trusts[name].log, proof.index, event, opened.checkpoint, opened.cosigned)

"""What a bundle does not prove, whoever signed it. The list is part of the answer: what is not in it, readers would take for shown.

Each entry has a code, which stays the same, and a sentence. Which entries there are depends on the job and on what the bundle
holds; none depends on whether the checks came out well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from blindgate_protocol.bundle import Bundle
from blindgate_protocol.receipts import CLOCK_SKEW

COMPUTATION: Final = "computation"
"""The code that a recomputation which came out equal takes off the list."""


@dataclass(frozen=True)
class Unproven:
    """Something that stays open.

    Attributes:
        code: its name, for scripts.
        text: what nobody knows from this bundle, and where it might be learnt.
    """

    code: str
    text: str


@dataclass(frozen=True)
class Known:
    """What decides which entries there are.

    Attributes:
        logged: whether the bundle shows a place in a log.
        logged_at: the event's time, in milliseconds since 1970.
        log_known: whether the log's key was named, so that its signature was verified.
        cosigned: when trusted witnesses cosigned, in seconds since 1970.
        unvouched: the roles whose keys nobody named.
        own_word: the roles whose keys are revoked, and that could have chosen the time by which they were not yet.
    """

    bundle: Bundle
    logged: bool
    logged_at: int | None
    log_known: bool
    cosigned: tuple[int, ...]
    unvouched: tuple[str, ...]
    own_word: tuple[str, ...] = ()


def unproven(known: Known) -> Iterator[Unproven]:
    """Everything that stays open."""
    yield from _of_signers(known)
    yield from _of_the_job(known.bundle)
    yield from _of_times(known)
    yield from _of_the_log(known)


def _of_signers(known: Known) -> Iterator[Unproven]:
    for role, whose in (("publisher", "the model's publisher"), ("operator", "the node's operator")):
        if role in known.unvouched:
            yield Unproven(
                f"{role}-unvouched",
                f"who {whose} is: nobody named the key, which vouches for itself (--{role} or --policy)",
            )
    if "client" in known.unvouched:
        yield Unproven(
            "client",
            "whose the client's key is: the tenant's name is what the client wrote. The owner shows the key with "
            "`blindgate keys signer`; name it with --client",
        )
    yield Unproven(
        "revocation",
        "that publisher, operator, client and node were in good standing then: a certificate says who vouched and for how long, "
        "while enrolment, dismissal and revocation are events of the log that are not in a bundle. A policy's [revoked] was "
        "honoured, and says what its owner knew",
    )
    if known.own_word:
        yield Unproven(
            "revocation-time",
            f"that the {' and the '.join(known.own_word)} signed before the revocation: no log that was named shows the "
            "time, which is their own word",
        )


def _of_the_job(bundle: Bundle) -> Iterator[Unproven]:
    sealed = bundle.manifest.document.lane == "tee"
    yield Unproven(
        COMPUTATION,
        "that the answer is the model's: the receipt is the node's word for it, as far as its evidence is trusted"
        if sealed
        else "that the result is the circuit's on this input: in the fhe lane the receipt is the node's word for having computed "
        "it",
    )
    yield Unproven(
        "content",
        "what was asked and answered: the digests are of sealed bytes, and the commitments open only with keys that the client has"
        if sealed
        else "what was asked and answered: the digests are of ciphertexts, which only the holder of the secret key can read",
    )
    if sealed:
        yield Unproven(
            "evidence",
            "what the node's evidence proves of its machine: that it is the one that the receipt rests on was checked; appraise "
            "it, as of then, with `blindgate trust appraise`. Whether its nonce was fresh, only the client knew",
        )
    yield Unproven(
        "model",
        "that the model's weights are the ones that its publisher speaks of, or any good: the digests name bytes, and the figures "
        "in a manifest are its publisher's word",
    )
    yield Unproven(
        "software",
        "that the node ran the versions that it names, and nothing beside them: they are its own word, as its place is",
    )
    if bundle.order.document.evaluation_key is not None:
        yield Unproven(
            "key-life",
            "that the evaluation key was active then, and whether it was destroyed since: its life is in the log and not in a "
            "bundle. See: blindgate audit key",
        )
    yield Unproven(
        "deletion", "that anybody deleted input, key or result afterwards: a statement to that effect is a statement"
    )
    yield Unproven("delivery", "that the client ever fetched, decrypted or used the result")


def _of_times(known: Known) -> Iterator[Unproven]:
    yield Unproven(
        "clocks",
        "that the times are right: each is by the clock of whoever signed it. That they fit the order's, give or take "
        f"{CLOCK_SKEW // 1000} s, is all that was checked",
    )
    receipt = known.bundle.receipt
    if receipt is None or known.logged_at is None:
        return
    times = (receipt.document.finished, known.logged_at, *(seconds * 1000 for seconds in known.cosigned))
    late = max(earlier - min(times[place:]) for place, earlier in enumerate(times))
    if late > CLOCK_SKEW:
        yield Unproven(
            "clocks-disagree",
            f"which clock is right: what must come first (finished, logged, cosigned) is dated up to {late // 1000} s after what "
            "must come later",
        )


def _of_the_log(known: Known) -> Iterator[Unproven]:
    if not known.logged:
        yield Unproven(
            "inclusion",
            "that the job was ever logged: the bundle shows no place in a log, so a gateway may say that there was none",
        )
    elif not known.log_known:
        yield Unproven(
            "log-unvouched",
            "that a log signed this tree: nobody named the log's key, and a checkpoint does not bring it along (--log or --policy)",
        )
    if known.logged and not known.cosigned:
        yield Unproven(
            "witness",
            "that others were shown the same tree: no witness that was named cosigned it, and the log alone can show each reader "
            "another",
        )
    if known.logged:
        yield Unproven(
            "consistency", "that the tree continued what came before, and was continued: see blindgate audit verify"
        )
    yield Unproven(
        "omission",
        "that nothing was left out: one job's bundle says nothing of other jobs, nor of what was done with this one's data",
    )

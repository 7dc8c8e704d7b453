"""Whether a result stands in a log that the policy names, and, before anything is encrypted, whether the gateway serves such a log.

The first is asked after a result's receipt was checked, before anything is done with it; the second once for each client.

`Logs.find` asks the gateway for the proof until there is one that holds, or until the policy's `log_within` seconds are over. Of
each answer it establishes:

1. its checkpoint is signed in the name of a log of the policy (`Policy.require_log`);
2. the receipt's event stands in that log (`inclusion.check_logged`);
3. as many of the policy's witnesses cosigned the tree as its rules want;
4. it is not another tree than this client has seen at that size, and no smaller one than it had seen when it asked.

What breaks rule 1, 2 or the first half of 4 is refused at once: an honest gateway never shows it. What may come with time (no proof
yet, too few cosignatures yet, a tree that lags behind because its witnesses do) is asked for again, and refused when the time
is over.

A larger tree than was seen is taken without asking whether it continues the smaller one: see `seen`.

`Logs.look` asks for the log's latest checkpoint, and holds it against rule 1, the log's signatures and the first half of rule 4. It
says nothing of any job: a gateway that passes may still log none, and `find` refuses that. What it spares is to compute, and to
show a gateway who asks for how much, for results that could never be opened. A tree that is smaller than was seen passes: a cache
may be seconds old. So do cosignatures that are missing: they come with time.
"""

import threading
import time
from dataclasses import replace
from typing import Final

from blindgate.policy import Policy
from blindgate.seen import SeenTrees
from blindgate.transport import Transport
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.checkpoints import EntryProof, open_checkpoint
from blindgate_protocol.errors import (
    ForkedLogError,
    GatewayError,
    LogError,
    MalformedError,
    NotFoundError,
    NotLoggedError,
)
from blindgate_protocol.inclusion import Standing, check_logged
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.notes import MAX_NOTE_BYTES, parse_note

LONG_POLL_SECONDS = 20.0
"""How long one request is held open by the gateway."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
"""Between two requests, growing, where the gateway answered before its time."""

_NOTHING_SENT: Final = "Nothing was encrypted or sent"


class Logs:
    """The logs of a policy, as one client sees them."""

    def __init__(self, policy: Policy, seen: SeenTrees) -> None:
        """Ask for what `policy` wants, and remember in `seen` what was relied on."""
        self._policy = policy
        self._seen = seen
        self._looking = threading.Lock()
        self._looked = False

    def under(self, policy: Policy) -> "Logs":
        """The same logs for a request that wants other cosignatures than the rest: under its classes' `policy`."""
        if (policy.witnesses, policy.rules) == (self._policy.witnesses, self._policy.rules):
            return self
        made = Logs(policy, self._seen)
        made._looked = self._looked
        return made

    @property
    def wanted(self) -> bool:
        """Whether the policy names a log."""
        return bool(self._policy.logs)

    def look(self, transport: Transport) -> None:
        """Refuse a gateway that serves none of the policy's logs. Asks until it was answered once, and not again.

        Raises `UntrustedSignerError`, a `LogError` or `MalformedError` for what it serves, and `GatewayError` when it does not say.
        """
        with self._looking:
            if self._looked or not self.wanted:
                return
            self._look(transport)
            self._looked = True

    def standing(self, bundle: Bundle) -> Standing | None:
        """Where a kept receipt stands, checked again, offline; `None` where the policy names no log or nothing was kept.

        Raises `LogError`.
        """
        if not self.wanted or bundle.logged is None:
            return None
        return check_logged(bundle, self._policy.log_trusts())

    def find(self, transport: Transport, bundle: Bundle, *, seen: float) -> Bundle:
        """Give the bundle, which has its receipt, with the proof of where that stands.

        `seen`: when the result was, on the monotonic clock. Asks once at least. Raises `NotLoggedError` or another `LogError`,
        `UntrustedSignerError`, `MalformedError` or `GatewayError`.
        """
        seconds = self._policy.rules.log_within
        until, pause = seen + seconds, FIRST_PAUSE_SECONDS
        while True:
            asked = time.monotonic()
            wait = min(LONG_POLL_SECONDS, max(0.0, until - asked))
            try:
                return self._ask(transport, bundle, wait)
            except _NotYetError as error:
                refusal = error.refusal
            left = until - time.monotonic()
            if left <= 0:
                raise _late(bundle, refusal, seconds) from refusal
            if time.monotonic() - asked < wait / 2:  # it was not held open
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _look(self, transport: Transport) -> None:
        try:
            data = transport.fetch("/log/checkpoint", MAX_NOTE_BYTES)
            note = parse_note(data)
        except NotFoundError as error:
            message = (
                f"this gateway serves no log, and the policy wants results to stand in one. {_NOTHING_SENT}: {error}"
            )
            raise NotLoggedError(message) from error
        except GatewayError as error:
            message = (
                "this gateway does not say at the moment which log it serves, and the policy wants results to stand in one that "
                f"it names. {_NOTHING_SENT}; try again: {error}"
            )
            raise type(error)(
                message, status=error.status, problem=error.problem, retry_after=error.retry_after
            ) from error
        except MalformedError as error:
            message = f"what this gateway serves as its log's checkpoint is none. {_NOTHING_SENT}: {error}"
            raise MalformedError(message) from error
        self._policy.require_log(note, "nothing was encrypted or sent: this gateway serves the log")
        seen = self._seen.trees()
        try:
            trust = next(each for each in self._policy.log_trusts().values() if note.line_of(each.log) is not None)
            tree = open_checkpoint(data, replace(trust, cosignatures=0)).checkpoint
            if str(trust.log) in seen:
                seen[str(trust.log)].require_not_another(tree)
        except (LogError, MalformedError) as error:
            message = f"what this gateway serves as its log's checkpoint does not hold. {_NOTHING_SENT}: {error}"
            raise type(error)(message) from error

    def _ask(self, transport: Transport, bundle: Bundle, wait: float) -> Bundle:
        job, wanted = bundle.order.document.job, self._policy.rules.cosignatures
        known = self._seen.trees()  # before asking: what is answered later must not be behind it
        path = f"/v1/jobs/{job}/proof?wait={int(wait * 1000)}&cosignatures={wanted}"
        try:
            logged = transport.get(path, LoggedProof, wait=wait)
        except NotFoundError as error:
            raise _NotYetError(NotLoggedError(f"the gateway shows no event of it: {error}")) from error
        except GatewayError as error:
            if error.problem != NotLoggedError.code:
                raise
            raise _NotYetError(NotLoggedError(str(error))) from error
        # 1.
        self._policy.require_log(parse_note(EntryProof.parse(logged.proof.encode()).checkpoint))
        # 2.
        complete = replace(bundle, logged=logged)
        trusts = self._policy.log_trusts()
        standing = check_logged(complete, {name: replace(trust, cosignatures=0) for name, trust in trusts.items()})
        # 3.
        try:
            check_logged(complete, trusts)
        except LogError as error:  # all else held
            raise _NotYetError(NotLoggedError(str(error))) from error
        # 4.
        log = str(standing.key)
        if log in known:
            known[log].require_not_another(standing.checkpoint)
            try:
                known[log].require_not_smaller(standing.checkpoint)
            except ForkedLogError as error:
                raise _NotYetError(error) from error
        self._seen.remember(log, standing.checkpoint)
        return complete


class _NotYetError(Exception):
    """What is no ground to refuse before the time is over."""

    def __init__(self, refusal: LogError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def _late(bundle: Bundle, refusal: LogError, seconds: float) -> LogError:
    message = (
        f"job {bundle.order.document.job}: {seconds:g} s after its result was there, that does not stand in a log that the policy "
        f"names, so it was neither acknowledged nor decrypted: {refusal}. It can be asked for again; how long to wait is the "
        "policy's rule log_within"
    )
    return type(refusal)(message)

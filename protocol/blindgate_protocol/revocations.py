"""From when on a signing key is believed no longer, and what it signed before.

A revocation is a key and a time. What the key signed before that time stays as good as it was; from that time on nothing that it
signs is believed. It is the same for publishers, operators, nodes and clients.

A signature says nothing of when it was made, and who has somebody's key can date back. So a document counts as made when somebody
else first speaks of it, as far as a job's bundle shows that:

1. a **manifest**, when the client issued the order that names it;
2. a **receipt**, and with it the word of the node's operator, when a log that is trusted says that it was accepted;
3. an **order**, when the event of rule 2 says that the order was submitted (its detail `submitted`, between the order's `issued`,
   as far as clocks may be off, and the event's own time); where it says nothing of that, when the receipt was logged. The time in
   the order is its client's word, and never counts where there is a receipt: whoever stole the key dates back what they order
   today.

So a job that was under way when its client's key was revoked ends well. What a thief submits after the revocation does not, unless
the gateway lies about when it came, as it could about any time in its log: the event `job.submitted` stands in the same log, and
an auditor who compares the two (`blindgate audit verify` does) finds that.

Where no trusted log shows the receipt, 2. and 3. go by the receipt's `finished`, which is the node's own word. A revoked node can
write any time there: whoever wants to rely on revocations names a log. A log's time is its gateway's clock, which may be wrong.

In a policy file:

    [revoked]
    "ed25519:…" = 2026-11-20T10:00:00Z
    "ed25519:…" = { at = 2026-11-20T10:00:00+01:00, reason = "a laptop was stolen" }
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from blindgate_protocol.bundle import Bundle
from blindgate_protocol.errors import BlindgateError, RevokedSignerError
from blindgate_protocol.events import Event
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import open_signed, public_key
from blindgate_protocol.values import KeyId, Millis, Value

Role = Literal["publisher", "client", "operator", "node"]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_EXPECTED: Final = "expected a time with its zone and without quotes, such as 2026-11-20T10:00:00Z"


def _printable(text: str) -> str:
    if not text.isprintable():
        message = "a reason is one line of text"
        raise ValueError(message)
    return text


class Revocation(Value):
    """What is said of a revoked key.

    Attributes:
        at: from when on it is not believed, in milliseconds since 1970.
        reason: why, in the words of whoever revoked it.
    """

    at: Millis
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_printable)] | None = None


def _from_toml(value: object) -> object:
    """A time, or a table with a time: TOML's times become milliseconds, and nothing else is one."""
    members: dict[str, Any] = dict(value) if isinstance(value, dict) else {"at": value}
    at = members.get("at")
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError(_EXPECTED)
    return members | {"at": (at - _EPOCH) // timedelta(milliseconds=1)}


def _canonical(key: str) -> str:
    public_key(key)  # a key that was mistyped would revoke nobody
    return key


Revocations = dict[Annotated[KeyId, AfterValidator(_canonical)], Annotated[Revocation, BeforeValidator(_from_toml)]]
"""The section `[revoked]` of a policy file, as `tomllib` reads it."""


@dataclass(frozen=True)
class DatedSignature:
    """Whose signature holds a document of a bundle together, and the time that it counts as made.

    Attributes:
        by: in words, whose clock gave the time.
        own_word: whether the signer could have chosen that time.
    """

    role: Role
    key: str
    at: Millis
    by: str
    own_word: bool = False


def signatures(bundle: Bundle, *, logged: Millis | None) -> Iterator[DatedSignature]:
    """The signatures of a bundle with their times (rules 1 to 3 above); what is not there has none.

    `logged`: when a log that is trusted says that the receipt was accepted; `None` where none does. With it `bundle.logged` is the
    event that says so.
    """
    order, receipt = bundle.order, bundle.receipt
    yield DatedSignature("publisher", bundle.manifest.signer, order.document.issued, "ordered")
    if receipt is None:
        yield DatedSignature("client", order.signer, order.document.issued, "ordered, by its own clock,", own_word=True)
        return
    is_logged = logged is not None
    at = receipt.document.finished if logged is None else logged
    submitted = _submitted(bundle) if is_logged else None
    if submitted is not None:
        yield DatedSignature("client", order.signer, submitted, "submitted, as the log says,")
    else:
        yield DatedSignature("client", order.signer, at, "logged" if is_logged else "finished, by the node's clock,")
    own = "logged" if is_logged else "finished, by its own clock,"
    with suppress(BlindgateError):  # a certificate that does not open is `receipts.check_receipt`'s to refuse
        operator = open_signed(receipt.document.certificate, NodeCertificate).signer
        yield DatedSignature("operator", operator, at, own, own_word=not is_logged)
    yield DatedSignature("node", receipt.signer, at, own, own_word=not is_logged)


def _submitted(bundle: Bundle) -> Millis | None:
    """When the event that shows the receipt as logged says that the order came; `None` where it says nothing that can be."""
    if bundle.logged is None:
        return None
    with suppress(BlindgateError, UnicodeEncodeError):
        event = Event.from_bytes(bundle.logged.event.encode())
        said = event.details.get("submitted", "")
        earliest = bundle.order.document.issued - CLOCK_SKEW
        if re.fullmatch(r"[0-9]{1,15}", said) and earliest <= int(said) <= event.time:
            return int(said)
    return None


def require_unrevoked(signature: DatedSignature, revoked: Mapping[str, Revocation]) -> None:
    """Refuse what counts as signed at or after the revocation of its signer. Raises `RevokedSignerError`."""
    found = revoked.get(signature.key)
    if found is None or signature.at < found.at:
        return
    why = "" if found.reason is None else f" ({found.reason})"
    message = (
        f"{signature.role} {signature.key} is revoked from {_text(found.at)} on{why}, and this was {signature.by} at "
        f"{_text(signature.at)}"
    )
    raise RevokedSignerError(message)


def toml_time(millis: Millis) -> str:
    """A point in time as TOML has it, in UTC."""
    return (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(millis: Millis) -> str:
    try:
        return toml_time(millis)
    except OverflowError:  # a stranger's time may lie beyond what calendars know
        return f"{millis} ms since 1970"

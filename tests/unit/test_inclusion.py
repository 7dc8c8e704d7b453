"""Whether a receipt stands in a trusted log: each thing that may be wrong, by name."""

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from blindgate_protocol.bundle import MAX_BUNDLE_BYTES, Bundle, read_bundle
from blindgate_protocol.canonical import canonical
from blindgate_protocol.checkpoints import LogTrust
from blindgate_protocol.errors import BlindgateError, LogError, MalformedError, NotLoggedError
from blindgate_protocol.events import Action
from blindgate_protocol.inclusion import check_logged
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.manifest import model_ref
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import CLOCK_SKEW, Receipt
from blindgate_protocol.signing import Signed, SigningKey
from brokerage import Keys, blob_ref, make_manifest
from memory_log import Cosigner, MemoryLog, succeeded

ISSUED, DEADLINE = 1_760_000_000_000, 1_760_000_060_000
KEYS = Keys()
NODE = SigningKey.generate()
MANIFEST = KEYS.publisher.sign(make_manifest())
CASES = 2000 * int(os.environ.get("BLINDGATE_CAMPAIGN", "1"))

Change = Callable[["Logged"], LoggedProof]


def make_order() -> Signed[Order]:
    """An order of one minute."""
    return KEYS.client.sign(
        Order(
            job=new_job_id(),
            tenant="hospital",
            model=model_ref(MANIFEST),
            input=blob_ref(b"in"),
            evaluation_key=None,
            rows=1,
            operators=(KEYS.operator.id,),
            client=KEYS.client.id,
            issued=ISSUED,
            deadline=DEADLINE,
        )
    )


def make_receipt(order: Signed[Order], output: bytes = b"out") -> Signed[Receipt]:
    """A receipt that answers it, half a minute later. Its certificate is not looked at here."""
    document = order.document
    return NODE.sign(
        Receipt(
            order=order.digest,
            job=document.job,
            tenant=document.tenant,
            model=document.model,
            circuit=MANIFEST.document.server.digest,
            evaluation_key=None,
            input=document.input,
            output=blob_ref(output),
            lane="fhe",
            generation=1,
            node=NODE.id,
            certificate=order.envelope,
            software={},
            started=ISSUED + 29_000,
            finished=ISSUED + 30_000,
        )
    )


class Logged:
    """A job whose receipt stands at index 7 of a log of 12 events, with two witnesses."""

    def __init__(self) -> None:
        self.order = make_order()
        self.receipt = make_receipt(self.order)
        self.log = MemoryLog()
        self.witnesses = {name: Cosigner(f"{name}.example") for name in ("north", "south")}
        self.log.fill(7)
        self.index = self.log.append(succeeded(self.receipt))
        self.log.fill(4)

    def trusts(self, cosignatures: int = 0, log: MemoryLog | None = None) -> dict[str, LogTrust]:
        """Trust the log and both witnesses."""
        witnesses = {name: each.key for name, each in self.witnesses.items()}
        return {"ours": LogTrust((log or self.log).key, witnesses, cosignatures)}

    def proof(self, *cosigners: str) -> LoggedProof:
        """The honest one."""
        return self.log.proof(self.index, cosigners=[self.witnesses[name] for name in cosigners])

    def bundle(self, logged: LoggedProof | None) -> Bundle:
        """The job's bundle."""
        return Bundle(MANIFEST, self.order, self.receipt, logged)

    def proof_of(self, **changes: Any) -> LoggedProof:
        """A true proof of another event in the same log."""
        return self.log.proof(self.log.append(succeeded(self.receipt, **changes)))


@pytest.fixture
def logged() -> Logged:
    """A logged job."""
    return Logged()


def test_a_logged_receipt_is_told_where_it_stands(logged: Logged) -> None:
    """By the owner's names, with what the log says of it."""
    standing = check_logged(logged.bundle(logged.proof("south")), logged.trusts(1))
    assert (standing.log, standing.index, standing.checkpoint.size) == ("ours", 7, 12)
    assert standing.event.digest == logged.receipt.digest
    assert list(standing.cosigned) == ["south"]


def test_of_several_logs_the_one_that_signed_is_meant(logged: Logged) -> None:
    """As while a gateway changes its log's key."""
    trusts = {"before": LogTrust(MemoryLog().key), **logged.trusts()}
    assert check_logged(logged.bundle(logged.proof()), trusts).log == "ours"


def _another_job(logged: Logged) -> LoggedProof:
    order = make_order()
    return logged.log.proof(logged.log.append(succeeded(make_receipt(order))))


def _another_receipt(logged: Logged) -> LoggedProof:
    return logged.log.proof(logged.log.append(succeeded(make_receipt(logged.order, b"another result"))))


def _spaced(proof: LoggedProof) -> str:
    return json.dumps(json.loads(proof.event))


def _flipped(logged: Logged) -> LoggedProof:
    proof = logged.proof()
    lines = proof.proof.split("\n")
    lines[3] = ("A" if lines[3][0] != "A" else "B") + lines[3][1:]
    return proof.model_copy(update={"proof": "\n".join(lines)})


def _renumbered(logged: Logged) -> LoggedProof:
    proof = logged.proof()
    return proof.model_copy(update={"proof": proof.proof.replace("index 7\n", "index 6\n")})


def _restated(logged: Logged, **changes: Any) -> LoggedProof:
    event = {**json.loads(logged.proof().event), **changes}
    return logged.proof().model_copy(update={"event": canonical(event).decode()})


def _resigned(logged: Logged) -> LoggedProof:
    """The same events under a key that took the log's name."""
    other = MemoryLog()
    other.events = logged.log.events
    return other.proof(logged.index)


def _renamed(logged: Logged) -> LoggedProof:
    other = MemoryLog("b.example/log", logged.log.private)
    other.events = logged.log.events
    return other.proof(logged.index)


def _grown(logged: Logged) -> LoggedProof:
    proof = logged.proof()
    return proof.model_copy(update={"proof": proof.proof.replace("\n12\n", "\n13\n")})


@pytest.mark.parametrize(
    ("change", "refusal", "says"),
    [
        pytest.param(_another_job, NotLoggedError, "is about job:", id="another job"),
        pytest.param(_another_receipt, NotLoggedError, "carries the digest", id="another receipt of the job"),
        pytest.param(
            lambda logged: logged.proof_of(details={"node": SigningKey.generate().id}),
            NotLoggedError,
            "names the node",
            id="another node",
        ),
        pytest.param(lambda logged: logged.proof_of(details={}), NotLoggedError, "names the node", id="no node"),
        pytest.param(
            lambda logged: logged.proof_of(time=ISSUED - CLOCK_SKEW - 1), NotLoggedError, "time", id="before the order"
        ),
        pytest.param(
            lambda logged: logged.proof_of(time=DEADLINE + CLOCK_SKEW + 1), NotLoggedError, "time", id="too late"
        ),
        pytest.param(
            lambda logged: logged.proof_of(action=Action.JOB_FAILED), NotLoggedError, "action", id="another action"
        ),
        pytest.param(
            lambda logged: logged.proof_of(outcome="failure"), NotLoggedError, "outcome", id="no success after all"
        ),
        pytest.param(lambda logged: logged.proof_of(digest=None), NotLoggedError, "digest", id="no digest"),
        pytest.param(lambda _: None, NotLoggedError, "nothing was kept", id="no proof"),
        pytest.param(_resigned, LogError, "no log that is trusted", id="another log's key"),
        pytest.param(_renamed, LogError, "no log that is trusted", id="the log's key under another name"),
        pytest.param(_flipped, LogError, "does not lead from entry 7", id="a flipped bit of the proof"),
        pytest.param(_renumbered, LogError, "does not lead from entry 6", id="another index"),
        pytest.param(_grown, LogError, "does not verify", id="a checkpoint that was altered"),
        pytest.param(
            lambda logged: _restated(logged, reason="no reason"), LogError, "does not lead", id="an altered event"
        ),
        pytest.param(
            lambda logged: logged.proof().model_copy(update={"salt": b"t" * 32}),
            LogError,
            "does not lead",
            id="another salt",
        ),
        pytest.param(
            lambda logged: logged.proof().model_copy(update={"salt": b"short"}), LogError, "32 bytes", id="a short salt"
        ),
        pytest.param(
            lambda logged: logged.proof().model_copy(update={"event": _spaced(logged.proof())}),
            LogError,
            "canonical",
            id="an event that is not canonical",
        ),
        pytest.param(
            lambda logged: _restated(logged, surplus=1), LogError, "surplus", id="an event with a field too many"
        ),
        pytest.param(
            lambda logged: logged.proof().model_copy(update={"proof": "no proof"}),
            LogError,
            "does not parse",
            id="no proof at all",
        ),
    ],
)
def test_what_is_shown_for_a_receipt_is_refused_by_the_rule_that_it_breaks(
    logged: Logged, change: Change, refusal: type[LogError], says: str
) -> None:
    """Each is otherwise as true as it can be made: the log itself signed nearly all of them."""
    with pytest.raises(refusal, match=says) as caught:
        check_logged(logged.bundle(change(logged)), logged.trusts())
    assert type(caught.value) is refusal


@pytest.mark.parametrize(
    ("cosigners", "wanted"),
    [
        pytest.param((), 1, id="none of one"),
        pytest.param(("north",), 2, id="one of two"),
    ],
)
def test_too_few_cosignatures_are_refused(logged: Logged, cosigners: tuple[str, ...], wanted: int) -> None:
    """The policy says how many."""
    with pytest.raises(LogError, match="cosignatures"):
        check_logged(logged.bundle(logged.proof(*cosigners)), logged.trusts(wanted))


def test_a_strange_witness_does_not_count(logged: Logged) -> None:
    """Anybody can cosign; who counts stands in the policy."""
    proof = logged.log.proof(logged.index, cosigners=[Cosigner("north.example")])
    with pytest.raises(LogError, match="0 cosignatures"):
        check_logged(logged.bundle(proof), logged.trusts(1))


def test_a_job_without_a_receipt_stands_nowhere(logged: Logged) -> None:
    """There is nothing to look for."""
    with pytest.raises(NotLoggedError, match="no receipt"):
        check_logged(replace(logged.bundle(logged.proof()), receipt=None), logged.trusts())


def test_no_mutated_proof_is_believed_to_show_anything_else(logged: Logged) -> None:
    """Of thousands of mutations each is refused, or shows the same event at the same place."""
    rng = random.Random(5)
    honest, trusts = logged.proof("north"), logged.trusts(1)
    wanted = check_logged(logged.bundle(honest), trusts)
    texts = {"event": honest.event, "proof": honest.proof}
    believed = 0
    for _ in range(CASES):
        field = rng.choice(("event", "proof", "proof"))
        text = bytearray(texts[field].encode())
        at, kind = rng.randrange(len(text)), rng.choice(("flip", "cut", "double", "drop", "swap"))
        if kind == "flip":
            text[at] ^= 1 << rng.randrange(7)
        elif kind == "cut":
            del text[at:]
        elif kind == "double":
            text[at:at] = text[at : at + 40]
        elif kind == "drop":
            del text[at : at + rng.randrange(1, 40)]
        else:
            text[at], text[-at - 1] = text[-at - 1], text[at]
        changed = honest.model_copy(update={field: text.decode(errors="replace")})
        if changed == honest:
            continue
        try:
            standing = check_logged(logged.bundle(changed), trusts)
        except LogError:
            continue
        believed += 1
        assert (standing.event, standing.index, standing.checkpoint) == (wanted.event, wanted.index, wanted.checkpoint)
    assert believed < CASES / 50  # such as a change in the name of a witness whom nobody asked about


def test_a_bundle_reads_as_it_was_written(logged: Logged) -> None:
    """With the proof, byte for byte."""
    bundle = logged.bundle(logged.proof("north"))
    assert read_bundle(bundle.to_bytes()) == bundle


def test_a_bundle_that_was_kept_before_there_was_a_log_is_read(logged: Logged) -> None:
    """It has no word of one."""
    old = json.loads(logged.bundle(None).to_bytes())
    del old["logged"], old["evidence"]
    read = read_bundle(json.dumps(old).encode())
    assert (read.receipt, read.logged) == (logged.receipt, None)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"{}", "manifest", id="nothing in it"),
        pytest.param(b"[", "not a bundle", id="not JSON"),
        pytest.param(b" " * (MAX_BUNDLE_BYTES + 1), "at most", id="too large"),
    ],
)
def test_what_is_no_bundle_is_refused_by_the_field(data: bytes, says: str) -> None:
    """Files come from anywhere."""
    with pytest.raises(MalformedError, match=says):
        read_bundle(data)


def test_a_bundle_with_a_field_that_nobody_knows_is_refused(logged: Logged) -> None:
    """Evidence, for one: whoever cannot check it must not pass over it."""
    file = json.loads(logged.bundle(logged.proof()).to_bytes()) | {"evidence": "of what?"}
    with pytest.raises(BlindgateError, match="evidence"):
        read_bundle(json.dumps(file).encode())

"""Bundles that tell a lie, each with every signature well made: `blindgate audit replay` refuses them, and says which rule."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from blindgate_audit.replay import Document, Verdict, replay
from blindgate_audit.roots import Roots
from blindgate_protocol.bundle import Bundle, read_bundle
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.signing import SigningKey
from bundled_jobs import FINISHED, LOGGED, MINUTE, ORDERED, STARTED, BundledJobs, Log, Witness, somebody_elses
from second_keys import LIES, SECOND, Lines, proof_signed_too
from signed_packages import DAY, NOW

KEY = digest(b"an evaluation key")
STRANGER = SigningKey.generate()


def about(jobs: BundledJobs, **receipt: object) -> Bundle:
    """A bundle whose receipt says something else, and is logged as it is."""
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    return jobs.bundle(manifest=manifest, order=order, receipt=jobs.receipt(order, **receipt))


def of_another_job(jobs: BundledJobs) -> Bundle:
    """The receipt of the same client's other job on the same model and input."""
    manifest = jobs.manifest()
    return jobs.bundle(manifest=manifest, order=jobs.order(manifest), receipt=jobs.receipt(jobs.order(manifest)))


def of_another_model(jobs: BundledJobs) -> Bundle:
    """The receipt of a job on the next version."""
    manifest = jobs.manifest()
    order, other = jobs.order(manifest), jobs.order(jobs.manifest(version=2))
    return jobs.bundle(manifest=manifest, order=order, receipt=jobs.receipt(order, model=other.document.model))


def under_another_manifest(jobs: BundledJobs) -> Bundle:
    """The manifest was exchanged in the bundle."""
    return replace(jobs.bundle(), manifest=jobs.manifest(version=2))


def under_another_key(jobs: BundledJobs) -> Bundle:
    """The order names a key, the receipt another."""
    manifest = jobs.manifest()
    order = jobs.order(manifest, evaluation_key=KEY)
    receipt = jobs.receipt(order, evaluation_key=digest(b"another"))
    return jobs.bundle(manifest=manifest, order=order, receipt=receipt)


def signed_by_another_node(jobs: BundledJobs) -> Bundle:
    """The node that it names did not sign it."""
    made = jobs.bundle()
    assert made.receipt is not None
    return replace(made, receipt=STRANGER.sign(made.receipt.document))


def by_a_node_with_its_own_certificate(jobs: BundledJobs) -> Bundle:
    """A gateway minted an operator and a node."""
    minted = BundledJobs(publisher=jobs.publisher, client=jobs.client, log=jobs.log, witness=jobs.witness)
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    return jobs.bundle(manifest=manifest, order=order, receipt=minted.receipt(order))


def by_operators_that_nobody_named(jobs: BundledJobs) -> Bundle:
    """The client itself allowed an operator whom the auditor does not know."""
    return BundledJobs(publisher=jobs.publisher, client=jobs.client, log=jobs.log, witness=jobs.witness).bundle()


def ordered_by_somebody_else(jobs: BundledJobs) -> Bundle:
    """The order names the client, and a stranger signed it."""
    manifest = jobs.manifest()
    order = STRANGER.sign(jobs.order(manifest).document)
    return jobs.bundle(manifest=manifest, order=order, receipt=jobs.receipt(order))


def of_another_client(jobs: BundledJobs) -> Bundle:
    """A whole and honest bundle, of another data owner with the same tenant's name."""
    return replace_client(jobs, STRANGER).bundle()


def replace_client(jobs: BundledJobs, client: SigningKey) -> BundledJobs:
    """The same world with another client."""
    return replace(jobs, client=client)


def from_another_publisher(jobs: BundledJobs) -> Bundle:
    """A model of somebody whom nobody named."""
    return replace(jobs, publisher=STRANGER).bundle()


def after_the_model_expired(jobs: BundledJobs) -> Bundle:
    """The order came when the manifest was over."""
    return jobs.bundle(manifest=jobs.manifest(expires=ORDERED))


def without_a_receipt(jobs: BundledJobs) -> Bundle:
    """A job that never ended."""
    return replace(jobs.bundle(), receipt=None, logged=None)


def logged_as(jobs: BundledJobs, **event: object) -> Bundle:
    """The event says something else than the receipt."""
    made = jobs.bundle()
    assert made.receipt is not None
    return replace(made, logged=jobs.log.proof(jobs.event(made.receipt, **event), witnesses=[jobs.witness]))


def logged_elsewhere(jobs: BundledJobs) -> Bundle:
    """Another log's key under the same origin signed the tree."""
    made = jobs.bundle()
    assert made.receipt is not None
    return replace(made, logged=Log(jobs.log.key.name).proof(jobs.event(made.receipt), witnesses=[jobs.witness]))


def cosigned_by(jobs: BundledJobs, *witnesses: Witness) -> Bundle:
    """Other witnesses than those that count."""
    made = jobs.bundle()
    assert made.receipt is not None
    return replace(made, logged=jobs.log.proof(jobs.event(made.receipt), witnesses=witnesses))


def with_the_proof_of(jobs: BundledJobs, change: Callable[[LoggedProof], LoggedProof]) -> Bundle:
    """A proof that was tampered with."""
    made = jobs.bundle()
    assert made.logged is not None
    return replace(made, logged=change(made.logged))


def with_another_salt(logged: LoggedProof) -> LoggedProof:
    """The commitment opens to nothing."""
    return logged.model_copy(update={"salt": b"t" * 32})


def at_another_index(logged: LoggedProof) -> LoggedProof:
    """The entry is said to stand where another does."""
    return logged.model_copy(update={"proof": logged.proof.replace("\nindex 6\n", "\nindex 5\n")})


Attack = Callable[[BundledJobs], Bundle]

ATTACKS = [
    pytest.param(of_another_job, "receipt", "receipt-order", "not this client's order", id="another job"),
    pytest.param(lambda jobs: about(jobs, tenant="clinic"), "receipt", "receipt-order", "answers", id="another tenant"),
    pytest.param(of_another_client, "order", "untrusted-signer", "client", id="another tenant's whole bundle"),
    pytest.param(of_another_model, "receipt", "receipt-model", "model", id="another model"),
    pytest.param(under_another_manifest, "manifest", "receipt-model", "version 2", id="another manifest"),
    pytest.param(lambda jobs: about(jobs, circuit=KEY), "receipt", "receipt-model", "circuit", id="another circuit"),
    pytest.param(under_another_key, "receipt", "receipt-model", "evaluation key", id="another key"),
    pytest.param(
        lambda jobs: about(jobs, evaluation_key=KEY), "receipt", "receipt-model", "evaluation key", id="a key for none"
    ),
    pytest.param(
        lambda jobs: about(jobs, input=somebody_elses(jobs.order(jobs.manifest()).document.input)),
        "receipt",
        "receipt-model",
        "input",
        id="another input",
    ),
    pytest.param(signed_by_another_node, "receipt", "receipt-node", "is signed by", id="another node's signature"),
    pytest.param(
        lambda jobs: about(jobs, certificate=jobs.certificate(node=STRANGER.id).envelope),
        "receipt",
        "receipt-node",
        "not for",
        id="another node's certificate",
    ),
    pytest.param(by_a_node_with_its_own_certificate, "receipt", "receipt-node", "did not allow", id="a minted node"),
    pytest.param(
        lambda jobs: about(jobs, certificate=jobs.certificate(expires=FINISHED).envelope),
        "receipt",
        "receipt-node",
        "not valid at the receipt's time",
        id="a node that was no longer enrolled then",
    ),
    pytest.param(
        lambda jobs: about(jobs, certificate=jobs.certificate(issued=FINISHED + 1).envelope),
        "receipt",
        "receipt-node",
        "not valid at the receipt's time",
        id="a node that was not yet enrolled then",
    ),
    pytest.param(
        by_operators_that_nobody_named, "certificate", "untrusted-signer", "north", id="an operator nobody named"
    ),
    pytest.param(
        lambda jobs: about(jobs, started=ORDERED - 5 * MINUTE),
        "receipt",
        "receipt-order",
        "times",
        id="before the order",
    ),
    pytest.param(
        lambda jobs: about(jobs, finished=ORDERED + 13 * MINUTE),
        "receipt",
        "receipt-order",
        "times",
        id="after the deadline",
    ),
    pytest.param(
        lambda jobs: about(jobs, started=FINISHED, finished=STARTED),
        "receipt",
        "receipt-order",
        "times",
        id="backwards",
    ),
    pytest.param(ordered_by_somebody_else, "order", "bad-signature", "is signed by", id="another client's signature"),
    pytest.param(from_another_publisher, "manifest", "untrusted-signer", "acme", id="a publisher nobody named"),
    pytest.param(after_the_model_expired, "manifest", "manifest-expired", "when the order was issued", id="expired"),
    pytest.param(without_a_receipt, "receipt", "receipt-order", "no receipt", id="no receipt"),
    pytest.param(
        lambda jobs: logged_as(jobs, object="job:" + "0" * 32),
        "log",
        "not-logged",
        "is about",
        id="another job's event",
    ),
    pytest.param(lambda jobs: logged_as(jobs, digest=KEY), "log", "not-logged", "digest", id="another receipt's event"),
    pytest.param(
        lambda jobs: logged_as(jobs, details={"node": STRANGER.id}),
        "log",
        "not-logged",
        "node",
        id="another node's event",
    ),
    pytest.param(lambda jobs: logged_as(jobs, outcome="failure"), "log", "not-logged", "outcome", id="a failure"),
    pytest.param(lambda jobs: logged_as(jobs, time=NOW), "log", "not-logged", "time", id="logged before the order"),
    pytest.param(
        lambda jobs: logged_as(jobs, time=LOGGED + DAY),
        "log",
        "not-logged",
        "time",
        id="logged a day after the deadline",
    ),
    pytest.param(logged_elsewhere, "log", "log", "no log that is trusted", id="another log"),
    pytest.param(cosigned_by, "log", "log", "1 are wanted", id="no witness"),
    pytest.param(
        lambda jobs: cosigned_by(jobs, Witness("w1.example")), "log", "log", "1 are wanted", id="an unknown witness"
    ),
    pytest.param(
        lambda jobs: cosigned_by(jobs, jobs.witness, jobs.witness),
        "log",
        "log",
        "two signature lines",
        id="a witness twice",
    ),
    pytest.param(
        lambda jobs: with_the_proof_of(jobs, with_another_salt), "log", "log", "does not lead", id="another salt"
    ),
    pytest.param(lambda jobs: with_the_proof_of(jobs, at_another_index), "log", "log", "entry 5", id="another index"),
    pytest.param(
        lambda jobs: replace(jobs.bundle(), logged=None),
        "log",
        "not-logged",
        "nothing was kept",
        id="not logged at all",
    ),
]


@pytest.mark.parametrize(("attack", "document", "code", "says"), ATTACKS)
def test_a_lie_is_refused_by_name(attack: Attack, document: Document, code: str, says: str) -> None:
    """Which document is refused, by which rule, in words that say what was got."""
    jobs = BundledJobs()
    replayed = replay(attack(jobs), jobs.roots())
    assert replayed.verdict is Verdict.REFUSED
    assert any(
        (refusal.document, refusal.code) == (document, code) and says in refusal.text for refusal in replayed.refusals
    ), replayed.refusals
    assert not replayed.holds(document)


@pytest.mark.parametrize(
    ("attack", "document", "code", "says"),
    [
        attack
        for attack in ATTACKS
        if attack.values[2] not in {"untrusted-signer", "log"} and attack.id != "not logged at all"
    ],
)
def test_a_lie_is_refused_without_roots_too(attack: Attack, document: Document, code: str, says: str) -> None:
    """Whether anybody is trusted or not: what contradicts itself is never only unvouched for."""
    replayed = replay(attack(BundledJobs()), Roots())
    assert replayed.verdict is Verdict.REFUSED
    assert code in {refusal.code for refusal in replayed.refusals if refusal.document == document}


@pytest.mark.parametrize(
    "change", [pytest.param(with_another_salt, id="salt"), pytest.param(at_another_index, id="index")]
)
def test_a_log_that_nobody_named_must_still_agree_with_itself(change: Callable[[LoggedProof], LoggedProof]) -> None:
    """Its signature cannot be verified; that the entry leads to the root can."""
    jobs = BundledJobs()
    replayed = replay(with_the_proof_of(jobs, change), jobs.roots(logs={}))
    assert [refusal.document for refusal in replayed.refusals] == ["log"]


def test_no_flipped_byte_of_a_bundle_holds() -> None:
    """Wherever it stands, the file is refused, or says the same as before."""
    jobs = BundledJobs()
    whole, roots = jobs.bundle().to_bytes(), jobs.roots()
    before = replay(read_bundle(whole), roots)
    assert before.verdict is Verdict.HOLDS
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 7
        try:
            replayed = replay(read_bundle(bytes(changed)), roots)
        except BlindgateError:
            continue
        assert replayed.verdict is Verdict.REFUSED or replayed.bundle == before.bundle, position


@pytest.mark.parametrize("lines", LIES.values(), ids=LIES.keys())
def test_a_log_without_the_signature_of_its_second_key_is_refused_where_that_is_named(lines: Lines) -> None:
    """Who names only the first key takes it; the honest one holds under both."""
    jobs = BundledJobs()
    named = jobs.roots(second_keys={"ours": SECOND.verifier})
    lying = with_the_proof_of(jobs, lambda logged: proof_signed_too(logged, lines))
    replayed = replay(lying, named)
    assert replayed.verdict is Verdict.REFUSED
    assert [refusal.document for refusal in replayed.refusals] == ["log"]
    assert replay(lying, jobs.roots()).verdict is Verdict.HOLDS
    assert replay(with_the_proof_of(jobs, proof_signed_too), named).verdict is Verdict.HOLDS

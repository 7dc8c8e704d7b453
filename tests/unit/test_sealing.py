"""Sealing: what a client refuses to seal to, what a node refuses to open, and what neither tells."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from blindgate_protocol import chunks, sealing
from blindgate_protocol import evidence as evidence_module
from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import Opener, RequestStream, Sealer
from blindgate_protocol.content_key import Commitment, ContentKey
from blindgate_protocol.errors import (
    BlindgateError,
    ChunkError,
    CommitmentError,
    MalformedError,
    RecipientError,
    SealError,
    SealExpiredError,
    SealTermsError,
    TruncatedError,
)
from blindgate_protocol.evidence import Evidence, Recipient, check_recipient
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.padding import Padding
from blindgate_protocol.sealing import RecipientKeys, Seal, open_seal, seal_key
from blindgate_protocol.signing import Signed, SigningKey
from sealed_jobs import (
    BUCKETS,
    CLASSIC,
    CLIENT,
    CONTENT_KEY,
    HOUR,
    HYBRID,
    JOB,
    MODEL,
    NODE,
    OPERATOR,
    ORDER,
    POLICY,
    T,
    binding,
    evidence,
    offered,
    terms,
    wrapped,
)

STRANGER = SigningKey.from_seed(bytes([5]) * 32)
BARE = RequestStream(job=JOB, padding=Padding())


def accept(recipient: Signed[Recipient], shown: Evidence, **changes: Any) -> Signed[NodeCertificate]:
    """What the client does with an offer."""
    asked: dict[str, Any] = {
        "nonce": bytes(range(32)),
        "model": MODEL,
        "policy": POLICY,
        "operators": {OPERATOR.id},
        "now": T,
    }
    return check_recipient(recipient, shown, **asked | changes)


def test_an_offer_that_answers_what_was_asked_is_taken() -> None:
    """With the operator's certificate, for whoever wants to name the node."""
    assert accept(offered(CLASSIC), evidence(CLASSIC.key_set)).document.name == "node-1"


def _by(signer: SigningKey, **changes: Any) -> Signed[Recipient]:
    return signer.sign(offered(CLASSIC).document.model_copy(update=changes))


def _certified(signer: SigningKey, **changes: Any) -> Signed[Recipient]:
    good: dict[str, Any] = {"node": NODE.id, "name": "node-1", "operator": signer.id, "issued": T, "expires": T + HOUR}
    return _by(NODE, certificate=signer.sign(NodeCertificate(**good | changes)).envelope)


@pytest.mark.parametrize(
    ("recipient", "changes", "error", "says"),
    [
        (_by(STRANGER), {}, RecipientError, "is offered by"),
        (_certified(STRANGER), {}, RecipientError, "whom the policy does not name"),
        (_certified(STRANGER, operator=OPERATOR.id), {}, RecipientError, "the certificate"),
        (_certified(OPERATOR, node=STRANGER.id), {}, RecipientError, "the certificate"),
        (_certified(OPERATOR, expires=T + 1), {"now": T + 1}, RecipientError, "the certificate"),
        (offered(CLASSIC), {"now": T - 1}, RecipientError, "the certificate"),
        (
            _certified(OPERATOR, expires=T + 90 * HOUR),
            {"now": T + 24 * HOUR},
            SealExpiredError,
            "ask for recipients again",
        ),
        (_certified(OPERATOR, issued=T - HOUR), {"now": T - 1}, SealExpiredError, "not valid yet"),
        (_by(NODE, evidence=digest(b"")), {}, SealTermsError, "not the one"),
        (offered(CLASSIC), {"nonce": bytes(32)}, SealTermsError, "another nonce"),
        (offered(CLASSIC), {"model": POLICY}, SealTermsError, "another model"),
        (offered(CLASSIC), {"policy": MODEL}, SealTermsError, "another policy"),
    ],
)
def test_an_offer_that_answers_something_else_is_refused(
    recipient: Signed[Recipient], changes: dict[str, Any], error: type[BlindgateError], says: str
) -> None:
    """Each by the rule that it breaks, before the platform is asked anything."""
    with pytest.raises(error, match=says):
        accept(recipient, evidence(CLASSIC.key_set), **changes)


def test_evidence_of_another_key_set_is_refused() -> None:
    """A gateway cannot put its own keys beside a node's evidence, though it says that this is the evidence."""
    others = evidence(HYBRID.key_set)
    with pytest.raises(SealTermsError, match="another key set"):
        accept(_by(NODE, evidence=others.digest), others)


def test_evidence_about_gpus_goes_with_gpus() -> None:
    """Neither is left out quietly, and no GPU counts twice."""
    members = evidence(CLASSIC.key_set).model_dump()
    with pytest.raises(ValueError, match="GPUs"):
        Evidence.model_validate(members | {"gpu": None})
    with pytest.raises(ValueError, match="GPUs"):
        Evidence.model_validate(members | {"binding": binding(CLASSIC.key_set, gpus=())})
    with pytest.raises(ValueError, match="twice"):
        binding(CLASSIC.key_set, gpus=(MODEL, MODEL))


@pytest.mark.parametrize("kind", [Evidence, Seal])
def test_what_is_too_large_is_refused_before_it_is_parsed(kind: type[Evidence | Seal]) -> None:
    """However well-formed."""
    with pytest.raises(MalformedError, match="at most"):
        kind.from_bytes(b"[" * (kind.most_bytes + 1))


def test_x_wing_is_taken_where_both_sides_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And X25519 where one of them has not."""
    made = seal_key(CONTENT_KEY, terms(), [offered(HYBRID).document, offered(CLASSIC).document], now=T)
    assert [one.kem for one in made.recipients] == ["x-wing", "x25519"]
    monkeypatch.setattr(sealing, "has_x_wing", lambda: False)
    made = seal_key(CONTENT_KEY, terms(), [offered(HYBRID).document], now=T)
    assert [one.kem for one in made.recipients] == ["x25519"]
    assert HYBRID.unwrap(made.recipients[0], terms()).secret() == CONTENT_KEY.secret()
    keys = RecipientKeys.generate(node=NODE.id, receipt=NODE, issued=T, expires=T + HOUR)
    assert keys.key_set.x_wing is None


@pytest.mark.parametrize(
    ("count", "changes", "now", "error"),
    [
        (0, {}, T, RecipientError),
        (17, {}, T, RecipientError),
        (2, {}, T, RecipientError),
        (1, {}, T + HOUR, SealExpiredError),
        (1, {}, T - 1, SealExpiredError),
        (1, {"expires": T + 48 * HOUR}, T, SealExpiredError),
    ],
    ids=["nobody", "too many", "twice", "terms over", "keys not yet", "terms beyond the keys"],
)
def test_nothing_is_sealed_against_the_rules(
    count: int, changes: dict[str, Any], now: int, error: type[BlindgateError]
) -> None:
    """The client hears of it while the data is still its own."""
    with pytest.raises(error):
        seal_key(CONTENT_KEY, terms(**changes), [offered(CLASSIC).document] * count, now=now)


@pytest.mark.parametrize(
    "changes",
    [{"x25519": bytes(32)}, {"x_wing": HYBRID.key_set.x25519}, {"x_wing": b"\xff" * 1184 + HYBRID.key_set.x25519}],
    ids=["low order", "too short", "no ML-KEM key"],
)
def test_nothing_is_sealed_to_a_key_that_is_none(changes: dict[str, bytes]) -> None:
    """Not even where somebody made the key set without reading it."""
    bad = CLASSIC.key_set.model_copy(update=changes)
    with pytest.raises(RecipientError, match="nothing can be sealed"):
        seal_key(CONTENT_KEY, terms(), [offered(CLASSIC).document.model_copy(update={"key_set": bad})], now=T)


def test_a_key_renamed_for_another_node_says_so() -> None:
    """Before a secret key is touched."""
    with pytest.raises(SealTermsError, match="sealed to key set"):
        HYBRID.unwrap(wrapped(terms()), terms())


@pytest.mark.parametrize("seeds", [{"x25519": bytes(31), "x_wing": None}, {"x25519": bytes(32), "x_wing": b""}])
def test_a_seed_of_another_length_makes_no_key(seeds: dict[str, Any]) -> None:
    """An empty one would make the same key for everybody."""
    with pytest.raises(MalformedError, match="32 bytes"):
        RecipientKeys(node=NODE.id, receipt=NODE, issued=T, expires=T + HOUR, **seeds)


def test_a_node_that_has_no_x_wing_says_so() -> None:
    """Rather than that something does not open."""
    by_x_wing = seal_key(CONTENT_KEY, terms(), [offered(HYBRID).document], now=T).recipients[0]
    renamed = by_x_wing.model_copy(update={"key_set": CLASSIC.key_set.digest})
    with pytest.raises(RecipientError, match="X-Wing"):
        CLASSIC.unwrap(renamed, terms())


def test_a_sealed_job_is_opened_answered_and_read() -> None:
    """The whole way: the client draws and seals, the node opens and answers, the client reads."""
    content_key = ContentKey.generate()
    seal = Seal.from_bytes(seal_key(content_key, terms(), [offered(HYBRID).document], now=T).to_bytes())
    asked = Sealer(content_key, seal.terms.request()).finish(b"What is wrong with me?")

    shown = {evidence(HYBRID.key_set).digest: binding(HYBRID.key_set)}
    opened = open_seal(seal, HYBRID, order=ORDER, shown=shown, now=T)
    opener = Opener(opened.content_key, opened.request)
    assert opener.feed(asked) == [b"What is wrong with me?"]
    opener.finish()
    sealer = Sealer(opened.content_key, opened.response)
    pieces = [sealer.seal(b"Nothing"), sealer.seal(b" much"), sealer.finish()]

    mine = seal.recipients[0]
    reader = Opener(content_key, seal.terms.response(key_set=mine.key_set, evidence=mine.evidence))
    assert [data for piece in pieces for data in reader.feed(piece)] == [b"Nothing", b" much", b""]
    reader.finish()


def test_a_node_opens_nothing_for_evidence_that_it_showed_for_another_policy() -> None:
    """A client's rules at the time of asking are those under which it is answered."""
    seal = Seal(terms=terms(), recipients=(wrapped(terms()),))
    good = binding(CLASSIC.key_set)
    for changes in ({"policy": MODEL}, {"model": POLICY}, {"key_set": HYBRID.key_set.digest}):
        shown = {evidence(CLASSIC.key_set).digest: good.model_copy(update=changes)}
        with pytest.raises(SealTermsError, match="did not show"):
            open_seal(seal, CLASSIC, order=ORDER, shown=shown, now=T)


def test_an_order_of_another_client_does_not_fit_the_seal() -> None:
    """The same words, signed anew, are another order."""
    other = CLIENT.sign(ORDER.document.model_copy(update={"issued": T + 1}))
    with pytest.raises(SealTermsError, match="another order"):
        open_seal(Seal(terms=terms(), recipients=(wrapped(terms()),)), CLASSIC, order=other, shown={}, now=T)


def test_no_secret_is_printed() -> None:
    """Whatever a log prints."""
    commitment = CONTENT_KEY.commitment("prompt", job=JOB, order=ORDER.digest)
    printed = repr((CONTENT_KEY, commitment, HYBRID))
    assert "c0c0" not in printed
    assert "\\xc0" not in printed
    assert commitment.key.hex() not in printed
    assert repr(commitment.key) not in printed


def test_two_streams_of_the_same_data_have_nothing_in_common() -> None:
    """A sealer draws its own nonce: who seals twice by mistake gives nothing away."""
    one, other = (Sealer(CONTENT_KEY, BARE).finish(bytes(64)) for _ in range(2))
    assert len(one) == len(other)
    assert sum(a == b for a, b in zip(one[36:], other[36:], strict=True)) < 10


def test_a_finished_stream_is_not_gone_on_with() -> None:
    """Neither a chunk nor a second end."""
    sealer = Sealer(CONTENT_KEY, BARE)
    sealer.finish()
    calls: list[Callable[[], bytes]] = [lambda: sealer.seal(b"x"), sealer.finish]
    for again in calls:
        with pytest.raises(SealError, match="begin another"):
            again()


def test_a_stream_that_was_refused_stays_refused() -> None:
    """Even when the right chunk comes after the wrong one."""
    sealer, opener = Sealer(CONTENT_KEY, BARE), Opener(CONTENT_KEY, BARE)
    first, second, last = sealer.seal(b"a"), sealer.seal(b"b"), sealer.finish()
    assert opener.feed(first) == [b"a"]
    with pytest.raises(ChunkError) as caught:
        opener.feed(last)
    assert caught.value.place == 1
    calls: list[Callable[[], object]] = [lambda: opener.feed(second), lambda: opener.feed(b""), opener.finish]
    for call in calls:
        with pytest.raises(ChunkError, match="chunk 1 does not open"):
            call()


def test_a_stream_without_its_end_is_never_the_whole() -> None:
    """Also where everything so far opened."""
    sealer, opener = Sealer(CONTENT_KEY, BARE), Opener(CONTENT_KEY, BARE)
    assert opener.feed(sealer.seal(b"Do not take it.")[:]) == [b"Do not take it."]
    assert not opener.done
    with pytest.raises(TruncatedError, match="not the whole"):
        opener.finish()
    with pytest.raises(TruncatedError):
        opener.feed(sealer.finish())


def test_a_stream_has_an_end_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On both sides."""
    opener, sealer = Opener(CONTENT_KEY, BARE), Sealer(CONTENT_KEY, BARE)
    stream = b"".join(sealer.seal(b"x") for _ in range(4))
    monkeypatch.setattr(chunks, "MOST_CHUNKS", 3)
    with pytest.raises(ChunkError, match="at most 3 chunks"):
        opener.feed(stream)
    sealer = Sealer(CONTENT_KEY, BARE)
    for _ in range(3):
        sealer.seal(b"x")
    with pytest.raises(SealError, match="at most 3 chunks"):
        sealer.seal(b"x")
    with pytest.raises(SealError):
        sealer.finish()


def test_a_stream_has_no_more_data_than_was_allowed() -> None:
    """Counted without padding."""
    stream = Sealer(CONTENT_KEY, BARE).finish(bytes(100))
    assert Opener(CONTENT_KEY, BARE, most_bytes=100).feed(stream) == [bytes(100)]
    with pytest.raises(ChunkError, match="more data than is allowed"):
        Opener(CONTENT_KEY, BARE, most_bytes=99).feed(stream)


def test_a_wrong_length_is_refused_before_anything_is_waited_for() -> None:
    """Otherwise four bytes would make a node hold two gigabytes."""
    for stream, length in ((BARE, 21 + (1 << 20)), (BARE, 19), (RequestStream(job=JOB, padding=BUCKETS), 20 + 17)):
        with pytest.raises(ChunkError, match="a length that no chunk"):
            Opener(CONTENT_KEY, stream).feed(bytes(32) + length.to_bytes(4, "big"))


def test_memory_stays_flat_however_long_the_stream() -> None:
    """64 MiB go through sealer and opener within 4 MiB."""
    sealer, opener, piece = Sealer(CONTENT_KEY, BARE), Opener(CONTENT_KEY, BARE), bytes(1 << 18)
    tracemalloc.start()
    try:
        got = sum(len(data) for _ in range(256) for data in opener.feed(sealer.seal(piece)))
        opener.feed(sealer.finish())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == 256 << 18
    assert peak < 4 << 20


def test_commitments_share_no_key() -> None:
    """Who was given one key opens one commitment: not the other side's, another job's, or another order's."""
    uses = [
        ("prompt", JOB, ORDER.digest),
        ("answer", JOB, ORDER.digest),
        ("prompt", "f" * 32, ORDER.digest),
        ("prompt", JOB, MODEL),
    ]
    made = [CONTENT_KEY.commitment(side, job=job, order=order) for side, job, order in uses]  # type: ignore[arg-type]
    assert len({one.key for one in made}) == len({one.value() for one in made}) == len(made)
    with pytest.raises(CommitmentError):
        made[0].check(made[1].value())


def test_keys_of_another_length_are_none() -> None:
    """HMAC would take a shorter one as the same with zeros."""
    for make in (ContentKey, Commitment):
        with pytest.raises(MalformedError, match="32 bytes"):
            make(bytes(31))


@pytest.mark.parametrize(
    "padding",
    [
        {"rule": "buckets"},
        {"rule": "none", "buckets": (16,)},
        {"rule": "buckets", "buckets": (16, 16)},
        {"rule": "buckets", "buckets": (64, 16)},
        {"rule": "buckets", "buckets": (0,)},
        {"rule": "buckets", "buckets": ((1 << 20) + 1,)},
        {"rule": "buckets", "buckets": tuple(range(1, 34))},
        {"rule": "random"},
    ],
)
def test_a_rule_of_padding_that_makes_no_sense_is_refused(padding: dict[str, Any]) -> None:
    """Where it is written, and not where the first prompt comes."""
    with pytest.raises(ValueError, match="validation error"):
        Padding(**padding)


def test_software_without_ml_kem_reads_key_sets_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no use for that half, and its reader must not think the node broken."""

    class Without:
        @staticmethod
        def from_public_bytes(_: bytes) -> None:
            raise UnsupportedAlgorithm("no ML-KEM")

    monkeypatch.setattr(evidence_module, "MLKEM768PublicKey", Without)
    assert type(HYBRID.key_set).from_bytes(HYBRID.key_set.to_bytes()) == HYBRID.key_set


def test_software_without_ml_kem_makes_key_sets_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says why where X-Wing is asked for by name."""

    class Without:
        @staticmethod
        def from_seed_bytes(_: bytes) -> None:
            raise UnsupportedAlgorithm("no ML-KEM")

    monkeypatch.setattr(sealing, "MLKEM768PrivateKey", Without)
    monkeypatch.setattr(sealing, "has_x_wing", sealing.has_x_wing.__wrapped__)  # as it is asked the first time
    assert RecipientKeys.generate(node=NODE.id, receipt=NODE, issued=T, expires=T + HOUR).key_set.x_wing is None
    with pytest.raises(RecipientError, match="OpenSSL"):
        RecipientKeys(node=NODE.id, receipt=NODE, x25519=bytes(32), x_wing=bytes(32), issued=T, expires=T + HOUR)

"""Seals, requests, answers and receipts with bits, ends and parts of others: nothing that was changed is opened or believed.

500 of each in `make test`, 10,000 of each in a campaign, from a seed; the node's and the client's own checks, in one process.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blindgate.opening import verify_receipt
from blindgate.sealed_job import SealedJob
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, MalformedError, ResultDigestError, SealError
from blindgate_protocol.receipts import check_result
from blindgate_protocol.signing import Envelope
from blindgate_protocol.values import SMALL_BYTES, BlobRef
from campaigns import of
from sealed_pair import Gateway, Pair, ended, lines, view

MUTATIONS = of(10_000, slice_of=500)


def mutated(good: bytes, other: bytes, draw: random.Random) -> Iterator[bytes]:
    """Changed forms of `good`, none of them `good`, some with parts of `other`."""
    while True:
        bad, at = bytearray(good), draw.randrange(len(good))
        end = min(len(good), at + draw.randrange(1, 40))
        match draw.randrange(7):
            case 0:
                bad[at] ^= 1 << draw.randrange(8)
            case 1:
                del bad[at:]
            case 2:
                del bad[at:end]
            case 3:
                bad[at:at] = draw.randbytes(draw.randrange(1, 20))
            case 4:
                bad[at:end] = other[at:end]
            case 5:
                bad[at:at] = bad[at:end]
            case _:
                bad = bad[:at] + bytearray(other[at:])
        if bytes(bad) != good:
            yield bytes(bad)


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A client and a node."""
    return Pair()


def refusals(good: bytes, other: bytes, seed: int, attempt: Callable[[bytes], object]) -> set[str]:
    """Try mutations of `good`; gives the codes of the refusals. What is not refused fails, and so does any other error."""
    draw, codes = random.Random(seed), set()
    for _, bad in zip(range(MUTATIONS), mutated(good, other, draw), strict=False):
        with pytest.raises(BlindgateError) as refused:
            attempt(bad)
        codes.add(refused.value.code)
    return codes


def test_no_mutated_seal_is_opened(pair: Pair) -> None:
    """By the node; the true one is, afterwards: nothing was used up."""
    sent, other = pair.send(), pair.send()

    def opened(seal: bytes) -> object:
        return pair.enclave.open(seal, sent.sealed, order=sent.order, most_bytes=1 << 20)

    codes = refusals(sent.seal, other.seal, 1, opened)
    assert {"malformed", "seal", "seal-terms"} <= codes <= {"malformed", "seal", "seal-terms", "seal-expired"}
    assert pair.enclave.open(sent.seal, sent.sealed, order=sent.order, most_bytes=1 << 20).request == sent.request


def test_no_mutated_request_is_answered() -> None:
    """Though its order named the very bytes: they do not open. Where they do not have the order's digest, no node looks at them."""
    pair = Pair(most=10 * MUTATIONS)
    other = pair.send().sealed
    codes, draw = set(), random.Random(2)
    for _ in range(MUTATIONS):
        sent = pair.send()
        bad = next(mutated(sent.sealed, other, draw))
        with pytest.raises(SealError) as refused:
            pair.enclave.open(sent.seal, bad, order=sent.order, most_bytes=1 << 20)
        codes.add(refused.value.code)
    assert codes == {"bad-chunk", "truncated-stream"}


def test_no_mutated_answer_is_read_as_one(pair: Pair, tmp_path: Path) -> None:
    """What was given out before is a true beginning, and the whole is not believed: here the node itself signed for the bytes."""
    sent, second = pair.send(), pair.send()
    answer, other = pair.answer(sent), pair.answer(second).result.data
    draw, codes = random.Random(3), set()
    for _, bad in zip(range(MUTATIONS), mutated(answer.result.data, other, draw), strict=False):
        named = BlobRef(digest=digest(bad), size=len(bad))
        signed = pair.receipt(sent, answer, output=named)
        cut = draw.randrange(1, min(len(bad), SMALL_BYTES) + 1) if bad else 0
        views = [view(sent, pair.node.id, 0, bad[:cut])] if cut else []
        job = pair.job(sent, Gateway(iter(views), ended(sent, answer, signed, result_data=bad)), tmp_path)
        given, code = _read(job)
        assert lines().startswith(given)
        codes.add(code)
    assert codes <= {"bad-chunk", "truncated-stream", "malformed"}
    assert {"bad-chunk", "truncated-stream"} <= codes


def _read(job: SealedJob) -> tuple[bytes, str]:
    given = b""
    try:
        for piece in job.pieces(5.0):
            given += piece
    except BlindgateError as error:
        return given, error.code
    pytest.fail("it was believed")


def test_no_mutated_result_is_taken_for_the_one_that_was_signed(pair: Pair) -> None:
    """Whatever it opens to."""
    sent, second = pair.send(), pair.send()
    answer, other = pair.answer(sent), pair.answer(second).result.data
    signed = pair.receipt(sent, answer)
    assert refusals(answer.result.data, other, 4, lambda bad: check_result(signed, bad)) == {ResultDigestError.code}


def test_no_mutated_receipt_is_believed(pair: Pair) -> None:
    """In its envelope as bytes, and in what it signs."""
    sent, second = pair.send(), pair.send()
    answer = pair.answer(sent)
    good = pair.receipt(sent, answer)
    other = pair.receipt(second, pair.answer(second))
    bundle = Bundle(pair.manifest, sent.order)

    def believed(envelope: Envelope) -> None:
        shown = ended(sent, answer, good, receipt=envelope)
        assert verify_receipt(shown, bundle, operators=(pair.operator.id,)) == good

    def from_bytes(data: bytes) -> None:
        envelope = Envelope.from_bytes(data)
        believed(envelope)
        if envelope == good.envelope:  # the same document, written otherwise
            raise MalformedError("as good")

    def from_payload(data: bytes) -> None:
        believed(good.envelope.model_copy(update={"payload": data.decode("latin-1")}))

    assert refusals(good.envelope.to_bytes(), other.envelope.to_bytes(), 5, from_bytes) <= {
        "malformed",
        "bad-envelope",
        "bad-signature",
        "receipt-order",
        "receipt-node",
        "receipt-model",
        "bad-receipt",
    }
    payloads = good.envelope.payload.encode(), other.envelope.payload.encode()
    assert refusals(*payloads, 6, from_payload) <= {"malformed", "bad-envelope", "bad-signature"}

"""What a node makes of a sealed job: opened once, answered inside the seal, sent along while it is written."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blindgate_node.backends.interface import Cancelled, Chunk, never
from blindgate_node.backends.requests import ChatRequest
from blindgate_node.plain_models import PlainModel
from blindgate_node.relay import Relay
from blindgate_node.sealed_jobs import SealedJobs
from blindgate_protocol.chunks import Opener
from blindgate_protocol.errors import (
    BackendError,
    ChunkError,
    GatewayUnreachableError,
    KeySetGoneError,
    LeaseLostError,
    MalformedError,
    PolicyError,
    RepeatedSealError,
    SealExpiredError,
    SealTermsError,
)
from blindgate_protocol.manifest import Limits
from blindgate_protocol.messages import AnswerPart
from blindgate_protocol.sealing import Seal, seal_info
from blindgate_protocol.values import SMALL_BYTES
from fixed_hpke import Hpke
from runs import wait_until
from sealed_pair import HOUR, Pair, Sent, chat, lines


def opened(pair: Pair, sent: Sent, sealed: bytes) -> bytes:
    """What the client reads."""
    (wrapped,) = Seal.from_bytes(sent.seal).recipients
    opener = Opener(sent.key, sent.terms.response(key_set=wrapped.key_set, evidence=wrapped.evidence))
    data = b"".join(opener.feed(sealed))
    opener.finish()
    return data


def committed(sent: Sent, side: Any, data: bytes) -> str:
    """The commitment that the client expects."""
    made = sent.key.commitment(side, job=sent.order.document.job, order=sent.order.digest)
    made.add(data)
    return made.value()


# The enclave


def test_a_request_opens_once() -> None:
    """Also where the first attempt came to nothing: its lease was lost midway."""
    pair = Pair()
    sent = pair.send()

    def lost() -> None:
        raise LeaseLostError("the lease is lost")

    with pytest.raises(LeaseLostError):
        pair.answer(sent, check=lost)
    with pytest.raises(RepeatedSealError, match="opened before"):
        pair.answer(sent)


def test_one_request_is_opened_once_by_threads_that_try_at_once() -> None:
    """Whatever the gateway hands out in one moment."""
    pair = Pair()
    sent = pair.send()
    start, outcomes = threading.Barrier(8), []

    def attempt() -> None:
        start.wait()
        try:
            pair.answer(sent)
            outcomes.append("answered")
        except RepeatedSealError:
            outcomes.append("repeated")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["answered"] + 7 * ["repeated"]


def test_a_full_memory_opens_nothing_until_something_in_it_has_expired() -> None:
    """To forget a request that could come again would be to allow it."""
    pair = Pair(most=2)
    first = pair.send(expires=pair.now() + 1000)
    pair.answer(first)
    pair.answer(pair.send())
    third = pair.send()
    with pytest.raises(RepeatedSealError, match="remembers 2 requests"):
        pair.answer(third)
    pair.shift = 1500
    assert opened(pair, third, pair.answer(third).result.data) == lines()
    with pytest.raises(SealExpiredError):
        pair.answer(first)


def test_a_tenant_cannot_fill_the_memory_beyond_the_keys_end() -> None:
    """The terms' end is the tenant's to write. Once no key opens a request, it takes up no place."""
    pair = Pair(most=1)
    sent = pair.send()
    (wrapped,) = Seal.from_bytes(sent.seal).recipients
    keys = pair.key_sets.of(wrapped.key_set)
    assert keys is not None
    ages = sent.terms.model_copy(update={"expires": pair.now() + 1000 * HOUR})
    info = seal_info(ages, key_set=wrapped.key_set, evidence=wrapped.evidence, kem="x25519")
    text = Hpke().seal(bytes([7]) * 32, keys.key_set.x25519, info, sent.key.secret())
    forged = Seal(terms=ages, recipients=(wrapped.model_copy(update={"kem": "x25519", "sealed": text}),))
    pair.enclave.open(forged.to_bytes(), sent.sealed, order=sent.order, most_bytes=1 << 20)
    with pytest.raises(RepeatedSealError, match="remembers 1"):
        pair.answer(pair.send())
    pair.shift = 3 * HOUR
    late = pair.send(expires=pair.now() + HOUR)
    assert opened(pair, late, pair.answer(late).result.data) == lines()


@pytest.mark.parametrize("changed", ["job", "order", "model"])
def test_a_seal_for_something_else_is_not_opened(changed: str) -> None:
    """By name."""
    pair = Pair()
    sent, other = pair.send(), pair.send()
    value = getattr(other.terms, changed) if changed != "model" else "sha256:" + "0" * 64
    seal = Seal.from_bytes(sent.seal)
    forged = Seal(terms=seal.terms.model_copy(update={changed: value}), recipients=seal.recipients)
    with pytest.raises(SealTermsError, match=changed):
        pair.jobs.answer(sent.order, forged.to_bytes(), sent.sealed, send=lambda _: None, check=lambda: None)


def test_a_node_that_was_started_again_opens_nothing_from_before() -> None:
    """Its keys are gone, and the error says why: for good, unless another node was sealed to."""
    before, after = Pair(), Pair()
    sent = before.send()
    document = sent.order.document
    shared = before.client.sign(document.model_copy(update={"nodes": (before.node.id, after.node.id)}))
    for order, alone in ((sent.order, True), (shared, False)):
        with pytest.raises(KeySetGoneError, match="with a restart") as gone:
            after.enclave.open(sent.seal, sent.sealed, order=order, most_bytes=1 << 20)
        assert gone.value.alone is alone


def test_a_request_to_a_key_set_that_has_ended_is_not_opened() -> None:
    """Whatever end its terms name: the keys are gone."""
    pair = Pair()
    sent = pair.send()
    pair.shift = 3 * HOUR
    with pytest.raises(KeySetGoneError, match="they end"):
        pair.answer(sent)


def test_a_request_larger_than_the_manifest_allows_is_not_answered() -> None:
    """Once it is open: padding hid its size."""
    pair = Pair(limits=Limits(rows_per_job=1, input_bytes=100, result_bytes=1 << 20, evaluation_key_bytes=0))
    with pytest.raises(ChunkError, match="more data than is allowed"):
        pair.answer(pair.send(chat("x" * 200)))


# The answer


def test_an_answer_goes_along_as_it_is_written_and_the_receipt_says_what_it_was() -> None:
    """The parts are the result's beginning; prompt and answer are committed to, under keys that only the client has."""
    pair = Pair()
    sent, parts, over = pair.send(), bytearray(), threading.Event()

    def send(part: AnswerPart) -> None:
        assert part.begin == len(parts)
        parts.extend(part.data)
        over.set()

    answer = pair.answer(sent, send=send)
    assert opened(pair, sent, answer.result.data) == lines()
    wait_until(lambda: bytes(parts) == answer.result.data, seconds=30)
    said = answer.commitments
    assert (said.prompt, said.answer) == (
        committed(sent, "prompt", sent.request),
        committed(sent, "answer", lines()),
    )
    assert said.evidence == Seal.from_bytes(sent.seal).recipients[0].evidence


def test_who_asked_for_no_stream_gets_one_chunk_and_no_parts() -> None:
    """So neither the number of chunks nor their times tell anything."""
    pair = Pair()
    sent, parts = pair.send(chat(stream=False)), list[AnswerPart]()
    answer = pair.answer(sent, send=parts.append)
    opener = Opener(sent.key, sent.terms.response(**_recipient(sent)))
    assert [data for data in opener.feed(answer.result.data) if data] == [lines()]
    assert parts == []


def _recipient(sent: Sent) -> dict[str, str]:
    (wrapped,) = Seal.from_bytes(sent.seal).recipients
    return {"key_set": wrapped.key_set, "evidence": wrapped.evidence}


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"no JSON", id="no JSON"),
        pytest.param(b"\xff" * 10, id="no text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(chat(tools=[]), id="a field that is not taken"),
        pytest.param(chat("nonsense"), id="what the model refuses"),
    ],
)
def test_what_the_client_got_wrong_is_its_own_business(request_bytes: bytes) -> None:
    """The answer says it, sealed, and the job has succeeded; no part of the request is in it."""
    pair = Pair()
    sent = pair.send(request_bytes)
    said = opened(pair, sent, pair.answer(sent).result.data)
    assert said.startswith(b'{"error":{"code":"bad-input"')


def test_a_model_that_is_not_here_and_a_seal_that_did_not_come_are_said() -> None:
    """Before anything is opened."""
    pair = Pair()
    sent = pair.send()
    with pytest.raises(PolicyError, match="not loaded"):
        SealedJobs(pair.enclave, {}).answer(sent.order, sent.seal, sent.sealed, send=lambda _: None, check=lambda: None)
    with pytest.raises(SealTermsError, match="no seal"):
        pair.jobs.answer(sent.order, None, sent.sealed, send=lambda _: None, check=lambda: None)
    with pytest.raises(MalformedError):
        pair.jobs.answer(sent.order, b"{}", sent.sealed, send=lambda _: None, check=lambda: None)
    assert opened(pair, sent, pair.answer(sent).result.data) == lines()


def test_an_answer_ends_where_the_manifest_says() -> None:
    """Or where its time is over: between two tokens."""
    pair = Pair(limits=Limits(rows_per_job=1, input_bytes=1 << 20, result_bytes=300, evaluation_key_bytes=0))
    with pytest.raises(BackendError, match="300 bytes"):
        pair.answer(pair.send())
    pair, asked = Pair(), iter(range(10))

    def late() -> None:
        if next(asked) > 1:
            raise BackendError("the answer was not written in 2 s")

    with pytest.raises(BackendError, match="not written"):
        pair.answer(pair.send(), check=late)
    assert next(asked) == 3


def test_a_runtime_that_fails_says_nothing_of_the_prompt() -> None:
    """What it raised is not in what the node tells the gateway."""

    class Failing:
        def chat(self, request: ChatRequest, cancelled: Cancelled = never) -> Iterator[Chunk]:  # noqa: ARG002
            raise BackendError("the runtime failed")

    pair = Pair()
    jobs = SealedJobs(pair.enclave, {pair.manifest.digest: PlainModel(pair.manifest, Failing())})
    sent = pair.send(chat("planted-prompt"))
    with pytest.raises(BackendError) as failed:
        jobs.answer(sent.order, sent.seal, sent.sealed, send=lambda _: None, check=lambda: None)
    assert "planted" not in repr(failed.value)


# The relay


def test_what_is_written_while_a_request_is_out_goes_with_the_next() -> None:
    """In order, without a gap, and no part larger than a message holds."""
    sent, out, goes = list[AnswerPart](), threading.Event(), threading.Event()

    def send(part: AnswerPart) -> None:
        sent.append(part)
        out.set()
        assert goes.wait(30)

    relay = Relay(send)
    relay.add(b"first")
    assert out.wait(30)
    pieces = [b"a" * SMALL_BYTES, b"b" * 10, b"c"]
    for piece in pieces:
        relay.add(piece)
    relay.finish()
    goes.set()
    whole = b"first" + b"".join(pieces)
    wait_until(lambda: sum(len(part.data) for part in sent) == len(whole), seconds=30)
    assert b"".join(part.data for part in sent) == whole
    assert [part.begin for part in sent] == [0, 5, 5 + SMALL_BYTES]
    relay.add(b"too late")
    assert relay._thread is not None
    relay._thread.join(30)
    assert len(sent) == 3


@pytest.mark.parametrize("error", [GatewayUnreachableError("no answer"), RuntimeError("the client is closed")])
def test_a_gateway_that_takes_no_parts_costs_nothing_else(error: Exception) -> None:
    """Nothing is kept for it, and the answer is whole."""
    pair = Pair()
    sent, tried = pair.send(), list[AnswerPart]()

    def refuse(part: AnswerPart) -> None:
        tried.append(part)
        raise error

    assert opened(pair, sent, pair.answer(sent, send=refuse).result.data) == lines()
    relay = Relay(refuse)
    relay.add(b"x")
    assert relay._thread is not None
    relay._thread.join(30)
    relay.add(b"y" * 1000)
    assert not relay._pending

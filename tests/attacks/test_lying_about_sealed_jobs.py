"""A gateway that lies about sealed jobs: a prompt goes to nobody but the nodes that were believed, and no answer but theirs is.

Client, gateway, nodes and policy are real, and the model says the same each time. Lies are told by proxies, between the client
and the gateway and between the nodes and the gateway. The platform is simulated, and this client's policy takes that knowingly:
so each lie is all that stands between the gateway and what it wants.

A stream that is lied to raises, and is never acknowledged; what it gave before is a true beginning. Lies that do no more than deny
the service say so.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from between import Answer
from blindgate.shapes import completion_of
from blindgate_protocol.attestations import AttestationView
from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import Sealer
from blindgate_protocol.errors import (
    BlindgateError,
    ChunkError,
    CommitmentError,
    GatewayError,
    InterruptedAnswerError,
    JobCancelledError,
    JobDeadError,
    JobError,
    JobFailedError,
    JobTimeoutError,
    MalformedError,
    NoNodeError,
    NotLoggedError,
    ReceiptModelError,
    ReceiptNodeError,
    ReceiptOrderError,
    ResultDigestError,
    SignatureError,
    UntrustedEvidenceError,
)
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import AnswerView, JobView, Lease
from blindgate_protocol.padding import Padding
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import BlobRef
from brokerage import now_ms
from sealed_lies import (
    ended_keys,
    flipped,
    flipped_key,
    keys_gone,
    old_answer,
    other_commitment,
    other_request,
    other_terms,
    others_evidence,
    own_answer,
    own_keys,
    resealed,
    signed_anew,
    swapped_payload,
)
from sealed_stand import ASKED, TEXT, Ground, Stand, cut, read, sealed_ground, sealed_stand, until_late, whole


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A gateway and two nodes."""
    with sealed_ground(tmp_path_factory.mktemp("lied")) as made:
        yield made


@pytest.fixture
def stand(ground: Ground, tmp_path: Path) -> Iterator[Stand]:
    """A client that seals to one of them."""
    with sealed_stand(ground, tmp_path, log_within=1.5) as made:
        yield made


def test_without_a_lie_the_answer_is_believed(stand: Stand) -> None:
    """Or nothing below would say anything."""
    stream = stand.stream()
    assert read(stream) == (TEXT, None)
    assert stand.acknowledged()
    assert len(cut(stand.result(stream.job.id)[1])[1]) > 5


# Before a byte of the prompt leaves


@pytest.mark.parametrize("lie", [own_keys, old_answer, others_evidence, ended_keys])
def test_nothing_is_sealed_to_a_node_that_is_lied_about(stand: Stand, lie: Any) -> None:
    """Nothing but the question leaves: no order, no upload."""
    node, views = stand.key("enclave").id, dict[str | None, AttestationView]()

    def told(view: AttestationView) -> AttestationView:
        views[view.node] = view
        return view

    stand.lie_about_evidence(told)
    assert stand.client.recipients("tiny-chat", node=node, seconds=8.0).admitted
    stand.lie_about_evidence(lambda view: lie(stand, views[node], view) if view.node == node else view)
    with pytest.raises(UntrustedEvidenceError, match="nothing was sealed or sent"):
        stand.stream()
    assert stand.posted() == {"attestations"}


# On the way to the node


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        pytest.param(other_terms(policy=digest(b"another")), "seal-terms", id="another policy in the terms"),
        pytest.param(other_terms(expires=now_ms() + 86_400_000), "seal", id="a later end in the terms"),
        pytest.param(other_terms(padding=Padding(rule="none", buckets=())), "seal", id="no padding in the terms"),
        pytest.param(other_terms(job="0" * 32), "seal-terms", id="another job in the terms"),
        pytest.param(flipped_key, "seal", id="a bit of the wrapped key"),
        pytest.param(lambda lease, other: resealed(lease, other.seal), "seal-terms", id="another job's seal"),
        pytest.param(lambda lease, _: resealed(lease, None), "seal-terms", id="no seal"),
        pytest.param(lambda lease, _: resealed(lease, (lease.seal or b"")[:-9]), "malformed", id="a seal cut short"),
        pytest.param(other_request(lambda mine, _: flipped(mine)), "bad-ciphertext", id="a bit of the request"),
        pytest.param(other_request(lambda mine, _: mine[:-1]), "bad-ciphertext", id="the request cut short"),
        pytest.param(other_request(lambda _, other: other), "bad-ciphertext", id="another job's request"),
        pytest.param(
            lambda lease, other: lease.model_copy(update={"order": other.order}), "policy", id="another job's order"
        ),
        pytest.param(
            lambda lease, other: lease.model_copy(
                update={"order": other.order, "seal": other.seal, "input_data": other.input_data}
            ),
            "policy",
            id="another job whole, under this lease",
        ),
    ],
)
def test_a_node_answers_nothing_that_was_changed_on_its_way(stand: Stand, lie: Any, code: str) -> None:
    """It opens nothing; the client is told that there is no answer, and why. That is denial, and all that there is to win."""
    stand.lie_to_the_node(lambda lease: lease)
    assert whole(stand.client) == TEXT
    (other,) = stand.leases
    stand.lie_to_the_node(lambda lease: lie(lease, other))
    with pytest.raises((JobFailedError, JobDeadError)) as refused:
        whole(stand.client)
    said = stand.ended("enclave", stand.leases[-1].job)
    assert said["code"] == code
    assert said["reason"][:60] in str(refused.value)


def test_a_request_is_answered_once(stand: Stand) -> None:
    """A lease of it that the gateway makes up opens nothing: there is no second answer to compare with the first."""
    stand.lie_to_the_node(lambda lease: lease)
    assert whole(stand.client) == TEXT
    (lease,) = stand.leases
    stand.hand_out(lease.model_copy(update={"generation": 2, "token": "0" * 32}), "enclave")
    assert stand.ended("enclave", lease.job, 2)["code"] == "seal-repeated"


def test_a_request_whose_lease_was_lost_midway_is_not_answered_again_by_that_node(stand: Stand) -> None:
    """The node was told that the lease is lost while it sent the answer; the client, that its job goes on."""

    def lost(method: str, path: str, answer: Answer) -> Answer:
        if (method, path) == ("POST", "/v1/leases") and answer.status == 200:
            stand.leases.append(Lease.model_validate_json(answer.body))
        if path.endswith("/commit"):
            body = b'{"type": "about:blank", "title": "", "status": 409, "detail": "", "code": "lease-lost", "request": ""}'
            return Answer(409, body)
        return answer

    stand.ground.nodes["enclave"].lie = lost
    stand.stream().close()
    assert stand.ended("enclave", stand.leases[0].job)["outcome"] == "lost"
    (lease,) = stand.leases
    stand.hand_out(lease.model_copy(update={"generation": 2, "token": "0" * 32}), "enclave")
    assert stand.ended("enclave", lease.job, 2)["code"] == "seal-repeated"


def test_a_node_that_was_not_sealed_to_does_nothing(stand: Stand) -> None:
    """The order names the nodes; and it could not open the request if it tried."""
    stand.lie_to_the_node(lambda lease: lease)
    assert whole(stand.client) == TEXT
    (lease,) = stand.leases
    stand.hand_out(lease, "other")
    said = stand.ended("other", lease.job)
    assert (said["code"], "not sealed to this node" in said["reason"]) == ("policy", True)


def test_a_request_that_was_held_back_until_its_deadline_is_not_answered(ground: Ground, tmp_path: Path) -> None:
    """Denial: the client has no answer, and says that it came to its deadline."""
    with sealed_stand(ground, tmp_path, deadline=2.0) as stand:
        stand.lie_to_the_node(until_late(3.0))
        with pytest.raises((JobTimeoutError, JobFailedError), match=r"deadline|in 2\.0 s|after 2\.0 s|after 1\.\d s"):
            whole(stand.client)
        assert stand.ended("enclave", stand.leases[0].job)["code"] == "job-timeout"


# On the way back


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda nonce, chunks: flipped(nonce) + b"".join(chunks), id="another nonce"),
        pytest.param(lambda nonce, chunks: nonce + chunks[0] + flipped(chunks[1]) + b"".join(chunks[2:]), id="a bit"),
        pytest.param(lambda nonce, chunks: nonce + chunks[0] + b"".join(chunks[2:]), id="one left out"),
        pytest.param(lambda nonce, chunks: nonce + b"".join(chunks[1:]), id="the first left out"),
        pytest.param(lambda nonce, chunks: nonce + chunks[0] + chunks[-1], id="all but the ends left out"),
        pytest.param(lambda nonce, chunks: nonce + b"".join([chunks[0], chunks[2], chunks[1]]), id="two exchanged"),
        pytest.param(lambda nonce, chunks: nonce + chunks[0] + chunks[0], id="one doubled"),
        pytest.param(lambda nonce, chunks: nonce + b"".join(chunks) + chunks[-1], id="more behind the end"),
        pytest.param(lambda nonce, chunks: nonce + b"".join(chunks) + nonce + b"".join(chunks), id="all of it twice"),
        pytest.param(own_answer, id="an answer of the gateway's own"),
    ],
)
def test_a_stream_that_was_changed_raises_behind_a_true_beginning(stand: Stand, lie: Any) -> None:
    """And is never acknowledged."""
    stand.lie_about_parts(lie)
    text, error = read(stand.stream())
    assert isinstance(error, ChunkError)
    assert TEXT.startswith(text)
    assert not stand.acknowledged()


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda _nonce, _chunks: b"", id="nothing"),
        pytest.param(lambda nonce, chunks: nonce + b"".join(chunks)[:700], id="half of it"),
        pytest.param(lambda nonce, chunks: nonce + b"".join(chunks)[:-1], id="all but a byte"),
    ],
)
def test_parts_that_are_kept_back_cost_the_reading_along(stand: Stand, lie: Any) -> None:
    """And nothing else: the rest stands in the result."""
    stand.lie_about_parts(lie)
    assert read(stand.stream()) == (TEXT, None)


def test_a_result_that_was_cut_off_is_no_answer(stand: Stand) -> None:
    """With parts that stop at the same place."""
    stand.lie_about_parts(lambda nonce, chunks: nonce + b"".join(chunks[:4]))
    parts = stand.proxy.lie

    def told(method: str, path: str, answer: Answer) -> Answer:
        if method == "GET" and "inline=" in path and answer.status == 200:
            view = JobView.model_validate_json(answer.body)
            nonce, chunks = cut(view.result_data or b"")
            return Answer(
                200, view.model_copy(update={"result_data": nonce + b"".join(chunks[:4])}).model_dump_json().encode()
            )
        return parts(method, path, answer)

    stand.proxy.lie = told
    text, error = read(stand.stream())
    assert isinstance(error, ResultDigestError)
    assert 0 < len(text) < len(TEXT)
    assert TEXT.startswith(text)
    assert not stand.acknowledged()


def test_parts_under_another_nodes_name_do_not_open(ground: Ground, tmp_path: Path) -> None:
    """A name that the request was not sealed to is refused; the other recipient's has other keys."""
    with sealed_stand(ground, tmp_path / "one") as stand:
        one, other = (stand.key(name).id for name in ("enclave", "other"))
        stand.lie_about_parts(lambda nonce, chunks: nonce + b"".join(chunks), named={one: other})
        assert isinstance(read(stand.stream())[1], ReceiptNodeError)
        assert not stand.acknowledged()
    with sealed_stand(ground, tmp_path / "two", "enclave", "other", recipients=2) as stand:
        stand.lie_about_parts(lambda nonce, chunks: nonce + b"".join(chunks), named={one: other, other: one})
        text, error = read(stand.stream())
        assert (text, type(error)) == ("", ChunkError)
        assert not stand.acknowledged()


def test_parts_from_another_place_are_not_read(stand: Stand) -> None:
    """The place is the client's to say."""

    def moved(_path: str, body: bytes) -> bytes:
        view = AnswerView.model_validate_json(body)
        sealed = stand.result(view.job)[1]
        changes = {"state": JobState.LEASED, "generation": 1, "begin": view.begin + 7, "data": sealed[:100]}
        return view.model_copy(update=changes).model_dump_json().encode()

    stand.lie_to_the_client("jobs/*/answer", moved)
    text, error = read(stand.stream())
    assert (text, type(error)) == ("", MalformedError)
    assert not stand.acknowledged()


def test_an_answer_is_not_put_together_from_two_leases(stand: Stand) -> None:
    """Neither from the parts of two, nor by going back to an earlier one."""
    for generations, refusal in (((1, 2), InterruptedAnswerError), ((2, 1), MalformedError)):

        def changed(path: str, body: bytes, generations: tuple[int, int] = generations) -> bytes:
            view = AnswerView.model_validate_json(body)
            sealed = stand.result(view.job)[1]
            begin = int(path.partition("begin=")[2].partition("&")[0])
            given = {
                "state": JobState.LEASED,
                "generation": generations[begin > 0],
                "begin": begin,
                "data": sealed[begin : begin + 700],
                "node": stand.key("enclave").id,
            }
            return view.model_copy(update=given).model_dump_json().encode()

        stand.lie_to_the_client("jobs/*/answer", changed)
        text, error = read(stand.stream())
        assert isinstance(error, refusal)
        assert TEXT.startswith(text)
    assert not stand.acknowledged()


def test_a_result_that_does_not_begin_as_what_was_read_is_no_answer(stand: Stand) -> None:
    """Though the node signs it: the same answer, sealed anew under a second lease."""
    stream = stand.stream()
    sent = stream.job._sent
    stand.lie_about_parts(lambda nonce, chunks: nonce + b"".join(chunks[:4]))
    parts = stand.proxy.lie
    (node,) = sent.nodes
    assert node.recipient is not None
    offer = node.recipient.document

    def told(method: str, path: str, answer: Answer) -> Answer:
        if method != "GET" or "inline=" not in path or answer.status != 200:
            return parts(method, path, answer)
        view = JobView.model_validate_json(answer.body)
        again = Sealer(sent.key, sent.terms.response(key_set=offer.key_set.digest, evidence=offer.evidence)).finish(
            b"{}\n"
        )
        changes = {"generation": 2, "output": BlobRef(digest=digest(again), size=len(again))}
        view = signed_anew(stand, view, None, **changes).model_copy(update={"result_data": again})
        return Answer(200, view.model_dump_json().encode())

    stand.proxy.lie = told
    text, error = read(stream)
    assert isinstance(error, ResultDigestError)
    assert text
    assert not stand.acknowledged()


# What the gateway, or a node, says of the whole


@pytest.mark.parametrize(
    ("lie", "refusal"),
    [
        pytest.param(lambda _, view, __: view.model_copy(update={"receipt": None}), ReceiptOrderError, id="no receipt"),
        pytest.param(
            lambda _, view, other: view.model_copy(update={"receipt": other.receipt, "result_data": other.result_data}),
            ReceiptOrderError,
            id="another job's receipt and result",
        ),
        pytest.param(
            lambda _, view, other: view.model_copy(update={"result_data": other.result_data}),
            ResultDigestError,
            id="another job's result",
        ),
        pytest.param(
            lambda _, view, __: view.model_copy(update={"result_data": flipped(view.result_data or b"")}),
            ResultDigestError,
            id="a bit of the result",
        ),
        pytest.param(swapped_payload, SignatureError, id="another receipt under this one's signature"),
        pytest.param(
            lambda stand, view, _: signed_anew(stand, view, stand.key("other")),
            ReceiptNodeError,
            id="signed by another node that is enrolled",
        ),
        pytest.param(
            lambda stand, view, _: signed_anew(stand, view, stand.key("other"), node=stand.key("other").id),
            ReceiptNodeError,
            id="in the name of another node that is enrolled",
        ),
        pytest.param(
            lambda stand, view, _: signed_anew(stand, view, SigningKey.generate()),
            ReceiptNodeError,
            id="signed by the gateway",
        ),
        pytest.param(
            lambda stand, view, _: signed_anew(stand, view, evidence=digest(b"other evidence")),
            ReceiptNodeError,
            id="the node, for other evidence",
        ),
        pytest.param(
            lambda stand, view, _: signed_anew(stand, view, input=BlobRef(digest=digest(b"x"), size=1)),
            ReceiptModelError,
            id="the node, for another request",
        ),
        pytest.param(other_commitment("prompt"), CommitmentError, id="the node, for another prompt"),
        pytest.param(other_commitment("answer"), CommitmentError, id="the node, for another answer"),
    ],
)
def test_an_answer_is_not_believed_without_its_own_nodes_word_for_it(
    stand: Stand, lie: Callable[[Stand, JobView, JobView], JobView], refusal: type[BlindgateError]
) -> None:
    """Nothing is returned, acknowledged or kept as an answer; what was read along is a true beginning."""
    first = stand.stream()
    assert read(first) == (TEXT, None)
    before = sum(said.path.endswith("/acknowledge") for said in stand.proxy.heard)
    other = stand.result(first.job.id)[0]
    stand.lie_about_the_end(lambda view: lie(stand, view, other))
    with pytest.raises(refusal):
        whole(stand.client)
    stream = stand.stream()
    text, error = read(stream)
    assert isinstance(error, refusal)
    assert TEXT.startswith(text)
    assert sum(said.path.endswith("/acknowledge") for said in stand.proxy.heard) == before
    assert stand.client.bundles.load(stream.job.id).receipt is None


# What the gateway, or a node, says of keys that are gone


def test_keys_that_are_called_gone_are_worth_one_more_order(stand: Stand) -> None:
    """To nodes that proved themselves anew, and to no others. Whoever says so again hears nothing more."""
    stand.lie_about_the_end(keys_gone)
    with pytest.raises(JobFailedError, match="no request is sealed anew more than once"):
        whole(stand.client)
    posted = [said.path for said in stand.proxy.heard if said.method == "POST"]
    assert (posted.count("/v1/jobs"), posted.count("/v1/attestations")) == (2, 2)
    assert not stand.acknowledged()


def test_keys_that_are_called_gone_behind_a_beginning_are_an_interruption(stand: Stand) -> None:
    """Two answers are never put together."""
    stand.lie_about_parts(lambda nonce, chunks: nonce + b"".join(chunks[:4]))
    parts = stand.proxy.lie

    def told(method: str, path: str, answer: Answer) -> Answer:
        if method == "GET" and "inline=" in path and answer.status == 200:
            return Answer(200, keys_gone(JobView.model_validate_json(answer.body)).model_dump_json().encode())
        return parts(method, path, answer)

    stand.proxy.lie = told
    text, error = read(stand.stream())
    assert isinstance(error, InterruptedAnswerError)
    assert "asking again is safe" in str(error)
    assert text
    assert TEXT.startswith(text)
    assert stand.orders() == 1


def test_a_node_that_is_believed_no_more_is_sealed_to_no_more(stand: Stand) -> None:
    """Whatever it was believed before; the error says which job it was, and what the node lacks."""
    stand.lie_about_the_end(keys_gone)
    ended = stand.proxy.lie

    def told(method: str, path: str, answer: Answer) -> Answer:
        if stand.orders() and method == "GET" and path.startswith("/v1/attestations/") and answer.status == 200:
            view = AttestationView.model_validate_json(answer.body)
            if view.node == stand.key("enclave").id:
                return Answer(200, ended_keys(stand, view, view).model_dump_json().encode())
            return answer
        return ended(method, path, answer)

    stand.proxy.lie = told
    with pytest.raises(
        UntrustedEvidenceError, match=r"as after a restart of its node\. It was not sealed anew: .*seal-expired"
    ):
        whole(stand.client)
    assert stand.orders() == 1


def test_time_is_one_for_both_orders(stand: Stand) -> None:
    """Also where no node answers the second question, which is waited for a quarter of a minute otherwise."""
    stand.lie_about_the_end(keys_gone)
    ended, began = stand.proxy.lie, time.monotonic()

    def told(method: str, path: str, answer: Answer) -> Answer:
        if stand.orders() and method == "GET" and path.startswith("/v1/attestations/") and answer.status == 200:
            view = AttestationView.model_validate_json(answer.body)
            silent = view.model_copy(update={"node": None, "answer": None, "refusal": None, "ended": 0})
            return Answer(200, silent.model_dump_json().encode())
        return ended(method, path, answer)

    stand.proxy.lie = told
    with pytest.raises(NoNodeError, match="It was not sealed anew: nothing was sealed or sent"):
        whole(stand.client, timeout=3.0)
    assert time.monotonic() - began < 10.0
    assert stand.orders() == 1


@pytest.mark.parametrize(("when", "orders"), [("/v1/attestations", 1), ("/v1/jobs", 2)])
def test_who_leaves_while_a_request_is_sealed_anew_has_left(stand: Stand, when: str, orders: int) -> None:
    """Before the second order there is none; behind it, that one is cancelled."""
    stand.lie_about_the_end(keys_gone)
    ended, stream = stand.proxy.lie, stand.client.chat.completions.begin({"model": "tiny-chat", **ASKED})

    def told(method: str, path: str, answer: Answer) -> Answer:
        if (method, path) == ("POST", when):
            with suppress(GatewayError):  # it had succeeded, in truth
                stream.job.cancel()
        return ended(method, path, answer)

    stand.proxy.lie = told
    first = stream.job.id
    with pytest.raises(JobCancelledError, match="was cancelled"):
        completion_of(stream)
    assert stand.orders() == orders
    assert (stream.job.id == first) == (orders == 1)
    assert stand.proxy.heard[-1].path == f"/v1/jobs/{stream.job.id}/cancel"


def test_an_answer_that_the_log_does_not_show_is_not_believed(stand: Stand) -> None:
    """Denial, until the policy's time is over: then it is an error that says so."""
    missing = b'{"type": "about:blank", "title": "", "status": 404, "detail": "no", "code": "not-found", "request": ""}'

    def told(method: str, path: str, answer: Answer) -> Answer:
        return Answer(404, missing) if method == "GET" and path.partition("?")[0].endswith("/proof") else answer

    stand.proxy.lie = told
    text, error = read(stand.stream())
    assert isinstance(error, NotLoggedError)
    assert text == TEXT
    assert not stand.acknowledged()


def test_a_gateway_that_calls_a_job_ended_and_then_not_is_caught(stand: Stand) -> None:
    """Whichever it is, there is no answer; denial, and the error says which job."""
    stand.lie_about_the_end(lambda view: view.model_copy(update={"state": JobState.LEASED}))
    with pytest.raises(MalformedError, match="now calls it leased"):
        whole(stand.client)
    stand.lie_about_the_end(lambda view: view.model_copy(update={"state": JobState.DEAD, "receipt": None}))
    with pytest.raises(JobError, match="attempts were lost"):
        whole(stand.client)
    assert not stand.acknowledged()


def test_a_gateway_that_lets_an_answer_drip_is_left_in_time(stand: Stand) -> None:
    """Denial: byte by byte, or under one lease after the other, it holds a reader for no longer than the reader said."""
    drops = iter(range(1, 1 << 20))

    def drip(path: str, body: bytes) -> bytes:
        view = AnswerView.model_validate_json(body)
        sealed, begin = stand.result(view.job)[1], int(path.partition("begin=")[2].partition("&")[0])
        given = {"state": JobState.LEASED, "generation": 1, "begin": begin, "node": stand.key("enclave").id}
        return view.model_copy(update=given | {"data": sealed[begin : begin + 1]}).model_dump_json().encode()

    def hop(_path: str, body: bytes) -> bytes:
        view = AnswerView.model_validate_json(body)
        given = {"state": JobState.LEASED, "generation": next(drops), "begin": 3, "node": None, "data": b"x"}
        return view.model_copy(update=given).model_dump_json().encode()

    for lie in (drip, hop):
        stand.lie_to_the_client("jobs/*/answer", lie)
        with pytest.raises(JobTimeoutError, match=r"1\.0 s"):
            whole(stand.client, timeout=1.0)
    assert not stand.acknowledged()

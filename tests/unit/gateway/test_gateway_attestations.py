"""Questions for evidence: carried to nodes and back, for a minute, and looked into by nobody on the way."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import func, select, update

from blindgate_gateway import sweep
from blindgate_gateway.app import create_app
from blindgate_gateway.tables import attestation_answers, attestations, events
from blindgate_protocol.attestations import (
    MOST_TAKERS,
    AttestationAnswer,
    AttestationPoll,
    AttestationRequest,
    AttestationView,
    AttestationWork,
)
from blindgate_protocol.events import Action, Event
from blindgate_protocol.messages import Refusal
from blindgate_protocol.nodes import EnrolmentRequest
from blindgate_protocol.signing import SigningKey, open_signed
from brokerage import Tenant, Worker, now_ms
from desk import Desk, connection_to, open_desk

POLICY = "sha256:" + "7" * 64


def _ask(desk: Desk, tenant: Tenant | None = None, **changes: Any) -> httpx2.Response:
    given: dict[str, Any] = {"model": desk.manifest.digest, "policy": POLICY, "nonce": os.urandom(32)}
    return (tenant or desk.tenant).send("POST", "/v1/attestations", AttestationRequest(**(given | changes)))


def _asked(desk: Desk, tenant: Tenant | None = None, **changes: Any) -> str:
    answer = _ask(desk, tenant, **changes)
    assert answer.status_code == 201, answer.text
    return AttestationView.model_validate_json(answer.content).attestation


def _pull(worker: Worker, *, wait: int = 0) -> AttestationWork | None:
    answer = worker.ask("POST", "/v1/questions", AttestationPoll(wait=wait))
    return None if answer.status_code == 204 else AttestationWork.model_validate_json(answer.content)


def _signed(key: SigningKey) -> AttestationAnswer:
    """No recipient and no evidence: the gateway cannot know."""
    document = EnrolmentRequest(node=key.id, gateway="x", challenge="x", issued=now_ms())
    return AttestationAnswer(recipient=key.sign(document).envelope, evidence=os.urandom(3000))


def _give(worker: Worker, question: str, body: AttestationAnswer | None = None) -> httpx2.Response:
    return worker.send("POST", f"/v1/questions/{question}/answer", body or _signed(worker.key))


def _view(desk: Desk, question: str, after: int = 0, wait: int = 0, tenant: Tenant | None = None) -> AttestationView:
    answer = (tenant or desk.tenant).ask("GET", f"/v1/attestations/{question}?after={after}&wait={wait}")
    return AttestationView.model_validate_json(answer.content)


def _let_pass(desk: Desk, *, by: int = 60_001) -> None:
    with desk.parts.database.write() as connection:
        connection.execute(
            update(attestations).values(asked=attestations.c.asked - by, until=attestations.c.until - by)
        )


def _rows(desk: Desk) -> tuple[int, int]:
    with desk.parts.database.read() as connection:
        tables = (attestations, attestation_answers)
        one, two = (connection.execute(select(func.count()).select_from(table)).scalar() for table in tables)
        return one, two


def test_a_question_reaches_each_node_once_and_its_answers_come_as_they_are(desk: Desk) -> None:
    """Byte by byte, in the order in which they came, and one at a time."""
    other = Worker(desk.http, desk.brokerage, name="node-2")
    nonce = os.urandom(32)
    question = _asked(desk, nonce=nonce)
    for worker in (desk.worker, other):
        work = _pull(worker)
        assert work is not None
        assert (work.attestation, work.nonce, work.model) == (question, nonce, desk.manifest.digest)
        assert (work.policy, work.manifest) == (POLICY, desk.manifest.envelope)
        assert _pull(worker) is None
    assert (_view(desk, question).taken, _view(desk, question).ended) == (2, 0)
    answers = {worker.key.id: _signed(worker.key) for worker in (other, desk.worker)}
    for worker in (other, desk.worker):
        assert _give(worker, question, answers[worker.key.id]).status_code == 204
    first, second = _view(desk, question), _view(desk, question, after=1)
    assert (first.node, second.node) == (other.key.id, desk.worker.key.id)
    for view in (first, second):
        assert view.node is not None
        assert view.answer == answers[view.node]
    assert _view(desk, question, after=2).node is None


def test_an_answer_is_an_event_that_says_who_showed_what_and_nothing_of_who_wanted_to_know_why(desk: Desk) -> None:
    """Node, model and the offer's digest; no nonce, no policy. A refusal is none."""
    nonce = os.urandom(32)
    question = _asked(desk, nonce=nonce)
    _pull(desk.worker)
    body = _signed(desk.worker.key)
    assert _give(desk.worker, question, body).status_code == 204
    refused = _asked(desk)
    _pull(desk.worker)
    said = Refusal(code="policy", reason="no")
    desk.worker.ask("POST", f"/v1/questions/{refused}/refuse", said)
    with desk.parts.database.read() as connection:
        query = select(events.c.body).where(events.c.action == Action.EVIDENCE_SHOWN.value)
        (text,) = connection.execute(query).scalars()
    event = Event.from_bytes(text.encode())
    assert event.object == f"node:{desk.worker.key.id}"
    assert event.digest == open_signed(body.recipient, EnrolmentRequest).digest
    assert event.details == {"model": desk.manifest.digest}
    assert nonce.hex() not in text
    assert POLICY not in text


def test_a_node_may_say_why_it_does_not_answer(desk: Desk) -> None:
    """So that who asked need not wait for it."""
    question = _asked(desk)
    assert _pull(desk.worker) is not None
    said = Refusal(code="policy", reason="not this model")
    assert desk.worker.send("POST", f"/v1/questions/{question}/refuse", said).status_code == 204
    view = _view(desk, question)
    assert (view.node, view.answer, view.refusal, view.ended) == (desk.worker.key.id, None, said, 1)


def test_a_question_to_one_node_is_no_other_nodes(desk: Desk) -> None:
    """Whoever pulls first."""
    other = Worker(desk.http, desk.brokerage, name="node-2")
    question = _asked(desk, node=other.key.id)
    assert _pull(desk.worker) is None
    work = _pull(other)
    assert work is not None
    assert work.attestation == question


def test_only_who_took_a_question_answers_it_and_only_once(desk: Desk) -> None:
    """And in its own name: the envelope names the node that sends it."""
    other = Worker(desk.http, desk.brokerage, name="node-2")
    question = _asked(desk)
    assert _give(desk.worker, question).status_code == 404
    assert _pull(desk.worker) is not None
    assert _give(other, question).status_code == 404
    theirs = _give(desk.worker, question, _signed(other.key))
    assert (theirs.status_code, theirs.json()["code"]) == (422, "bad-recipient")
    assert _view(desk, question).node is None
    assert _give(desk.worker, question).status_code == 204
    assert _give(desk.worker, question).status_code == 404
    assert _give(desk.worker, "0" * 32).status_code == 404


def test_answers_have_a_size(desk: Desk) -> None:
    """Evidence beyond the setting, and a recipient that no honest node makes, are 413 and not stored."""
    question = _asked(desk)
    assert _pull(desk.worker) is not None
    honest = _signed(desk.worker.key)
    large = honest.model_copy(update={"evidence": bytes(desk.parts.settings.evidence + 1)})
    long = honest.recipient.model_copy(update={"payload": "A" * 70_000})
    for body in (large, honest.model_copy(update={"recipient": long})):
        refused = _give(desk.worker, question, body)
        assert (refused.status_code, refused.json()["code"]) == (413, "too-large")
    huge = honest.model_copy(update={"evidence": bytes(3 << 20)})
    assert _give(desk.worker, question, huge).status_code == 413
    assert _view(desk, question).node is None
    whole = honest.model_copy(update={"evidence": bytes(desk.parts.settings.evidence)})
    assert _give(desk.worker, question, whole).status_code == 204


def test_a_question_lives_for_a_minute(desk: Desk) -> None:
    """Then nobody sees it, takes it or answers it, and nothing of it is left."""
    taken, waiting = _asked(desk), _asked(desk)
    work = _pull(desk.worker)
    assert work is not None
    assert work.attestation == taken
    _let_pass(desk)
    assert _pull(desk.worker) is None
    assert _give(desk.worker, taken).status_code == 404
    for question in (taken, waiting):
        assert desk.tenant.send("GET", f"/v1/attestations/{question}").status_code == 404
    assert _rows(desk) == (2, 1)
    fresh = _asked(desk)
    sweep.sweep_often(desk.parts)
    assert _rows(desk) == (1, 0)
    assert _view(desk, fresh).taken == 0


def test_a_question_lives_no_longer_than_its_asker_waits(desk: Desk) -> None:
    """Nobody's hardware works for who has left; but it counts among those of its minute."""
    question = _asked(desk, lives=1)
    time.sleep(0.01)
    assert _pull(desk.worker) is None
    assert desk.tenant.send("GET", f"/v1/attestations/{question}").status_code == 404
    sweep.sweep_often(desk.parts)
    assert _rows(desk) == (1, 0)


def test_a_clock_that_was_set_back_leaves_no_question_for_ever(desk: Desk) -> None:
    """One of a time that has not come is forgotten like one that is over."""
    _asked(desk)
    _let_pass(desk, by=-3_600_000)
    sweep.sweep_often(desk.parts)
    assert _rows(desk) == (0, 0)


def test_a_tenant_asks_so_often_a_minute(tmp_path: Path, database_url: str | None) -> None:
    """And another asks on; after the minute it may again."""
    with open_desk(tmp_path, database=database_url, questions=3) as desk:
        for _ in range(3):
            _asked(desk)
        refused = _ask(desk)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-questions")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        _asked(desk, desk.stranger)
        _let_pass(desk)
        _asked(desk)


def test_many_at_once_ask_no_more_than_they_may(tmp_path: Path, database_url: str | None) -> None:
    """The count and the question are one step."""
    with open_desk(tmp_path, database=database_url, questions=4) as desk:
        statuses: list[int] = []

        def many() -> None:
            with connection_to(desk.app, desk.parts.settings) as http:
                tenant = Tenant(http, desk.tenant.token or "", name="bank", keys=desk.tenant.keys)
                statuses.extend(_ask(desk, tenant).status_code for _ in range(4))

        _together([many] * 4)
        assert sorted(statuses) == [201] * 4 + [429] * 12


def test_whoever_asks_much_does_not_delay_who_asks_little(desk: Desk) -> None:
    """A node takes the question of the tenant of whom it took fewest."""
    many = [_asked(desk) for _ in range(5)]
    few = _asked(desk, desk.stranger)
    order = []
    for _ in range(6):
        work = _pull(desk.worker)
        assert work is not None
        order.append(work.attestation)
    assert order[1] == few
    assert sorted(order) == sorted([*many, few])


def test_a_question_is_taken_by_as_many_as_a_job_can_be_sealed_to(desk: Desk) -> None:
    """However many nodes there are."""
    workers = [Worker(desk.http, desk.brokerage, name=f"node-{number}") for number in range(MOST_TAKERS + 2)]
    question = _asked(desk)
    assert sum(_pull(worker) is not None for worker in workers) == MOST_TAKERS
    assert _view(desk, question).taken == MOST_TAKERS


def test_another_tenants_question_is_not_there(desk: Desk) -> None:
    """Neither its answers."""
    question = _asked(desk)
    _pull(desk.worker)
    _give(desk.worker, question)
    assert desk.stranger.send("GET", f"/v1/attestations/{question}").status_code == 404


def test_a_model_that_nobody_offers_is_not_asked_for(desk: Desk) -> None:
    """404, and no node is troubled."""
    assert _ask(desk, model="sha256:" + "1" * 64).status_code == 404
    assert _pull(desk.worker) is None


def test_who_waits_hears_at_once_also_at_another_gateway(tmp_path: Path, postgresql_server: Any) -> None:
    """A node at one gateway, its client at another, on one database."""
    url = postgresql_server.new_database()
    with open_desk(tmp_path, database=url) as desk:
        settings = desk.parts.settings.model_copy(update={"data": tmp_path / "second"})
        settings.data.mkdir()
        second = create_app(settings)
        with connection_to(second, settings) as http:
            worker = desk.worker.over(http)
            found: list[AttestationWork | None] = []

            def node() -> None:
                found.append(_pull(worker, wait=20_000))
                assert found[0] is not None
                _give(worker, found[0].attestation)

            waiting = threading.Thread(target=node)
            waiting.start()
            view = _view(desk, _asked(desk), wait=20_000)
            waiting.join(20)
        assert view.node == worker.key.id
        second.extensions["blindgate"].database.close()
        second.extensions["blindgate"].wakeups.close()


def test_two_pulls_of_one_node_at_once_get_a_question_once(desk: Desk) -> None:
    """Whichever is faster."""
    _asked(desk)
    got: list[AttestationWork | None] = []

    def node() -> None:
        with connection_to(desk.app, desk.parts.settings) as http:
            got.append(_pull(desk.worker.over(http)))

    _together([node] * 4)
    assert sum(work is not None for work in got) == 1


def _together(what: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in what]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

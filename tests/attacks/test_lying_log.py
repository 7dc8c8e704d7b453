"""A gateway that lies about its log: the result is neither acknowledged nor decrypted, and may be asked for again.

What such a gateway is asked before there is a result is in `test_log_before_orders`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from between import Answer
from blindgate import Client, Policy, logs
from blindgate.bundles import Bundles
from blindgate.commands import jobs as commands
from blindgate_protocol.errors import (
    BlindgateError,
    ForkedLogError,
    LogError,
    MalformedError,
    NotLoggedError,
    UntrustedSignerError,
)
from blindgate_protocol.events import Action
from logged_jobs import LONG, MISSING, NOT_YET, SOON, Lie, Scene, evaluated_jobs, told
from memory_log import MemoryLog, succeeded
from second_keys import LIES, Lines, proof_signed_too
from world import World


@pytest.fixture
def scene(
    world: World, tmp_path: Path, small_rows: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """Two evaluated jobs behind a proxy that answers for the log."""
    # The proxy's own answers come when the gateway has given its, which waits for witnesses that it does not have.
    monkeypatch.setattr(logs, "LONG_POLL_SECONDS", 0.2)
    with evaluated_jobs(world, tmp_path, small_rows) as made:
        yield made


@pytest.fixture
def decrypted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every result that the client decrypted."""
    half = type(scene.first._half)
    seen: list[bytes] = []
    decrypt = half.decrypt

    def note(self: Any, secret: bytes, result: bytes, rows: int) -> Any:
        seen.append(result)
        return decrypt(self, secret, result, rows)

    monkeypatch.setattr(half, "decrypt", note)
    return seen


def another_jobs_proof(scene: Scene) -> Answer:
    """True, of the same log, and not of this job."""
    return told(scene.proof(scene.second))


def another_receipt(scene: Scene) -> Answer:
    """The log says that the job succeeded with another receipt."""
    receipt = scene.receipts[scene.first.id]
    index = scene.log.append(succeeded(receipt, digest=scene.receipts[scene.second.id].digest))
    return told(scene.log.proof(index))


def a_failure(scene: Scene) -> Answer:
    """The log says that the job was given up."""
    index = scene.log.append(succeeded(scene.receipts[scene.first.id], action=Action.JOB_DEAD))
    return told(scene.log.proof(index))


def an_event_that_was_not_logged(scene: Scene) -> Answer:
    """The right event, with the way of another one to the root."""
    honest, other = scene.proof(scene.first), scene.proof(scene.second)
    return told(other.model_copy(update={"event": honest.event, "salt": honest.salt}))


def a_log_of_its_own(scene: Scene) -> Answer:
    """The same events under a key that the policy does not name."""
    other = MemoryLog(scene.log.key.name)
    other.events = scene.log.events
    return told(other.proof(scene.index[scene.first.id]))


def a_log_by_another_name(scene: Scene) -> Answer:
    """The log's own key, for a log that has another name."""
    other = MemoryLog("elsewhere.example/log", scene.log.private)
    other.events = scene.log.events
    return told(other.proof(scene.index[scene.first.id]))


def a_borrowed_signature(scene: Scene) -> Answer:
    """A tree of its own under the signature of the log's."""
    other = MemoryLog(scene.log.key.name)
    other.fill(1)
    index = other.append(succeeded(scene.receipts[scene.first.id]))
    forged, honest = other.proof(index), scene.proof(scene.first)
    tree, gap, _ = forged.proof.rpartition("\n\n")
    return told(forged.model_copy(update={"proof": tree + gap + honest.proof.rpartition("\n\n")[2]}))


@pytest.mark.parametrize(
    ("lie", "refusal", "within"),
    [
        pytest.param(lambda _: MISSING, NotLoggedError, SOON, id="no proof"),
        pytest.param(lambda _: NOT_YET, NotLoggedError, SOON, id="not yet, for ever"),
        pytest.param(another_jobs_proof, NotLoggedError, LONG, id="another job's proof"),
        pytest.param(another_receipt, NotLoggedError, LONG, id="another receipt was logged"),
        pytest.param(a_failure, NotLoggedError, LONG, id="another outcome was logged"),
        pytest.param(an_event_that_was_not_logged, LogError, LONG, id="an event that was not logged"),
        pytest.param(a_log_of_its_own, UntrustedSignerError, LONG, id="another log"),
        pytest.param(a_log_by_another_name, UntrustedSignerError, LONG, id="a log by another name"),
        pytest.param(a_borrowed_signature, LogError, LONG, id="another tree under the log's signature"),
        pytest.param(lambda _: Answer(200, b"{}"), MalformedError, LONG, id="no proof, but an answer"),
        pytest.param(
            lambda scene: told(scene.proof(scene.first).model_copy(update={"proof": "x"})),
            MalformedError,
            LONG,
            id="a proof that does not parse",
        ),
    ],
)
def test_a_result_that_is_not_in_the_log_is_not_opened_until_it_is(
    scene: Scene, decrypted: list[bytes], lie: Lie, refusal: type[BlindgateError], within: float
) -> None:
    """Nothing is decrypted, acknowledged or kept; what no honest gateway says is refused at once."""
    job = scene.job(scene.first, within=within)
    scene.answers[job.id] = lambda: lie(scene)
    started = time.monotonic()
    with pytest.raises(refusal) as caught:
        job.result(timeout=30)
    assert time.monotonic() - started < 20
    assert type(caught.value) is refusal
    assert (decrypted, scene.asked(job, "acknowledge")) == ([], 0)
    kept = Bundles(scene.home / "bundles").load(job.id)
    assert (kept.receipt, kept.logged, job.logged) == (None, None, None)
    # It was a lie: the log has it all along.
    scene.answers[job.id] = lambda: told(scene.proof(scene.first))
    assert len(job.result(timeout=30)) == 3
    assert (len(decrypted), scene.asked(job, "acknowledge")) == (1, 1)


def test_a_logged_result_is_opened_and_its_place_kept(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for before it is acknowledged; checked again offline, by `blindgate jobs receipt`."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first, cosigned=True))
    job = scene.job(scene.first, within=LONG, cosignatures=1)
    job.result(timeout=30)
    said = [each.path.partition("?")[0] for each in scene.proxy.heard if job.id in each.path]
    assert said.index(f"/v1/jobs/{job.id}/proof") < said.index(f"/v1/jobs/{job.id}/acknowledge")
    assert job.logged is not None
    assert (job.logged.log, job.logged.index, job.logged.checkpoint.size) == ("ours", 9, 12)
    commands.app(["receipt", job.id, "--home", str(scene.home), "--json"], standalone_mode=False)
    place = json.loads(capsys.readouterr().out)["logged"]
    assert (place["log"], place["index"], place["size"], list(place["cosigned"])) == ("ours", 9, 12, ["north"])
    commands.app(["receipt", job.id, "--home", str(scene.home)], standalone_mode=False)
    assert "at index 9 of ours (gateway.example/log), in the tree of 12 entries, cosigned by north" in (
        capsys.readouterr().out
    )


def test_a_receipt_without_its_proof_does_not_hold_under_a_policy_that_names_a_log(scene: Scene, world: World) -> None:
    """Such as a result that was fetched before the policy did."""
    trusting = Policy(dict(world.publishers), {"this-world": world.operator.id})
    with Client(world.url, world.api_key("hospital"), policy=trusting, home=scene.home, key_store=scene.keys) as before:
        before.job(scene.first.id).result(timeout=30)
    assert scene.asked(scene.first, "proof") == 0
    scene.client(within=LONG)
    with pytest.raises(NotLoggedError, match="nothing was kept"):
        commands.app(["receipt", scene.first.id, "--home", str(scene.home)], standalone_mode=False)


def test_too_few_cosignatures_are_waited_for_and_refused_when_they_do_not_come(
    scene: Scene, decrypted: list[bytes]
) -> None:
    """A witness may be slow; and another's line does not count."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
    job = scene.job(scene.first, within=SOON, cosignatures=1)
    with pytest.raises(NotLoggedError, match="0 cosignatures"):
        job.result(timeout=30)
    assert decrypted == []
    assert scene.asked(job, "proof") >= 1
    assert scene.asked(job, "acknowledge") == 0
    answers = iter((NOT_YET, told(scene.proof(scene.first)), told(scene.proof(scene.first, cosigned=True))))
    scene.answers[scene.first.id] = lambda: next(answers)
    scene.job(scene.first, within=LONG, cosignatures=1).result(timeout=30)
    assert len(decrypted) == 1


def test_a_log_that_was_set_back_is_refused(scene: Scene, decrypted: list[bytes]) -> None:
    """A gateway that put back an old database shows a tree that this client has seen grow."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
    scene.first.result(timeout=30)
    scene.answers[scene.second.id] = lambda: told(scene.proof(scene.second, 8))
    job = scene.job(scene.second, within=SOON)
    with pytest.raises(ForkedLogError, match="with 8 entries; this client has seen 12"):
        job.result(timeout=30)
    assert len(decrypted) == 1
    assert scene.asked(job, "acknowledge") == 0
    # A tree that only lagged behind, as a cosigned one may, catches up.
    answers = iter((told(scene.proof(scene.second, 8)), told(scene.proof(scene.second))))
    scene.answers[scene.second.id] = lambda: next(answers)
    scene.job(scene.second, within=LONG).result(timeout=30)
    assert len(decrypted) == 2


def test_a_fork_is_refused_at_once(scene: Scene, decrypted: list[bytes]) -> None:
    """Two trees of one size under the log's own signature, one for each job, in two processes of this client."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
    scene.first.result(timeout=30)
    other = MemoryLog(scene.log.key.name, scene.log.private)
    other.events = scene.log.events[:8]
    other.fill(4)
    scene.answers[scene.second.id] = lambda: told(other.proof(3))
    job = scene.job(scene.second, within=LONG)
    with pytest.raises(ForkedLogError, match="two trees of 12"):
        job.result(timeout=30)
    assert len(decrypted) == 1
    assert scene.asked(job, "acknowledge") == 0


def test_an_answer_that_another_overtook_is_no_fork(scene: Scene, decrypted: list[bytes]) -> None:
    """What counts is what the client had seen when it asked: threads of one client are answered in any order."""

    def slowly() -> Answer:
        answer = told(scene.proof(scene.second, 8))
        scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
        scene.first.result(timeout=30)
        return answer

    scene.answers[scene.second.id] = slowly
    scene.second.result(timeout=30)
    assert len(decrypted) == 2
    assert scene.asked(scene.second, "proof") == 1


# The log's second key


@pytest.mark.parametrize("lines", LIES.values(), ids=LIES.keys())
def test_a_result_without_the_signature_of_the_logs_second_key_is_not_opened(
    scene: Scene, decrypted: list[bytes], lines: Lines
) -> None:
    """Whoever forged the first signature does not get by; the honest log is opened, and its receipt holds offline."""
    scene.answers[scene.first.id] = lambda: told(proof_signed_too(scene.proof(scene.first), lines))
    job = scene.job(scene.first, within=LONG, second=True)
    with pytest.raises(LogError, match=r"second key|ML-DSA-44"):
        job.result(timeout=30)
    assert (decrypted, scene.asked(job, "acknowledge")) == ([], 0)
    scene.answers[scene.first.id] = lambda: told(proof_signed_too(scene.proof(scene.first)))
    assert len(job.result(timeout=30)) == 3
    commands.app(["receipt", job.id, "--home", str(scene.home)], standalone_mode=False)


def test_a_receipt_that_was_opened_before_the_policy_named_a_second_key_does_not_hold(scene: Scene) -> None:
    """What is kept is held against the policy of today."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
    scene.job(scene.first, within=LONG).result(timeout=30)
    scene.client(within=LONG, second=True)
    with pytest.raises(LogError, match="second key"):
        commands.app(["receipt", scene.first.id, "--home", str(scene.home)], standalone_mode=False)

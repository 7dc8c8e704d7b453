"""A gateway that serves no log of the policy's, or one that does not hold: it is sent neither keys nor rows nor an order.

What comes after an order is in `test_lying_log`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from between import Answer
from blindgate import logs
from blindgate_protocol.errors import (
    BlindgateError,
    ForkedLogError,
    GatewayError,
    LogError,
    MalformedError,
    NotLoggedError,
    UntrustedSignerError,
)
from logged_jobs import LONG, MISSING, Lie, Scene, evaluated_jobs, told
from memory_log import MemoryLog
from second_keys import LIES, signed_too
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


def another_log_is_served(scene: Scene) -> Answer:
    """The log that every client of this gateway is shown is none of the policy's."""
    other = MemoryLog(scene.log.key.name)
    other.fill(2)
    return Answer(200, other.note())


def a_signature_is_borrowed(scene: Scene) -> Answer:
    """A tree of its own above the signature of the log's."""
    other = MemoryLog(scene.log.key.name)
    other.fill(1)
    tree, gap, _ = other.note().rpartition(b"\n\n")
    return Answer(200, tree + gap + scene.log.note().rpartition(b"\n\n")[2])


def a_fork_of_what_was_seen(scene: Scene) -> Answer:
    """Another tree of the size that this client has relied on, under the log's own key."""
    other = MemoryLog(scene.log.key.name, scene.log.private)
    other.fill(12)
    return Answer(200, other.note())


def signed_twice(scene: Scene) -> Answer:
    """The honest checkpoint, with the log's own line once more."""
    note = scene.log.note()
    return Answer(200, note + note.rpartition(b"\n\n")[2])


@pytest.mark.parametrize(
    ("serve", "refusal", "second"),
    [
        pytest.param(lambda _: MISSING, NotLoggedError, False, id="no log"),
        pytest.param(another_log_is_served, UntrustedSignerError, False, id="another log"),
        pytest.param(a_signature_is_borrowed, LogError, False, id="a borrowed signature"),
        pytest.param(signed_twice, LogError, False, id="two lines of the log's"),
        pytest.param(a_fork_of_what_was_seen, ForkedLogError, False, id="a fork of what was seen"),
        pytest.param(lambda scene: Answer(200, scene.log.note()), LogError, True, id="no second signature"),
        pytest.param(
            lambda scene: Answer(200, signed_too(scene.log.note(), LIES["forged under the right id"])),
            LogError,
            True,
            id="a forged second signature",
        ),
        pytest.param(lambda _: Answer(200, b"no checkpoint"), MalformedError, False, id="junk"),
        pytest.param(lambda _: Answer(200, bytes(1 << 20)), MalformedError, False, id="too much"),
    ],
)
def test_a_gateway_that_serves_no_log_of_the_policys_is_sent_nothing(
    scene: Scene, small_rows: np.ndarray[Any, Any], serve: Lie, refusal: type[BlindgateError], *, second: bool
) -> None:
    """One question is all that it gets after the model was taken. When it answers well, the same client goes on."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
    scene.job(scene.first, within=LONG).result(timeout=30)
    model = scene.client(within=LONG, second=second).model("small")
    kept = sorted((scene.home / "bundles").iterdir())
    scene.proxy.heard.clear()
    scene.checkpoint = lambda: serve(scene)
    with pytest.raises(refusal) as caught:
        model.predict(small_rows[:3], timeout=30)
    assert type(caught.value) is refusal
    assert "othing was encrypted or sent" in str(caught.value)
    assert [(said.method, said.path) for said in scene.proxy.heard] == [("GET", "/log/checkpoint")]
    assert sorted((scene.home / "bundles").iterdir()) == kept
    scene.checkpoint = lambda: Answer(200, signed_too(scene.log.note()))
    model.submit(small_rows[:3])


def test_a_gateway_that_does_not_say_which_log_it_serves_is_asked_again_with_the_next_order(
    scene: Scene, small_rows: np.ndarray[Any, Any]
) -> None:
    """That is a fault and no lie, and the error says so."""
    model = scene.client(within=LONG).model("small")
    scene.proxy.heard.clear()
    scene.checkpoint = lambda: Answer(500, b"")
    with pytest.raises(GatewayError, match=r"does not say at the moment .* Nothing was encrypted or sent; try again"):
        model.submit(small_rows[:3])
    assert {said.path for said in scene.proxy.heard} == {"/log/checkpoint"}
    scene.checkpoint = lambda: Answer(200, scene.log.note())
    model.submit(small_rows[:3])


def test_three_orders_of_one_client_make_one_look(scene: Scene, small_rows: np.ndarray[Any, Any]) -> None:
    """A smaller tree than was relied on passes: a cache may be behind."""
    scene.answers[scene.first.id] = lambda: told(scene.proof(scene.first))
    scene.first.result(timeout=30)
    model = scene.client(within=LONG).model("small")
    scene.proxy.heard.clear()
    scene.checkpoint = lambda: Answer(200, scene.log.note(5))
    for _ in range(3):
        model.submit(small_rows[:3])
    paths = [said.path for said in scene.proxy.heard]
    assert paths.count("/log/checkpoint") == 1
    assert paths.count("/v1/jobs") == 3

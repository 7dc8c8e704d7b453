"""Keyed zygotes: a key is expanded once, for its tenant alone, and what computes its first job is confined like any worker."""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blindgate_node.key_cache import KeyName
from blindgate_node.zygotes import Model, RunningJob
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, SandboxError
from node_process import KEYED
from worker_pool import Workers, sealed, workers

KEY = b"an evaluation key"
MARK = json.dumps({"do": "mark"}).encode()
EPERM, EACCES = f"PermissionError {errno.EPERM}", f"PermissionError {errno.EACCES}"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the layers for root need root")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A pool of zygotes."""
    with workers(tmp_path_factory.mktemp("node")) as made:
        yield made


def _model(rig: Workers, tenant: str, key: bytes = KEY) -> Model:
    return replace(rig.model(KEYED), key=KeyName(tenant, digest(key)))


def _mark(rig: Workers, model: Model, key: bytes = KEY) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(rig.run(model, MARK, key))
    return answer


def test_a_key_is_expanded_once_and_every_later_job_has_a_process_of_its_own(rig: Workers) -> None:
    """The first job's expansion serves the next, in children that nothing else runs in."""
    told = [_mark(rig, _model(rig, "hospital")) for _ in range(4)]
    assert len({one["mark"] for one in told}) == 1
    assert len({one["pid"] for one in told}) == 4


def test_another_tenant_or_key_meets_nothing_of_it(rig: Workers) -> None:
    """Even the same bytes, under another tenant, are expanded in another process tree."""
    marks = {
        _mark(rig, _model(rig, "hospital"))["mark"],
        _mark(rig, _model(rig, "bank"))["mark"],
        _mark(rig, _model(rig, "hospital", b"another key"), b"another key")["mark"],
    }
    assert len(marks) == 3


def test_a_key_that_goes_takes_its_zygotes_with_it(rig: Workers) -> None:
    """What kept the key expanded has ended, its processes with it; another key's goes on."""
    leaving, staying = _model(rig, "leaving"), _model(rig, "staying")
    before = {"leaving": _mark(rig, leaving), "staying": _mark(rig, staying)}
    with rig.pool.using(leaving) as zygote:
        assert zygote.alive
    rig.pool.retire(0.0)
    assert zygote.alive, "it lasts as long as its key, however idle"
    assert leaving.key is not None
    rig.pool.drop(leaving.key)
    assert not zygote.alive
    assert _mark(rig, leaving)["mark"] != before["leaving"]["mark"]
    assert _mark(rig, staying)["mark"] == before["staying"]["mark"]


@pytest.mark.parametrize(
    ("deed", "arguments", "answers"),
    [
        pytest.param("socket", {"family": 2, "kind": 1}, {EPERM}, id="a socket"),
        pytest.param("open", {"path": "/etc/shadow"}, {EACCES, f"FileNotFoundError {errno.ENOENT}"}, id="a file"),
        pytest.param("write", {"path": "/scratch/x"}, {EACCES}, id="its own scratch folder"),
        pytest.param("execute", {"path": "/usr/bin/true"}, {EACCES, EPERM}, id="a program"),
    ],
)
def test_the_first_job_of_a_key_is_confined(
    rig: Workers, deed: str, arguments: dict[str, Any], answers: set[str]
) -> None:
    """It runs in the zygote itself, which let go of its compiler's rights before it read the key."""
    model = _model(rig, f"curious-{deed}")
    told = json.loads(rig.run(model, json.dumps({"do": deed} | arguments).encode(), KEY))
    assert told in answers


def test_a_refused_first_job_or_key_leaves_the_next_one_alone(rig: Workers) -> None:
    """A named error each, and then an honest job is answered."""
    model = _model(rig, "clumsy")
    raising = json.dumps({"do": "raise", "kind": "ciphertext"}).encode()
    with pytest.raises(CiphertextError):
        rig.run(model, raising, KEY)
    with pytest.raises(EvaluationKeyError, match="not to be used"):
        rig.run(_model(rig, "clumsy", b"refuse"), MARK, b"refuse")
    assert _mark(rig, model)["mark"]


@pytest.mark.parametrize("deed", ["crash", "hang"])
def test_a_first_job_that_crashes_or_hangs_ends_its_zygote_and_no_more(rig: Workers, deed: str) -> None:
    """The next job of the same key gets a new one."""
    model = _model(rig, f"stuck-{deed}")
    with pytest.raises(SandboxError):
        rig.run(model, json.dumps({"do": deed}).encode(), KEY, seconds=2)
    assert _mark(rig, model)["mark"]


def test_a_first_job_can_be_killed(rig: Workers) -> None:
    """A cancelled job stops although it runs in the zygote."""
    model = _model(rig, "impatient")
    running: list[RunningJob] = []
    began = threading.Event()

    def started(job: RunningJob) -> None:
        running.append(job)
        began.set()

    def run() -> None:
        with (
            rig.pool.using(model) as zygote,
            sealed(json.dumps({"do": "hang"}).encode()) as given,
            sealed(KEY) as key,
            pytest.raises(SandboxError),
        ):
            zygote.run(given, key, seconds=60, started=started)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(20)
    time.sleep(0.2)
    running[0].kill()
    thread.join(20)
    assert not thread.is_alive()


def test_jobs_that_come_while_a_key_is_expanded_wait_and_share_it(rig: Workers, tmp_path: Path) -> None:
    """Four at once: one expansion."""
    del tmp_path
    model = _model(rig, "busy")
    told: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: told.append(_mark(rig, model))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told) == 4
    assert len({one["mark"] for one in told}) == 1

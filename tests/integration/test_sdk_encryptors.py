"""Long tables are encrypted by every core: the same answers, nothing left behind, and no harm when the processes die."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate import encryptors, model
from blindgate.encryptors import Encryptors
from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_models.package import serialise_part
from blindgate_protocol.errors import InputError
from world import World

Rows = NDArray[np.float64]


class Made(NamedTuple):
    """Both halves of a linear model, and what an encryptor is told."""

    client: LinearClient
    server: LinearServer
    part: bytes
    secret: bytes


@pytest.fixture(scope="module")
def made() -> Made:
    """Three columns."""
    client, server = linear_parts(np.array([[1.0, -2.0, 0.5]]), np.array([0.25]), np.array([[-1.0, 1.0]] * 3))
    half = LinearClient.from_part(client.model_dump())
    return Made(
        half,
        LinearServer.from_part(server.model_dump()),
        serialise_part(client.model_dump()),
        half.make_keys().secret,
    )


def chunks(count: int = 6) -> list[Rows]:
    """Tables of different lengths."""
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (40 + number, 3)) for number in range(count)]


def children() -> list[int]:
    """The encryptors that run below this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and b"blindgate.encryptors" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def started(count: int) -> list[int]:
    """Those `count` that were just started: for a moment, a process that becomes another program has no command line."""
    until = time.monotonic() + 10
    while len(found := children()) < count and time.monotonic() < until:
        time.sleep(0.01)
    assert len(found) == count
    return found


def check(made: Made, tables: list[Rows], found: Iterator[encryptors.Encrypted]) -> None:
    """Every chunk's ciphertexts are its own, in order."""
    for table, each in zip(tables, found, strict=True):
        scores = made.client.decrypt(made.secret, made.server.evaluate(None, each.ciphertexts), len(table))
        np.testing.assert_allclose(scores[:, 0], table @ [1.0, -2.0, 0.5] + 0.25, atol=1e-6)


def test_chunks_come_back_in_order_from_processes_that_end(made: Made) -> None:
    """Each encrypted by another process, none of which is there afterwards."""
    tables = chunks()
    with Encryptors(made.client, "linear", made.part, made.secret, len(tables)) as pool:
        started(min(len(tables), encryptors.cores()))
        check(made, tables, pool.encrypt(tables))
    assert not children()


def test_nothing_secret_stands_in_arguments_or_environment(made: Made) -> None:
    """Where other users of the machine could read it."""
    with Encryptors(made.client, "linear", made.part, made.secret, 2) as pool:
        list(pool.encrypt(chunks(2)))
        for pid in started(min(2, encryptors.cores())):
            for name in ("cmdline", "environ"):
                assert made.secret[64:128] not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_encryptors_that_are_killed_cost_time_and_nothing_else(made: Made) -> None:
    """Their chunks are encrypted by the caller."""
    tables = chunks()
    with Encryptors(made.client, "linear", made.part, made.secret, len(tables)) as pool:
        for pid in started(min(len(tables), encryptors.cores())):
            os.kill(pid, signal.SIGKILL)
        check(made, tables, pool.encrypt(tables))


def test_encryptors_that_cannot_start_cost_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an application that is frozen into one file."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    tables = chunks()
    with Encryptors(made.client, "linear", made.part, made.secret, len(tables)) as pool:
        check(made, tables, pool.encrypt(tables))


def test_a_chunk_that_is_refused_is_refused_in_the_halfs_words(made: Made) -> None:
    """And what was encrypted before it is not lost."""
    tables = chunks(3)
    tables[1][7, 2] = 5.0
    with Encryptors(made.client, "linear", made.part, made.secret, len(tables)) as pool:
        found = pool.encrypt(tables)
        next(found)
        with pytest.raises(InputError, match="row 7, column 2"):
            next(found)
    assert not children()


def test_leaving_early_ends_them(made: Made) -> None:
    """With chunks that nobody takes any more."""
    with Encryptors(made.client, "linear", made.part, made.secret, 50) as pool:
        next(pool.encrypt(chunks(50)))
    assert not children()


def test_they_end_when_their_caller_is_killed(made: Made, tmp_path: Path) -> None:
    """Their pipe closes."""
    (tmp_path / "part").write_bytes(made.part)
    (tmp_path / "secret").write_bytes(made.secret)
    script = """
import sys, time, pathlib
from blindgate.encryptors import Encryptors
from blindgate_models.linear.client import LinearClient
from blindgate_models.package import parse_part
part, secret = (pathlib.Path(sys.argv[1], name).read_bytes() for name in ("part", "secret"))
with Encryptors(LinearClient.from_part(parse_part(part)), "linear", part, secret, 2) as pool:
    print(*[process.pid for process in pool._started], flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        pids = [int(pid) for pid in caller.stdout.readline().split()]
        caller.kill()
    assert pids
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_predict_uses_them_for_a_table_that_takes_long(
    world: World, small_rows: Rows, small_estimator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are the plaintext model's, row by row, across chunks and processes."""
    rows = np.resize(small_rows, (3000, small_rows.shape[1]))
    used = threading.Event()
    started = encryptors._start

    def start() -> Any:
        used.set()
        return started()

    monkeypatch.setattr(encryptors, "_start", start)
    monkeypatch.setattr(encryptors, "cores", lambda: 2)  # one alone would have nobody to share with
    monkeypatch.setattr(model, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(LinearClient, "rows_at_once", 500)
    with world.client() as client:
        found = client.model("small")
        labels = found.predict(rows)
        assert len(found.last_jobs) == 6
    assert used.is_set()
    assert labels.tolist() == small_estimator.predict(rows).tolist()
    assert not children()

"""What a witness answers to a log, over HTTP, as C2SP's tlog-witness says."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, LogTrust, open_checkpoint, sign_checkpoint
from blindgate_protocol.notes import Note
from growing_log import GrowingLog, submission
from witness_process import WitnessProcess

SIZE_TYPE = "text/x.tlog.size"


def test_a_log_that_grows_is_cosigned_and_a_client_counts_it(witness: WitnessProcess, log: GrowingLog) -> None:
    """From nothing to the first tree, to larger ones, and once more to the same: each line verifies under the printed key."""
    last = 0
    for old, size in ((0, 10), (10, 10), (10, 11), (11, 64), (64, 200)):
        status, _, lines = witness.send(log.grow(size).submission(old))
        assert status == 200
        trust = LogTrust(log.key, {"w": witness.key}, cosignatures=1)
        opened = open_checkpoint(str(log.note()).encode() + lines, trust)
        assert opened.checkpoint.size == size
        assert last <= opened.cosigned["w"] <= time.time()
        last = opened.cosigned["w"]
    shown = json.loads(witness.run("show", log.origin, "--json"))
    assert (shown["size"], shown["cosigned"]) == (200, last)
    assert shown["note"] == str(log.note())


def test_a_log_that_does_not_know_is_told_the_size(witness: WitnessProcess, log: GrowingLog) -> None:
    """409 with the size in decimal and a newline, in the type that the format names; also to one that lags behind."""
    witness.send(log.submission(0))
    log.grow(20)
    for old, size in ((0, 20), (9, 20), (11, 20), (9, 9), (0, 0)):
        assert witness.send(log.submission(old, size)) == (409, SIZE_TYPE, b"10\n")
    assert witness.send(log.submission(10))[0] == 200


def test_the_empty_tree_is_one(witness: WitnessProcess) -> None:
    """A log without entries is cosigned, and grows from there."""
    empty = GrowingLog("empty.example")
    witness.run("logs", "add", str(empty.key))
    assert witness.send(empty.submission(0))[0] == 200
    assert witness.send(empty.grow(3).submission(0))[0] == 200
    assert witness.send(empty.submission(3))[0] == 200


def _other_key(log: GrowingLog) -> bytes:
    return GrowingLog(log.origin).grow(12).submission(10)


def _other_origin(log: GrowingLog) -> bytes:
    return GrowingLog("stranger.example", log.private).grow(12).submission(10)


def _unsigned_for_this_text(log: GrowingLog) -> bytes:
    note, larger = log.note(10), log.grow(12).note()
    return submission(10, log.prove(10, 12), Note(larger.text, note.lines))


def _two_lines_of_the_log(log: GrowingLog) -> bytes:
    note = log.grow(12).note()
    return submission(10, log.prove(10, 12), Note(note.text, note.lines * 2))


def _smaller_than_its_old_size(log: GrowingLog) -> bytes:
    return submission(10, (), log.note(9))


def _another_proof(log: GrowingLog) -> bytes:
    log.grow(20)
    return submission(10, log.prove(9, 20), log.note())


def _a_proof_where_there_is_none(log: GrowingLog) -> bytes:
    return submission(10, [bytes(32)], log.note(10))


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (_other_key, 403),
        (_other_origin, 404),
        (_unsigned_for_this_text, 403),
        (_two_lines_of_the_log, 403),
        (_smaller_than_its_old_size, 400),
        (_another_proof, 422),
        (_a_proof_where_there_is_none, 422),
    ],
)
def test_what_does_not_hold_is_refused_by_the_status_of_its_rule(
    witness: WitnessProcess, log: GrowingLog, made: Callable[[GrowingLog], bytes], status: int
) -> None:
    """And nothing changes: the log is cosigned afterwards as if nothing had been."""
    assert witness.send(log.submission(0))[0] == 200
    refused, kind, said = witness.send(made(log))
    assert (refused, kind) == (status, "text/plain; charset=utf-8")
    assert b"\xe2\x80\x94" not in said
    assert witness.send(log.grow(30).submission(10))[0] == 200


def test_lines_of_others_below_a_checkpoint_are_left_alone(witness: WitnessProcess, log: GrowingLog) -> None:
    """A log may carry further signatures, also under its own name, and lines beside the three."""
    other = sign_checkpoint(Checkpoint(log.origin, 10, log.note().lines[0].id * 8), Ed25519PrivateKey.generate())
    note = log.note(10, "an extension")
    status, _, lines = witness.send(submission(0, (), Note(note.text, (*other.lines, *note.lines))))
    assert status == 200
    trust = LogTrust(log.key, {"w": witness.key}, cosignatures=1)
    assert open_checkpoint(str(note).encode() + lines, trust).checkpoint.extensions == ("an extension",)


def test_a_log_that_was_removed_is_refused_and_not_forgotten(witness: WitnessProcess, log: GrowingLog) -> None:
    """Beside the running process; added again it goes on where it was, not at nothing."""
    assert witness.send(log.submission(0))[0] == 200
    witness.run("logs", "remove", log.origin)
    assert witness.send(log.submission(10))[0] == 404
    witness.run("logs", "add", str(log.key))
    assert witness.send(log.submission(0)) == (409, SIZE_TYPE, b"10\n")


def test_the_time_of_a_cosignature_does_not_go_back(own_witness: WitnessProcess, log: GrowingLog) -> None:
    """Whatever the clock says: here the last one was made by a clock that was an hour ahead."""
    own_witness.send(log.submission(0))
    ahead = int(time.time()) + 3600
    with closing(sqlite3.connect(own_witness.data / "witness.sqlite3")) as driver:
        driver.execute("UPDATE logs SET seconds = ?", (ahead,))
        driver.commit()
    _, _, lines = own_witness.send(log.grow(12).submission(10))
    opened = open_checkpoint(str(log.note()).encode() + lines, LogTrust(log.key, {"w": own_witness.key}))
    assert opened.cosigned["w"] == ahead


def test_a_record_that_cannot_be_written_cosigns_nothing(own_witness: WitnessProcess, log: GrowingLog) -> None:
    """503, and the health check says so too; when the record is back, it goes on."""
    record = own_witness.data / "witness.sqlite3"
    record.rename(own_witness.data / "away")
    assert own_witness.send(log.submission(0))[0] == 503
    assert own_witness.send(b"", method="GET", path="/healthz")[0] == 503
    assert not record.exists()
    (own_witness.data / "away").rename(record)
    assert own_witness.send(log.submission(0))[0] == 200


def test_callers_who_fall_silent_do_not_hold_it_up(own_witness: WitnessProcess, log: GrowingLog) -> None:
    """More of them than there are threads, each in the middle of a request; a log is served within the time they get."""
    silent = [socket.create_connection(("127.0.0.1", own_witness.port)) for _ in range(20)]
    try:
        for one in silent:
            one.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 0")
        time.sleep(0.5)
        assert own_witness.send(log.submission(0))[0] == 200
    finally:
        for one in silent:
            one.close()


def test_it_ends_when_it_is_told_to(own_witness: WitnessProcess) -> None:
    """SIGTERM to the master; nothing stays behind."""
    pid = own_witness.pid
    assert own_witness.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)


def test_a_witness_without_its_record_does_not_start(own_witness: WitnessProcess) -> None:
    """It would cosign a second tree; the message says what to do."""
    own_witness.stop()
    (own_witness.data / "witness.sqlite3").unlink()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        own_witness.run("serve")
    assert refused.value.returncode == 1
    assert "make a new one" in refused.value.stderr

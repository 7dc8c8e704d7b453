"""A witness that is killed with kill -9 at any moment has seen at least what it cosigned, and goes on from there."""

import random
import threading
from pathlib import Path

import pytest

import campaigns
from blindgate_gateway.log.witnesses import Witness
from blindgate_protocol.checkpoints import Checkpoint, verify_cosignature
from blindgate_protocol.errors import ForkedLogError, LogError
from blindgate_witness.records import Records
from growing_log import GrowingLog
from witness_process import running_witness

KILLS = campaigns.of(200, slice_of=16)
WHOLE = 8
"""Of so many kills one ends the master too; the others the worker alone, which is made anew much sooner."""
LATEST_MS = 200


@pytest.mark.slow
def test_nothing_that_was_cosigned_is_forgotten(tmp_path: Path) -> None:
    """Killed while a log asks as fast as it can; after each kill the tree goes on, and another one is refused."""
    log = GrowingLog().grow(1)
    chance = random.Random(0)
    cosigned = unheard = 0
    with running_witness(tmp_path / "witness", log.key) as witness:
        known = Witness(witness.url, witness.key)
        for number in range(KILLS):
            whole = number % WHOLE == 0
            kill = witness.kill if whole else witness.kill_worker
            killer = threading.Timer(chance.uniform(0, LATEST_MS) / 1000, kill)
            killer.start()
            asked = last = known.size
            while (
                killer.is_alive()
            ):  # a log that asks again between the end of one worker and the next hears of no failure
                asked = log.size + 1
                log.grow(asked)
                try:
                    (line,) = known.ask(log.note(), log.prove, seconds=10)
                except LogError:
                    break
                verify_cosignature(Checkpoint.parse(log.note().text), line, witness.key)
                cosigned, last = cosigned + 1, asked
            killer.join()
            seen = Records(witness.data / "witness.sqlite3").log(log.origin)
            assert seen is not None
            assert last <= seen.seen.size <= asked, f"kill {number}"
            unheard += seen.seen.size == asked
            if whole:
                witness.start()
            if seen.seen.size > 0:
                fork = GrowingLog(log.origin, log.private).grow(seen.seen.size + 1, word=f"other {number}")
                with pytest.raises(ForkedLogError):
                    Witness(witness.url, witness.key).ask(fork.note(), fork.prove, seconds=10)
            known.ask(log.note(), log.prove, seconds=10)
            assert known.size == log.size
    print(f"{KILLS} kills, {cosigned} cosigned, {unheard} written down and not heard of")
    assert cosigned

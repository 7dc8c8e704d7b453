"""A witness that is killed with kill -9 at any moment has seen at least what it cosigned, and goes on from there."""

import random
import threading
import time
from pathlib import Path

import pytest

import campaigns
from blindgate_gateway.log.witnesses import Witness
from blindgate_protocol.checkpoints import Checkpoint, verify_cosignature
from blindgate_protocol.errors import ForkedLogError, LogError
from blindgate_witness.records import Records
from growing_log import GrowingLog
from witness_process import running_witness

KILLS = campaigns.of(200, slice_of=30)
LATEST_MS = 60


@pytest.mark.slow
def test_nothing_that_was_cosigned_is_forgotten(tmp_path: Path) -> None:
    """Killed while a log asks as fast as it can; after each start the tree goes on, and another one is refused."""
    log = GrowingLog().grow(1)
    chance = random.Random(0)
    cosigned = cosigned_unheard = 0
    with running_witness(tmp_path / "witness", log.key) as witness:
        known = Witness(witness.url, witness.key)
        for number in range(KILLS):
            killer = threading.Timer(chance.uniform(0, LATEST_MS) / 1000, witness.kill)
            killer.start()
            asked = last = known.size
            while True:
                asked = log.size + 1
                log.grow(asked)
                try:
                    line = known.ask(log.note(), log.prove, seconds=10)
                except LogError:
                    break
                verify_cosignature(Checkpoint.parse(log.note().text), line, witness.key)
                cosigned, last = cosigned + 1, asked
            killer.join()
            seen = Records(witness.data / "witness.sqlite3").log(log.origin)
            assert seen is not None
            assert last <= seen.seen.size <= asked, f"kill {number}"
            cosigned_unheard += seen.seen.size == asked
            witness.start()
            if seen.seen.size > 1:
                fork = GrowingLog(log.origin, log.private).grow(seen.seen.size + 1, word=f"other {number}")
                with pytest.raises(ForkedLogError):
                    Witness(witness.url, witness.key).ask(fork.note(), fork.prove, seconds=10)
            known.ask(log.note(), log.prove, seconds=10)
            assert known.size == log.size
    print(
        f"{KILLS} kills, {cosigned} cosigned, {cosigned_unheard} written down and not heard of, {time.process_time():.0f} s"
    )

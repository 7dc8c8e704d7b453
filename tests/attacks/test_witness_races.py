"""Many at once ask a witness to cosign two trees that part: what it cosigns is one chain, in every order that it happens in.

The race of tlog-witness: two requests are checked against the same tree, the larger is written down, and then the smaller over it.
Here two processes with eight threads each share one record, so that neither a lock within a process nor the interpreter's hides it.
"""

import random
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import campaigns
from blindgate_gateway.log.witnesses import Witness, WitnessBehind
from blindgate_protocol.checkpoints import Checkpoint, verify_cosignature
from blindgate_protocol.errors import ForkedLogError, LogError
from blindgate_witness.records import Records
from growing_log import GrowingLog
from witness_process import WitnessProcess, running_witness

CALLERS = 12
ROUNDS = campaigns.of(200, slice_of=25)
PARTED = 8
LARGEST = 4000


def test_what_is_cosigned_is_a_chain(tmp_path: Path) -> None:
    """One root for a size, one of the two trees from where they part, no size below one that was cosigned before."""
    honest = GrowingLog().grow(LARGEST)
    forked = GrowingLog(honest.origin, honest.private).grow(PARTED).grow(LARGEST, word="other")
    cosigned: list[tuple[GrowingLog, int, int]] = []
    refused: Counter[str] = Counter()
    with (
        running_witness(tmp_path / "witness", honest.key) as one,
        running_witness(tmp_path / "witness") as other,
    ):
        assert one.key == other.key

        def ask(number: int) -> None:
            chance = random.Random(number)
            seen = 1
            for _ in range(ROUNDS):
                log = chance.choice((honest, forked))
                running = chance.choice((one, other))
                size = min(LARGEST, seen + chance.randrange(-2, 12)) if seen > 2 else chance.randrange(1, PARTED)
                witness = Witness(running.url, running.key)
                try:
                    (line,) = witness.ask(log.note(size), log.prove, seconds=60)
                except (WitnessBehind, LogError) as error:
                    refused[type(error).__name__] += 1
                else:
                    seconds = verify_cosignature(Checkpoint.parse(log.note(size).text), line, running.key)
                    cosigned.append((log, size, seconds))
                seen = max(seen, witness.size)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _look(one, cosigned)
    grown = [log for log, size, _ in cosigned if size > PARTED]
    assert len(grown) > ROUNDS
    assert len(set(map(id, grown))) == 1, "both trees were cosigned"
    assert refused[WitnessBehind.__name__], f"nobody was overtaken: {refused}"
    assert refused[ForkedLogError.__name__]
    print(f"{len(cosigned)} cosigned, refused: {dict(refused)}")


def _look(witness: WitnessProcess, cosigned: list[tuple[GrowingLog, int, int]]) -> None:
    """The record stands at the largest that was cosigned, and each larger size was cosigned no earlier."""
    known = Records(witness.data / "witness.sqlite3").log(cosigned[0][0].origin)
    assert known is not None
    assert known.seen.size == max(size for _, size, _ in cosigned)
    times = sorted((size, seconds) for _, size, seconds in cosigned)
    first = dict(reversed(times))
    last = dict(times)
    sizes = sorted(first)
    assert all(last[smaller] <= first[larger] for smaller, larger in pairwise(sizes))

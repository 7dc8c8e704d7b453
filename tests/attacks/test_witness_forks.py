"""A log that forks, or goes back, in front of a witness: it is refused, and what the log signed is kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from blindgate_protocol.checkpoints import LogTrust, open_checkpoint
from blindgate_protocol.errors import LogError
from blindgate_protocol.merkle import verify_consistency
from blindgate_witness.records import MOST_KEPT, Kept, Records
from blindgate_witness.signer import Signer
from blindgate_witness.submissions import RefusedError, Rule
from blindgate_witness.witness import Witness
from growing_log import GrowingLog, submission


class Watch:
    """A witness in this process, a log of 20 entries that it cosigned, and a fork of it from the tenth entry on."""

    def __init__(self, folder: Path) -> None:
        self.records = Records.create(folder / "witness.sqlite3")
        self.clock = 1000.0
        self.witness = Witness(Signer.generate("w"), self.records, lambda: self.clock)
        self.log = GrowingLog().grow(20)
        self.fork = GrowingLog(self.log.origin, self.log.private).grow(10).grow(20, word="other")
        self.records.add(self.log.key)
        self.witness.add_checkpoint(self.log.submission(0))

    def refused(self, body: bytes) -> tuple[int, int | None]:
        """The status, and the size that the sender is told."""
        with pytest.raises(RefusedError) as refused:
            self.witness.add_checkpoint(body)
        return int(refused.value.status), refused.value.size

    def kept(self) -> list[Kept]:
        """What was kept; each is the log's own word."""
        for kept in self.records.kept():
            assert open_checkpoint(kept.note.encode(), LogTrust(self.log.key)).checkpoint.size == kept.size
        return self.records.kept()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """What the tests begin with. At its end, the witness stands where the honest log does."""
    made = Watch(tmp_path)
    yield made
    known = made.records.log(made.log.origin)
    assert known is not None
    assert (
        known.seen.root
        == open_checkpoint(str(made.log.note(known.seen.size)).encode(), LogTrust(made.log.key)).checkpoint.root
    )


def test_a_second_tree_of_the_same_size_is_a_fork_whatever_it_came_with(watch: Watch) -> None:
    """Also when the old size is not the witness's, since the two signatures are all that it takes. Each is kept once."""
    for body in (
        watch.fork.submission(20),
        watch.fork.submission(10),
        watch.fork.submission(0),
        watch.fork.submission(20),
    ):
        assert watch.refused(body) == (409, 20)
    (kept,) = watch.kept()
    assert (kept.rule, kept.seen, kept.note) == (Rule.FORK, str(watch.log.note()), str(watch.fork.note()))


def test_a_fork_that_grew_further_is_refused_and_kept_with_its_proof(watch: Watch) -> None:
    """The proof is right for the fork, and does not begin at what was cosigned."""
    watch.fork.grow(33, word="other")
    assert watch.refused(watch.fork.submission(20)) == (422, None)
    (kept,) = watch.kept()
    assert (kept.rule, kept.old, kept.size) == (Rule.UNPROVEN, 20, 33)
    assert len(kept.proof.splitlines()) == len(watch.fork.prove(20, 33))
    with pytest.raises(LogError):
        verify_consistency(
            first=20,
            second=33,
            proof=watch.fork.prove(20, 33),
            first_root=open_checkpoint(kept.seen.encode(), LogTrust(watch.log.key)).checkpoint.root,
            second_root=kept.root,
        )


def test_a_log_set_back_to_an_old_database_gets_nothing_until_it_is_the_same_again(watch: Watch) -> None:
    """Smaller trees that were true once, and the forks that grow from them."""
    for old, size in ((0, 15), (15, 15), (10, 15), (15, 20)):
        assert watch.refused(watch.log.submission(old, size)) == (409, 20)
    assert watch.kept() == []
    restored = GrowingLog(watch.log.origin, watch.log.private).grow(15).grow(25, word="since")
    assert watch.refused(restored.submission(15)) == (409, 20)
    assert watch.refused(restored.submission(20, 20)) == (409, 20)
    assert watch.refused(restored.submission(20)) == (422, None)
    assert [(kept.rule, kept.size) for kept in watch.kept()] == [(Rule.FORK, 20), (Rule.UNPROVEN, 25)]


def test_a_stranger_cannot_frame_a_log(watch: Watch) -> None:
    """Who puts a false proof beside a true checkpoint makes it unproven, not a fork; and no more so once it is cosigned."""
    watch.log.grow(40)
    assert watch.refused(submission(20, [bytes(32)] * 5, watch.log.note())) == (422, None)
    assert watch.refused(submission(20, [], watch.log.note(30))) == (422, None)
    assert [(kept.rule, kept.size) for kept in watch.kept()] == [(Rule.UNPROVEN, 40), (Rule.UNPROVEN, 30)]
    watch.witness.add_checkpoint(watch.log.submission(20))
    assert [kept.size for kept in watch.kept()] == [30]


def test_what_others_signed_is_not_kept(watch: Watch) -> None:
    """A fork under another key is nobody's fork, and fills no disk."""
    forger = GrowingLog(watch.log.origin).grow(20, word="other")
    assert watch.refused(forger.submission(20)) == (403, None)
    assert watch.kept() == []


def test_a_log_that_forks_without_end_fills_no_disk(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first so many prove it; of either rule."""
    monkeypatch.setattr("blindgate_witness.records.MOST_KEPT", 3)
    assert MOST_KEPT == 1000
    for number in range(5):
        fork = GrowingLog(watch.log.origin, watch.log.private).grow(21, word=f"fork {number}")
        watch.refused(fork.submission(20, 20))
        watch.refused(fork.submission(20, 21))
    assert [kept.rule for kept in watch.kept()].count(Rule.FORK) == 3
    assert len(watch.kept()) == 6


def test_a_new_key_of_a_log_does_not_let_it_begin_anew(watch: Watch) -> None:
    """Its tree must continue what was seen under the key before."""
    watch.log = rekeyed = GrowingLog(watch.log.origin).grow(20)
    watch.records.remove(watch.log.origin)
    watch.records.add(rekeyed.key)
    assert watch.refused(rekeyed.submission(0)) == (409, 20)
    assert watch.refused(GrowingLog(watch.log.origin, rekeyed.private).grow(30, word="new").submission(20)) == (
        422,
        None,
    )
    assert watch.witness.add_checkpoint(rekeyed.grow(30).submission(20)).startswith("— w ")


def test_a_clock_that_goes_back_is_not_followed(watch: Watch) -> None:
    """The time in a cosignature is never before the last."""
    watch.clock = 10.0
    watch.log.grow(21)
    watch.witness.add_checkpoint(watch.log.submission(20))
    known = watch.records.log(watch.log.origin)
    assert known is not None
    assert known.seen.seconds == 1000

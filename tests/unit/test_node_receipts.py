"""The receipts that a node has signed, over restarts."""

import resource
from pathlib import Path

import pytest

from blindgate_node.receipts import Journal
from blindgate_node.transport import LeaseName
from blindgate_protocol.nodes import EnrolmentRequest
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Envelope, SigningKey

LEASE = LeaseName("ab" * 16, 2, "t" * 32)


def envelope(text: str) -> Envelope:
    """Something signed."""
    key = SigningKey.generate()
    return key.sign(EnrolmentRequest(node=key.id, gateway=text, challenge="", issued=0)).envelope


def test_a_receipt_is_found_again_by_the_next_process(tmp_path: Path) -> None:
    """The same lease again gets the same receipt, whatever happened to the node in between."""
    file = tmp_path / "receipts.jsonl"
    receipt = envelope("a")
    Journal(file, 0).keep(LEASE, receipt, deadline=1000, now=0)
    found = Journal(file, 0)
    assert found.find(LEASE) == receipt
    assert found.find(LeaseName(LEASE.job, 3, LEASE.token)) is None


def test_a_lease_token_is_not_written_down(tmp_path: Path) -> None:
    """The file is of no use to whoever reads it."""
    file = tmp_path / "receipts.jsonl"
    Journal(file, 0).keep(LEASE, envelope("a"), deadline=1000, now=0)
    assert LEASE.token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("cut", [2, 10, 200])
def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path, cut: int) -> None:
    """It was never sent, and what came before it is not lost."""
    file = tmp_path / "receipts.jsonl"
    journal = Journal(file, 0)
    journal.keep(LEASE, envelope("a"), deadline=1000, now=0)
    journal.keep(LeaseName("cd" * 16, 1, "t" * 32), envelope("b"), deadline=1000, now=0)
    file.write_bytes(file.read_bytes()[:-cut])
    again = Journal(file, 0)
    assert again.find(LEASE) is not None
    assert again.find(LeaseName("cd" * 16, 1, "t" * 32)) is None
    again.keep(LeaseName("ef" * 16, 1, "t" * 32), envelope("c"), deadline=1000, now=0)
    assert Journal(file, 0).find(LeaseName("ef" * 16, 1, "t" * 32)) is not None


def test_a_receipt_whose_order_is_over_is_forgotten(tmp_path: Path) -> None:
    """The file does not grow for ever."""
    file = tmp_path / "receipts.jsonl"
    Journal(file, 0).keep(LEASE, envelope("a"), deadline=1000, now=0)
    assert Journal(file, 1000 + CLOCK_SKEW).find(LEASE) is None
    assert file.read_bytes() == b""


def test_a_receipt_that_finds_no_room_is_an_error_and_spoils_no_other(tmp_path: Path) -> None:
    """What is on a disk that is full is what was there before, and the next receipt is found again."""
    file = tmp_path / "receipts.jsonl"
    unlucky, later = LeaseName("cd" * 16, 1, "t" * 32), LeaseName("ef" * 16, 1, "t" * 32)
    journal = Journal(file, 0)
    journal.keep(LEASE, envelope("a"), deadline=1000, now=0)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 50, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.keep(unlucky, envelope("b"), deadline=1000, now=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert journal.find(unlucky) is None
    journal.keep(later, envelope("c"), deadline=1000, now=0)
    again = Journal(file, 0)
    assert [again.find(lease) is not None for lease in (LEASE, unlucky, later)] == [True, False, True]

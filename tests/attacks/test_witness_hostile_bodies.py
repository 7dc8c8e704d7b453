"""Bytes from anybody, sent to a witness: none of them makes it fail, or sign another tree than the one that it verified."""

import base64
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import campaigns
from blindgate_protocol.checkpoints import Checkpoint, verify_cosignature
from blindgate_protocol.notes import MOST_SIGNATURES, Note, SignatureLine, parse_note
from blindgate_witness.records import Records
from blindgate_witness.signer import Signer
from blindgate_witness.submissions import MAX_SUBMISSION_BYTES, RefusedError
from blindgate_witness.witness import Witness
from growing_log import GrowingLog, submission
from witness_process import WitnessProcess, running_witness

CASES = campaigns.of(10_000, slice_of=1000)
LOG = GrowingLog().grow(20)
PROOF = LOG.prove(10, 20)
GOOD = LOG.submission(10)
HEAD, _, NOTE = GOOD.partition(b"\n\n")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessProcess]:
    """A real witness that cosigned the first ten entries."""
    with running_witness(tmp_path_factory.mktemp("hostile") / "witness", LOG.key) as running:
        assert running.send(LOG.submission(0, 10))[0] == 200
        yield running


def _signed_by_many(lines: int, *, length: int = 64, log: GrowingLog = LOG) -> bytes:
    others = tuple(SignatureLine(f"other-{number}", bytes(4), bytes(length)) for number in range(lines))
    note = log.note()
    return submission(10, PROOF, Note(note.text, (*others, *note.lines)))


_BODIES = {
    "nothing": (b"", 400),
    "garbage": (random.Random(1).randbytes(5000), 400),
    "zeros": (bytes(5000), 400),
    "newlines": (b"\n" * 60_000, 400),
    "no old": (GOOD.removeprefix(b"old 10\n"), 400),
    "old without a number": (GOOD.replace(b"old 10", b"old "), 400),
    "old with zeroes in front": (GOOD.replace(b"old 10", b"old 010"), 400),
    "old below zero": (GOOD.replace(b"old 10", b"old -10"), 400),
    "old with a plus": (GOOD.replace(b"old 10", b"old +10"), 400),
    "old in other digits": (GOOD.replace(b"old 10", "old \u0661\u0660".encode()), 400),
    "old beyond counting": (GOOD.replace(b"old 10", b"old " + b"9" * 4000), 400),
    "old above the checkpoint's": (GOOD.replace(b"old 10", b"old 9999999999999999"), 400),
    "old with a carriage return": (GOOD.replace(b"old 10\n", b"old 10\r\n"), 400),
    "no empty line": (HEAD + b"\n" + NOTE, 400),
    "no checkpoint": (HEAD + b"\n\n", 400),
    "64 hashes": (submission(10, [bytes(32)] * 64, LOG.note()), 400),
    "63 hashes": (submission(10, [bytes(32)] * 63, LOG.note()), 422),
    "a short hash": (GOOD.replace(HEAD, b"old 10\nAAAA"), 400),
    "a long hash": (GOOD.replace(HEAD, b"old 10\n" + base64.b64encode(bytes(33))), 400),
    "a hash that is no base64": (GOOD.replace(HEAD, b"old 10\n" + b"*" * 44), 400),
    "a hash in the base64 of URLs": (GOOD.replace(HEAD, b"old 10\n" + base64.urlsafe_b64encode(b"\xff" * 32)), 400),
    "a hash with bits left over": (GOOD.replace(HEAD, b"old 10\n" + b"A" * 42 + b"B="), 400),
    "a hash with a space": (GOOD.replace(HEAD, HEAD + b" "), 400),
    "a checkpoint without signatures": (HEAD + b"\n\n" + LOG.note().text.encode() + b"\n", 400),
    "65 signatures": (_signed_by_many(MOST_SIGNATURES), 400),
    "400 signatures": (_signed_by_many(400), 400),
    "a signature that is no base64": (GOOD[:-5] + b"****\n", 400),
    "a signature in hyphens": (GOOD.replace("— ".encode(), b"- "), 400),
    "no newline at the end": (GOOD[:-1], 400),
    "more behind the end": (GOOD + b"x", 400),
    "a control character": (GOOD.replace(b"\n20\n", b"\n20\n\x1b[2J\n"), 400),
    "a size of many digits": (GOOD.replace(b"\n20\n", b"\n" + b"2" * 17 + b"\n"), 400),
    "a size that is not signed": (GOOD.replace(b"\n20\n", b"\n21\n"), 403),
    "an origin that is a path": (GOOD.replace(LOG.origin.encode(), b"../../etc/passwd"), 404),
    "an origin that is SQL": (GOOD.replace(LOG.origin.encode(), b"'OR(1=1)--"), 404),
    "not UTF-8": (GOOD.replace(b"example", b"ex\xe4mple"), 400),
    "as long as may be": (b"old 10\n\n" + b"x" * (MAX_SUBMISSION_BYTES - 8), 400),
    "longer": (b"x" * (MAX_SUBMISSION_BYTES + 1), 413),
}


@pytest.mark.parametrize(("body", "status"), _BODIES.values(), ids=_BODIES.keys())
def test_a_body_is_what_it_must_be_or_refused(serving: WitnessProcess, body: bytes, status: int) -> None:
    """By the real process, in one line of plain text, and nothing changes."""
    answered, kind, said = serving.send(body)
    assert answered == status
    assert kind.startswith("text/plain")
    assert said.count(b"\n") == 1
    assert len(said) < 300
    assert _seen(serving, LOG) == 10


@pytest.mark.parametrize(("lines", "length"), [(MOST_SIGNATURES - 1, 64), (40, 1024)])
def test_signatures_of_others_are_carried_by_as_many_as_fit(serving: WitnessProcess, lines: int, length: int) -> None:
    """None of them is looked at, and the log's own counts."""
    log = GrowingLog(f"with-{lines}.example").grow(20)
    Records(serving.data / "witness.sqlite3").add(log.key)
    assert serving.send(log.submission(0, 10))[0] == 200
    assert serving.send(_signed_by_many(lines, length=length, log=log))[0] == 200
    assert _seen(serving, log) == 20


def test_a_body_is_refused_by_its_length_before_it_comes(serving: WitnessProcess) -> None:
    """Announced as a terabyte; and one in chunks, of which nobody knows the length, as soon as it is too long."""
    head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n"
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as caller:
        caller.sendall(head + b"Content-Length: 1099511627776\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as caller:
        caller.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + bytes(0x8000) + b"\r\n")
        caller.sendall(b"FFFFFFFF\r\n" + bytes(0x8800))
        assert caller.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks_is_a_body(serving: WitnessProcess) -> None:
    """What is not too long is read like any other."""
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as caller:
        caller.sendall(
            b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n"
        )
        assert caller.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("seed", [campaigns.of(random.SystemRandom().randrange(1 << 32), slice_of=0)])
def test_no_altered_submission_gets_another_tree_cosigned(tmp_path: Path, seed: int) -> None:
    """Bits flipped, bytes cut out, put in, lines mixed: it is refused, or what is signed is the log's own tree."""
    records = Records.create(tmp_path / "witness.sqlite3")
    witness = Witness(Signer.generate("w"), records, lambda: 1000.0)
    records.add(LOG.key)
    witness.add_checkpoint(LOG.submission(0, 10))
    chance = random.Random(seed)
    statuses: Counter[int] = Counter()
    for number in range(CASES):
        body = _altered(GOOD, chance)
        try:
            lines = witness.add_checkpoint(body)
        except RefusedError as refused:
            statuses[refused.status] += 1
            continue
        statuses[200] += 1
        (line,) = parse_note(f"{LOG.note().text}\n{lines}".encode()).lines
        assert verify_cosignature(Checkpoint.parse(LOG.note().text), line, witness.signer.key) == 1000, (
            f"{seed}, {number}"
        )
    assert {kept.size for kept in records.kept()} <= {20}
    assert set(statuses) <= {200, 400, 403, 404, 409, 422}
    print(f"seed {seed}: {dict(statuses)}")


def _altered(body: bytes, chance: random.Random) -> bytes:
    made = bytearray(body)
    at = chance.randrange(len(made))
    kind = chance.randrange(5)
    if kind == 0:
        made[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del made[at : at + chance.randrange(1, 60)]
    elif kind == 2:
        made[at:at] = chance.randbytes(chance.randrange(1, 60))
    elif kind == 3:
        made[at:at] = made[: chance.randrange(len(made))]
    else:
        lines = bytes(made).split(b"\n")
        chance.shuffle(lines)
        made = bytearray(b"\n".join(lines))
    return bytes(made)


def _seen(witness: WitnessProcess, log: GrowingLog) -> int:
    known = Records(witness.data / "witness.sqlite3").log(log.origin)
    assert known is not None
    return known.seen.size


def test_its_log_holds_nothing_of_what_was_sent(serving: WitnessProcess) -> None:
    """Lines of JSON, one an answer; no traceback."""
    serving.send(b"old 0\n\nCANARY\n")
    lines = serving.log.read_text().splitlines()
    assert all(json.loads(line)["event"] for line in lines)
    assert not re.search(r"CANARY|Traceback|passwd|\\u001b", "\n".join(lines))

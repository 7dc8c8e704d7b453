"""Sealed streams and seals: what was sealed comes out, in whatever pieces it travels, and nothing that is near it."""

import itertools
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_protocol.chunks import Opener, RequestStream, Sealer
from blindgate_protocol.errors import ChunkError, MalformedError, SealError, TruncatedError
from blindgate_protocol.evidence import Evidence, KeySet
from blindgate_protocol.padding import MAX_CHUNK_BYTES, Padding
from blindgate_protocol.sealing import Seal, open_seal, seal_key
from campaigns import CAMPAIGN
from sealed_jobs import CLASSIC, CONTENT_KEY, HYBRID, JOB, NONCE, ORDER, T, binding, evidence, offered, terms, wrapped

MUTATIONS = 300 * CAMPAIGN
BUCKETS = Padding(rule="buckets", buckets=(8, 32))


@st.composite
def paddings(draw: st.DrawFn) -> Padding:
    """Any rule, with small buckets too."""
    rule: Literal["none", "powers", "buckets"] = draw(st.sampled_from(["none", "powers", "buckets"]))
    if rule != "buckets":
        return Padding(rule=rule)
    sizes = draw(st.sets(st.integers(1, 300), min_size=1, max_size=5))
    return Padding(rule="buckets", buckets=tuple(sorted(sizes)))


def request(padding: Padding) -> RequestStream:
    """The context of a request."""
    return RequestStream(job=JOB, padding=padding)


def sealed(pieces: list[bytes], stream: RequestStream, nonce: bytes = NONCE) -> list[bytes]:
    """The nonce, and each chunk."""
    sealer = Sealer(CONTENT_KEY, stream, draw=lambda _: nonce)
    first, *rest = [sealer.seal(piece) for piece in pieces] + [sealer.finish()]
    return [first[:32], first[32:], *rest]


def opened(data: bytes, stream: RequestStream) -> list[bytes]:
    """The whole of a stream, or an error."""
    opener = Opener(CONTENT_KEY, stream)
    found = opener.feed(data)
    opener.finish()
    return found


@given(
    padding=paddings(),
    pieces=st.lists(st.binary(max_size=700), max_size=6),
    last=st.binary(max_size=700),
    cuts=st.lists(st.integers(0, 6000), max_size=8),
)
@settings(max_examples=100 * CAMPAIGN)
def test_what_was_sealed_comes_out_in_whatever_pieces_it_travels(
    padding: Padding, pieces: list[bytes], last: bytes, cuts: list[int]
) -> None:
    """Under every rule of padding, cut anywhere; and each chunk's length is one that the rule gives."""
    stream = request(padding)
    sealer = Sealer(CONTENT_KEY, stream)
    data = b"".join([*(sealer.seal(piece) for piece in pieces), sealer.finish(last)])
    opener = Opener(CONTENT_KEY, stream, most_bytes=sum(map(len, pieces)) + len(last))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [out for begin, end in itertools.pairwise(edges) for out in opener.feed(data[begin:end])]
    opener.finish()
    assert b"".join(found) == b"".join(pieces) + last
    assert opener.done
    assert opener.chunks == sealer.chunks == len(found)
    assert len(data) == 32 + sum(24 + padding.size_of(len(each)) for each in found)


@given(padding=paddings(), length=st.integers(0, MAX_CHUNK_BYTES))
def test_a_size_is_no_smaller_than_its_data_and_is_its_own_size(padding: Padding, length: int) -> None:
    """So a reader can tell a size that the rule gives from one that it does not."""
    length = min(length, padding.capacity)
    size = padding.size_of(length)
    assert length <= size <= padding.capacity
    assert padding.size_of(size) == size


@pytest.mark.parametrize("padding", [Padding(), BUCKETS], ids=["none", "buckets"])
def test_every_bit_of_a_stream_counts(padding: Padding) -> None:
    """Each, flipped alone, is refused; the nonce's and the headers' too."""
    stream = request(padding)
    good = b"".join(sealed([b"a prompt", b"b"], stream))
    for place in range(8 * len(good)):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        with pytest.raises((ChunkError, TruncatedError)):
            opened(bytes(bad), stream)


def test_chunks_open_in_their_order_alone() -> None:
    """Of four chunks, every other sequence of up to five is refused: permuted, dropped, doubled, ended early, gone on with."""
    stream = request(BUCKETS)
    head, *chunks = sealed([b"a", b"b", b"c"], stream)
    tried = 0
    for count in range(6):
        for places in itertools.product(range(4), repeat=count):
            if places == (0, 1, 2, 3):
                continue
            with pytest.raises(ChunkError):
                opened(head + b"".join(chunks[place] for place in places), stream)
            tried += 1
    assert tried == 1364
    assert opened(head + b"".join(chunks), stream) == [b"a", b"b", b"c", b""]


def test_two_streams_do_not_mix() -> None:
    """Of one job, one key and one direction: whichever chunks of the second are put into the first, it does not open."""
    stream = request(BUCKETS)
    head, *chunks = sealed([b"a", b"b", b"c"], stream)
    _, *others = sealed([b"a", b"b", b"c"], stream, bytes(32))
    for swapped in itertools.product([False, True], repeat=4):
        if any(swapped):
            mixed = [other if swap else chunk for chunk, other, swap in zip(chunks, others, swapped, strict=True)]
            with pytest.raises(ChunkError):
                opened(head + b"".join(mixed), stream)


def mutated(data: bytes, draw: random.Random) -> Iterator[bytes]:
    """Bytes that differ from `data`: flipped, cut, filled, moved, taken out."""
    while True:
        bad, place, other = bytearray(data), draw.randrange(len(data)), draw.randrange(len(data))
        begin, end = min(place, other), max(place, other)
        match draw.randrange(6):
            case 0:
                bad[place] ^= 1 << draw.randrange(8)
            case 1:
                del bad[place:]
            case 2:
                del bad[begin:end]
            case 3:
                bad[place:place] = draw.randbytes(draw.randrange(1, 40))
            case 4:
                bad[begin:end] = data[other : other + end - begin]
            case _:
                bad[begin:begin] = data[begin:end]
        if bad != data:
            yield bytes(bad)


def test_mutated_streams_give_nothing_but_a_beginning() -> None:
    """Each is refused by name, and what came out before is the beginning of what was sealed."""
    stream, draw = request(BUCKETS), random.Random(86)
    pieces = [b"a prompt that is ", b"longer", b" than one", b" chunk"]
    good = b"".join(sealed(pieces, stream))
    for bad in itertools.islice(mutated(good, draw), MUTATIONS):
        opener, found = Opener(CONTENT_KEY, stream), b""
        with pytest.raises(ChunkError) as caught:  # noqa: PT012  (what came before the error is looked at)
            for at in range(0, len(bad), 16):
                found += b"".join(opener.feed(bad[at : at + 16]))
            opener.finish()
        assert caught.value.code in {"bad-chunk", "truncated-stream"}
        assert b"".join(pieces).startswith(found)


def test_mutated_seals_open_nothing() -> None:
    """By X25519 and by X-Wing; every one is refused by name."""
    draw = random.Random(87)
    for node, made in (
        (CLASSIC, Seal(terms=terms(), recipients=(wrapped(terms()),))),
        (HYBRID, seal_key(CONTENT_KEY, terms(), [offered(HYBRID).document], now=T)),
    ):
        shown = {evidence(node.key_set).digest: binding(node.key_set)}
        assert open_seal(made, node, order=ORDER, shown=shown, now=T).content_key.secret() == CONTENT_KEY.secret()
        for bad in itertools.islice(mutated(made.to_bytes(), draw), MUTATIONS):
            with pytest.raises((SealError, MalformedError)):
                open_seal(Seal.from_bytes(bad), node, order=ORDER, shown=shown, now=T)


def test_every_bit_of_a_wrapped_key_counts() -> None:
    """Encapsulation, ciphertext and tag; an encapsulation's unused top bit too, so a replay cannot be dressed up as another."""
    good = wrapped(terms())
    for place in range(8 * len(good.sealed)):
        bad = bytearray(good.sealed)
        bad[place // 8] ^= 1 << place % 8
        with pytest.raises(SealError):
            CLASSIC.unwrap(good.model_copy(update={"sealed": bytes(bad)}), terms())


def test_mutated_key_sets_and_evidence_have_another_name() -> None:
    """Whatever still reads is not what was signed: its digest differs. All else is refused by name."""
    draw = random.Random(88)
    kinds: tuple[type[KeySet | Evidence], ...] = (KeySet, Evidence)
    for kind, good in zip(kinds, (HYBRID.key_set, evidence(CLASSIC.key_set)), strict=True):
        for bad in itertools.islice(mutated(good.to_bytes(), draw), MUTATIONS):
            with suppress(MalformedError):
                found = kind.from_bytes(bad)
                assert found.digest != good.digest
                assert found.to_bytes() == bad

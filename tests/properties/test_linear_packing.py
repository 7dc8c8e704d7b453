"""The packing of rows into polynomials: every score has a place of its own, and every length follows from the rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_models.linear.packing import MAX_BLOB_BYTES, Magic, Packing, Way, pack_words, unpack_words
from blindgate_models.linear.spec import Parameters

PARAMETERS = Parameters(scheme="ckks", degree=4096, modulus_bits=48, input_scale_bits=22, weight_scale_bits=20)
FEATURES = st.one_of(st.integers(1, 64), st.integers(1, 2048), st.integers(2049, 16_384))
OUTPUTS = st.one_of(st.integers(1, 4), st.integers(1, 256))


@settings(max_examples=100)
@given(features=FEATURES, outputs=OUTPUTS, rows=st.integers(1, 9000))
def test_every_row_and_score_lies_somewhere_once(features: int, outputs: int, rows: int) -> None:
    """Blocks cover the rows in order, scores cover the outputs, and places are distinct and within the polynomial."""
    packing = Packing(PARAMETERS, features, outputs)
    following = 0
    for block in packing.blocks(rows):
        assert block.start == following
        following += block.rows
        covered = [score for output in range(block.outputs) for score in packing.scores(block, output)]
        assert covered == list(range(outputs))
        for output in {0, block.outputs - 1}:
            places = packing.places(block, output)
            assert places.shape == (block.rows, len(packing.scores(block, output)))
            assert len(np.unique(places)) == places.size
            assert 0 <= places.min() <= places.max() < PARAMETERS.degree
    assert following == rows


@settings(max_examples=100)
@given(features=FEATURES, outputs=OUTPUTS, seed=st.integers(0, 2**32))
def test_packed_by_rows_each_place_holds_one_score_and_no_cross_sum(features: int, outputs: int, seed: int) -> None:
    """The product of the two polynomials, reduced by X^N + 1, has w·x exactly where `places` says."""
    packing = Packing(PARAMETERS, features, outputs)
    block = next(iter(packing.blocks(1)))._replace(
        way=Way.ROWS, rows=packing.capacity, inputs=packing.pieces, outputs=-(-outputs // packing.group)
    )
    rng = np.random.default_rng(seed)
    rows, weights = (rng.integers(-9, 10, (count, features)).astype(float) for count in (packing.capacity, outputs))
    width, stride = packing.width, packing.stride
    length = 2 * PARAMETERS.degree
    for output in range(block.outputs):
        scores = packing.scores(block, output)
        reduced = np.zeros(PARAMETERS.degree)
        for first in range(0, features, width):
            piece = slice(first, min(first + width, features))
            data, factor = np.zeros((packing.capacity, stride)), np.zeros((len(scores), width))
            data[:, : piece.stop - first] = rows[:, piece]
            factor[:, width - (piece.stop - first) :] = weights[scores, piece][:, ::-1]
            product = np.fft.irfft(np.fft.rfft(data.ravel(), length) * np.fft.rfft(factor.ravel(), length), length)
            reduced += np.rint(product[: PARAMETERS.degree] - product[PARAMETERS.degree :])
        assert (reduced[packing.places(block, output)] == rows @ weights[scores].T).all()


@settings(max_examples=100)
@given(features=FEATURES, outputs=OUTPUTS, rows=st.integers(1, 9000))
def test_the_cheaper_way_is_taken(features: int, outputs: int, rows: int) -> None:
    """No job sends and receives more than it would with one column a polynomial, nor much more for being small."""
    packing = Packing(PARAMETERS, features, outputs)
    total = packing.input_bytes(rows) + packing.result_bytes(rows)
    blocks = -(-rows // 4096)
    columns = blocks * (features * packing.input_polynomial_bytes + outputs * 4096 * 2 * 5) + 88
    assert total <= columns
    assert packing.input_bytes(1) <= 44 + -(-features // 4096) * packing.input_polynomial_bytes


@settings(max_examples=40)
@given(features=FEATURES, outputs=OUTPUTS, data=st.data())
def test_no_job_is_longer_than_the_limits_say(features: int, outputs: int, data: st.DataObject) -> None:
    """A manifest's limits hold for every number of rows, also just before the packing changes its way."""
    packing = Packing(PARAMETERS, features, outputs)
    whole = packing.rows_per_blob
    most = data.draw(st.integers(1, whole) | st.integers(1, min(9000, whole)) | st.just(whole))
    for _ in range(10):
        rows = data.draw(st.integers(1, most) | st.integers(max(1, most - 4096), most))
        assert packing.input_bytes(rows) <= packing.most_input_bytes(most)
        assert packing.result_bytes(rows) <= packing.most_result_bytes(most)
    assert packing.most_input_bytes(most) <= MAX_BLOB_BYTES
    assert packing.most_result_bytes(most) <= MAX_BLOB_BYTES


def test_the_limits_are_reached() -> None:
    """They are the longest blobs that there are, found by trying every number of rows."""
    packing = Packing(PARAMETERS, 30, 2)
    for most in (1, 600, 4096, 5000, 8192):
        assert packing.most_input_bytes(most) == max(map(packing.input_bytes, range(1, most + 1)))
        assert packing.most_result_bytes(most) == max(map(packing.result_bytes, range(1, most + 1)))


@given(words=st.lists(st.integers(0, 2**48 - 1), max_size=50), dropped=st.integers(0, 2))
def test_words_come_back_without_their_dropped_bytes(words: list[int], dropped: int) -> None:
    """What is packed is read back, low bytes as zero."""
    packed = pack_words(np.array(words, dtype=np.uint64), 6, dropped)
    assert len(packed) == len(words) * (6 - dropped)
    expected = [word >> 8 * dropped << 8 * dropped for word in words]
    assert unpack_words(memoryview(packed), 6, dropped).tolist() == expected


@given(rows=st.integers(0, 2**32 - 1), junk=st.binary(max_size=200))
def test_a_blob_is_opened_only_at_its_exact_length(rows: int, junk: bytes) -> None:
    """A header that claims any number of rows is checked against the bytes that are there."""
    packing = Packing(PARAMETERS, 5, 2)
    with pytest.raises(ValueError, match=r"^(rows|length)"):
        packing.open_blob(Magic.INPUT, packing.header(Magic.INPUT, rows) + junk)

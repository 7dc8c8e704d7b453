"""A frame tells a message of Concrete from everything else, but for its random words."""

import numpy as np
import pytest
from pydantic import ValidationError

from blindgate_models.concrete.client import Bins, Scores, Uniform
from blindgate_models.concrete.spec import Frame

FIXED = bytes(range(64))


def message(seed: int, *holes: tuple[int, int]) -> bytes:
    """64 fixed bytes with random words in the holes."""
    data = bytearray(FIXED)
    generator = np.random.default_rng(seed)
    for start, length in holes:
        data[start : start + length] = generator.bytes(length)
    return bytes(data)


def test_a_frame_is_what_messages_have_in_common() -> None:
    """Random words may be anything; everything else must be as the compiler saw it."""
    holes = ((8, 16), (40, 8))
    frame = Frame.of([message(seed, *holes) for seed in range(2)], 2)
    assert frame.holes == [[8, 16], [40, 8]]
    assert frame.fits(memoryview(message(99, *holes)))
    for position in range(64):
        changed = bytearray(message(99, *holes))
        changed[position] ^= 1
        inside = any(start <= position < start + length for start, length in holes)
        assert frame.fits(memoryview(bytes(changed))) is inside


@pytest.mark.parametrize("length", [0, 56, 63, 65, 72, 128])
def test_another_size_never_fits(length: int) -> None:
    """Truncated and extended messages are told by their size alone."""
    frame = Frame.of([message(1, (8, 16)), message(2, (8, 16))], 1)
    assert not frame.fits(memoryview(bytes(length)))


def test_an_equal_word_by_chance_does_not_split_a_hole() -> None:
    """One word that two messages share is still a random word."""
    first, second = bytearray(message(1, (8, 48))), bytearray(message(2, (8, 48)))
    second[24:32] = first[24:32]
    assert Frame.of([bytes(first), bytes(second)], 1).holes == [[8, 48]]


def test_messages_of_another_shape_are_no_frame() -> None:
    """The compiler notices when Concrete's serialisation is not what this was written for."""
    with pytest.raises(ValueError, match="3 runs"):
        Frame.of([message(1, (8, 16)), message(2, (8, 16))], 3)


@pytest.mark.parametrize(
    "holes",
    [
        pytest.param([[8, 16], [16, 8]], id="overlapping"),
        pytest.param([[56, 16]], id="past the end"),
        pytest.param([[8, 0]], id="empty"),
        pytest.param([[40, 8], [8, 8]], id="out of order"),
        pytest.param([[-8, 8]], id="before the start"),
        pytest.param([[8]], id="half a hole"),
    ],
)
def test_a_frame_with_impossible_holes_does_not_parse(holes: list[list[int]]) -> None:
    """A part cannot blind the check with holes that are none."""
    with pytest.raises(ValidationError):
        Frame(size=64, holes=holes, sha256="0" * 64)


def test_uniform_rounds_and_clips_like_concrete_ml() -> None:
    """Q = clip(rint(x / scale + zero_point)), halves to even."""
    quantiser = Uniform(kind="uniform", centre=[10], spread=[2.0], scale=0.5, zero_point=1, minimum=-2, maximum=3)
    rows = np.array([[10.0], [10.5], [11.5], [1e9], [-1e9], [9.0]])
    assert quantiser.apply(rows).ravel().tolist() == [1, 2, 2, 3, -2, 0]


def test_bins_count_the_edges_that_are_reached() -> None:
    """An edge itself is reached; columns without edges are always 0."""
    rows = np.array([[0.5, 7.0], [1.0, 7.0], [1.5, 7.0], [2.0, 7.0], [9.0, 7.0]])
    bins = Bins(kind="bins", edges=[[1.0, 2.0], []])
    assert bins.apply(rows).tolist() == [[0, 0], [1, 0], [1, 0], [2, 0], [2, 0]]


def test_scores_add_trees_up_and_keep_classes_apart() -> None:
    """One circuit's integers, dequantised, summed over the trees, with the bias that the circuit does not hold."""
    values = np.array([[[1, 2, 3], [4, 5, 6]]])
    trees = Scores(scale=0.5, zero_point=[1.0], trees=True, bias=[10.0, 20.0])
    assert trees.apply(values).tolist() == [11.5, 26.0]
    linear = Scores(scale=0.5, zero_point=[1.0, 2.0], trees=False, bias=[0.0, 0.0])
    assert linear.apply(np.array([[5, 6]])).tolist() == [2.0, 2.0]

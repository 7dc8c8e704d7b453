"""The attacks on what was rejected, on made vectors: each finds what is there to be found, and nothing where nothing is."""

from collections.abc import Iterable

import numpy as np
import pytest
from bench.rejected import (
    Finding,
    Floats,
    World,
    alike,
    bits_told,
    cells,
    hint_of,
    hints,
    index_of,
    noise,
    noisy,
    paired_by_distances,
    paired_by_values,
    picked,
    procrustes,
    reidentified,
    rotated,
    rotation,
)

WIDTH = 32
PASSAGES = 400
QUESTIONS = 60


def unit(draw: np.random.Generator, count: int) -> Floats:
    """Vectors of unit length in ten clusters, with the digits of float32."""
    centres = np.random.default_rng(99).normal(size=(10, WIDTH))
    points = centres[draw.integers(0, 10, count)] + draw.normal(size=(count, WIDTH))
    return np.asarray(
        (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32).astype(np.float64), dtype=np.float64
    )


@pytest.fixture(scope="module")
def world() -> World:
    """Questions, each near the passage that is relevant to it."""
    draw = np.random.default_rng(1)
    passages = unit(draw, PASSAGES)
    near = passages[:QUESTIONS] + 0.05 * draw.normal(size=(QUESTIONS, WIDTH))
    return World(
        passages,
        np.arange(PASSAGES, dtype=np.int64),
        np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True)),
        [{str(place): 1} for place in range(QUESTIONS)],
    )


def by_case(findings: Iterable[Finding]) -> dict[str, dict[str, float]]:
    """The figures of each case."""
    return {finding.case: dict(finding.figures) for finding in findings}


def test_a_little_noise_hides_no_text_and_much_hides_all() -> None:
    """Of 400 candidates: all found, and hardly one."""
    vectors = unit(np.random.default_rng(2), PASSAGES)
    same = alike(vectors)
    assert reidentified(noisy(vectors, 0.5, np.random.default_rng(3)), vectors, same) == 1
    assert reidentified(noisy(vectors, 100, np.random.default_rng(3)), vectors, same) < 0.05


def test_either_of_two_equal_texts_counts_as_found() -> None:
    """What two texts have in common does not count as a miss."""
    vectors = unit(np.random.default_rng(2), 5)[[0, 1, 2, 1, 4]]
    assert alike(vectors).tolist() == [0, 1, 2, 1, 4]
    assert reidentified(vectors, vectors, alike(vectors)) == 1


def test_as_many_pairs_as_columns_give_a_rotation_away() -> None:
    """The matrix itself; fewer pairs give it where they reach, which tells questions apart."""
    draw = np.random.default_rng(4)
    secret, vectors = rotation(WIDTH, draw), unit(draw, PASSAGES)
    assert np.allclose(secret @ secret.T, np.eye(WIDTH))
    assert np.allclose(procrustes(vectors[:WIDTH], vectors[:WIDTH] @ secret), secret)
    few = procrustes(vectors[:5], vectors[:5] @ secret)
    assert np.linalg.matrix_rank(few) == 5
    assert reidentified(vectors @ secret, vectors @ few, alike(vectors)) == 1
    assert reidentified(vectors @ secret, vectors, alike(vectors)) < 0.05


def test_inner_products_pair_texts_with_rotated_vectors() -> None:
    """All texts, or half of them: each is found at its place in an index in another order."""
    draw = np.random.default_rng(5)
    vectors, order = unit(draw, PASSAGES), draw.permutation(PASSAGES)
    index = (vectors[order] @ rotation(WIDTH, draw)).astype(np.float32).astype(np.float64)
    assert (order[paired_by_distances(vectors, index)] == np.arange(PASSAGES)).all()
    half = vectors[: PASSAGES // 2]
    assert (order[paired_by_values(half, index, draw)] == np.arange(PASSAGES // 2)).all()


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
def test_a_hint_gives_the_index(kind: type[np.uint32 | np.uint64]) -> None:
    """Every number, its sign too, from a hint with more columns than the index has; from fewer none is claimed."""
    draw = np.random.default_rng(6)
    index = draw.integers(-127, 128, (20, WIDTH)).astype(np.int8)
    public = draw.integers(0, np.iinfo(kind).max, (WIDTH, 2 * WIDTH), dtype=kind, endpoint=True)
    assert (index_of(hint_of(index, public), public) == index).all()
    with pytest.raises(ValueError, match=r"31 columns do not determine 32"):
        index_of(hint_of(index, public[:, :31]), public[:, :31])


def test_a_cell_tells_as_many_bits_as_it_divides_questions() -> None:
    """No bit where all are in one, two where they are in four equal ones; a guess is as good as that."""
    one, four, each = np.zeros(8, dtype=np.int64), np.arange(8) % 4, np.arange(8)
    assert [bits_told(seen) for seen in (one, four, each)] == [0, 2, 3]
    assert [picked(seen, 8) for seen in (one, four, each)] == pytest.approx([1 / 8, 1 / 2, 1])
    # one of three others has the same cell as the right one, and then half of the guesses are right
    assert picked(np.asarray([0, 0, 1, 1]), 2) == pytest.approx(5 / 6)


def test_quality_falls_in_front_of_what_noise_hides(world: World) -> None:
    """Without noise all is found; with much of it neither; ten times the same question tell more than one."""
    found = by_case(noise(world, [0, 6], seeds=1))
    none, much = found["of length 0 on questions"], found["of length 6 on questions"]
    assert none == {"ndcg_at_10": 1, "reidentified": 1, "reidentified_asked_ten_times": 1}
    assert much["ndcg_at_10"] < 0.3
    assert much["reidentified"] < much["reidentified_asked_ten_times"]


def test_who_knows_the_rotation_searches_as_its_owner_does(world: World) -> None:
    """By as many pairs as columns, and by no pair where the texts are known."""
    found = by_case(rotated(world, [1, WIDTH], seeds=1))
    assert found[f"{WIDTH} pairs known"]["onlooker_ndcg_at_10"] == pytest.approx(1)
    assert found["1 pairs known"]["onlooker_ndcg_at_10"] < 0.3
    assert found["all texts known, no pair"] == {"paired_rightly": 1, "reidentified": 1, "onlooker_ndcg_at_10": 1}


def test_a_hint_is_larger_than_the_index(world: World) -> None:
    """Of 4 bytes a word, 1,024 words for each entry of `WIDTH` bytes; and the index is solved from it."""
    found = by_case(hints(world, [(1024, 32)]))
    size = found["10000 entries, n = 1024, 32 bits"]
    assert (size["hint_mb"], size["times_the_index"]) == (40.96, 1024 * 4 / WIDTH)
    assert found[f"{PASSAGES} entries solved from theirs, n = 1024, 32 bits"] == {"numbers_recovered": 1}


def test_reading_all_cells_tells_nothing(world: World) -> None:
    """And one of them finds less, and tells something."""
    found = by_case(cells(world, [1]))
    one, every = found["1 of 10 read"], found["10 of 10 read"]
    assert (every["recall_of_the_ten"], every["ndcg_at_10"], every["bits_told"]) == (1, 1, 0)
    assert one["recall_of_the_ten"] < 1
    assert 1 < one["bits_told"] <= np.log2(10)
    assert one["picked_of_10"] > every["picked_of_10"] == pytest.approx(0.1)

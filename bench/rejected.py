"""What was rejected for an index that lives elsewhere, measured: `python -m bench.rejected`, for docs/adr/0031.

On TAT-QA (1,279 paragraphs, 927 questions) by MiniLM, with what whoever has the index would have:

1. *noise*: questions, or the index, with Gaussian noise. Who has the texts says which one a vector is of; quality beside it.
2. *rotation*: a secret orthogonal matrix over index and questions. Who knows paragraphs' vectors in both forms finds the matrix
   (orthogonal Procrustes: Schönemann 1966); who knows texts only pairs them by their inner products, which no rotation changes.
3. *hints*: the plain matrix D·A of schemes like SimplePIR, D the index and A public. What a client fetches, and D solved from it.
4. *cells*: an index of which only the nearest cells are read. What is found, and what the cells that are read say of the question.

No measurement of time, so it is no part of `make bench`. Each part is a function of vectors, which a test calls on made ones. Of
two texts whose vectors are the same (MiniLM sees no capitals) either counts as found.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from bench.rows import machine
from numpy.typing import NDArray

from blindgate_rag.beir import Collection, read_collection
from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from blindgate_rag.evaluation import ndcg
from blindgate_rag.int8 import quantised_entries
from blindgate_rag.rankers import LocalRankers

HERE: Final = Path(__file__).resolve().parent
WIDTHS: Final = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
PAIRS: Final = (1, 2, 5, 10, 100, 384, 500)
SEEDS: Final = 5
TEN: Final = 10
AMONG: Final = 10
PROBES: Final = (1, 2, 8)
HINTS: Final = ((1024, 32), (2048, 32), (1024, 64), (2048, 64))
ERROR: Final = 6.4  # SimplePIR's standard deviation
OURS: Final = {10_000: (1_919_000, 447_000), 100_000: (6_877_000, 1_465_000)}  # bytes up and down, ADR 0008

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Words = NDArray[np.unsignedinteger[Any]]

_EXACT: Final = 1e-7  # how near inner products of the same vectors stay when float32 is rotated
_CHECKED: Final = 16
_DEEP: Final = 40  # passages, for ten documents: few have more than one
_SPARE: Final = 64  # columns of a hint beyond those that are needed: some combinations of few are even


class Finding(NamedTuple):
    """One line of the table: what was tried, in which case, and the figures by name."""

    tried: str
    case: str
    figures: Mapping[str, float]


class World(NamedTuple):
    """The vectors, and what is relevant.

    Attributes:
        passages: `(p, dimension)`, of unit length.
        owners: `(p,)`, each passage's document by its position.
        questions: `(q, dimension)`, of unit length.
        judged: for each question the grades by document.
    """

    passages: Floats
    owners: Whole
    questions: Floats
    judged: Sequence[Mapping[str, int]]


def nearest(seen: Floats, candidates: Floats) -> Whole:
    """The candidate that is nearest to each of `seen`, `(n,)`."""
    return np.asarray(np.argmax(seen @ candidates.T - (candidates**2).sum(axis=1) / 2, axis=1), dtype=np.int64)


def reidentified(seen: Floats, candidates: Floats, same: Whole) -> float:
    """How often the nearest candidate is the right one. `seen` and `candidates` are in one order, `same` is `alike` of it."""
    return float(np.mean(same[nearest(seen, candidates)] == same))


def alike(vectors: Floats) -> Whole:
    """A number for each vector, `(n,)`: equal where vectors are, but for the last digits of float32."""
    same = vectors @ vectors.T > 1 - 1e-6
    return np.asarray(same.argmax(axis=1), dtype=np.int64)


def noisy(vectors: Floats, width: float, draw: np.random.Generator) -> Floats:
    """With Gaussian noise of mean length `width`; a vector's own length is 1."""
    return vectors + width / math.sqrt(vectors.shape[1]) * draw.normal(size=vectors.shape)


def rotation(dimension: int, draw: np.random.Generator) -> Floats:
    """A uniform orthogonal matrix."""
    q, r = np.linalg.qr(draw.normal(size=(dimension, dimension)))
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float64)


def procrustes(plain: Floats, rotated: Floats) -> Floats:
    """The orthogonal matrix that best takes `plain` to `rotated`, on what the pairs span; 0 on the rest."""
    left, sizes, right = np.linalg.svd(plain.T @ rotated)
    spanned = int((sizes > sizes[0] * 1e-6).sum())
    return np.asarray(left[:, :spanned] @ right[:spanned], dtype=np.float64)


def paired_by_distances(plain: Floats, rotated: Floats) -> Whole:
    """For each of `plain` the one of `rotated` whose inner products with all others are the same; both have the same vectors."""
    own, others = (np.sort(vectors @ vectors.T, axis=1) for vectors in (plain, rotated))
    return nearest(own, others)


def paired_by_values(known: Floats, rotated: Floats, draw: np.random.Generator) -> Whole:
    """The same where `rotated` has others too: the one that has the known one's inner products with some others among its own."""
    others = draw.integers(
        1, len(known), (len(known), _CHECKED)
    )  # how far behind it each stands, so that none is itself
    partners = known[(np.arange(len(known))[:, None] + others) % len(known)]
    looked_for = np.einsum("nd,nkd->nk", known, partners)
    most, found = np.full(len(known), -1), np.zeros(len(known), dtype=np.int64)
    for place, row in enumerate(np.sort(rotated @ rotated.T, axis=1)):
        after = np.searchsorted(row, looked_for - _EXACT)
        hits = (row[np.minimum(after, len(row) - 1)] <= looked_for + _EXACT) & (after < len(row))
        better = hits.sum(axis=1) > most
        most[better], found[better] = hits.sum(axis=1)[better], place
    return found


def hint_of(index: NDArray[np.int8], public: Words) -> Words:
    """D·A modulo 2^32 or 2^64, as `public`, `(columns, n)`, is of such words."""
    return np.asarray(index.astype(public.dtype) @ public, dtype=public.dtype)


def index_of(hint: Words, public: Words) -> Whole:
    """D from D·A by elimination over the odd numbers, for n of at least D's columns. Raises `ValueError` where A has too few."""
    columns, bits = len(public), public.dtype.itemsize * 8
    used = min(public.shape[1], columns + _SPARE)
    work = np.concatenate([public[:, :used].T, hint[:, :used].T], axis=1)
    for column in range(columns):
        odd = np.flatnonzero(work[column:, column] & 1)
        if not len(odd):
            message = f"the hint's {used} columns do not determine {columns} of the index"
            raise ValueError(message)
        work[[column, column + odd[0]]] = work[[column + odd[0], column]]
        work[column] *= work.dtype.type(pow(int(work[column, column]), -1, 1 << bits))
        factors = work[:, column].copy()
        factors[column] = 0
        work[:, column:] -= factors[:, None] * work[column, column:]
    signed = work[:columns, columns:].T.astype(np.uint32 if bits == 32 else np.uint64)
    return np.asarray(signed.view(np.int32 if bits == 32 else np.int64), dtype=np.int64)


def bits_told(seen: Whole) -> float:
    """What a message tells of a question, in bits, where every question is as likely: the entropy of `seen`, `(q,)` or `(q, k)`.

    The message is a function of the question, so its entropy is their mutual information.
    """
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    return float((counts / len(seen) * np.log2(len(seen) / counts)).sum())


def picked(seen: Whole, among: int) -> float:
    """How often who sees the message picks the question that was asked out of `among` of them, drawn, one of which it is.

    It guesses among those that have the same message. With c of N such questions that is right with N / (c·among) times the chance
    that any of `among` drawn ones is of the c.
    """
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    total = len(seen)
    none = [math.comb(total - int(count), among) / math.comb(total, among) for count in counts]
    right = [total / (int(count) * among) * (1 - chance) for count, chance in zip(counts, none, strict=True)]
    return float(np.average(right, weights=counts))


def noise(world: World, widths: Sequence[float], seeds: int) -> Iterator[Finding]:
    """1."""
    asked, indexed = alike(world.questions), alike(world.passages)
    for width in widths:
        figures: list[tuple[float, ...]] = []
        for draw in map(np.random.default_rng, range(seeds)):
            often = [noisy(world.questions, width, draw) for _ in range(TEN)]
            index = noisy(world.passages, width, draw)
            figures.append(
                (
                    _ndcg(world, _flat(often[0], world.passages)),
                    reidentified(often[0], world.questions, asked),
                    reidentified(np.mean(often, axis=0), world.questions, asked),
                    _ndcg(world, _flat(world.questions, index)),
                    reidentified(index, world.passages, indexed),
                )
            )
        one, once, ten_times, two, passages = (float(mean) for mean in np.mean(figures, axis=0))
        yield Finding(
            "noise",
            f"of length {width:g} on questions",
            {"ndcg_at_10": one, "reidentified": once, "reidentified_asked_ten_times": ten_times},
        )
        yield Finding("noise", f"of length {width:g} on the index", {"ndcg_at_10": two, "reidentified": passages})


def rotated(world: World, pairs: Sequence[int], seeds: int) -> Iterator[Finding]:
    """2."""
    secrets = [(rotation(world.passages.shape[1], draw), draw) for draw in map(np.random.default_rng, range(seeds))]
    for count in pairs:
        results = []
        for secret, draw in secrets:
            known = world.passages[draw.choice(len(world.passages), size=count, replace=False)]
            results.append(_after(world, secret, procrustes(known, _stored(known @ secret))))
        yield Finding("rotation", f"{count} pairs known", _means(results))
    same = alike(world.passages)
    whole = np.arange(len(world.passages))
    for case in (
        "all texts known, no pair",
        "all texts known, no pair, index in int8",
        "half of the texts known, no pair",
    ):
        results = []
        for secret, draw in secrets:
            index = _stored(world.passages @ secret)
            known = whole
            if case.endswith("int8"):
                index = quantised_entries(index.astype(np.float32)).astype(np.float64)
                index /= np.linalg.norm(index, axis=1, keepdims=True)
            if case.startswith("half"):
                known = draw.permutation(whole)[: len(whole) // 2]
                found = paired_by_values(world.passages[known], index, draw)
            else:
                found = paired_by_distances(world.passages, index)
            paired = {"paired_rightly": float(np.mean(same[found] == same[known]))}
            results.append(paired | _after(world, secret, procrustes(world.passages[known], index[found])))
        yield Finding("rotation", case, _means(results))


def hints(world: World, sizes: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """3."""
    index = quantised_entries(world.passages.astype(np.float32))
    entries = index.astype(np.int64)
    modulus = 2 * 127 * int(np.abs(entries).sum(axis=1).max()) + 2  # what exact scores need: ADR 0008
    error = 6 * ERROR * float(np.linalg.norm(entries, axis=1).max())
    columns = index.shape[1]
    for count, (up, down) in OURS.items():
        for n, bits in sizes:
            fetched, asked = count * n * bits / 8, (columns + count) * bits / 8
            yield Finding(
                "hint",
                f"{count} entries, n = {n}, {bits} bits",
                {
                    "hint_mb": fetched / 1e6,
                    "times_the_index": fetched / (count * columns),
                    "kb_a_query": asked / 1e3,
                    "queries_until_less_than_ours": fetched / (up + down - asked),
                    "bits_a_score_needs": math.log2(2 * error * modulus),
                },
            )
    for bits, kind in ((32, np.uint32), (64, np.uint64)):
        public = np.random.default_rng(bits).integers(0, 1 << bits, (columns, 1024), dtype=kind)
        solved = index_of(hint_of(index, public), public)
        yield Finding(
            "hint",
            f"{len(index)} entries solved from theirs, n = 1024, {bits} bits",
            {"numbers_recovered": float(np.mean(solved == entries))},
        )


def cells(world: World, probes: Sequence[int]) -> Iterator[Finding]:
    """4."""
    made = DenseIndex(world.passages.shape[1], flat_most=len(world.passages) - 1)
    made.add(np.arange(len(world.passages), dtype=np.int64), world.passages.astype(np.float32))
    inner, queries = made._index, np.ascontiguousarray(world.questions, dtype=np.float32)
    own = inner.quantizer.search(world.passages.astype(np.float32), 1)[1][:, 0]
    total = len(queries)
    inner.nprobe = made.cells
    every = inner.search(queries, _DEEP)[1]
    for count in (*probes, made.cells):
        inner.nprobe = count
        found = inner.search(queries, _DEEP)[1]
        read = np.sort(inner.quantizer.search(queries, count)[1], axis=1)
        kept = [len(np.intersect1d(ours[:TEN], all_[:TEN])) / TEN for ours, all_ in zip(found, every, strict=True)]
        inside = [
            any(own[passage] in row for passage in np.flatnonzero(np.isin(world.owners, [int(one) for one in grades])))
            for row, grades in zip(read, world.judged, strict=True)
        ]
        yield Finding(
            "cells",
            f"{count} of {made.cells} read",
            {
                "recall_of_the_ten": float(np.mean(kept)),
                "ndcg_at_10": _ndcg(world, found),
                "bits_told": bits_told(read),
                "bits_there_are": math.log2(total),
                f"picked_of_{AMONG}": picked(read, AMONG),
                "picked_of_all": picked(read, total),
                "relevant_inside": float(np.mean(inside)),
                "passages_read": float(np.mean([np.isin(own, row).mean() for row in read])),
            },
        )


def _after(world: World, secret: Floats, found: Floats) -> dict[str, float]:
    """What who believes the matrix to be `found` reads from rotated questions: which it is, and what paragraphs it is about."""
    seen = _stored(world.questions @ secret)
    return {
        "reidentified": reidentified(seen, world.questions @ found, alike(world.questions)),
        "onlooker_ndcg_at_10": _ndcg(world, _flat(seen, world.passages @ found)),
    }


def _means(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in results])) for name in results[0]}


def _stored(vectors: Floats) -> Floats:
    """As an index of float32 has them."""
    return vectors.astype(np.float32).astype(np.float64)


def _flat(questions: Floats, passages: Floats) -> Whole:
    """The passages with the largest inner products, every one compared; equal ones in their order."""
    return np.argsort(-(questions @ passages.T), axis=1, kind="stable")[:, :_DEEP]


def _ndcg(world: World, found: Whole) -> float:
    """The mean nDCG@10 of documents, where `found` has passages, best first, -1 for none."""
    rankings = [list(dict.fromkeys(str(world.owners[one]) for one in row if one >= 0)) for row in found]
    return float(np.mean([ndcg(row, grades, TEN) for row, grades in zip(rankings, world.judged, strict=True)]))


def measured(world: World) -> Iterator[Finding]:
    """Everything, in order."""
    yield from noise(world, WIDTHS, SEEDS)
    yield from rotated(world, PAIRS, SEEDS)
    yield from hints(world, HINTS)
    yield from cells(world, PROBES)


def world_of(collection: Collection) -> World:
    """Embed a collection by MiniLM, once."""
    import semchunk  # noqa: PLC0415  (as MiniLM's libraries, which a test of the functions above does not need)

    embedder = Embedder.default()
    split: Callable[..., Any] = semchunk.semchunk.chunk
    rankers = LocalRankers(
        collection.documents, embedder, lambda text: list(split(text, embedder.limit, embedder.tokens))
    )
    asked = list(collection.questions.values())
    place = {name: str(position) for position, name in enumerate(collection.documents)}
    return World(
        passages=rankers.vectors.astype(np.float64),
        owners=rankers._owners,
        questions=embedder.embed_questions(asked).astype(np.float64),
        judged=[
            {place[one]: grade for one, grade in collection.judgements[question].items() if one in place}
            for question in collection.questions
        ],
    )


def main() -> None:
    """Measure, print, and write."""
    arguments = argparse.ArgumentParser(prog="python -m bench.rejected", description=__doc__.partition("\n")[0])
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the findings there, one a line")
    chosen = arguments.parse_args()
    sys.path.append(str(HERE.parent / "tests" / "support"))
    from shared import FOLDER  # noqa: PLC0415  (the path to what tests share is known from here on)
    from tatqa import write_tatqa  # noqa: PLC0415

    needed = FOLDER / "data" / "tatqa_test_gold.json"
    if not needed.exists():
        sys.exit(f"{needed} is missing: put TAT-QA's test set there, or name another shared folder in BLINDGATE_SHARED")
    print("embedding TAT-QA, about a minute ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-") as folder:
        world = world_of(read_collection(write_tatqa(Path(folder))))
    kept = []
    print(machine())
    for finding in measured(world):
        kept.append({**finding._asdict(), "machine": machine()})
        figures = ", ".join(f"{name} {value:.4g}" for name, value in finding.figures.items())
        print(f"{finding.tried}: {finding.case}: {figures}", flush=True)
    if chosen.json is not None:
        chosen.json.write_text("".join(json.dumps(one) + "\n" for one in kept))


if __name__ == "__main__":
    main()

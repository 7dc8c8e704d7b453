"""What a node can make of encrypted queries whose plaintexts it knows but for their order: all its views, and its guesses.

It holds the index, the public parameters, the plaintexts of all queries that are ever asked, the bytes of each job in and out, and,
of half of the jobs, which query they ask. It guesses the others': by learning (nearest centroid, logistic regression, nearest
neighbour), and by holding residues against what each query would be in the clear (distance, correlation, the reply's).

`chance` says between which numbers of hits one who knows nothing stays. SEAL draws from the system and is given no seed, so
trials differ from run to run: the interval is left once in a million. All else here draws from fixed seeds.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression

from blindgate_models.bitpacking import packed_bytes, unpack
from blindgate_models.product.spec import HEADER_BYTES
from blindgate_models.seal import serial
from blindgate_models.search.server import SearchServer
from blindgate_models.security import SEED_BYTES

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

UNLIKELY: Final = 1e-6
"""How often an attacker who knows nothing has hits outside of `chance`."""
_WORDS: Final = 64


class View(NamedTuple):
    """What of one job attacks use.

    Attributes:
        features: what is learned from, `(f,)`.
        residues: c0 where a query's numbers are, as a fraction of the modulus, `(width,)`.
        reply: likewise the reply's c0, `(entries,)`.
    """

    features: Floats
    residues: Floats
    reply: Floats


class Views(NamedTuple):
    """The same of many jobs, `(n, …)`."""

    features: Floats
    residues: Floats
    reply: Floats

    @classmethod
    def of(cls, views: list[View]) -> "Views":
        """Side by side."""
        return cls(*(np.stack(each) for each in zip(*views, strict=True)))

    def some(self, which: NDArray[np.intp]) -> "Views":
        """Those of some jobs."""
        return Views(*(each[which] for each in self))


class Known(NamedTuple):
    """What may have been asked.

    Attributes:
        queries: whole numbers, `(k, width)`.
        scores: of all entries, `(k, entries)`.
        modulus: t.
    """

    queries: Whole
    scores: Whole
    modulus: int


def chance(trials: int, share: float) -> tuple[int, int]:
    """The fewest and the most hits of `trials` guesses that are right with the probability `share`, each by itself."""
    low, high = stats.binom.ppf([UNLIKELY / 2, 1 - UNLIKELY / 2], trials, share)
    return int(low), int(high)


def view(server: SearchServer, blob: bytes, result: bytes) -> View:
    """A node's view of a job of one query: its input, opened as the node opens it, and its reply."""
    product = server._product
    ring, parameters, shape = product._ring, product._parameters, product._shape
    body = memoryview(blob)[HEADER_BYTES:]
    count, bits = shape.polynomials(1), parameters.data_bits
    found: list[Floats] = [_bytes(blob[HEADER_BYTES:]), _bytes(result[HEADER_BYTES:])]
    found.append(np.frombuffer(body[: count * SEED_BYTES], np.uint8).astype(np.float64))
    residues = []
    for place, seeded in enumerate(product._seeded(body, 1)):
        ciphertext = ring.expand(seeded)
        transformed = serial.ciphertext_words(ciphertext, len(bits), ring.degree)
        ring.evaluator.transform_from_ntt_inplace(ciphertext)
        words = serial.ciphertext_words(ciphertext, len(bits), ring.degree)
        for form in (transformed, words):
            found += [_statistics(form[half, row], bits[row]) for half in range(2) for row in range(len(bits))]
            found += [form[half, row, :_WORDS] / ring.primes[row] for half in range(2) for row in range(len(bits))]
        if place >= shape.zeros:
            residues.append(words[0, 0, : parameters.group] / ring.primes[0])
    reply, length = memoryview(result)[HEADER_BYTES:], bits[0]
    cut = packed_bytes(shape.blocks * ring.degree, length - parameters.dropped_c1)
    c1 = unpack(reply[:cut], shape.blocks * ring.degree, length - parameters.dropped_c1)
    c0 = unpack(reply[cut:], shape.blocks * parameters.block, length - parameters.dropped_c0)
    scores = np.ldexp(c0[: shape.outputs].astype(np.float64), parameters.dropped_c0) / ring.primes[0]
    found += [_statistics(c1, length - parameters.dropped_c1), _statistics(c0, length - parameters.dropped_c0), scores]
    return View(np.concatenate(found), np.concatenate(residues)[: shape.inputs], scores)


def guesses(known: Known, seen: Views, labels: Whole, heard: Views) -> dict[str, Whole]:
    """Each attack's guesses of what `heard` ask, as places in `known`; `labels`: what `seen` ask."""
    asked = (known.queries / known.modulus) % 1
    return {
        **learned(seen, labels, heard),
        "a residue near a query": _nearest(heard.residues, asked, _apart).argmin(axis=1),
        "a residue like a query": _nearest(heard.residues, known.queries.astype(np.float64), _like).argmax(axis=1),
        "a reply near its scores": _nearest(heard.reply, (known.scores / known.modulus) % 1, _apart).argmin(axis=1),
        "a reply like its scores": _nearest(heard.reply, known.scores.astype(np.float64), _like).argmax(axis=1),
    }


def learned(seen: Views, labels: Whole, heard: Views) -> dict[str, Whole]:
    """Guesses of labels of any kind, from jobs whose label is known."""
    middle, spread = seen.features.mean(axis=0), seen.features.std(axis=0)
    first, second = ((each.features - middle) / np.where(spread > 0, spread, 1) for each in (seen, heard))
    kinds = np.unique(labels)
    centres = np.stack([first[labels == kind].mean(axis=0) for kind in kinds])
    # No penalised regression reaches out of the space of what it was fitted to: so it may as well be fitted there.
    space = np.linalg.svd(first, full_matrices=False)[2].T
    regression = LogisticRegression(C=0.01, max_iter=1000).fit(first @ space, labels)
    return {
        "the nearest centroid": kinds[((second[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)],
        "a logistic regression": regression.predict(second @ space),
        "the nearest residues": labels[_nearest(heard.residues, seen.residues, _apart).argmin(axis=1)],
    }


def _nearest(some: Floats, others: Floats, measure: Callable[[Floats, Floats], Floats]) -> Floats:
    return np.stack([measure(some, other) for other in others], axis=1)


def _apart(some: Floats, other: Floats) -> Floats:
    """How far fractions are from others on the circle, on average."""
    return np.asarray(np.abs((some - other + 0.5) % 1 - 0.5).mean(axis=1))


def _like(some: Floats, other: Floats) -> Floats:
    """How numbers correlate with fractions, taken from -1/2 to 1/2."""
    centred = (some + 0.5) % 1 - 0.5
    centred = centred - centred.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(other - other.mean())
    return np.asarray(centred @ (other - other.mean()) / np.where(norms > 0, norms, 1))


def _bytes(data: bytes) -> Floats:
    """How often each byte comes."""
    return np.bincount(np.frombuffer(data, np.uint8), minlength=256) / len(data)


def _statistics(words: NDArray[np.uint64], bits: int) -> Floats:
    """Of numbers of some bits: mean, deviation, how often each bit is set, and each value of their lowest and highest four."""
    each = np.unpackbits(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :bits]
    low = np.bincount((words & np.uint64(15)).astype(np.intp), minlength=16) / len(words)
    high = np.bincount((words >> np.uint64(bits - 4)).astype(np.intp), minlength=16) / len(words)
    fractions = np.ldexp(words.astype(np.float64), -bits)
    return np.concatenate(
        [[fractions.mean(), fractions.std()], each.sum(axis=0, dtype=np.int32) / len(words), low, high]
    )

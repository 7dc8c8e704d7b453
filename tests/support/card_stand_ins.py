"""Cards made up on the CPU, which round as GPUs do, or do worse, behind the process that asks a card.

`blindgate_rag.card_process` runs as it does beside a real one; in it `install` takes the place of what faiss-gpu has and faiss-cpu
has not. This process gets what comes through the pipes.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_rag import card
from blindgate_rag.card import MOST, CardProcess

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Search = Callable[[Floats, Floats, int], tuple[Floats, Places]]


def best(scores: Floats, k: int) -> tuple[Floats, Places]:
    """The `k` highest; of equal ones the last first, as nobody promised otherwise."""
    places = scores.shape[1] - 1 - np.argsort(-scores[:, ::-1], axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, places, axis=1), places


def tf32(numbers: Floats) -> Floats:
    """As tensor cores read them: ten bits behind the first."""
    bits = numbers.view(np.uint32) + np.uint32(1 << 12)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def short_numbers(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """TF32."""
    return best(tf32(queries) @ tf32(vectors).T, k)


def other_order(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """Float32, summed from the last to the first."""
    return best(np.add.accumulate((queries[:, None] * vectors[None])[:, :, ::-1], axis=2)[:, :, -1], k)


def far_off(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """Scores to two digits, such as a card with half as many bits would give."""
    return best(np.round(queries @ vectors.T, 2), k)


def no_room(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """What faiss raises beside a model that fills the card."""
    if len(vectors) == _FIRST_SEARCH:
        return best(queries @ vectors.T, k)
    message = "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory: cudaMalloc error out of memory"
    raise RuntimeError(message)


def behind_the_last(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """A place that is none."""
    scores, places = best(queries @ vectors.T, k)
    places[:, 0] = len(vectors)
    return scores, places


def before_the_first(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """As faiss fills up what it did not find."""
    scores, places = best(queries @ vectors.T, k)
    places[0, -1] = -1
    return scores, places


def other_cards(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """As faiss ends its process where it was built for other cards than the one that is there."""
    del queries, vectors, k
    sys.stderr.write("Faiss assertion 'err__ == cudaSuccess' failed: CUDA error 209 no kernel image is available\n")
    sys.stderr.flush()
    os.abort()


def ends_later(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """As faiss ends it at an error in the middle."""
    return best(queries @ vectors.T, k) if len(vectors) == _FIRST_SEARCH else other_cards(queries, vectors, k)


def hangs(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """A driver that does not come back."""
    if len(vectors) != _FIRST_SEARCH:
        time.sleep(600)
    return best(queries @ vectors.T, k)


def never_ready(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """One that hangs at its first search."""
    time.sleep(600)
    return best(queries @ vectors.T, k)


def small(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """One that has room for two copies."""
    if _Copy.alive > _ROOM:
        return no_room(queries, vectors, k)
    return best(queries @ vectors.T, k)


def no_card(queries: Floats, vectors: Floats, k: int) -> tuple[Floats, Places]:
    """faiss-gpu on a machine without a GPU: never asked."""
    raise AssertionError


_FIRST_SEARCH = 64  # how many vectors the process searches before it says that it is ready


_ROOM = 2


class _Copy:
    alive = 0

    def __init__(self, vectors: Floats, search: Search) -> None:
        _Copy.alive += 1
        self.d = vectors.shape[1]
        self._vectors = vectors
        self._search = search

    def search(self, queries: Floats, k: int) -> tuple[Floats, Places]:
        """As an index on a GPU, which gives no more than this."""
        assert k <= MOST
        return self._search(queries, self._vectors, k)

    def __del__(self) -> None:
        _Copy.alive -= 1


def install(name: str) -> None:
    """Put the card of that name in faiss-gpu's place, in this process."""
    patched: Any = faiss
    patched.get_num_gpus = lambda: int(name != no_card.__name__)
    patched.StandardGpuResources = lambda: SimpleNamespace(setTempMemory=int)

    def copied(resources: object, device: int, flat: Any) -> _Copy:
        assert (type(resources), device, type(flat)) == (SimpleNamespace, 0, faiss.IndexFlatIP)
        return _Copy(flat.reconstruct_n(0, flat.ntotal), globals()[name])

    patched.index_cpu_to_gpu = copied


@contextmanager
def questions_of(process: type[CardProcess]) -> Iterator[list[bool]]:
    """Of each question that the card's process is asked meanwhile, whether it answered."""
    answered: list[bool] = []
    nearest = process.nearest

    def counted(self: CardProcess, number: int, flat: Any, queries: Floats, k: int) -> object:
        answered.append(False)
        found = nearest(self, number, flat, queries, k)
        answered[-1] = found is not None
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "nearest", counted)
        yield answered


@contextmanager
def card_in_place(search: Search, *, ready: bool = True) -> Iterator[list[bool]]:
    """A card that searches so, its process waited for; gives what `questions_of` does."""
    launch = f"import card_stand_ins; card_stand_ins.install({search.__name__!r}); {card.LAUNCH}"
    with pytest.MonkeyPatch.context() as patched, questions_of(CardProcess) as answered:
        patched.setattr(card, "LAUNCH", launch)
        patched.setattr(faiss, "StandardGpuResources", object, raising=False)
        card.restart()
        if ready:
            assert card.ready(60.0)
        try:
            yield answered
        finally:
            patched.undo()
            card.restart()

"""Which vectors are nearest, proposed by a GPU.

A GPU sums in another order than a CPU, and where it may (TF32) with shorter numbers, so its scores are a little off and passages
with nearly the same score come in another order. Therefore it only proposes: `dense` asks for a few vectors more than are wanted,
computes the scores itself, and goes on asking until what was not proposed cannot be among the wanted. `OFF` is how far off a
proposed score may be for that. Whoever is further off, has no room, or fails otherwise is not asked again: the CPU searches.

faiss ends its process at most of what CUDA may say: that it has no kernels for this card, that a card which another program
fills has no room for cuBLAS, that the card is gone. So the card is asked by a process of its own (`card_process`), of which there
is one for each that searches. It takes seconds to begin; until it is ready, or while another thread asks it, the CPU searches.
What it says is checked as far as it matters: places that are none are no proposal.
"""

import atexit
import itertools
import logging
import os
import tempfile
import threading
import time
import weakref
from collections import deque
from subprocess import Popen
from typing import IO, Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from blindgate_rag import pipes
from blindgate_rag.card_process import COPY, DONE, FAILED, FORGET, HEAD, READY, SEARCH

OFF: Final = 2.0**-10
"""Of the product of both vectors' lengths. TF32 keeps ten bits behind a number's first, so each of two factors is off by 2^-11 of
itself at most; by Cauchy and Schwarz a sum of their products is off by twice that. Sums of float32 are far nearer."""

MOST: Final = 1024
"""The most that a search on a GPU gives."""

LAUNCH = "from blindgate_rag.card_process import main; main()"
"""What the card's process runs."""

ANSWER_SECONDS = 10.0
"""How long an answer may take; then the process is ended."""

START_SECONDS = 300.0
"""How long the process may take until it is ready. Kernels are compiled first where a card is younger than faiss."""

_LOG: Final = logging.getLogger(__name__)
_GLANCE_SECONDS: Final = 0.001
_MAX_REASON_BYTES: Final = 300
_numbers = itertools.count()

Proposed = tuple[NDArray[np.float32], NDArray[np.int64]]


class Card:
    """A flat index's copy on the first GPU, made when it is first asked and gone when this is."""

    def __init__(self, flat: Any) -> None:
        """Of `flat`, which does not change any more."""
        self._flat = flat
        self._number = next(_numbers)
        self._usable = True
        weakref.finalize(self, forget, self._number)

    def nearest(self, queries: NDArray[np.float32], k: int) -> Proposed | None:
        """Scores and places in the index of what seems nearest, `(n, k)` each, best first; None where the CPU has to search.

        `k` is at most how many vectors there are.
        """
        if not self._usable or k > MOST:
            return None
        try:
            return _process.nearest(self._number, self._flat, queries, k)
        except RuntimeError:
            self.give_up()
            return None

    def give_up(self) -> None:
        """Not ask any more, and free what the copy takes."""
        self._usable = False
        forget(self._number)


def forget(number: int) -> None:
    """Free a copy, when the card is next asked: this may be called from anywhere, a garbage collector too."""
    _process.forget(number)


def ready(seconds: float) -> bool:
    """Start the card's process if there is none, and wait for it; whether it can be asked."""
    return _process.ready(seconds)


def restart() -> None:
    """End the card's process, and try it again when a card is asked next, also where it was given up."""
    _process.end()
    _process.renew()


class CardProcess:
    """The process that asks the card, started at the second question: one that asks once is over before a card is ready."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)  # two processes that share one would read each other's answers
        atexit.register(self.end)

    def renew(self) -> None:
        """Know of no process: not of a parent's, either."""
        self._lock = threading.Lock()
        self._usable = hasattr(faiss, "StandardGpuResources")  # faiss-cpu has none
        self._asked = False
        self._process: Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._begun = 0.0
        self._ready = False
        self._copies: set[int] = set()
        self._forgotten: deque[int] = deque()

    def nearest(self, number: int, flat: Any, queries: NDArray[np.float32], k: int) -> Proposed | None:
        """As `Card.nearest`. Raises `RuntimeError` where there is no room, or the answer is none."""
        if not self._usable or not self._lock.acquire(blocking=False):
            return None
        try:
            first, self._asked = not self._asked, True
            process = None if first and self._process is None else self._started(_GLANCE_SECONDS)
            return None if process is None else self._answer(process, number, flat, queries, k)
        except RuntimeError:
            raise
        except (OSError, EOFError) as error:
            self._give_up(error)
            return None
        except BaseException:
            self.end()  # an answer may be half read: it would be taken for the next question's
            raise
        finally:
            self._lock.release()

    def forget(self, number: int) -> None:
        """See `forget`."""
        if number in self._copies:
            self._forgotten.append(number)

    def ready(self, seconds: float) -> bool:
        """See `ready`."""
        with self._lock:
            try:
                return self._usable and self._started(seconds) is not None
            except (OSError, EOFError) as error:
                self._give_up(error)
                return False

    def end(self) -> None:
        """Kill the process, if there is one."""
        process, self._process, self._ready = self._process, None, False
        self._copies.clear()
        self._forgotten.clear()
        if process is not None:
            pipes.end(process)
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _started(self, seconds: float) -> Popen[bytes] | None:
        """The process, if it is ready by then."""
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the process)
            environment = {name: value for name, value in os.environ.items() if not name.startswith("BLINDGATE_")}
            self._process = pipes.start(LAUNCH, environment=environment, errors=self._errors)
            self._begun = time.monotonic()
        if not self._ready:
            try:
                pipes.receive(self._process, len(READY), time.monotonic() + seconds)
            except TimeoutError:
                if time.monotonic() > self._begun + START_SECONDS:
                    raise
                return None
            self._ready = True
        return self._process

    def _answer(self, process: Popen[bytes], number: int, flat: Any, queries: NDArray[np.float32], k: int) -> Proposed:
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._forgotten:
            self._copies.discard(gone := self._forgotten.popleft())
            pipes.send(process, (HEAD.pack(FORGET, gone, 0, 0),), deadline)
        if number not in self._copies:
            vectors = faiss.rev_swig_ptr(faiss.downcast_index(flat).get_xb(), flat.ntotal * flat.d)
            pipes.send(process, (HEAD.pack(COPY, number, flat.ntotal, flat.d), vectors.data.cast("B")), deadline)
            _require_done(process, deadline)
            self._copies.add(number)
        shape = (len(queries), k)
        pipes.send(process, (HEAD.pack(SEARCH, number, *shape), queries.data.cast("B")), deadline)
        _require_done(process, deadline)
        scores = np.frombuffer(pipes.receive(process, 4 * len(queries) * k, deadline), np.float32).reshape(shape)
        places = np.frombuffer(pipes.receive(process, 8 * len(queries) * k, deadline), np.int64).reshape(shape)
        if ((places < 0) | (places >= flat.ntotal)).any():
            message = "the card names places that are none"
            raise RuntimeError(message)
        return scores, places

    def _give_up(self, error: Exception) -> None:
        """Not start it again, and say why, unless there was no GPU to begin with."""
        process, said = self._process, repr(error)
        if self._errors is not None and (size := self._errors.seek(0, os.SEEK_END)):
            self._errors.seek(max(0, size - _MAX_REASON_BYTES))
            said = ascii(self._errors.read().decode(errors="replace").strip())
        self.end()
        self._usable = False
        if process is not None and process.returncode != 0:
            _LOG.warning("the GPU is not asked any more, the CPU searches, with the same answers: %s", said)


def _require_done(process: Popen[bytes], deadline: float) -> None:
    answer = pipes.receive(process, len(DONE), deadline)
    if answer == FAILED:
        message = "the card has no room"
        raise RuntimeError(message)
    if answer != DONE:
        raise EOFError


_process = CardProcess()

"""The process that asks a GPU. `card` starts it, and says why it is one of its own.

It says `READY` once a search has run through: kernels are loaded, or compiled for the card, at their first use. A machine without
a GPU ends it before. Then it does what `HEAD`s on standard input tell, until that ends:

- `COPY`: the number of a copy, how many vectors of how many float32s, and these; answered.
- `SEARCH`: the number of a copy, how many questions, how many vectors for each, and the questions' float32s; answered, then
  scores (float32) and places in the copy (int64).
- `FORGET`: the number of a copy. Not answered.

An answer is `DONE`, or `FAILED` where faiss raised an error, which no room on the card is. Other errors of CUDA end the process.
"""

import resource
import struct
import sys
from typing import Any, Final

import faiss
import numpy as np

READY: Final = b"R"
HEAD: Final = struct.Struct(">cQQQ")  # what, of which copy, rows, and columns or how many are wanted
COPY, SEARCH, FORGET = b"C", b"S", b"F"
DONE, FAILED = b"D", b"E"

_SCRATCH_BYTES = 256 << 20  # of the card's memory, for scores; faiss would take 1.5 GiB beside whatever else runs there
_KERNELS = (1, 64, 8)  # questions, vectors and numbers of the first search


def main() -> None:
    """Serve until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # a core would leave a corpus's vectors on the disk
    if faiss.get_num_gpus() < 1:
        return
    resources: Any = faiss.StandardGpuResources()
    resources.setTempMemory(_SCRATCH_BYTES)
    queries, vectors, numbers = _KERNELS
    _copied(resources, np.zeros((vectors, numbers), np.float32)).search(np.zeros((queries, numbers), np.float32), 1)
    _say(READY)
    copies: dict[int, Any] = {}
    while head := sys.stdin.buffer.read(HEAD.size):
        what, number, rows, count = HEAD.unpack(head)
        try:
            if what == COPY:
                copies[number] = _copied(resources, _floats(rows, count))
                _say(DONE)
            elif what == SEARCH:
                copy = copies[number]
                scores, places = copy.search(_floats(rows, copy.d), count)
                _say(DONE, scores.tobytes(), places.tobytes())
            else:
                copies.pop(number, None)
        except RuntimeError:
            _say(FAILED)


def _copied(resources: Any, vectors: Any) -> Any:
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    return faiss.index_cpu_to_gpu(resources, 0, flat)


def _floats(rows: int, columns: int) -> Any:
    return np.frombuffer(sys.stdin.buffer.read(rows * columns * 4), dtype=np.float32).reshape(rows, columns)


def _say(*parts: bytes) -> None:
    for part in parts:
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()

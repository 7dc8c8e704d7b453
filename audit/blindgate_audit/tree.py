"""The leaves of a log's tree, each proven against a checkpoint: few tiles are read, each once, and few are kept.

A tile of 256 hashes is proven by the one hash above it, which stands in a tile of the next level, which is proven the same way. The
last tile of a level may be partial; the partial ones together are all that the tree's root is made of. So:

1. the partial tiles of all levels, from the highest to the lowest, are read first, and must give the checkpoint's root;
2. any other tile must give the hash at its place in the level above.

This says the same as an inclusion proof for every leaf, and costs two hashes a leaf in place of two dozen. What is kept is the
edge and the latest tile of each level, whatever the size of the tree: whoever asks in the order of the log reads no tile twice.
"""

from collections.abc import Callable
from typing import Final

from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.merkle import EMPTY_ROOT, Frontier, root_of
from blindgate_protocol.tiles import HEIGHT, WIDTH, Tile, unpack_hashes

_MASK: Final = WIDTH - 1


class ProvenTree:
    """The leaves under a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, read: Callable[[Tile], bytes]) -> None:
        """Read and prove the edge (step 1). `read` gives a tile's bytes, which may be any. Raises `LogError`."""
        self.checkpoint = checkpoint
        self._read = read
        self._edge: dict[int, list[bytes]] = {}
        self._latest: dict[int, tuple[int, list[bytes]]] = {}
        self._prove_edge()

    def leaf(self, index: int) -> bytes:
        """The leaf hash at `index`. Raises `LogError` where the tree has none, or a tile does not fit under the root."""
        if not 0 <= index < self.checkpoint.size:
            message = f"entry {index} is not in the tree of {self.checkpoint.size}"
            raise LogError(message, index=index)
        return self._hashes(0, index >> HEIGHT)[index & _MASK]

    def _prove_edge(self) -> None:
        level, size = 0, self.checkpoint.size
        while size:
            number, width = divmod(size, WIDTH)
            if width:
                self._edge[level] = self._unpacked(Tile(level, number, width))
            level, size = level + 1, number
        # 1. Of each partial tile, the roots of its complete subtrees: its width in binary says how large they are.
        roots: list[bytes] = []
        for _, hashes in sorted(self._edge.items(), reverse=True):
            begin = 0
            for bit in reversed(range(HEIGHT)):
                if len(hashes) >> bit & 1:
                    roots.append(root_of(hashes[begin : begin + (1 << bit)]))
                    begin += 1 << bit
        root = Frontier(self.checkpoint.size, roots).root() if roots else EMPTY_ROOT
        if root != self.checkpoint.root:
            message = f"the last tiles do not give the root that the checkpoint of {self.checkpoint.size} entries names"
            raise LogError(message)

    def _hashes(self, level: int, number: int) -> list[bytes]:
        if number == self.checkpoint.size >> HEIGHT * (level + 1):
            return self._edge[level]
        kept = self._latest.get(level)
        if kept is not None and kept[0] == number:
            return kept[1]
        tile = Tile(level, number)
        hashes = self._unpacked(tile)
        # 2.
        if root_of(hashes) != self._hashes(level + 1, number >> HEIGHT)[number & _MASK]:
            message = f"{tile.path} does not fit under the checkpoint's root: its hashes are not those of the log"
            raise LogError(message, index=number * WIDTH if level == 0 else None)
        self._latest[level] = (number, hashes)
        return hashes

    def _unpacked(self, tile: Tile) -> list[bytes]:
        try:
            return unpack_hashes(self._read(tile), tile.width)
        except MalformedError as error:
            message = f"{tile.path}: {error}"
            raise LogError(message) from error

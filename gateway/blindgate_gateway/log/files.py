"""The log as files under `DATA/log`: what any web server or cache can carry, and an auditor can copy.

A file, once written, never changes; only `checkpoint` is replaced, after everything that it stands on. Partial tiles go when the
whole one is there.

The files know how far the log was. A database that says less, or that holds another tree, was put back from an older copy: then
nothing is signed (`sequencer`) and nothing is written, and the fault is named, since whoever saw the larger tree would be shown a
second one.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blindgate_gateway.database import Database
from blindgate_gateway.log.sequencer import Head, check_continues
from blindgate_gateway.log.tree import read_tile
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.notes import parse_note
from blindgate_protocol.tiles import CHECKPOINT, HEIGHT, KEY, SECOND_KEY, WIDTH, Tile


class LogFiles:
    """The files of one log."""

    def __init__(self, folder: Path, database: Database) -> None:
        """Keep `folder`, which is made when it is needed."""
        self._folder, self._database = folder, database

    def written(self) -> Checkpoint | None:
        """The tree that the files have. Raises `BlindgateError` when the checkpoint there cannot be read."""
        try:
            data = (self._folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Checkpoint.parse(parse_note(data).text)
        except BlindgateError as error:
            message = f"{self._folder / CHECKPOINT}: {error}"
            raise BlindgateError(message) from error

    def write(self, latest: Callable[[], Head]) -> int:
        """Write what is new of the `latest` head. Gives how many entries the files have then. Raises `OSError`.

        Raises `ForkedLogError` when the files have more than the database, or another tree.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            written = self.written()
            # After the files were looked at: another process may have written a larger tree just before.
            head = latest()
            check_continues(self._database, written, head)
            size = 0 if written is None else written.size
            if written is not None and size == head.size:
                return size
            _replace(self._folder / KEY, f"{head.key}\n".encode())
            if head.second is not None:
                _replace(self._folder / SECOND_KEY, f"{head.second}\n".encode())
            for tile in _new_tiles(size, head.size):
                self._write_tile(tile)
            _replace(self._folder / CHECKPOINT, head.checkpoint.encode())
            return head.size

    def _write_tile(self, tile: Tile) -> None:
        path = self._folder / tile.path
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, read_tile(self._database, tile))
        if tile.width == WIDTH:
            shutil.rmtree(path.with_name(f"{path.name}.p"), ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _new_tiles(before: int, after: int) -> Iterator[Tile]:
    """The tiles and bundles of a tree of `after` that one of `before` did not have."""
    level, old, new = 0, before, after
    while new:
        for number in range(old // WIDTH, -(-new // WIDTH)):
            width = min(WIDTH, new - number * WIDTH)
            if number * WIDTH + width > old:
                yield Tile(level, number, width)
                if level == 0:
                    yield Tile(None, number, width)
        level, old, new = level + 1, old >> HEIGHT, new >> HEIGHT


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)

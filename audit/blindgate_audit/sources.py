"""Where a log is read from: a folder of files, or an address that serves the same files.

    checkpoint                      what the log signed last
    key, second-key                 its verifier keys, a line each, for whoever has no better; a log may have one alone
    tile/…                          C2SP's names (`blindgate_protocol.tiles`)
    events/*.jsonl                  in an export: a `Logged` a line, in the order of the log

Whatever is read is bounded first. A server may drop a partial tile once the whole is there: then the beginning of the whole is
what the partial was (C2SP tlog-tiles).

`fetched` reads ahead with a few threads where that helps, and gives everything in the order in which it was asked for.
"""

import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

from blindgate_audit.fetching import Web
from blindgate_protocol.errors import GatewayError, LogError, MalformedError, NotFoundError
from blindgate_protocol.logged import Logged, LogView
from blindgate_protocol.merkle import HASH_BYTES
from blindgate_protocol.notes import MAX_NOTE_BYTES, parse_note
from blindgate_protocol.signing import first_error
from blindgate_protocol.tiles import CHECKPOINT, HEIGHT, KEY, SECOND_KEY, WIDTH, Tile

MOST_BUNDLE_BYTES: Final = 1 << 20
"""An entry of this log has 33 bytes; a bundle with as many as 4,096 each is still read, to say what is wrong with it."""

_CANNOT_BE_MADE: Final = 409
"""What a gateway answers whose database lacks an entry under the tile."""

_MOST_KEY_BYTES: Final = 4096
_MOST_VIEW_BYTES: Final = 1 << 18
_MOST_LINE: Final = (1 << 20) + 1


class Source(Protocol):
    """A log that can be read. Raises `NotFoundError` for what is not there, and `MalformedError` for what is too long.

    Attributes:
        name: what a person called it.
        threads: how many reads at once are worth while.
    """

    name: str
    threads: int

    def checkpoint(self) -> bytes:
        """The latest checkpoint, as a note."""
        ...

    def key(self) -> str:
        """The verifier key that the log itself gives out."""
        ...

    def second_key(self) -> str | None:
        """Its second one, where it has one."""
        ...

    def read(self, tile: Tile) -> bytes:
        """The bytes of a tile or a bundle."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Folder:
    """A log as files."""

    threads = 1

    def __init__(self, path: Path) -> None:
        """Raises `LogError` for a folder that has no log."""
        self.path = path
        self.name = str(path)
        if not (path / CHECKPOINT).is_file():
            why = f"a log's folder has a file named {CHECKPOINT!r}" if path.is_dir() else "that is no folder"
            message = f"{path}: no log here; {why}. An address begins with https:// or http://"
            raise LogError(message)

    def checkpoint(self) -> bytes:
        """The file `checkpoint`."""
        return self._read(CHECKPOINT, MAX_NOTE_BYTES)

    def key(self) -> str:
        """The file `key`."""
        return _line(self._read(KEY, _MOST_KEY_BYTES))

    def second_key(self) -> str | None:
        """The file `second-key`."""
        try:
            return _line(self._read(SECOND_KEY, _MOST_KEY_BYTES))
        except NotFoundError:
            return None

    def read(self, tile: Tile) -> bytes:
        """The tile's file, or the beginning of the whole tile's."""
        return _whole_or_partial(tile, self._read)

    def versions(self, tile: Tile) -> Iterator[tuple[Tile, "Read"]]:
        """The other files of the same place, each with what came of reading it: narrower, wider, or whole (`versions`)."""
        partial = self.path / f"{Tile(tile.level, tile.number).path}.p"
        names = [file.name for file in partial.iterdir()] if partial.is_dir() else []
        widths = {WIDTH, *(int(name) for name in names if name.isdecimal())} - {tile.width}
        for width in sorted(widths.intersection(range(1, WIDTH + 1))):
            other = Tile(tile.level, tile.number, width)
            if (self.path / other.path).exists():
                yield other, self._attempt(other)

    def strays(self, size: int) -> int:
        """How many files under `tile` are no part of a tree of `size`: beyond it, or under a name that no tile has."""
        return sum(
            not _is_within(size, file.relative_to(self.path)) for file in self.path.glob("tile/**/*") if file.is_file()
        )

    def events(self) -> Iterator[Logged] | None:
        """The events of an export, or `None` where there are none. Raises `MalformedError`."""
        files = sorted((self.path / "events").glob("*.jsonl"))
        return self._events(files) if files else None

    def close(self) -> None:
        """Nothing is held open."""

    def _attempt(self, tile: Tile) -> "Read":
        try:
            return self._read(tile.path, _most(tile))
        except (MalformedError, NotFoundError) as error:
            return error

    def _events(self, files: list[Path]) -> Iterator[Logged]:
        for file in files:
            _require_file(file)
            with file.open("rb") as lines:
                number = 0
                while line := lines.readline(_MOST_LINE):
                    number += 1
                    try:
                        yield Logged.model_validate_json(line)
                    except ValidationError as error:
                        message = f"{file}, line {number}: not an event of the log: {first_error(error)}"
                        raise MalformedError(message) from error

    def _read(self, path: str, most: int) -> bytes:
        file = self.path / path
        _require_file(file)
        with file.open("rb") as opened:
            data = opened.read(most + 1)
        if len(data) > most:
            message = f"{file}: more than the {most} bytes that this can have"
            raise MalformedError(message)
        return data


class Address:
    """A log as an HTTP server gives it out, a gateway's or any other's."""

    threads = 6

    def __init__(self, url: str, *, ca: str | None = None) -> None:
        """Look for the log at `url`, then at `url/log`. Raises `NotFoundError` where neither has one, or another `GatewayError`."""
        self._web = Web(url, ca=ca)
        self._ca = ca
        self.name = self._web.url
        self._at = ""
        try:
            parse_note(self.checkpoint())
        except (MalformedError, NotFoundError) as error:
            self._at = "/log"
            self._require_log(error)

    @property
    def gateway(self) -> str:
        """The address of the gateway whose log this is."""
        return self.name.removesuffix("/log")

    def checkpoint(self) -> bytes:
        """What the server says is the latest."""
        return self._read(CHECKPOINT, MAX_NOTE_BYTES)

    def key(self) -> str:
        """The file `key` beside the log, or what the gateway says of its log."""
        try:
            return _line(self._read(KEY, _MOST_KEY_BYTES))
        except NotFoundError:
            return self._view().key

    def second_key(self) -> str | None:
        """The file `second-key`, or what the gateway says of its log; `None` where neither is there."""
        try:
            return _line(self._read(SECOND_KEY, _MOST_KEY_BYTES))
        except NotFoundError:
            pass
        try:
            return self._view().second
        except NotFoundError:
            return None

    def read(self, tile: Tile) -> bytes:
        """The tile, or the beginning of the whole one."""
        return _whole_or_partial(tile, self._read)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def _require_log(self, before: MalformedError | NotFoundError) -> None:
        """Refuse a server that has a log here no more than it had one before."""
        try:
            parse_note(self.checkpoint())
        except (MalformedError, NotFoundError) as error:
            # What was found at the address itself says more than that nothing is below it.
            reason = before if isinstance(before, MalformedError) else error
            self.close()
            message = (
                f"{self.name}: no log here, neither its checkpoint at /{CHECKPOINT} nor a gateway's at /log/{CHECKPOINT}. "
                f"Is this the address of a Blindgate gateway, or of its log? {reason}"
            )
            raise NotFoundError(message) from error

    def _view(self) -> LogView:
        web = Web(self.gateway, ca=self._ca)
        try:
            return LogView.model_validate_json(web.fetch("/v1/log", most=_MOST_VIEW_BYTES))
        except ValidationError as error:
            message = f"{web.url}/v1/log: the answer is malformed: {first_error(error)}"
            raise MalformedError(message) from error
        finally:
            web.close()

    def _read(self, path: str, most: int) -> bytes:
        return self._web.fetch(f"{self._at}/{path}", most=most)


def open_source(where: str, *, ca: str | None = None) -> Folder | Address:
    """The log at an address or in a folder. Raises `LogError` or `GatewayError`."""
    return Address(where, ca=ca) if where.startswith(("http://", "https://")) else Folder(Path(where))


Read = bytes | MalformedError | GatewayError
"""What came of reading a tile: its bytes, or why there are none."""


def fetched(source: Source, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Read]]:
    """Read all `tiles` and give each with what came of it, in their order."""
    if source.threads == 1:
        yield from ((tile, attempt(source, tile)) for tile in tiles)
        return
    ahead: deque[tuple[Tile, Future[Read]]] = deque()
    with ThreadPoolExecutor(source.threads) as pool:
        try:
            for tile in tiles:
                ahead.append((tile, pool.submit(attempt, source, tile)))
                if len(ahead) > 4 * source.threads:
                    first, read = ahead.popleft()
                    yield first, read.result()
            while ahead:
                first, read = ahead.popleft()
                yield first, read.result()
        finally:
            for _, read in ahead:
                read.cancel()


def attempt(source: Source, tile: Tile) -> Read:
    """Read a tile; that it is not there, too long, or cannot be made is an answer. Raises `GatewayError` where there is none."""
    try:
        return source.read(tile)
    except (MalformedError, NotFoundError) as error:
        return error
    except GatewayError as error:
        if error.status != _CANNOT_BE_MADE:
            raise
        return error


def _whole_or_partial(tile: Tile, read: Callable[[str, int], bytes]) -> bytes:
    most = _most(tile)
    try:
        return read(tile.path, most)
    except NotFoundError:
        if tile.width == WIDTH:
            raise
    try:
        whole = read(Tile(tile.level, tile.number).path, most)
    except NotFoundError as error:
        message = f"neither {tile.path} nor the whole tile is there"
        raise NotFoundError(message) from error
    if tile.level is not None:
        return whole[: tile.width * HASH_BYTES]
    end = 0
    for _ in range(tile.width):
        end += 2 + int.from_bytes(whole[end : end + 2], "big")
    return whole[:end]


def _is_within(size: int, file: Path) -> bool:
    try:
        tile = Tile.parse(file.as_posix())
    except MalformedError:
        return False
    return tile.number * WIDTH < size >> HEIGHT * (tile.level or 0)


def _most(tile: Tile) -> int:
    return MOST_BUNDLE_BYTES if tile.level is None else WIDTH * HASH_BYTES


def _require_file(file: Path) -> None:
    """A pipe or a device would never end. Raises `NotFoundError`."""
    try:
        found = stat.S_ISREG(file.stat().st_mode)
    except OSError:
        found = False
    if not found:
        message = f"{file} is not there"
        raise NotFoundError(message)


def _line(data: bytes) -> str:
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        message = "a log's key is one line of text"
        raise MalformedError(message) from error

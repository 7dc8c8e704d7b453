"""A log as files on the auditor's own disk: to be verified without the gateway, and kept for as long as the auditor likes.

    checkpoint, key, tile/…         as the gateway serves them
    events/000000.jsonl             with an API key: a `Logged` a line, `EVENTS_A_FILE` indexes a file

An export that broke off goes on where it was, and one of last month is brought up to date: what a whole tile is called never
changes, and a file of events is fetched again only while it is not full. Every file comes into its place whole; the checkpoint is
written last, so a folder with one has everything below it. Nothing is verified here.

An event that was erased after its file was full stays in the export: whoever must not keep it deletes the file, and exports again.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from blindgate_audit.files import write_whole
from blindgate_audit.gateway import Gateway
from blindgate_audit.sources import Source, fetched
from blindgate_protocol.checkpoints import LogTrust, open_checkpoint
from blindgate_protocol.logged import Logged
from blindgate_protocol.notes import VerifierKey
from blindgate_protocol.tiles import CHECKPOINT, KEY, SECOND_KEY, WIDTH, Tile, bundles_of, tiles_of

EVENTS_A_FILE: Final = 10_000


def export(source: Source, folder: Path, gateway: Gateway | None, *, done: Callable[[int], None]) -> int:
    """Write the log, and with a `gateway` its events, into `folder`. Gives how many entries it has.

    `done` is told how many entries were dealt with. Raises `GatewayError` where a file is not served, and `LogError` or
    `MalformedError` for a checkpoint that the log's own key did not sign.
    """
    key, second, note = source.key(), source.second_key(), source.checkpoint()
    size = open_checkpoint(note, LogTrust(VerifierKey.parse(key))).checkpoint.size
    folder.mkdir(parents=True, exist_ok=True)
    for tile, data in fetched(source, _wanted(folder, size)):
        if not isinstance(data, bytes):
            raise data
        write_whole(folder / tile.path, data)
        if tile.level is None and gateway is None:
            done(tile.number * WIDTH + tile.width)
    if gateway is not None:
        _export_events(gateway, folder / "events", size, done=done)
    write_whole(folder / KEY, f"{key}\n".encode())
    if second is not None:
        write_whole(folder / SECOND_KEY, f"{second}\n".encode())
    write_whole(folder / CHECKPOINT, note)
    return size


def _wanted(folder: Path, size: int) -> Iterator[Tile]:
    """The tiles and bundles that the folder does not have."""
    every = itertools.chain(tiles_of(size), bundles_of(size))
    return (tile for tile in every if not (folder / tile.path).is_file())


def _export_events(gateway: Gateway, folder: Path, size: int, *, done: Callable[[int], None]) -> None:
    begin = 0
    while begin + EVENTS_A_FILE <= size and _is_full(_file(folder, begin), begin + EVENTS_A_FILE - 1):
        begin += EVENTS_A_FILE
    events = itertools.takewhile(lambda one: one.index < size, gateway.events(begin - 1 if begin else None))
    for number, part in itertools.groupby(events, lambda one: one.index // EVENTS_A_FILE):
        write_whole(
            _file(folder, number * EVENTS_A_FILE), "".join(f"{one.model_dump_json()}\n" for one in part).encode()
        )
        done(min(size, (number + 1) * EVENTS_A_FILE))


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first // EVENTS_A_FILE:06d}.jsonl"


def _is_full(file: Path, last: int) -> bool:
    """Whether the file goes up to the event `last`."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - (1 << 18)))  # more than a line
        tail = opened.read().splitlines()
    return bool(tail) and Logged.model_validate_json(tail[-1]).index == last

"""Where logs are read from: folders and servers that are incomplete, in a hurry, or no logs at all."""

import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from blindgate_audit.gateway import Gateway
from blindgate_audit.sources import Address, Folder, attempt, fetched, open_source
from blindgate_protocol.errors import (
    GatewayError,
    GatewayUnreachableError,
    LogError,
    MalformedError,
    NotAuthorisedError,
    NotFoundError,
)
from blindgate_protocol.tiles import Tile, bundles_of, unpack_entries
from static_logs import log_files, random_entries, served, write_log


def answering(answer: Callable[[BaseHTTPRequestHandler], tuple[int, bytes]]) -> type[BaseHTTPRequestHandler]:
    """A server that answers with a status and a body."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Answering


def test_a_partial_tile_may_be_read_off_the_whole_one(tmp_path: Path) -> None:
    """A server drops partial tiles once they are whole."""
    entries = random_entries(600)
    write_log(tmp_path, entries)
    source = Folder(tmp_path)
    assert unpack_entries(source.read(Tile(None, 1, 44)), 44) == entries[256:300]
    assert source.read(Tile(0, 1, 44)) == source.read(Tile(0, 1))[: 44 * 32]
    with pytest.raises(NotFoundError, match="neither"):
        source.read(Tile(0, 2, 40))


def test_a_log_is_found_at_its_own_address_and_at_its_gateways() -> None:
    """`https://gateway` and `https://gateway/log` are the same log."""
    files, _ = log_files(random_entries(3))

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        found = files.get(request.path.removeprefix("/log/")) if request.path.startswith("/log/") else None
        return (404, b"") if found is None else (200, found)

    with served(answering(answer)) as url:
        for where in (url, f"{url}/", f"{url}/log", f"{url}/log/"):
            source = open_source(where)
            assert isinstance(source, Address)
            assert source.checkpoint() == files["checkpoint"]
            assert source.gateway == url
            assert f"{source.key()}\n".encode() == files["key"]
            source.close()


def test_tiles_come_in_their_order_however_they_were_fetched(tmp_path: Path) -> None:
    """A few threads read ahead over HTTP."""
    write_log(tmp_path, random_entries(9000))
    (tmp_path / Tile(None, 7).path).unlink()
    bundles = list(bundles_of(9000))
    with served(tmp_path) as url:
        source = open_source(url)
        got = list(fetched(source, bundles))
        source.close()
    assert [tile for tile, _ in got] == bundles
    assert isinstance(got[7][1], NotFoundError)
    assert [data for _, data in got[:7]] == [(tmp_path / tile.path).read_bytes() for tile in bundles[:7]]


def test_a_folder_without_a_log_is_said_to_be_none(tmp_path: Path) -> None:
    """Before anything else is tried."""
    with pytest.raises(LogError, match="no log here"):
        open_source(str(tmp_path))


def test_a_tile_that_is_no_file_or_too_long_is_not_read(tmp_path: Path) -> None:
    """A pipe would never end, and a tile has a most."""
    write_log(tmp_path, random_entries(300))
    source = Folder(tmp_path)
    (tmp_path / Tile(0, 0).path).unlink()
    os.mkfifo(tmp_path / Tile(0, 0).path)
    with (tmp_path / Tile(None, 0).path).open("ab") as file:
        file.truncate(1 << 30)
    assert isinstance(attempt(source, Tile(0, 0)), NotFoundError)
    assert isinstance(attempt(source, Tile(None, 0)), MalformedError)


def test_a_gateways_refusals_say_what_to_do_and_hide_the_key() -> None:
    """One text for each kind."""
    status = 0

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        return status, b"<html>"

    with served(answering(answer)) as url, Gateway(url, "secret-key") as gateway:
        for status, kind in (
            (401, NotAuthorisedError),
            (403, NotAuthorisedError),
            (404, NotFoundError),
            (500, GatewayError),
        ):
            with pytest.raises(kind, match=f"refused with status {status}.*is this a Blindgate gateway") as refused:
                gateway.log()
            assert "secret" not in str(refused.value)
        status = 200
        with pytest.raises(MalformedError, match="/v1/log: the answer is malformed"):
            gateway.log()


@pytest.mark.parametrize("url", ["ftp://gateway", "https://", "gateway.example", "http:///log"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """With what is expected."""
    with pytest.raises(GatewayError, match="not an address"):
        Gateway(url, None)


def test_an_api_key_that_no_header_can_hold_is_refused_without_showing_it() -> None:
    """It was read from a file with its line's end, perhaps."""
    with pytest.raises(GatewayError, match="not an API key") as refused:
        Gateway("https://gateway.example", "secret\n")
    assert "secret" not in str(refused.value)


def test_nobody_there_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few attempts."""
    monkeypatch.setattr("blindgate_audit.fetching._pauses", lambda: iter([0.0, None]))
    with Gateway("http://127.0.0.1:9", None) as gateway, pytest.raises(GatewayUnreachableError, match="no answer from"):
        gateway.log()

"""What `blindgate audit` says to whoever has the wrong key, or no gateway at the address: what is wrong, and the way out.

A real gateway answers, behind a proxy that notes what it was asked.
"""

import json
import os
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from audit_command import audit
from between import Proxy
from blindgate_audit import fetching
from blindgate_protocol.key_history import chain_bytes, chain_name
from blindgate_protocol.keys import KeyState
from key_events import BLOB, life
from static_logs import random_entries, served, write_log
from typed import type_command
from world import World

KEY = f"sha256:{'ab' * 32}"
MAKE_ONE = "`blindgate gateway staff add NAME --role auditor`"
NOBODYS = "bs_0000000000000000." + "A" * 43


@pytest.fixture(scope="module")
def keys(world: World) -> dict[str, str]:
    """A key of each kind, and one of nobody's."""
    made = {"tenant": world.api_key("hospital"), "nobody": NOBODYS}
    for role in ("operator", "auditor"):
        command = ["gateway", "staff", "add", "ann", "--role", role, "--data", str(world.gateway_folder), "--json"]
        made[role] = json.loads(type_command(command, os.environ).stdout)["api_key"]
    return made


@pytest.fixture
def statements(tmp_path: Path) -> Path:
    """What a client keeps of a key."""
    folder = tmp_path / "statements"
    folder.mkdir()
    (folder / chain_name(BLOB.digest)).write_bytes(chain_bytes(life(KeyState.ACTIVE)))
    return folder


COMMANDS: dict[str, tuple[Callable[[str, Path], list[object]], str]] = {
    "verify": (lambda url, _: ["verify", url], "BLINDGATE_API_KEY= blindgate audit verify {url}"),
    "export": (
        lambda url, at: ["export", url, at / "export"],
        "BLINDGATE_API_KEY= blindgate audit export {url} {at}/export",
    ),
    "key": (
        lambda url, _: ["key", KEY, "--url", url],
        "--folder. A tenant follows its own keys with `blindgate keys show`",
    ),
    "key by its first digits": (
        lambda url, _: ["key", "abcd", "--url", url],
        "--folder. A tenant follows its own keys",
    ),
    "tenant": (lambda url, _: ["tenant", "hospital", "--url", url], "--folder. A tenant follows its own keys"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("whose", "says"),
    [
        ("tenant", "this API key is a tenant's. "),
        ("operator", "refused with status 403: this credential is an operator's and does not open this route. "),
        ("nobody", "refused with status 401: "),
    ],
)
def test_a_key_that_opens_nothing_here_is_told_whose_does_and_what_goes_without(
    world: World, keys: dict[str, str], tmp_path: Path, *, command: str, whose: str, says: str
) -> None:
    """The log is not read for nothing, and a tenant's key is not shown to routes that it cannot open."""
    arguments, instead = COMMANDS[command]
    with Proxy(world.url) as proxy:
        remember = [] if command == "export" else ["--remember", tmp_path / "memory"]
        status, said = audit(*arguments(proxy.url, tmp_path), *remember, api_key=keys[whose])
        asked = [one.path.partition("?")[0] for one in proxy.heard]
    assert (status, said.count(says), said.count(MAKE_ONE)) == (1, 1, 1), said
    assert instead.format(url=proxy.url, at=tmp_path) in said
    assert keys[whose] not in said
    assert asked.count("/v1/audit/events") == (whose != "tenant")
    assert not any("/tile/" in path for path in asked)


def test_the_way_out_that_is_named_is_one(world: World, keys: dict[str, str], tmp_path: Path) -> None:
    """Without a key the log holds; with an auditor's, its events, too, and what they say of when an order came."""
    with world.client(home=tmp_path / "home") as client:
        client.model("small").predict(np.zeros((1, 4)))
    memory = ["--remember", tmp_path / "memory"]
    status, said = audit("verify", world.url, *memory)
    assert (status, "an auditor's API key shows them (--api-key)" in said) == (0, True), said
    status, said = audit("verify", world.url, *memory, api_key=keys["auditor"])
    assert (status, "are the ones that were logged" in said) == (0, True), said
    assert re.search(r"when [0-9]+ orders came is said with their results as it was logged then", said)


def test_a_monitor_is_the_key_owners_or_an_auditors(world: World, keys: dict[str, str], statements: Path) -> None:
    """An operator's key opens neither door; a tenant's that is not known is told whose it must be."""
    asked = ["monitor", world.url, "--statements", statements]
    status, said = audit(*asked, api_key=keys["operator"])
    assert (status, MAKE_ONE in said) == (1, True), said
    status, said = audit(*asked, api_key="bg_0000000000000000." + "A" * 43)
    assert (status, "the key of the tenant whose these are, or an auditor's" in said) == (1, True), said


class Page(BaseHTTPRequestHandler):
    """A web server that has the same page for whatever it is asked."""

    def do_GET(self) -> None:
        """The page."""
        body = b"<!doctype html><p>Welcome"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("command", ["verify", "export", "key", "tenant"])
@pytest.mark.parametrize("server", ["a page for everything", "an empty folder"])
def test_a_server_that_is_no_gateway_is_said_to_be_none(tmp_path: Path, command: str, server: str) -> None:
    """With the address, and where a log was looked for."""
    with served(Page if server == "a page for everything" else tmp_path) as url:
        arguments, _ = COMMANDS[command]
        status, said = audit(*arguments(url, tmp_path), api_key="bs_1.x")
    assert status == 1
    assert said.startswith(
        f"{url}: no log here, neither its checkpoint at /checkpoint nor a gateway's at /log/checkpoint. Is this"
    )


def test_a_copy_of_a_log_that_is_asked_for_events_is_said_to_have_none(tmp_path: Path) -> None:
    """Whose key is in the environment reads a mirror."""
    write_log(tmp_path / "log", random_entries(3))
    with served(tmp_path) as url:
        status, said = audit("verify", url, "--remember", tmp_path / "memory", api_key="bs_1.x")
    assert status == 1
    assert "A copy of a log has no events to give. Without a key the log is verified" in said
    assert said.endswith(f"BLINDGATE_API_KEY= blindgate audit verify {url}")


def test_where_nothing_answers_it_is_said_what_to_look_at(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there; and http spoken where https was expected."""
    monkeypatch.setattr(fetching, "_pauses", lambda: iter([None]))
    status, said = audit("verify", "http://127.0.0.1:9", "--remember", tmp_path)
    assert (status, "http://127.0.0.1:9" in said, "does the gateway run?" in said) == (1, True, True), said
    secure = world.url.replace("http:", "https:")
    status, said = audit("verify", secure, "--remember", tmp_path)
    assert (status, secure in said, "is it an http:// address?" in said) == (1, True, True), said


@pytest.mark.parametrize(
    ("where", "says"),
    [
        pytest.param("gateway.example", "that is no folder. An address begins with https:// or http://", id="a host"),
        pytest.param(".", "a log's folder has a file named 'checkpoint'", id="a folder of other things"),
    ],
)
def test_what_is_neither_an_address_nor_a_log_is_said_so(tmp_path: Path, where: str, says: str) -> None:
    """With what was looked for."""
    status, said = audit("verify", where if where != "." else tmp_path)
    assert (status, says in said) == (1, True), said


def test_a_file_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    """And where bundles are."""
    file = tmp_path / "policy.toml"
    file.write_text("[logs]")
    status, said = audit("replay", file)
    assert status == 1
    assert said.startswith(f"{file}: not a bundle")
    assert said.endswith("in HOME/bundles")

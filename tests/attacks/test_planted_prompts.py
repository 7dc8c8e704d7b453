"""Planted prompts and answers of sealed jobs: the gateway has them nowhere, and a node has them in its memory alone.

Each is random, so that it occurs by chance nowhere, and is looked for as UTF-8, as UTF-16 and in base64, wherever that begins.
What is searched is every file of the gateway (database, blobs, log, its own log), the memory of each of its processes, and with
PostgreSQL that server's files and processes; while an answer is half written, and afterwards. The control is the node: in its
memory the same search finds prompt and answer, at the same moment.
"""

import base64
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import planted
from blindgate import Client
from blindgate_protocol.errors import InputError, JobDeadError
from postgresql import PostgresqlServer, find_programs, in_memory, running_server
from runs import SOON_IN_THE_LOG
from scripted_model import ScriptedModel, package_scripted
from sealed_world import CHAT, offer_model, sealed_client, start_sealed_node
from signed_packages import PUBLISHER
from typed import FreshWorld


class DatabaseWorld(FreshWorld):
    """A world whose gateway's commands know its database, too."""

    def _command(self, *command: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        database = self._gateway_settings.get("DATABASE")
        known = {} if database is None else {"BLINDGATE_GATEWAY_DATABASE": str(database)}
        return super()._command(*command, environment=known | dict(environment or {}))


@dataclass
class Ground:
    """A gateway, a node, a model that says what was planted."""

    world: FreshWorld
    model: ScriptedModel
    client: Client
    database: PostgresqlServer | None
    prompt: str = field(default_factory=lambda: secrets.token_hex(20))
    words: tuple[str, ...] = field(default_factory=lambda: tuple(f"{secrets.token_hex(20)} " for _ in range(6)))

    def search(self) -> planted.Search:
        """For all of it."""
        answers = [needle(f"answer {place}", word) for place, word in enumerate(self.words)]
        return planted.Search([needle("prompt", self.prompt), *answers])

    def processes(self, name: str) -> list[int]:
        """All of a process's."""
        return planted.family(self.world.processes[name].pid)

    def at_the_gateway(self) -> list[str]:
        """What the gateway has, on disk and in memory, and its database's server."""
        search, folders = self.search(), [self.world.gateway_folder]
        found = search.in_processes(self.processes("gateway"))
        if self.database is not None:
            folders.append(self.database.log.parent)
            found += search.in_processes(planted.family(self.database.pid))
        return found + search.in_files(folders)

    def ask(self, **changes: object) -> str:
        """A chat about what was planted, read along."""
        given: dict[str, Any] = {"messages": [{"role": "user", "content": self.prompt}]}
        stream = self.client.chat.completions.create(model=CHAT, stream=True, **(given | changes))
        return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def needle(name: str, text: str) -> planted.Needle:
    """A text in the forms in which it could be written down."""
    forms = [text.strip().encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")]
    cut = [form[begin : begin + (len(form) - begin) // 3 * 3] for form in forms for begin in range(3)]
    encoded = [encode(part) for part in cut for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    return planted.Needle(name, tuple(dict.fromkeys(forms + encoded)))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """On either database."""
    folder = tmp_path_factory.mktemp("planted")
    if request.param == "sqlite":
        yield from _ground(folder, None)
        return
    programs = find_programs()
    if programs is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "PostgreSQL's server is not installed (Debian: postgresql)"
        )
    with running_server(programs, within=in_memory(), fsync="off") as server:
        yield from _ground(folder, server)


def _ground(folder: Path, database: PostgresqlServer | None) -> Iterator[Ground]:
    models = folder / "models"
    models.mkdir()
    package_scripted(models / "chat")
    (models / "chat.files").rename(folder / "chat.files")
    settings = dict(SOON_IN_THE_LOG) | {"ATTEMPTS": 1}
    if database is not None:
        settings["DATABASE"] = database.new_database()
    with ScriptedModel() as model, DatabaseWorld(folder / "world", gateway=settings) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        offer_model(world, models / "chat")
        start_sealed_node(world, "enclave", models, UPSTREAM=model.url)
        with sealed_client(world, folder / "client", "enclave") as client:
            made = Ground(world, model, client, database)
            model.words = made.words
            yield made


def test_the_search_finds_each_form() -> None:
    """Or it would prove nothing: wherever it was cut, and beside whatever."""
    text = secrets.token_hex(20)
    search = planted.Search([needle("text", text)])
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        form = text.encode(encoding)
        for before in range(3):
            given = bytes(before) + form + b"\n"
            for leak in (given, base64.b64encode(given), base64.urlsafe_b64encode(given)):
                assert search.in_bytes(b'{"x": "' + leak + b'"}') == {"text"}
    assert search.in_bytes(text[:-1].encode()) == set()


def test_prompts_and_answers_are_in_the_nodes_memory_alone(ground: Ground) -> None:
    """While the answer is half written, and when all is over; streamed, and in one piece."""
    found: dict[str, list[str]] = {}

    def look() -> None:
        found["node"] = ground.search().in_processes(ground.processes("enclave"))
        found["gateway"] = ground.at_the_gateway()

    ground.model.midway = look
    assert ground.ask() == "".join(ground.words)
    ground.model.midway = lambda: None
    assert found["gateway"] == []
    assert any("prompt" in one for one in found["node"])
    assert any("answer 0" in one for one in found["node"])
    answer = ground.client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": ground.prompt}])
    assert answer.choices[0].message.content == "".join(ground.words)
    assert ground.at_the_gateway() == []
    on_disk = [ground.world.folder / "enclave", ground.client.home]
    assert ground.search().in_files(on_disk) == []


def test_what_failed_is_told_without_the_prompt(ground: Ground) -> None:
    """A runtime that fails, and says on what; one that calls the request wrong; a request that the node refuses."""
    ground.model.status = 500
    with pytest.raises(JobDeadError) as failed:
        ground.ask()
    assert ground.prompt not in str(failed.value)
    ground.model.status = 400
    with pytest.raises((InputError, JobDeadError)) as failed_too:
        ground.ask()
    assert ground.prompt not in str(failed_too.value)
    ground.model.status = 200
    with pytest.raises(InputError, match="tools"):
        ground.ask(tools=[ground.prompt])
    assert ground.at_the_gateway() == []
    assert ground.search().in_files([ground.world.folder / "enclave"]) == []


def test_what_is_leaked_on_purpose_is_found_at_the_gateway(ground: Ground) -> None:
    """In its folder, where the search above found nothing."""
    leak = ground.world.gateway_folder / "leak"
    leak.write_bytes(b"x" * 999 + base64.b64encode(f"the prompt: {ground.prompt}".encode("utf-16-le")))
    assert any("prompt in" in one and "leak" in one for one in ground.at_the_gateway())
    leak.unlink()
    assert ground.at_the_gateway() == []

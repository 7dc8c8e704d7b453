"""A corpus at a real gateway, as its owner's machines see it: the SDK, the command line, and what a gateway may try on the way."""

import contextlib
import json
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from between import Answer, Proxy
from blindgate import Client, Policy
from blindgate_protocol.errors import CorpusError, GatewayError, InputError, RolledBackCorpusError
from blindgate_rag.adding import Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.sync.corpus import SyncedCorpus
from brokerage import Brokerage, GatewayProcess, Keys, make_settings
from postgresql import PostgresqlServer
from s3 import S3Server, keys_in
from typed import Typed, type_command
from world import World

NOTES = [
    Text("dose", "Aspirin must not be combined with warfarin: both thin the blood.", {"ward": "3B"}),
    Text("tea", "The patient of bed 4 has had a cough. Tea with honey was given."),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway, and nothing else."""
    with World(tmp_path_factory.mktemp("corpora")) as made:
        made.start_gateway()
        yield made


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """MiniLM, opened once."""
    return Embedder.default()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A corpus's name that no other test has."""
    return f"c{abs(hash(request.node.name)):x}"


@pytest.fixture
def client(world: World) -> Iterator[Callable[..., Client]]:
    """Makes clients, each with a home of its own: machines of the owner's."""
    with contextlib.ExitStack() as stack:
        yield lambda home, **given: stack.enter_context(world.client(home=home, log=False, progress=False, **given))


def test_a_second_machine_needs_the_name_and_the_passphrase(
    client: Callable[..., Client], tmp_path: Path, embedder: Embedder, name: str
) -> None:
    """It fetches the corpus whole, later what changed; the gateway lists sizes, and deletes for all."""
    given: dict[str, Any] = {"passphrase": "correct horse battery", "embedder": embedder}
    one, two = client(tmp_path / "one"), client(tmp_path / "two")
    first = one.corpus(name, **given)
    assert first.add_texts(NOTES).added == ("dose", "tea")
    second = two.corpus(name, create=False, profile="sealed-sync", **given)
    hits = second.search("what goes badly with blood thinners?", k=1, where={"ward": "3B"})
    assert (hits[0].source, hits.leakage.profile) == ("dose", "sealed-sync")
    assert "blobs of" in hits.leakage.learned[0].what
    second.remove("tea")
    assert [one.source for one in first.documents()] == ["dose"]
    with pytest.raises(CorpusError, match="the passphrase is not this corpus's"):
        client(tmp_path / "three").corpus(name, passphrase="wrong", embedder=embedder)
    with pytest.raises(InputError, match="profile 'plain'"):
        one.corpus(name, profile="plain")  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"not a corpus's name: '\.\./x'"):
        one.corpus("../x")
    (shown,) = [view for view in two.corpora.list() if view.name == name]
    assert (shown.shards, shown.size % 1000 > 0) == (1, True)
    two.corpora.delete(name)
    assert name not in [view.name for view in one.corpora.list()]
    with pytest.raises(CorpusError, match="any more"):
        first.search("aspirin")
    one.corpora.forget(name)
    assert one.corpus(name, **given).documents() == []


def test_a_random_passphrase_is_brought_to_another_machine_as_the_error_says(
    client: Callable[..., Client], tmp_path: Path, embedder: Embedder, name: str
) -> None:
    """The file is copied to where the error says; or the owner chooses a passphrase. A corpus may be called as the file."""
    one, two = client(tmp_path / "one"), client(tmp_path / "two")
    one.corpus(name, profile="sealed-sync", embedder=embedder).add_texts(NOTES)
    one.corpus(f"{name}.passphrase", profile="sealed-sync", embedder=embedder).add_texts(NOTES[:1])
    assert len(one.corpus(name, profile="sealed-sync", embedder=embedder)) == 2
    with pytest.raises(
        CorpusError, match=f"as {name}.passphrase in .* copy that file from there to (.*)[.] Or"
    ) as told:
        two.corpus(name, profile="sealed-sync", embedder=embedder)
    (kept,) = (tmp_path / "one").rglob(f"{name}.passphrase")  # and no folder of the other one
    place = re.search(rf"to (\S+{name}\.passphrase)", str(told.value))
    assert place is not None
    Path(place[1]).write_text("of another corpus\n")
    with pytest.raises(CorpusError, match=f"by {place[1]}: the passphrase is not this corpus's"):
        two.corpus(name, profile="sealed-sync", embedder=embedder)
    Path(place[1]).write_text(kept.read_text() + "\n")
    with two.corpus(name, profile="sealed-sync", embedder=embedder) as taken:
        assert len(taken) == 2
    assert two.corpora.forget(name) == Path(place[1])
    shared = two.corpus(name, profile="sealed-sync", embedder=embedder)
    assert len(shared) == 2
    shared.change_passphrase("chosen")
    assert len(one.corpus(name, passphrase="chosen", embedder=embedder)) == 2


def test_another_tenants_corpus_is_not_there(
    client: Callable[..., Client], tmp_path: Path, embedder: Embedder, name: str
) -> None:
    """The same name and the same passphrase of two tenants are two corpora."""
    given: dict[str, Any] = {"passphrase": "the same", "embedder": embedder}
    client(tmp_path / "one").corpus(name, **given).add_texts(NOTES)
    clinic = client(tmp_path / "two", tenant="clinic")
    with pytest.raises(CorpusError, match="the gateway has no corpus"):
        clinic.corpus(name, create=False, **given)
    assert clinic.corpus(name, **given).documents() == []


def test_on_postgresql_and_a_bucket_nothing_is_lost_and_nothing_is_left(
    tmp_path: Path, embedder: Embedder, postgresql_server: PostgresqlServer, s3_server: S3Server
) -> None:
    """Parts go straight to a bucket that keeps versions. Two write at once; what is replaced is purged, and what is deleted."""
    bucket = s3_server.new_bucket(versions=True, direct=True)
    changes = {"database": postgresql_server.new_database(), "part": 64 * 1024, "max_blob": 1 << 24, **bucket}
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys, **changes)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    given: dict[str, Any] = {"passphrase": "pass", "embedder": embedder}
    with contextlib.ExitStack() as stack:
        gateway.start()
        stack.callback(gateway.kill)
        api_key = brokerage.api_key("hospital")
        machines = [
            stack.enter_context(
                Client(gateway.url, api_key, policy=Policy({}, {}), home=tmp_path / home, progress=False)
            )
            for home in ("one", "two")
        ]
        corpora = [machine.corpus("notes", **given) for machine in machines]
        threads = [
            threading.Thread(target=corpus.add_texts, args=([note],))
            for corpus, note in zip(corpora, NOTES, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for corpus in corpora:
            assert sorted(one.source for one in corpus.documents()) == ["dose", "tea"]
        before = _blobs(corpora[0])
        corpora[0].remove("tea")
        assert corpora[1].search("warfarin", ranking="bm25")[0].source == "dose"
        now, stored = _blobs(corpora[1]), {key.partition("-")[0] for key in keys_in(s3_server, bucket)}
        assert now <= stored
        assert not stored & before
        machines[1].corpora.delete("notes")
        assert not now & {key.partition("-")[0] for key in keys_in(s3_server, bucket)}


def _blobs(corpus: SyncedCorpus) -> set[str]:
    """What the head that a machine knows needs, as hexadecimal digits."""
    base = corpus._here().base
    assert base is not None
    return {one.removeprefix("sha256:") for one in (base.digest, *(ref.digest for ref in base.head.shards.values()))}


def test_many_writers_at_once_lose_nothing(
    client: Callable[..., Client], tmp_path: Path, embedder: Embedder, name: str
) -> None:
    """Each of four machines adds three documents, all at the same time."""
    given: dict[str, Any] = {"passphrase": "pass", "embedder": embedder}
    machines = [client(tmp_path / f"{number}").corpus(name, **given) for number in range(4)]

    def write(number: int) -> None:
        for each in range(3):
            machines[number].add_texts([Text(f"{number}-{each}", f"Machine {number}, report {each}.")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"{number}-{each}" for number in range(4) for each in range(3)}
    for corpus in machines:
        assert {one.source for one in corpus.documents()} == wanted
        assert corpus.generation == 13


@pytest.mark.parametrize("moment", ["before the shard", "behind the shard", "before the head", "behind the head"])
def test_who_is_killed_while_it_puts_leaves_the_old_or_the_new(  # noqa: PLR0917  (fixtures)
    world: World, client: Callable[..., Client], tmp_path: Path, embedder: Embedder, name: str, moment: str
) -> None:
    """What was changed is in the cache, and goes up with the next change: of its blobs, those that did not arrive."""
    assert Typed.preloaded is not None
    given: dict[str, Any] = {"passphrase": "pass", "embedder": embedder}
    home = tmp_path / "one"
    with Proxy(world.url) as proxy:
        corpus = client(home, url=proxy.url).corpus(name, **given)
        corpus.add_texts(NOTES)
        watcher = client(tmp_path / "two").corpus(name, **given)
        environment = os.environ | {
            "BLINDGATE_URL": proxy.url,
            "BLINDGATE_API_KEY": world.api_key("hospital"),
            "BLINDGATE_HOME": str(home),
            "BLINDGATE_CORPUS_PASSPHRASE": "pass",
        }
        killed = threading.Event()
        started = threading.Event()
        process: Any = None
        uploads: list[str] = []

        def kill(method: str, path: str) -> None:
            if (method, path) == ("POST", "/v1/uploads"):
                uploads.append(path)
            is_head = method == "PUT" and path == f"/v1/corpora/{name}"
            now = is_head if moment.endswith("head") else len(uploads) == (1 if moment == "before the shard" else 2)
            if now and not killed.is_set():
                started.wait(10)
                os.kill(process.pid, signal.SIGKILL)
                killed.set()

        def kill_behind(method: str, path: str, answer: Answer) -> Answer:
            kill(method, path)
            return answer

        if moment == "behind the head":
            proxy.lie = kill_behind
        else:
            proxy.overhear = kill
        with tempfile.TemporaryFile() as output:
            process = Typed.preloaded.start(
                ["rag", "remove", f"gateway:{name}", "tea"], environment, output, errors=output
            )
            started.set()
            assert process.wait(60) == -signal.SIGKILL
        proxy.overhear, proxy.lie = lambda _method, _path: None, lambda _method, _path, answer: answer
        assert watcher.generation == 2
        there = [one.source for one in watcher.documents()]
        # The request that was overheard may still have arrived: a killed process takes back nothing that was sent.
        assert there in (["dose", "tea"], ["dose"])
        assert (there == ["dose"]) or moment != "behind the head"
        proxy.heard.clear()
        assert [one.source for one in client(home, url=proxy.url).corpus(name, **given).documents()] == ["dose"]
        client(home, url=proxy.url).corpus(name, **given).sync()
        parts = [said for said in proxy.heard if said.method == "PUT" and "/parts/" in said.path]
        assert len(parts) <= {"before the shard": 2, "behind the shard": 1}.get(moment, 0)
        assert [one.source for one in watcher.documents()] == ["dose"]
        assert watcher.generation == 3


def test_a_quota_that_is_reached_midway_loses_nothing_and_says_what_to_do(  # noqa: PLR0917  (fixtures)
    world: World,
    client: Callable[..., Client],
    tmp_path: Path,
    embedder: Embedder,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was added is on this machine, and is put once there is room."""
    monkeypatch.setattr("blindgate.transport._LONGEST_WAIT", 0.0)
    given: dict[str, Any] = {"passphrase": "pass", "embedder": embedder}

    def allow(most: str) -> None:
        done = type_command(
            ["gateway", "tenants", "quota", "full", most, "--data", str(world.gateway_folder)], os.environ
        )
        assert done.returncode == 0, done.stderr

    corpus = client(tmp_path / "one", tenant="full").corpus(name, **given)
    watcher = client(tmp_path / "two", tenant="full").corpus(name, **given)
    allow("150000")
    with pytest.raises(
        GatewayError, match=r"beyond the tenant's quota; delete what nobody needs.* nothing is lost"
    ) as full:
        corpus.add_texts(NOTES)
    assert full.value.problem == "quota"
    assert watcher.documents() == []
    assert client(tmp_path / "one", tenant="full").corpus(name, offline=True, **given).search("aspirin")
    allow("1000000")
    assert corpus.add_texts(NOTES).unchanged == 2
    assert [one.source for one in watcher.documents()] == ["dose", "tea"]


def test_a_gateway_that_brings_back_what_was_before_is_found_out(
    world: World, client: Callable[..., Client], tmp_path: Path, embedder: Embedder, name: str
) -> None:
    """By each machine that saw the newer one, also when it opens again; what it has is searched offline."""
    given: dict[str, Any] = {"passphrase": "pass", "embedder": embedder}
    with Proxy(world.url) as proxy:
        corpus = client(tmp_path, url=proxy.url).corpus(name, **given)
        corpus.add_texts(NOTES[:1])
        kept: dict[str, Answer] = {}

        def keep(method: str, path: str, answer: Answer) -> Answer:
            if method == "GET" and path.startswith(f"/v1/corpora/{name}"):
                kept[path] = answer
            return answer

        proxy.lie = keep
        client(tmp_path / "two", url=proxy.url).corpus(name, **given)
        proxy.lie = lambda _method, _path, answer: answer
        corpus.add_texts(NOTES[1:])
        proxy.lie = lambda method, path, answer: kept.get(path, answer) if method == "GET" else answer
        for _ in range(2):
            with pytest.raises(RolledBackCorpusError, match="generation 2 was given, and this client has seen 3"):
                corpus.search("tea")
            with pytest.raises(RolledBackCorpusError):
                corpus = client(tmp_path, url=proxy.url).corpus(name, **given)
        offline = client(tmp_path, url=proxy.url).corpus(name, offline=True, **given)
        assert offline.search("tea", k=1)[0].source == "tea"
        known = client(tmp_path, url=proxy.url).corpora.generation(name)
        assert known == 3
        stranger = client(tmp_path / "three", url=proxy.url)
        for _ in range(2):
            with pytest.raises(
                RolledBackCorpusError, match="generation 2 was given, and at least 3 was said to be there"
            ):
                stranger.corpus(name, at_least=known, **given)
        proxy.lie = lambda _method, _path, answer: answer
        assert len(stranger.corpus(name, at_least=known, **given)) == 2


def test_the_commands_take_a_corpus_at_the_gateway_as_they_take_a_folder(
    world: World, tmp_path: Path, name: str
) -> None:
    """add, search, list, remove, passphrase; corpora, delete and forget besides."""
    environment = os.environ | {
        "BLINDGATE_URL": world.url,
        "BLINDGATE_API_KEY": world.api_key("hospital"),
        "BLINDGATE_CORPUS_PASSPHRASE": "pass",
    }

    def rag(*arguments: str | Path, home: str = "one", **changes: str) -> "CompletedProcess[str]":
        world.policy(tmp_path / home / "policy.toml", log=False).save()
        given = environment | {"BLINDGATE_HOME": str(tmp_path / home)} | changes
        return type_command(["rag", *map(str, arguments)], given)

    notes, corpus = tmp_path / "notes", f"gateway:{name}"
    no_passphrase = {"BLINDGATE_CORPUS_PASSPHRASE": ""}
    notes.mkdir()
    (notes / "dose.txt").write_text("Aspirin must not be given with warfarin.")
    (notes / "visit.md").write_text("# Visits\n\nVisiting hours are from two to four.")
    assert "nowhere: there is no such file or folder" in rag("add", corpus, "nowhere").stderr
    (made,) = re.findall(r"a random one lies in (\S+)\.", rag("add", f"{corpus}-own", notes, **no_passphrase).stderr)
    assert Path(made).name == f"{name}-own.passphrase"
    assert rag("delete", f"{corpus}-own", "--yes").returncode == 0
    missing = rag("search", corpus, "x")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"the gateway has no corpus '{name}': `blindgate rag add gateway:{name} …` makes one" in missing.stderr
    added = rag("add", corpus, notes, "--json")
    assert json.loads(added.stdout)["added"] == ["notes/dose.txt", "notes/visit.md"], added.stderr
    found = rag("search", corpus, "warfarin", "--ranking", "bm25", home="two")
    assert found.stdout.startswith("1  notes/dose.txt"), found.stderr
    assert "search sealed-sync: the gateway: that this corpus was looked at" in found.stderr
    away = rag("search", corpus, "warfarin", "--ranking", "bm25", "--offline", home="two", BLINDGATE_API_KEY="nobody")
    assert (away.stdout, away.stderr) == (found.stdout, "")
    assert "nothing of the corpus" in rag("list", corpus, "--offline", home="three").stderr
    assert "--offline: notes.bgc is a folder" in rag("search", "notes.bgc", "x", "--offline").stderr
    assert rag("remove", corpus, "notes/dose.txt", home="two").returncode == 0
    assert [one["source"] for one in json.loads(rag("list", corpus, "--json").stdout)] == ["notes/visit.md"]
    assert rag("passphrase", corpus, "--new", "another").returncode == 0
    assert "the passphrase is not this corpus's" in rag("list", corpus, home="three").stderr
    assert "notes/visit.md" in rag("list", corpus, home="two", BLINDGATE_CORPUS_PASSPHRASE="another").stdout
    listed = json.loads(rag("corpora", "--json").stdout)
    assert [(one["shards"], one["bytes"] > 0, one["seen"]) for one in listed if one["corpus"] == corpus] == [
        (1, True, 4)
    ]
    assert "at least 9 was said" in rag("list", corpus, "--at-least", "9", BLINDGATE_CORPUS_PASSPHRASE="another").stderr
    assert rag("forget", corpus, home="two").returncode == 0
    assert f"nothing of the corpus '{name}' is on this machine" in rag("forget", corpus, home="two").stderr
    assert "expected gateway:NAME" in rag("delete", tmp_path / "notes.bgc").stderr
    assert "Aborted" in rag("delete", corpus).stderr
    assert rag("delete", corpus, "--yes").returncode == 0
    assert corpus not in rag("corpora").stdout
    assert "no such corpus" in rag("delete", corpus, "--yes").stderr

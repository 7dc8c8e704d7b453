"""A tenant's corpora: heads that take each other's place one at a time, and blobs that stay exactly as long as one needs them."""

import contextlib
import dataclasses
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, select, update

from blindgate_gateway import corpora
from blindgate_gateway.sweep import sweep_bytes, sweep_strays
from blindgate_gateway.tables import blobs, events, stored_bytes
from blindgate_protocol.errors import GatewayError
from blindgate_protocol.messages import CorpusList, CorpusRequest, CorpusView
from blindgate_protocol.values import BlobRef
from brokerage import Tenant, blob_ref, random_bytes
from desk import Desk, open_desk


def _put(
    tenant: Tenant, head: BlobRef, *shards: BlobRef, instead_of: BlobRef | None = None, name: str = "notes"
) -> httpx2.Response:
    body = CorpusRequest(head=head, shards=shards, instead_of=None if instead_of is None else instead_of.digest)
    return tenant.send("PUT", f"/v1/corpora/{name}", body)


def _some(tenant: Tenant, count: int) -> list[BlobRef]:
    return [tenant.upload(random_bytes(100 + place)) for place in range(count)]


def _there(desk: Desk, *refs: BlobRef) -> list[bool]:
    """Whether the tenant `bank` has these blobs: rows, and objects, too."""
    with desk.parts.database.read() as connection:
        rows = connection.execute(select(blobs.c.digest, blobs.c.object).where(blobs.c.tenant == "bank")).all()
    named = {row.digest: row.object for row in rows}
    objects = {stray.object for stray in desk.parts.blobs.strays(grace=-60_000)}
    for ref in refs:
        assert (ref.digest in named) is any(one.startswith(ref.digest.removeprefix("sha256:")) for one in objects)
    return [ref.digest in named for ref in refs]


def _counted(desk: Desk) -> int:
    with desk.parts.database.read() as connection:
        found: int = connection.execute(select(stored_bytes.c.bytes).where(stored_bytes.c.tenant == "bank")).scalar()
    return found


def _age(desk: Desk) -> None:
    """Everything was stored long ago."""
    with desk.parts.database.write() as connection:
        connection.execute(update(blobs).values(stored=1))


def _events(desk: Desk) -> list[Any]:
    with desk.parts.database.read() as connection:
        return connection.execute(
            select(events.c.action, events.c.object, events.c.body).where(events.c.object.like("corpus:%"))
        ).all()


def test_a_head_keeps_what_it_needs_and_frees_what_it_needs_no_more(desk: Desk) -> None:
    """However old that is, whatever is swept; and what is replaced is gone before the answer, and counted no more."""
    first, second, kept, dropped, added = _some(desk.tenant, 5)
    made = _put(desk.tenant, first, kept, dropped)
    assert made.status_code == 201, made.text
    view = CorpusView.model_validate_json(made.content)
    assert (view.name, view.head, view.shards, view.size) == ("notes", first, 2, first.size + kept.size + dropped.size)
    _age(desk)
    sweep_bytes(desk.parts)
    assert _there(desk, first, kept, dropped, second) == [True, True, True, False]
    second = desk.tenant.upload(random_bytes(50))
    added = desk.tenant.upload(random_bytes(51))
    moved = _put(desk.tenant, second, kept, added, instead_of=first)
    assert moved.status_code == 200, moved.text
    assert _there(desk, first, kept, dropped, second, added) == [False, True, False, True, True]
    assert _counted(desk) == second.size + kept.size + added.size
    assert desk.tenant.ask("GET", f"/v1/corpora/notes/blobs/{kept.digest}").headers["Blindgate-Digest"] == kept.digest
    assert desk.tenant.send("GET", f"/v1/corpora/notes/blobs/{dropped.digest}").status_code == 404
    assert desk.tenant.send("DELETE", "/v1/corpora/notes").status_code == 204
    assert _there(desk, kept, second, added) == [False, False, False]
    assert _counted(desk) == 0
    assert desk.tenant.send("GET", "/v1/corpora/notes").status_code == 404


def test_what_something_else_needs_stays(desk: Desk) -> None:
    """A shard of another corpus, the input of a job that waits, and what was stored anew."""
    head, other, shared, asked = _some(desk.tenant, 4)
    assert _put(desk.tenant, head, shared, asked).is_success
    assert _put(desk.tenant, other, shared, name="others").is_success
    assert _put(desk.tenant, head, name="of-one-head").status_code == 201
    listed = CorpusList.model_validate_json(desk.tenant.ask("GET", "/v1/corpora").content).corpora
    assert [one.name for one in listed] == ["notes", "of-one-head", "others"]
    assert desk.tenant.send("DELETE", "/v1/corpora/of-one-head").status_code == 204
    desk.tenant.submit(desk.tenant.order(desk.manifest, asked))
    assert desk.tenant.send("DELETE", "/v1/corpora/notes").status_code == 204
    assert _there(desk, head, shared, asked) == [False, True, True]


def test_one_of_two_heads_at_once_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and nothing of it counts; the same one again is no second one."""
    first, mine, theirs, shard = _some(desk.tenant, 4)
    assert _put(desk.tenant, first, shard).status_code == 201
    assert _put(desk.tenant, first, shard).status_code == 200
    for instead_of in (None, theirs):
        refused = _put(desk.tenant, mine, shard, instead_of=instead_of)
        assert (refused.status_code, refused.json()["code"]) == (409, "corpus-changed")
    gate, inside, answers, check = threading.Barrier(2), threading.Barrier(2), [], corpora._check_replaced

    def together(*given: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            inside.wait(0.3)  # for the other one, which is to be kept out until this one is done
        check(*given)

    monkeypatch.setattr(corpora, "_check_replaced", together)

    def race(head: BlobRef) -> None:
        gate.wait()
        answers.append(_put(desk.tenant, head, shard, instead_of=first).status_code)

    threads = [threading.Thread(target=race, args=(head,)) for head in (mine, theirs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409]
    nowhere = _put(desk.tenant, mine, instead_of=first, name="nowhere")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not-found")


def test_a_head_whose_blobs_are_not_here_is_refused(desk: Desk) -> None:
    """One that nobody sent, one of another tenant's, one of another size: than it has, or than was just said."""
    head, shard = _some(desk.tenant, 2)
    nobodys, theirs = blob_ref(random_bytes(9)), desk.stranger.upload(random_bytes(9))
    wrong = shard.model_copy(update={"size": 1})
    for shards, status, code in (
        ((shard, nobodys), 404, "not-found"),
        ((shard, theirs), 404, "not-found"),
        ((shard, wrong), 422, "digest-mismatch"),
        ((wrong,), 422, "digest-mismatch"),
    ):
        refused = _put(desk.tenant, head, *shards)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert desk.tenant.ask("GET", "/v1/corpora").json() == {"corpora": []}


@pytest.mark.sqlite
def test_a_shard_that_was_lost_is_not_taken_to_be_there(desk: Desk) -> None:
    """Though the head before needs it, too: who changes the corpus is told, and puts it again."""
    first, second, shard = _some(desk.tenant, 3)
    assert _put(desk.tenant, first, shard).status_code == 201
    with desk.parts.database.write() as connection:
        connection.execute(delete(blobs).where(blobs.c.digest == shard.digest))
    lost = _put(desk.tenant, second, shard, instead_of=first)
    assert (lost.status_code, lost.json()["code"]) == (404, "not-found")


@pytest.mark.sqlite
def test_a_store_that_cannot_delete_now_undoes_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and deletion hold: a client that asks again would be told that there is no such corpus. The sweep takes the rest."""
    first, second, dropped = _some(desk.tenant, 3)
    assert _put(desk.tenant, first, dropped).is_success

    def away(*_: object) -> None:
        message = "the store does not answer"
        raise GatewayError(message, status=503, problem="busy")

    with monkeypatch.context() as broken:
        broken.setattr(type(desk.parts.blobs), "remove", away)
        assert _put(desk.tenant, second, instead_of=first).status_code == 200
        assert desk.tenant.send("DELETE", "/v1/corpora/notes").status_code == 204
    assert _counted(desk) == 0
    grace = desk.parts.settings.model_copy(update={"grace": -60_000})
    assert sweep_strays(dataclasses.replace(desk.parts, settings=grace)) == 3
    assert _there(desk, first, second, dropped) == [False, False, False]


@pytest.mark.sqlite
def test_another_tenant_sees_none_of_it_and_a_reader_all(desk: Desk) -> None:
    """One name of two tenants is two corpora; and of the tenant's other blobs, a reader sees none by this way."""
    head, shard, loose = _some(desk.tenant, 3)
    assert _put(desk.tenant, head, shard).is_success
    assert desk.reader.send("GET", f"/v1/corpora/notes/blobs/{loose.digest}").status_code == 404
    for path in ("/v1/corpora/notes", f"/v1/corpora/notes/blobs/{head.digest}"):
        assert desk.stranger.send("GET", path).status_code == 404
        assert desk.reader.send("GET", path).status_code == 200
    assert desk.stranger.send("DELETE", "/v1/corpora/notes").status_code == 404
    assert _put(desk.stranger, *_some(desk.stranger, 2)).status_code == 201
    found = CorpusList.model_validate_json(desk.reader.ask("GET", "/v1/corpora").content).corpora
    assert [(one.name, one.head) for one in found] == [("notes", head)]


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["Notes", "a b", "-x", "x" * 65, "ü"])
def test_a_name_that_is_none_is_refused(desk: Desk, name: str) -> None:
    """By its rule."""
    refused = _put(desk.tenant, desk.tenant.upload(b"head"), name=name)
    assert (refused.status_code, refused.json()["code"]) == (422, "malformed")


@pytest.mark.sqlite
def test_the_log_tells_sizes_and_counts_and_no_name(desk: Desk) -> None:
    """Each change in the transaction that makes it; a refused one, or the same again, is none."""
    head, next_, shard = _some(desk.tenant, 3)
    _put(desk.tenant, head, shard, name="hiv-patients")
    _put(desk.tenant, head, shard, name="hiv-patients")
    _put(desk.tenant, next_, shard, name="hiv-patients")
    _put(desk.tenant, next_, shard, instead_of=head, name="hiv-patients")
    desk.tenant.send("DELETE", "/v1/corpora/hiv-patients")
    told = _events(desk)
    assert [row.action for row in told] == ["corpus.stored", "corpus.stored", "corpus.deleted"]
    assert len({row.object for row in told}) == 1
    assert f'"details":{{"blobs":"2","bytes":"{head.size + shard.size}"}}' in told[0].body
    assert not any("hiv" in row.body for row in told)


@pytest.mark.sqlite
def test_there_are_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused as beyond the quota is; blobs count under that as all do."""
    monkeypatch.setattr("blindgate_gateway.corpora.MOST", 2)
    with open_desk(tmp_path, quota=1000) as desk:
        head = desk.tenant.upload(random_bytes(900))
        assert _put(desk.tenant, head, name="one").is_success
        assert _put(desk.tenant, head, name="two").is_success
        refused = _put(desk.tenant, head, name="three")
        assert (refused.status_code, refused.json()["code"]) == (429, "quota")
        full = desk.tenant.send("POST", "/v1/uploads", b'{"size":200,"sha256":"sha256:' + b"0" * 64 + b'"}')
        assert (full.status_code, full.json()["code"]) == (429, "quota")
        desk.tenant.send("DELETE", "/v1/corpora/one")
        assert _counted(desk) == 900
        desk.tenant.send("DELETE", "/v1/corpora/two")
        assert _counted(desk) == 0

"""A hosted corpus against whoever is in between: what the wire tells of a search, other texts or embedders, a forgetful gateway.

A listener between a client and its gateway hears every request and answer. Two searches sound alike whatever they ask, find and
want. That the fetch of a record tells a node nothing of its position is the product's (`test_encrypted_queries.py`); here is that
one is always sent, always of so many, whatever a node made of the scores.
"""

import math
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from between import Answer, Proxy
from blindgate import hosted_corpus, hosted_records
from blindgate.hosted_corpus import EncryptedCorpus
from blindgate.model import Model
from blindgate_models.compilers.lookup import compile_lookup
from blindgate_models.compilers.search import compile_search
from blindgate_models.publishing import open_package
from blindgate_models.seal.bfv import Ring
from blindgate_models.search.hosted import HostedCorpus, packed_digests
from blindgate_protocol.errors import (
    CorpusError,
    GatewayError,
    InputError,
    JobFailedError,
    PackageDigestError,
    PolicyError,
    RolledBackManifestError,
)
from blindgate_rag.corpus import Corpus
from blindgate_rag.records import Where
from hosted import exact_places, packages
from hosted import hosted_corpus as owners_corpus
from runs import SOON_IN_THE_LOG
from signed_packages import PUBLISHER, package
from world import World


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """The corpus, at its owner's."""
    with owners_corpus(tmp_path_factory.mktemp("owner")) as corpus:
        yield corpus


@pytest.fixture(scope="module")
def attacked(world: World, owned: Corpus) -> World:
    """The shared world, with the corpus."""
    made = packages(owned, name="attacked", fetches=4, filter_by=("ward",))
    world.publish(made.passages)
    world.publish(made.index)
    return world


def hear(proxy: Proxy, corpus: EncryptedCorpus, question: str, k: int, where: Where | None = None) -> tuple[Any, ...]:
    """What passes of one search, without random names and times: requests with their sizes, the last answer to each path."""
    proxy.heard.clear()
    answers: dict[str, int] = {}

    def listen(_method: str, path: str, answer: Answer) -> Answer:
        # a proof grows with the log, and a budget's number with what was asked before
        if not path.startswith("/log/") and "/proof" not in path and not path.endswith("/budget"):
            answers[without_names(path)] = len(answer.body)
        return answer

    proxy.lie = listen
    corpus.search(question, k=k, where=where)
    said: list[tuple[str, str, int]] = []
    for method, path, size in proxy.heard:
        if not path.startswith("/log/"):  # by the clock
            told = (method, without_names(path), size)
            said += [] if told in said[-1:] else [told]  # what is repeated, to wait for the node, counts once
    return tuple(said), answers, rows(corpus._index), rows(corpus._passages)


def rows(model: Model) -> tuple[int, int, int]:
    """What a model's last order and receipt say: rows, bytes of input, bytes of output."""
    (job,) = model.last_jobs
    order = job.bundle.order.document
    assert job.receipt is not None
    return order.rows, order.input.size, job.receipt.document.output.size


def without_names(path: str) -> str:
    """A path without a job's id."""
    return re.sub(r"[0-9a-f]{32}", "NAME", path.split("?", maxsplit=1)[0])


def test_every_search_sounds_alike(attacked: World, owned: Corpus, tmp_path: Path) -> None:
    """Long or short, found well or not, filtered or not, one passage wanted or all: the same requests, lengths and fetches."""
    asked: list[tuple[str, int, Where | None]] = [
        ("aspirin and warfarin", 4, None),
        ("x", 1, {"ward": "1B"}),
        ("頭痛 " * 900, 2, None),
        ("aspirin and warfarin", 4, {"ward": "no such ward"}),
    ]
    with Proxy(attacked.url) as proxy, attacked.client(home=tmp_path, url=proxy.url) as client:
        corpus = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)
        first, *others = [hear(proxy, corpus, *one) for one in asked]
    for other in others:
        assert other == first
    assert first[2][0] == 1
    assert first[3][0] == 4
    assert [path for _, path, _ in first[0]].count("/v1/jobs") == 2


def test_a_fetch_takes_as_much_work_whatever_is_wanted(
    attacked: World, owned: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sent the scores sees when the fetch comes: a polynomial of zeros takes half of the time of another."""
    with attacked.client(home=tmp_path) as client:
        table = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)._passages
        work: list[int] = []
        transform = Ring._to_ntt

        def counted(ring: Ring, words: Any) -> Any:
            work.append(len(words))
            return transform(ring, words)

        secret = table._keys.key_for(table._half, show_progress=False).secret
        table._half.encrypt(secret, np.zeros((1, 1)))  # draws the ring's mask
        monkeypatch.setattr(Ring, "_to_ntt", counted)
        done = []
        for wanted in ([0, 7, 23, 8], [3, -1, -1, -1], [-1] * 4):
            table._half.encrypt(secret, np.array(wanted, dtype=np.float64)[:, None])
            done.append(len(work))
            work.clear()
        assert done == [4, 4, 4]


def test_what_is_sent_does_not_depend_on_what_a_node_made_of_the_scores(
    attacked: World, owned: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that are the same for all, or any other, lead to the same fetch: of as many, and encrypted anew."""
    with attacked.client(home=tmp_path) as client:
        corpus = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)
        sizes, inputs = set(), set()
        for lie in (np.zeros, np.ones):
            decrypted = corpus._index._half.decrypt

            def lying(secret: bytes, result: bytes, count: int, lie: Any = lie, honest: Any = decrypted) -> Any:
                return lie(honest(secret, result, count).shape)

            monkeypatch.setattr(corpus._index._half, "decrypt", lying)
            hits = corpus.search("aspirin", k=2)
            assert (len(hits), hits.missing) == (0, 2)  # of a score that a node made up nothing is believed
            sizes.add(rows(corpus._passages))
            inputs.add(corpus._passages.last_jobs[0].bundle.order.document.input.digest)
        assert len(sizes) == 1
        assert len(inputs) == 2


def test_nothing_is_sent_once_a_record_was_looked_at(
    attacked: World, owned: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long that takes tells of the texts; so the last request goes out before, also the one for what is left of the budget."""
    with Proxy(attacked.url) as proxy, attacked.client(home=tmp_path, url=proxy.url) as client:
        corpus = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)
        before: list[int] = []
        look = hosted_records.opened

        def watched(record: bytes, digest: bytes, score: float) -> Any:
            before.append(len(proxy.heard))
            return look(record, digest, score)

        monkeypatch.setattr(hosted_corpus, "opened", watched)
        assert corpus.search("aspirin", k=2)
        assert before == [len(proxy.heard)] * 2


def test_a_gateway_that_does_not_say_what_is_left_costs_no_search(
    attacked: World, owned: Corpus, tmp_path: Path
) -> None:
    """It is asked before anything counts, so that no hits are lost for want of a number that is told beside them."""
    with Proxy(attacked.url) as proxy, attacked.client(home=tmp_path, url=proxy.url) as client:
        corpus = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)
        proxy.lie = lambda _method, path, answer: Answer(404, b"") if path.endswith("/budget") else answer
        with pytest.raises(GatewayError, match="/budget: the gateway answered 404"):
            corpus.search("aspirin")
        assert [said for said in proxy.heard if said.method != "GET"] == []


def test_a_gateway_cannot_pair_an_index_with_other_passages(attacked: World, owned: Corpus, tmp_path: Path) -> None:
    """Signed by the same publisher, of the same shape, even of the same texts: the index names its own by digest."""
    other = packages(owned, name="attacked", fetches=4, version=2)
    with Proxy(attacked.url) as proxy, attacked.client(home=tmp_path, url=proxy.url) as client:

        def swap(_method: str, path: str, answer: Answer) -> Answer:
            if path.startswith("/v1/models/attacked-passages?"):
                manifest = open_package(other.passages).manifest
                return answer._replace(body=b'{"manifest":' + manifest.envelope.to_bytes() + b"}")
            if path.endswith("/client") and open_package(other.passages).manifest.digest in path:
                return answer._replace(status=200, body=open_package(other.passages).client)
            return answer

        proxy.lie = swap
        with pytest.raises(PackageDigestError, match="of model 'attacked-passages', the gateway serves sha256:"):
            client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)


def test_a_corpus_is_searched_while_its_owner_publishes_it_anew(attacked: World, owned: Corpus, tmp_path: Path) -> None:
    """The passages come first; until the index does, the version of before is whole, and whoever saw newer passages may have it."""
    before, after = (packages(owned, name="renewed", fetches=2, version=version) for version in (1, 2))
    attacked.publish(before.passages)
    attacked.publish(before.index)
    with attacked.client(home=tmp_path) as client:
        for said, told in ((after.passages, 1), (after.index, 2)):
            attacked.publish(said)
            assert client.model("renewed-passages").manifest.document.version == 2
            corpus = client.corpus("renewed", embedder=owned.embedder)
            assert repr(corpus) == f"EncryptedCorpus('renewed', version={told})"
            assert corpus.search("Visiting hours", k=1)[0].text.startswith("Visiting hours")
        with pytest.raises(RolledBackManifestError):
            client.require_believed(open_package(before.passages).manifest)


def test_a_text_that_is_not_the_owners_is_left_out_and_told_of(attacked: World, owned: Corpus, tmp_path: Path) -> None:
    """A node that alters records, or mixes them up: what does not have its digest is no hit, and nothing else changes."""
    made = packages(owned, name="altered", fetches=3)
    place = int(np.argmax(owned.contents().vectors @ owned.embedder.embed(["Tea in the hall"])[0]))
    known = HostedCorpus.model_validate(made.search.client["corpus"])
    digests = known.record_digests(24)
    digests[place] = bytes(32)
    index = compile_search(
        owned.contents().vectors, corpus=known.model_copy(update={"digests": packed_digests(digests)})
    )
    attacked.publish(made.passages)
    attacked.publish(package(index, name="altered"))
    with attacked.client(home=tmp_path) as client:
        hits = client.corpus("altered", embedder=owned.embedder).search("Tea in the hall", k=3)
    assert hits.missing == 1
    assert hits
    assert all(hit.passage != owned.contents().passages[place].passage for hit in hits)


def test_a_passage_that_a_node_ranked_too_high_is_left_out_and_told_of(
    attacked: World, owned: Corpus, tmp_path: Path
) -> None:
    """A node that computes on vectors of its own: for some passages, which it wants read, on that of the question itself."""
    question, contents = "Is aspirin safe with warfarin?", owned.contents()
    made = packages(owned, name="pushed", fetches=4)
    pushed = [place for place, one in enumerate(contents.passages) if one.text.startswith("Tea is served")]
    vectors = contents.vectors.copy()
    vectors[pushed] = owned.embedder.embed([question])
    lying = compile_search(vectors, corpus=HostedCorpus.model_validate(made.search.client["corpus"]))
    assert lying.client["scale"] == made.search.client["scale"]  # an asker sees no other index
    attacked.publish(made.passages)
    attacked.publish(package(lying, name="pushed"))
    with attacked.client(home=tmp_path) as client:
        hits = client.corpus("pushed", embedder=owned.embedder).search(question, k=4)
    assert hits.missing == len(pushed) == 3
    (best,) = exact_places(owned, question, 1)
    assert [hit.passage for hit in hits] == [contents.passages[best].passage]


def test_an_embedder_that_is_another_is_refused_before_a_question_is_embedded(
    attacked: World, owned: Corpus, tmp_path: Path
) -> None:
    """Also one that the publisher did not say: the default is no guess."""
    made = packages(owned, name="elsewhere", fetches=2)
    known = HostedCorpus.model_validate(made.search.client["corpus"])
    theirs = known.embedder.model_copy(update={"name": "clinical", "digest": f"sha256:{'0' * 64}"})
    attacked.publish(made.passages)
    attacked.publish(
        package(
            compile_search(owned.contents().vectors, corpus=known.model_copy(update={"embedder": theirs})),
            name="elsewhere",
        )
    )
    with attacked.client(home=tmp_path) as client:
        for embedder in (None, owned.embedder):
            with pytest.raises(CorpusError, match=r"'elsewhere' was embedded by clinical \(sha256:0+\), and this is"):
                client.corpus("elsewhere", embedder=embedder)


def test_a_table_that_is_no_match_for_its_index_is_refused(attacked: World, owned: Corpus, tmp_path: Path) -> None:
    """An owner's mistake, told when the corpus is taken."""
    made = packages(owned, name="short", fetches=2)
    known = HostedCorpus.model_validate(made.search.client["corpus"])
    short = package(compile_lookup([b"a"] * 3), name="short-passages")
    attacked.publish(short)
    named = known.model_copy(update={"manifest": open_package(short).manifest.digest})
    attacked.publish(package(compile_search(owned.contents().vectors, corpus=named), name="short"))
    with (
        attacked.client(home=tmp_path) as client,
        pytest.raises(Exception, match=r"short-passages.*expected a table of 24 records"),
    ):
        client.corpus("short", embedder=owned.embedder)


def test_a_gateway_that_forgets_its_count_is_bounded_by_the_node(owned: Corpus, tmp_path: Path) -> None:
    """The gateway believes that nothing was asked; the node knows what it computed, and says so in the job's end."""
    with World(tmp_path / "world", gateway=SOON_IN_THE_LOG) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        world.start_node("counting")
        made = packages(owned, name="counted", fetches=2, queries_per_tenant=2)
        world.publish(made.passages)
        world.publish(made.index)
        with world.client(home=tmp_path / "asker") as client:
            corpus = client.corpus("counted", profile="encrypted-query", embedder=owned.embedder)
            for _ in range(2):
                assert corpus.search("aspirin", k=2)
            with sqlite3.connect(world.gateway_folder / "gateway.sqlite", timeout=10) as gateway:
                rows = gateway.execute("select rows from rows_asked where model like 'counted%'").fetchall()
                assert sorted(row[0] for row in rows) == [2, 4]
                gateway.execute("delete from rows_asked where model like 'counted%'")
            assert corpus.budget.left == 2
            with pytest.raises(
                JobFailedError, match=r"budget-spent\): model 'counted' gives a tenant 2 rows; this node"
            ):
                corpus.search("aspirin", k=2)


def test_a_question_is_asked_under_its_class_of_data_or_not_at_all(
    attacked: World, owned: Corpus, tmp_path: Path
) -> None:
    """What a policy keeps from this lane is kept from a corpus in it: said when it is taken, or of the question that `ask` has."""
    with attacked.client(home=tmp_path) as client:
        corpus = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder, data_class="phi")
        sent = client.transport.bytes_sent
        with pytest.raises(PolicyError, match="phi"):
            corpus.search("aspirin", k=1)
        with pytest.raises(PolicyError, match="phi"):
            corpus.of_class("public").search("aspirin", k=1)
        other = client.corpus("attacked", profile="encrypted-query", embedder=owned.embedder)
        sent = client.transport.bytes_sent
        with pytest.raises(PolicyError, match="phi"):
            client.ask("aspirin", corpus=other, model="no-chat", k=1, data_class="phi")
        assert client.transport.bytes_sent == sent


def test_what_an_index_says_of_its_corpus_is_held_against_the_index(owned: Corpus) -> None:
    """By the field, when the part is read: a dimension, as many digests as entries, no ids beside."""
    vectors = owned.contents().vectors
    known = HostedCorpus.model_validate(packages(owned).search.client["corpus"])
    narrow = known.model_copy(update={"embedder": known.embedder.model_copy(update={"dimension": 7})})
    few = known.model_copy(update={"digests": packed_digests(known.record_digests(24)[1:])})
    for wrong, says in ((narrow, "corpus.embedder.dimension: got 7"), (few, "corpus.digests: got")):
        with pytest.raises(Exception, match=says):
            compile_search(vectors, corpus=wrong)
    with pytest.raises(Exception, match="ids: got some, expected none"):
        compile_search(vectors, corpus=known, ids=list(range(len(vectors))))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        *(({"queries_per_tenant": some}, f"queries per tenant: got {some}, expected 1") for some in (0, -1, 1 << 60)),
        ({"queries_per_tenant": math.nan}, "queries per tenant: got nan, expected 1"),
        ({"fetches": 10**30}, "fetches: got 1000"),
        ({"fetches": 2.5}, "fetches: got 2.5"),
        ({"version": 0}, "version: got 0, expected a whole number from 1 on"),
        ({"version": 10**30}, "version: got 1000"),
        ({"version": True}, "version: got True"),
        ({"summary": "x" * 2001}, "summary: got 2001 characters, expected a text of at most 2000"),
        ({"summary": None}, "summary: got a NoneType"),
        ({"expires": 1}, "expires: got 1, expected a whole number from 1"),
        ({"expires": 10**30}, "expires: got 1000"),
        ({"name": "x" * 60}, "name: got 'xxx"),
        ({"name": 7}, "name: got 7"),
        ({"filter_by": "ward"}, "filter by 'ward': expected a list"),
    ],
)
def test_what_no_package_can_state_is_refused(owned: Corpus, wrong: dict[str, Any], says: str) -> None:
    """By its name, before anything is compiled: a budget that is none, a version, a summary, a time."""
    with pytest.raises(InputError, match=says):
        packages(owned, **wrong)


def test_no_corpus_without_a_passage_is_hosted(tmp_path: Path) -> None:
    """One clear error."""
    with Corpus.open(tmp_path / "empty.bgc", "pass") as empty, pytest.raises(InputError, match="without a passage"):
        packages(empty)

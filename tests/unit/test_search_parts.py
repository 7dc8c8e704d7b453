"""Parts of an index: data from somebody else, refused by the field that is wrong."""

import base64
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from blindgate_models.compilers.search import search_parts
from blindgate_models.search import spec
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_protocol.errors import InputError, KeyStoreError, PackageError, ResultError

Part = dict[str, Any]

INDEX = np.random.default_rng(0).integers(-127, 128, (40, 6)).astype(np.int8)
NAMES = [f"n{entry}" for entry in range(40)]
CLIENT, SERVER = (part.model_dump() for part in search_parts(INDEX, ids=NAMES, privacy="model_private"))


def changed(part: Part, path: str, value: object) -> Part:
    """A copy of `part` with the field at `path` set, or removed where `value` is `...`."""
    copy: Part = json.loads(json.dumps(part))
    *parents, last = path.split(".")
    place: Any = copy
    for step in parents:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


def test_parts_survive_json() -> None:
    """What is compiled is plain JSON: read back, it builds both halves, which agree."""
    client, server = (json.loads(json.dumps(part)) for part in (CLIENT, SERVER))
    asker, node = SearchClient.from_part(client), SearchServer.from_part(server)
    secret = asker.make_keys().secret
    scores = asker.decrypt(secret, node.evaluate(None, asker.encrypt(secret, np.ones((1, 6)))), 1)
    assert scores[0].tolist() == INDEX.astype(int).sum(axis=1).tolist()
    assert asker.ids[:2].tolist() == ["n0", "n1"]
    assert asker.outputs == 40
    assert asker.error_bound == 0
    assert 1 <= asker.rows_at_once <= asker.rows_per_job


COMMON = [
    pytest.param("family", "linear", id="another family"),
    pytest.param("version", 2, id="a later version"),
    pytest.param("note", "hello", id="an unknown field"),
    pytest.param("width", 0, id="no columns"),
    pytest.param("width", 4097, id="too many columns"),
    pytest.param("width", 6.0, id="a broken width"),
    pytest.param("entries", 0, id="no entries"),
    pytest.param("entries", True, id="entries as a truth value"),
    pytest.param("entries", (1 << 20) + 1, id="too many entries"),
    pytest.param("parameters", ..., id="no parameters"),
    pytest.param("parameters.scheme", "ckks", id="another scheme"),
    pytest.param("parameters.degree", 1024, id="a weaker ring"),
    pytest.param("parameters.data_bits", [55, 55], id="a modulus that is too large for its ring"),
    pytest.param("parameters.data_bits", [], id="no modulus"),
    pytest.param("parameters.plain_modulus", 1, id="no plain modulus"),
    pytest.param("parameters.group", 3, id="a group that does not divide"),
    pytest.param("parameters.privacy", "secret", id="an unknown mode"),
    pytest.param("parameters.dropped_c1", 50, id="words without bits"),
    pytest.param("parameters.noise", 0, id="an unknown parameter"),
]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *COMMON,
        pytest.param("scale", 0.0, id="no scale"),
        pytest.param("scale", float("inf"), id="an infinite scale"),
        pytest.param("scale", "1", id="a scale as text"),
        pytest.param("ids", ["a"], id="too few ids"),
        pytest.param("ids", [f"n{entry}" for entry in range(41)], id="too many ids"),
        pytest.param("ids", [1] * 39 + ["a"], id="ids of two kinds"),
        pytest.param("ids", [1.5] * 40, id="ids that are no whole numbers"),
        pytest.param("ids", ["x" * 1001] * 40, id="a long id"),
    ],
)
def test_a_wrong_client_part_is_refused_by_its_field(path: str, value: object) -> None:
    """Nothing is built from it, and the publisher learns which field to mend."""
    with pytest.raises(PackageError, match=path.split(".", maxsplit=1)[0]):
        SearchClient.from_part(changed(CLIENT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *COMMON,
        pytest.param("matrix", ..., id="no matrix"),
        pytest.param("matrix", [[1, 2]], id="a matrix of lists"),
        pytest.param("matrix", SERVER["matrix"][:-4], id="a matrix cut short"),
        pytest.param("matrix", SERVER["matrix"] + "AAAA", id="a matrix too long"),
        pytest.param("matrix", "!" * len(SERVER["matrix"]), id="a matrix that is no base64"),
        pytest.param("matrix", "=" * len(SERVER["matrix"]), id="a matrix of padding"),
        pytest.param("entries", 41, id="an entry more than there is"),
        pytest.param("width", 5, id="a column fewer than there is"),
    ],
)
def test_a_wrong_server_part_is_refused_by_its_field(path: str, value: object) -> None:
    """A node does not start an index that it could not search."""
    field = "matrix" if path in {"entries", "width"} and value in {41, 5} else path.split(".", maxsplit=1)[0]
    with pytest.raises(PackageError, match=field):
        SearchServer.from_part(changed(SERVER, path, value))


def test_a_plain_modulus_that_scores_exceed_is_refused() -> None:
    """A sum that wraps around would rank a far entry first."""
    least = 2 * 127 * int(np.abs(INDEX.astype(int)).sum(axis=1).max())
    SearchServer.from_part(changed(SERVER, "parameters.plain_modulus", least + 1))
    with pytest.raises(PackageError, match=f"plain_modulus: got {least}, expected over {least}"):
        SearchServer.from_part(changed(SERVER, "parameters.plain_modulus", least))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"flood_bits": 60}, "an advantage of 2", id="too little flood"),
        pytest.param({"flood_bits": 90}, "standard deviations to decrypt by", id="a flood that drowns the message"),
        pytest.param({"dropped_c1": 30}, "standard deviations to decrypt by", id="too many bits dropped"),
    ],
)
def test_parameters_that_hide_too_little_or_too_much_are_refused(changes: Part, says: str) -> None:
    """Both bounds are computed again from the index itself, by every node that loads it."""
    part = SERVER | {"parameters": SERVER["parameters"] | changes}
    with pytest.raises(PackageError, match=says):
        SearchServer.from_part(part)


def test_an_index_that_would_fill_a_nodes_memory_is_refused_before_it_is_read() -> None:
    """What an index takes follows from its shape, and is held against a bound first."""
    part = CLIENT | {"entries": 1 << 20, "width": 40, "ids": None}
    wasteful = part | {"parameters": part["parameters"] | {"group": 4096}}
    with pytest.raises(PackageError, match="bytes ready to multiply with, expected at most 1073741824"):
        SearchClient.from_part(wasteful)
    with pytest.raises(PackageError, match="entries: got 1048576 of 4096 numbers"):
        SearchClient.from_part(part | {"width": 4096})


@pytest.mark.parametrize("part", [None, [], "search", 7], ids=str)
def test_a_part_that_is_no_object_is_refused(part: Any) -> None:
    """JSON of another shape is a bad package too."""
    with pytest.raises(PackageError):
        SearchClient.from_part(part)
    with pytest.raises(PackageError):
        SearchServer.from_part(part)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(np.zeros((0, 6)), "shape", id="no queries"),
        pytest.param(np.zeros((1, 5)), "shape", id="a column short"),
        pytest.param(np.zeros(6), "shape", id="one dimension"),
        pytest.param(np.full((2, 6), np.nan), "row 0, column 0: not a finite number", id="not a number"),
    ],
)
def test_a_query_that_does_not_fit_is_not_encrypted(rows: Any, says: str) -> None:
    """Got and expected stand in the message."""
    client = SearchClient.from_part(CLIENT)
    with pytest.raises(InputError, match=says):
        client.encrypt(client.make_keys().secret, rows)


def test_keys_and_results_of_something_else_are_named() -> None:
    """One key serves every product of the ring; bytes that are no key, or results of another number of queries, are refused."""
    client, server = SearchClient.from_part(CLIENT), SearchServer.from_part(SERVER)
    secret = client.make_keys().secret
    result = server.evaluate(None, client.encrypt(secret, np.ones((2, 6))))
    with pytest.raises(ResultError, match="rows: got 2, expected 1"):
        client.decrypt(secret, result, 1)
    with pytest.raises(KeyStoreError, match="secret key"):
        client.decrypt(secret[:-1], result, 2)
    other = SearchClient.from_part(search_parts(INDEX[:9], privacy="model_private")[0].model_dump())
    assert other.key_parameters == client.key_parameters


def test_progress_counts_every_polynomial() -> None:
    """A progress bar reaches its end, once."""
    client = SearchClient.from_part(CLIENT)
    seen: list[tuple[int, int]] = []
    client.encrypt(client.make_keys().secret, np.ones((3, 6)), lambda done, total: seen.append((done, total)))
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]


def test_a_packed_index_is_a_byte_a_number() -> None:
    """Whatever the layout of the array in memory."""
    column_major = np.asfortranarray(INDEX)
    assert base64.b64decode(spec.packed_index(column_major)) == INDEX.tobytes()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        pytest.param("spec", ["tenseal", "blindgate_models.search.client"], id="the spec needs no SEAL"),
        pytest.param("server", ["pandas", "blindgate_models.search.client"], id="the server knows no client"),
        pytest.param("client", ["pandas", "blindgate_models.search.server"], id="the client knows no server"),
    ],
)
def test_a_module_imports_only_what_its_role_needs(module: str, absent: list[str]) -> None:
    """A fresh process that loads one half has neither the other nor a compiler's libraries."""
    program = f"import sys, blindgate_models.search.{module}; sys.exit(any(m in sys.modules for m in {absent!r}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

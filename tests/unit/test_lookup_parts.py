"""A table of records: what comes back is what lies there, and its parts are data from somebody else, refused by the field."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from blindgate_models.compilers.lookup import compile_lookup, lookup_parts
from blindgate_models.compilers.search import search_parts
from blindgate_models.halves import RecordHalf
from blindgate_models.lookup import spec
from blindgate_models.lookup.client import LookupClient
from blindgate_models.lookup.server import LookupServer
from blindgate_models.product.spec import Privacy
from blindgate_models.search.client import SearchClient
from blindgate_protocol.errors import InputError, PackageError, ResultError

Part = dict[str, Any]

MODES: list[Privacy] = ["model_private", "model_public"]
TABLE = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
CLIENT, SERVER = (part.model_dump() for part in lookup_parts(TABLE, privacy="model_private"))


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


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("privacy", MODES)
@pytest.mark.parametrize(("records", "size"), [(1, 1), (2, 33), (300, 777)])
def test_what_is_fetched_is_what_lies_there(privacy: Privacy, records: int, size: int) -> None:
    """Byte for byte: the first, the last, one twice, nothing; bytes of all ones and of all zeros among them."""
    table = np.random.default_rng(records).integers(0, 256, (records, size), dtype=np.uint8)
    table[0], table[-1] = 255, 0
    client, server = (json.loads(part.model_dump_json()) for part in lookup_parts(table, privacy=privacy))
    asker, node = LookupClient.from_part(client), LookupServer.from_part(server)
    assert isinstance(asker, RecordHalf)
    assert (len(asker), asker.size) == (records, size)
    secret = asker.make_keys().secret
    wanted = [0, records - 1, -1, records // 2, 0]
    blob = asker.encrypt(secret, np.array(wanted, dtype=float)[:, None])
    result = node.evaluate(None, blob)
    assert (len(blob), len(result)) == (asker.input_bytes(5), asker.result_bytes(5))
    found = asker.records(asker.decrypt(secret, result, 5))
    assert found == [bytes(size) if place == spec.NOTHING else table[place].tobytes() for place in wanted]


@pytest.mark.parametrize("bits", range(8, 25))
def test_digits_are_the_records_bits(bits: int) -> None:
    """For every number of bits a digit, also where a record's end fills no digit."""
    table = np.random.default_rng(bits).integers(0, 256, (7, 13), dtype=np.uint8)
    numbers = spec.matrix(table, bits)
    assert numbers.shape == (spec.digits_of(13, bits), 7)
    assert numbers.min() >= -(1 << bits - 1)
    assert numbers.max() < 1 << bits - 1
    digits = numbers.astype(np.int64) % (1 << bits)
    assert [spec.record(digits[:, place], 13, bits) for place in range(7)] == [row.tobytes() for row in table]


@pytest.mark.parametrize("privacy", MODES)
def test_parameters_say_nothing_of_the_records(privacy: Privacy) -> None:
    """They follow from number and size, so tables of zeros and of anything else look alike, and hold their bounds."""
    full, empty = (lookup_parts(table, privacy=privacy) for table in (TABLE, np.zeros_like(TABLE)))
    assert full[0] == empty[0]
    if privacy == "model_private":
        assert full[0].parameters.distinguishing_bits(full[0].row_square, full[0].shape.outputs) >= 40


def test_a_table_says_what_it_is() -> None:
    """In the manifest's words: the column, the task, who learns what."""
    compiled = compile_lookup([row.tobytes() for row in TABLE])
    (column,) = compiled.columns
    assert (column["name"], column["minimum"], column["maximum"]) == ("position", -1, 39)
    assert compiled.task == "lookup"
    assert compiled.report["agreement_plain"] == 1
    assert "all records, in clear" in compiled.discloses["to_node"]
    public = compile_lookup([row.tobytes() for row in TABLE], privacy="model_public")
    assert any("not flooded" in line for line in public.discloses["to_client"])
    assert not any("not flooded" in line for line in compiled.discloses["to_client"])


COMMON = [
    pytest.param("family", "search", id="another family"),
    pytest.param("version", 2, id="a later version"),
    pytest.param("note", "hello", id="an unknown field"),
    pytest.param("records", 0, id="no records"),
    pytest.param("records", 40.0, id="a broken number of records"),
    pytest.param("records", (1 << 17) + 1, id="too many records"),
    pytest.param("size", 0, id="no bytes"),
    pytest.param("size", (1 << 14) + 1, id="records too long"),
    pytest.param("parameters", ..., id="no parameters"),
    pytest.param("parameters.degree", 1024, id="a weaker ring"),
    pytest.param("parameters.data_bits", [55, 55], id="a modulus that is too large for its ring"),
    pytest.param("parameters.plain_modulus", (1 << 14) + 1, id="digits of no whole number of bits"),
    pytest.param("parameters.flood_bits", 1, id="hardly flooded"),
    pytest.param("parameters.dropped_c1", 37, id="words without bits"),
]


@pytest.mark.parametrize(("path", "value"), COMMON)
def test_a_clients_part_that_is_wrong_is_refused(path: str, value: object) -> None:
    """By family and field, before anything is built."""
    with pytest.raises(PackageError, match=r"lookup part|parameters"):
        LookupClient.from_part(changed(CLIENT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *COMMON,
        pytest.param("table", "", id="no table"),
        pytest.param("table", "*" * len(SERVER["table"]), id="a table that is no base64"),
        pytest.param("table", SERVER["table"][:-4] + "AA==", id="a table that is short by a byte"),
    ],
)
def test_a_nodes_part_that_is_wrong_is_refused(path: str, value: object) -> None:
    """Likewise."""
    with pytest.raises(PackageError, match=r"lookup part|parameters"):
        LookupServer.from_part(changed(SERVER, path, value))


def test_a_table_of_gigabytes_is_refused_before_it_is_decoded() -> None:
    """A few numbers that claim to be much."""
    for records, size in ((1 << 17, 1 << 14), (1 << 17, 369)):
        with pytest.raises(PackageError, match="records"):
            LookupServer.from_part(SERVER | {"records": records, "size": size})


@pytest.mark.parametrize(
    "wrong", [40.0, -2.0, 0.5, float("nan"), float("inf")], ids=["past the end", "below", "between", "NaN", "infinite"]
)
def test_a_position_that_is_none_is_refused_by_its_row(wrong: float) -> None:
    """Before anything is encrypted."""
    asker = LookupClient.from_part(CLIENT)
    with pytest.raises(InputError, match="row 1: not the position of a record"):
        asker.encrypt(asker.make_keys().secret, np.array([[0.0], [wrong]]))


def test_a_table_shares_no_key_with_an_index_over_the_same_ring() -> None:
    """What is fetched depends on scores that a node may have made: under their key it would be encrypted under itself."""
    index = search_parts(np.ones((4, 4), dtype=np.int8), privacy="model_private")[0]
    like = index.model_copy(update={"parameters": LookupClient.from_part(CLIENT)._shape.parameters})
    assert like.shape.parameters.key_parameters == LookupClient.from_part(CLIENT)._shape.parameters.key_parameters
    assert SearchClient(like).key_parameters != LookupClient.from_part(CLIENT).key_parameters


def test_a_result_of_another_table_is_refused() -> None:
    """Its digest is of the shape; a table of the same shape is told by the order's model."""
    asker = LookupClient.from_part(CLIENT)
    other, node = (part.model_dump() for part in lookup_parts(TABLE[:, :49], privacy="model_private"))
    stranger = LookupClient.from_part(other)
    result = LookupServer.from_part(node).evaluate(
        None, stranger.encrypt(stranger.make_keys().secret, np.zeros((1, 1)))
    )
    with pytest.raises(ResultError):
        asker.decrypt(asker.make_keys().secret, result, 1)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        pytest.param(lambda: [b"a", b"bc"], "got sizes of", id="two sizes"),
        pytest.param(list, "got sizes of", id="none"),
        pytest.param(lambda: [bytes((1 << 14) + 1)], "got sizes of", id="too long"),
        pytest.param(lambda: [bytes(1 << 14)] * 3000, "got 3000 of 16384 bytes", id="too much"),
    ],
)
def test_records_that_make_no_table_are_refused(records: Callable[[], list[bytes]], says: str) -> None:
    """One clear error."""
    with pytest.raises(ValueError, match=says):
        compile_lookup(records())

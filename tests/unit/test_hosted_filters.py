"""What a hosted corpus can be filtered by: named by its owner, read by every asker, and hostile until it is checked."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from blindgate.hosted_filters import Offered, offered
from blindgate_models.search import filters
from blindgate_models.search.filters import Filters, packed_places
from blindgate_protocol.errors import InputError, PackageError
from blindgate_rag.hits import Hit
from blindgate_rag.records import MetadataValue, Where, is_so

METADATA: list[dict[str, MetadataValue]] = [
    {"ward": "3B", "year": 2020, "name": "secret"},
    {"ward": "3B", "year": 2020, "name": "other"},
    {"ward": "ä", "year": 2020.5},
    {"ward": True},
    {"ward": 1, "year": 2020.0},
    {},
]


def passages(metadata: list[dict[str, MetadataValue]]) -> list[Hit]:
    """Passages of one document each."""
    return [Hit("text", f"{place}.txt", None, 0.0, one, place, 1) for place, one in enumerate(metadata)]


def read_again(made: Filters | None) -> Filters:
    """What an asker makes of the bytes."""
    assert made is not None
    return Filters.model_validate(json.loads(json.dumps(made.model_dump())))


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"ward": "3B"},
        {"ward": True},
        {"ward": 1},
        {"year": 2020},
        {"ward": ["3B", "ä", 1], "year": [2020, 2020.5]},
        {"ward": "3b"},
        {"ward": []},
    ],
    ids=str,
)
def test_an_asker_finds_what_the_owner_would(where: Where) -> None:
    """By the rule of a corpus of one's own: true is no 1, 2020 is 2020.0, a field that is not there is nothing."""
    found = Offered.of(read_again(offered(passages(METADATA), ["ward", "year"])), len(METADATA))
    assert found.allowed(where, "notes").tolist() == [is_so(one, where) for one in METADATA]


def test_no_other_field_leaves_and_documents_alike_are_described_once() -> None:
    """What the client part says is what was named."""
    made = read_again(offered(passages(METADATA * 50), ["ward"]))
    assert made.descriptions == [{"ward": "3B"}, {"ward": "ä"}, {"ward": True}, {"ward": 1}, {}]
    assert "secret" not in made.model_dump_json()
    assert offered(passages(METADATA), []) is None


def test_a_filter_that_is_not_offered_is_named_with_those_that_are() -> None:
    """And a corpus of before offers nothing."""
    found = Offered.of(read_again(offered(passages(METADATA), ["ward"])), len(METADATA))
    with pytest.raises(InputError, match="where: corpus 'notes' cannot be filtered by 'year': its owner offers ward"):
        found.allowed({"ward": "3B", "year": 1}, "notes")
    nothing: Any = None
    with pytest.raises(InputError, match="where 'ward' is a NoneType"):
        found.allowed({"ward": nothing}, "notes")
    with pytest.raises(InputError, match="its owner offers nothing"):
        Offered.of(None, 3).allowed({"ward": "3B"}, "notes")
    assert Offered.of(None, 3).allowed({}, "notes").tolist() == [True] * 3


@pytest.mark.parametrize(
    ("fields", "metadata", "says"),
    [
        pytest.param(
            ["wart"], {"ward": "3B"}, "filter by 'wart': no document's metadata has it; there is ward", id="none"
        ),
        pytest.param(["ward"] * 2, {"ward": "3B"}, "expected at most 16 fields, each once", id="twice"),
        pytest.param(
            [f"f{n}" for n in range(17)], {f"f{n}": 1 for n in range(17)}, "expected at most 16 fields", id="many"
        ),
        pytest.param(["w" * 65], {"w" * 65: 1}, "1 to 64 characters here, got 65", id="a long name"),
        pytest.param(["ward"], {"ward": "x" * 1001}, "filter by 'ward': what 0.txt has does not fit", id="a long text"),
        pytest.param(["ward"], {"ward": 2**53}, "filter by 'ward': what 0.txt has does not fit", id="a large number"),
        pytest.param(["ward"], {"ward": 1e300}, "filter by 'ward': what 0.txt has does not fit", id="a larger one"),
        pytest.param(
            ["ward"], {"ward": "\ud800"}, "filter by 'ward': what 0.txt has does not fit", id="half a character"
        ),
    ],
)
def test_what_an_owner_cannot_offer_is_named(fields: list[str], metadata: dict[str, Any], says: str) -> None:
    """Before anything is signed."""
    with pytest.raises(InputError, match=says):
        offered(passages([metadata]), fields)


def test_filters_that_every_asker_would_fetch_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to the owner with what to do."""
    monkeypatch.setattr(filters, "MAX_CHARACTERS", 20)
    with pytest.raises(InputError, match=r"got 2\d characters, expected at most 20 together.*name fewer fields"):
        offered(passages(METADATA), ["ward"])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"fields": []}, id="no field"),
        pytest.param({"fields": ["ward", "ward"]}, id="a field twice"),
        pytest.param({"fields": [f"f{n}" for n in range(17)]}, id="many fields"),
        pytest.param({"fields": [""]}, id="a field without a name"),
        pytest.param({"descriptions": []}, id="no description"),
        pytest.param({"descriptions": [{"year": 1}]}, id="a field that is not offered"),
        pytest.param({"descriptions": [{"ward": None}]}, id="nothing"),
        pytest.param({"descriptions": [{"ward": ["3B"]}]}, id="a list"),
        pytest.param({"descriptions": [{"ward": float("nan")}]}, id="no number"),
        pytest.param({"descriptions": [{"ward": "x" * 1001}]}, id="a long text"),
        pytest.param({"descriptions": {"ward": "3B"}}, id="no list"),
        pytest.param({"passages": 7}, id="no base64"),
        pytest.param({"more": 1}, id="an unknown member"),
    ],
)
def test_a_section_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    """By the field, when the part is read."""
    given: dict[str, Any] = {"fields": ["ward"], "descriptions": [{"ward": "3B"}], "passages": packed_places([0])}
    with pytest.raises(ValidationError):
        Filters.model_validate(given | changes)


@pytest.mark.parametrize("passages", [packed_places([0, 2]), packed_places([0]), packed_places([0, 1, 1]), "x" * 12])
def test_places_of_other_passages_or_descriptions_are_refused(passages: str) -> None:
    """One beyond the descriptions; too few, too many; no base64 of them."""
    made = Filters(fields=["ward"], descriptions=[{"ward": "3B"}, {}], passages=passages)
    with pytest.raises(PackageError, match=r"corpus\.filters\.passages"):
        made.places(2)


def test_places_are_those_that_were_written() -> None:
    """Beyond a byte, too."""
    many = np.arange(70_000)
    made = Filters(fields=["n"], descriptions=[{"n": int(one)} for one in many], passages=packed_places(many.tolist()))
    assert (made.places(70_000) == many).all()

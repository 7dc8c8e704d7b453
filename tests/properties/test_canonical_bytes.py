"""The one form that is signed, against the implementation of RFC 8785 that we did not write."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_protocol.canonical import canonical, parse_canonical
from blindgate_protocol.errors import MalformedError

_TEXT = st.text(st.characters(codec="utf-8"))
_WITHOUT_FRACTIONS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _TEXT


def _documents(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5), max_leaves=20
    )


_JSON = _documents(_WITHOUT_FRACTIONS | st.floats(allow_nan=False, allow_infinity=False))
_WHOLE = _documents(_WITHOUT_FRACTIONS)  # a large fraction is written without a point, and read as an integer past 2^53


@settings(max_examples=300)
@given(_JSON)
def test_whatever_json_holds_has_the_bytes_that_rfc_8785_gives_it(value: Any) -> None:
    """Fractions, large numbers and names in any script among it."""
    assert canonical(value) == rfc8785.dumps(value)


@settings(max_examples=100)
@given(_WHOLE)
def test_what_was_written_is_read_and_in_no_other_form(value: Any) -> None:
    """A document has one form, so that what was signed is what is read."""
    written = canonical(value)
    assert canonical(parse_canonical(written)) == written
    loose = json.dumps(value, separators=(", ", ": ")).encode()
    if loose != written:
        with pytest.raises(MalformedError):
            parse_canonical(loose)


@pytest.mark.parametrize("start", range(0, 0x300, 0x80))
def test_each_character_is_escaped_as_rfc_8785_has_it(start: int) -> None:
    """Controls, quotes, the delete character, and line separators that JavaScript minds."""
    text = "".join(map(chr, range(start, start + 0x80))) + "\u2028\u2029\ufeff\U0001f600"
    assert canonical({"text": text}) == rfc8785.dumps({"text": text})


def test_names_are_in_the_order_of_their_utf_16_units() -> None:
    """Which is not the order of their code points (RFC 8785, section 3.2.3)."""
    names = ["\U0001f600", "\ufb33", "a", "B", "\r", "1", "\u00f6", "\u20ac"]
    random.Random(1).shuffle(names)
    assert list(json.loads(canonical(dict.fromkeys(names)))) == [
        "\r",
        "1",
        "B",
        "a",
        "\u00f6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), float("inf"), {1: 2}, "\ud800", {"\udc00": 1}, b"bytes", {1, 2}],
    ids=[
        "past",
        "below",
        "nan",
        "infinity",
        "number for a name",
        "half a pair",
        "half a pair for a name",
        "bytes",
        "a set",
    ],
)
@pytest.mark.parametrize("around", [lambda value: value, lambda value: [0, {"deep": value}]], ids=["bare", "deep"])
def test_what_has_no_canonical_form_is_refused(value: Any, around: Callable[[Any], Any]) -> None:
    """Also where it stands inside of what has one."""
    with pytest.raises(MalformedError, match="no canonical JSON form"):
        canonical(around(value))

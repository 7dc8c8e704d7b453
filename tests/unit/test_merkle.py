"""The log's tree: the official proofs come out as they must, and what cannot be a proof is refused by name."""

import base64
import json
from typing import Any

import pytest

from blindgate_protocol.errors import LogError
from blindgate_protocol.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    range_root,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from shared import FOLDER, shared

OFFICIAL = 196
LEAVES = [leaf_hash(bytes([i])) for i in range(20)]


def _subtree(level: int, index: int) -> bytes:
    return root_of(LEAVES[index << level : (index + 1) << level])


def _official() -> list[str]:
    """The vectors by name; one that is not there where the folder is not, so that a test says so."""
    folder = FOLDER / "vectors" / "merkle"
    return sorted(str(path.relative_to(FOLDER)) for path in folder.rglob("*.json")) or ["vectors/merkle"]


@pytest.mark.parametrize("name", _official())
def test_an_official_proof_comes_out_as_it_must(name: str) -> None:
    """Good ones verify and bad ones are refused, those of empty trees among them: the vectors of transparency-dev/merkle."""
    vector = json.loads(shared(name).read_text())
    if vector["wantErr"]:
        with pytest.raises(LogError):
            _verify(vector)
    else:
        _verify(vector)


def test_all_official_proofs_are_there() -> None:
    """A folder that lost some of them would pass by being empty."""
    shared("vectors/merkle")
    assert len(_official()) == OFFICIAL


def _verify(vector: dict[str, Any]) -> None:
    proof = [base64.b64decode(one) for one in vector["proof"] or []]
    if "leafIdx" in vector:
        verify_inclusion(
            index=vector["leafIdx"],
            size=vector["treeSize"],
            leaf=base64.b64decode(vector["leafHash"] or ""),
            proof=proof,
            root=base64.b64decode(vector["root"] or ""),
        )
        return
    verify_consistency(
        first=vector["size1"],
        second=vector["size2"],
        proof=proof,
        first_root=base64.b64decode(vector["root1"] or ""),
        second_root=base64.b64decode(vector["root2"] or ""),
    )


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 9162, 2.1.1."""
    assert Frontier().root() == root_of([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_frontier_that_was_put_down_goes_on() -> None:
    """Size and hashes are all that a sequencer has to keep."""
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES):
        assert frontier.root() == root_of(LEAVES[:size])
        frontier = Frontier(frontier.size, frontier.hashes)
        list(frontier.append(leaf))


def test_appending_tells_of_each_subtree_that_it_completes() -> None:
    """Entry 7 completes a pair, four and eight: what a store of tiles wants to know."""
    frontier = Frontier()
    told = [list(frontier.append(leaf)) for leaf in LEAVES[:8]]
    assert told[6] == []
    assert told[7] == [(level, 7 >> level, _subtree(level, 7 >> level)) for level in (1, 2, 3)]


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(0, [LEAVES[0]]), (3, [LEAVES[0]]), (1, [b"short"]), (-1, [LEAVES[0]])],
    ids=["of nothing", "too few", "no hash", "negative"],
)
def test_a_frontier_that_is_none_is_refused(size: int, hashes: list[bytes]) -> None:
    """A damaged row must not become a tree."""
    with pytest.raises(LogError, match="complete subtrees"):
        Frontier(size, hashes)


def test_a_leaf_that_is_no_hash_is_refused() -> None:
    """Nothing was appended, and the index is named."""
    frontier = Frontier(1, [LEAVES[0]])
    with pytest.raises(LogError, match="leaf hash of entry 1 has 32 bytes, got 5") as caught:
        list(frontier.append(b"entry"))
    assert caught.value.index == 1
    assert frontier.size == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 13}, "entry 13 cannot be in a tree of 13"),
        ({"index": -1}, "entry -1 cannot be in a tree of 13"),
        ({"index": 6}, "does not lead from entry 6"),
        ({"size": 7}, "inclusion of entry 5 in a tree of 7 has 3 hashes, got 4"),
        ({"size": 200}, "inclusion of entry 5 in a tree of 200 has 8 hashes, got 4"),
        ({"proof": []}, "inclusion of entry 5 in a tree of 13 has 4 hashes, got 0"),
        ({"proof": [LEAVES[0]] * 5}, "has 4 hashes, got 5"),
        ({"proof": [LEAVES[0], LEAVES[1], LEAVES[2], b""]}, "made of hashes of 32 bytes"),
        ({"leaf": b""}, "made of hashes of 32 bytes"),
        ({"leaf": LEAVES[6]}, "does not lead from entry 5"),
        ({"root": EMPTY_ROOT}, "does not lead from entry 5"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_an_inclusion_that_does_not_hold_is_refused(change: dict[str, Any], message: str) -> None:
    """Each by its index and rule."""
    good: dict[str, Any] = {
        "index": 5,
        "size": 13,
        "leaf": LEAVES[5],
        "proof": inclusion_proof(5, 13, _subtree),
        "root": root_of(LEAVES[:13]),
    }
    verify_inclusion(**good)
    with pytest.raises(LogError, match=message) as caught:
        verify_inclusion(**good | change)
    assert caught.value.index == change.get("index", 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": 14}, "a tree of 13 entries cannot begin with one of 14"),
        ({"first": -1}, "a tree of 13 entries cannot begin with one of -1"),
        ({"first": 0}, "there is nothing to prove"),
        ({"first": 7}, "consistency of trees of 7 and 13 has 5 hashes, got 4"),
        ({"second": 6, "second_root": EMPTY_ROOT, "proof": []}, "two roots for the tree of 6 entries"),
        ({"second": 6}, "consistency of trees of 6 and 6 has 0 hashes"),
        ({"proof": []}, "consistency of trees of 6 and 13 has 4 hashes, got 0"),
        ({"first_root": EMPTY_ROOT}, "does not lead to the root of the tree of 6 that was known"),
        ({"second_root": EMPTY_ROOT}, "does not lead from the tree of 6 to the root of the tree of 13"),
        ({"second_root": b""}, "made of hashes of 32 bytes"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_consistency_that_does_not_hold_is_refused(change: dict[str, Any], message: str) -> None:
    """Each by its rule, with the sizes."""
    good: dict[str, Any] = {
        "first": 6,
        "second": 13,
        "proof": consistency_proof(6, 13, _subtree),
        "first_root": root_of(LEAVES[:6]),
        "second_root": root_of(LEAVES[:13]),
    }
    verify_consistency(**good)
    with pytest.raises(LogError, match=message):
        verify_consistency(**good | change)


def test_two_trees_of_one_size_are_one_tree() -> None:
    """No proof is needed where the roots are the same, and none helps where they are not; the empty tree has one root."""
    same: dict[str, Any] = {"first": 3, "second": 3, "proof": [], "first_root": LEAVES[0], "second_root": LEAVES[0]}
    verify_consistency(**same)
    with pytest.raises(LogError, match="two roots for the tree of 3"):
        verify_consistency(**same | {"second_root": LEAVES[1]})
    with pytest.raises(LogError, match="two roots for the tree of 0"):
        verify_consistency(**same | {"first": 0, "second": 0})


@pytest.mark.parametrize(("begin", "end"), [(4, 4), (5, 4), (-1, 1)])
def test_a_range_without_entries_has_no_root(begin: int, end: int) -> None:
    """Nor a proof that leads there."""
    with pytest.raises(LogError, match="no entries from"):
        range_root(begin, end, _subtree)


def test_no_proof_is_made_of_what_is_not_in_the_tree() -> None:
    """The index is named."""
    with pytest.raises(LogError, match="entry 5 is not in a tree of 5") as caught:
        inclusion_proof(5, 5, _subtree)
    assert caught.value.index == 5
    with pytest.raises(LogError, match="a tree of 4 entries does not begin with one of 5"):
        consistency_proof(5, 4, _subtree)

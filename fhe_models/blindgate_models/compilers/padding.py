"""Padding of the node's parts of private models: their size and digest stand in the manifest, and everybody reads that.

A part is JSON. So without padding its size tells how many leaves a forest has and how many digits its numbers, and whoever guesses
all of a model but a few numbers can try those against the digest. Hence 256 random bits, and filling up to a size that follows from
what is public: the longest part of this shape that there can be.
"""

import secrets
from typing import Final, TypeVar

import rfc8785

from blindgate_models.additive import spec as additive
from blindgate_models.bits import MAX_GROUPS
from blindgate_models.halves import Part
from blindgate_models.package import MAX_PART_BYTES
from blindgate_models.parts import Padded
from blindgate_models.trees import spec as trees

_RANDOM_BYTES: Final = 32
_KEPT_BITS: Final = 3

_Part = TypeVar("_Part", bound=Padded)


def padded(part: _Part, size: int = 0) -> _Part:
    """`part` with random padding, and `size` bytes long as it is written, if it is not longer."""
    random = secrets.token_hex(_RANDOM_BYTES)
    filling = min(size, MAX_PART_BYTES) - _bytes(part.model_dump() | {"padding": random})
    return part.model_copy(update={"padding": random + "0" * max(0, filling)})


def forest_bytes(part: trees.ServerPart) -> int:
    """The size of the longest part of a forest of this shape: every leaf there, every path as deep as it may be.

    Where conditions may be groups, every node asks one of its own, of as many bits as there may be.
    """
    nodes = sum(each.leaves - len(each.trees) for each in part.sums)
    groups = min(MAX_GROUPS, nodes) if part.members > 1 else 0
    number, condition = -4 * part.parameters.plain_modulus, part.bits + groups - 1
    sums, longest = [], groups * (_bytes([part.bits - 1] * part.members) + 1)
    for each in part.sums:
        outputs = len(each.bias)
        sums.append({"depth": each.depth, "bias": [number] * outputs, "trees": []})
        leaf = _bytes({"bits": [condition] * each.depth, "wanted": [1] * each.depth, "value": [number] * outputs})
        longest += each.leaves * (leaf + 1) + 3 * len(each.trees)
    return _bytes(part.model_dump() | {"groups": [], "sums": sums, "padding": "0" * 2 * _RANDOM_BYTES}) + longest


def tables_bytes(part: additive.ServerPart) -> int:
    """The size of the longest part of an additive model of this shape: every weight as long as it may be."""
    number, outputs = -4 * part.parameters.plain_modulus, len(part.constants)
    empty = {
        "weights": [[] for _ in range(outputs)],
        "constants": [number] * outputs,
        "padding": "0" * 2 * _RANDOM_BYTES,
    }
    return _bytes(part.model_dump() | empty) + outputs * len(part.weights[0]) * (_bytes(number) + 1)


def rounded_bytes(part: Padded) -> int:
    """The size of a part of its kind, up to an eighth more: for one that has no longest."""
    size = _bytes(part.model_dump()) + 2 * _RANDOM_BYTES
    step = 1 << max(0, size.bit_length() - 1 - _KEPT_BITS)
    return -(-size // step) * step


def _bytes(value: Part | list[int] | int) -> int:
    return len(rfc8785.dumps(value))

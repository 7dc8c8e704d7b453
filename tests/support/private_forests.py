"""Private forests without an estimator: random trees over bits, both halves, and what a reply really holds."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import Questions, with_groups
from blindgate_models.product.spec import Need, choose, prime_below
from blindgate_models.randomness import SYSTEM, Source
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from blindgate_models.trees.spec import row_square, server_part, words_of

Numbers = NDArray[np.int64]
Bits = NDArray[np.int64]
Leaf = dict[str, Any]


class Summed(NamedTuple):
    """Trees that add to the same outputs."""

    trees: list[list[Leaf]]
    outputs: list[int]
    bias: list[int]

    @property
    def depth(self) -> int:
        """The longest path."""
        return max(len(leaf["bits"]) for tree in self.trees for leaf in tree)


def random_tree(rng: np.random.Generator, conditions: int, depth: int, outputs: int, largest: int = 100) -> list[Leaf]:
    """A tree whose nodes ask any bit or group, also one that was asked above; a branch may end early."""
    leaves: list[Leaf] = []
    waiting: list[tuple[list[int], list[int]]] = [([], [])]
    while waiting:
        path, wanted = waiting.pop()
        if len(path) == depth or (path and rng.random() < 0.2):
            value = rng.integers(-largest, largest + 1, outputs).tolist()
            leaves.append({"bits": path, "wanted": wanted, "value": value})
            continue
        bit = int(rng.integers(conditions))
        waiting += [([*path, bit], [*wanted, answer]) for answer in (0, 1)]
    return leaves


class PrivateForest(NamedTuple):
    """A forest over bits, from both sides. Columns are the bits: 0 or 1."""

    sums: list[Summed]
    bits: int
    parts: tuple[dict[str, Any], dict[str, Any]]
    client: TreesClient
    server: TreesServer
    secret: bytes

    @property
    def modulus(self) -> int:
        """The modulus t."""
        return int(self.parts[0]["parameters"]["plain_modulus"])

    @property
    def flag_moduli(self) -> list[int]:
        """The primes whose product is t."""
        return list(self.parts[0]["flag_moduli"])

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return sum(len(each.trees) for each in self.sums)

    def encrypt(self, bits: Bits) -> bytes:
        """An input blob for any bits at all, as a modified client may send it."""
        return self.client._product.encrypt(self.secret, bits)

    def raw(self, result: bytes, rows: int) -> list[Numbers]:
        """What a result holds, decrypted: for each sum `(rows, 1 + outputs, leaves)`, first the flags modulo their primes."""
        numbers, start, found = self.client._product.decrypt(self.secret, result, rows), 0, []
        for public in self.parts[0]["sums"]:
            leaves, outputs = public["leaves"], len(public["outputs"])
            flags = -(-leaves // len(self.flag_moduli))
            remainders = numbers[:, start : start + flags, None] % np.array(self.flag_moduli)
            start += flags
            values = numbers[:, start : start + leaves * outputs].reshape(rows, outputs, leaves)
            start += leaves * outputs
            found.append(np.concatenate([remainders.reshape(rows, 1, -1)[:, :, :leaves], values], axis=1))
        assert start == numbers.shape[1]
        return found

    def expected(self, bits: Bits) -> Numbers:
        """The forest in clear, walked leaf by leaf: `(rows, outputs)` integers, not reduced."""
        total = np.zeros((len(bits), self.client.outputs), dtype=np.int64)
        for each in self.sums:
            total[:, each.outputs] += each.bias
            for tree in each.trees:
                for row, given in enumerate(with_groups(bits.astype(bool), self.parts[1]["groups"])):
                    total[row, each.outputs] += sum(np.array(leaf["value"]) for leaf in tree if fits(leaf, given))
        return total


def fits(leaf: Leaf, bits: Bits) -> bool:
    """Whether every condition on a leaf's path holds."""
    return all(bits[bit] == answer for bit, answer in zip(leaf["bits"], leaf["wanted"], strict=True))


def private_forest(
    sums: list[Summed],
    bits: int,
    *,
    plain_bits: int = 20,
    flag_moduli: list[int] | None = None,
    source: Source = SYSTEM,
    depth: int | None = None,
    groups: tuple[tuple[int, ...], ...] = (),
) -> PrivateForest:
    """Both halves of a forest, with parameters of the chooser's: one flag a number, or as many as there are moduli.

    `groups`: of bits; conditions past the last bit are these.
    """
    moduli = flag_moduli or [prime_below(plain_bits)]
    modulus = math.prod(moduli)
    depths = [depth or each.depth for each in sums]
    leaves = [len(each.trees) << deep for each, deep in zip(sums, depths, strict=True)]
    words = sum(words_of(count, len(each.outputs), len(moduli)) for count, each in zip(leaves, sums, strict=True))
    members = max(map(len, groups), default=1)
    square = row_square(max(depths), len(moduli), modulus, members)
    parameters = choose(Need(bits, words, modulus, square, "model_private")).model_dump()
    common = {"version": 1, "family": "trees", "parameters": parameters, "flag_moduli": moduli}
    client = common | {
        "columns": bits,
        "questions": [Questions(column=bit, kind="at_least", values=[0.5]).model_dump() for bit in range(bits)],
        "sums": [{"leaves": count, "outputs": each.outputs} for count, each in zip(leaves, sums, strict=True)],
        "scale_bits": 0,
        "error_bound": 0.0,
    }
    server = common | {
        "bits": bits,
        "members": members,
        "groups": [list(group) for group in groups],
        "sums": [
            {"depth": deep, "bias": each.bias, "trees": each.trees} for deep, each in zip(depths, sums, strict=True)
        ],
    }
    asker = TreesClient.from_part(client)
    return PrivateForest(
        sums, bits, (client, server), asker, TreesServer(server_part(server), source), asker.make_keys().secret
    )


def one_sum(trees: int, depth: int, bits: int, *, outputs: int = 1, seed: int = 0, **given: Any) -> PrivateForest:
    """A random forest with one sum."""
    rng = np.random.default_rng(seed)
    conditions = bits + len(given.get("groups", ()))
    made = [random_tree(rng, conditions, depth, outputs, given.pop("largest", 5)) for _ in range(trees)]
    return private_forest([Summed(made, list(range(outputs)), [3] * outputs)], bits, **given)

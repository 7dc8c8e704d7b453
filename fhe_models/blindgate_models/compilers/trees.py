"""From a fitted ensemble to a private forest: public questions, integer leaves, parameters with their bounds, and a report.

1. **Ask**: the ensemble becomes a forest over the answers to public questions, compared with the estimator (`asked_forests`).
2. **Round** leaves and bias to integers: the largest scale at which no score leaves half of the plain modulus. The modulus is the
   smallest of a few whose rounding is within `tolerance`; the larger it is, the more there is to hide.
3. **Choose** ring, packing and flood (`product.spec.choose`), which refuses what would not hide the forest.
4. **Run** some calibration rows under encryption: they must give the integer forest's scores exactly. All rows are compared in the
   clear.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.bits import Questions, answers, with_groups
from blindgate_models.compilers.asked_forests import ask_forest
from blindgate_models.compilers.bit_forests import BitForest
from blindgate_models.compilers.compiled import CompiledModel, Disclosures, steepness
from blindgate_models.compilers.measuring import measure
from blindgate_models.compilers.padding import forest_bytes, padded
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.primes import is_prime
from blindgate_models.product.spec import Need, choose, prime_below
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from blindgate_models.trees.spec import (
    DETERMINISM,
    FAMILY,
    MAX_DEPTH,
    MAX_LEAVES,
    MAX_OUTPUTS,
    VERSION,
    ClientPart,
    PublicSum,
    SecretLeaf,
    SecretSum,
    ServerPart,
    least_flag_modulus,
    row_square,
    words_of,
)
from blindgate_protocol.manifest import Encryption, Privacy

Floats = NDArray[np.float64]

DEFAULT_TOLERANCE: Final = 5e-4
"""Of the largest calibration score; of a regression, of how far they spread."""
_PLAIN_BITS: Final = (20, 24, 28, 32)
_MOST_FLAGS: Final = 4
_PRODUCT_BYTES: Final = 4000.0
"""What a node's product is worth: 0.05 ms of it, at 80 KB sent in a millisecond."""

_TO_CLIENT_BINS = "the public bins of every column, the number of trees and their depth"
_TO_CLIENT_EDGES = (
    "the thresholds that the trees ask each column for, among decoys; the number of trees and their depth"
)
_TO_CLIENT_SCORES = (
    "the raw scores, and how large they can get, within a factor of two; who runs other software than Blindgate may learn "
    "which questions the trees ask"
)
_TO_NODE = "the trees; the number of rows"


def compile_trees(
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> CompiledModel:
    """Compile a fitted ensemble of trees of depth up to 10, also behind steps that keep columns apart and in their order.

    Args:
        estimator: see `ensembles`; or a pipeline of such steps and one, `PublicBins` and encoders of categories among them.
        calibration: `(n, columns)` rows like those to come, n ≥ 1; empty cells where the estimator takes them.
        ranges: `(lo, hi)` for each column; see `declared_ranges` for the default.
        tolerance: how far rounding may move a score, as a share of the largest calibration score; of a regression, of their spread.

    Raises:
        TypeError: an estimator that is none of these.
        ValueError: rows that do not fit, or an estimator that the reading does not reproduce.
        PackageError: no parameters hide so many leaves.
    """
    prepared = Prepared.given(estimator, calibration, ranges)
    forest, asking, plain = ask_forest(estimator, prepared)
    precision = tolerance * plain.span
    client, server = tree_parts(
        split_outputs(forest),
        asking.questions,
        columns=len(prepared.columns),
        precision=precision,
        members=asking.members,
    )
    asker, node = TreesClient.from_part(client.model_dump()), TreesServer.from_part(server.model_dump())
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=prepared.columns,
        task="regression" if plain.labels is None else "classification",
        labels=plain.labels,
        link=plain.link,
        steepness=steepness(plain.link, plain.reference),
        encryption=_encryption(client),
        privacy=_privacy(server),
        determinism=DETERMINISM,
        discloses=Disclosures(
            to_client=[_TO_CLIENT_EDGES if asking.disclosed else _TO_CLIENT_BINS, _TO_CLIENT_SCORES], to_node=[_TO_NODE]
        ),
        report=measure(asker, node, prepared.rows, _integer_scores(client, server, prepared.rows), plain),
    )


def split_outputs(forest: BitForest) -> list[tuple[list[int], BitForest]]:
    """The sums of a forest: trees that add to the same outputs, and which outputs those are."""
    groups: dict[tuple[int, ...], list[Any]] = {}
    for tree in forest.trees:
        used = tuple(np.flatnonzero(np.any([leaf.value for leaf in tree], axis=0)).tolist()) or (0,)
        groups.setdefault(used, []).append(tree)
    every = {output for outputs in groups for output in outputs}
    if sum(map(len, groups)) > len(every) or every != set(range(len(forest.bias))):
        return [(list(range(len(forest.bias))), forest)]  # outputs that share trees are one sum
    sums = []
    for outputs, trees in sorted(groups.items()):
        own = tuple(
            tuple(leaf._replace(value=tuple(leaf.value[output] for output in outputs)) for leaf in tree)
            for tree in trees
        )
        bias = tuple(forest.bias[output] for output in outputs)
        sums.append((list(outputs), BitForest(own, forest.bits, bias, forest.groups)))
    return sums


def tree_parts(
    sums: Sequence[tuple[list[int], BitForest]],
    questions: Sequence[Questions],
    *,
    columns: int,
    precision: float,
    members: int = 1,
) -> tuple[ClientPart, ServerPart]:
    """The two parts of a forest.

    Args:
        sums: which outputs each ensemble adds to, and its trees.
        questions: the public ones.
        columns: how many columns a row has.
        precision: the smallest plain modulus is taken that rounds scores by at most this much, or else the largest.
        members: how many bits any group of a category could have, which is public.

    Raises `ValueError` on trees that are too deep or classes that are too many, `PackageError` when nothing hides so many.
    """
    depth = max(forest.depth for _, forest in sums)
    if depth > MAX_DEPTH:
        msg = f"estimator: a tree of depth {depth}, expected at most {MAX_DEPTH}: limit the depth when fitting"
        raise ValueError(msg)
    leaves = max(len(forest.trees) << forest.depth for _, forest in sums)
    if leaves > MAX_LEAVES:
        msg = (
            f"estimator: {leaves} leaves, with those that hide how many each tree has; expected at most {MAX_LEAVES}: fit fewer "
            "trees, or trees of less depth"
        )
        raise ValueError(msg)
    outputs = len({output for outputs, _ in sums for output in outputs})
    if outputs > MAX_OUTPUTS:
        msg = f"estimator: {outputs} classes, expected at most {MAX_OUTPUTS}"
        raise ValueError(msg)
    for plain_bits in _PLAIN_BITS:
        moduli = flag_moduli(plain_bits, depth)
        modulus = math.prod(moduli)
        scale_bits = min(_scale_bits(forest, modulus) for _, forest in sums)
        error_bound = max(math.ldexp((len(forest.trees) + 1) / 2, -scale_bits) for _, forest in sums)
        if error_bound <= precision:
            break
    secret = [_rounded(forest, scale_bits) for _, forest in sums]
    words = sum(words_of(each.leaves, len(each.bias), len(moduli)) for each in secret)
    bits = sums[0][1].bits
    need = Need(bits, words, modulus, row_square(depth, len(moduli), modulus, members), "model_private")
    parameters = choose(need, product_weight=_PRODUCT_BYTES)
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        columns=columns,
        questions=list(questions),
        flag_moduli=moduli,
        sums=[PublicSum(leaves=each.leaves, outputs=outputs) for each, (outputs, _) in zip(secret, sums, strict=True)],
        scale_bits=scale_bits,
        error_bound=error_bound,
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=parameters,
        bits=bits,
        flag_moduli=moduli,
        members=members,
        groups=[list(group) for group in sums[0][1].groups],
        sums=secret,
    )
    return client, padded(server, forest_bytes(server))


def flag_moduli(plain_bits: int, depth: int) -> list[int]:
    """Different primes whose product is nearly 2^plain_bits, as many as leave masks for paths of `depth` conditions."""
    least = least_flag_modulus(depth)
    for count in range(_MOST_FLAGS, 1, -1):
        middle = round(2 ** (plain_bits / count))
        moduli: list[int] = []
        for number in range(max(least, middle * 9 // 10, 2), 2 * middle):
            if is_prime(number) and len(moduli) < count - 1:
                moduli.append(number)
        last = (1 << plain_bits) // math.prod(moduli)
        while last > least and (last in moduli or not is_prime(last)):
            last -= 1
        if len(moduli) == count - 1 and last > least:
            return [*moduli, last]
    return [prime_below(plain_bits)]


def _scale_bits(forest: BitForest, modulus: int) -> int:
    """The largest S at which every score, rounded, stays below half of the modulus."""
    largest = float((forest.largest() + np.abs(forest.bias)).max()) or 1.0
    room = modulus // 2 - 1 - (len(forest.trees) + 1) / 2
    return math.floor(math.log2(room / largest))


def _rounded(forest: BitForest, scale_bits: int) -> SecretSum:
    def integer(value: float) -> int:
        return round(math.ldexp(value, scale_bits))

    return SecretSum(
        depth=forest.depth,
        bias=[integer(value) for value in forest.bias],
        trees=[
            [
                SecretLeaf(
                    bits=list(leaf.bits),
                    wanted=[int(answer) for answer in leaf.wanted],
                    value=[integer(each) for each in leaf.value],
                )
                for leaf in tree
            ]
            for tree in forest.trees
        ],
    )


def _encryption(client: ClientPart) -> Encryption:
    parameters = client.parameters
    return Encryption(
        scheme="bfv",
        security=128,
        degree=parameters.degree,
        modulus_bits=sum(parameters.data_bits),
        levels=0,
        error_bound=client.error_bound,
    )


def _privacy(server: ServerPart) -> Privacy:
    depth = max(each.depth for each in server.sums)
    square = row_square(depth, len(server.flag_moduli), server.parameters.plain_modulus, server.members)
    return Privacy(
        mode="model_private", bits=math.floor(server.parameters.distinguishing_bits(square, server.shape.outputs))
    )


def _integer_scores(client: ClientPart, server: ServerPart, rows: Floats) -> Floats:
    """What the parts compute, in the clear: `(n, outputs)`."""
    bits = with_groups(answers(client.questions, rows), server.groups)
    total = np.zeros((len(rows), client.outputs))
    for public, secret in zip(client.sums, server.sums, strict=True):
        total[:, public.outputs] += secret.bias
        for tree in secret.trees:
            for leaf in tree:
                fits = (bits[:, leaf.bits] == np.array(leaf.wanted, dtype=bool)).all(axis=1)
                total[np.ix_(fits, public.outputs)] += leaf.value
    return np.ldexp(total, -client.scale_bits)

"""What a tenant reads without asking anything: manifests and client parts are public, and must not tell what replies hide.

Manifests name the node's part by size and digest, and state numbers that were computed from the model.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from batch_forests import QUESTIONS, random_forest, random_rows
from blindgate_models.additive.spec import ServerPart
from blindgate_models.bits import Questions
from blindgate_models.compilers.additive import additive_parts
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.compiled import coarse
from blindgate_models.compilers.ensembles import read_forest
from blindgate_models.compilers.lookup import lookup_parts
from blindgate_models.compilers.pipelines import read_steps, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.search import compile_search, search_parts
from blindgate_models.compilers.shapes import Asked, Shapes, States
from blindgate_models.compilers.steps import raw_thresholds, wanted_thresholds
from blindgate_models.compilers.tree_batches import compile_tree_batch
from blindgate_models.compilers.trees import compile_trees, tree_parts
from blindgate_models.package import parse_part, serialise_part
from blindgate_models.publishing import open_package, publish
from blindgate_models.search.spec import Weights
from blindgate_models.servers import server_half
from blindgate_protocol.signing import SigningKey
from campaigns import CAMPAIGN

Floats = NDArray[np.float64]


def stump_like(forest: BitForest) -> BitForest:
    """A forest of the same trees' number and depth, with one long path a tree and nothing beside it, and short numbers."""
    trees = []
    for number in range(len(forest.trees)):
        bits = [(number + place) % forest.bits for place in range(forest.depth)]
        ends = [Leaf(tuple(bits[: length + 1]), (True,) * length + (False,), (0.0,)) for length in range(forest.depth)]
        trees.append((*ends, Leaf(tuple(bits), (True,) * forest.depth, (1.0,))))
    return BitForest(tuple(trees), forest.bits, (0.0,))


def test_the_size_of_a_forests_part_tells_neither_leaves_nor_digits() -> None:
    """29 KB and 4 KB, before: the number of leaves, which dummy leaves hide in replies, stood in the manifest."""
    full = random_forest(np.random.default_rng(0), 8, 4)
    sizes = set()
    for forest in (full, stump_like(full)):
        assert forest.depth == 4
        _, server = tree_parts([([0], forest)], QUESTIONS, columns=3, precision=1.0)
        sizes.add(len(serialise_part(server.model_dump())))
    assert len(sizes) == 1


def tables(values: list[float]) -> ServerPart:
    """The node's part of an additive model of one column, whose table is 1 and then `values`."""
    edges = [float(edge) for edge in range(1, 1 + len(values))]
    states = np.arange(1 + len(values))
    asked = Asked(
        0,
        [Questions(column=0, kind="at_least", values=edges)],
        States(states.astype(np.float64), states[1:], states[:-1]),
    )
    shapes = Shapes(np.zeros(1), [np.array([[1.0], *([value] for value in values)])], [])
    return additive_parts(shapes, [asked], [], precision=1.0, privacy="model_private")[1]


def test_the_size_of_tables_tells_no_digits() -> None:
    """Zeros or long numbers: a part is as long."""
    flat, steep = tables([1.0] * 40), tables(np.random.default_rng(0).uniform(-1, 1, 40).tolist())
    assert sum(map(abs, flat.weights[0])) < 10
    assert len(serialise_part(flat.model_dump())) == len(serialise_part(steep.model_dump()))


def test_the_size_of_a_circuit_tells_its_size_to_an_eighth() -> None:
    """There is no longest circuit of a shape; how much work it is, its time tells as well."""
    rows = random_rows(np.random.default_rng(1), 50)
    for trees in (3, 8, 20):
        batch = compile_tree_batch(random_forest(np.random.default_rng(trees), trees, 3), QUESTIONS, rows)
        size = len(serialise_part(batch.server.model_dump()))
        assert size == size >> (size.bit_length() - 4) << (size.bit_length() - 4)


def a_part_of(family: str) -> Any:
    """The node's part of a private model, compiled anew."""
    if family == "additive":
        return tables([0.5] * 10)
    if family == "search":
        return search_parts(np.random.default_rng(0).integers(-9, 9, (8, 4)).astype(np.int8), privacy="model_private")[
            1
        ]
    if family == "lookup":
        return lookup_parts(np.zeros((3, 9), dtype=np.uint8), privacy="model_private")[1]
    forest = random_forest(np.random.default_rng(0), 3, 2)
    if family == "trees":
        return tree_parts([([0], forest)], QUESTIONS, columns=3, precision=1.0)[1]
    return compile_tree_batch(forest, QUESTIONS, random_rows(np.random.default_rng(1), 50)).server


@pytest.mark.parametrize("family", ["additive", "lookup", "search", "trees", "trees-batch"])
def test_no_digest_confirms_a_guess(family: str) -> None:
    """Two packages of one model share no digest: each part has 256 random bits. Nodes take them."""
    one, other = (serialise_part(a_part_of(family).model_dump()) for _ in range(2))
    assert one != other
    assert len(one) == len(other)
    server_half(family).from_part(parse_part(one))


def test_a_manifest_states_few_digits_of_what_a_hidden_model_is_like() -> None:
    """An error, a bound or an advantage to 53 bits would confirm a guess of everything else, or be an equation by itself."""
    forest, rows = random_forest(np.random.default_rng(0), 5, 3, outputs=2), random_rows(np.random.default_rng(1), 50)
    batch = compile_tree_batch(forest, QUESTIONS, rows)
    for error in (*batch.client.error_bound, batch.encryption.error_bound):
        assert error == coarse(error) > 0
    assert batch.privacy.bits == math.floor(batch.privacy.bits or 0.5)
    index = compile_search(np.random.default_rng(0).normal(size=(20, 8)))
    package = open_package(publish(index, SigningKey.generate(), name="i", version=1, summary="", issued=1))
    manifest = package.manifest.document
    assert manifest.encrypted().accuracy.max_error == coarse(index.report["max_error"]) != index.report["max_error"]
    assert manifest.privacy.bits == math.floor(manifest.privacy.bits or 0.5)


def test_an_index_tells_no_exact_norm() -> None:
    """Of its heaviest entry: t stood for the sum of its numbers, and the bits of privacy for that of their squares."""
    rng = np.random.default_rng(0)
    moduli = set()
    for _ in range(20):
        index = rng.integers(-127, 128, (50, 64)).astype(np.int8)
        least = 2 * Weights.of(index).largest_score + 2
        modulus = search_parts(index, privacy="model_private")[0].parameters.plain_modulus
        assert least <= modulus < least * 1.125
        assert modulus % (1 << (modulus.bit_length() - 4)) == 0
        moduli.add(modulus)
    assert len(moduli) <= 3


@pytest.mark.parametrize("encoder", [OrdinalEncoder(), OneHotEncoder()])
def test_what_is_asked_of_a_category_does_not_tell_what_a_forest_asks(encoder: Any) -> None:
    """Neither whether it asks for it at all, nor whether it cuts it in the middle."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"ward": rng.choice(list("abcdef"), 400), "age": rng.normal(size=400)})
    columns = ColumnTransformer([("ward", encoder, ["ward"])], remainder="passthrough")
    questions = []
    for target in (rows["age"] > 0, rows["ward"] > "c", rows["ward"] == "a"):
        model = make_pipeline(columns, DecisionTreeClassifier(max_depth=2, random_state=0)).fit(rows, target)
        asked = [each for each in compile_trees(model, rows).client["questions"] if each["column"] == 0]
        questions.append(asked)
    assert questions[0] == questions[1] == questions[2]


ENSEMBLES = [
    pytest.param(XGBClassifier(n_estimators=40, max_depth=4), id="XGBoost"),
    pytest.param(XGBClassifier(n_estimators=40, max_depth=4, tree_method="exact"), id="XGBoost, exact"),
    pytest.param(LGBMClassifier(n_estimators=40, max_depth=4, verbose=-1), id="LightGBM"),
    pytest.param(HistGradientBoostingClassifier(max_iter=40, max_depth=4), id="histograms"),
    pytest.param(RandomForestClassifier(40, max_depth=5, random_state=0), id="forest"),
    pytest.param(ExtraTreesClassifier(40, max_depth=5, random_state=0), id="random cuts"),
    pytest.param(
        make_pipeline(StandardScaler(), RandomForestClassifier(40, max_depth=4, random_state=0)), id="behind a scaler"
    ),
]


@pytest.mark.parametrize("model", ENSEMBLES)
def test_nothing_sets_decoys_apart_from_thresholds(model: Any) -> None:
    """By how many digits they have, whether somebody would have written them down, or how they lie among the rows.

    Decoys were values of calibration rows, and thresholds never: one look at a client part gave every threshold.
    """
    rows, target = load_breast_cancer(return_X_y=True)
    model.fit(rows, target)
    client = compile_trees(model, rows).client
    prepared = Prepared.given(model, rows, None)
    steps, inner = split(model, prepared)
    forest, outputs = read_forest(inner), read_steps(steps)
    own: dict[int, set[float]] = {}
    for (output, _), edge in raw_thresholds(steps, outputs, wanted_thresholds(forest), forest).items():
        own.setdefault(outputs[output].column, set()).add(edge)
    seen: dict[bool, list[tuple[bool, float]]] = {True: [], False: []}
    for asked in client["questions"]:
        values = np.unique(rows[:, asked["column"]])
        for edge in asked["values"]:
            place = int(np.searchsorted(values, edge, side="right"))
            low, high = values[max(0, place - 1)], values[min(place, len(values) - 1)]
            lies = 0.0 if low == high else float((edge - low) / (high - low))
            seen[edge in own.get(asked["column"], ())].append((len(repr(edge)) > 10, round(lies, 6)))
    thresholds, decoys = (np.array(seen[which], dtype=np.float64) for which in (True, False))
    assert min(len(thresholds), len(decoys)) > 90
    assert abs(thresholds[:, 0].mean() - decoys[:, 0].mean()) < 0.3
    assert stats.ks_2samp(thresholds[:, 1], decoys[:, 1]).statistic < 0.25
    if CAMPAIGN > 1:  # `make test` compiles a tree twice, in tests/unit/test_trees_compiler.py
        assert compile_trees(model, rows).client["questions"] == client["questions"], (
            "two draws would share thresholds only"
        )


@pytest.mark.parametrize("number", [0.0, 1.0, 0.1, 0.0123456, 1.01e-9, 9.95e7, 123456.0, 5e-324, 2.0**-11])
def test_coarse_numbers_are_no_smaller_and_have_two_digits(number: float) -> None:
    """A bound that was rounded down would be none."""
    assert number <= coarse(number) <= number * 1.1 + 5e-324
    assert float(f"{coarse(number):.1e}") == coarse(number)

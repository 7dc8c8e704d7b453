"""Every family side by side: what one request costs the node, and what it sends. Drawn as `families.svg`.

The patients are the demo's, all in this process, process CPU time, one thread. Peer of every row: the same figure of Concrete's
trees under TFHE, the demo's package, key in memory. *One row* is a patient; `trees-batch` answers a full job, and its latency is
that of all its rows. The network reads digits, the search looks through 10,000 embeddings of 384 numbers.

- *node*: from the bytes of the input to the bytes of the result, with what `prepare` draws drawn before, and a key loaded.
- *client*: encrypt and decrypt.
- *up*, *down*: the blobs.
- *key*: the evaluation key, uploaded once by whoever has one.
- *load*: from the bytes of the server part to a half that can answer; a second was asked for.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from bench.network import mlp
from bench.rows import Row, row
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.compilers.hidden_scores import compile_hidden_scores
from blindgate_models.compilers.polynomial import network_parts
from blindgate_models.compilers.search import compile_search
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.server import ConcreteServer
from blindgate_models.halves import ClientHalf, Part
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.server import NetworkServer
from blindgate_models.package import parse_part, read_package, serialise_part
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from models.breast_cancer import ADDITIVE, FOREST, LINEAR, build, patients, plain_binned

RUNS: Final = 7
SLOW_RUNS: Final = 3
PACKAGE: Final = Path(__file__).resolve().parents[1] / "examples" / "models" / "breast-cancer-trees.bgmodel"
UNITS: Final = {"node": "ms CPU", "client": "ms CPU", "up": "KB", "down": "KB", "key": "MB"}
LOAD_MS: Final = 1000.0
_ENTRIES, _WIDTH = 10_000, 384

Compute = Callable[[bytes], bytes]
Figures = dict[str, float]


class Case(NamedTuple):
    """A family at its own kind of request: `prepare` is not counted."""

    name: str
    client: ClientHalf
    table: NDArray[np.float64]
    server: type[Any]
    part: Part
    runs: int = RUNS


def rows() -> list[Row]:
    """Measure every family against Concrete's trees."""
    concrete = _measured(_concrete())
    found = []
    for case in _cases():
        ours = _measured(case)
        found += [
            row(f"{case.name}: {what}", ours[what], concrete[what], target=None, unit=unit, runs=case.runs)
            for what, unit in UNITS.items()
            if ours[what]
        ]
        found.append(row(f"{case.name}: load", ours["load"], LOAD_MS, target=1, unit="ms CPU", runs=1))
    name = "trees under TFHE, one row"
    return found + [
        row(f"{name}: {what}", concrete[what], concrete[what], target=None, unit=unit, runs=SLOW_RUNS)
        for what, unit in UNITS.items()
    ]


def _cases() -> Iterator[Case]:
    train, held_out, *_ = patients()
    patient, training = held_out.to_numpy()[:1], train.to_numpy()

    linear = build(LINEAR)
    yield Case("linear, one row", LinearClient.from_part(linear.client), patient, LinearServer, linear.server)
    many = np.resize(held_out.to_numpy(), (4096, patient.shape[1]))
    yield Case("linear, 4,096 rows", LinearClient.from_part(linear.client), many, LinearServer, linear.server)
    additive = build(ADDITIVE)
    yield Case(
        "additive, one row",
        AdditiveClient.from_part(additive.client),
        patient,
        AdditiveServer,
        additive.server,
    )
    forest = build(FOREST)
    yield Case("trees, one row", TreesClient.from_part(forest.client), patient, TreesServer, forest.server)
    for what, name in (("stumps", ADDITIVE), ("depth 4", FOREST)):
        batch = compile_trees_batch(plain_binned(name), training)
        asker = TreesBatchClient.from_part(batch.client)
        full = np.resize(held_out.to_numpy(), (asker.rows_per_job, patient.shape[1]))
        yield Case(
            f"trees-batch ({what}), {len(full):,} rows",
            asker,
            full,
            TreesBatchServer,
            batch.server,
            SLOW_RUNS,
        )

    digits = mlp()
    ranges = np.array([[0.0, 1.0]] * digits.held_out.shape[1])
    client_part, server_part = network_parts(digits.network, ranges, precision=1e-3)
    yield Case(
        "network (MLP 64-64²-10), one row",
        NetworkClient.from_part(client_part.model_dump()),
        digits.held_out[:1],
        NetworkServer,
        server_part.model_dump(),
    )
    answers = patients()[2]
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(training, answers)
    hidden = compile_hidden_scores(logistic, training)
    yield Case(
        "logistic, score hidden, one row",
        NetworkClient.from_part(hidden.client),
        patient,
        NetworkServer,
        hidden.server,
        SLOW_RUNS,
    )
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(_ENTRIES, _WIDTH))
    index = compile_search(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))
    query = rng.normal(size=(1, _WIDTH))
    yield Case(
        f"search in {_ENTRIES:,}, one query",
        SearchClient.from_part(index.client),
        query,
        SearchServer,
        index.server,
    )


def _concrete() -> Case:
    files = read_package(PACKAGE)
    patient = patients()[1].to_numpy()[:1]
    client = ConcreteClient.from_part(parse_part(files.client))
    return Case("", client, patient, ConcreteServer, parse_part(files.server), SLOW_RUNS)


def _measured(case: Case) -> Figures:
    keys = case.client.make_keys()
    data = serialise_part(case.part)
    started = time.process_time()
    server = case.server.from_part(parse_part(data))
    loaded = time.process_time() - started
    compute: Compute = partial(server.evaluate, None) if keys.evaluation is None else server.direct(keys.evaluation)
    node, client = [], []
    for attempt in range(case.runs + 1):
        started = time.process_time()
        blob = case.client.encrypt(keys.secret, case.table)
        sent = time.process_time() - started
        server.prepare()
        started = time.process_time()
        result = compute(blob)
        answered = time.process_time() - started
        started = time.process_time()
        case.client.decrypt(keys.secret, result, len(case.table))
        read = time.process_time() - started
        if attempt:  # the first does not count
            node.append(answered * 1e3)
            client.append((sent + read) * 1e3)
    return {
        "node": statistics.median(node),
        "client": statistics.median(client),
        "up": len(blob) / 1e3,
        "down": len(result) / 1e3,
        "key": len(keys.evaluation or b"") / 1e6,
        "load": loaded * 1e3,
    }


def plot(kept: list[Row], path: Path) -> None:
    """Draw latency and bytes of every family in `kept`, this module's rows."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415

    figures: dict[str, Figures] = {}
    for one in kept:
        name, _, what = one["name"].rpartition(": ")
        figures.setdefault(name, {})[what] = one["ours"]
    names = list(reversed(figures))
    panels = (
        ("ms of CPU (a batch: all its rows)", {"node": 1.0, "client": 1.0}, ("#4477aa", "#ee6677")),
        ("KB (key: once)", {"up": 1.0, "down": 1.0, "key": 1e3}, ("#4477aa", "#ee6677", "#bbbbbb")),
    )
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.55 * len(names) + 1.4), sharey=True)
    for axis, (label, wanted, colours) in zip(axes, panels, strict=True):
        height = 0.8 / len(wanted)
        for number, ((what, factor), colour) in enumerate(zip(wanted.items(), colours, strict=True)):
            values = [figures[name].get(what, 0.0) * factor for name in names]
            places = [place + 0.4 - height * (number + 0.5) for place in range(len(names))]
            axis.barh(places, values, height=height, color=colour, label=what)
            for place, value in zip(places, values, strict=True):
                if value:
                    axis.annotate(
                        f" {value:,.3g}" if value < 1000 else f" {value:,.0f}", (value, place), fontsize=6, va="center"
                    )
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.margins(x=0.12)
        axis.set_xlabel(label)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.08), ncols=3, frameon=False)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    figure.suptitle(kept[0]["machine"], fontsize=8, y=0.995)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})

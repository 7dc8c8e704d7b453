"""From a table in the application's hands to labels in its hands, through a real gateway and real nodes on this machine.

- *linear, 40,960×30*: encryption, upload, evaluation, download and decryption of the whole table by `predict`. Asked for: 20,000
  rows/s. Keys are made before.
- *TFHE trees, one row*: `predict` of one patient, with keys made, uploaded and cached by the node. Peer: concrete-python called
  directly in this process on the same circuit with keys in memory: encrypt, run, decrypt. One thread each.
- *SDK import*: a fresh interpreter that does `from blindgate import Client`, less one that does nothing. Asked for: 1 s.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench.rows import Row, row

from blindgate_models.compilers.linear import encryption, linear_parts
from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.server import ConcreteServer
from blindgate_models.package import parse_part
from blindgate_models.publishing import open_package
from models.breast_cancer import TREES, patients
from models.build import INSECURE_DEMO_PUBLISHER, package_file
from world import World

ROWS, COLUMNS = 40_960, 30
ASKED_ROWS_PER_SECOND = 20_000.0
ASKED_IMPORT_SECONDS = 1.0
TREES_RATIO = round(1 / 1.15, 3)
RUNS = 5


def rows(runs: int = RUNS) -> list[Row]:
    """Measure all three."""
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-") as folder, World(Path(folder)) as world:
        world.trust("demo", INSECURE_DEMO_PUBLISHER.id)
        world.start_gateway()
        world.start_node("node-1", idle_seconds=600)
        world.publish(package_file(TREES))
        world.publish(_wide_linear())
        return [_linear(world, runs), _trees(world, runs), _sdk_import(runs)]


def _wide_linear() -> bytes:
    """A package of a linear model over 30 columns from -1 to 1."""
    from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, Report  # noqa: PLC0415
    from blindgate_models.compilers.ranges import declared_columns  # noqa: PLC0415
    from blindgate_models.publishing import publish  # noqa: PLC0415

    limits = np.tile([-1.0, 1.0], (COLUMNS, 1))
    weights = np.random.default_rng(0).normal(size=(1, COLUMNS)) * 0.2
    client, server = linear_parts(weights, np.array([0.3]), limits)
    compiled = CompiledModel(
        family="linear",
        client=client.model_dump(),
        server=server.model_dump(),
        columns=declared_columns([f"x{n}" for n in range(COLUMNS)], limits),
        task="regression",
        labels=None,
        link="identity",
        steepness=1.0,
        encryption=encryption(client),
        privacy=PUBLIC,
        determinism="bit-exact",
        discloses=Disclosures(to_client=[], to_node=[]),
        report=Report(
            rows=0,
            agreement_plain=1.0,
            max_error=0.0,
            evaluation_key_bytes=0,
            ciphertext_bytes_per_row=0.0,
            result_bytes_per_row=0.0,
            expected_seconds_per_row=0.0,
        ),
    )
    now = int(time.time() * 1000)
    return publish(compiled, INSECURE_DEMO_PUBLISHER, name="wide", version=1, summary="Bench.", issued=now - 1000)


def _linear(world: World, runs: int) -> Row:
    table = np.random.default_rng(1).uniform(-1, 1, (ROWS, COLUMNS))
    with world.client() as client:
        model = client.model("wide")
        taken = _seconds(lambda: model.predict(table), runs)
    rates = [ROWS / seconds for seconds in taken]
    name = f"linear {ROWS}x{COLUMNS}, client to client"
    return row(name, rates, ASKED_ROWS_PER_SECOND, target=1.0, unit="rows/s", more_is_better=True)


def _trees(world: World, runs: int) -> Row:
    patient = patients()[1].iloc[:1]
    with world.client() as client:
        model = client.model(TREES)
        ours = _seconds(lambda: model.predict(patient), runs)
    package = open_package(package_file(TREES))
    asker, node = (
        ConcreteClient.from_part(parse_part(package.client)),
        ConcreteServer.from_part(parse_part(package.server)),
    )
    keys = asker.make_keys()
    direct = node.direct(keys.evaluation)
    numbers = patient.to_numpy(dtype=np.float64)
    peer = _seconds(
        lambda: asker.decrypt(keys.secret, direct(asker.encrypt(keys.secret, numbers)), 1),
        runs,
    )
    return row("TFHE trees, one row, client to client", ours, peer, target=TREES_RATIO, unit="s")


def _sdk_import(runs: int) -> Row:
    def start(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))

    bare = _seconds(start("pass"), runs)
    whole = _seconds(start("from blindgate import Client"), runs)
    taken = [max(0.001, one - min(bare)) for one in whole]
    return row("SDK import", taken, ASKED_IMPORT_SECONDS, target=1.0, unit="s")


def _seconds(work: Callable[[], object], runs: int) -> list[float]:
    """The time of each run, after one that does not count."""
    taken = []
    for attempt in range(runs + 1):
        began = time.perf_counter()
        work()
        if attempt:
            taken.append(time.perf_counter() - began)
    return taken

"""What tests share: a real gateway with real nodes, and models small enough to compile on the spot."""

import gc
import importlib.util
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, settings
from sklearn.linear_model import LogisticRegression

import node_process
import quick_routes  # noqa: F401  (from here on, applications of this process are)
import quick_skops  # noqa: F401  (before a test imports skops)
import quick_stores  # noqa: F401  (from here on, stores of this process are)
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.native.kernel import SETTING, kernel
from blindgate_models.product import arithmetic as arithmetics
from brokerage import GatewayProcess
from campaigns import leave_to_nightly
from desk import OTHER_OPERATOR
from node_process import NodeProcess
from postgresql import PostgresqlServer, find_programs, in_memory, running_server
from preloaded import GATEWAY, NODE, OWNER, Preloaded
from runs import SOON_IN_THE_LOG
from s3 import S3Server
from signed_packages import PUBLISHER, package
from typed import BLINDGATE, Typed, start_server, type_command
from world import World

# Left alone, it draws each traceback with colours and locals, which takes half a second.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])

settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
"""An example takes as long as it takes, as in CI: what else the machine does is no fault of what is tested."""

_KINDS: Final = {
    "faults": "waits",
    "integration": "waits",
    "attacks": "computes",
    "properties": "computes",
    "unit": "short",
}
"""Of the files of a folder."""

gc.disable()
"""Until all tests are collected: going through what their modules import, again and again, takes a third of that time."""


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: collections of garbage leave it out from here on."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for the processes of `make test`, which take the next one each, so that all cores have work until the end.

    Last come the short ones, so that no process is left alone with a long one. Before them, files of faults and of integration,
    which wait for what they start, stand among those that compute: three that wait at once would leave two cores idle.
    """
    folders: dict[str, dict[str, None]] = {}
    for item in items:
        file = item.nodeid.split("::")[0]
        folder = file.split("/")[1]
        folders.setdefault(_KINDS.get(folder, folder), {})[file] = None
    places = {}
    for kind, files in folders.items():
        for number, file in enumerate(files):
            places[file] = (kind == "short", (number + 0.5) / len(files))
    items.sort(key=lambda item: places[item.nodeid.split("::")[0]])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave PostgreSQL's turn of what does not depend on the database to `make nightly`, before any fixture is made for it."""
    if isinstance(item, pytest.Function) and item.get_closest_marker("sqlite") is not None:
        turns = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(turn, str) and turn.startswith("postgresql") for turn in turns):
            leave_to_nightly()


@pytest.fixture(autouse=True)
def broken_pipes_are_errors() -> Iterator[None]:
    """Take SIGPIPE back after each test: evaluating with Concrete installs LLVM's handler, which ends the process."""
    yield
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def preloaded() -> Iterator[None]:
    """Gateways, nodes and commands are forked from processes that have imported what they need."""
    GatewayProcess.preloaded = gateways = Preloaded("blindgate_gateway", GATEWAY)
    NodeProcess.preloaded = nodes = Preloaded(node_process.__file__, NODE)
    Typed.preloaded = commands = Preloaded(str(BLINDGATE), OWNER)
    World.type_command = staticmethod(type_command)
    World.start_server = staticmethod(start_server)
    yield
    GatewayProcess.preloaded = NodeProcess.preloaded = Typed.preloaded = None
    for made in (gateways, nodes, commands):
        made.close()


@pytest.fixture(scope="module", params=["kernel", "sealapi"])
def arithmetic(request: pytest.FixtureRequest) -> Iterator[str]:
    """What asks for it is run twice: secret products are computed by the kernel in C, and by SEAL."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv(SETTING, raising=False)
        patched.setattr(arithmetics, "FEWEST_BLOCKS", 1)  # the products of tests are small
        if request.param == "sealapi":
            patched.setenv(SETTING, "sealapi")
        elif kernel() is None and not os.environ.get("CI"):
            pytest.skip("no kernel was compiled here")
        yield request.param


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server for all tests; each makes databases of its own."""
    programs = find_programs()
    if programs is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "PostgreSQL's server is not installed (Debian: postgresql)"
        )
    # Its processes are killed here, the machine is not.
    with running_server(programs, within=in_memory(), fsync="off", max_wal_size="128MB") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """A fresh database: `None` stands for the embedded one, else a PostgreSQL URI."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str | None:
    """The same, without a gateway's tables: for tests of what makes them."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql_server").new_database(empty=True)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for all tests; each makes buckets of its own."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("boto3") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "moto's server or boto3 is not installed (extras dev and s3)"
        )
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A fresh store of blobs, as a gateway's settings: the folder, or a bucket."""
    if request.param == "folder":
        return {}
    server: S3Server = request.getfixturevalue("s3_server")
    return server.new_bucket()


@pytest.fixture(scope="session")
def small_rows() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows for the small model, `(200, 4)`, within -3 to 3."""
    return np.clip(np.random.default_rng(7).normal(size=(200, 4)), -3, 3)


@pytest.fixture(scope="session")
def small_estimator(small_rows: np.ndarray[Any, np.dtype[np.float64]]) -> LogisticRegression:
    """A logistic model with text labels."""
    labels = np.where(small_rows @ [1.0, -2.0, 0.5, 0.0] > 0.1, "sick", "well")
    return LogisticRegression().fit(small_rows, labels)


@pytest.fixture(scope="session")
def small_compiled(
    small_estimator: LogisticRegression, small_rows: np.ndarray[Any, np.dtype[np.float64]]
) -> CompiledModel:
    """The small model, compiled; its columns are x0 to x3, from -10 to 10."""
    return compile_linear(small_estimator, small_rows, ranges=[(-10.0, 10.0)] * 4)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, small_compiled: CompiledModel) -> Iterator[World]:
    """A gateway and one node that serve the small model. Shared: a test that breaks processes makes its own."""
    with World(tmp_path_factory.mktemp("world"), gateway=SOON_IN_THE_LOG) as made:
        made.trust("tests", PUBLISHER.id)
        made.operators.append(OTHER_OPERATOR.id)
        made.start_gateway()
        made.start_node("node-1")
        made.publish(package(small_compiled))
        yield made

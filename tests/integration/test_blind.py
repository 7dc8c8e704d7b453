"""Blind: what is in the rows, and the secret key, is nowhere but with the client.

Marked values are planted in the rows as numbers with many digits; jobs are run; then everything that the gateway and the
nodes have, on disk and in memory, is searched for those values and for the secret keys. The same search is shown to find what
was leaked on purpose.
"""

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted
from blindgate import Client
from blindgate.keystore import FileStore
from blindgate_models.compilers.compiled import CompiledModel
from models.breast_cancer import TREES, patients
from models.build import INSECURE_DEMO_PUBLISHER, package_file
from runs import SOON_IN_THE_LOG
from signed_packages import PUBLISHER, package
from typed import FreshWorld
from world import World

MARKS = [7.183920465718293, -4.902713584610927, 1.374829105836472]
MARKED_ROWS = np.array([[MARKS[0], MARKS[1], MARKS[2], 0.8203915746182937]])


HOLD = "import sys, time; held = sys.stdin.buffer.read(); print(flush=True); time.sleep(60)"
"""A process that holds what it is given."""


@pytest.fixture(scope="module")
def own_world(tmp_path_factory: pytest.TempPathFactory, small_compiled: CompiledModel) -> Iterator[World]:
    """A world of this file's own, with two nodes, so that everything in it came from these tests."""
    with FreshWorld(tmp_path_factory.mktemp("world"), gateway=SOON_IN_THE_LOG) as made:
        made.trust("tests", PUBLISHER.id)
        made.trust("insecure-demo-publisher", INSECURE_DEMO_PUBLISHER.id)
        made.start_gateway()
        made.start_node("node-1")
        made.start_node("node-2")
        made.publish(package(small_compiled))
        yield made


def _search(client: Client) -> planted.Search:
    store = FileStore(client.home / "keys")
    secrets = {name: store.get(name) or b"" for name in store.names() if name.endswith((".secret", "signing-key"))}
    assert len(secrets) > 1
    return planted.Search(
        [planted.number(f"planted value {number}", value) for number, value in enumerate(MARKS)]
        + [planted.stored_key(f"secret key {name}", secret) for name, secret in secrets.items()]
    )


def _running(world: World) -> list[int]:
    return [pid for process in world.processes.values() for pid in planted.family(process.pid)]


def test_the_gateway_and_the_nodes_hold_no_planted_value_and_no_secret_key(own_world: World) -> None:
    """Neither on disk, in logs or database, nor in the memory of any of their processes, under CKKS and under TFHE."""
    own_world.publish(package_file(TREES))
    patient = patients()[1].iloc[:1].copy()
    patient.iloc[0, 0] = MARKS[0]
    with own_world.client() as client:
        model = client.model("small")
        for _ in range(3):
            model.predict(MARKED_ROWS)
        client.model(TREES).predict(patient, timeout=300)
        search = _search(client)
    assert search.in_files(own_world.folder / name for name in ("gateway", "node-1", "node-2")) == []
    assert search.in_processes(_running(own_world)) == []


def test_the_same_search_finds_what_is_leaked_on_purpose(own_world: World) -> None:
    """A search that cannot find anything would prove nothing."""
    with own_world.client() as client:
        client.model("small").predict(MARKED_ROWS)
        search = _search(client)
    secret = FileStore(client.home / "keys")
    key = next(secret.get(name) or b"" for name in secret.names() if name.endswith(".secret"))
    part = key[1000:1100]
    # On disk: as text, as packed doubles, and the key or a part of it, in the gateway's own folder.
    leak = own_world.gateway_folder / "leak"
    for content in (repr(MARKS[0]).encode(), MARKED_ROWS.tobytes(), key, part, part.hex().encode(), b64encode(part)):
        leak.write_bytes(b"x" * 1000 + content)
        assert search.in_files([own_world.gateway_folder])
    leak.unlink()
    assert search.in_files([own_world.gateway_folder]) == []
    # In memory: a process that was given the row, and one that was given the key.
    for content in (MARKED_ROWS.tobytes(), key):
        holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(content)
        holder.stdin.close()
        holder.stdout.readline()
        assert search.in_processes([holder.pid])
        holder.kill()
        holder.wait()
        holder.stdout.close()


FORBIDDEN = (
    "blindgate",
    "blindgate_models",
    "blindgate_node",
    "numpy",
    "tenseal",
    "concrete",
    "torch",
    "pandas",
    "scipy",
)


def test_a_fresh_gateway_has_none_of_the_forbidden_modules_loaded() -> None:
    """Import contracts can be walked around by dynamic imports; sys.modules cannot."""
    code = (
        "import sys, blindgate_gateway.app, blindgate_gateway.server, blindgate_gateway.commands\n"
        f"found = [name for name in {FORBIDDEN!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_running_gateway_has_mapped_none_of_the_forbidden_libraries(own_world: World) -> None:
    """What a process has mapped says what it has loaded, whatever it was told to import."""
    for pid in planted.family(own_world.processes["gateway"].pid):
        maps = Path(f"/proc/{pid}/maps").read_text()
        for library in ("numpy", "tenseal", "concrete", "torch", "pandas", "scipy"):
            assert f"site-packages/{library}" not in maps


def test_what_the_gateway_says_it_stored_holds_no_value(world: World, small_rows: np.ndarray[Any, Any]) -> None:
    """The record of a job is names, sizes and digests."""
    with world.client() as client:
        job = client.model("small").submit(small_rows[:2])
        job.result(timeout=60)
        stored = job.record()
    record = stored.model_dump_json()
    assert {blob.role for blob in stored.blobs} == {"input", "result"}
    for value in small_rows[:2].ravel():
        assert repr(float(value)) not in record

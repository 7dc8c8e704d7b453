"""The sandbox of a node that is not root: which layers are left, with and without user namespaces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "unprivileged.py"
USER = 64_990
ALWAYS = {"limits", "capabilities", "privileges", "memory", "files", "syscalls"}
NAMESPACES = {"network", "ipc", "hostname", "processes", "root"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming an ordinary user needs root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that an ordinary user can reach and owns."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    node = tmp_path / "node"
    node.mkdir()
    os.chown(node, USER, USER)
    return node


def confined(folder: Path, mode: str) -> dict[str, list[str]]:
    """What a confined process of an ordinary user tells."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(USER), mode], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, list[str]] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("mode", "layers"),
    [
        pytest.param("namespaces", ALWAYS | NAMESPACES, id="user namespaces"),
        pytest.param("none", ALWAYS, id="no namespaces"),
    ],
)
def test_an_ordinary_users_worker_cannot_reach_key_socket_or_process(folder: Path, mode: str, layers: set[str]) -> None:
    """The key file belongs to the worker's own user here: Landlock and the system-call filter hold by themselves."""
    told = confined(folder, mode)
    assert told["could"] == []
    assert set(told["held"]) == layers

"""The three import rules: they hold, and a planted violation of each is refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["audit", "cli", "client_sdk", "fhe_models", "gateway", "node", "protocol", "rag", "telemetry", "witness"]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts over the packages that lie under `root`."""
    paths = os.pathsep.join(str(root / folder) for folder in FOLDERS)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages, to plant in."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold() -> None:
    """What the README says of imports is so."""
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        pytest.param(
            "protocol/blindgate_protocol/jobs.py", "import blindgate_models.package", "one way", id="protocol looks up"
        ),
        pytest.param("client_sdk/blindgate/job.py", "import blindgate_node", "one way", id="SDK looks sideways"),
        pytest.param("gateway/blindgate_gateway/settings.py", "import numpy", "blind", id="gateway can compute"),
        pytest.param(
            "gateway/blindgate_gateway/settings.py",
            "import blindgate_models.package",
            "blind",
            id="gateway reads models",
        ),
        pytest.param(
            "fhe_models/blindgate_models/linear/server.py",
            "import blindgate_models.linear.client",
            "client half",
            id="server half sees its client half",
        ),
        pytest.param(
            "fhe_models/blindgate_models/search/server.py",
            "import blindgate_models.secret_keys",
            "client half",
            id="server half opens secret keys",
        ),
        pytest.param(
            "node/blindgate_node/worker.py",
            "from blindgate_models import clients",
            "client half",
            id="node finds halves",
        ),
        pytest.param(
            "node/blindgate_node/backends/torch_tables.py",
            "import torch",
            "plaintext models",
            id="node imports torch early",
        ),
        pytest.param(
            "cli/blindgate_cli/__init__.py", "import blindgate", "knows no role", id="command line takes a role"
        ),
    ],
)
def test_a_planted_violation_is_refused(tree: Path, file: str, line: str, contract: str) -> None:
    """A contract that nothing can break is no contract."""
    planted = tree / file
    planted.write_text(planted.read_text() + f"\n{line}\n")
    done = _lint(tree)
    assert done.returncode != 0
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert any(contract in text for text in broken), done.stdout

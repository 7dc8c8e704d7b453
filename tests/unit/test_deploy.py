"""What `deploy/` gives out fits this gateway: settings that there are, ports and times that agree, a lock that is blind."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from blindgate_gateway.server import GRACE_SECONDS
from blindgate_gateway.settings import ENVIRONMENT_PREFIX, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
FORBIDDEN = {
    "numpy",
    "tenseal",
    "concrete-python",
    "torch",
    "pandas",
    "scipy",
    "scikit-learn",
    "httpx2",
    "faiss-cpu",
    "pypdf",
}
FILES = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]


def _text(name: str) -> str:
    return (DEPLOY / name).read_text()


COMPOSE: Mapping[str, Any] = yaml.safe_load(_text("compose.yaml"))
VALUES: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SERVICES: Mapping[str, Any] = COMPOSE["services"]


def test_every_setting_that_is_named_is_one() -> None:
    """In every file, also in the chart's values, where the prefix is left out."""
    known = {name.upper() for name in Settings.model_fields} | {"CONFIG"}
    named = {
        name for path in FILES for name in re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z0-9_]*[A-Z0-9])", path.read_text())
    }
    assert len(named) > 10
    assert named <= known
    assert set(VALUES["settings"]) <= known
    assert {
        line.partition("=")[0].strip().upper() for line in _text("systemd/gateway.toml").splitlines() if "=" in line
    } <= known


def test_the_settings_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each file's, as a gateway would read them there."""
    example = dict(line.split("=", 1) for line in _text("example.env").splitlines() if re.match(r"[A-Z_0-9]+=", line))
    given = {name: value or "secret" for name, value in example.items()}
    given |= {"PUBLISHERS": "", "OPERATORS": ""}
    compose = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: given[found[1]], str(value))
        for name, value in SERVICES["gateway-1"]["environment"].items()
    }
    chart = {f"{ENVIRONMENT_PREFIX}{name}": value for name, value in VALUES["settings"].items() if value}
    for environment in (compose, chart):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            settings = load_settings(data=tmp_path)
        assert settings.drain > 0
        assert settings.blobs == "s3://blindgate/gateway"
    assert load_settings(DEPLOY / "systemd" / "gateway.toml").known_as("https://gateway.example.org")


def test_a_gateway_leaves_later_than_nginx_lets_go_and_earlier_than_it_is_killed() -> None:
    """The times that a restart without a failed request needs."""
    template = (CHART / "files" / "gateway.conf.template").read_text()
    (idle,) = re.findall(r"upstream.*?keepalive_timeout (\d+)s;", template, re.DOTALL)
    compose, chart = (
        int(SERVICES["gateway-1"]["environment"][f"{ENVIRONMENT_PREFIX}DRAIN"]),
        int(VALUES["settings"]["DRAIN"]),
    )
    (chart_grace,) = re.findall(
        r"terminationGracePeriodSeconds: (\d+)", (CHART / "templates" / "gateway.yaml").read_text()
    )
    (unit_grace,) = re.findall(r"TimeoutStopSec=(\d+)", _text("systemd/blindgate-gateway.service"))
    for drain, grace in (
        (compose, SERVICES["gateway-1"]["stop_grace_period"].rstrip("s")),
        (chart, chart_grace),
        (0, unit_grace),
    ):
        assert drain == 0 or drain >= int(idle) * 1000 + 1000
        assert int(grace) > drain / 1000 + GRACE_SECONDS
    assert "KillMode=mixed" in _text("systemd/blindgate-gateway.service")


def test_ports_folders_and_names_agree() -> None:
    """Where a gateway listens is where it is looked for; the chart and the compose file run the image as it was made."""
    port, dockerfile = str(Settings.model_fields["port"].default), _text("Dockerfile")
    assert re.findall(r"EXPOSE (\d+)", dockerfile) == [port]
    assert f"{ENVIRONMENT_PREFIX}PORT={port}" in dockerfile
    assert f"ListenStream=127.0.0.1:{port}" in _text("systemd/blindgate-gateway.socket")
    addresses = {
        service["networks"]["inside"]["ipv4_address"] for name, service in SERVICES.items() if "gateway-" in name
    }
    servers = set(re.findall(r"server ([\d.]+):(\d+)", SERVICES["nginx"]["environment"]["GATEWAYS"]))
    assert servers == {(address, port) for address in addresses}
    proxy = SERVICES["nginx"]["networks"]["inside"]["ipv4_address"]
    assert SERVICES["gateway-1"]["environment"][f"{ENVIRONMENT_PREFIX}PROXIES"] == proxy
    deployed = (CHART / "templates" / "gateway.yaml").read_text() + (CHART / "templates" / "nginx.yaml").read_text()
    assert set(re.findall(r"containerPort: (\d+)|:(\d+) resolve", deployed)) == {(port, ""), ("", port), ("8443", "")}
    (user,) = re.findall(r"USER (\d+):", dockerfile)
    assert {f"uid={user}"} == {
        part for mount in SERVICES["gateway-1"]["tmpfs"] for part in re.findall(r"uid=\d+", mount)
    }
    assert f"runAsUser: {user}" in (CHART / "templates" / "_helpers.tpl").read_text()
    template = f"./{(CHART / 'files' / 'gateway.conf.template').relative_to(DEPLOY)}"
    assert SERVICES["nginx"]["volumes"][0].startswith(template)
    needed = set(re.findall(r"\$\{([A-Z_]+)\}", (CHART / "files" / "gateway.conf.template").read_text()))
    assert needed == set(SERVICES["nginx"]["environment"]) <= set(re.findall(r"name: ([A-Z_]+)", deployed))


def test_the_database_takes_every_connection_that_the_gateways_may_open() -> None:
    """Workers, each with its connections and one for its bell, times gateways."""
    environment = SERVICES["gateway-1"]["environment"]
    workers, connections = (int(environment[f"{ENVIRONMENT_PREFIX}{name}"]) for name in ("WORKERS", "CONNECTIONS"))
    gateways = sum("gateway-" in name for name in SERVICES)
    (most,) = re.findall(r"max_connections=(\d+)", " ".join(SERVICES["postgresql"]["command"]))
    assert gateways * workers * (connections + 1) <= int(most) - 3


def test_the_image_holds_the_gateways_part_of_the_lock_and_nothing_that_could_see() -> None:
    """The same versions and hashes as everywhere else."""
    whole, part = _locked("requirements.lock"), _locked("requirements-gateway.lock")
    assert part.items() <= whole.items()
    assert {"gunicorn", "psycopg", "boto3", "pyjwt"} <= set(part)
    assert set(part) & FORBIDDEN == set()
    assert set(whole) >= FORBIDDEN - {"torch"}
    dockerfile = _text("Dockerfile")
    assert "--require-hashes -r requirements-gateway.lock" in dockerfile
    packages = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert {path.parts[-3] for path in ROOT.glob("*/blindgate*/__init__.py")} == packages
    ignored = (ROOT / ".dockerignore").read_text()
    assert all(f"!{name}\n" in ignored for name in packages)


def _locked(name: str) -> dict[str, str]:
    text = re.sub(r" ; .*", "", (ROOT / name).read_text().replace("\\", ""))  # on which systems, may differ
    entries = [re.sub(r"\s+", " ", entry).strip() for entry in re.split(r"\n(?=[a-z0-9])", text)]
    return {re.split(r"[=\[]", entry)[0].strip(): entry for entry in entries}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With every word in them known, and the service closed off."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in (DEPLOY / "systemd").glob("blindgate-*.*"):
        text = unit.read_text().replace("/opt/blindgate/bin/blindgate", sys.executable)
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    checked = subprocess.run([program, "verify", *units], capture_output=True, text=True, check=False)
    told = [line for line in checked.stderr.splitlines() if "blindgate" in line]
    assert (checked.returncode, told) == (0, [])
    for service in tmp_path.glob("*.service"):
        scored = subprocess.run(
            [program, "security", "--offline=yes", "--threshold=20", str(service)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert scored.returncode == 0, scored.stdout


def test_the_compose_file_is_one() -> None:
    """As Docker Compose itself reads it, where that is installed."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    environment = os.environ | {"POSTGRES_PASSWORD": "x", "S3_SECRET": "x", "METRICS_TOKEN": "x"}
    command = [program, "--env-file", "example.env", "-f", "compose.yaml", "config", "--quiet"]
    done = subprocess.run(command, cwd=DEPLOY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_chart_renders() -> None:
    """By Helm itself, where its library is installed (PyPI: helm-python-sdk)."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("Helm's library is not installed")
    helm = importlib.import_module("helm_python")
    others = {"nginx": {"enabled": False}, "ingress": {"enabled": True}, "serviceMonitor": {"enabled": True}}
    kinds = []
    with helm.Chart.load(str(CHART)) as chart:
        for values in ({}, others):
            rendered = chart.render(values, name="prod", namespace="bg").values()
            kinds.append({found["kind"] for text in rendered for found in yaml.safe_load_all(text) if found})
    both = {"Deployment", "Service", "PodDisruptionBudget", "Job", "NetworkPolicy"}
    assert kinds == [both | {"ConfigMap"}, both | {"Ingress", "ServiceMonitor"}]

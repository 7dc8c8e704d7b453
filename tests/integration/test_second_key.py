"""A real gateway's second log key, from the command that prints it to the client and the auditor who demand its signature."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from blindgate import Client
from blindgate_protocol.errors import LogError
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.notes import KeyKind, VerifierKey
from typed import type_command
from world import World


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who has no API key."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("BLINDGATE_")}
    return type_command(command, alone)


def test_what_the_operator_prints_is_what_clients_and_auditors_demand(world: World, tmp_path: Path) -> None:
    """The output names the command that trusts it; jobs hold under both keys, and so does the log."""
    printed = run("gateway", "log", "key", "--data", str(world.gateway_folder))
    assert "blindgate policy trust second-key NAME" in printed.stdout
    second = printed.stdout.splitlines()[-1]
    home = tmp_path / "home"
    world.client(home=home).close()
    trusted = run("policy", "trust", "second-key", "this-world", second, "--home", str(home))
    assert trusted.returncode == 0, trusted.stderr
    policy = home / "policy.toml"
    with Client(world.url, world.api_key("hospital"), home=home) as client:
        assert client.policy.second_keys == {"this-world": second}
        client.model("small").predict(np.zeros((1, 4)))
    (bundle,) = (home / "bundles").glob("*.json")
    for command in (
        ["audit", "replay", str(bundle), "--policy", str(policy)],
        ["audit", "verify", world.url, "--policy", str(policy), "--remember", str(tmp_path / "memory")],
    ):
        done = run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "and by its second key" in done.stdout


def test_a_gateway_whose_log_another_second_key_signs_gets_no_order(world: World, tmp_path: Path) -> None:
    """By the same name, of the right kind, and not the one that this gateway has."""
    name = VerifierKey.parse(world.log_key()).name
    home = tmp_path / "home"
    world.client(home=home).close()
    other = str(LogKey.generate(name, KeyKind.ML_DSA_44).verifier)
    assert run("policy", "distrust", "second-key", "this-world", "--home", str(home)).returncode == 0
    assert run("policy", "trust", "second-key", "this-world", other, "--home", str(home)).returncode == 0
    with Client(world.url, world.api_key("hospital"), home=home) as client:
        model = client.model("small")
        with pytest.raises(LogError, match="second key"):
            model.predict(np.zeros((1, 4)))
    assert not (home / "bundles").exists()

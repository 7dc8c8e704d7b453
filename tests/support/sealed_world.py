"""A world whose node is sealed to: one with the simulated attester and plaintext models, and clients that take it knowingly."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from blindgate import Client
from blindgate.attestation.rules import PlatformRules
from blindgate.model_makers import made_by_key
from blindgate.policy import Rules
from blindgate_models.plain_packages import Table, publish_plain
from blindgate_node.attester.simulated import KEY_FILE
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.manifest import Column, Manifest, Output
from blindgate_protocol.signing import Signed, SigningKey
from made_signatures import public_pem, sign_folder
from plaintext_models import minilm, write_causal, write_table
from signed_packages import PUBLISHER
from world import World

SIMULATED = "insecure-simulated"
CHAT, EMBEDDER, SEARCH, TRIAGE = "tiny-chat", "minilm", "minilm-search", "note-triage"
COLUMNS = tuple(Column(name=name, minimum=-100.0, maximum=100.0) for name in ("age", "pulse", "fever"))


def package_chat(folder: Path, publisher: SigningKey = PUBLISHER, **changes: Any) -> Signed[Manifest]:
    """A package of a tiny causal model."""
    files = folder.with_suffix(".files")
    files.mkdir(parents=True, exist_ok=True)
    write_causal(files)
    return publish(files, folder, publisher, name=CHAT, kind="causal-lm", **changes)


def package_embedder(folder: Path) -> Signed[Manifest]:
    """A package of MiniLM's real weights."""
    return publish(minilm(), folder, name=EMBEDDER, kind="sentence-transformers")


def package_search(folder: Path) -> Signed[Manifest]:
    """A package of the same weights that searches corpora."""
    return publish(minilm(), folder, name=SEARCH, kind="sentence-transformers", api="corpus")


def package_table(
    folder: Path, architecture: dict[str, Any], tensors: dict[str, Any], **changes: Any
) -> Signed[Manifest]:
    """A package of a table's model, whose maker signed it first."""
    files = folder.with_suffix(".files")
    files.mkdir(parents=True, exist_ok=True)
    write_table(files, architecture, tensors)
    given = {
        "table": Table(COLUMNS, Output(task="regression", scores=1, link="identity", decimals=4)),
        "name": TRIAGE,
        "made_by": made_by_key(public_pem(), sign_folder(files))[0],
    } | changes
    return publish(files, folder, PUBLISHER, kind="torch-table", **given)


def publish(files: Path, folder: Path, publisher: SigningKey = PUBLISHER, **given: Any) -> Signed[Manifest]:
    """A package of these files."""
    return publish_plain(
        files, folder, publisher, **({"version": 1, "issued": int(time.time() * 1000) - 60_000} | given)
    )


def offer_model(world: World, folder: Path) -> None:
    """Publish a package's manifest and list at the world's gateway."""
    world.publish(folder)


def start_sealed_node(world: World, name: str, models: Path, **settings: Any) -> None:
    """Start a node with the simulated attester and these models, and wait until it works."""
    given = {
        "ATTESTER": SIMULATED,
        "MODELS": models,
        "SLOTS": 2,
        "ATTESTATIONS": 600,
        "POLL_SECONDS": 2,
        "DEVICE": "cpu",
    }
    before = _starts(world, name)
    world.start_node(name, **(given | settings))
    world._await(name, lambda: _starts(world, name) > before)


def end_node(world: World, name: str, *, cleanly: bool) -> None:
    """End a node, as its operator does or as a power cut would. What it was sealed to is gone with it."""
    if not cleanly:
        world.kill(name)
        return
    process = world.processes.pop(name)
    process.terminate()
    assert process.wait(20) == 0


def _starts(world: World, name: str) -> int:
    return world.log(name).count("node.started") if (world.folder / name / "log.jsonl").exists() else 0


def attester_key(world: World, name: str) -> str:
    """The key that signs a node's simulated evidence."""
    return load_or_create_key(world.folder / name / KEY_FILE).id


def sealed_client(
    world: World, home: Path, *names: str, url: str | None = None, log: bool = True, **rules: Any
) -> Client:
    """A client whose policy allows lane `tee`, and takes simulated evidence of these nodes."""
    policy = dataclasses.replace(
        world.policy(home / "policy.toml", log=log),
        rules=Rules(lanes=("fhe", "tee"), **rules),
        platforms={SIMULATED: PlatformRules(keys=tuple(attester_key(world, name) for name in names))},
    )
    policy.save()
    return Client(url or world.url, world.api_key("hospital"), policy=policy, home=home)

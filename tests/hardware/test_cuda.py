"""Plaintext models on an NVIDIA GPU: the CPU's answers, how much faster, and what the card says of confidential computing.

`make hardware` runs these. Without CUDA they are skipped, and say so; `make test` has nothing to show here, and fails for nothing.
"""

import importlib
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_models.weights import list_folder
from blindgate_node.attester.gpu import NvidiaGpus
from blindgate_node.backends.answers import gather
from blindgate_node.backends.causal import CausalModel
from blindgate_node.backends.choice import open_backend
from blindgate_node.backends.embeddings import SentenceEmbeddings
from blindgate_node.backends.requests import EmbeddingRequest, read_chat
from blindgate_node.backends.torch_tables import TorchTable
from blindgate_protocol.errors import AttesterError
from plaintext_models import minilm, write_causal, write_table

TEXTS = tuple(f"the patient of bed {number} has a cough and no fever, and slept well" for number in range(512))
LAYERS = [
    {"kind": "linear", "inputs": 64, "outputs": 256},
    {"kind": "gelu"},
    {"kind": "linear", "inputs": 256, "outputs": 3},
]


@pytest.fixture(autouse=True)
def _cuda() -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed (extra tee)")
    if not importlib.import_module("torch").cuda.is_available():
        pytest.skip("torch finds no CUDA device here")


@pytest.fixture
def said(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says a figure: in the report, and on the terminal (`-s`)."""

    def say(text: str) -> None:
        record_property("said", text)
        print(text)

    return say


def test_embeddings_are_the_cpus_and_how_many_a_second(said: Callable[[str], None]) -> None:
    """MiniLM's real weights: the same vectors up to rounding; texts a second on either."""
    found, rates = {}, {}
    for device in ("cpu", "cuda"):
        model = SentenceEmbeddings(minilm(), device=device)
        request = EmbeddingRequest(model="minilm", input=TEXTS)
        model.embed(request)
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            answer = model.embed(request)
            times.append(time.perf_counter() - begun)
        found[device] = np.array([entry["embedding"] for entry in answer["data"]])
        rates[device] = len(TEXTS) / statistics.median(times)
    np.testing.assert_allclose(found["cuda"], found["cpu"], atol=2e-3)
    said(f"embeddings a second: {rates['cpu']:.0f} on the CPU, {rates['cuda']:.0f} on {card()}")


def test_a_table_is_computed_as_on_the_cpu(tmp_path: Path) -> None:
    """Up to the last bits of float32."""
    torch = importlib.import_module("torch")
    torch.manual_seed(3)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 3))
    write_table(tmp_path, {"columns": 64, "layers": LAYERS}, layers.state_dict())
    rows = np.random.default_rng(4).normal(size=(5000, 64))
    cpu, cuda = (TorchTable(tmp_path, device=device).predict(rows) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, atol=1e-3)


def test_a_chat_streams_from_the_card(tmp_path: Path) -> None:
    """The likeliest tokens are the CPU's, as long as no two are as likely as each other: the first ones are held."""
    write_causal(tmp_path)
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "the patient"}],
        "temperature": 0,
        "max_completion_tokens": 8,
    }
    texts = []
    for device in ("cpu", "cuda"):
        chunks = list(CausalModel(tmp_path, device=device).chat(read_chat(json.dumps(body).encode())))
        assert len(chunks) > 2
        texts.append(gather(chunks)["choices"][0]["message"]["content"])
    assert texts[0][:4] == texts[1][:4]


def test_checked_weights_are_opened_on_the_card_by_default(tmp_path: Path) -> None:
    """`auto` takes CUDA where it is there."""
    (tmp_path / "model").mkdir()
    write_causal(tmp_path / "model")
    opened: Any = open_backend("causal-lm", tmp_path / "model", list_folder(tmp_path / "model"), device="auto")
    assert opened.device == "cuda"


def test_what_the_driver_says_of_confidential_computing(said: Callable[[str], None]) -> None:
    """Evidence of every GPU where it is on; where it is off, the reason, and nothing is handed out."""
    if importlib.util.find_spec("pynvml") is None:
        pytest.skip("nvidia-ml-py is not installed (extra nvidia)")
    try:
        gpus = NvidiaGpus()
    except AttesterError as error:
        said(f"{card()}: {error}")
        if "confidential computing" not in str(error):
            raise
        return
    nonce = bytes(range(1, 33))
    shown = json.loads(gpus.attest(nonce))
    assert len(shown) == len(gpus.leaves())
    assert {entry["nonce"] for entry in shown} == {nonce.hex()}
    said(f"{card()}: confidential computing is on; {len(shown)} GPUs answered")


def card() -> str:
    """The card's name."""
    return str(importlib.import_module("torch").cuda.get_device_name(0))

